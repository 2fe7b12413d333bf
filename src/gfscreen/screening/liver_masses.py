"""Masses in the liver that Glance is sure of, marked where Focus has not.

In a liver with contrast medium a metastasis is darker than what is around it, and so are vessels without contrast
medium, the gallbladder and the fissures; Glance knows which of them is suspicious. So what is darker than the liver,
thick, round, mostly within it, no fluid, and somewhere as suspicious as the plan asks for becomes a finding, out to
half its contrast. Of no plan that is published. Arrays are (x, y, z) on the model grid.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.finding_plan import LiverMassRule
from gfscreen.scan.boxes import BoxSlices, size_of, with_room, within
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.parts import FACES, depth_mm
from gfscreen.screening.cells import CellMap, logit_between, logit_of, probabilities
from gfscreen.screening.liver import COARSE_MM, Liver, find_liver
from gfscreen.screening.masses import parts_of, suspicious_cells

# So far from parenchyma the middle of a mass may lie.
INSIDE_MM = 21.0
SMOOTH_MM = 1.5
# A voxel of a mass is so much darker than the liver, its median more so; fluid (gallbladder, cysts) is darker still.
DARKER_HU = 12.0
CONTRAST_HU = 20.0
FLUID_HU = 30.0
LEAST_HU = -20.0
# What is not as thick as a ball of this radius is a vessel, a fissure or noise.
RADIUS_MM = 3.0
# A mass is round: the largest ball within its middle has at least this share of the radius of a ball of its volume, or
# a radius of so many mm (several that have grown together). Crescents at the heart, the stomach, the diaphragm are not.
ROUND = 0.5
LARGE_MM = 10.0
# So much of what lies within AROUND_MM of a mass is parenchyma or a coarse voxel beside it.
AROUND_MM = 6.0
IN_LIVER_SHARE = 0.6
# From its middle it reaches so far, to half its contrast, and as far as a cell is not all but sure that there is none.
REACH_MM = 10.0
HALF = 0.5
RIM_HU = 20.0
RIM_LOGIT = -3.0
# What it is marked with where Glance, between the cells, says less.
LEAST_PROBABILITY = 0.5
# So many model voxels are looked at, at most, the most suspicious parts of a scan first: bounded time and memory.
MOST_VOXELS = 12_000_000


def mark_liver_masses(
    focus_probability: NDArray[np.float32], scan: ModelScan, cells: CellMap | None, plan: Plan
) -> int:
    """Raise the probability, in place, to Glance's, to 0.5 at least, where a mass lies; returns how many that were.

    Nothing is done without the plan's `liver_masses`, without cells, where no cell is as suspicious as they ask for,
    and without a liver.

    Args:
        focus_probability: float32 on the model grid of `scan`, without findings that do not stand.
        scan: the scan.
        cells: what Glance said; cells that nobody has looked at hold none.
        plan: with `liver_masses`.

    """
    rule = plan.liver_masses
    if rule is None or cells is None:
        return 0
    found = suspicious_cells(cells, rule)
    liver = find_liver(scan) if found else None
    if liver is None:
        return 0
    region = with_room(liver.box(), INSIDE_MM, scan.grid.spacing_mm, scan.hu.shape)
    count = 0
    for part in parts_of(found, cells, scan, region, AROUND_MM + REACH_MM, MOST_VOXELS):
        logit = logit_between(cells, part)
        mass, number = liver_masses_in(part, logit, scan, liver, rule)
        least = np.maximum(probabilities(logit), LEAST_PROBABILITY)
        np.maximum(focus_probability[part], least, out=focus_probability[part], where=mass)
        count += number
    return count


def liver_masses_in(
    part: BoxSlices, logit: NDArray[np.float32], scan: ModelScan, liver: Liver, rule: LiverMassRule
) -> tuple[NDArray[np.bool_], int]:
    """The masses in a part of a scan, bool (x, y, z), and how many they are. logit: of Glance, float32, same shape."""
    hu, body, spacing_mm = scan.hu[part], scan.body[part], scan.grid.spacing_mm
    smooth = ndimage.gaussian_filter(hu, [SMOOTH_MM / mm for mm in spacing_mm], truncate=3.0)
    dark = (smooth < liver.hu - DARKER_HU) & (smooth > LEAST_HU) & (logit > logit_of(rule.mark_from)) & body
    dark &= liver.near(part, round(INSIDE_MM / COARSE_MM))
    beside = liver.near(part, 1)
    mass, count = np.zeros(hu.shape, bool), 0
    for middle, box in _middles(dark, logit, spacing_mm, rule):
        if not _round(middle, spacing_mm):
            continue
        median = float(np.median(smooth[box][middle]))
        far_mm = ndimage.distance_transform_edt(~middle, sampling=spacing_mm)
        around = beside[box][(far_mm > 0) & (far_mm <= AROUND_MM)]
        if median < FLUID_HU or liver.hu - median < CONTRAST_HU:
            continue
        if np.count_nonzero(around) < IN_LIVER_SHARE * max(1, around.size):
            continue
        edge = liver.hu - HALF * (liver.hu - median)
        reach = (smooth[box] < edge) & (smooth[box] > RIM_HU) & (logit[box] > RIM_LOGIT) & body[box]
        reach &= far_mm <= REACH_MM
        reach = ndimage.binary_opening(reach, FACES)
        mass[box] |= ndimage.binary_propagation(middle & reach, FACES, mask=reach)
        count += 1
    return mass, count


def _middles(
    dark: NDArray[np.bool_], logit: NDArray[np.float32], spacing_mm: tuple[float, ...], rule: LiverMassRule
) -> Iterator[tuple[NDArray[np.bool_], BoxSlices]]:
    """What is dark, thick, large and somewhere suspicious enough: its voxels in a box with room around, and the box."""
    # What is thick is looked for only in what may be one: distances cost more than all else.
    for loose, outer in _suspicious(dark, logit, spacing_mm, rule):
        for own, inner in _suspicious(_thick(loose, spacing_mm), logit[outer], spacing_mm, rule):
            place = within(outer, inner)
            box = with_room(place, max(AROUND_MM, REACH_MM), spacing_mm, dark.shape)
            middle = np.zeros(size_of(box), bool)
            middle[tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(place, box, strict=True))] = own
            yield middle, box


def _suspicious(
    mask: NDArray[np.bool_], logit: NDArray[np.float32], spacing_mm: tuple[float, ...], rule: LiverMassRule
) -> Iterator[tuple[NDArray[np.bool_], BoxSlices]]:
    """The parts of a mask that are as large and somewhere as suspicious as a mass: each one's voxels in its box."""
    numbers, _ = ndimage.label(mask, FACES)
    large = np.bincount(numbers.ravel()) >= rule.least_ml * 1000.0 / float(np.prod(spacing_mm))
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        own = numbers[box] == number
        if large[number] and logit[box][own].max() >= logit_of(rule.peak):
            yield own, box


def _thick(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.bool_]:
    """What a ball of RADIUS_MM within the mask reaches; beyond the array lies nothing of it."""
    deep_mm = depth_mm(mask, spacing_mm)
    thick: NDArray[np.bool_] = deep_mm > RADIUS_MM
    if thick.any():
        thick = mask & (ndimage.distance_transform_edt(~thick, sampling=spacing_mm) <= RADIUS_MM)
    return thick


def _round(middle: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> bool:
    """Whether a middle is round enough for a mass, or large. Where the scan ends it ends."""
    inner_mm = float(depth_mm(middle, spacing_mm).max())
    volume_mm3 = np.count_nonzero(middle) * float(np.prod(spacing_mm))
    return inner_mm >= min(LARGE_MM, ROUND * (3.0 * volume_mm3 / (4.0 * np.pi)) ** (1.0 / 3.0))
