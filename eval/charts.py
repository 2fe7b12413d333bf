"""How charts look, and an empty one to draw in."""

from __future__ import annotations

from typing import Any

# All ink that is not data; the page replaces it by the colour of its text.
INK = "#1b1f27"
# Near Okabe and Ito's, told apart by the colour-blind, in tones that stand out on white and near-black alike.
COLOURS = ("#3d8bd4", "#e2672e", "#22a884", "#c77cb5", "#d9a400", "#5bb8e8", "#8a63d2", "#8c8c8c")
STYLE = {
    "svg.hashsalt": "gfscreen",
    "svg.fonttype": "path",
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "text.color": INK,
    "legend.frameon": False,
    "grid.color": INK,
    "grid.alpha": 0.12,
}


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Any]]:
    """An empty figure, width and height in inches, and its panels in a row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False, sharey=columns > 1)
    return figure, list(axes[0])
