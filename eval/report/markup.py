"""Small pieces of HTML: tables, inlined charts and pictures, data and code inside the page. Everything is escaped."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable
from html import escape
from typing import Any

from eval.report.figures import INK, Chart
from eval.report.montage import Montage
from eval.table4 import BROKEN, HELD, NOT_MEASURED
from eval.tables import MISSING, Cell, Table

_PILLS = {HELD: "good", BROKEN: "bad", NOT_MEASURED: "none"}
TIMES = "\N{MULTIPLICATION SIGN}"
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


def pill(text: str, kind: str) -> str:
    """A small label; `kind`: good, bad, warn or none."""
    return f'<span class="pill {kind}">{escape(text)}</span>'


def chart_html(chart: Chart | None, title: str, why_not: str) -> str:
    """A chart as inline SVG in the page's colours, or a box that says why there is none."""
    if chart is None:
        return (
            f'<figure class="chart"><figcaption>{escape(title)}</figcaption>'
            f'<p class="absent">{pill(NOT_MEASURED, "none")} {escape(why_not)}</p></figure>'
        )
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
    return f'{head} role="img" aria-label="{escape(chart.caption, quote=True)}">{rest}'


def product(values: Iterable[object]) -> str:
    """Sizes or spacings with a sign between them."""
    return f" {TIMES} ".join(map(str, values))


def montage_html(montage: Montage) -> str:
    """A montage as an inline picture."""
    data = base64.b64encode(montage.jpeg).decode("ascii")
    width, height = montage.size  # known before it is decoded, so that the page does not jump
    alt = escape(f"{montage.case}: {montage.caption}", quote=True)
    return (
        f'<figure class="montage"><img loading="lazy" width="{width}" height="{height}" alt="{alt}" '
        f'src="data:image/jpeg;base64,{data}"></figure>'
    )


def data_script(name: str, value: Any) -> str:
    """JSON inside the page; `<` is written so that no text can end the element."""
    text = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{escape(name, quote=True)}">{text}</script>'


def code_script(code: str, name: str) -> str:
    """JavaScript inside the page.

    Raises:
        ValueError: the code holds what would end or change the element.

    """
    for mark in ("</script", "<!--"):
        if mark in code.lower():
            raise ValueError(
                f"{name}: expected code without {mark!r}, which would end the element; choose another build"
            )
    return f"<script>{code}</script>"
