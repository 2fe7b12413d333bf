"""Charts of the worklist as SVG inside the page: histograms, bars with words, a line over time."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from gfscreen.results.preview.markup import escape

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 360, 170, 8, 24, 16
_BINS = 20
_MOST_POINTS = 120


def histogram(
    title: str, unit: str, values: Sequence[float | None], low: float | None = None, high: float | None = None
) -> str:
    """Counts in 20 bins of equal width from `low` to `high` (None: of the values); of nothing a line that says so."""
    known = np.array([value for value in values if value is not None], float)
    head = f"<figcaption>{escape(title)}{f' ({escape(unit)})' if unit else ''}, {known.size} series</figcaption>"
    if not known.size:
        return f'<figure class="chart">{head}<p class="note">not known</p></figure>'
    start = float(known.min()) if low is None else low
    stop = float(known.max()) if high is None else high
    stop = stop if stop > start else start + 1.0
    counts, _ = np.histogram(known, _BINS, (start, stop))
    width = (_WIDTH - 2 * _LEFT) / _BINS
    tallest = max(1, int(counts.max()))
    shapes = []
    for number, count in enumerate(counts.tolist()):
        tall = (_HEIGHT - _BOTTOM - _TOP) * count / tallest
        left, top = _LEFT + number * width, _HEIGHT - _BOTTOM - tall
        edge = start + number * (stop - start) / _BINS
        place = f'x="{left:.1f}" y="{top:.1f}" width="{width - 1:.1f}" height="{tall:.1f}"'
        shapes.append(f"<rect {place}><title>from {edge:.3g}: {count}</title></rect>")
    drawn = _svg("".join(shapes) + _ends(f"{start:.3g}", f"{stop:.3g}", str(tallest)))
    return f'<figure class="chart">{head}{drawn}</figure>'


def bars(title: str, counts: Sequence[tuple[str, int]]) -> str:
    """A row per word with its count, as a table."""
    most = max((count for _, count in counts), default=1)
    rows = "".join(
        f'<tr><td class="left">{escape(word)}</td><td class="right">{count}</td>'
        f'<td class="share"><span style="width:{100 * count / most:.1f}%"></span></td></tr>'
        for word, count in counts
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="scroll"><table class="bars-table">{rows}</table>'
        "</div></figure>"
    )


def throughput(finished_unix_s: Sequence[float | None]) -> str:
    """Series that ended per hour, over time (UTC)."""
    times = np.array(sorted(time for time in finished_unix_s if time is not None), float)
    if times.size < 2 or times[-1] <= times[0]:
        return '<p class="note">Too few series have ended to tell.</p>'
    points = int(min(_MOST_POINTS, max(4, times.size // 4)))
    counts, edges = np.histogram(times, points)
    per_hour = counts * 3600.0 / (edges[1] - edges[0])
    tallest = float(per_hour.max())
    x = _LEFT + (_WIDTH - 2 * _LEFT) * (np.arange(points) + 0.5) / points
    y = _HEIGHT - _BOTTOM - (_HEIGHT - _BOTTOM - _TOP) * per_hour / tallest
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))
    begin, end = (datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M") for time in (times[0], times[-1]))
    mean = (times.size - 1) * 3600.0 / (times[-1] - times[0])
    drawn = _svg(f'<polyline points="{line}"/>' + _ends(begin, end, f"{tallest:.0f}"))
    head = f"<figcaption>series that ended per hour, UTC; {mean:.0f} per hour on the whole</figcaption>"
    return f'<figure class="chart wide">{head}{drawn}</figure>'


def _svg(content: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">{content}</svg>'


def _ends(first: str, last: str, highest: str) -> str:
    y = _HEIGHT - 8
    return (
        f'<text x="{_LEFT}" y="{y}">{escape(first)}</text>'
        f'<text x="{_WIDTH - _LEFT}" y="{y}" text-anchor="end">{escape(last)}</text>'
        f'<text x="{_LEFT}" y="{_TOP - 4}">{escape(highest)}</text>'
    )
