"""From a nnU-Net's scores to the mask on the scan's grid, as nnU-Net goes: resize the scores first, then decide.

Rules on findings hold for the connected parts of that mask, whose probability is known at every voxel of the scan.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.networks.engines.base import FloatArray
from gfscreen.scan.boxes import Box, apart, lesion_boxes
from gfscreen.scan.nnunet_grid import NnunetGrid, restore_scores, scan_box, slabs
from gfscreen.scan.volume import Volume
from gfscreen.screening.cells import logit_of
from gfscreen.screening.findings import Places, drop_parts
from gfscreen.screening.patches import lesion_logit, lesion_probability


def patch_mask(scores: FloatArray, grid: NnunetGrid, volume: Volume, plan: Plan) -> tuple[NDArray[np.uint8], int]:
    """Mask uint8 {0, 1} (i, j, k) on the scan's grid, and how many parts of it did not stand.

    scores: float32 (scores, z, y, x) on the network's grid, means of its patches.
    """
    config = grid.config
    mask = np.zeros(volume.hu.shape, np.uint8, order="F")
    view = grid.view(mask, volume)[tuple(slice(*part) for part in grid.crop)]
    least = logit_of(plan.lesion_threshold)
    for box in _boxes(scores, grid, least):
        restored = restore_scores(scores, grid, box)
        view[tuple(slice(*part) for part in box)][lesion_logit(restored, config) > least] = 1
    return mask, _drop_parts(view, scores, grid, volume, plan)


def _boxes(scores: FloatArray, grid: NnunetGrid, least: float) -> Iterator[Box]:
    """Boxes of the scan's crop that hold all lesions, none of many voxels.

    One score interpolates to more than `least` only beside a voxel that is above it; so do regions, each by itself.
    Which of several labels is the strongest can change between two voxels: everything is looked at.
    """
    config = grid.config
    if config.scores == 1 or config.regions:
        order = config.logit_resampling.order
        # Splines of higher order overshoot.
        found = lesion_boxes(lesion_logit(scores, config) > least) if order <= 1 else [_all_of(grid.shape)]
        parts = [scan_box(box, grid) for box in found]
    else:
        parts = [_all_of(grid.cropped_shape)]
    for part in parts:
        (z0, z1), y, x = part
        if z1 <= z0 or y[1] <= y[0] or x[1] <= x[0]:
            continue
        for piece in slabs((z1 - z0, y[1] - y[0], x[1] - x[0]), 0):
            yield (z0 + piece.start, z0 + piece.stop), y, x


def _all_of(shape: tuple[int, int, int]) -> Box:
    return (0, shape[0]), (0, shape[1]), (0, shape[2])


def _drop_parts(view: NDArray[np.generic], scores: FloatArray, grid: NnunetGrid, volume: Volume, plan: Plan) -> int:
    """Take connected parts that do not stand out of the mask's view, in place; returns how many there were."""
    threshold, peak = plan.lesion_threshold, plan.finding_peak
    if peak <= threshold and plan.min_finding_ml <= 0.0:
        return 0
    found = [tuple(slice(*part) for part in box) for box in lesion_boxes(view.astype(bool))]
    dropped = 0
    for box in apart((z, y, x) for z, y, x in found):

        def logit_at(places: Places, box: tuple[slice, slice, slice] = box) -> NDArray[np.float32]:
            z, y, x = ((part.start, part.stop) for part in box)
            logit: NDArray[np.float32] = lesion_logit(restore_scores(scores, grid, (z, y, x)), grid.config)[places]
            return logit

        surest = logit_at if peak > threshold else None
        dropped += drop_parts(view[box], volume.geometry.voxel_mm3, plan, surest, logit_of(peak))
    return dropped


def native_probability(scores: FloatArray, grid: NnunetGrid, volume: Volume) -> NDArray[np.uint8]:
    """Probability of lesion in steps of 1/255, uint8 (i, j, k) on the scan's grid; 0 outside the crop."""
    scaled = np.zeros(volume.hu.shape, np.uint8, order="F")
    view = grid.view(scaled, volume)[tuple(slice(*part) for part in grid.crop)]
    z, y, x = grid.cropped_shape
    for piece in slabs((z, y, x), 0):
        restored = restore_scores(scores, grid, ((piece.start, piece.stop), (0, y), (0, x)))
        view[piece] = np.rint(lesion_probability(restored, grid.config) * 255).astype(np.uint8)
    return scaled
