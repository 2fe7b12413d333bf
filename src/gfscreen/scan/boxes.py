"""Boxes of a voxel grid that hold lesions, kept apart so that whatever hangs together lies within one."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Box = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
BoxSlices = tuple[slice, slice, slice]
# Lesions that have no block of so many voxels a side in common, and none side by side, get a box each. The bits of a
# byte.
BLOCK_VOXELS = 8


def apart(boxes: Iterable[BoxSlices]) -> list[BoxSlices]:
    """Boxes merged until no two of them overlap or touch, by face, edge or corner; none of no boxes."""
    lows, highs = np.empty((0, 3), np.intp), np.empty((0, 3), np.intp)
    for box in boxes:
        low, high = np.array([side.start for side in box]), np.array([side.stop for side in box])
        while (near := ((lows <= high) & (highs >= low)).all(axis=1)).any():
            low, high = np.vstack([lows[near], low]).min(axis=0), np.vstack([highs[near], high]).max(axis=0)
            lows, highs = lows[~near], highs[~near]
        lows, highs = np.vstack([lows, low]), np.vstack([highs, high])
    sides = zip(lows.tolist(), highs.tolist(), strict=True)
    return [(slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])) for a, b in sides]


def with_margin(box: tuple[slice, ...], margins: Iterable[int]) -> tuple[slice, ...]:
    """A box with so many voxels more on both sides of each axis, as far as the grid goes."""
    return tuple(
        slice(max(0, side.start - margin), side.stop + margin) for side, margin in zip(box, margins, strict=True)
    )


def with_room(
    box: tuple[slice, ...], room_mm: float, spacing_mm: tuple[float, ...], shape: tuple[int, ...]
) -> BoxSlices:
    """A box with at least so many mm more on both sides of each axis, within a grid of `shape`."""
    wider = with_margin(box, [math.ceil(room_mm / mm) for mm in spacing_mm])
    x, y, z = (slice(side.start, min(side.stop, n)) for side, n in zip(wider, shape, strict=True))
    return x, y, z


def size_of(box: BoxSlices) -> tuple[int, int, int]:
    """Voxels along x, y, z."""
    x, y, z = (side.stop - side.start for side in box)
    return x, y, z


def within(part: BoxSlices, box: tuple[slice, ...]) -> BoxSlices:
    """A box of a part of a grid, as one of the grid."""
    x, y, z = (slice(own.start + side.start, own.start + side.stop) for own, side in zip(part, box, strict=True))
    return x, y, z


def common(part: BoxSlices, other: BoxSlices) -> BoxSlices | None:
    """What two parts of a grid have in common; None if that is nothing."""
    sides = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(part, other, strict=True)]
    x, y, z = (slice(low, high) for low, high in sides)
    return (x, y, z) if all(low < high for low, high in sides) else None


def lesion_boxes(lesion: NDArray[np.bool_]) -> list[Box]:
    """Half-open boxes, one voxel larger on each side within the grid, that hold all of `lesion` (x, y, z).

    Lesions that are well apart get a box each, so that two small ones at the ends of a scan do not cost all between.
    """
    blocks = _blocks_with(lesion)
    labels, _ = ndimage.label(blocks, np.ones((3, 3, 3), bool))
    boxes = []
    for found in ndimage.find_objects(labels):
        start = [part.start * BLOCK_VOXELS for part in found]
        part = lesion[tuple(slice(low, s.stop * BLOCK_VOXELS) for low, s in zip(start, found, strict=True))]
        box = []
        for axis, (low, size) in enumerate(zip(start, lesion.shape, strict=True)):
            present = np.flatnonzero(part.any(axis=tuple(a for a in range(3) if a != axis)))
            box.append((max(0, low + int(present[0]) - 1), min(size, low + int(present[-1]) + 2)))
        boxes.append((box[0], box[1], box[2]))
    return boxes


def _blocks_with(lesion: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks of BLOCK_VOXELS along each axis hold a voxel of `lesion`.

    Eight voxels that follow each other in memory are packed into a byte first, in a quarter of the time that reducing
    takes; an axis that runs backwards in memory is turned for that.
    """
    inner = min(range(3), key=lambda axis: abs(lesion.strides[axis]))
    forward = lesion if lesion.strides[inner] > 0 else lesion.copy(order="K")
    blocks: NDArray[np.bool_] = np.packbits(forward, axis=inner) != 0
    for axis in {0, 1, 2} - {inner}:
        blocks = np.logical_or.reduceat(blocks, np.arange(0, blocks.shape[axis], BLOCK_VOXELS), axis=axis)
    return blocks
