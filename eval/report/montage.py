"""Overlay montages: four axial slices through the lesion, then coronal and sagittal, outlined, with a scale bar."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.accuracy.metrics import bounding_box
from eval.report.cases import LoadedCase
from gfscreen.results.preview.planes import (
    PLANES,
    PREDICTION,
    TRUTH,
    Plane,
    boxes_for_missing_glyphs,
    centre_of_interest,
    draw_plane,
    drawable,
    plane_of,
)
from gfscreen.text import file_stem

AXIAL_SLICES = 4
_FACE = "#0c0f13"
_PANEL_INCH = 2.55
_HEAD_INCH = 0.75
_JPEG_DPI = 130
# What fits beside scores and legend.
_LONGEST_NAME = 44

Voxel = tuple[int, int, int]


@dataclass(frozen=True)
class Montage:
    """A drawn montage: what it shows in words, a JPEG for the page with its width and height, and the files written."""

    case: str
    caption: str
    jpeg: bytes
    size: tuple[int, int]
    files: tuple[Path, ...]


def place_of_interest(mask: NDArray[np.bool_]) -> tuple[Voxel, tuple[int, int]]:
    """Middle voxel of the largest component and its lowest and highest slice; of an empty mask, the scan's middle."""
    box = bounding_box(mask)
    if box is None:
        centre = centre_of_interest(mask)
        return centre, (centre[2], centre[2])
    labels, _ = ndimage.label(mask[box], np.ones((3, 3, 3), bool))
    x, y, z = centre_of_interest(mask[box])
    inside = np.flatnonzero((labels == labels[x, y, z]).any(axis=(0, 1))) + int(box[2].start)
    return (x + int(box[0].start), y + int(box[1].start), z + int(box[2].start)), (int(inside[0]), int(inside[-1]))


def axial_slices(low: int, high: int, depth: int, count: int = AXIAL_SLICES) -> list[int]:
    """`count` slices of a scan of `depth`, evenly from `high` down to `low`; the range grows if it is too thin."""
    while high - low + 1 < min(count, depth):
        low, high = max(0, low - 1), min(depth - 1, high + 1)
    places = np.linspace(high, low, min(count, depth)).round().astype(int)
    return [int(z) for z in places]


def draw_montage(folder: Path, case: LoadedCase, scores: Mapping[str, str] | None) -> Montage:
    """Write `overlay_<case>.png` and `.pdf` into `folder`."""
    from matplotlib.figure import Figure

    box = case.body_box
    hu = case.hu[box]
    masks = {TRUTH: case.truth, PREDICTION: case.prediction}
    shown = {colour: mask[box] for colour, mask in masks.items() if mask is not None}
    (x, y, z), (low, high) = place_of_interest(case.of_interest[box])
    region, window = case.window(z + int(box[2].start))
    axial, coronal, sagittal = PLANES
    levels = axial_slices(low, high, hu.shape[2])
    panels: list[tuple[Plane, Voxel, tuple[Any, int]]] = [
        (axial, (x, y, level), divmod(at, 2)) for at, level in enumerate(levels)
    ]
    across, deep, tall = (n * mm for n, mm in zip(hu.shape, case.spacing_mm, strict=True))
    axial_ratio = deep / across
    # A long scan gets the full height beside the axial slices, a short one is stacked there.
    columns = 4 if tall > 1.6 * deep else 3
    places: list[tuple[Any, int]] = [(slice(None), 2), (slice(None), 3)] if columns == 4 else [(0, 2), (1, 2)]
    panels += [(coronal, (x, y, z), places[0]), (sagittal, (x, y, z), places[1])]
    height = 2 * (_PANEL_INCH * float(np.clip(axial_ratio, 0.55, 1.25)) + 0.22) + _HEAD_INCH
    figure = Figure(figsize=(columns * _PANEL_INCH, height))
    figure.set_facecolor(_FACE)
    grid = figure.add_gridspec(
        2, columns, left=0.005, right=0.995, bottom=0.01, top=1 - _HEAD_INCH / height, wspace=0.03, hspace=0.1
    )
    for plane, centre, (row, column) in panels:
        axes = figure.add_subplot(grid[row, column])
        sections = {colour: plane_of(mask, plane, centre) for colour, mask in shown.items()}
        draw_plane(axes, plane_of(hu, plane, centre), sections, plane, case.spacing_mm, window)
        axes.set_anchor("N")
        number = centre[plane.fixed] + int(box[plane.fixed].start or 0)
        axes.set_title(f"{plane.name} {number + 1}/{case.hu.shape[plane.fixed]}", color="#c9d1d9", fontsize=8, pad=3)
    spacing = " x ".join(f"{mm:.3g}" for mm in case.spacing_mm)
    facts = f"{region} window HU [{window.low_hu:.0f}, {window.high_hu:.0f}], spacing {spacing} mm"
    _head(figure, case, facts, scores)
    return _save(figure, folder, case.name, facts)


def _head(figure: Any, case: LoadedCase, facts: str, scores: Mapping[str, str] | None) -> None:
    top = 1 - 0.2 / figure.get_figheight()
    low = 1 - 0.42 / figure.get_figheight()
    said = ""
    if scores is not None:
        said = f"   DSC {float(scores['Lesion_DSC']):.3f}   NSD {float(scores['Lesion_NSD']):.3f}"
    title = drawable(case.name, _LONGEST_NAME) + said
    figure.text(0.01, top, title, color="white", fontsize=10, va="center", weight="bold")
    figure.text(0.01, low, facts, color="#9aa4b2", fontsize=8, va="center")
    for place, (name, colour, mask) in enumerate(
        (("prediction", PREDICTION, case.prediction), ("truth", TRUTH, case.truth))
    ):
        state = "not given" if mask is None else ("" if mask.any() else "empty")
        text = f"— {name}" + (f" ({state})" if state else "")
        figure.text(0.99, (top, low)[place], text, color=colour, fontsize=8.5, va="center", ha="right")


def _save(figure: Any, folder: Path, name: str, facts: str) -> Montage:
    folder.mkdir(parents=True, exist_ok=True)
    stem = file_stem(f"overlay_{name}")
    png, pdf = folder / f"{stem}.png", folder / f"{stem}.pdf"
    buffer = io.BytesIO()
    with boxes_for_missing_glyphs():
        figure.savefig(png, dpi=150, facecolor=_FACE)
        figure.savefig(pdf, dpi=150, facecolor=_FACE, metadata={"CreationDate": None})
        quality = {"quality": 82, "optimize": True}
        figure.savefig(buffer, format="jpg", dpi=_JPEG_DPI, facecolor=_FACE, pil_kwargs=quality)
    width, height = (round(float(inch) * _JPEG_DPI) for inch in figure.get_size_inches())
    return Montage(name, facts, buffer.getvalue(), (width, height), (png, pdf))
