"""Labels from outlines that we drew: polygons slice by slice, or ellipsoids around lesions that differ from an organ.

`outlines.json` holds them, in voxels of the scan that each names. They were drawn on pictures by no radiologist; where
we could not tell, the label is unknown (2), which trains nothing. Only the tissue within an outline is lesion, so the
outline itself may be coarse.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OUTLINES = Path(__file__).parent / "outlines.json"
UNKNOWN = 2
# In plane, before a threshold: noise, but not the border, is smoothed away.
SMOOTHING_VOXELS = 1.0
SMALLEST_PIECE_VOXELS = 300
FLECK_VOXELS, FLECK_SHARE = 40, 0.2
# Around what stands out of an organ nobody can tell to a voxel where it ends.
RING_VOXELS = 2

BoolArray = NDArray[np.bool_]
UInt8Array = NDArray[np.uint8]


def read_outlines() -> dict[str, Any]:
    """The outlines by the name of their scan."""
    content: dict[str, Any] = json.loads(OUTLINES.read_text())
    return content


def inside_polygon(polygon: list[list[float]], shape: tuple[int, int]) -> BoolArray:
    """Which pixels (i, j) have their centre within a closed polygon of (i, j) corners; none of fewer than three."""
    i, j = np.ogrid[: shape[0], : shape[1]]
    inside = np.zeros(shape, bool)
    for (i0, j0), (i1, j1) in zip(polygon, polygon[1:] + polygon[:1], strict=True):
        if j0 != j1:
            crosses = (j0 > j) != (j1 > j)
            inside ^= crosses & (i < i0 + (j - j0) * (i1 - i0) / (j1 - j0))
    return inside


def _drawn(slices: dict[str, list[list[list[float]]]], shape: tuple[int, int, int]) -> BoolArray:
    """The voxels within polygons that are given by slice."""
    drawn = np.zeros(shape, bool)
    for index, polygons in slices.items():
        for polygon in polygons:
            drawn[:, :, int(index)] |= inside_polygon(polygon, shape[:2])
    return drawn


def label_of_polygons(hu: NDArray[np.int16], outline: dict[str, Any]) -> UInt8Array:
    """Label (i, j, k) of a scan: 1 what is tissue within `lesion`, 2 what is denser than lung within `unknown`.

    Tissue: from `tissue_hu[0]` to `tissue_hu[1]` after smoothing, without threads, with its holes filled, slice by
    slice; `known_from_hu` is where unknown begins.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), (SMOOTHING_VOXELS, SMOOTHING_VOXELS, 0))
    low, high = outline["tissue_hu"]
    tissue = _drawn(outline["lesion"], hu.shape) & (smooth > low) & (smooth < high)
    in_plane = np.ones((3, 3, 1), bool)
    tissue = ndimage.binary_opening(tissue, in_plane)
    filled = np.stack([ndimage.binary_fill_holes(tissue[:, :, k]) for k in range(hu.shape[2])], axis=2)
    lesion = _large_pieces(filled, SMALLEST_PIECE_VOXELS)
    unknown = _drawn(outline["unknown"], hu.shape) & (smooth > outline["unknown_from_hu"]) & ~lesion
    return np.where(lesion, 1, np.where(unknown, UNKNOWN, 0)).astype(np.uint8)


def label_of_ellipsoids(hu: NDArray[np.int16], outline: dict[str, Any]) -> UInt8Array:
    """Label (x, y, z) of a scan: 1 what is darker than half-way to the organ around it within each of `lesions`.

    The organ's HU is the median of a shell about the ellipsoid (x, y, z and half axes, in voxels), the lesion's its
    darkest 7 %. 2: the ellipsoids of `unknown`, two voxels about each lesion, and all slices below `known_from_slice`.
    """
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), (1.6, 1.6, 0.5))
    soft_low, soft_high = outline["organ_hu"]
    lesion = np.zeros(hu.shape, bool)
    for ellipsoid in outline["lesions"]:
        distance = _ellipsoidal_distance(ellipsoid, hu.shape)
        within = distance <= 1
        organ = np.median(smooth[(distance > 1) & (distance < 1.9) & (smooth > soft_low) & (smooth < soft_high)])
        core = np.percentile(smooth[within & (smooth > 0)], 7)
        darker = within & (smooth < (organ + core) / 2) & (smooth > outline["lesion_above_hu"])
        darker = _large_pieces(darker, FLECK_VOXELS, share_of_largest=FLECK_SHARE)
        cross = ndimage.generate_binary_structure(3, 1)
        cross[:, :, [0, 2]] = False
        lesion |= ndimage.binary_fill_holes(ndimage.binary_opening(darker, cross))
    unknown = ndimage.binary_dilation(lesion, iterations=RING_VOXELS)
    for ellipsoid in outline["unknown"]:
        unknown |= _ellipsoidal_distance(ellipsoid, hu.shape) <= 1
    label = np.where(lesion, 1, np.where(unknown, UNKNOWN, 0)).astype(np.uint8)
    label[:, :, : outline["known_from_slice"]] = UNKNOWN
    return label


def _ellipsoidal_distance(ellipsoid: list[float], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Squared distance from an ellipsoid's centre in its own half axes: at most 1 within it."""
    terms = (
        ((np.arange(size) - centre) / half) ** 2
        for size, centre, half in zip(shape, ellipsoid[:3], ellipsoid[3:], strict=True)
    )
    x, y, z = np.ix_(*terms)
    distance: NDArray[np.float64] = x + y + z
    return distance


def _large_pieces(mask: BoolArray, voxels: int, *, share_of_largest: float = 0.0) -> BoolArray:
    """The connected pieces of at least so many voxels, and of at least this share of the largest one."""
    pieces, _ = ndimage.label(mask)
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= max(voxels, share_of_largest * sizes.max()))[pieces], np.bool_)
