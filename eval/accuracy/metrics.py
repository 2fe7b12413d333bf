"""DSC and NSD of a pair of masks by the organisers' rules.

Both metrics look only at the bounding box of the two masks together. NSD is the surface Dice of google-deepmind's
surface-distance (surface elements of a 2x2x2 neighbourhood, areas from its table), computed block by block and only
from the surfaces, because that library's distance transform needs about 50 bytes for every voxel of the box: two small
lesions at opposite ends of a 512x512x1000 scan would take 12 GB. The tests hold it to that library and to MONAI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from surface_distance import lookup_tables

from eval.accuracy.masks import Spacing

TOLERANCE_MM = 2.0
MIN_DICE_FOR_NSD = 0.2
# Voxels per block: bounds what one block of pure noise can cost to about 1.5 GB.
_BLOCK_VOXELS = 8_000_000

Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Score:
    """DSC and NSD in [0, 1] and the rule that decided them.

    `rule`: `labels_above_one`, `both_empty`, `one_empty`, `low_dice` (NSD set to 0) or `measured`.
    """

    dsc: float
    nsd: float
    rule: str


def score_pair(
    truth: NDArray[np.uint8], prediction: NDArray[np.uint8], spacing_mm: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> Score:
    """Score a prediction by the organisers' rules, in their order.

    `truth`, `prediction`: uint8, equal shape (x, y, z). `spacing_mm`: the ground truth's.

    1. a label above 1 anywhere in the prediction: 0 / 0;
    2. both empty: 1 / 1;
    3. one empty: 0 / 0;
    4. DSC below 0.2: NSD 0, not computed;
    5. otherwise both are measured.

    Deviation: a ground truth with labels above 1 counts as lesion wherever it is not 0 (the organisers' sums would
    weigh a voxel by its label; their labels are binary).

    Raises:
        ValueError: shapes differ, or the tolerance is negative.

    """
    _check(truth, prediction, spacing_mm, tolerance_mm)
    if prediction.size and int(prediction.max()) > 1:
        return Score(0.0, 0.0, "labels_above_one")
    box_truth, box_prediction = bounding_box(truth), bounding_box(prediction)
    if box_truth is None and box_prediction is None:
        return Score(1.0, 1.0, "both_empty")
    if box_truth is None or box_prediction is None:
        return Score(0.0, 0.0, "one_empty")
    box = union_box(box_truth, box_prediction)
    a, b = as_bool(truth[box]), as_bool(prediction[box])
    dsc = dice(a, b)
    if dsc < MIN_DICE_FOR_NSD:
        return Score(dsc, 0.0, "low_dice")
    return Score(dsc, surface_dice(a, b, spacing_mm, tolerance_mm), "measured")


def as_bool(mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Where a label volume is not 0; a view, not a copy, when it holds 0 and 1 only."""
    if mask.size and int(mask.max()) <= 1:
        view: NDArray[np.bool_] = mask.view(np.bool_)
        return view
    different: NDArray[np.bool_] = mask != 0
    return different


def bounding_box(mask: NDArray[Any]) -> Box | None:
    """The smallest box that holds every non-zero voxel of a 3D mask, or None when there is none."""
    planes = np.flatnonzero(np.any(mask, axis=(0, 1)))
    if planes.size == 0:
        return None
    inside = mask[:, :, planes[0] : planes[-1] + 1]
    flat = np.any(inside, axis=2)
    rows, columns = np.flatnonzero(np.any(flat, axis=1)), np.flatnonzero(np.any(flat, axis=0))
    return (
        slice(int(rows[0]), int(rows[-1]) + 1),
        slice(int(columns[0]), int(columns[-1]) + 1),
        slice(int(planes[0]), int(planes[-1]) + 1),
    )


def union_box(a: Box, b: Box) -> Box:
    """The smallest box that holds both boxes."""
    x, y, z = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(a, b, strict=True))
    return (x, y, z)


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """2 |A and B| / (|A| + |B|) of two bool masks of equal shape; 1 when both are empty."""
    total = int(np.count_nonzero(a)) + int(np.count_nonzero(b))
    return 2 * int(np.count_nonzero(a & b)) / total if total else 1.0


