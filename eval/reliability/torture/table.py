"""The torture set's result as a table by class."""

from __future__ import annotations

from collections import Counter
from typing import Any

COLUMNS = ("class", "inputs", "valid mask", "clear error", "left out", "wrong")


def by_class(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per class in the set's order, and one of sums. `wrong` is counted apart from the other columns."""
    rows = []
    for group in [*dict.fromkeys(case["group"] for case in cases), None]:
        mine = [case for case in cases if group is None or case["group"] == group]
        counts = Counter("wrong" if case["wrong"] else case["expected"] for case in mine)
        values = (group or "all", len(mine), counts["mask"], counts["error"], counts["ignored"], counts["wrong"])
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def markdown(cases: list[dict[str, Any]]) -> str:
    """The table in Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) - 1)]
    lines += ["| " + " | ".join(str(row[column]) for column in COLUMNS) + " |" for row in by_class(cases)]
    return "\n".join(lines) + "\n"
