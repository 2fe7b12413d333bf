"""One page per run: its cases, each with its lesions by volume, and a viewer that jumps to what is clicked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from gfscreen.results.preview.case import ShownCase
from gfscreen.results.preview.heatmap import FATE_COLOURS, FATE_WORDS, Fate, fates, heat_layer, window_entries
from gfscreen.results.preview.markup import TIMES, asset, code_script, document, escape, pill
from gfscreen.results.preview.planes import PREDICTION
from gfscreen.results.preview.viewer import EmbeddedCase, Finding, Layer, viewer_data, viewer_html, viewer_scripts
from gfscreen.results.preview.volumes import make_small
from gfscreen.results.statistics.lesions import Lesion

LAYERS = (
    Layer("glance", "Glance", FATE_COLOURS[Fate.READ], "G", shown=False),
    Layer("lesions", "Lesions", PREDICTION, "L"),
)
_UNKNOWN = '<span class="dim" title="not measured">&ndash;</span>'
_LESION_HEADS = (
    "Lesion",
    "Volume (ml)",
    f"Long {TIMES} short (mm)",
    "Slices",
    "HU",
    "Glance",
    "Focus",
    "Centre L, P, S (mm)",
    "",
)
_CASE_HEADS = ("Case", "Status", "Region", "Lesions", "Volume (ml)", "Longest (mm)", "Sub-volumes read / all", "Viewer")


@dataclass(frozen=True)
class PageCase:
    """A case of the page. embedded: None if its volume is not inside the page, for the reason in `why_not`.

    region, windows_read, windows_total: None if not known, as for a case that failed.
    """

    name: str
    status: str
    lesions: Sequence[Lesion] = ()
    region: str | None = None
    windows_read: int | None = None
    windows_total: int | None = None
    embedded: EmbeddedCase | None = None
    why_not: str = ""


@dataclass(frozen=True)
class Page:
    """All that the page shows. facts: name and value of what the run was made with. banner: a warning, or empty."""

    title: str
    cases: Sequence[PageCase]
    case_mb: float
    page_mb: float
    facts: Sequence[tuple[str, str]] = field(default=())
    banner: str = ""


def page_case(case: ShownCase, budget: float) -> PageCase:
    """Make a case ready for the page, its volumes in at most `budget` characters.

    Raises ValueError for what a page could not hold, a number that is none.
    """
    masks = {"lesions": (case.marked, PREDICTION)}
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
            region=case.region_at(case.place_of_interest[2]),
            findings=tuple(Finding(f"lesion {n}", voxel) for n, voxel in enumerate(voxels, start=1)),
            extra_layers={} if glance is None else {"glance": glance},
            details={"windows": [] if case.network_outputs is None else window_entries(case.network_outputs, small)},
        )
        why_not = ""
    outputs = case.network_outputs
    found = PageCase(
        name=case.name,
        status=case.status,
        lesions=case.lesions,
        region=case.region.label,
        windows_read=None if outputs is None else sum(fate is Fate.READ for fate in fates(outputs)),
        windows_total=None if outputs is None else len(outputs.windows),
        embedded=embedded,
        why_not=why_not,
    )
    _case_row(found, 0)
    if embedded is not None:
        _lesion_table(found, embedded, 0)
        viewer_data([embedded], LAYERS)
    return found


def render(page: Page) -> str:
    """The page as HTML. Raises OutputError if the viewer's bundle is damaged."""
    embedded = [case.embedded for case in page.cases if case.embedded is not None]
    sections = [("cases", "Cases", _banner(page) + _case_table(page) + _limit(page))]
    if embedded:
        note = "" if any("glance" in case.layers for case in embedded) else "Nothing is known of Glance here. "
        viewer = viewer_html(embedded, LAYERS, note) + _legend()
        sections.append(("viewer", "Viewer", _lesion_tables(page) + viewer))
    if page.facts:
        items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in page.facts)
        sections.append(("run", "Run", f'<dl class="facts">{items}</dl>'))
    scripts = viewer_scripts(embedded, LAYERS)
    if embedded:
        scripts += code_script(asset("preview.js"), "preview.js")
    return document(page.title, sections, scripts, asset("preview.css"))


def _banner(page: Page) -> str:
    return f'<div class="banner bad">{escape(page.banner)}</div>' if page.banner else ""


def _limit(page: Page) -> str:
    inside = sum(case.embedded is not None for case in page.cases)
    text = (
        f"{inside} of {len(page.cases)} cases can be viewed here. To stay small the page holds at most "
        f"{page.page_mb:g} MB of volumes, {page.case_mb:.3g} MB per case, on a coarser grid where that is needed. "
        "Numbers come from the full scan."
    )
    return f'<p class="note">{text}</p>'


def _cell(html: str, kind: str = "right") -> str:
    return f'<td class="{kind}">{html}</td>'


