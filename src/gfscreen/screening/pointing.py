"""Where Focus reads when Glance judges cells: sub-volumes that have what is suspicious in their middle.

A grid of sub-volumes opens up to eight of them for one suspicious cell near a corner, and shows Focus a cut lesion in
each. Glance knows the place, so Focus is pointed at it: about half as many reads, and no lesion at a face. Not part of
the published method, whose Glance knows sub-volumes alone.

If the plan's second Focus `reads`, it reads in Focus's place what so few of its smaller sub-volumes hold that they take
no longer: most of what is suspicious in an abdomen are single cells.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.region import region_of
from gfscreen.screening.cells import CellMap, logit_of, probability
from gfscreen.screening.ordinary import aerated
from gfscreen.screening.windows import Window, centred_starts, close_per_wide, size_of, within_middle

# The part of a sub-volume, along each axis, in which a suspicious cell counts as looked at.
MIDDLE = 0.8


def pointed(
    cells: CellMap,
    scan: ModelScan,
    plan: Plan,
    grid: Collection[Window],
    read: Collection[Window],
    suspicious: Mapping[Window, float] | None = None,
) -> list[tuple[Window, float]]:
    """Sub-volumes that hold every cell worth a read, with their suspicion, the most suspicious first.

    Worth a read are cells above the plan's gate in which what Focus finds could stay: of those less suspicious than
    `mark_from` only such as hold air, where small nodules stay (ordinary.py). Cells that nobody has looked at yet count
    for nothing, and so do those in the middle of what Focus has `read`. Where fewer of the `grid` hold them all, those
    are taken: a scan that is suspicious all over costs no more than without. Empty where no cell is worth a read.

    suspicious: of a Glance that judges sub-volumes beside the cells, those above the gate with their probability: the
    cells in them are above it, as suspicious as the most suspicious that holds them, and a cell that nobody has looked
    at is worth a read.
    """
    size, shape = plan.sub_volume_voxels, scan.grid.shape
    above = cells.logit > logit_of(plan.gate) if suspicious is None else ~np.isneginf(cells.logit)
    index = np.argwhere(_worth_a_read(above, cells, scan, plan))
    # The last cell along an axis may be centred beyond the scan.
    centres = [np.rint(cells.centres(axis)).clip(0, shape[axis] - 1)[index[:, axis]] for axis in range(3)]
    places, logits = np.stack(centres, axis=1).astype(np.int32), cells.logit[tuple(index.T)]
    said = logits if suspicious is None else _highest(places, suspicious, size)
    left = np.ones(len(places), bool) if suspicious is None else said > 0
    for window in read:
        left &= ~within_middle(places, window.start, size_of(window, plan), shape, MIDDLE)
    places, said, logits = places[left], said[left], logits[left]
    order = _rank(said, logits)
    starts = centred_starts(places, order, size, shape, most=len(places), middle=MIDDLE, sure=0.0)
    windows = [Window(start, region_of(scan.chest, start[2], size[2])) for start in starts]
    of_grid = [window for window in grid if window not in read and _inside(places, window, size).any()]
    if len(of_grid) < len(windows) and np.any([_inside(places, window, size) for window in of_grid], axis=0).all():
        windows = of_grid
    if plan.second_focus is not None and plan.second_focus.reads:
        windows = _closer(windows, places, order, scan, plan)
    found = []
    for window in windows:
        own = _inside(places, window, size_of(window, plan))
        found.append((float(order[own].max()), float(said[own].max()), window))
    found.sort(key=lambda read: -read[0])
    return [(window, probability(most) if suspicious is None else most) for _, most, window in found]


def _closer(
    windows: Collection[Window], places: NDArray[np.int32], order: NDArray[np.float32], scan: ModelScan, plan: Plan
) -> list[Window]:
    """The windows, but in place of each what takes no longer: close ones that hold all of its cells in their middle.

    places (n, 3) with their order (n,): of the cells. What an earlier window holds, later ones need not.
    """
    size, close_size, shape = plan.sub_volume_voxels, plan.of_second_focus.sub_volume_voxels, scan.grid.shape
    left = np.ones(len(places), bool)
    found: list[Window] = []
    for window in windows:
        own = left & _inside(places, window, size)
        left &= ~own
        starts = centred_starts(
            places[own], order[own], close_size, shape, most=int(own.sum()), middle=MIDDLE, sure=0.0
        )
        if len(starts) > close_per_wide(plan):
            found.append(window)
        else:
            found += [Window(start, region_of(scan.chest, start[2], close_size[2]), close=True) for start in starts]
    # At the scan's border two may have come to lie on each other.
    return list(dict.fromkeys(found))


def _worth_a_read(above: NDArray[np.bool_], cells: CellMap, scan: ModelScan, plan: Plan) -> NDArray[np.bool_]:
    """Those of the cells above the gate, bool (x, y, z), in which what Focus finds could stay."""
    worth = above & ~(cells.logit < logit_of(plan.mark_from))
    nearly = above & ~worth
    if nearly.any():
        worth |= nearly & aerated(cells, scan)
    return worth


def _highest(
    places: NDArray[np.int32], suspicious: Mapping[Window, float], size: tuple[int, ...]
) -> NDArray[np.float32]:
    """The highest probability of the sub-volumes that hold a place, float32 (n,); 0 where none does."""
    highest = np.zeros(len(places), np.float32)
    for window, said in suspicious.items():
        inside = _inside(places, window, size)
        highest[inside] = np.maximum(highest[inside], said)
    return highest


def _rank(suspicion: NDArray[np.float32], logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """The order of cells (n,) by suspicion, then by their own logits, as numbers above 0, equal ones alike."""
    pairs = np.stack([suspicion, np.nan_to_num(logits, nan=0.0)], axis=1)
    return np.asarray(np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1) + 1.0, np.float32)


def _inside(places: NDArray[np.int32], window: Window, size: tuple[int, ...]) -> NDArray[np.bool_]:
    low = np.array(window.start)
    return np.asarray(((places >= low) & (places < low + np.array(size))).all(axis=1), np.bool_)
