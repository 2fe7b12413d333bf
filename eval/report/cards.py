"""The key figures at the top of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from eval.efficiency.table4 import BROKEN, GPU_LIMIT_MB, HELD, NOT_MEASURED, TIME_LIMIT_S
from eval.report.challenge_tables import limits_said, table4_rows
from eval.report.inputs import Efficiency
from gfscreen.results.preview.markup import escape, pill


@dataclass(frozen=True)
class Card:
    """A key figure; `value` None was not measured. `verdict`: `held` or `broken` against a limit."""

    name: str
    value: str | None
    detail: str = ""
    verdict: str = ""


def cards(summary: Mapping[str, Any] | None, efficiency: Efficiency | None, kept: float | None) -> list[Card]:
    """All key figures, measured or not, with what was published beside them."""
    found = [
        _score(summary, "Lesion_DSC", "DSC", "published 60.8 (own split)"),
        _score(summary, "Lesion_NSD", "NSD", "online validation 52"),
        _rate(summary, "f1", "F1 per scan", "published 95.9"),
        _rate(summary, "sensitivity", "Sensitivity per scan", ""),
        _rate(summary, "fpr", "FPR on healthy scans", "published 15.6"),
        Card(
            "Sub-volumes kept",
            None if kept is None else f"{100 * kept:.1f} %",
            "" if kept is None else "published 16.7",
        ),
    ]
    rows = [] if efficiency is None else table4_rows(efficiency)
    times = [row["time_s"] for row in rows if row["time_s"] is not None]
    memory = [row["max_gpu_mb"] for row in rows if row["max_gpu_mb"] is not None]
    found.append(
        Card(
            "Longest case",
            f"{max(times):.1f} s" if times else None,
            f"median {median(times):.1f} s of {len(times)} cases; limit {TIME_LIMIT_S:.0f} s" if times else "",
            limits_said(rows, "time_s", TIME_LIMIT_S),
        )
    )
    found.append(
        Card(
            "Peak GPU memory",
            f"{max(memory):.0f} MB" if memory else None,
            f"limit {GPU_LIMIT_MB:.0f} MB" if memory else "",
            limits_said(rows, "max_gpu_mb", GPU_LIMIT_MB),
        )
    )
    return found


def _score(summary: Mapping[str, Any] | None, key: str, name: str, published: str) -> Card:
    mean = None if summary is None else summary[key]["mean"]
    if summary is None or mean is None:
        return Card(name, None)
    std, n = summary[key]["std"], summary[key]["n"]
    spread = "" if std is None else f"± {100 * std:.1f}, "
    return Card(name, f"{100 * mean:.1f} %", f"{spread}n = {n}; {published}")


def _rate(summary: Mapping[str, Any] | None, key: str, name: str, published: str) -> Card:
    rate = None if summary is None else summary["detection"]["scan"][key]
    if rate is None or rate["value"] is None:
        return Card(name, None)
    detail = [f"n = {rate['n']}", *([published] if published else [])]
    return Card(name, f"{100 * rate['value']:.1f} %", "; ".join(detail))


def cards_html(found: list[Card]) -> str:
    """The cards as a grid."""
    return f'<div class="cards">{"".join(_card(card) for card in found)}</div>'


def _card(card: Card) -> str:
    value = (
        f'<p class="value">{escape(card.value)}</p>'
        if card.value is not None
        else f'<p class="value absent">{NOT_MEASURED}</p>'
    )
    label = pill(card.verdict, "good" if card.verdict == HELD else "bad") if card.verdict in (HELD, BROKEN) else ""
    detail = f'<p class="detail">{escape(card.detail)}</p>' if card.detail else ""
    return f'<div class="card"><p class="name">{escape(card.name)} {label}</p>{value}{detail}</div>'
