"""The second look: sub-volumes that have what Focus found in their middle, to be read once more.

The grid of the first reading cuts lesions where it happens to, and near a face a network sees one side of what it
judges. So what Focus is sure of is read again, centred and mirrored: a view that is new to it. Both answers are
averaged like any that overlap. What was a trick of the place mostly falls below the cut; what is lesion gets a better
outline. Not part of the published method.
"""

from __future__ import annotations

import math

from gfscreen.config import Plan
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.region import region_of
from gfscreen.screening.cells import CellMap
from gfscreen.screening.ordinary import aerated, may_mark
from gfscreen.screening.windows import Stitcher, Window, centred_starts

# A second look goes where Focus found lesion more likely than not.
SURE = 0.5
# The part of a sub-volume, along each axis, that counts as its middle: what lies in it needs no second look of its own.
MIDDLE = 0.6


def second_look(
    scan: ModelScan, stitcher: Stitcher, plan: Plan, reads: int, cells: CellMap | None = None
) -> list[Window]:
    """Sub-volumes around what was found, the surest first; at most the plan's share of `reads`, rounded up.

    stitcher: with the answers of the first reading; it is not changed. reads: how many sub-volumes that were. Empty
    where nothing was found, or if the plan's share is 0. cells: what could not stay by these is not looked at.
    """
    most = math.ceil(plan.second_look * reads)
    if not most:
        return []
    places, probability = stitcher.above(plan.lesion_threshold)
    if plan.foreground == "body" and scan.body.any():
        inside = scan.body[tuple(places.T)]
        places, probability = places[inside], probability[inside]
    if cells is not None and plan.mark_from > 0:
        stays = cells.of(may_mark(cells, plan.mark_from) | aerated(cells, scan), places)
        places, probability = places[stays], probability[stays]
    size = plan.sub_volume_voxels
    starts = centred_starts(places, probability, size, scan.grid.shape, most=most, middle=MIDDLE, sure=SURE)
    return [Window(start, region_of(scan.chest, start[2], size[2])) for start in starts]
