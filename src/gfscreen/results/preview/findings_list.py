"""The findings of a case as a list beside the viewer, and links to the files that tell more of it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from gfscreen.results.preview.case import FileAxis
from gfscreen.results.preview.markup import TIMES, escape, pill
from gfscreen.results.statistics.lesions import MeasuredLesion

UNKNOWN = '<span class="dim" title="not measured">&ndash;</span>'
_HEADS = ("No.", "Volume (ml)", f"Long {TIMES} short (mm)", "HU", "Glance, Focus", "Slices, centre L, P, S (mm)")


@dataclass(frozen=True)
class Link:
    """A link from the page to a file beside it: what it is, and its address relative to the page."""

    text: str
    href: str


def link_to(text: str, path: Path | None, folder: Path) -> Link | None:
    """A link from a page in `folder` to a file; None if there is no such file, or no relative way to it."""
    if path is None or not path.is_file():
        return None
    try:
        relative = os.path.relpath(path.resolve(), folder.resolve())
    except ValueError:  # another drive
        return None
    return Link(text, quote(os.fsencode(relative.replace(os.sep, "/"))))


def links_html(links: Sequence[Link]) -> str:
    """The links in a row, each in a tab of its own; empty without any."""
    return " ".join(
        f'<a href="{escape(link.href)}" target="_blank" rel="noopener">{escape(link.text)}</a>' for link in links
    )


def cell(html: str, kind: str = "right") -> str:
    """A cell of a table."""
    return f'<td class="{kind}">{html}</td>'


def head_row(heads: Iterable[str]) -> str:
    """The head of a table, its first column to the left."""
    cells = "".join(f'<th scope="col" class="{"right" if n else "left"}">{escape(h)}</th>' for n, h in enumerate(heads))
    return f"<thead><tr>{cells}</tr></thead>"


def findings_list(
    name: str,
    lesions: Sequence[MeasuredLesion],
    slices: FileAxis,
    index: int,
    links: Sequence[Link],
    suspicion: float | None = None,
) -> str:
    """The findings of a case, the largest first, a row each; hidden unless it is the first case.

    slices: the file's axis along which slices are counted. index: of the case in the viewer. suspicion: how
    likely the scan is to hold a lesion, where that is told.
    """
    rows = "".join(_row(lesion, slices, index, number) for number, lesion in enumerate(lesions))
    table = f"<table>{head_row(_HEADS)}<tbody>{rows}</tbody></table>" if rows else "<p>Nothing is marked.</p>"
    hidden = "" if index == 0 else " hidden"
    told = "" if suspicion is None else f"; suspicion of the scan {suspicion:.2f}"
    files = f'<p class="files">{links_html(links)}</p>' if links else ""
    return (
        f'<figure class="findings" data-findings="{index}"{hidden}><figcaption>{escape(name)}: findings by volume'
        f'{told}</figcaption><div class="scroll">{table}</div>{files}</figure>'
    )


def _row(lesion: MeasuredLesion, slices: FileAxis, index: int, number: int) -> str:
    def probability(value: float | None) -> str:
        return UNKNOWN if value is None else f"{value:.2f}"

    border = f"<br>{pill('edge', 'warn')}" if lesion.touches_border else ""
    centre = ", ".join(f"{value:.0f}" for value in lesion.centroid_mm)
    first, last = lesion.slices
    button = f'<button type="button" aria-label="Show finding {lesion.id}">{lesion.id}</button>'
    cells = (
        cell(f"{lesion.volume_mm3 / 1000:.2f}"),
        cell(f"{lesion.long_axis_mm:.1f} {TIMES} {lesion.short_axis_mm:.1f}"),
        cell(f"{round(lesion.hu_mean)} <br>± {round(lesion.hu_sd)}"),
        cell(f"{probability(lesion.glance_probability)}<br>{probability(lesion.focus_probability)}"),
        cell(f"{slices.name} {first} to {last}<br>{centre}"),
    )
    head = f'<th scope="row" class="left">{button}{border}</th>'
    return f'<tr data-row="{index}" data-number="{number}">{head}{"".join(cells)}</tr>'
