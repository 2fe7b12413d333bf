"""Where a lesion can plausibly lie in a scan: lung parenchyma or homogeneous soft tissue, by HU on the model grid."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

OTHER, LUNG, SOFT = 0, 1, 2

AIR_BELOW_HU = -400
LUNG_MEAN_HU = (-940.0, -500.0)
MIN_LUNG_ML = 100.0
SOFT_RANGE_HU = (0.0, 200.0)
SOFT_SPREAD_HU = 30.0
MIN_SOFT_ML = 5.0


def _components(mask: NDArray[np.bool_], min_voxels: float) -> tuple[NDArray[np.int32], list[int]]:
    parts, _ = ndimage.label(mask)
    sizes = np.bincount(parts.ravel())
    return parts, [int(i) for i in np.flatnonzero(sizes >= min_voxels) if i > 0]


def tissue_map(hu: NDArray[np.int16], body: NDArray[np.bool_], grid_mm: tuple[float, ...]) -> NDArray[np.uint8]:
    """Tissue of each voxel (x, y, z): LUNG, SOFT or OTHER.

    LUNG: air inside the body in parts of at least 100 ml whose mean HU is that of parenchyma, vessels inside closed.
    SOFT: locally homogeneous tissue between 0 and 200 HU (liver, spleen, muscle, mediastinum, vessels) in parts of at
    least 5 ml; the local mean and spread are taken over 7 x 7 x 3 voxels.
    """
    voxel_ml = float(np.prod(grid_mm)) / 1000.0
    result = np.zeros(hu.shape, dtype=np.uint8)

    values = hu.astype(np.float32)
    window = (7, 7, 3)
    mean = ndimage.uniform_filter(values, window)
    spread = np.sqrt(np.maximum(ndimage.uniform_filter(values**2, window) - mean**2, 0.0))
    noise = float(np.percentile(spread[body & (mean > 0) & (mean < 200)], 25)) if body.any() else 0.0
    soft = body & (mean > SOFT_RANGE_HU[0]) & (mean < SOFT_RANGE_HU[1]) & (spread < max(SOFT_SPREAD_HU, 1.5 * noise))
    parts, kept = _components(ndimage.binary_opening(soft), MIN_SOFT_ML / voxel_ml)
    result[np.isin(parts, kept)] = SOFT

    parts, kept = _components(body & (hu < AIR_BELOW_HU), MIN_LUNG_ML / voxel_ml)
    for index in kept:
        part = parts == index
        if LUNG_MEAN_HU[0] < float(values[part].mean()) < LUNG_MEAN_HU[1]:
            result[ndimage.binary_closing(part, iterations=2) & (result != SOFT)] = LUNG
            result[part] = LUNG
    return result
