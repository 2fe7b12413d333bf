"""The lesions of a mask: its 26-connected parts, numbered from the largest on. Whatever counts lesions takes them here.

So statistics, instance maps and DICOM SEG speak of the same lesion by the same number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.errors import OutputError
from gfscreen.scan.boxes import BoxSlices, apart, lesion_boxes
from gfscreen.scan.volume import Geometry
from gfscreen.scan.volume.ras import ras_view_of
from gfscreen.screening.findings import TOUCHING

# Instance maps hold uint16, and DICOM numbers segments in 16 bits.
MOST_LESIONS = 2**16 - 1


@dataclass(frozen=True)
class Part:
    """A lesion: its number, its first voxel in the RAS view, and which voxels of its box belong to it (x, y, z)."""

    id: int
    start: NDArray[np.intp]
    inside: NDArray[np.bool_]

    @property
    def stop(self) -> NDArray[np.intp]:
        """Behind its last voxel along each axis."""
        return self.start + self.inside.shape


def parts_of(mask: NDArray[np.generic], geometry: Geometry) -> Iterator[Part]:
    """The lesions of a mask (i, j, k), whatever is above 0, in the order of their numbers; none if it is empty."""
    groups, _ = _numbered(mask, geometry)
    boxes = [(group, number, box) for group in groups for number, box in _boxes(group.numbers)]
    for group, number, box in sorted(boxes, key=lambda found: found[1]):
        start = np.array([side.start + part.start for side, part in zip(group.box, box, strict=True)], np.intp)
        yield Part(number, start, group.numbers[box] == number)


def instance_map(mask: NDArray[np.generic], geometry: Geometry, target: Path) -> NDArray[np.uint16]:
    """Number of the lesion that each voxel of a mask (i, j, k) belongs to, uint16 (i, j, k); 0 is background.

    Whatever is above 0 is lesion; an empty mask gives an empty map. Raises OutputError, which names `target`, the file
    that the map is for, for more lesions than uint16 holds.
    """
    groups, count = _numbered(mask, geometry)
    if count > MOST_LESIONS:
        raise OutputError(
            f"{target}: cannot be written, the mask has {count} lesions, an instance map or a SEG holds at most "
            f"{MOST_LESIONS}; raise the plan's min_finding_ml, or go without"
        )
    instances = np.zeros(mask.shape, np.uint16, order="F")
    view = ras_view_of(instances, geometry)
    for group in groups:
        view[group.box] = group.numbers
    return instances


@dataclass(frozen=True)
class _Group:
    """Lesions that lie close together: their box in the RAS view, and their numbers in it, int32 (x, y, z)."""

    box: BoxSlices
    numbers: NDArray[np.int32]


def _boxes(numbers: NDArray[np.int32]) -> Iterator[tuple[int, BoxSlices]]:
    """Each number of a group, and its box in that of the group."""
    present = np.unique(numbers[numbers > 0])
    # Numbers run over all groups; boxes are found for those that this one has.
    dense = np.zeros(int(present[-1]) + 1, np.int32)
    dense[present] = np.arange(1, len(present) + 1)
    yield from zip(present.tolist(), ndimage.find_objects(dense[numbers]), strict=True)


def _numbered(mask: NDArray[np.generic], geometry: Geometry) -> tuple[list[_Group], int]:
    """Groups of lesions, numbered, and how many lesions there are.

    1 is the largest; equal ones from left to right, back to front, feet to head, by their first voxel. Only the boxes
    of groups are labelled: two small lesions at the ends of a scan do not cost all between.
    """
    marked: NDArray[np.bool_] = ras_view_of(np.greater(mask, 0), geometry).astype(bool, copy=False)
    groups, voxels, first = [], [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for box in apart((slice(*x), slice(*y), slice(*z)) for x, y, z in lesion_boxes(marked)):
        labels, count = ndimage.label(np.ascontiguousarray(marked[box]), TOUCHING)
        places = np.flatnonzero(labels)
        found = labels.ravel()[places]
        # Labels count from 1 in the order of their first voxels.
        begins = np.unravel_index(places[np.unique(found, return_index=True)[1]], labels.shape)
        in_scan = tuple(at + side.start for at, side in zip(begins, box, strict=True))
        first.append(np.ravel_multi_index(in_scan, marked.shape))
        voxels.append(np.bincount(found, minlength=count + 1)[1:])
        groups.append(_Group(box, labels))
    order = np.lexsort((np.concatenate(first), -np.concatenate(voxels)))
    number = np.empty(len(order), np.int32)
    number[order] = np.arange(1, len(order) + 1)
    done = 0
    for group, sizes in zip(groups, voxels[1:], strict=True):
        inside = group.numbers > 0
        group.numbers[inside] = number[done + group.numbers[inside] - 1]
        done += len(sizes)
    return groups, len(order)
