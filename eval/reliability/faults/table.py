"""The faults as a table."""

from __future__ import annotations

from typing import Any


def markdown(results: list[dict[str, Any]]) -> str:
    """One row per fault; what could not be made here says so."""
    lines = ["| fault | made | survived |", "|---|---:|---:|"]
    for one in results:
        made, survived = ("-", f"not run: {one['not_run']}") if one["not_run"] else (one["times"], one["survived"])
        lines.append(f"| {one['title']} | {made} | {survived} |")
    return "\n".join(lines) + "\n"
