"""A still per case: the largest lesions, each in three planes, with the axes that were measured.

Needs matplotlib, of the extra `preview`, which is imported only when a still is drawn.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.results.preview.case import ShownCase, Voxel
from gfscreen.results.preview.markup import TIMES
from gfscreen.results.preview.planes import (
    PLANES,
    PREDICTION,
    boxes_for_missing_glyphs,
    draw_plane,
    drawable,
    plane_of,
)
from gfscreen.results.statistics.lesions import Lesion

MAX_LESIONS = 4
# What fits beside the legend.
_LONGEST_NAME = 72
# A picture shows this much around a lesion, or twice the lesion.
MIN_FIELD_MM = 120.0
_PADDING_HU = -1024
_FACE, _DIM, _AXES_COLOUR = "#0c0f13", "#9aa4b2", "#ffe08a"
_PANEL_INCH, _ROW_HEAD_INCH, _HEAD_INCH = 3.0, 0.52, 0.62
_DPI = 110


def draw_montage(case: ShownCase) -> bytes:
    """The still as PNG: one row per lesion, the largest `MAX_LESIONS`; one row through the body if there is none."""
    from matplotlib.figure import Figure

    lesions = list(case.lesions[:MAX_LESIONS])
    rows = max(1, len(lesions))
    height = _HEAD_INCH + rows * (_PANEL_INCH + _ROW_HEAD_INCH)
    figure = Figure(figsize=(3 * _PANEL_INCH, height))
    figure.set_facecolor(_FACE)
    _head(figure, case, height)
    for row in range(rows):
        lesion = lesions[row] if lesions else None
        top = height - _HEAD_INCH - row * (_PANEL_INCH + _ROW_HEAD_INCH)
        figure.text(0.01, (top - 0.16) / height, _row_text(case, lesion), color="white", fontsize=9, va="center")
        for column, plane in enumerate(PLANES):
            left, low = column / 3 + 0.004, (top - _ROW_HEAD_INCH - _PANEL_INCH) / height
            panel = figure.add_axes((left, low, 1 / 3 - 0.008, _PANEL_INCH / height))
            _draw_panel(panel, case, lesion, plane)
    buffer = io.BytesIO()
    with boxes_for_missing_glyphs():
        figure.savefig(buffer, format="png", dpi=_DPI, facecolor=_FACE)
    return buffer.getvalue()


def _draw_panel(panel: Any, case: ShownCase, lesion: Lesion | None, plane: Any) -> None:
    centre = case.place_of_interest if lesion is None else case.voxel_of(lesion.inside_voxel)
    field_mm = _field_mm(case, lesion)
    hu, start = cut_out(case.hu, centre, field_mm, case.spacing_mm, _PADDING_HU)
    marked, _ = cut_out(case.marked, centre, field_mm, case.spacing_mm, False)
    at: Voxel = (centre[0] - start[0], centre[1] - start[1], centre[2] - start[2])
    window = case.window_at(centre[2])
    image, outline = plane_of(hu, plane, at), plane_of(marked, plane, at)
    bar_mm = 20.0 if field_mm <= 160 else 50.0
    draw_plane(panel, image, {PREDICTION: outline}, plane, case.spacing_mm, window, bar_mm)
    number = centre[plane.fixed] + 1
    title = f"{plane.name} {number}/{case.hu.shape[plane.fixed]}   HU [{window.low_hu:.0f}, {window.high_hu:.0f}]"
    panel.set_title(title, color=_DIM, fontsize=8, pad=3)
    if plane.name == "axial" and lesion is not None:
        for ends in (lesion.long_axis_ends_mm, lesion.short_axis_ends_mm):
            x, y, _ = np.array([case.position_of(end) - start for end in ends]).T
            panel.plot(image.shape[1] - 1 - x, y, color=_AXES_COLOUR, linewidth=1.0, solid_capstyle="butt")


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


def _field_mm(case: ShownCase, lesion: Lesion | None) -> float:
    if lesion is None:
        sides = [(side.stop - side.start) * mm for side, mm in zip(case.body_box, case.spacing_mm, strict=True)]
        return float(max(sides[:2]))
    tall_mm = (lesion.slices[1] - lesion.slices[0] + 1) * case.spacing_mm[2]
    return max(MIN_FIELD_MM, 2 * lesion.long_axis_mm, 1.5 * tall_mm)


def _row_text(case: ShownCase, lesion: Lesion | None) -> str:
    if lesion is None:
        return "nothing marked; middle of the body"
    parts = [
        f"lesion {lesion.id}: {lesion.volume_mm3 / 1000:.2f} ml",
        f"{lesion.long_axis_mm:.1f} {TIMES} {lesion.short_axis_mm:.1f} mm",
        f"HU {lesion.hu_mean:.0f} ± {lesion.hu_sd:.0f}",
    ]
    for name, value in (("Glance", lesion.glance_probability), ("Focus", lesion.focus_probability)):
        if value is not None:
            parts.append(f"{name} {value:.2f}")
    if lesion.touches_border:
        parts.append("reaches the edge of the scan")
    return "   ".join(parts)


def _head(figure: Any, case: ShownCase, height: float) -> None:
    count = len(case.lesions)
    shown = f", the largest {MAX_LESIONS} shown" if count > MAX_LESIONS else ""
    volume_ml = sum(lesion.volume_mm3 for lesion in case.lesions) / 1000
    spacing = f" {TIMES} ".join(f"{mm:.3g}" for mm in case.spacing_mm)
    name = drawable(case.name, _LONGEST_NAME)
    figure.text(0.01, 1 - 0.2 / height, name, color="white", fontsize=11, va="center", weight="bold")
    lesions = "no lesion" if not count else f"{count} lesion{'s' if count > 1 else ''}, {volume_ml:.2f} ml{shown}"
    facts = f"{lesions}   {case.region.label}   spacing {spacing} mm   {case.status}"
    figure.text(0.01, 1 - 0.44 / height, facts, color=_DIM, fontsize=8.5, va="center")
    figure.text(0.99, 1 - 0.2 / height, "— mask", color=PREDICTION, fontsize=8.5, va="center", ha="right")
    figure.text(0.99, 1 - 0.44 / height, "— axes", color=_AXES_COLOUR, fontsize=8.5, va="center", ha="right")
