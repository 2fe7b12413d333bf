"""What the product said about its own run: kept share, states, stages, and whether its weights are trained."""

from __future__ import annotations

from collections.abc import Mapping
from statistics import median
from typing import Any

from eval.report.inputs import case_name
from eval.tables import Table, number
from gfscreen.text import encodable

STAGES = ("read", "preprocess", "glance", "focus", "write", "total")

Product = Mapping[str, Any]


def kept_share(product: Product | None) -> float | None:
    """Sub-volumes kept over all, of every case that tells both; None without any."""
    pairs = [
        (case["windows_kept"], case["windows_total"])
        for case in ([] if product is None else product["cases"])
        if case.get("windows_kept") is not None and case.get("windows_total")
    ]
    total = sum(n for _, n in pairs)
    return sum(kept for kept, _ in pairs) / total if total else None


def cases_by_name(product: Product | None) -> dict[str, Mapping[str, Any]]:
    """The product's entries by case ID, written as in the tables of scores."""
    cases = [] if product is None else product["cases"]
    return {encodable(case_name(case.get("name", ""))): case for case in cases}


def untrained(product: Product | None) -> bool:
    """True if the product says that its weights are untrained."""
    return product is not None and (product.get("plan") or {}).get("weights") == "untrained"


def notice_of(product: Product | None) -> str:
    """What the product says that its weights are of use for; "" if it does not."""
    return "" if product is None else str(product.get("notice") or "")


def facts(product: Product | None) -> list[tuple[str, str]]:
    """What was run, as name and value; only what the report tells."""
    if product is None:
        return []
    plan, engine = product.get("plan") or {}, product.get("engine") or {}
    found = [
        ("Version", product.get("gfscreen")),
        ("Preset", plan.get("preset")),
        ("Weights", plan.get("weights")),
        ("Gate", plan.get("gate")),
        ("Overlap", plan.get("overlap")),
        ("Engine", engine.get("name")),
        ("Device", engine.get("device")),
        ("Precision", engine.get("precision")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]


def stage_table(product: Product | None) -> Table | None:
    """Median and longest seconds per stage, and how many cases ended in which state; None without a report."""
    if product is None or not product["cases"]:
        return None
    cases = product["cases"]
    rows = []
    for stage in STAGES:
        values = [s[stage] for s in ((case.get("seconds") or {}) for case in cases) if s.get(stage) is not None]
        middle, longest = (median(values), max(values)) if values else (None, None)
        rows.append((stage, len(values), number(middle), number(longest)))
    states = {state: sum(c.get("status") == state for c in cases) for state in ("ok", "degraded", "failed")}
    notes = [f"{len(cases)} cases: " + ", ".join(f"{n} {state}" for state, n in states.items()) + "."]
    notes += [f"{case_name(c.get('name', ''))}: {c['status']}. {c.get('error') or ''}".strip() for c in _unwell(cases)]
    columns = ("Stage", "Cases", "Median (s)", "Longest (s)")
    return Table("Screening time by stage, as the product reports it", columns, tuple(rows), notes=tuple(notes))


def _unwell(cases: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [case for case in cases if case.get("status") in ("degraded", "failed")][:20]
