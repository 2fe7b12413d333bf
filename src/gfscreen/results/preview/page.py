"""One page per run: its cases, each with its findings by volume beside a viewer; what is chosen is chosen in both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from gfscreen.results.preview.case import FileAxis, ShownCase
from gfscreen.results.preview.findings_list import UNKNOWN, Link, cell, findings_list, head_row, links_html
from gfscreen.results.preview.heatmap import (
    ALPHA,
    FATE_COLOURS,
    FATE_WORDS,
    Fate,
    cell_entry,
    fates,
    heat_layer,
    window_entries,
)
from gfscreen.results.preview.markup import asset, code_script, document, escape, pill
from gfscreen.results.preview.planes import PREDICTION
from gfscreen.results.preview.viewer import EmbeddedCase, Finding, Layer, viewer_data, viewer_html, viewer_scripts
from gfscreen.results.preview.volumes import SmallVolumes, make_small
from gfscreen.results.statistics.lesions import MeasuredLesion

LAYERS = (
    Layer("glance", "Glance", FATE_COLOURS[Fate.READ], "G", shown=False, outlined=False),
    Layer("findings", "Findings", PREDICTION, "F"),
)
_CASE_HEADS = (
    "Case",
    "Status",
    "Region",
    "Suspicion",
    "Findings",
    "Volume (ml)",
    "Longest (mm)",
    "Sub-volumes read / all",
    "Files",
    "Viewer",
)


@dataclass(frozen=True)
class PageCase:
    """A case of the page. embedded: None if its volume is not inside the page, for the reason in `why_not`.

    region, windows_read, windows_total: None if not known, as for a case that failed. slices: the file's axis along
    which slices are counted, None likewise. links: to files of this case. suspicion: how likely it is to hold a lesion,
    None where that is not told.
    """

    name: str
    status: str
    lesions: Sequence[MeasuredLesion] = ()
    region: str | None = None
    windows_read: int | None = None
    windows_total: int | None = None
    embedded: EmbeddedCase | None = None
    why_not: str = ""
    slices: FileAxis | None = None
    links: Sequence[Link] = ()
    suspicion: float | None = None


@dataclass(frozen=True)
class Page:
    """All that the page shows.

    facts: name and value of what the run was made with. banner: what must be known before anything else, or empty.
    links: to files of the whole run.
    """

    title: str
    cases: Sequence[PageCase]
    case_mb: float
    page_mb: float
    facts: Sequence[tuple[str, str]] = field(default=())
    banner: str = ""
    links: Sequence[Link] = ()


def page_case(case: ShownCase, budget: float, links: Sequence[Link] = ()) -> PageCase:
    """Make a case ready for the page, its volumes in at most `budget` characters; links: to files of this case.

    Raises ValueError for what a page could not hold, a number that is none.
    """
    masks = {"findings": (case.marked, PREDICTION)}
    small = make_small(case.hu, case.spacing_mm, case.affine_ras_mm, case.body_box, masks, budget)
    embedded, why_not = None, f"its volume does not fit into {budget / 1e6:.2f} MB"
    if small is not None:
        voxels = [small.voxel_of(case.voxel_of(lesion.inside_voxel)) for lesion in case.lesions]
        glance = None if case.network_outputs is None else heat_layer(case.network_outputs, case.affine_ras_mm)
        embedded = EmbeddedCase(
            name=case.name,
            volumes=small,
            native_shape=tuple(case.hu.shape),
            native_spacing_mm=case.spacing_mm,
            preset=case.first_preset,
            file_axes=case.file_axes,
            findings=tuple(map(_finding, case.lesions, voxels, case.presets)),
            extra_layers={} if glance is None else {"glance": glance},
            details=_details(case, small),
        )
        why_not = ""
    outputs = case.network_outputs
    found = PageCase(
        name=case.name,
        status=case.status,
        lesions=case.lesions,
        region=case.region.label,
        windows_read=None if outputs is None else sum(fate is Fate.READ for fate in fates(outputs)),
        windows_total=None if outputs is None else len(outputs.grid_windows),
        embedded=embedded,
        why_not=why_not,
        slices=case.file_axes[2],
        links=links,
        suspicion=case.suspicion,
    )
    _case_row(found, 0)
    if embedded is not None:
        findings_list(found.name, found.lesions, case.file_axes[2], 0, links, found.suspicion)
        viewer_data([embedded], LAYERS)
    return found


def _details(case: ShownCase, small: SmallVolumes) -> dict[str, Any]:
    """What the page's script tells of Glance."""
    outputs = case.network_outputs
    if outputs is None:
        return {"windows": [], "cells": None}
    return {"windows": window_entries(outputs, small), "cells": cell_entry(outputs, small)}


def _finding(lesion: MeasuredLesion, voxel: tuple[int, int, int], preset: str) -> Finding:
    ends = (lesion.long_axis_ends_mm, lesion.short_axis_ends_mm)
    return Finding(f"finding {lesion.id}", voxel, preset, ends, (lesion.long_axis_mm, lesion.short_axis_mm))


