"""The grid that a Focus of nnU-Net's reads on, made as nnU-Net makes it; and the way of its scores back to the scan.

nnU-Net takes the scan's array as it lies in the file, slices first, turns its axes as the plan says, crops what is
exactly 0 all around, normalises, and resizes to its spacing. Nothing of that is the model grid of Glance (grid.py);
`model_box` says where a patch of one lies on the other.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gfscreen.nnunet_plan import InputChannel, NnunetConfig
from gfscreen.scan.boxes import Box
from gfscreen.scan.grid import ModelGrid
from gfscreen.scan.resizing import FloatArray, along, resized_shape, resizing_matrix, separate_axis
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_view

# So many voxels of the scan are normalised at once: memory.
SLAB_VOXELS = 1 << 23
NIFTI1_BYTES = 348


@dataclass(frozen=True)
class NnunetGrid:
    """Where the network's grid lies in the scan; all in the network's order of axes.

    axes: which axis of the oriented array (i, j, k) each of the network's axes is. crop: half-open range of the scan
    that was kept. native_shape, native_mm: of the whole scan. shape, spacing_mm: of the network's grid. apart: the
    network's axis that is resized apart, on the way there and back.
    """

    axes: tuple[int, int, int]
    orientation: str
    crop: Box
    native_shape: tuple[int, int, int]
    native_mm: tuple[float, float, float]
    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float]
    config: NnunetConfig

    @cached_property
    def cropped_shape(self) -> tuple[int, int, int]:
        """Voxels of the scan within the crop."""
        (z0, z1), (y0, y1), (x0, x1) = self.crop
        return z1 - z0, y1 - y0, x1 - x0

    def view(self, array: NDArray[np.generic], volume: Volume) -> NDArray[np.generic]:
        """An array on the scan's grid (i, j, k), as a view in the network's order of axes, not cropped."""
        oriented = ras_view(array, volume) if self.orientation == "ras" else array
        return oriented.transpose(self.axes)

    def to_network(self, axis: int) -> FloatArray:
        """(network, scan) of one axis, for HU."""
        how = self.config.data_resampling
        order = how.order_z if axis == self.apart_in else how.order
        return resizing_matrix(self.cropped_shape[axis], self.shape[axis], order)

    def to_scan(self, axis: int) -> FloatArray:
        """(scan, network) of one axis, for scores."""
        how = self.config.logit_resampling
        order = how.order_z if axis == self.apart_out else how.order
        return resizing_matrix(self.shape[axis], self.cropped_shape[axis], order)

    @cached_property
    def apart_in(self) -> int | None:
        """The axis that HU are resized along apart."""
        return separate_axis(self.native_mm, self.config.spacing_mm, self.config.data_resampling)

    @cached_property
    def apart_out(self) -> int | None:
        """The axis that scores are resized along apart."""
        return separate_axis(self.config.spacing_mm, self.native_mm, self.config.logit_resampling)


@dataclass(frozen=True)
class NnunetScan:
    """A scan as the network reads it: float32 (channels, z, y, x) on `grid`."""

    image: FloatArray
    grid: NnunetGrid


def nnunet_grid(volume: Volume, config: NnunetConfig) -> NnunetGrid:
    """The network's grid of a scan. A scan of nothing but 0 is kept whole."""
    ras = config.orientation == "ras"
    oriented: NDArray[np.generic] = ras_view(volume.hu, volume) if ras else volume.hu
    in_file = file_spacing(volume)
    mm = tuple(in_file[axis] for axis in volume.geometry.ras_axes[0]) if ras else in_file
    # The array's axes, slices first, are those of (i, j, k) the other way round.
    a, b, c = (2 - axis for axis in config.transpose)
    axes = (a, b, c)
    turned = oriented.transpose(axes)
    native_mm = (mm[a], mm[b], mm[c])
    crop = _nonzero_box(turned)
    sizes = tuple(high - low for low, high in crop)
    shape = resized_shape(sizes, native_mm, config.spacing_mm)
    z, y, x = turned.shape
    spacing = (config.spacing_mm[0], config.spacing_mm[1], config.spacing_mm[2])
    return NnunetGrid(axes, config.orientation, crop, (z, y, x), native_mm, shape, spacing, config)


def file_spacing(volume: Volume) -> tuple[float, float, float]:
    """Voxel size in mm along the axes of the scan's file (i, j, k).

    Of a NIfTI what its header says, as nnU-Net reads it. The affine has the same but for rounding, which can decide on
    a voxel more or less.
    """
    header = volume.geometry.nifti_header
    i, j, k = volume.geometry.spacing_mm
    if header is not None:
        kind = nib.Nifti1Header if len(header) == NIFTI1_BYTES else nib.Nifti2Header
        stored = tuple(float(mm) for mm in kind(header, check=False)["pixdim"][1:4])
        if np.allclose(stored, (i, j, k), rtol=1e-4):
            i, j, k = stored
    return i, j, k


