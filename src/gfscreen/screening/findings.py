"""Which of Focus's findings stand. A finding is what hangs together above `lesion_threshold` on the model grid.

Three rules, all about whole findings, so that no outline is ever cut:

- most of a finding lies in the body, which takes away tables, cushions and what lies on the skin;
- somewhere Focus is surer of it than the plan's `finding_peak` (or, if the plan says so, in more than a share of it);
- it is at least as large as the plan's `min_finding_ml`.

On the way to the native grid findings break up: what hung together by a corner of the model grid may not do so there.
The last two rules therefore hold for each connected part of the mask (`drop_unlikely_parts`), or specks would stand
of which Focus is nowhere sure. For both grids voxels touch by face, edge or corner.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.boxes import apart, lesion_boxes
from gfscreen.scan.grid import ModelGrid, native_range
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_view

# Voxels of one finding touch by face, edge or corner.
TOUCHING = np.ones((3, 3, 3), bool)
# Positions on the model grid are known to this part of a voxel, volumes to this part of themselves.
_ROUNDING = 1e-6

# So many voxels are looked up at once.
_AT_ONCE = 1 << 20

Places = tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]


def drop_unlikely(
    lesion_probability: NDArray[np.float32],
    body: NDArray[np.bool_] | None,
    *,
    threshold: float,
    peak: float,
    percentile: float = 100.0,
) -> int:
    """Set the probability of findings that do not stand to 0, in place; returns how many there were.

    lesion_probability: float32 (x, y, z). body: bool, same shape, in which more than half of a finding's voxels must
    lie; None or without a voxel: the body is not known, and only the peak counts. threshold: findings are above it.
    peak: a finding's highest probability must lie above it; at `threshold` all do. percentile: which of a finding's
    probabilities is asked, 100 the highest. Without a finding nothing is done.
    """
    lesion = lesion_probability > threshold
    inside = body if body is not None and body.any() else None
    if not lesion.any() or (peak <= threshold and (inside is None or not (lesion & ~inside).any())):
        return 0
    box = ndimage.find_objects(lesion.astype(np.uint8))[0]
    probability = lesion_probability[box]
    labels, count = ndimage.label(lesion[box], TOUCHING)
    marked = labels > 0
    numbers = labels[marked]
    stands = heights(probability[marked], numbers, count, percentile) > peak
    if inside is not None:
        voxels, in_body = np.bincount(numbers), np.bincount(numbers[inside[box][marked]], minlength=count + 1)
        stands &= 2 * in_body[1:] > voxels[1:]
    dropped = np.concatenate([[False], ~stands])
    probability[dropped[labels]] = 0.0
    return int(count - stands.sum())


def drop_unlikely_parts(
    mask: NDArray[np.uint8], lesion_probability: NDArray[np.float32], grid: ModelGrid, volume: Volume, plan: Plan
) -> int:
    """Take connected parts that do not stand out of a native mask, in place; returns how many there were.

    A part stands if Focus is surer than `finding_peak` at one of the model voxels that it was interpolated from (or, on
    a native grid that is coarser, extends over), and if it has at least `min_finding_ml`. Where the plan asks for
    neither, as published, nothing is looked at.

    Args:
        mask: uint8 {0, 1} (i, j, k), made of `lesion_probability` by `grid.to_native_mask`.
        lesion_probability: float32 (x, y, z) on the model grid, without findings that do not stand.
        grid: the model grid.
        volume: the scan.
        plan: with `lesion_threshold`, `finding_peak` and `min_finding_ml`.

    """
    threshold, peak = plan.lesion_threshold, plan.finding_peak
    if peak <= threshold and plan.min_finding_ml <= 0.0:
        return 0
    view = ras_view(mask, volume)
    ranges = [native_range(box, grid) for box in lesion_boxes(lesion_probability > threshold)]
    dropped = 0
    for box in apart(found for found in ranges if found is not None):

        def surest_at(places: Places, box: tuple[slice, slice, slice] = box) -> NDArray[np.float32]:
            z, y, x = places
            native = (x + box[0].start, y + box[1].start, z + box[2].start)
            return _surest_around(lesion_probability, grid, native)

        # As the voxels of a mask follow one another in memory.
        marked = view[box].transpose(2, 1, 0)
        surest = surest_at if peak > threshold else None
        dropped += drop_parts(marked, volume.geometry.voxel_mm3, plan, surest, peak)
    return dropped


def drop_parts(
    marked: NDArray[np.generic],
    voxel_mm3: float,
    plan: Plan,
    surest_at: Callable[[Places], NDArray[np.float32]] | None,
    peak: float,
) -> int:
    """Take connected parts that do not stand out of part of a mask, in place; returns how many there were.

    surest_at: how sure Focus is at voxels of `marked`, float32 (n,); a part stands if it is surer than `peak`, by the
    plan's percentile. None: only the volume is asked.
    """
    labels, count = ndimage.label(marked, TOUCHING)
    z, y, x = np.nonzero(labels)
    places = z, y, x
    numbers = labels[places]
    volume_ml = np.bincount(numbers, minlength=count + 1)[1:] * (voxel_mm3 / 1000.0)
    stands = volume_ml >= plan.min_finding_ml * (1.0 - _ROUNDING)
    if surest_at is not None:
        stands &= heights(surest_at(places), numbers, count, plan.finding_percentile) > peak
    gone = ~stands[numbers - 1]
    marked[tuple(place[gone] for place in places)] = 0
    return int(count - stands.sum())


def heights(
    values: NDArray[np.float32], numbers: NDArray[np.int32], count: int, percentile: float = 100.0
) -> NDArray[np.float32]:
    """A percentile of the values (n,) that belong to each number from 1 to `count`, (count,); 100: the highest."""
    highest = np.full(count + 1, -np.inf, np.float32)
    np.maximum.at(highest, numbers, values)
    if percentile < 100.0:
        order = np.argsort(numbers, kind="stable")
        parts = np.split(values[order], np.cumsum(np.bincount(numbers, minlength=count + 1))[:-1])
        for number, own in enumerate(parts):
            if own.size:
                highest[number] = np.percentile(own, percentile)
    return highest[1:]


def empty_if_slight(mask: NDArray[np.uint8], volume: Volume, plan: Plan) -> int:
    """Take everything out of a native mask that holds too little in all, in place; returns how many parts that were.

    Too little: less than the plan's `empty_below_ml`, in no more than `empty_up_to` connected parts, if it names a
    number. At 0 ml, as published, nothing is looked at.
    """
    if plan.empty_below_ml <= 0.0:
        return 0
    voxels = int(np.count_nonzero(mask))
    voxel_ml = volume.geometry.voxel_mm3 / 1000.0
    if not voxels or voxels * voxel_ml >= plan.empty_below_ml * (1.0 - _ROUNDING):
        return 0
    box = ndimage.find_objects(mask)[0]
    count = int(ndimage.label(mask[box], TOUCHING)[1])
    if plan.empty_up_to and count > plan.empty_up_to:
        return 0
    mask[box] = 0
    return count


def _surest_around(probability: NDArray[np.float32], grid: ModelGrid, places: Places) -> NDArray[np.float32]:
    """The highest probability of the model voxels around native voxels, float32 (n,).

    places: their indices along x, y, z of the RAS view. Around: less than a model voxel away along each axis, so those
    that linear interpolation reads; on a native grid of more than two model voxels, all that a voxel extends over.
    """
    found = np.zeros(len(places[0]), np.float32)
    for start in range(0, len(found), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        spans = [_model_voxels_around(side[part], axis, grid) for axis, side in enumerate(places)]
        widths = [range(int((high - low).max(initial=0)) + 1) for low, high in spans]
        for steps in itertools.product(*widths):
            index = tuple(np.minimum(low + step, high) for (low, high), step in zip(spans, steps, strict=True))
            np.maximum(found[part], probability[index], out=found[part])
    return found


def _model_voxels_around(
    places: NDArray[np.intp], axis: int, grid: ModelGrid
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First and last model voxel around native positions (n,) along one axis, within the grid."""
    ratio = grid.native_mm[axis] / grid.spacing_mm[axis]
    position = places * ratio - grid.box[axis][0]
    reach, last = max(1.0 - _ROUNDING, ratio / 2), grid.shape[axis] - 1
    low = np.clip(np.ceil(position - reach), 0, last).astype(np.intp)
    return low, np.maximum(low, np.clip(np.floor(position + reach), 0, last).astype(np.intp))
