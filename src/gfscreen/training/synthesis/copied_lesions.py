"""Real lesions of soft tissue copied from one annotated scan into another, with their own HU and a soft edge.

Painted lesions are told by their even level and their border (`python -m eval realism`); a copy keeps the texture, the
core and the border of the lesion it was cut from. Level and grain are the new place's, for by another scan's noise a
network would know a copy; the contrast is weaker or stronger, and now and then the other way round, for most lesions
here are dark ones of the liver. Copying between scans: TumorCP (MICCAI 2021). Arrays are (x, y, z) on the model grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.training.synthesis.insertion import Box, Crop, blend, find_place, signed_distance_mm
from gfscreen.training.synthesis.lesion_bank import BoolArray, Patch
from gfscreen.training.synthesis.tissue import SOFT

# Smaller ones are a few voxels on slices of 3 mm, larger ones fill a sub-volume to train on.
VOLUME_ML = (0.3, 150.0)
MARGIN_MM = 6.0
# What lies so far from the border is what surrounds the lesion; nearer, the scan's own sharpness mixes both.
AROUND_MM = (2.0, 6.0)
SOFT_HU = (-20, 200)
# At least so much of what surrounds a lesion is soft tissue, or its contrast says nothing about another place.
MIN_SOFT_AROUND = 0.5
# What hardly differs from its surroundings cannot be seen in others.
MIN_CONTRAST_HU = 12.0
# Standard deviations of Gaussians: what takes the noise off a lesion, and what leaves the host's noise when taken off.
SMOOTH_MM = 1.2
GRAIN_MM = 4.0
GRAIN_HU = 60.0
# An outline runs where a lesion has half faded: its own border is copied as far as this beyond it.
BORDER_MM = 2.5
CONTRAST = (0.6, 1.3)
OTHER_WAY = 0.2
# A copy's median is not below that of water, however dark its new place is.
DARKEST_HU = 0.0


@dataclass(frozen=True)
class RealLesion:
    """A lesion with MARGIN_MM around it: hu int16 and mask bool (x, y, z); its median HU, and that around it."""

    name: str
    hu: NDArray[np.int16]
    mask: BoolArray
    level_hu: float
    around_hu: float


def labelled_lesions(
    label: NDArray[np.uint8], grid_mm: tuple[float, ...], margin_mm: float
) -> Iterator[tuple[int, tuple[slice, ...], BoolArray, bool]]:
    """Each connected lesion (label 1) of a scan, from VOLUME_ML's lower end on.

    Its number, the part of the scan that holds it with a margin, its mask in that part, and whether the margin lies
    within the scan all around.
    """
    margin = [int(np.ceil(margin_mm / g)) for g in grid_mm]
    voxel_ml = float(np.prod(grid_mm)) / 1000.0
    parts, _ = ndimage.label(label == 1, np.ones((3, 3, 3)))
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        low = [side.start - m for side, m in zip(box, margin, strict=True)]
        high = [side.stop + m for side, m in zip(box, margin, strict=True)]
        part = tuple(slice(max(0, a), b) for a, b in zip(low, high, strict=True))
        mask = parts[part] == number
        if int(mask.sum()) * voxel_ml >= VOLUME_ML[0]:
            whole = min(low) >= 0 and all(b <= n for b, n in zip(high, label.shape, strict=True))
            yield number, part, mask, whole


def real_lesions(
    name: str, hu: NDArray[np.int16], label: NDArray[np.uint8], grid_mm: tuple[float, ...]
) -> list[RealLesion]:
    """The lesions (label 1) of a scan that are of VOLUME_ML, in soft tissue, unlike it, and whole; may be empty."""
    voxel_ml = float(np.prod(grid_mm)) / 1000.0
    found = []
    for number, part, mask, whole in labelled_lesions(label, grid_mm, MARGIN_MM):
        # One that the scan's edge cuts has a border there that no lesion has.
        if not whole or int(mask.sum()) * voxel_ml > VOLUME_ML[1]:
            continue
        values = hu[part]
        distance = signed_distance_mm(mask, grid_mm)
        around = values[(distance > AROUND_MM[0]) & (distance <= AROUND_MM[1]) & (label[part] != 1)]
        soft = around[(around > SOFT_HU[0]) & (around < SOFT_HU[1])]
        if soft.size < max(MIN_SOFT_AROUND * around.size, 1):
            continue
        level, surroundings = float(np.median(values[mask])), float(np.median(soft))
        if abs(level - surroundings) >= MIN_CONTRAST_HU:
            found.append(RealLesion(f"{name}:{number}", values.copy(), mask, level, surroundings))
    return found


def insert_copy(rng: np.random.Generator, crop: Crop, lesion: RealLesion) -> Box | None:
    """Copy a real lesion into homogeneous soft tissue, mirrored and turned at random. Returns where, or None.

    Inside are the lesion's HU without their grain, times CONTRAST against its own surroundings and brought to the level
    of the new ones, with the host's grain; beyond BORDER_MM outside they fade into the host over 1.5 to 3 mm.
    """
    hu, mask = lesion.hu, lesion.mask
    turns = int(rng.integers(4))
    hu, mask = np.rot90(hu, turns), np.rot90(mask, turns)
    mirrored = tuple(axis for axis in range(3) if rng.random() < 0.5)
    hu, mask = np.flip(hu, mirrored), np.flip(mask, mirrored)
    values = hu.astype(np.float32)
    patch = Patch(lesion.name, None, mask, mask)
    box = find_place(rng, crop, patch, SOFT, share_inside=0.85, whole=rng.random() < 0.7)
    if box is None:
        return None
    inside = mask[box.patch]
    contrast = rng.uniform(*CONTRAST) * (-1.0 if rng.random() < OTHER_WAY else 1.0)
    host = crop.hu[box.crop].astype(np.float32)
    level = float(np.median(host[inside]))
    level = max(level, DARKEST_HU - contrast * (lesion.level_hu - lesion.around_hu))
    grain = np.clip(host - ndimage.gaussian_filter(host, [GRAIN_MM / g for g in crop.grid_mm]), -GRAIN_HU, GRAIN_HU)
    smooth = ndimage.gaussian_filter(values, [SMOOTH_MM / g for g in crop.grid_mm])[box.patch]
    copy = level + contrast * (smooth - lesion.around_hu) + grain
    # Fat, lung or bone beside the lesion stays where it was.
    elsewhere = ~inside & ((smooth < SOFT_HU[0]) | (smooth > SOFT_HU[1]))
    distance_mm = signed_distance_mm(inside, crop.grid_mm) - BORDER_MM
    blend(
        crop,
        box,
        inside,
        np.where(elsewhere, host, copy),
        edge_mm=float(rng.uniform(1.5, 3.0)),
        distance_mm=distance_mm,
    )
    return box
