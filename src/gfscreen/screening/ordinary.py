"""Where Focus may mark: not in places that Glance, which has seen many more scans, finds ordinary.

Focus may mark in cells whose Glance probability reaches the plan's `mark_from`, and in those that touch such a cell and
are nearly as suspicious, so that the border of a lesion is not cut off with the cell that holds its middle. Between the
cells' centres logits are interpolated, so that no mask has the corners of cells. One thing Focus knows better: a small
nodule with air around it, a tenth of a cell, stays wherever it is. Of no plan that is published.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.boxes import with_margin
from gfscreen.scan.grid import ModelScan
from gfscreen.screening.cells import CellMap, OnModelGrid, between_centres, body_share, logit_of
from gfscreen.screening.findings import TOUCHING

# How much less suspicious, in logits, a cell may be that touches one from which Focus may mark.
NEIGHBOUR_LOGIT = 1.5
# A nodule that stays wherever it is: at most so large, and of the voxels around it this share at least is air.
NODULE_ML = 0.5
AERATED_HU = -500.0
AERATED_SHARE = 0.6
# "Around it": two voxels in a slice, one beyond its first and last; and one more that is not.
NODULE_RIM_VOXELS = (3, 3, 1)
# The share of a cell that is air within the body, at least, for a small nodule in it to have air around.
LEAST_AIR = 0.25


def may_mark(cells: CellMap, mark_from: float) -> NDArray[np.bool_]:
    """The cells (x, y, z) in which Focus may mark; all at `mark_from` 0.

    Cells that nobody has looked at are among them: nothing is known against them.
    """
    if mark_from <= 0:
        return np.ones(cells.logit.shape, bool)
    least = logit_of(mark_from)
    suspicious = ~(cells.logit < least)
    nearly = ~(cells.logit < least - NEIGHBOUR_LOGIT)
    marked: NDArray[np.bool_] = suspicious | (ndimage.binary_dilation(suspicious, TOUCHING) & nearly)
    return marked


def marked_planes(
    cells: CellMap, shape: tuple[int, ...], mark_from: float, planes: Iterable[int]
) -> Iterator[NDArray[np.bool_]]:
    """Where Focus may mark in some planes x of the model grid of `shape`, bool (y, z) each; `mark_from` above 0.

    At the cells' centres it is what `may_mark` says. Planes of x are those that lie together in memory.
    """
    least = logit_of(mark_from)
    # What nobody has looked at counts as suspicious. Far from the least that is asked for, one logit is as good as the
    # next: the most suspicious cell must not open up what lies around it.
    most = 2.0 * NEIGHBOUR_LOGIT
    logit = np.clip(np.nan_to_num(cells.logit - np.float32(least), nan=most), -most, most)
    near = ndimage.binary_dilation(~(cells.logit < least), TOUCHING)
    x, y, z = (between_centres(cells, axis, range(size)) for axis, size in enumerate(shape))
    i, j, k = (cells.index_of(np.arange(size), axis) for axis, size in enumerate(shape))
    for number in planes:
        here = y @ np.tensordot(x[number], logit, axes=1) @ z.T
        yield (here >= -NEIGHBOUR_LOGIT) & near[i[number]][np.ix_(j, k)]


def aerated(cells: CellMap, scan: OnModelGrid) -> NDArray[np.bool_]:
    """The cells (x, y, z) with so much air that a small nodule in them may stay."""
    share = body_share((scan.hu < AERATED_HU) & scan.body, cells)
    return np.asarray(share >= LEAST_AIR, np.bool_)


def clear_ordinary(focus_probability: NDArray[np.float32], scan: ModelScan, cells: CellMap, plan: Plan) -> None:
    """Set Focus's probability (x, y, z) to 0, in place, where it may not mark. At `mark_from` 0 nothing is done.

    Args:
        focus_probability: float32 on the model grid of `scan`.
        scan: the scan, whose HU tell air.
        cells: what Glance said.
        plan: with `mark_from` and `lesion_threshold`, above which a nodule is one.

    """
    if plan.mark_from <= 0:
        return
    nodules = nodules_in_air(focus_probability > plan.lesion_threshold, scan)
    read = np.flatnonzero(focus_probability.any(axis=(1, 2)))
    for x, here in zip(read, marked_planes(cells, focus_probability.shape, plan.mark_from, read), strict=True):
        focus_probability[x][~(here | nodules[x])] = 0.0


def nodules_in_air(found: NDArray[np.bool_], scan: ModelScan) -> NDArray[np.bool_]:
    """Those connected parts of what was found, bool (x, y, z), that are small and mostly surrounded by air."""
    nodules = np.zeros(found.shape, bool)
    everything = ndimage.find_objects(found.view(np.uint8))
    if not everything:
        return nodules
    # The part that holds them all with what lies around them.
    part = with_margin(everything[0], NODULE_RIM_VOXELS)
    hu, stays = scan.hu[part], nodules[part]
    numbers, count = ndimage.label(found[part], TOUCHING)
    largest = NODULE_ML * 1000.0 / float(np.prod(scan.grid.spacing_mm))
    sizes = np.bincount(numbers[found[part]], minlength=count + 1)
    rim_in_slice, rim_beyond = np.ones((5, 5, 1), bool), TOUCHING
    for number, box in enumerate(ndimage.find_objects(numbers), start=1):
        if sizes[number] > largest:
            continue
        around = with_margin(box, NODULE_RIM_VOXELS)
        nodule = numbers[around] == number
        rim = ndimage.binary_dilation(nodule, rim_in_slice) | ndimage.binary_dilation(nodule, rim_beyond)
        rim &= ~nodule
        if rim.any() and np.mean(hu[around][rim] < AERATED_HU) > AERATED_SHARE:
            stays[around] |= nodule
    return nodules
