"""Which of Focus's findings stand. A finding is what hangs together above `lesion_threshold` on the model grid.

Three rules, all about whole findings, so that no outline is ever cut: a finding must have a voxel in the body, which
takes away tables and cushions; somewhere Focus must be surer of it than the plan's `finding_peak`; and it must have the
plan's `min_finding_ml`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

# Voxels of one finding touch by face, edge or corner.
TOUCHING = np.ones((3, 3, 3), bool)
# So that a finding of exactly the smallest volume stands.
_ROUNDING = 1e-9


def drop_unlikely(
    lesion_probability: NDArray[np.float32],
    body: NDArray[np.bool_] | None,
    *,
    threshold: float,
    peak: float,
    min_ml: float = 0.0,
    voxel_ml: float = 0.0,
) -> int:
    """Set the probability of findings that do not stand to 0, in place; returns how many there were.

    lesion_probability: float32 (x, y, z). body: bool, same shape; None or without a voxel: the body is not known, and
    only the peak counts. threshold: findings are above it. peak: a finding's highest probability must lie above it;
    at `threshold` all do. min_ml: a finding's volume must be at least this, each voxel counting `voxel_ml`.
    Voxels touch by face, edge or corner. Without a finding nothing is done.
    """
    lesion = lesion_probability > threshold
    inside = body if body is not None and body.any() else None
    if not lesion.any() or (peak <= threshold and min_ml <= 0 and (inside is None or not (lesion & ~inside).any())):
        return 0
    box = ndimage.find_objects(lesion.astype(np.uint8))[0]
    probability = lesion_probability[box]
    labels, count = ndimage.label(lesion[box], TOUCHING)
    numbers = np.arange(1, count + 1)
    stands = np.asarray(ndimage.maximum(probability, labels, numbers)) > peak
    if min_ml > 0:
        stands &= np.bincount(labels.ravel(), minlength=count + 1)[1:] * voxel_ml >= min_ml * (1 - _ROUNDING)
    if inside is not None:
        stands &= np.asarray(ndimage.maximum(inside[box], labels, numbers)) > 0
    dropped = np.concatenate([[False], ~stands])
    probability[dropped[labels]] = 0.0
    return int(count - stands.sum())
