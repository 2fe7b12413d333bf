"""Parts of a mask that hang together by faces, and how deep in a mask a voxel lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# A voxel and its six neighbours, for scipy.
FACES = ndimage.generate_binary_structure(3, 1)


def largest_part(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The largest part of a mask, the first of equally large ones; nothing of nothing."""
    numbers, count = ndimage.label(mask, FACES)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = numbers == 1 + int(np.argmax(np.bincount(numbers.ravel())[1:]))
    return largest


def depth_mm(mask: NDArray[np.bool_], spacing_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """How far each voxel of a mask is from what is not, 0 outside; beyond the array lies nothing of it."""
    deep: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)
    return deep[1:-1, 1:-1, 1:-1]
