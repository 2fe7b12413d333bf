"""What a model card says of its weights' use, for every place where results are shown. Needs no torch."""

from __future__ import annotations

import re
from itertools import dropwhile, takewhile
from pathlib import Path

from gfscreen.config import Plan

CARD_FILE = "MODEL_CARD.md"
UNTRAINED = "Untrained weights: these masks mean nothing."
UNKNOWN = f"No {CARD_FILE} tells what these weights are of use for: take no finding for a lesion."


def read_notice(weights: Path, plan: Plan) -> str:
    """One line for readers of results: the first block quote of the weights' card, without its emphasis.

    Weights without a card, or whose card has no quote or cannot be read, have a line that says so; so have untrained
    ones, whatever their card says. The card is not in the manifest: whoever trains on may write another.
    """
    if plan.weights == "untrained":
        return UNTRAINED
    try:
        lines = (weights / CARD_FILE).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return UNKNOWN
    quote = takewhile(_is_quoted, dropwhile(lambda line: not _is_quoted(line), lines))
    text = " ".join(line.lstrip()[1:].strip() for line in quote)
    return re.sub(r"\*\*|__|`", "", text).strip() or UNKNOWN


def _is_quoted(line: str) -> bool:
    return line.lstrip().startswith(">")
