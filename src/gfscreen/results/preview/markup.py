"""Pieces of HTML, everything escaped, and the page around them: one file that asks no network."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from gfscreen.text import visible

ASSETS = Path(__file__).parent / "assets"
TIMES = "\N{MULTIPLICATION SIGN}"
# Nothing may be loaded from anywhere; data: and blob: lie inside the page.
POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; "
    "font-src data:; connect-src data: blob:; worker-src blob:; base-uri 'none'; form-action 'none'"
)


def escape(text: str) -> str:
    """Text as HTML, for elements and attributes; what cannot be seen or encoded is written out."""
    return html.escape(visible(text))


def document(title: str, sections: Sequence[tuple[str, str, str]], scripts: str, style: str = "") -> str:
    """A whole page with a bar of links to its sections, held to this one file by a content security policy.

    Args:
        title: shown in the bar and by the browser.
        sections: key (its id), heading and HTML of each, in order.
        scripts: script elements, put at the end.
        style: CSS beyond that of `page.css`.

    """
    nav = "".join(f'<a href="#{key}">{escape(name)}</a>' for key, name, _ in sections)
    body = "".join(f'<section id="{key}"><h2>{escape(name)}</h2>{content}</section>' for key, name, content in sections)
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(POLICY)}">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title><style>{asset('page.css')}{style}</style>"
    )
    top = (
        f'<header><div class="wrap"><div class="brand">{escape(title)}</div><nav>{nav}</nav>'
        '<button id="theme" type="button" aria-label="light or dark">◐</button></div></header>'
    )
    scripts = code_script(asset("page.js"), "page.js") + scripts
    body = f'{top}<main class="wrap">{body}</main>{scripts}'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def asset(name: str) -> str:
    """Text of a style sheet or script of this package."""
    return (ASSETS / name).read_text(encoding="utf-8")


def pill(text: str, kind: str) -> str:
    """A small label; `kind`: good, bad, warn or none."""
    return f'<span class="pill {kind}">{escape(text)}</span>'


def product(values: Iterable[object]) -> str:
    """Sizes or spacings with a sign between them."""
    return f" {TIMES} ".join(map(str, values))


def data_script(name: str, value: Any) -> str:
    """JSON inside the page; `<` is written so that no text can end the element."""
    text = json.dumps(value, allow_nan=False).replace("<", "\\u003c")
    return f'<script type="application/json" id="{escape(name)}">{text}</script>'


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
