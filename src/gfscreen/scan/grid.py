"""The model grid: RAS axes, the plan's spacing, cropped to the body; and the way back to the native grid.

Model voxel (0, 0, 0) of the full grid is the native corner voxel that lies most to the left, back and feet; model voxel
m lies at native position m * model spacing / native spacing. This is the frame of the published preprocessing. Only the
axes are permuted and flipped: an oblique scan keeps its tilt, as it does there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.anatomy import Anatomy, find_anatomy
from gfscreen.scan.boxes import Box, lesion_boxes
from gfscreen.scan.region import RegionSplit, forced, split
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_spacing, ras_view

# So many slices of the model grid are brought back at once where all of them are.
SLAB_SLICES = 16


@dataclass(frozen=True)
class ModelGrid:
    """Where the cropped model grid lies in the native scan; all (x, y, z), RAS order.

    box: half-open range of the full model grid that was kept. native_shape, native_mm, spacing_mm: size and spacings.
    """

    box: Box
    full_shape: tuple[int, int, int]
    native_shape: tuple[int, int, int]
    native_mm: tuple[float, float, float]
    spacing_mm: tuple[float, float, float]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the cropped model grid."""
        (x0, x1), (y0, y1), (z0, z1) = self.box
        return x1 - x0, y1 - y0, z1 - z0


@dataclass(frozen=True)
class ModelScan:
    """A scan on the model grid.

    hu: float32 (x, y, z), without any HU window; rounded to whole HU, it would shift Glance probabilities by up to
    0.004 against the published preprocessing. body: bool, same shape. chest: bool (z,), region of each axial slice.
    """

    hu: NDArray[np.float32]
    body: NDArray[np.bool_]
    chest: NDArray[np.bool_]
    grid: ModelGrid
    region: RegionSplit
    anatomy: Anatomy

    def lungs_in(self, part: tuple[slice, ...]) -> NDArray[np.bool_]:
        """Whether the voxels of a part of the grid lie in the lungs or a coarse voxel beside them, bool (x, y, z)."""
        near: NDArray[np.bool_] = ndimage.binary_dilation(self.anatomy.lungs, np.ones((3, 3, 3), bool))
        grid, step = self.grid, self.anatomy.step_voxels
        boxes = [(side.start + low, side.stop + low) for side, (low, _) in zip(part, grid.box, strict=True)]
        ratio = [model / native for model, native in zip(grid.spacing_mm, grid.native_mm, strict=True)]
        return near[np.ix_(*map(_coarse_to_model_index, near.shape, boxes, ratio, step))]


def full_model_shape(
    native_shape: tuple[int, ...], native_mm: tuple[float, ...], spacing_mm: tuple[float, ...]
) -> tuple[int, int, int]:
    """Size of the uncropped model grid: the extent between the outer voxel centres, rounded, as in MONAI's Spacing."""
    x, y, z = (int(np.round((n - 1) * s / t)) + 1 for n, s, t in zip(native_shape, native_mm, spacing_mm, strict=True))
    return x, y, z


def _resample(
    array: NDArray[np.generic],
    origin: tuple[float, ...],
    step: tuple[float, ...],
    shape: tuple[int, ...],
    interpolator: int,
    pixel: int,
    beyond: float | None,
) -> NDArray[np.generic]:
    """Sample `array` (x, y, z) at origin + index * step, both in voxels of `array`; returns `shape` (x, y, z).

    beyond: value outside the array; None repeats the border.
    """
    image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(2, 1, 0)))
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize([int(n) for n in shape])
    resampler.SetOutputOrigin([float(o) for o in origin])
    resampler.SetOutputSpacing([float(s) for s in step])
    resampler.SetInterpolator(interpolator)
    resampler.SetOutputPixelType(pixel)
    if beyond is None:
        resampler.SetUseNearestNeighborExtrapolator(True)
    else:
        resampler.SetDefaultPixelValue(beyond)
    result: NDArray[np.generic] = sitk.GetArrayFromImage(resampler.Execute(image)).transpose(2, 1, 0)
    return result


def resampled_shape(
    shape: tuple[int, ...], spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...]
) -> tuple[int, int, int]:
    """Voxels along x, y, z at another spacing, of which none lies beyond the last one of `shape`."""
    x, y, z = (math.floor((n - 1) * s / w) + 1 for n, s, w in zip(shape, spacing_mm, wanted_mm, strict=True))
    return x, y, z


def resample_model(
    hu: NDArray[np.float32], spacing_mm: tuple[float, ...], wanted_mm: tuple[float, ...]
) -> NDArray[np.float32]:
    """A scan on the model grid (x, y, z), float32, brought to another spacing, linearly; the first voxel stays."""
    step = tuple(w / s for w, s in zip(wanted_mm, spacing_mm, strict=True))
    shape = resampled_shape(hu.shape, spacing_mm, wanted_mm)
    return _resample(hu, (0.0, 0.0, 0.0), step, shape, sitk.sitkLinear, sitk.sitkFloat32, None).astype(
        np.float32, copy=False
    )


