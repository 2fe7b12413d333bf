"""Masses at the lung that Glance is sure of, marked where Focus has not.

Glance's trunk has seen ninety thousand CTs, Focus has learnt from a few scans: what fills a part of a lung Glance finds
suspicious through and through, and Focus takes it for chest wall or mediastinum. So what hangs together as soft tissue
where Glance is sure, is large, and lies at the lung becomes a finding of its own, from its sure middle out to where the
lung or a less suspicious place begins. Elsewhere in the body Glance is sure of too much that is none (bladder, muscle,
gallbladder), so nothing is marked there; for the liver `liver_masses` asks otherwise. Of no plan that is published.
Arrays are (x, y, z) on the model grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.finding_plan import MassRule
from gfscreen.scan.boxes import BoxSlices, apart, common, size_of, with_room, within
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.parts import FACES
from gfscreen.screening.cells import CellMap, logit_between, logit_of, probabilities
from gfscreen.screening.findings import TOUCHING

# HU of a mass, smoothed so that noise does not tear it: below lies fat, above most contrast medium and bone.
SOFT_HU = (-20.0, 100.0)
SMOOTH_MM = 1.0
# A mass lies at the lung if so much of its middle is no farther than this from air of the lung.
LUNG_MM = 5.0
AT_LUNG_SHARE = 0.05
LUNG_AIR_HU = -500.0
# Nothing of it is looked for farther than this from the box that holds both lungs.
BESIDE_LUNGS_MM = 40.0
# From its middle a mass reaches so far, through what is denser than lung and softer than bone, and likelier lesion than
# not.
REACH_MM = 6.0
RIM_HU = (-300.0, 130.0)
# So many model voxels are looked at, at most, the most suspicious parts of a scan first: bounded time and memory.
MOST_VOXELS = 25_000_000


def mark_masses(focus_probability: NDArray[np.float32], scan: ModelScan, cells: CellMap | None, plan: Plan) -> int:
    """Raise the probability, in place, to Glance's where a mass lies; returns how many masses that were.

    Nothing is done without the plan's `masses`, without cells, and where no cell is as suspicious as they ask for.

    Args:
        focus_probability: float32 on the model grid of `scan`, without findings that do not stand.
        scan: the scan.
        cells: what Glance said; cells that nobody has looked at hold none.
        plan: with `masses`.

    """
    if plan.masses is None or cells is None:
        return 0
    found = suspicious_cells(cells, plan.masses)
    # Only where some cell is suspicious enough the lungs are looked for, over the whole scan.
    region = _beside_lungs(scan) if found else None
    if region is None:
        return 0
    count = 0
    for part in parts_of(found, cells, scan, region, REACH_MM, MOST_VOXELS):
        logit = logit_between(cells, part)
        mass, number = masses_in(part, logit, scan, plan.masses)
        np.maximum(focus_probability[part], probabilities(logit), out=focus_probability[part], where=mass)
        count += number
    return count


def masses_in(
    part: BoxSlices, logit: NDArray[np.float32], scan: ModelScan, rule: MassRule
) -> tuple[NDArray[np.bool_], int]:
    """The masses in a part of a scan, bool (x, y, z), and how many they are. logit: of Glance, float32, same shape."""
    hu, body, spacing_mm = scan.hu[part], scan.body[part], scan.grid.spacing_mm
    smooth = ndimage.gaussian_filter(hu, [SMOOTH_MM / mm for mm in spacing_mm], truncate=3.0)
    # Strands that do not hold a voxel with its six neighbours, vessels and fissures, are no part of a middle.
    middle = (logit > logit_of(rule.mark_from)) & (smooth > SOFT_HU[0]) & (smooth < SOFT_HU[1]) & body
    numbers, _ = ndimage.label(ndimage.binary_opening(middle, FACES), TOUCHING)
    large = np.bincount(numbers.ravel()) >= rule.least_ml * 1000.0 / float(np.prod(spacing_mm))
    mass, count = np.zeros(hu.shape, bool), 0
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if not large[number]:
            continue
        own = numbers[box] == number
        if logit[box][own].max() >= logit_of(rule.peak) and _at_lung(own, within(part, box), scan):
            mass[box] |= own
            count += 1
    for box in ndimage.find_objects(mass.view(np.uint8)):
        near = with_room(box, REACH_MM, spacing_mm, mass.shape)
        may_grow = (hu[near] > RIM_HU[0]) & (smooth[near] < RIM_HU[1]) & (logit[near] > 0.0) & body[near]
        mass[near] = _grown(mass[near], may_grow | mass[near], spacing_mm)
    return mass, count


def suspicious_cells(cells: CellMap, rule: MassRule) -> list[tuple[slice, ...]]:
    """Boxes of cells that may hold masses: as suspicious as their middle asks for, and one beside it."""
    logit = _known(cells)
    # Logits are interpolated between a cell that is as suspicious as is asked for and the next.
    numbers, _ = ndimage.label(ndimage.binary_dilation(logit > logit_of(rule.mark_from), TOUCHING), TOUCHING)
    return [box for box in ndimage.find_objects(numbers) if logit[box].max() >= logit_of(rule.peak)]


def parts_of(
    found: Iterable[tuple[slice, ...]],
    cells: CellMap,
    scan: ModelScan,
    region: BoxSlices,
    room_mm: float,
    most_voxels: int,
) -> Iterator[BoxSlices]:
    """The parts of a scan in which cells lie, with room around, none touching another, the most suspicious first.

    Only what lies in `region`, and no more than so many voxels.
    """
    shape, logit = scan.hu.shape, _known(cells)
    parts = []
    for box in found:
        first = (math.floor(side.start * step) for side, step in zip(box, cells.cell_voxels, strict=True))
        last = (math.ceil((side.stop - 1) * step) for side, step in zip(box, cells.cell_voxels, strict=True))
        voxels = tuple(slice(low, high + 1) for low, high in zip(first, last, strict=True))
        if (part := common(with_room(voxels, room_mm, scan.grid.spacing_mm, shape), region)) is not None:
            parts.append(part)

    def highest(part: BoxSlices) -> float:
        start = tuple(side.start for side in part)
        return float(logit[cells.within(start, size_of(part))].max(initial=-math.inf))

    for part in sorted(apart(parts), key=highest, reverse=True):
        most_voxels -= math.prod(size_of(part))
        if most_voxels < 0:
            return
        yield part


def _known(cells: CellMap) -> NDArray[np.float32]:
    """Logits of cells; -inf where nobody has looked."""
    return np.nan_to_num(cells.logit, nan=-math.inf, neginf=-math.inf)


def _beside_lungs(scan: ModelScan) -> BoxSlices | None:
    """The box that holds both lungs, with room; None without lungs."""
    shape = scan.hu.shape
    lungs = ndimage.find_objects(scan.lungs_in(tuple(slice(0, n) for n in shape)).view(np.uint8))
    return with_room(lungs[0], BESIDE_LUNGS_MM, scan.grid.spacing_mm, shape) if lungs else None


def _at_lung(mass: NDArray[np.bool_], box: BoxSlices, scan: ModelScan) -> bool:
    """Whether enough of a mass, bool (x, y, z) in its box of the scan, lies at the lung."""
    around = with_room(box, LUNG_MM, scan.grid.spacing_mm, scan.hu.shape)
    inner = tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True))
    air = (scan.hu[around] < LUNG_AIR_HU) & scan.lungs_in(around)
    if not air.any():
        return False
    near = ndimage.distance_transform_edt(~air, sampling=scan.grid.spacing_mm)[inner] <= LUNG_MM
    return bool(near[mass].mean() >= AT_LUNG_SHARE)


def _grown(mass: NDArray[np.bool_], may_grow: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """A mass and what can be reached from it within REACH_MM through where it may grow, bool (x, y, z)."""
    step_mm = min(spacing_mm)
    for number in range(1, int(REACH_MM / step_mm) + 1):
        # Along an axis of longer voxels only every so many steps.
        along = [math.floor(number * step_mm / mm) > math.floor((number - 1) * step_mm / mm) for mm in spacing_mm]
        reach = FACES.copy()
        for axis, goes in enumerate(along):
            if not goes:
                reach &= np.arange(3).reshape([3 if axis == other else 1 for other in range(3)]) == 1
        mass = ndimage.binary_dilation(mass, reach, mask=may_grow)
    return mass
