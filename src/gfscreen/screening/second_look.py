"""The second look: sub-volumes that have what Focus found in their middle, to be read once more.

The grid of the first reading cuts lesions where it happens to, and near a face a network sees one side of what it
judges. So what Focus is sure of is read again, centred and mirrored: a view that is new to it. Both answers are
averaged like any that overlap. What was a trick of the place mostly falls below the cut; what is lesion gets a better
outline. Not part of the published method.

With the plan's `second_focus` small findings are looked at by another network, in sub-volumes of its own. What two
networks agree on is mostly lesion, and several small sub-volumes take no longer than one large one. With its `wide`
that network looks at large findings as well, beside Focus.

With the plan's `look_from` there are only looks at what may be lesion by the first reading: most findings are pieces of
vessels or bowel, which `finding_model` would drop after a second look as well.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.boxes import lesion_boxes
from gfscreen.scan.region import region_of
from gfscreen.screening.cells import CellMap, OnModelGrid
from gfscreen.screening.false_positive_reduction import judged_findings
from gfscreen.screening.finding_measures import part_around
from gfscreen.screening.findings import TOUCHING, drop_unlikely
from gfscreen.screening.ordinary import aerated, may_mark
from gfscreen.screening.windows import Stitcher, Window, centred_starts, close_per_wide, within_middle

# A second look goes where Focus found lesion more likely than not.
SURE = 0.5
# The part of a sub-volume, along each axis, that counts as its middle: what lies in it needs no second look of its own.
MIDDLE = 0.6
# By so little the surer of two goes first that are worth as much.
LITTLE = 1e-6
# So far beyond what Focus has found a close look may raise its probability: it confirms and outlines. Farther away it
# sees large things cut off, and marked many of them. A wide look sees more of them, and fills what was found in part.
CLOSE_GROWTH_MM, WIDE_GROWTH_MM = 2.0, 15.0
# A finding is small if it takes no more than this part of the second Focus's sub-volume along each axis.
SMALL = 0.4


@dataclass(frozen=True)
class SecondLooks:
    """Sub-volumes around what was found, the surest first.

    close: of the second Focus, around small findings; empty without one. wide: of Focus itself, around all others.
    by_both: the second Focus looks at the wide ones as well.
    """

    close: list[Window]
    wide: list[Window]
    by_both: bool = False

    def __len__(self) -> int:
        return len(self.close) + len(self.wide) * (2 if self.by_both else 1)


def second_look(
    scan: OnModelGrid, stitcher: Stitcher, plan: Plan, reads: float, cells: CellMap | None = None
) -> SecondLooks:
    """Where to look again, the surest first (the likeliest, by `look_from`): at most the plan's share of `reads`.

    Rounded up. Close looks count for less, as their sub-volumes are smaller, and wide ones by both networks twice: all
    together they take no longer than wide ones of Focus alone. stitcher: with the answers of the first reading; it is
    not changed. reads: how many sub-volumes of Focus it took. Empty where nothing was found, or if the plan's share is
    0. cells: what could not stay by these is not looked at. A small finding in the middle of a wide look has no close
    one.
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
    worth: NDArray[np.floating] = probability
    if plan.look_from > 0.0 and len(places):
        worth = _likelihood(places, probability, scan, stitcher, plan, cells)
        hopeful = worth > plan.look_from
        places, probability, worth = places[hopeful], probability[hopeful], worth[hopeful]
    size = plan.sub_volume_voxels
    if plan.second_focus is None or not len(places):
        return SecondLooks([], [look for _, look in _around(places, probability, worth, scan, size, most)])
    close_size = plan.second_focus.sub_volume_voxels
    small = _small(places, close_size)
    wide = _around(places[~small], probability[~small], worth[~small], scan, size, most)
    for _, look in wide:
        small &= ~within_middle(places, look.start, size, scan.grid.shape, MIDDLE)
    each = close_per_wide(plan)
    close = _around(places[small], probability[small], worth[small], scan, close_size, each * most)
    # Of close ones `each` take as long as one wide one.
    time, chosen = each * most, SecondLooks([], [], plan.second_focus.wide)
    everything = [(best, 2 * each if chosen.by_both else each, chosen.wide, look) for best, look in wide]
    everything += [(best, 1, chosen.close, look) for best, look in close]
    for _, takes, kind, look in sorted(everything, key=lambda found: -found[0]):
        if takes <= time:
            time -= takes
            kind.append(look)
    return chosen


def confirmed(
    said: NDArray[np.float32],
    before: NDArray[np.float32],
    threshold: float,
    spacing_mm: tuple[float, ...],
    growth_mm: float,
) -> NDArray[np.float32]:
    """What the second Focus has said of a sub-volume (x, y, z), but no more than before far from what was found.

    before: the mean of all earlier answers; what is above the threshold in it was found. Where nothing was, the lower
    of both; so it is farther than `growth_mm` from all that was.
    """
    found = before > threshold
    if not found.any():
        return np.minimum(said, before)
    far = ndimage.distance_transform_edt(~found, sampling=spacing_mm) > growth_mm
    return np.where(far, np.minimum(said, before), said)


def _likelihood(
    places: NDArray[np.int32],
    probability: NDArray[np.float32],
    scan: OnModelGrid,
    stitcher: Stitcher,
    plan: Plan,
    cells: CellMap | None,
) -> NDArray[np.float64]:
    """How likely the finding at each of the places (n, 3) is to be lesion as far as is known, (n,).

    0 where Focus is not sure of it, or none is known to be.
    """
    # Zeros take no memory until something is written there: only what lies around findings is.
    found = np.zeros(scan.grid.shape, np.float32)
    found[tuple(places.T)] = probability
    drop_unlikely(found, None, threshold=plan.lesion_threshold, peak=SURE)
    for box in lesion_boxes(found > plan.lesion_threshold):
        around = part_around(tuple(slice(*side) for side in box), scan.grid.spacing_mm)
        part = found[around]
        mean = stitcher.at((around[0].start, around[1].start, around[2].start), part.shape)
        np.copyto(part, mean, where=(part == 0.0) & (mean <= plan.lesion_threshold))
    judged = judged_findings(found, scan, cells, plan)
    assert judged is not None
    return judged.of(places)


def _around(
    places: NDArray[np.int32],
    probability: NDArray[np.float32],
    worth: NDArray[np.floating],
    scan: OnModelGrid,
    size: tuple[int, ...],
    most: int,
) -> list[tuple[float, Window]]:
    """At most `most` sub-volumes of `size` that have the sure ones of the places (n, 3) in their middle.

    Those that are worth most, of (n,), and of what is worth as much the surest, each with what is worth most in it.
    """
    shape, looks = scan.grid.shape, []
    # Places that Focus is not sure of belong to what is around others.
    unsure = LITTLE**2
    rank = np.where(probability > SURE, worth + LITTLE * probability, unsure)
    for start in centred_starts(places, rank, size, shape, most=most, middle=MIDDLE, sure=unsure):
        best = float(worth[within_middle(places, start, size, shape, MIDDLE)].max())
        looks.append((best, Window(start, region_of(scan.chest, start[2], size[2]))))
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
