"""Long and short axis of a lesion on one axial slice, as RECIST 1.1 reads them.

The outline of a slice goes through the middle of every pixel side between inside and outside. So a row of n pixels is
n pixels long: from centre to centre it would be one pixel too short, from corner to corner too long.

- Long axis: the longest distance of two points of one outline.
- Short axis: the longest chord of the same outline at a right angle to it, on the same slice.

Pieces of a lesion that do not touch in the slice, by a side or a corner of a pixel, are outlines of their own: no axis
runs from one to another. Within one outline both axes are taken on its convex hull, so they may bridge a notch (a
horseshoe) and cross a hole (a ring, whose outer outline counts), as a reader's calliper does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FloatArray = NDArray[np.float64]
# Lengths that differ by less are the same length: 1 nm.
_SAME_MM = 1e-6
# Pixels of one piece touch by a side or a corner.
_TOUCHING = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Axes:
    """Both axes of a slice: lengths in mm and ends (2, 2) as positions (x, y) in pixels, first and second end."""

    long_mm: float
    short_mm: float
    long_ends: FloatArray
    short_ends: FloatArray


@dataclass(frozen=True)
class LongestPiece:
    """The piece of a slice whose long axis is longest.

    axes: its axes, with ends in pixels of the slice. pixels: int (n, 2), the pixels (x, y) of the piece. pieces: how
    many pieces the slice has.
    """

    axes: Axes
    pixels: NDArray[np.intp]
    pieces: int

    @property
    def rank(self) -> tuple[float, float]:
        """By the long axis, then by the short one; lengths are compared to 1 nm."""
        return round(self.axes.long_mm, 6), round(self.axes.short_mm, 6)

    def moved(self, by: NDArray[np.intp]) -> LongestPiece:
        """The same in a larger section, `by` (2,) pixels further on."""
        axes = replace(self.axes, long_ends=self.axes.long_ends + by, short_ends=self.axes.short_ends + by)
        return replace(self, axes=axes, pixels=self.pixels + by)


def longest_piece(section: NDArray[np.bool_], metric: FloatArray, at_least_mm: float = 0.0) -> LongestPiece | None:
    """The piece of a slice with the longest long axis; of equal ones that with the longer short axis, then the first.

    Args:
        section: bool (x, y), not empty.
        metric: see `plane_metric`.
        at_least_mm: a long axis below this is of no interest; None is returned where no piece can reach it.

    """
    labels, count = ndimage.label(section, _TOUCHING)
    best: LongestPiece | None = None
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        enough_mm = at_least_mm if best is None else best.axes.long_mm
        if _diagonal_mm([side.stop - side.start for side in box], metric) < enough_mm - _SAME_MM:
            continue
        piece = labels[box] == number
        corner = np.array([side.start for side in box], np.intp)
        found = LongestPiece(measure_section(piece, metric), np.argwhere(piece), count).moved(corner)
        if best is None or found.rank > best.rank:
            best = found
    return best


def _diagonal_mm(size: list[int], metric: FloatArray) -> float:
    """The longer diagonal of a box of so many pixels: no outline in it is longer."""
    width, height = (metric * np.array(size)).T
    return float(max(np.linalg.norm(width + height), np.linalg.norm(width - height)))


def outline_points(section: NDArray[np.bool_]) -> FloatArray:
    """The outline's points (n, 2), in pixels of `section` (x, y), that can lie on the convex hull; at least four.

    Of each row and column only the outermost pixel sides. Raises ValueError for an empty section.
    """
    if not section.any():
        raise ValueError("an empty section has no outline")
    points = []
    for axis in (0, 1):
        lines = np.flatnonzero(section.any(axis=axis))
        along = section[:, lines] if axis == 0 else section[lines].T
        first = along.argmax(axis=0) - 0.5
        last = len(along) - along[::-1].argmax(axis=0) - 0.5
        points += [np.column_stack((end, lines) if axis == 0 else (lines, end)) for end in (first, last)]
    return np.concatenate(points).astype(np.float64)


def convex_hull(points: FloatArray) -> FloatArray:
    """Corners (m, 2) of the convex hull of `points` (n, 2), anticlockwise, without those on a straight side.

    Andrew's monotone chain. scipy.spatial has a hull too, but the container leaves that part of scipy out.
    """
    ordered = [tuple(point) for point in np.unique(points, axis=0).tolist()]

    def chain(sequence: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
        kept: list[tuple[float, ...]] = []
        for p in sequence:
            while len(kept) > 1:
                (ax, ay), (bx, by) = kept[-2], kept[-1]
                if (bx - ax) * (p[1] - ay) - (by - ay) * (p[0] - ax) > 0:
                    break
                kept.pop()
            kept.append(p)
        return kept[:-1]

    return np.array(chain(ordered) + chain(ordered[::-1]), dtype=np.float64)


def plane_metric(columns_mm: FloatArray) -> FloatArray:
    """2 x 2 matrix that takes pixel positions (x, y) to mm in the plane that both columns (3, 2) span.

    The columns need not stand at a right angle. Lengths and angles in the plane are kept.
    """
    metric: FloatArray = np.linalg.qr(columns_mm)[1]
    return metric


def measure_section(section: NDArray[np.bool_], metric: FloatArray) -> Axes:
    """Both axes of one outline: of the convex hull of all that is marked; see `longest_piece` for several pieces.

    Where several pairs of points are equally far apart, the one with the longest short axis counts, then the one
    whose first end lies most to the left and back; so the array's order decides nothing.

    Args:
        section: bool (x, y), not empty.
        metric: see `plane_metric`.

    """
    corners = convex_hull(outline_points(section))
    placed = corners @ metric.T
    distance = np.linalg.norm(placed[:, None] - placed[None], axis=2)
    pairs = np.argwhere(np.triu(distance >= distance.max() - _SAME_MM))
    candidates = [_with_short_axis(corners, metric, int(a), int(b)) for a, b in pairs]
    return min(candidates, key=lambda axes: (-round(axes.short_mm, 6), axes.long_ends.tolist()))


def _with_short_axis(corners: FloatArray, metric: FloatArray, first: int, second: int) -> Axes:
    """The axes whose long one joins two corners of the hull."""
    placed = corners @ metric.T
    if corners[first].tolist() > corners[second].tolist():
        first, second = second, first
    long_mm = float(np.linalg.norm(placed[second] - placed[first]))
    along = (placed[second] - placed[first]) / long_mm
    across = np.array([-along[1], along[0]])
    t, s = (placed - placed[first]) @ along, (placed - placed[first]) @ across
    # Above and below the long axis the hull is one line each; the chord between them is longest at some corner.
    order = np.argsort(t, kind="stable")
    t, s = t[order], s[order]
    is_end = np.isin(order, (first, second))
    upper, lower = (s > 0) | is_end, (s < 0) | is_end
    high = np.interp(t, t[upper], np.where(is_end, 0.0, s)[upper])
    low = np.interp(t, t[lower], np.where(is_end, 0.0, s)[lower])
    longest = np.flatnonzero(high - low >= (high - low).max() - _SAME_MM)
    middle = t[longest].mean()  # all chords between two equally long ones are as long
    ends_s = np.interp(middle, t, high), np.interp(middle, t, low)
    offsets_mm = np.array([middle * along + end * across for end in ends_s])
    return Axes(
        long_mm=long_mm,
        short_mm=float(ends_s[0] - ends_s[1]),
        long_ends=corners[[first, second]],
        short_ends=corners[first] + np.linalg.solve(metric, offsets_mm.T).T,
    )
