"""A still per case: the largest findings, each in three planes, with the axes that were measured.

Needs matplotlib, of the extra `preview`, which is imported only when a still is drawn.
"""

from __future__ import annotations

import io
import textwrap
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.results.preview.case import ShownCase, Voxel
from gfscreen.results.preview.markup import TIMES
from gfscreen.results.preview.planes import (
    PLANES,
    PREDICTION,
    Plane,
    boxes_for_missing_glyphs,
    draw_plane,
    drawable,
    plane_of,
)
from gfscreen.results.preview.reading_windows import PRESETS
from gfscreen.results.statistics.lesions import MeasuredLesion

MAX_FINDINGS = 4
# What fits beside the legend.
_LONGEST_NAME = 72
# A picture shows this much around a finding, or twice the finding.
MIN_FIELD_MM = 120.0
_PADDING_HU = -1024
_FACE, _DIM, _AXES_COLOUR = "#0c0f13", "#9aa4b2", "#ffe08a"
_AMBER, _ON_AMBER = "#fdf0d2", "#5f3c00"
_PANEL_INCH, _ROW_HEAD_INCH, _HEAD_INCH = 3.0, 0.52, 0.62
# The notice at the top: what a line takes, what is left around it, and the characters that fit into one.
_LINE_INCH, _MARGIN_INCH, _LINE_CHARACTERS = 0.16, 0.14, 128
_DPI = 110


def draw_montage(case: ShownCase, notice: str = "") -> bytes:
    """The still as PNG: one row per finding, the largest `MAX_FINDINGS`; one row through the body if there is none.

    notice: what the weights are of use for, on an amber strip across the top; empty draws none.
    """
    from matplotlib.figure import Figure

    findings = list(case.lesions[:MAX_FINDINGS])
    rows = max(1, len(findings))
    lines = textwrap.wrap(drawable(notice), _LINE_CHARACTERS)
    strip = len(lines) * _LINE_INCH + _MARGIN_INCH if lines else 0.0
    height = strip + _HEAD_INCH + rows * (_PANEL_INCH + _ROW_HEAD_INCH)
    figure = Figure(figsize=(3 * _PANEL_INCH, height))
    figure.set_facecolor(_FACE)
    if lines:
        _draw_notice(figure, lines, strip, height)
    _head(figure, case, strip, height)
    for row in range(rows):
        number = row if findings else None
        top = height - strip - _HEAD_INCH - row * (_PANEL_INCH + _ROW_HEAD_INCH)
        figure.text(0.01, (top - 0.16) / height, _row_text(case, number), color="white", fontsize=9, va="center")
        for column, plane in enumerate(PLANES):
            left, low = column / 3 + 0.004, (top - _ROW_HEAD_INCH - _PANEL_INCH) / height
            panel = figure.add_axes((left, low, 1 / 3 - 0.008, _PANEL_INCH / height))
            _draw_panel(panel, case, number, plane)
    buffer = io.BytesIO()
    with boxes_for_missing_glyphs():
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor=_FACE)
    return buffer.getvalue()


def _draw_notice(figure: Any, lines: list[str], strip: float, height: float) -> None:
    panel = figure.add_axes((0.0, 1 - strip / height, 1.0, strip / height))
    panel.set_facecolor(_AMBER)
    panel.set_xticks([])
    panel.set_yticks([])
    style = {"color": _ON_AMBER, "fontsize": 8.5, "va": "center", "weight": "bold"}
    panel.text(0.01, 0.5, "\n".join(lines), transform=panel.transAxes, **style)