def render(page: Page) -> str:
    """The page as HTML. Raises OutputError if the viewer's bundle is damaged."""
    embedded = [case.embedded for case in page.cases if case.embedded is not None]
    sections = [("cases", "Cases", _banner(page) + _case_table(page) + _limit(page) + _run_links(page))]
    if embedded:
        note = "" if any("glance" in case.layers for case in embedded) else "Nothing is known of Glance here. "
        viewer = f'<div class="reader"><div>{viewer_html(embedded, LAYERS, note)}</div>{_lists(page)}</div>'
        sections.append(("viewer", "Viewer", viewer))
    if page.facts:
        items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.facts)
        sections.append(("run", "Run", f'<dl class="facts">{items}</dl>'))
    scripts = viewer_scripts(embedded, LAYERS)
    if embedded:
        scripts += code_script(asset("preview.js"), "preview.js")
    return document(page.title, sections, scripts, asset("preview.css"))


def _banner(page: Page) -> str:
    return f'<p class="banner warn notice" role="note">{escape(page.banner)}</p>' if page.banner else ""


def _run_links(page: Page) -> str:
    return f'<p class="files">{links_html(page.links)}</p>' if page.links else ""


def _limit(page: Page) -> str:
    inside = sum(case.embedded is not None for case in page.cases)
    text = (
        f"{inside} of {len(page.cases)} cases can be viewed here. To stay small the page holds at most "
        f"{page.page_mb:g} MB of volumes, {page.case_mb:.3g} MB per case, on a coarser grid where that is needed. "
        "Numbers come from the full scan."
    )
    return f'<p class="note">{text}</p>'


def _case_table(page: Page) -> str:
    rows, number = [], 0
    for case in page.cases:
        index = None
        if case.embedded is not None:
            index, number = number, number + 1
        rows.append(_case_row(case, index))
    table = f"<table>{head_row(_CASE_HEADS)}<tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="tall"><figure><div class="scroll">{table}</div></figure></div>'


def _case_row(case: PageCase, index: int | None) -> str:
    kind = {"ok": "good", "degraded": "warn"}.get(case.status, "bad")
    known = case.region is not None
    longest = max((lesion.long_axis_mm for lesion in case.lesions), default=None)
    volume_ml = sum(lesion.volume_mm3 for lesion in case.lesions) / 1000
    windows = UNKNOWN if case.windows_total is None else f"{case.windows_read} / {case.windows_total}"
    view = f'<span class="dim" title="{escape(case.why_not)}">not in this page</span>'
    if index is not None:
        view = f'<button type="button" data-show="{index}">View</button>'
    cells = (
        cell(pill(case.status, kind)),
        cell(UNKNOWN if case.region is None else escape(case.region)),
        cell(UNKNOWN if case.suspicion is None else f"{case.suspicion:.2f}"),
        cell(str(len(case.lesions)) if known else UNKNOWN),
        cell(f"{volume_ml:.2f}" if known else UNKNOWN),
        cell(UNKNOWN if longest is None else f"{longest:.1f}"),
        cell(windows),
        cell(links_html(case.links)),
        cell(view),
    )
    row = "" if index is None else f' data-case="{index}"'
    return f'<tr{row}><th scope="row" class="left">{escape(case.name)}</th>{"".join(cells)}</tr>'


def _lists(page: Page) -> str:
    """A list of findings per case inside the page, of which the script shows that of the case in the viewer."""
    shown = [case for case in page.cases if case.embedded is not None and case.slices is not None]
    lists = "".join(
        findings_list(case.name, case.lesions, case.slices, index, [*case.links, *page.links], case.suspicion)
        for index, case in enumerate(shown)
        if case.slices is not None
    )
    judged = any(case.embedded is not None and case.embedded.details.get("cells") for case in shown)
    return f'<aside aria-label="findings">{lists}{_legend(of_cells=judged)}</aside>'


def _legend(*, of_cells: bool) -> str:
    """The colour bars of Glance's layer: a row for what became of a sub-volume, probability from left to right.

    of_cells: the probability is that of each of Glance's cells, not of the sub-volume.
    """
    low, high = (alpha / 255 for alpha in ALPHA)
    bars = "".join(
        f'<span>{escape(FATE_WORDS[fate])}</span><span class="colours" style="--c:{FATE_COLOURS[fate]};'
        f'--low:{100 * low:.1f}%;--high:{100 * high:.1f}%"></span>'
        for fate in sorted(FATE_COLOURS, reverse=True)
    )
    text = "Sub-volumes overlap; where they do, the one that went furthest and the highest probability count. "
    scale = "probability of a cell" if of_cells else "probability"
    if of_cells:
        text = (
            "Colour: what became of the sub-volume; they overlap, and the one that went furthest counts. Strength: "
            "Glance's probability of each cell. "
        )
    text += "A bright border surrounds what Focus read. Clear: no body."
    return (
        '<p id="glance-here"></p><figure class="legend" id="legend"><figcaption>Glance layer</figcaption>'
        '<div class="bars"><span></span>'
        f'<span class="scale"><span>0</span><span>{scale}</span><span>1</span></span>'
        f'{bars}</div><p class="note">{text}</p></figure>'
    )
