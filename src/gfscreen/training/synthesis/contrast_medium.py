"""A scan as it might have looked without contrast medium: few scans of a training list lack it, many patients' do.

What it takes up is brought near to what soft tissue has without it; edges, grain, fat, lung and bone's border stay.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Soft tissue and blood without contrast medium; from there up to so many HU are taken for what the medium brings.
NATIVE_HU = 45.0
MOST_HU = 200.0
# How much of it is left, drawn evenly: veins are never quite as their organ.
KEPT = (0.05, 0.4)


def without_contrast_medium(rng: np.random.Generator, hu: NDArray[np.int16]) -> NDArray[np.int16]:
    """The HU (x, y, z), int16, as a new array: what lies above 45 HU has 5 to 40 % of its first 200 HU above it.

    Asked of the median of 3 x 3 voxels in plane, so that edges stay sharp and the grain is that of the scan: to
    compress each voxel would smooth what was bright, and a network would know it by that. Bone gets 120 to 190 HU
    darker. Empty in, empty out.
    """
    kept = rng.uniform(*KEPT)
    smooth = ndimage.median_filter(hu, (3, 3, 1)).astype(np.float32)
    medium = np.clip(smooth - NATIVE_HU, 0.0, MOST_HU)
    return np.asarray(np.round(hu - (1.0 - kept) * medium), dtype=np.int16)
