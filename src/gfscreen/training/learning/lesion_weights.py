"""How often the voxels of a lesion count in the loss of the Focus.

A Dice over a sub-volume is the large lesion's where a large and a small one lie in it, and so is the cross-entropy: a
nodule of 4 mm has one hundredth of the voxels of one of 2 cm. Weighted by volume to the power of -2/3, a lesion counts
about as its diameter. Departs from the paper, which counts every voxel once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.screening.findings import TOUCHING
from gfscreen.training.objectives import LESION_CLASS

VOLUME_EXPONENT = -2.0 / 3.0
HIGHEST_WEIGHT = 10.0


def small_lesion_weight(label: NDArray[np.uint8], voxel_ml: float, small_lesion_ml: float) -> NDArray[np.float16]:
    """Weight (X, Y, Z) of each voxel: (volume / small_lesion_ml) ** (-2/3) in smaller lesions, at most 10, else 1.

    label: (X, Y, Z) with 1 where there is lesion; lesions are its 26-connected parts, as far as they lie in it.
    Without lesion all weights are 1.
    """
    parts, count = ndimage.label(label == LESION_CLASS, TOUCHING)
    by_part = np.ones(count + 1)
    volume_ml = np.bincount(parts.ravel())[1:] * voxel_ml
    by_part[1:] = np.clip((volume_ml / small_lesion_ml) ** VOLUME_EXPONENT, 1.0, HIGHEST_WEIGHT)
    return np.asarray(by_part[parts], dtype=np.float16)
