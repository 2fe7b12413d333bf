"""The notice that a model card gives to every result."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfscreen.config import Plan, read_plan
from gfscreen.networks.models.card import UNKNOWN, UNTRAINED, read_notice
from tests.helpers.places import ROOT

TRAINED = Plan(weights="trained")


def test_the_first_quote_in_one_line(tmp_path):
    (tmp_path / "MODEL_CARD.md").write_text(
        "# Card\n\nText > not quoted.\n\n> **Research** software,\n>  of `some` use.\n\n> Another.\n", encoding="utf-8"
    )
    assert read_notice(tmp_path, TRAINED) == "Research software, of some use."


@pytest.mark.parametrize("card", [None, b"# Card\n\nNo quote.\n", b"", b"> \xff\xfe\n", b">\n"])
def test_a_card_that_says_nothing(tmp_path, card):
    if card is not None:
        (tmp_path / "MODEL_CARD.md").write_bytes(card)
    assert read_notice(tmp_path, TRAINED) == UNKNOWN


def test_untrained_weights_whatever_their_card_says(tmp_path):
    (tmp_path / "MODEL_CARD.md").write_text("> Excellent.\n", encoding="utf-8")
    assert read_notice(tmp_path, Plan(weights="untrained")) == UNTRAINED


def test_the_shipped_card():
    weights = ROOT / "weights"
    if not (weights / "plan.json").is_file():
        pytest.skip("no weights are shipped")
    notice = read_notice(Path(weights), read_plan(weights))
    assert "not a medical device" in notice
    assert "false" in notice
    assert "*" not in notice
