"""Where Focus reads when Glance judges cells: sub-volumes that have what is suspicious in their middle.

A grid of sub-volumes opens up to eight of them for one suspicious cell near a corner, and shows Focus a cut lesion in
each. Glance knows the place, so Focus is pointed at it: about half as many reads, and no lesion at a face. Not part of
the published method, whose Glance knows sub-volumes alone.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.region import region_of
from gfscreen.screening.cells import CellMap, body_share, logit_of, probability
from gfscreen.screening.ordinary import AERATED_HU
from gfscreen.screening.windows import Window, centred_starts, within_middle

# The part of a sub-volume, along each axis, in which a suspicious cell counts as looked at.
MIDDLE = 0.8
# The share of a cell that is air within the body, at least, for a small nodule in it to have air around.
LEAST_AIR = 0.25


def pointed(
    cells: CellMap, scan: ModelScan, plan: Plan, grid: Collection[Window], read: Collection[Window]
) -> list[tuple[Window, float]]:
    """Sub-volumes that hold every cell worth a read, with their suspicion, the most suspicious first.

    Worth a read are cells above the plan's gate in which what Focus finds could stay: of those less suspicious than
    `mark_from` only such as hold air, where small nodules stay (ordinary.py). Cells that nobody has looked at yet count
    for nothing, and so do those in the middle of what Focus has `read`. Where fewer of the `grid` hold them all, those
    are taken: a scan that is suspicious all over costs no more than without. Empty where no cell is worth a read.
    """
    places, logits = _worth_a_read(cells, scan, plan)
    size, shape = plan.sub_volume_voxels, scan.grid.shape
    left = np.ones(len(places), bool)
    for window in read:
        left &= ~within_middle(places, window.start, size, shape, MIDDLE)
    places, logits = places[left], logits[left]
    starts = centred_starts(places, _rank(logits), size, shape, most=len(places), middle=MIDDLE, sure=0.0)
    windows = [Window(start, region_of(scan.chest, start[2], size[2])) for start in starts]
    of_grid = [window for window in grid if window not in read and _inside(places, window, size).any()]
    if len(of_grid) < len(windows) and np.any([_inside(places, window, size) for window in of_grid], axis=0).all():
        windows = of_grid
    found = [(window, float(logits[_inside(places, window, size)].max())) for window in windows]
    return [(window, probability(logit)) for window, logit in sorted(found, key=lambda pair: -pair[1])]


def _worth_a_read(cells: CellMap, scan: ModelScan, plan: Plan) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Centres (n, 3) of these cells, in model voxels, and their logits (n,)."""
    worth = (cells.logit > logit_of(plan.gate)) & ~(cells.logit < logit_of(plan.mark_from))
    nearly = (cells.logit > logit_of(plan.gate)) & ~worth
    if nearly.any():
        air = body_share((scan.hu < AERATED_HU) & scan.body, cells)
        worth |= nearly & (air >= LEAST_AIR)
    index = np.argwhere(worth)
    # The last cell along an axis may be centred beyond the scan.
    last = [size - 1 for size in scan.grid.shape]
    centres = [np.rint(cells.centres(axis)).clip(0, last[axis])[index[:, axis]] for axis in range(3)]
    return np.stack(centres, axis=1).astype(np.int32), cells.logit[tuple(index.T)]


def _rank(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logits' order as numbers above 0, equal ones alike."""
    return np.asarray(np.unique(logits, return_inverse=True)[1] + 1.0, np.float32)


def _inside(places: NDArray[np.int32], window: Window, size: tuple[int, ...]) -> NDArray[np.bool_]:
    low = np.array(window.start)
    return np.asarray(((places >= low) & (places < low + np.array(size))).all(axis=1), np.bool_)
