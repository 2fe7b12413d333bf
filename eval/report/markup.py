"""Pieces of the report's HTML: tables, inlined charts and pictures. Everything is escaped."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable

from eval.charts import INK
from eval.efficiency.table4 import BROKEN, HELD, NOT_MEASURED
from eval.report.figures import Chart
from eval.report.montage import Montage
from eval.tables import MISSING, Cell, Table
from gfscreen.results.preview.markup import escape, pill

_PILLS = {HELD: "good", BROKEN: "bad", NOT_MEASURED: "none"}
_ALIGN = {"l": "left", "r": "right", "c": "centre"}


def table_html(table: Table) -> str:
    """A table with its caption and notes; verdicts become labels of their colour."""
    heads = "".join(
        f'<th scope="col" class="{_ALIGN[a]}">{escape(column)}</th>'
        for column, a in zip(table.columns, table.alignment, strict=True)
    )
    rows = "".join(_row(row, table.alignment) for row in table.rows)
    notes = "".join(f"<li>{escape(note)}</li>" for note in table.notes)
    return (
        f'<figure class="table"><figcaption>{escape(table.caption)}</figcaption>'
        f'<div class="scroll"><table><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>'
        f"{f'<ul class=notes>{notes}</ul>' if notes else ''}</figure>"
    )


def _row(row: Iterable[Cell], alignment: str) -> str:
    cells = []
    for index, (cell, align) in enumerate(zip(row, alignment, strict=True)):
        tag = 'th scope="row"' if index == 0 else "td"
        cells.append(f'<{tag} class="{_ALIGN[align]}">{cell_html(cell)}</{tag.split()[0]}>')
    return f"<tr>{''.join(cells)}</tr>"


def cell_html(cell: Cell) -> str:
    """A dash for None, a coloured label for a verdict, else the text."""
    if cell is None or cell == "":
        return f'<span class="dim" title="{NOT_MEASURED}">{MISSING}</span>'
    text = str(cell)
    return pill(text, _PILLS[text]) if text in _PILLS else escape(text)


def chart_html(chart: Chart | None, title: str) -> str:
    """A chart as inline SVG in the page's colours; "" if there is none."""
    if chart is None:
        return ""
    return (
        f'<figure class="chart"><figcaption>{escape(title)}</figcaption>{inline_svg(chart)}'
        f"<p class=note>{escape(chart.caption)}</p></figure>"
    )


def inline_svg(chart: Chart) -> str:
    """The chart's SVG without prologue, its ink in the page's text colour, its ids made the page's only ones."""
    svg = chart.svg[chart.svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL).replace(INK, "currentColor")
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{chart.stem}-", svg)
    head, rest = svg.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    return f'{head} role="img" aria-label="{escape(chart.caption)}">{rest}'


def montage_html(montage: Montage) -> str:
    """A montage as an inline picture."""
    data = base64.b64encode(montage.jpeg).decode("ascii")
    width, height = montage.size  # known before it is decoded, so that the page does not jump
    alt = escape(f"{montage.case}: {montage.caption}")
    return (
        f'<figure class="montage"><img loading="lazy" width="{width}" height="{height}" alt="{alt}" '
        f'src="data:image/jpeg;base64,{data}"></figure>'
    )
