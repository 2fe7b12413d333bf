"""The key figures at the top of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any

from eval.efficiency.table4 import BROKEN, GPU_LIMIT_MB, HELD, TIME_LIMIT_S
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
    """All key figures, measured or not, with what was published beside them.

    F1 and the false-positive rate per scan are there only with lesion-free scans: without them no scan can be a false
    positive, and F1 is high whatever is marked.
    """
    found = [
        _score(summary, "Lesion_DSC", "DSC", "published 60.8 (own split)"),
        _score(summary, "Lesion_NSD", "NSD", "online validation 52"),
        _rate(summary, "lesion", "sensitivity", "Lesion-level sensitivity", "found: one voxel shared"),
        _rate(summary, "lesion", "sensitivity_a_tenth", "Lesions marked by a tenth", ""),
        _rate(summary, "lesion", "precision", "Lesion-level precision", ""),
        _rate(summary, "lesion", "false_positives_per_scan", "False positives per scan", ""),
        _rate(summary, "scan", "sensitivity", "Sensitivity per scan", ""),
    ]
    if summary is not None and summary["detection"]["healthy"]["scans"]:
        found += [
            _rate(summary, "scan", "f1", "F1 per scan", "published 95.9"),
            _rate(summary, "scan", "fpr", "FPR on lesion-free scans", "published 15.6"),
        ]
    found += [
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


def _rate(summary: Mapping[str, Any] | None, level: str, key: str, name: str, published: str) -> Card:
    """level: `scan` or `lesion`. What is counted per scan is a number, all else a share."""
    # Scores of an earlier version lack the second sensitivity.
    rate = None if summary is None else summary["detection"][level].get(key)
    if rate is None or rate["value"] is None:
        return Card(name, None)
    detail = [f"n = {rate['n']}", *([published] if published else [])]
    value = f"{rate['value']:.1f}" if key.endswith("_per_scan") else f"{100 * rate['value']:.1f} %"
    return Card(name, value, "; ".join(detail))


def cards_html(found: list[Card]) -> str:
    """What was measured, as a grid; "" if nothing was."""
    measured = [_card(card, card.value) for card in found if card.value is not None]
    return f'<div class="cards">{"".join(measured)}</div>' if measured else ""


def _card(card: Card, measured: str) -> str:
    value = f'<p class="value">{escape(measured)}</p>'
    label = pill(card.verdict, "good" if card.verdict == HELD else "bad") if card.verdict in (HELD, BROKEN) else ""
    detail = f'<p class="detail">{escape(card.detail)}</p>' if card.detail else ""
    return f'<div class="card"><p class="name">{escape(card.name)} {label}</p>{value}{detail}</div>'