def _head_row(heads: Iterable[str]) -> str:
    cells = "".join(f'<th scope="col" class="{"right" if n else "left"}">{escape(h)}</th>' for n, h in enumerate(heads))
    return f"<thead><tr>{cells}</tr></thead>"


def _case_table(page: Page) -> str:
    rows, number = [], 0
    for case in page.cases:
        index = None
        if case.embedded is not None:
            index, number = number, number + 1
        rows.append(_case_row(case, index))
    table = f"<table>{_head_row(_CASE_HEADS)}<tbody>{''.join(rows)}</tbody></table>"
    return f'<div class="tall"><figure><div class="scroll">{table}</div></figure></div>'


def _case_row(case: PageCase, index: int | None) -> str:
    kind = {"ok": "good", "degraded": "warn"}.get(case.status, "bad")
    known = case.region is not None
    longest = max((lesion.long_axis_mm for lesion in case.lesions), default=None)
    volume_ml = sum(lesion.volume_mm3 for lesion in case.lesions) / 1000
    windows = _UNKNOWN if case.windows_total is None else f"{case.windows_read} / {case.windows_total}"
    view = f'<span class="dim" title="{escape(case.why_not)}">not in this page</span>'
    if index is not None:
        view = f'<button type="button" data-show="{index}">View</button>'
    cells = (
        _cell(pill(case.status, kind)),
        _cell(_UNKNOWN if case.region is None else escape(case.region)),
        _cell(str(len(case.lesions)) if known else _UNKNOWN),
        _cell(f"{volume_ml:.2f}" if known else _UNKNOWN),
        _cell(_UNKNOWN if longest is None else f"{longest:.1f}"),
        _cell(windows),
        _cell(view),
    )
    row = "" if index is None else f' data-case="{index}"'
    return f'<tr{row}><th scope="row" class="left">{escape(case.name)}</th>{"".join(cells)}</tr>'


def _lesion_tables(page: Page) -> str:
    """A table per case inside the page; the script shows that of the case in the viewer."""
    shown = [(case, case.embedded) for case in page.cases if case.embedded is not None]
    return "".join(_lesion_table(case, embedded, index) for index, (case, embedded) in enumerate(shown))


def _lesion_table(case: PageCase, embedded: EmbeddedCase, index: int) -> str:
    pairs = zip(case.lesions, embedded.findings, strict=True)
    rows = "".join(_lesion_row(lesion, index, finding) for lesion, finding in pairs)
    body = f"<table>{_head_row(_LESION_HEADS)}<tbody>{rows}</tbody></table>" if rows else "<p>Nothing is marked.</p>"
    caption = f"{escape(case.name)}: lesions by volume"
    hidden = "" if index == 0 else " hidden"
    return (
        f'<figure class="lesions" data-lesions="{index}"{hidden}><figcaption>{caption}</figcaption>'
        f'<div class="scroll">{body}</div></figure>'
    )


def _lesion_row(lesion: Lesion, index: int, finding: Finding) -> str:
    def probability(value: float | None) -> str:
        return _UNKNOWN if value is None else f"{value:.2f}"

    border = pill("edge", "warn") if lesion.touches_border else ""
    centre = ", ".join(f"{value:.0f}" for value in lesion.centroid_mm)
    voxel = " ".join(map(str, finding.voxel))
    first, last = lesion.slices
    cells = (
        _cell(f"{lesion.volume_mm3 / 1000:.2f}"),
        _cell(f"{lesion.long_axis_mm:.1f} {TIMES} {lesion.short_axis_mm:.1f}"),
        _cell(f"{first} to {last}"),
        _cell(f"{lesion.hu_mean:.0f} ± {lesion.hu_sd:.0f}"),
        _cell(probability(lesion.glance_probability)),
        _cell(probability(lesion.focus_probability)),
        _cell(centre),
        _cell(f'{border} <button type="button" data-go="{index}" data-voxel="{voxel}">Show</button>'),
    )
    row = f'data-row="{index}" data-voxel="{voxel}"'
    return f'<tr {row}><th scope="row" class="left">{lesion.id}</th>{"".join(cells)}</tr>'


def _legend() -> str:
    keys = "".join(
        f'<span class="key" style="--c:{FATE_COLOURS[fate]}">{escape(FATE_WORDS[fate])}</span>'
        for fate in sorted(FATE_COLOURS, reverse=True)
    )
    text = (
        "Sub-volumes overlap; where they do, the one that went furthest and the highest probability count. "
        "The stronger the colour, the higher Glance's probability; a bright border surrounds what Focus read. "
        "Clear: no body."
    )
    return (
        f'<div class="legend" id="legend"><b>Glance layer</b> {keys}<span id="glance-here"></span></div>'
        f'<p class="note">{text}</p>'
    )
