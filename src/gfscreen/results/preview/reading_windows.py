"""Reading windows: what a finding is drawn in, by what it is and what lies around it.

The HU windows of the plan are what the networks see. [-900, 650] hides a lesion of the liver; people read in narrower
ones. Widths and levels are those in common use, as most viewers offer them; there is no standard behind them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.network_plan import HUWindow, RegionName
from gfscreen.results.preview.volumes import Box

# What counts as around a finding. The first voxels are left out: they hold some of the finding.
SHELL_MM = (1.5, 6.0)
# Lung from emphysema to consolidation's edge; air outside lies below, fat above.
_LUNG_HU = (-970.0, -400.0)
# A nodule on the pleura has chest wall on one side.
_LUNG_SHARE = 1 / 3
# Spongy bone has a shell of compact bone, which contrast agent in vessels and kidneys seldom reaches.
_SPONGY_HU, _COMPACT_HU, _COMPACT_SHARE = 100.0, 300.0, 0.15
_DENSE_HU = 250.0
# Parenchyma: no fat between it, and within the narrow window.
_PARENCHYMA_HU = 30.0
# Larger surroundings are looked at on every second, third ... voxel.
_MAX_VOXELS = 4_000_000


class ReadingWindow(NamedTuple):
    """A window for reading: its name, width and level (centre) in HU."""

    name: str
    width_hu: float
    level_hu: float

    @property
    def hu(self) -> HUWindow:
        """Its lower and upper end."""
        return HUWindow(self.level_hu - self.width_hu / 2, self.level_hu + self.width_hu / 2)

    @property
    def text(self) -> str:
        """Name, width and level."""
        return f"{self.name} W {self.width_hu:.0f} L {self.level_hu:.0f}"


PRESETS: Mapping[str, ReadingWindow] = {
    "lung": ReadingWindow("Lung", 1500.0, -600.0),
    "soft": ReadingWindow("Soft tissue", 400.0, 40.0),
    "liver": ReadingWindow("Liver", 150.0, 30.0),
    "bone": ReadingWindow("Bone", 1800.0, 400.0),
}


def preset_of_region(region: RegionName) -> str:
    """Key of the preset for a place without a finding."""
    return "lung" if region == "chest" else "soft"


def preset_of(inside_hu: NDArray[Any], shell_hu: NDArray[Any]) -> str:
    """Key of the preset in which to read a finding.

    Args:
        inside_hu: HU of its voxels (n,), at least one.
        shell_hu: HU of what lies around it (m,). Without any, the inside alone decides.

    Lung: aerated itself by its median, or at least a third of its shell is. Bone: dense itself by its median, or its
    shell is spongy bone by its median, with compact bone in it. Liver: the shell's quartiles and the finding's median
    are parenchyma within that narrow window; with contrast agent, a liver lies above it. Else soft tissue.

    """
    median_hu = float(np.median(inside_hu))
    low_hu, high_hu = _LUNG_HU
    if low_hu <= median_hu <= high_hu:
        return "lung"
    if shell_hu.size and ((shell_hu >= low_hu) & (shell_hu <= high_hu)).mean() >= _LUNG_SHARE:
        return "lung"
    if median_hu >= _DENSE_HU:
        return "bone"
    if not shell_hu.size:
        return "soft"
    first, middle, third = (float(value) for value in np.percentile(shell_hu, (25, 50, 75)))
    if middle >= _SPONGY_HU and (shell_hu >= _COMPACT_HU).mean() >= _COMPACT_SHARE:
        return "bone"
    narrow = PRESETS["liver"].hu
    if first >= _PARENCHYMA_HU and third <= narrow.high_hu and narrow.low_hu <= median_hu <= narrow.high_hu:
        return "liver"
    return "soft"


def presets_of_findings(
    hu: NDArray[Any],
    marked: NDArray[np.bool_],
    voxels: Sequence[Sequence[int]],
    spacing_mm: Sequence[float],
) -> list[str]:
    """Key of the preset of each finding; empty without findings.

    Args:
        hu: the scan (x, y, z).
        marked: bool (x, y, z), the mask; a finding is a 26-connected part of it.
        voxels: a voxel of each finding, (x, y, z). Raises ValueError if it is not marked.
        spacing_mm: along x, y, z.

    """
    if not voxels:
        return []
    margins = [int(np.ceil(SHELL_MM[1] / mm)) for mm in spacing_mm]
    around = _padded(_bounds(marked), margins, marked.shape)
    hu, marked = hu[around], marked[around]
    labels, _ = ndimage.label(marked, np.ones((3, 3, 3), bool))
    boxes = ndimage.find_objects(labels)
    found = []
    for voxel in voxels:
        place = tuple(int(v) - side.start for v, side in zip(voxel, around, strict=True))
        inside = all(0 <= p < n for p, n in zip(place, labels.shape, strict=True))
        number = int(labels[place]) if inside else 0
        if number == 0:
            raise ValueError(f"voxel {tuple(voxel)}: expected a voxel of the mask, it is not marked")
        box = _padded(boxes[number - 1], margins, labels.shape)
        found.append(_preset_within(hu[box], marked[box], labels[box] == number, spacing_mm))
    return found


def _preset_within(
    hu: NDArray[Any], marked: NDArray[np.bool_], own: NDArray[np.bool_], spacing_mm: Sequence[float]
) -> str:
    """The preset of the finding `own` in a box with room for its shell; other findings are no part of the shell."""
    inside_hu = hu[own]
    step = 1
    while hu.size / step**3 > _MAX_VOXELS:
        step += 1
    coarse = (slice(None, None, step),) * 3
    distance_mm = ndimage.distance_transform_edt(~own[coarse], sampling=[mm * step for mm in spacing_mm])
    low_mm, high_mm = SHELL_MM
    shell = (distance_mm > low_mm) & (distance_mm <= high_mm) & ~marked[coarse]
    return preset_of(inside_hu, hu[coarse][shell])


def _bounds(marked: NDArray[np.bool_]) -> Box:
    """The box around all that is marked; empty where nothing is."""
    sides = []
    for axis in range(3):
        present = np.flatnonzero(marked.any(axis=tuple(other for other in range(3) if other != axis)))
        sides.append(slice(int(present[0]), int(present[-1]) + 1) if present.size else slice(0, 0))
    return sides[0], sides[1], sides[2]


def _padded(box: Box, margins: Sequence[int], shape: Sequence[int]) -> Box:
    x, y, z = (
        slice(max(0, side.start - margin), min(size, side.stop + margin))
        for side, margin, size in zip(box, margins, shape, strict=True)
    )
    return x, y, z