def _native_range(model: tuple[int, int], ratio: float, size: int) -> tuple[int, int]:
    """Native voxels, half-open, that linear interpolation of the model voxels [start, stop) reads."""
    start = int(np.clip(np.floor(model[0] * ratio), 0, size - 1))
    stop = int(np.clip(np.ceil((model[1] - 1) * ratio) + 1, start + 1, size))
    return start, stop


def sample_to_grid(native: NDArray[np.generic], grid: ModelGrid, *, nearest: bool = False) -> NDArray[np.generic]:
    """Bring a native array in RAS order (x, y, z) onto the model grid, linear (float32 out) or nearest (uint8 out)."""
    ratio = tuple(t / s for t, s in zip(grid.spacing_mm, grid.native_mm, strict=True))
    ranges = [_native_range(b, r, n) for b, r, n in zip(grid.box, ratio, grid.native_shape, strict=True)]
    part = native[tuple(slice(*r) for r in ranges)]
    origin = tuple(b[0] * r - n[0] for b, r, n in zip(grid.box, ratio, ranges, strict=True))
    if nearest:
        return _resample(part, origin, ratio, grid.shape, sitk.sitkNearestNeighbor, sitk.sitkUInt8, None)
    return _resample(part, origin, ratio, grid.shape, sitk.sitkLinear, sitk.sitkFloat32, None)


