"""How time grows with the body: the chart of docs/benchmarks.md, from what `eval benchmark` measured."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eval.charts import COLOURS, STYLE, new_figure


def draw(result: Mapping[str, Any], path: Path) -> bool:
    """Write seconds against body volume as a PNG, products as lines and dense peers as points; False if none is known.

    Each product's scans by rising volume; whole runs, medians.
    """
    import matplotlib as mpl

    lines = {product["name"]: _points(product["rows"]) for product in result["products"]}
    if not any(lines.values()):
        return False
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(lines)}
    with mpl.rc_context(STYLE):
        figure, (axes,) = new_figure(7.0, 4.2)
        for name, points in lines.items():
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=colours[name], markersize=4, label=name)
        for peer in result["peers"]:
            if points := _points(peer["rows"]):
                colour = colours.get(peer["name"], COLOURS[-1])
                axes.plot(*zip(*points, strict=True), "x", color=colour, label=f"{peer['name']}, dense peer")
        axes.set(xlabel="Body volume (l)", ylabel="Whole run (s)", xlim=(0, None), yscale="log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
        axes.tick_params(axis="y", which="minor", labelsize=7)
        axes.grid()
        axes.legend()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=120, facecolor="white", metadata={"Software": None})
    return True


def _points(rows: list[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Litres and seconds of what was measured."""
    return sorted((row["body_l"], row["time_s"]) for row in rows if row.get("body_l") and row["time_s"] is not None)