def _nonzero_box(hu: NDArray[np.generic]) -> Box:
    """Box of all voxels that are not 0; the whole scan if all are."""
    box = []
    for axis in range(3):
        size = hu.shape[axis]
        low = next((n for n in range(size) if hu.take(n, axis).any()), None)
        if low is None:
            return (0, hu.shape[0]), (0, hu.shape[1]), (0, hu.shape[2])
        high = next(n for n in range(size, 0, -1) if hu.take(n - 1, axis).any())
        box.append((low, high))
    return box[0], box[1], box[2]


def to_nnunet(volume: Volume, config: NnunetConfig) -> NnunetScan:
    """Bring a scan onto the network's grid: each channel normalised, then resized."""
    grid = nnunet_grid(volume, config)
    crop = tuple(slice(*part) for part in grid.crop)
    hu = grid.view(volume.hu, volume)[crop]
    image = np.empty((len(config.channels), *grid.shape), np.float32)
    for number, channel in enumerate(config.channels):
        image[number] = _resized(hu, Normaliser(channel, hu), grid)
    return NnunetScan(image, grid)


def slabs(shape: tuple[int, ...], axis: int) -> Iterator[slice]:
    """Ranges along one axis of at most `SLAB_VOXELS` voxels each, one slice at least."""
    each = max(1, SLAB_VOXELS // max(1, int(np.prod(shape)) // shape[axis]))
    for start in range(0, shape[axis], each):
        yield slice(start, min(shape[axis], start + each))


class Normaliser:
    """HU -> what one input channel shows, as nnU-Net normalises it; `low` and `high` are its range over the scan."""

    def __init__(self, channel: InputChannel, hu: NDArray[np.generic]) -> None:
        self.channel = channel
        self._scale, self._shift = 1.0, 0.0
        if channel.normalisation == "ct":
            self._shift, self._scale = channel.mean, max(channel.sd, 1e-8)
        elif channel.normalisation == "zscore":
            self._shift, self._scale = _mean_and_sd(self, hu)
        elif channel.normalisation == "rescale":
            extremes = self._windowed(np.array([hu.min(), hu.max()]))
            self._shift = float(extremes[0])
            self._scale = max(float(extremes[1]) - self._shift, 1e-8)

    def _windowed(self, hu: NDArray[np.generic]) -> FloatArray:
        values = hu.astype(np.float32)
        if self.channel.window_hu is not None:
            low, high = self.channel.window_hu
            values -= np.float32(low)
            values /= np.float32(high - low)
            np.clip(values, 0.0, 1.0, out=values)
        return values

    def __call__(self, hu: NDArray[np.generic]) -> FloatArray:
        """The channel's values, float32, of a piece of the scan."""
        values = self._windowed(hu)
        if self.channel.normalisation == "ct":
            np.clip(values, self.channel.clip[0], self.channel.clip[1], out=values)
        if self.channel.normalisation != "none":
            values -= np.float32(self._shift)
            values /= np.float32(self._scale)
        return values


def _mean_and_sd(normaliser: Normaliser, hu: NDArray[np.generic]) -> tuple[float, float]:
    """Mean and standard deviation of a scan in the channel's window."""
    total = squares = 0.0
    for part in slabs(hu.shape, 0):
        values = normaliser._windowed(hu[part]).astype(np.float64)
        total += float(values.sum())
        squares += float((values**2).sum())
    mean = total / hu.size
    return mean, max(float(np.sqrt(max(0.0, squares / hu.size - mean**2))), 1e-8)


def _resized(hu: NDArray[np.generic], normalise: Normaliser, grid: NnunetGrid) -> FloatArray:
    """One channel on the network's grid. Never beyond the values of what it was made of, as skimage clips it."""
    if hu.shape == grid.shape:
        return normalise(hu)
    apart = grid.apart_in
    first = 0 if apart is None else apart
    second, third = (axis for axis in range(3) if axis != first)
    shape = list(grid.shape)
    shape[first] = hu.shape[first]
    thin = np.empty(shape, np.float32)
    low, high = np.inf, -np.inf
    for part in slabs(hu.shape, first):
        index = tuple(part if axis == first else slice(None) for axis in range(3))
        values = normalise(hu[index])
        if apart is not None:
            # Each slice is an image of its own.
            lows, highs = (f(values, axis=(second, third), keepdims=True) for f in (np.min, np.max))
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        # The longest axis in memory first: it shrinks what follows.
        for axis in (third, second):
            values = along(values, grid.to_network(axis), axis)
        thin[index] = values if apart is None else np.clip(values, lows, highs)
    resized = along(thin, grid.to_network(first), first)
    return np.clip(resized, low, high, out=resized) if apart is None else resized


def restore_scores(scores: FloatArray, grid: NnunetGrid, box: Box) -> FloatArray:
    """The scores (n, z, y, x) of a box of the scan, half-open within the crop, in the network's order of axes."""
    axes = []
    for axis, (low, high) in enumerate(box):
        rows = grid.to_scan(axis)[low:high]
        used = np.flatnonzero(rows.any(axis=0))
        axes.append((slice(int(used[0]), int(used[-1]) + 1), rows[:, used[0] : used[-1] + 1]))
    restored = []
    for score in scores:
        values = score[tuple(used for used, _ in axes)]
        for axis in (0, 1, 2):
            values = along(np.ascontiguousarray(values), np.ascontiguousarray(axes[axis][1]), axis)
        restored.append(values)
    return np.stack(restored)


def scan_box(box: Box, grid: NnunetGrid) -> Box:
    """The voxels of the crop, half-open, that any voxel of a box of the network's grid has a part in."""
    ranges = []
    for axis, (low, high) in enumerate(box):
        touched = np.flatnonzero(grid.to_scan(axis)[:, low:high].any(axis=1))
        ranges.append((int(touched[0]), int(touched[-1]) + 1) if touched.size else (0, 0))
    return ranges[0], ranges[1], ranges[2]


def to_ras(grid: NnunetGrid, volume: Volume, places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Positions (n, 3) on the network's grid, its order of axes -> voxels of the scan's RAS view, (n, 3)."""
    ratio = np.array(grid.cropped_shape) / np.array(grid.shape)
    native = (places + 0.5) * ratio - 0.5 + np.array([low for low, _ in grid.crop])
    oriented: NDArray[np.float64] = np.empty_like(native)
    oriented[:, list(grid.axes)] = native
    if grid.orientation == "ras":
        return oriented
    return _file_to_ras(oriented, volume)


def _file_to_ras(voxels: NDArray[np.float64], volume: Volume) -> NDArray[np.float64]:
    """Voxel positions along the file's axes -> along those of the RAS view."""
    axes, flips = volume.geometry.ras_axes
    ras = voxels[:, list(axes)]
    last = np.array([volume.hu.shape[axis] - 1 for axis in axes])
    result: NDArray[np.float64] = np.where(np.array(flips), last - ras, ras)
    return result


def model_box(
    start: tuple[int, int, int], size: tuple[int, ...], grid: NnunetGrid, volume: Volume, model: ModelGrid
) -> Box:
    """The voxels of the cropped model grid, half-open and perhaps beyond its borders, that a patch overlaps."""
    corners = np.array([[a - 0.5 for a in start], [a + n - 0.5 for a, n in zip(start, size, strict=True)]])
    ras = to_ras(grid, volume, corners)
    ratio = np.array(model.native_mm) / np.array(model.spacing_mm)
    placed = ras * ratio - np.array([low for low, _ in model.box])
    lows, highs = np.floor(placed.min(axis=0) + 0.5).astype(int), np.ceil(placed.max(axis=0) + 0.5).astype(int)
    x, y, z = ((int(a), int(max(a + 1, b))) for a, b in zip(lows, highs, strict=True))
    return x, y, z


def scores_on_model(scores: FloatArray, grid: NnunetGrid, volume: Volume, model: ModelGrid) -> FloatArray:
    """Scores (n, z, y, x) -> (n, x, y, z) on the cropped model grid, linearly; the border goes on beyond it."""
    ratio = np.array(model.spacing_mm) / np.array(model.native_mm)
    shape = model.shape
    # Along each axis of the model grid positions on one axis of the network's: to_ras, the other way round.
    probe = to_ras(grid, volume, np.array([[0.0, 0.0, 0.0], [1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0]]))
    values = scores
    order = [0, 0, 0]
    for axis in range(3):
        step = probe[1 + axis] - probe[0]
        own = int(np.argmax(np.abs(step)))
        order[own] = axis
        ras = (np.arange(shape[own]) + model.box[own][0]) * ratio[own]
        places = np.clip((ras - probe[0][own]) / step[own], 0, grid.shape[axis] - 1)
        low = np.floor(places).astype(np.intp)
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        part = (places - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        values = values.take(low, axis + 1) * (1 - part) + values.take(high, axis + 1) * part
    return np.ascontiguousarray(values.transpose(0, *(n + 1 for n in order)))
