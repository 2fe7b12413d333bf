"""What tells a finding that is lesion from one that is none: its shape, its border, and how sure both networks are.

Most false findings of a network that learnt from few scans are pieces of something larger, a vessel where it branches,
a fold of bowel, part of a hilum or of a liver's dome: long or flat, faint where they end, in cells that Glance finds
hardly suspicious. No rule on one of these tells them; a regression on all does (false_positive_reduction.py).
Arrays are (x, y, z) on the model grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.finding_plan import MEASURES
from gfscreen.scan.boxes import with_margin
from gfscreen.scan.parts import depth_mm
from gfscreen.screening.cells import CellMap, logit_of

# The shell around a finding: no nearer, where the scan's sharpness mixes both, and no further.
SHELL_MM = (1.2, 4.2)
# Of a finding's own voxels these are its rim.
RIM_MM = 1.5
# A voxel around is like the finding's core if it differs by no more than this, or this many standard deviations of it.
ALIKE_HU, ALIKE_SPREADS = 80.0, 2.0
SURE = 0.5
AIR_HU = -500.0
HU_RANGE = (-1000.0, 300.0)
LEAST_PROBABILITY = 1e-3
LARGEST_CELL_LOGIT = 12.0
# Of a larger part of a scan every second, third, ... voxel along each axis is measured: bounded time and memory.
MOST_VOXELS = 1_000_000


@dataclass(frozen=True)
class FindingPart:
    """One finding in the part of the scan around it; arrays (x, y, z) of one shape, with SHELL_MM around the finding.

    finding, any_finding: bool, this one and whatever is one. probability: float32, of Focus. hu: float32. cell_logit:
    float32 (n,), of the cells in which its voxels lie, NaN or -inf where there is none to know of; empty without cells.
    chest: share of its slices that are chest.
    """

    finding: NDArray[np.bool_]
    any_finding: NDArray[np.bool_]
    probability: NDArray[np.float32]
    hu: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    cell_logit: NDArray[np.float32]
    chest: float

    def thinned(self) -> FindingPart:
        """The part with every n-th voxel along each axis, so that at most about MOST_VOXELS are left.

        A finding of which that leaves nothing stays as it is.
        """
        step = int(np.ceil((self.finding.size / MOST_VOXELS) ** (1 / 3)))
        every = (slice(None, None, step),) * 3
        if step < 2 or not self.finding[every].any():
            return self
        x, y, z = (step * mm for mm in self.spacing_mm)
        return replace(
            self,
            finding=self.finding[every],
            any_finding=self.any_finding[every],
            probability=self.probability[every],
            hu=self.hu[every],
            spacing_mm=(x, y, z),
        )


def part_around(box: tuple[slice, ...], spacing_mm: tuple[float, ...]) -> tuple[slice, ...]:
    """A finding's box with room for the shell around it, as far as the scan goes."""
    return with_margin(box, [int(np.ceil(SHELL_MM[1] / mm)) for mm in spacing_mm])


def cells_of_voxels(cells: CellMap | None, places: NDArray[np.intp]) -> NDArray[np.float32]:
    """Logits (n,) of the cells in which model voxels (n, 3) lie; empty without cells."""
    return np.zeros(0, np.float32) if cells is None else np.asarray(cells.at(places), np.float32)