def _draw_panel(panel: Any, case: ShownCase, number: int | None, plane: Plane) -> None:
    lesion = None if number is None else case.lesions[number]
    preset = PRESETS[case.first_preset if number is None else case.presets[number]]
    centre = case.place_of_interest if lesion is None else case.voxel_of(lesion.inside_voxel)
    field_mm = _field_mm(case, lesion)
    hu, start = cut_out(case.hu, centre, field_mm, case.spacing_mm, _PADDING_HU)
    marked, _ = cut_out(case.marked, centre, field_mm, case.spacing_mm, False)
    at: Voxel = (centre[0] - start[0], centre[1] - start[1], centre[2] - start[2])
    image, outline = plane_of(hu, plane, at), plane_of(marked, plane, at)
    bar_mm = 20.0 if field_mm <= 160 else 50.0
    draw_plane(panel, image, {PREDICTION: outline}, plane, case.spacing_mm, preset.hu, bar_mm)
    axis = case.file_axes[plane.fixed]
    index = axis.index_of(centre[plane.fixed])
    title = f"{plane.name} {axis.name} = {index} (0 to {axis.size - 1})   {preset.text}"
    panel.set_title(title, color=_DIM, fontsize=8, pad=3)
    if plane.name == "axial" and lesion is not None:
        from matplotlib.patheffects import withStroke

        edge = [withStroke(linewidth=2.4, foreground="black")]  # to be seen on bright tissue
        for ends in (lesion.long_axis_ends_mm, lesion.short_axis_ends_mm):
            x, y, _ = np.array([case.position_of(end) - start for end in ends]).T
            panel.plot(image.shape[1] - 1 - x, y, color=_AXES_COLOUR, linewidth=1.0, path_effects=edge)


def cut_out(
    array: NDArray[Any], centre: Voxel, field_mm: float, spacing_mm: tuple[float, ...], beyond: Any
) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """A cube of `field_mm` around a voxel (x, y, z), and its first voxel, negative where it leaves the array.

    Where the cube leaves the array it holds `beyond`.
    """
    half = np.array([max(1, round(field_mm / 2 / mm)) for mm in spacing_mm], np.intp)
    start, stop = np.asarray(centre) - half, np.asarray(centre) + half + 1
    inside = tuple(slice(max(0, a), min(n, b)) for a, b, n in zip(start, stop, array.shape, strict=True))
    margins = [(s.start - a, b - s.stop) for s, a, b in zip(inside, start, stop, strict=True)]
    return np.pad(array[inside], margins, constant_values=beyond), start


def _field_mm(case: ShownCase, lesion: MeasuredLesion | None) -> float:
    if lesion is None:
        sides = [(side.stop - side.start) * mm for side, mm in zip(case.body_box, case.spacing_mm, strict=True)]
        return float(max(sides[:2]))
    tall_mm = (lesion.slices[1] - lesion.slices[0] + 1) * case.spacing_mm[2]
    return max(MIN_FIELD_MM, 2 * lesion.long_axis_mm, 1.5 * tall_mm)


def _row_text(case: ShownCase, number: int | None) -> str:
    if number is None:
        return "nothing marked; middle of the body"
    lesion = case.lesions[number]
    left, back, head = (f"{value:.0f}" for value in lesion.centroid_mm)
    parts = [
        f"finding {lesion.id}: {lesion.volume_mm3 / 1000:.2f} ml",
        f"{lesion.long_axis_mm:.1f} {TIMES} {lesion.short_axis_mm:.1f} mm",
        f"HU {round(lesion.hu_mean)} ± {round(lesion.hu_sd)}",
        f"centre L, P, S {left}, {back}, {head} mm",
    ]
    for name, value in (("Glance", lesion.glance_probability), ("Focus", lesion.focus_probability)):
        if value is not None:
            parts.append(f"{name} {value:.2f}")
    if lesion.touches_border:
        parts.append("cut by the edge")
    return "   ".join(parts)


def _head(figure: Any, case: ShownCase, strip: float, height: float) -> None:
    first, second = 1 - (strip + 0.2) / height, 1 - (strip + 0.44) / height
    count = len(case.lesions)
    shown = f", the largest {MAX_FINDINGS} shown" if count > MAX_FINDINGS else ""
    volume_ml = sum(lesion.volume_mm3 for lesion in case.lesions) / 1000
    spacing = f" {TIMES} ".join(f"{mm:.3g}" for mm in case.spacing_mm)
    name = drawable(case.name, _LONGEST_NAME)
    figure.text(0.01, first, name, color="white", fontsize=11, va="center", weight="bold")
    findings = "no finding" if not count else f"{count} finding{'s' if count > 1 else ''}, {volume_ml:.2f} ml{shown}"
    facts = f"{findings}   {case.region.label}   spacing {spacing} mm   {case.status}"
    figure.text(0.01, second, facts, color=_DIM, fontsize=8.5, va="center")
    figure.text(0.99, first, "— mask", color=PREDICTION, fontsize=8.5, va="center", ha="right")
    figure.text(0.99, second, "— axes", color=_AXES_COLOUR, fontsize=8.5, va="center", ha="right")
