"""Chest or abdomen, per axial position, decided from the image alone: where the body contains lungs.

Every slice in which lungs fill a good part of the body is chest, and so is everything above the lungs (neck, head);
below the lowest such slice the scan is abdomen (and pelvis, legs). A scan without lungs is abdomen throughout: the soft
tissue window is the right one for limbs and trunk walls as well. A sub-volume takes the region of most of its slices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.network_plan import RegionName
from gfscreen.scan.anatomy import Anatomy

# Share of lung in the body's area above which a slice is chest. The recesses behind the liver stay below it, the
# slices through the domes of the diaphragm pass it.
LUNG_SHARE = 0.12
# Shorter stretches of lung than this are bowel gas or noise.
MIN_LUNG_EXTENT_MM = 25.0
# A scan is called chest-abdomen if each part has this length and this share of the scan. A chest CT reaches about
# 100 mm below the lungs, an abdominal one about 60 mm above their lower end.
MIN_PART_MM = 150.0
MIN_PART_SHARE = 0.25


@dataclass(frozen=True)
class RegionSplit:
    """The decision and what it rests on.

    label: `chest`, `abdomen` or `chest-abdomen`, of the scan as a whole. chest: bool (z,) per coarse slice, feet to
    head. lung_share: (z,) share of lung in the body's area. forced: given by the user.
    """

    label: str
    chest: NDArray[np.bool_]
    lung_share: NDArray[np.float64]
    slice_mm: float
    reason: str
    forced: bool = False

    @property
    def split_slice(self) -> int:
        """Number of abdominal slices below the lowest chest slice, coarse."""
        return int(self.chest.argmax()) if self.chest.any() else len(self.chest)


def _lowest_chest_slice(lung_share: NDArray[np.float64], slice_mm: float) -> int | None:
    """Index of the lowest slice of the longest stretch of lung, or None without lungs; single gaps are closed."""
    lungs = ndimage.binary_closing(lung_share >= LUNG_SHARE, np.ones(3, bool), border_value=0) | (
        lung_share >= LUNG_SHARE
    )
    labels, count = ndimage.label(lungs)
    if count == 0:
        return None
    lengths = np.bincount(labels)[1:]
    longest = int(lengths.argmax())
    # A scan shorter than the usual minimum must be lung throughout.
    if lengths[longest] * slice_mm < min(MIN_LUNG_EXTENT_MM, len(lungs) * slice_mm):
        return None
    return int(np.flatnonzero(labels == longest + 1)[0])


def split(anatomy: Anatomy) -> RegionSplit:
    """Decide chest or abdomen for every axial position of a scan; an empty body is abdomen."""
    body_area = anatomy.body.sum(axis=(0, 1))
    lung_share = anatomy.lungs.sum(axis=(0, 1)) / np.maximum(body_area, 1)
    slice_mm = anatomy.spacing_mm[2]
    chest = np.zeros(len(lung_share), bool)
    lowest = _lowest_chest_slice(lung_share, slice_mm)
    if lowest is None:
        reason = f"no lungs: at most {100 * float(lung_share.max(initial=0.0)):.0f} % of a slice's body area is lung"
        return RegionSplit("abdomen", chest, lung_share, slice_mm, reason)
    chest[lowest:] = True
    chest_mm, abdomen_mm = float(chest.sum()) * slice_mm, float((~chest).sum()) * slice_mm
    share = chest_mm / (chest_mm + abdomen_mm)
    both = min(chest_mm, abdomen_mm) >= MIN_PART_MM and MIN_PART_SHARE <= share <= 1.0 - MIN_PART_SHARE
    label = "chest-abdomen" if both else "chest" if share >= 0.5 else "abdomen"
    reason = (
        f"lungs fill up to {100 * float(lung_share.max()):.0f} % of a slice's body area; "
        f"{chest_mm:.0f} mm from their lower end upwards are chest, {abdomen_mm:.0f} mm below are abdomen"
    )
    return RegionSplit(label, chest, lung_share, slice_mm, reason)


def forced(anatomy: Anatomy, region: RegionName) -> RegionSplit:
    """The whole scan as one region, because the user said so."""
    measured = split(anatomy)
    chest = np.full(len(measured.chest), region == "chest")
    return RegionSplit(
        region, chest, measured.lung_share, measured.slice_mm, f"forced; the image says {measured.label}", forced=True
    )


def region_of(chest: NDArray[np.bool_], start: int, size: int) -> RegionName:
    """Region of a sub-volume over the axial positions [start, start + size) of `chest` (z,): that of most of them.

    Positions outside the array are ignored; a tie is chest.
    """
    covered = chest[max(start, 0) : max(start + size, 0)]
    return "chest" if covered.size and covered.mean() >= 0.5 else "abdomen"