def _coarse_to_model_index(count: int, box: tuple[int, int], ratio: float, step: int) -> NDArray[np.intp]:
    """Coarse voxel that contains each model voxel of `box`, along one axis."""
    native = np.round(np.arange(*box) * ratio)
    index: NDArray[np.intp] = np.clip(native // step, 0, count - 1).astype(np.intp)
    return index


def _body_box(anatomy: Anatomy, ratio: tuple[float, ...], full: tuple[int, int, int]) -> Box:
    """Box of the body on the full model grid, one coarse voxel wider than it was found; the whole grid without body."""
    if not anatomy.body.any():
        return (0, full[0]), (0, full[1]), (0, full[2])
    box = []
    for axis in range(3):
        present = np.flatnonzero(anatomy.body.any(axis=tuple(a for a in range(3) if a != axis)))
        step = anatomy.step_voxels[axis]
        low, high = (present[0] - 1) * step / ratio[axis], (present[-1] + 2) * step / ratio[axis]
        if present[-1] == anatomy.body.shape[axis] - 1:
            high = full[axis]
        box.append((max(0, int(np.floor(low))), min(full[axis], int(np.ceil(high)))))
    return box[0], box[1], box[2]


def _above_floor_box(hu: NDArray[np.float32], floor_hu: float) -> Box:
    """Box of all voxels above the HU window's floor: the published foreground. The whole grid if there are none."""
    above = hu > floor_hu
    box = []
    for axis in range(3):
        present = np.flatnonzero(above.any(axis=tuple(a for a in range(3) if a != axis)))
        box.append((int(present[0]), int(present[-1]) + 1) if present.size else (0, hu.shape[axis]))
    return box[0], box[1], box[2]


def model_grid(volume: Volume, spacing_mm: tuple[float, ...]) -> ModelGrid:
    """The uncropped model grid of a scan."""
    native_mm = ras_spacing(volume)
    x, y, z = ras_view(volume.hu, volume).shape
    full = full_model_shape((x, y, z), native_mm, spacing_mm)
    box = ((0, full[0]), (0, full[1]), (0, full[2]))
    return ModelGrid(box, full, (x, y, z), native_mm, (spacing_mm[0], spacing_mm[1], spacing_mm[2]))


def to_model(volume: Volume, plan: Plan, region: str = "auto") -> ModelScan:
    """Bring a scan onto the model grid, cropped to its foreground.

    region: `auto`, or `chest` / `abdomen` to force it. A scan without body is kept whole (and has no body).
    """
    anatomy = find_anatomy(volume)
    decision = split(anatomy) if region == "auto" else forced(anatomy, "chest" if region == "chest" else "abdomen")
    whole = model_grid(volume, plan.spacing_mm)
    ratio = tuple(t / s for t, s in zip(whole.spacing_mm, whole.native_mm, strict=True))
    native = ras_view(volume.hu, volume)
    if plan.foreground == "body":
        grid = _with_box(whole, _body_box(anatomy, ratio, whole.full_shape))
        hu = sample_to_grid(native, grid).astype(np.float32, copy=False)
    else:
        everything = sample_to_grid(native, whole).astype(np.float32, copy=False)
        floor_hu = plan.hu_windows.of("chest" if decision.chest.any() else "abdomen").low_hu
        grid = _with_box(whole, _above_floor_box(everything, floor_hu))
        hu = everything[tuple(slice(*b) for b in grid.box)]
    index = [
        _coarse_to_model_index(anatomy.body.shape[axis], grid.box[axis], ratio[axis], anatomy.step_voxels[axis])
        for axis in range(3)
    ]
    return ModelScan(hu, anatomy.body[np.ix_(*index)], decision.chest[index[2]], grid, decision, anatomy)


def _with_box(grid: ModelGrid, box: Box) -> ModelGrid:
    return ModelGrid(box, grid.full_shape, grid.native_shape, grid.native_mm, grid.spacing_mm)


def to_native_mask(
    lesion_probability: NDArray[np.float32], grid: ModelGrid, volume: Volume, threshold: float
) -> NDArray[np.uint8]:
    """Mask uint8 {0, 1} (i, j, k) on the native grid from lesion probabilities (x, y, z) on the model grid.

    The probability is interpolated linearly and cut at `threshold` (0.5: argmax of two classes): outlines stay smooth
    across the 3 mm slices. Only the boxes that hold lesions are sampled; everything else is background.
    """
    mask = np.zeros(volume.hu.shape, np.uint8, order="F")
    view = ras_view(mask, volume)
    for box in lesion_boxes(lesion_probability > threshold):
        restore_box(lesion_probability, box, grid, view, threshold)
    return mask


def native_range(box: Box, grid: ModelGrid) -> tuple[slice, slice, slice] | None:
    """The native voxels, RAS order, whose probability is interpolated within a box of the model grid; None if none is.

    No native voxel beyond the box: its edge may cut through a lesion that has a box of its own. Where the crop itself
    ends there is none, and the last value goes on for less than a model voxel.
    """
    target = []
    for axis, (low, high) in enumerate(box):
        ratio = grid.spacing_mm[axis] / grid.native_mm[axis]
        offset = grid.box[axis][0]
        first, last = int(np.ceil((low + offset) * ratio)), int(np.floor((high - 1 + offset) * ratio)) + 1
        if low == 0:
            first = max(0, int(np.floor(offset * ratio)))
        if high == grid.shape[axis]:
            last = min(grid.native_shape[axis], int(np.ceil((high - 1 + offset) * ratio)) + 1)
        if high == grid.shape[axis] and grid.box[axis][1] == grid.full_shape[axis]:
            # Native voxels beyond the last model voxel's centre belong to it.
            last = grid.native_shape[axis]
        if last <= first:
            return None
        target.append(slice(first, last))
    return target[0], target[1], target[2]


def _sample_box(
    probability: NDArray[np.float32], box: Box, grid: ModelGrid
) -> tuple[tuple[slice, slice, slice], NDArray[np.float32]] | None:
    """The native voxels of a box of the model grid, and their probability, interpolated linearly; None if none is."""
    target = native_range(box, grid)
    if target is None:
        return None
    starts = zip(target, box, grid.box, grid.spacing_mm, grid.native_mm, strict=True)
    origin = tuple(part.start / (model / native) - crop[0] - low for part, (low, _), crop, model, native in starts)
    step = tuple(s / t for s, t in zip(grid.native_mm, grid.spacing_mm, strict=True))
    shape = tuple(part.stop - part.start for part in target)
    source = probability[tuple(slice(*part) for part in box)]
    sampled = _resample(source, origin, step, shape, sitk.sitkLinear, sitk.sitkFloat32, None)
    return target, sampled.astype(np.float32, copy=False)


def restore_box(
    probability: NDArray[np.float32], box: Box, grid: ModelGrid, mask: NDArray[np.generic], threshold: float
) -> None:
    """Set the lesions of one box of the model grid in `mask`, uint8 or bool (x, y, z) of the whole scan in RAS order.

    probability: float32 (x, y, z) on the model grid. Voxels are only ever set: what lies there already stays.
    """
    found = _sample_box(probability, box, grid)
    if found is not None:
        target, sampled = found
        # Boxes may overlap at their corners: what another one has set stays.
        mask[target][sampled > threshold] = 1


def to_native_probability(probability: NDArray[np.float32], grid: ModelGrid, volume: Volume) -> NDArray[np.uint8]:
    """Probability in steps of 1/255, uint8 (i, j, k) on the native grid, from float32 (x, y, z) on the model grid.

    Interpolated as for the mask; 0 outside the crop to the body. Made slab by slab: no whole scan of float32.
    """
    scaled = np.zeros(volume.hu.shape, np.uint8, order="F")
    view = ras_view(scaled, volume)
    x, y, z = grid.shape
    # Neighbouring slabs share a slice of the model grid, so that every native slice lies within one of them.
    for low in range(0, max(1, z - 1), SLAB_SLICES):
        high = min(z, low + SLAB_SLICES + 1)
        if not probability[:, :, low:high].any():
            continue
        found = _sample_box(probability, ((0, x), (0, y), (low, high)), grid)
        if found is not None:
            target, sampled = found
            view[target] = np.rint(np.clip(sampled, 0.0, 1.0) * 255).astype(np.uint8)
    return scaled
