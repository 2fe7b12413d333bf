"""The second look: sub-volumes that have what Focus found in their middle, to be read once more.

The grid of the first reading cuts lesions where it happens to, and near a face a network sees one side of what it
judges. So what Focus is sure of is read again, centred and mirrored: a view that is new to it. Both answers are
averaged like any that overlap. What was a trick of the place mostly falls below the cut; what is lesion gets a better
outline. Not part of the published method.

With the plan's `second_focus` small findings are looked at by another network, in sub-volumes of its own. What two
networks agree on is mostly lesion, and several small sub-volumes take no longer than one large one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.region import region_of
from gfscreen.screening.cells import CellMap, OnModelGrid
from gfscreen.screening.findings import TOUCHING
from gfscreen.screening.ordinary import aerated, may_mark
from gfscreen.screening.windows import Stitcher, Window, centred_starts, within_middle

# A second look goes where Focus found lesion more likely than not.
SURE = 0.5
# The part of a sub-volume, along each axis, that counts as its middle: what lies in it needs no second look of its own.
MIDDLE = 0.6


# So far beyond what Focus has found a close look may raise its probability: it confirms and outlines. Farther away it
# sees large things cut off, and marked many of them.
GROWTH_MM = 2.0
# A finding is small if it takes no more than this part of the second Focus's sub-volume along each axis.
SMALL = 0.4


@dataclass(frozen=True)
class SecondLooks:
    """Sub-volumes around what was found, the surest first.

    close: of the second Focus, around small findings; empty without one. wide: of Focus itself, around all others.
    """

    close: list[Window]
    wide: list[Window]

    def __len__(self) -> int:
        return len(self.close) + len(self.wide)


def second_look(
    scan: OnModelGrid, stitcher: Stitcher, plan: Plan, reads: int, cells: CellMap | None = None
) -> SecondLooks:
    """Where to look again, the surest first: at most the plan's share of `reads`, rounded up.

    Close looks count for less, as their sub-volumes are smaller: all together they take no longer than wide ones alone.
    stitcher: with the answers of the first reading; it is not changed. reads: how many sub-volumes that were. Empty
    where nothing was found, or if the plan's share is 0. cells: what could not stay by these is not looked at. A small
    finding in the middle of a wide look has no close one.
    """
    most = math.ceil(plan.second_look * reads)
    if not most:
        return SecondLooks([], [])
    places, probability = stitcher.above(plan.lesion_threshold)
    if plan.foreground == "body" and scan.body.any():
        inside = scan.body[tuple(places.T)]
        places, probability = places[inside], probability[inside]
    if cells is not None and plan.mark_from > 0:
        stays = cells.of(may_mark(cells, plan.mark_from) | aerated(cells, scan), places)
        places, probability = places[stays], probability[stays]
    size = plan.sub_volume_voxels
    if plan.second_focus is None or not len(places):
        return SecondLooks([], [look for _, look in _around(places, probability, scan, size, most)])
    close_size = plan.second_focus.sub_volume_voxels
    small = _small(places, close_size)
    wide = _around(places[~small], probability[~small], scan, size, most)
    for _, look in wide:
        small &= ~within_middle(places, look.start, size, scan.grid.shape, MIDDLE)
    each = max(1, math.prod(size) // math.prod(close_size))
    close = _around(places[small], probability[small], scan, close_size, each * most)
    # Of close ones `each` take as long as one wide one.
    time, chosen = each * most, SecondLooks([], [])
    everything = [(sure, each, chosen.wide, look) for sure, look in wide]
    everything += [(sure, 1, chosen.close, look) for sure, look in close]
    for _, takes, kind, look in sorted(everything, key=lambda found: -found[0]):
        if takes <= time:
            time -= takes
            kind.append(look)
    return chosen


def confirmed(
    said: NDArray[np.float32], before: NDArray[np.float32], threshold: float, spacing_mm: tuple[float, ...]
) -> NDArray[np.float32]:
    """What a close look has said of a sub-volume (x, y, z), but no more than before far from what was found.

    before: the mean of all earlier answers; what is above the threshold in it was found. Where nothing was, the lower
    of both.
    """
    found = before > threshold
    if not found.any():
        return np.minimum(said, before)
    far = ndimage.distance_transform_edt(~found, sampling=spacing_mm) > GROWTH_MM
    return np.where(far, np.minimum(said, before), said)


def _around(
    places: NDArray[np.int32], probability: NDArray[np.float32], scan: OnModelGrid, size: tuple[int, ...], most: int
) -> list[tuple[float, Window]]:
    """At most `most` sub-volumes of `size` that have the sure ones of the places (n, 3) in their middle.

    Each with the highest probability there.
    """
    shape, looks = scan.grid.shape, []
    for start in centred_starts(places, probability, size, shape, most=most, middle=MIDDLE, sure=SURE):
        sure = float(probability[within_middle(places, start, size, shape, MIDDLE)].max())
        looks.append((sure, Window(start, region_of(scan.chest, start[2], size[2]))))
    return looks


def _small(places: NDArray[np.int32], size: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which of the places (n, 3), at least one, belong to a small finding, bool (n,). size: of a close sub-volume."""
    own = tuple((places - places.min(axis=0)).T)
    found = np.zeros([int(axis.max()) + 1 for axis in own], bool)
    found[own] = True
    numbers, _ = ndimage.label(found, TOUCHING)
    small = [False] + [
        all(side.stop - side.start <= SMALL * n for side, n in zip(box, size, strict=True))
        for box in ndimage.find_objects(numbers)
    ]
    return np.asarray(np.array(small)[numbers[own]], np.bool_)
