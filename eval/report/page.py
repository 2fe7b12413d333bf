"""The page: one file that needs no other and asks no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.efficiency.table4 import NOT_MEASURED
from eval.report.cards import cards, cards_html
from eval.report.figures import Chart
from eval.report.inputs import Efficiency, Scores
from eval.report.markup import chart_html, montage_html, table_html
from eval.report.montage import Montage
from eval.report.screening import cases_by_name, facts, kept_share, notice_of, stage_table, untrained
from eval.tables import Table, number
from eval.tuning.gate_curve import GatePoint, at_gate
from gfscreen.files import write_atomically
from gfscreen.results.preview.markup import document, escape, pill
from gfscreen.results.preview.planes import PREDICTION, TRUTH
from gfscreen.results.preview.viewer import EmbeddedCase, Layer, viewer_html, viewer_scripts

PAGE_NAME = "index.html"
ASSETS = Path(__file__).parent / "assets"
LAYERS = (
    Layer("prediction", "Prediction", PREDICTION, "P"),
    Layer("truth", "Truth", TRUTH, "T"),
)
_CHARTS = {
    "scores": "Distribution of DSC and NSD",
    "lesions": "Lesions found by size",
    "gate": "Sub-volumes kept against sensitivity",
    "froc": "Sensitivity against false positives per scan",
    "reliability": "Suspicion against scans with lesion",
    "gpu": "GPU memory over time",
    "ram": "Memory over time",
}


@dataclass(frozen=True)
class Page:
    """All that the page shows."""

    title: str
    split: str
    tables: Mapping[str, Table]
    charts: Mapping[str, Chart | None]
    scores: Scores | None
    efficiency: Efficiency | None
    product: Mapping[str, Any] | None
    curve: Sequence[GatePoint]
    montages: Sequence[Montage]
    embedded: Sequence[EmbeddedCase]
    chosen: str
    problems: Sequence[str]

    @property
    def missing(self) -> list[str]:
        """What was not measured, in words."""
        found = [_CHARTS[key].lower() for key, chart in self.charts.items() if chart is None]
        found += [c.name for c in self._cards() if c.value is None]
        return found + ([] if self.embedded else ["viewer"])

    def _cards(self) -> list[Any]:
        summary = None if self.scores is None else self.scores.summary
        return cards(summary, self.efficiency, kept_share(self.product))


def write_page(path: Path, page: Page) -> int:
    """Write the page, whole or not at all; its size in bytes."""
    data = render(page).encode("utf-8")
    write_atomically(path, data)
    return len(data)


def render(page: Page) -> str:
    """The page as HTML. Sections of which nothing was measured are left out; the summary names what is missing."""
    every = [
        ("summary", "Summary", _summary(page)),
        ("accuracy", "Accuracy", _accuracy(page)),
        ("detection", "Detection", _detection(page)),
        ("efficiency", "Efficiency", _efficiency(page)),
        ("viewer", "Viewer", _viewer(page)),
        ("overlays", "Overlays", _overlays(page)),
        ("cases", "Cases", _cases(page)),
    ]
    sections = [section for section in every if section[2]]
    style = (ASSETS / "report.css").read_text(encoding="utf-8")
    return document(page.title, sections, viewer_scripts(page.embedded, LAYERS), style)


def _chart(page: Page, key: str) -> str:
    return chart_html(page.charts.get(key), _CHARTS[key])


def _pair(page: Page, *keys: str) -> str:
    charts = "".join(_chart(page, key) for key in keys)
    return f'<div class="pair">{charts}</div>' if charts else ""


def _summary(page: Page) -> str:
    parts = []
    if untrained(page.product):
        parts.append(
            '<p class="banner bad"><b>Untrained weights.</b> The product reports weights that were never trained: '
            "time and memory count, accuracy means nothing.</p>"
        )
    elif notice := notice_of(page.product):
        parts.append(f'<p class="banner warn"><b>What these weights are of use for.</b> {escape(notice)}</p>')
    if page.problems:
        items = "".join(f"<li>{escape(problem)}</li>" for problem in page.problems)
        parts.append(f'<div class="banner warn"><b>Not everything could be shown.</b><ul>{items}</ul></div>')
    parts.append(cards_html(page._cards()))
    known = facts(page.product)
    if known:
        items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in known)
        parts.append(f'<dl class="facts">{items}</dl>')
    missing = [*page.missing, *([] if known else ["run settings"])]
    if missing:
        parts.append(f'<p class="note">{pill(NOT_MEASURED, "none")} {escape("; ".join(missing))}.</p>')
    return "".join(parts)


def _accuracy(page: Page) -> str:
    return "" if page.scores is None else table_html(page.tables["table3"]) + _chart(page, "scores")


def _detection(page: Page) -> str:
    tables = (
        ""
        if page.scores is None
        else "".join(table_html(page.tables[name]) for name in ("table2_scans", "table2_lesions"))
    )
    gate = (page.product or {}).get("plan", {}) or {}
    point = at_gate(page.curve, gate["gate"]) if "gate" in gate else None
    said = ""
    if point is not None:
        rates = [f"{key} {100 * value:.1f} %" for key, value in _rates(point) if value is not None]
        said = f'<p class="note">At this run\'s gate of {point.threshold:g}: {", ".join(rates)}.</p>'
    return tables + _pair(page, "lesions", "gate") + said + _froc(page)


def _froc(page: Page) -> str:
    table = table_html(page.tables["froc"]) if "froc" in page.tables else ""
    return table + _chart(page, "froc") + _chart(page, "reliability")


def _rates(point: GatePoint) -> list[tuple[str, float | None]]:
    return [("kept", point.kept_share), ("sensitivity", point.sensitivity), ("specificity", point.specificity)]


def _efficiency(page: Page) -> str:
    stages = stage_table(page.product)
    table = "" if page.efficiency is None else table_html(page.tables["table4"])
    return table + _pair(page, "gpu", "ram") + ("" if stages is None else table_html(stages))


def _viewer(page: Page) -> str:
    if not page.embedded:
        return ""
    note = f"Cases: {page.chosen}. Scores were computed on the full scans."
    return viewer_html(page.embedded, LAYERS, note)


def _overlays(page: Page) -> str:
    if not page.montages:
        return ""
    legend = (
        f'<p class="note">Cases: {escape(page.chosen)}. Outlines: '
        f'<span class="key" style="--c:{PREDICTION}">prediction</span> '
        f'<span class="key" style="--c:{TRUTH}">truth</span>. '
        "Letters: R right, L left, A front, P back, H head, F feet; slices counted from R, P and F.</p>"
    )
    return legend + "".join(montage_html(montage) for montage in page.montages)


def _cases(page: Page) -> str:
    """One row per case that any input names."""
    rows = {} if page.scores is None else page.scores.rows
    product = cases_by_name(page.product)
    names = list(rows) + [name for name in product if name not in rows]
    if not names:
        return ""
    columns = (
        "Case",
        "Type",
        "DSC",
        "NSD",
        "Scan",
        "Lesions found",
        "A tenth",
        "Volume (ml)",
        "Predicted (ml)",
        "Kept",
        "Time (s)",
        "Status",
    )
    lines = tuple(_case_row(name, rows.get(name, {}), product.get(name, {})) for name in names)
    notes = (
        "Found: by one voxel. A tenth: lesions of which a tenth of the volume is marked, or more.",
        "Kept: sub-volumes that Glance gave to Focus. Time: the product's own, without start and loading.",
    )
    table = Table(f"{len(names)} cases", columns, lines, align="llrrcrrrrrrl", notes=notes)
    return f'<div class="tall">{table_html(table)}</div>'


def _case_row(name: str, row: Mapping[str, str], said: Mapping[str, Any]) -> tuple[str | None, ...]:
    found = f"{row['lesions_detected']} / {row['lesions']}" if row.get("lesions") else None
    # Scores of an earlier version lack it.
    tenth = f"{row['lesions_a_tenth']} / {row['lesions']}" if row.get("lesions_a_tenth") else None
    kept, total = said.get("windows_kept"), said.get("windows_total")
    states = [s for s in (row.get("status"), said.get("status")) if s]
    worse = [s for s in states if s != "ok"]  # scoring and product each have their word
    return (
        name,
        row.get("type") or None,
        number(_float(row.get("Lesion_DSC")), 3),
        number(_float(row.get("Lesion_NSD")), 3),
        row.get("scan_detection") or None,
        found,
        tenth,
        number(_float(row.get("lesion_volume_ml")), 1),
        number(_float(row.get("predicted_volume_ml")), 1),
        None if kept is None or not total else f"{kept} / {total}",
        number((said.get("seconds") or {}).get("total"), 1),
        ", ".join(dict.fromkeys(worse or states)) or None,
    )


def _float(text: str | None) -> float | None:
    return float(text) if text else None
