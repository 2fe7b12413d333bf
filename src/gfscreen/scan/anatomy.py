"""A coarse look at the whole scan: where the body is, and where its lungs are.

Everything here happens on a grid of about 4 x 4 x 5 mm, which is enough to tell body from table and chest from abdomen
and costs a fraction of a second for a whole-body scan. `grid` takes the body's box from it, `region` the lungs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_spacing, ras_view

COARSE_MM = (4.0, 4.0, 5.0)
TISSUE_HU = -300.0
# Lung parenchyma, from emphysema to consolidation's edge; outside air lies below, fat above.
LUNG_HU = (-970.0, -400.0)
# A part of the body is at least this thick somewhere: table shells, clothes and cables are not.
MIN_BODY_THICKNESS_MM = 24.0
# Thinner than this does not connect body to body.
SHEET_MM = 10.0
# A separate part of the body (an arm, a leg) must have this share of the largest part, and this volume.
MIN_PART_FRACTION = 0.02
MIN_PART_ML = 50.0
MIN_LUNG_ML = 60.0
LUNG_OPENING_MM = 6.0
MIN_LUNG_SIDES = 3


@dataclass(frozen=True)
class Anatomy:
    """Body and lungs on a coarse RAS grid; all arrays (x, y, z), x to the right, y to the front, z to the head.

    step_voxels: native voxels per coarse voxel along x, y, z (of the RAS-ordered scan). spacing_mm: of the coarse grid.
    body: bool, filled, lungs included. lungs: bool.
    """

    step_voxels: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    body: NDArray[np.bool_]
    lungs: NDArray[np.bool_]

    @property
    def voxel_ml(self) -> float:
        """Volume of a coarse voxel."""
        return float(np.prod(self.spacing_mm)) / 1000.0


def coarse_hu(volume: Volume) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
    """Block means of the scan at about `COARSE_MM` (every second voxel in-plane is enough), and the block size."""
    hu = ras_view(volume.hu, volume)
    spacing = ras_spacing(volume)
    step = [max(1, round(mm / s)) for mm, s in zip(COARSE_MM, spacing, strict=True)]
    step = [min(n, size) for n, size in zip(step, hu.shape, strict=True)]
    counts = [size // n for n, size in zip(step, hu.shape, strict=True)]
    # Two samples per block and axis: their mean tames noise, and reading every voxel would cost ten times as much.
    total = np.zeros(counts, np.float32)
    offsets = [sorted({n // 4, (3 * n) // 4}) for n in step]
    samples = 0
    for dx in offsets[0]:
        for dy in offsets[1]:
            for dz in offsets[2]:
                corner = hu[dx :: step[0], dy :: step[1], dz :: step[2]]
                # Padding values far below air (-2048, -3024) are air.
                total += np.maximum(corner[: counts[0], : counts[1], : counts[2]], -1024)
                samples += 1
    total /= samples
    return total, (step[0], step[1], step[2])


def _disc(radius_mm: float, spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """An in-plane disc as structuring element (x, y, 1)."""
    rx, ry = (max(1, round(radius_mm / s)) for s in spacing_mm[:2])
    x, y = np.ogrid[-rx : rx + 1, -ry : ry + 1]
    disc: NDArray[np.bool_] = (x / rx) ** 2 + (y / ry) ** 2 <= 1.01
    return disc[:, :, None]


def _open(mask: NDArray[np.bool_], structure: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Opening in which the world goes on beyond the edge of the scan, so that a cropped body keeps its border."""
    eroded = ndimage.binary_erosion(mask, structure, border_value=1)
    opened: NDArray[np.bool_] = ndimage.binary_dilation(eroded, structure) & mask
    return opened


def find_tissue(coarse: NDArray[np.float32], spacing_mm: tuple[float, float, float]) -> NDArray[np.bool_]:
    """Solid body without lungs, bool (x, y, z); all False if there is none.

    Thick and large parts are seeds; whatever is connected to a seed and not a mere sheet is body, so that the thin side
    walls of a chest stay in and table shells, which touch nothing, stay out.
    """
    tissue = coarse > TISSUE_HU
    seeds = _open(tissue, _disc(MIN_BODY_THICKNESS_MM / 2, spacing_mm))
    solid = _open(tissue, _disc(SHEET_MM / 2, spacing_mm)) | seeds
    labels, count = ndimage.label(solid)
    if not seeds.any():
        return np.zeros(coarse.shape, bool)
    sizes = np.bincount(labels.ravel(), weights=seeds.ravel(), minlength=count + 1)
    sizes[0] = 0.0
    voxel_ml = float(np.prod(spacing_mm)) / 1000.0
    keep = (sizes >= MIN_PART_FRACTION * sizes.max()) & (sizes * voxel_ml >= MIN_PART_ML)
    keep[sizes.argmax()] = True
    kept: NDArray[np.bool_] = keep[labels]
    return kept


def enclosing_sides(tissue: NDArray[np.bool_]) -> NDArray[np.int8]:
    """On how many of its four in-plane sides (left, right, front, back) a voxel sees tissue; int8 (x, y, z)."""
    sides = np.zeros(tissue.shape, np.int8)
    for axis in (0, 1):
        sides += np.logical_or.accumulate(tissue, axis=axis)
        sides += np.flip(np.logical_or.accumulate(np.flip(tissue, axis), axis=axis), axis)
    return sides


def find_lungs(
    coarse: NDArray[np.float32], tissue: NDArray[np.bool_], spacing_mm: tuple[float, float, float]
) -> NDArray[np.bool_]:
    """Lung parenchyma: large connected parts in the lung's HU range with tissue on at least three sides.

    Foam pads have the HU of lung but tissue on one side only; the gap between arm and chest has it on two; bowel gas is
    darker or smaller. In a scan without any tissue (a crop inside the lung) the HU range alone decides.
    """
    candidates = (coarse > LUNG_HU[0]) & (coarse < LUNG_HU[1])
    if tissue.any():
        candidates &= enclosing_sides(tissue) >= MIN_LUNG_SIDES
    labels, count = ndimage.label(_open(candidates, _disc(LUNG_OPENING_MM, spacing_mm)))
    if count == 0:
        return np.zeros(coarse.shape, bool)
    sizes_ml = np.bincount(labels.ravel()) * float(np.prod(spacing_mm)) / 1000.0
    sizes_ml[0] = 0.0
    lungs: NDArray[np.bool_] = (sizes_ml >= MIN_LUNG_ML)[labels]
    return lungs


def find_anatomy(volume: Volume) -> Anatomy:
    """Body and lungs of a scan. Air only gives an empty body; without a solid body the whole scan is taken for it."""
    coarse, step = coarse_hu(volume)
    native = ras_spacing(volume)
    spacing_mm = (native[0] * step[0], native[1] * step[1], native[2] * step[2])
    tissue = find_tissue(coarse, spacing_mm)
    lungs = find_lungs(coarse, tissue, spacing_mm)
    if not tissue.any():
        # A crop inside the lung, or nothing but thin parts: whatever holds lung or tissue is looked at as a whole.
        holds_something = bool(lungs.any() or (coarse > TISSUE_HU).any())
        return Anatomy(step, spacing_mm, np.full(coarse.shape, holds_something), lungs)
    body = tissue | lungs
    for z in range(body.shape[2]):
        body[:, :, z] = ndimage.binary_fill_holes(body[:, :, z])
    return Anatomy(step, spacing_mm, body, lungs)