def surface_dice(
    a: NDArray[np.bool_], b: NDArray[np.bool_], spacing_mm: Spacing, tolerance_mm: float = TOLERANCE_MM
) -> float:
    """Share of both surfaces, by area, that lies within `tolerance_mm` of the other surface.

    `a`, `b`: bool, equal shape (x, y, z). What touches the array's border is closed there. Both empty: 1; one empty: 0.
    Source: Nikolov et al. 2018 (arXiv:1809.04430); surface elements and areas as in google-deepmind/surface-distance.

    Raises:
        ValueError: shapes differ, or the tolerance is negative.

    """
    _check(a, b, spacing_mm, tolerance_mm)
    empty_a, empty_b = not a.any(), not b.any()
    if empty_a or empty_b:
        return 1.0 if empty_a and empty_b else 0.0
    areas = _area_table(spacing_mm)
    depth = a.shape[2] + 1  # planes of corners: one more than planes of voxels
    halo = int(tolerance_mm / spacing_mm[2]) + 1
    step = max(1, _BLOCK_VOXELS // ((a.shape[0] + 1) * (a.shape[1] + 1)))
    near = total = 0.0
    for start in range(0, depth, step):
        stop = min(start + step, depth)
        low, high = max(0, start - halo), min(depth, stop + halo)
        surfaces = [_surface_points(mask, low, high) for mask in (a, b)]
        for (points, codes), (others, _) in (surfaces, surfaces[::-1]):
            core = (points[:, 0] >= start - low) & (points[:, 0] < stop - low)
            weights = areas[codes[core]]
            total += float(weights.sum())
            near += float(weights[_within(points[core], others, spacing_mm, tolerance_mm)].sum())
    return near / total


def _check(a: NDArray[Any], b: NDArray[Any], spacing_mm: Spacing, tolerance_mm: float) -> None:
    if a.ndim != 3 or a.shape != b.shape:
        raise ValueError(f"expected two 3D masks of equal shape, got {a.shape} and {b.shape}")
    if not all(np.isfinite(s) and s > 0 for s in spacing_mm):
        raise ValueError(f"expected a positive spacing in mm, got {spacing_mm}")
    if not tolerance_mm >= 0:
        raise ValueError(f"expected a tolerance of 0 mm or more, got {tolerance_mm}")


@lru_cache(maxsize=64)
def _area_table(spacing_mm: Spacing) -> NDArray[np.float64]:
    """Area in mm2 of the surface within each of the 256 2x2x2 neighbourhoods."""
    return cast("NDArray[np.float64]", lookup_tables.create_table_neighbour_code_to_surface_area(spacing_mm))


def _surface_points(mask: NDArray[np.bool_], low: int, high: int) -> tuple[NDArray[np.intp], NDArray[np.uint8]]:
    """Corners of voxels on the surface, in corner planes `low` to `high` - 1.

    Corner (i, j, k) is shared by the voxels i-1 and i, j-1 and j, k-1 and k; outside the array is background. Its code
    has one bit for each of them, 128 >> (4 dx + 2 dy + dz) with dx = 0 for voxel i-1: the library's order.

    Returns the corners as integers (n, 3) in the order (k - low, j, i), and their codes (n,).
    """
    first, last = max(0, low - 1), min(mask.shape[2], high)
    piece = mask[:, :, first:last]
    rows = np.flatnonzero(piece.any(axis=(1, 2)))
    if rows.size == 0:
        return np.empty((0, 3), np.intp), np.empty(0, np.uint8)
    columns = np.flatnonzero(piece.any(axis=(0, 2)))
    x0, x1, y0, y1 = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    # Axes (z, y, x), so that memory order follows a Fortran-ordered volume; a border of one background voxel.
    padded = np.zeros((high - low + 1, y1 - y0 + 2, x1 - x0 + 2), np.uint8)
    offset = first - (low - 1)
    padded[offset : offset + last - first, 1:-1, 1:-1] = piece[x0:x1, y0:y1].transpose(2, 1, 0)
    code = padded[:, :, :-1] * np.uint8(16) + padded[:, :, 1:]
    code = code[:, :-1] * np.uint8(4) + code[:, 1:]
    code = code[:-1] * np.uint8(2) + code[1:]
    flat = code.reshape(-1)
    found = np.flatnonzero((flat + np.uint8(1)) > 1)  # 255 (inside) wraps to 0, 0 (outside) becomes 1
    k, j, i = np.unravel_index(found, code.shape)
    return np.stack([k, j + y0, i + x0], axis=1), flat[found]


def _within(
    points: NDArray[np.intp], others: NDArray[np.intp], spacing_mm: Spacing, tolerance_mm: float
) -> NDArray[np.bool_]:
    """For each corner, whether one of `others` lies within `tolerance_mm`; corners as (k, j, i)."""
    if len(points) == 0 or len(others) == 0:
        return np.zeros(len(points), np.bool_)
    extent = np.maximum(points.max(axis=0), others.max(axis=0)) + 1
    keys = [np.ravel_multi_index((p[:, 0], p[:, 1], p[:, 2]), tuple(extent)) for p in (points, others)]
    within: NDArray[np.bool_] = np.isin(keys[0], keys[1], kind="table")  # shared corners: distance 0
    apart = np.flatnonzero(~within)
    if apart.size == 0:
        return within
    scale = np.array(spacing_mm[::-1])
    tree = cKDTree(others * scale, balanced_tree=False, compact_nodes=False)
    # The tree finds the neighbour with some room; the decision is taken on exact index differences.
    _, nearest = tree.query(points[apart] * scale, distance_upper_bound=tolerance_mm * (1 + 1e-9) + 1e-9)
    found = nearest < len(others)
    offset = (points[apart[found]] - others[nearest[found]]) * scale
    within[apart[found]] = np.sqrt((offset * offset).sum(axis=1)) <= tolerance_mm
    return within
