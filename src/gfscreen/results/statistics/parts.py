"""The lesions of a mask: its 26-connected parts, numbered from the largest on. Whatever counts lesions takes them here.

So statistics, instance maps and DICOM SEG speak of the same lesion by the same number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.errors import OutputError
from gfscreen.scan.volume import Geometry
from gfscreen.scan.volume.ras import ras_view_of

# Instance maps hold uint16, and DICOM numbers segments in 16 bits.
MOST_LESIONS = 2**16 - 1
# Voxels of one lesion touch by face, edge or corner.
_TOUCHING = np.ones((3, 3, 3), bool)


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
    numbered = _numbered(mask, geometry)
    if numbered is None:
        return
    offset, labels, _ = numbered
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        yield Part(number, offset + [side.start for side in box], labels[box] == number)


def instance_map(mask: NDArray[np.generic], geometry: Geometry) -> NDArray[np.uint16]:
    """Number of the lesion that each voxel of a mask (i, j, k) belongs to, uint16 (i, j, k); 0 is background.

    Whatever is above 0 is lesion; an empty mask gives an empty map. Raises OutputError for more lesions than uint16
    holds.
    """
    instances = np.zeros(mask.shape, np.uint16, order="F")
    numbered = _numbered(mask, geometry)
    if numbered is None:
        return instances
    offset, labels, count = numbered
    if count > MOST_LESIONS:
        raise OutputError(
            f"the mask has {count} lesions, an instance map or a SEG holds at most {MOST_LESIONS}; "
            "raise the plan's min_finding_ml, or go without"
        )
    box = tuple(slice(int(low), int(low) + size) for low, size in zip(offset, labels.shape, strict=True))
    ras_view_of(instances, geometry)[box] = labels
    return instances


def _numbered(mask: NDArray[np.generic], geometry: Geometry) -> tuple[NDArray[np.intp], NDArray[np.int32], int] | None:
    """Lesions in the box around them all: its first voxel in the RAS view, numbers int32 (x, y, z), and how many.

    1 is the largest; equal ones from left to right, back to front, feet to head. None without lesion.
    """
    marked = np.greater(ras_view_of(mask, geometry), 0)
    spans = []
    for axis in range(3):
        present = np.flatnonzero(marked.any(axis=tuple(a for a in range(3) if a != axis)))
        if not present.size:
            return None
        spans.append(slice(int(present[0]), int(present[-1]) + 1))
    labels, count = ndimage.label(np.ascontiguousarray(marked[tuple(spans)]), _TOUCHING)
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    number = np.zeros(count + 1, np.int32)
    number[np.argsort(-voxels, kind="stable") + 1] = np.arange(1, count + 1)  # stable: equal ones keep their order
    return np.array([span.start for span in spans]), number[labels], count