def measures_of(part: FindingPart) -> NDArray[np.float64]:
    """The values of MEASURES, float64 (17,), all finite. Raises ValueError for a part without finding.

    length, flatness: logarithms of how much longer the finding's first principal axis is than its second and third.
    compactness: logarithm of its volume over that of the ellipsoid with these axes. alike_around: share of the shell's
    voxels that are like the finding's core; around: of the shell. Cells that nobody has looked at count as 0.
    """
    volume_ml = float(part.finding.sum()) * float(np.prod(part.spacing_mm)) / 1000.0
    if not volume_ml:
        raise ValueError("no voxel of a finding to measure")
    part = part.thinned()
    finding, spacing_mm = part.finding, part.spacing_mm
    own, hu = part.probability[finding], part.hu[finding]
    inside_mm = depth_mm(finding, spacing_mm)
    outside_mm = ndimage.distance_transform_edt(~finding, sampling=spacing_mm)
    shell = (outside_mm > SHELL_MM[0]) & (outside_mm <= SHELL_MM[1]) & ~part.any_finding
    own_depth_mm = inside_mm[finding]
    core_hu = hu[own_depth_mm >= np.median(own_depth_mm)]
    around_hu = part.hu[shell] if shell.any() else core_hu
    alike_hu = max(ALIKE_HU, ALIKE_SPREADS * float(core_hu.std()))
    length, flatness, compactness = _shape(np.argwhere(finding) * np.asarray(spacing_mm), volume_ml)
    cell_logit = np.nan_to_num(part.cell_logit, nan=0.0).clip(-LARGEST_CELL_LOGIT, LARGEST_CELL_LOGIT)
    values = {
        "peak_logit": _logit(float(own.max())),
        "mean_logit": _logit(float(own.mean(dtype=np.float64))),
        "sure_share": float((own > SURE).mean()),
        "probability_around": float(part.probability[shell].mean(dtype=np.float64)) if shell.any() else 0.0,
        "log10_ml": float(np.log10(volume_ml)),
        "length": length,
        "flatness": flatness,
        "compactness": compactness,
        "mean_hu": float(np.clip(hu.mean(dtype=np.float64), *HU_RANGE)),
        "log_hu_spread": float(np.log(hu.std(dtype=np.float64) + 5.0)),
        "log_edge_hu_per_mm": float(np.log(np.median(_gradient(part.hu, spacing_mm)[_rim(finding, inside_mm)]) + 3.0)),
        "contrast_hu": float(core_hu.mean(dtype=np.float64) - around_hu.mean(dtype=np.float64)),
        "alike_around": float((np.abs(around_hu - core_hu.mean(dtype=np.float64)) < alike_hu).mean()),
        "air_around": float((around_hu < AIR_HU).mean()),
        "cell_logit": float(cell_logit.max(initial=-LARGEST_CELL_LOGIT)) if cell_logit.size else 0.0,
        "mean_cell_logit": float(cell_logit.mean(dtype=np.float64)) if cell_logit.size else 0.0,
        "chest": part.chest,
    }
    return np.array([values[name] for name in MEASURES])


def _logit(value: float) -> float:
    return logit_of(min(max(value, LEAST_PROBABILITY), 1.0 - LEAST_PROBABILITY))


def _rim(finding: NDArray[np.bool_], inside_mm: NDArray[np.float64]) -> NDArray[np.bool_]:
    """The outermost voxels of a finding: all of one that is a voxel thin."""
    rim = finding & (inside_mm <= RIM_MM)
    return rim if rim.any() else finding


def _gradient(hu: NDArray[np.float32], spacing_mm: tuple[float, ...]) -> NDArray[np.float32]:
    """How steep the HU are, in HU/mm; along an axis of one voxel not at all."""
    squares = np.zeros(hu.shape, np.float32)
    for axis, mm in enumerate(spacing_mm):
        if hu.shape[axis] > 1:
            squares += np.gradient(hu, mm, axis=axis) ** 2
    return np.sqrt(squares)


def _shape(places_mm: NDArray[np.float64], volume_ml: float) -> tuple[float, float, float]:
    """Length, flatness and compactness of voxels at (n, 3) mm; a voxel has the extent of a millimetre, at least."""
    spread = np.cov(places_mm.T, bias=True) if len(places_mm) > 1 else np.zeros((3, 3))
    first, second, third = np.sort(np.linalg.eigvalsh(spread + np.eye(3) / 3.0))[::-1]
    # A solid ellipsoid's variance along an axis is a fifth of its half axis squared.
    ellipsoid_ml = 4.0 / 3.0 * np.pi * 5.0**1.5 * float(np.sqrt(first * second * third)) / 1000.0
    length, flatness = 0.5 * float(np.log(first / second)), 0.5 * float(np.log(first / third))
    return length, flatness, float(np.log(volume_ml / ellipsoid_ml))
