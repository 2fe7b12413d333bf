"""Findings that are nothing but fluid are dropped: gallbladder, cyst, urinary bladder, bowel, effusion.

Networks that learnt from few scans take what is round and dark for a lesion. Radiologists tell simple fluid by its
density, that of water, and by its evenness: ACR's white papers on incidental findings (Berland et al. 2010, J Am Coll
Radiol 7:754) leave alone what is homogeneous and of at most 20 HU. A tumour may be as dark on the whole, by its
necrosis or by mucus, but is uneven then. So both are asked, of what lies inside a finding; a noisy scan looks uneven
and loses nothing. Not part of the published method. Arrays are (x, y, z) on the model grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.finding_plan import FluidRule
from gfscreen.scan.boxes import apart, lesion_boxes
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.parts import depth_mm
from gfscreen.screening.findings import TOUCHING

# What lies deeper than this in a finding is looked at, or than half of its thickest place: at its rim densities mix.
INSIDE_MM = 3.0
# Noise is smoothed by a Gaussian of this width, within the finding alone.
SMOOTH_MM = 2.0
# By its median so far out of bounds, it is out of them inside as well: distances cost more than all else.
FAR_HU = 40.0


def drop_fluid(focus_probability: NDArray[np.float32], scan: ModelScan, plan: Plan) -> int:
    """Set the probability of findings that are nothing but fluid to 0, in place; returns how many there were.

    Nothing is done without the plan's `fluid`, or without a finding.

    Args:
        focus_probability: float32 on the model grid of `scan`, with all that is to be marked.
        scan: the scan.
        plan: with `fluid` and `lesion_threshold`.

    """
    rule = plan.fluid
    if rule is None:
        return 0
    dropped = 0
    lesion = focus_probability > plan.lesion_threshold
    for around in apart((slice(*x), slice(*y), slice(*z)) for x, y, z in lesion_boxes(lesion)):
        numbers, _ = ndimage.label(lesion[around], TOUCHING)
        for number, box in enumerate(ndimage.find_objects(numbers), start=1):
            finding = numbers[box] == number
            if is_fluid(finding, scan.hu[around][box], scan.grid.spacing_mm, rule):
                focus_probability[around][box][finding] = 0.0
                dropped += 1
    return dropped


def is_fluid(
    finding: NDArray[np.bool_], hu: NDArray[np.float32], spacing_mm: tuple[float, ...], rule: FluidRule
) -> bool:
    """Whether a finding of at least one voxel, bool in its own box, is fluid by its density and its evenness there."""
    if np.count_nonzero(finding) * float(np.prod(spacing_mm)) / 1000.0 < rule.least_ml:
        return False
    if not rule.lowest_hu - FAR_HU <= float(np.median(hu[finding])) <= rule.highest_hu + FAR_HU:
        return False
    deep_mm = depth_mm(finding, spacing_mm)
    inside = deep_mm > min(INSIDE_MM, float(deep_mm.max()) / 2.0)
    values = _smooth(hu, inside, spacing_mm)
    return rule.lowest_hu <= float(np.median(values)) <= rule.highest_hu and float(values.std()) <= rule.spread_hu


def _smooth(hu: NDArray[np.float32], inside: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """HU (n,) at the voxels inside, each the mean of those inside around it, by a Gaussian's weights."""
    sigma = [SMOOTH_MM / mm for mm in spacing_mm]
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, mode="constant")
    total = ndimage.gaussian_filter(np.where(inside, hu, np.float32(0.0)), sigma, mode="constant")
    return np.asarray(total[inside] / weight[inside], np.float64)
