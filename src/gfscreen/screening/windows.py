"""Sub-volumes: where they lie, what a network sees of them, and how overlapping answers become one map."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.network_plan import HUWindow, RegionName
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.region import region_of

# The body is known to about a voxel of the coarse grid (4 mm): so much is added on each side where it costs no window.
BODY_MARGIN_VOXELS = 4


@dataclass(frozen=True)
class Window:
    """One sub-volume: start on the model grid (x, y, z; negative where the scan is smaller) and its region.

    close: of the second Focus's size instead of Focus's.
    """

    start: tuple[int, int, int]
    region: RegionName
    close: bool = False


def size_of(window: Window, plan: Plan) -> tuple[int, ...]:
    """Voxels (x, y, z) of a sub-volume: Focus's, or the second Focus's of a close one."""
    return plan.of_second_focus.sub_volume_voxels if window.close else plan.sub_volume_voxels


def close_per_wide(plan: Plan) -> int:
    """How many sub-volumes of the second Focus hold no more voxels than one of Focus's, at least 1."""
    return max(1, math.prod(plan.sub_volume_voxels) // math.prod(plan.of_second_focus.sub_volume_voxels))


def axis_starts(length: int, size: int, overlap: float) -> list[int]:
    """Starts along one axis: stride `size - int(size * overlap)`, the last one shifted inward to end at the border.

    An axis shorter than `size` has one start, centred, at or below 0. As in the published inference code.
    """
    if length <= size:
        return [-((size - length) // 2)]
    stride = max(1, size - int(size * overlap))
    count = -(-(length - size) // stride) + 1
    return [min(i * stride, length - size) for i in range(count)]


def all_starts(shape: tuple[int, int, int], size: tuple[int, ...], overlap: float) -> list[tuple[int, int, int]]:
    """Starts of the dense sliding window over `shape` (x, y, z); z runs fastest."""
    axes = [axis_starts(n, s, overlap) for n, s in zip(shape, size, strict=True)]
    return [(x, y, z) for x, y, z in itertools.product(*axes)]


def _starts_over(body: NDArray[np.bool_], axis: int, size: int, overlap: float) -> list[int]:
    """Starts along one axis that cover the body from end to end, and a margin beside it as far as that costs nothing.

    No start lets a window leave the array, unless the axis is shorter than the window. Empty without body.
    """
    length = body.shape[axis]
    present = np.flatnonzero(np.any(body, axis=tuple(a for a in range(body.ndim) if a != axis)))
    if not present.size:
        return []
    if length <= size:
        return axis_starts(length, size, overlap)
    low, high = int(present[0]), int(present[-1]) + 1
    stride = max(1, size - int(size * overlap))
    spare = size + (len(axis_starts(high - low, size, overlap)) - 1) * stride - (high - low)
    free = min(BODY_MARGIN_VOXELS, spare // 2)
    low, high = max(0, low - free), min(length, high + free)
    return [min(max(0, low + start), length - size) for start in axis_starts(high - low, size, overlap)]


def starts_over_body(body: NDArray[np.bool_], size: tuple[int, ...], overlap: float) -> list[tuple[int, int, int]]:
    """Starts of a sliding window that follows the body instead of filling its box; body: bool (x, y, z).

    Layers along z cover the body's length, rows along y the depth that it has in the layer, windows along x the width
    that it has in the row. Every voxel of the body is covered, neighbours overlap as in the full grid, and a window
    without body is left out. Empty without body.
    """
    starts = []
    for z in _starts_over(body, 2, size[2], overlap):
        layer = body[:, :, max(0, z) : z + size[2]]
        for y in _starts_over(layer, 1, size[1], overlap):
            row = layer[:, max(0, y) : y + size[1]]
            columns = _starts_over(row, 0, size[0], overlap)
            starts += [(x, y, z) for x in columns if row[max(0, x) : x + size[0]].any()]
    return starts


def clipped(start: tuple[int, int, int], size: tuple[int, ...], shape: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """The part of a sub-volume that lies inside an array of `shape`."""
    x, y, z = (slice(max(0, a), min(n, a + s)) for a, s, n in zip(start, size, shape, strict=True))
    return x, y, z


def plan_windows(scan: ModelScan, plan: Plan, overlap: float) -> list[Window]:
    """The sub-volumes to glance at, each with its region.

    They follow the body if the plan says so; by the published rule (`hu_floor`) they fill the whole model grid.
    """
    size = plan.sub_volume_voxels
    if plan.foreground == "body":
        starts = starts_over_body(scan.body, size, overlap)
    else:
        starts = all_starts(scan.grid.shape, size, overlap)
    return [Window(start, region_of(scan.chest, start[2], size[2])) for start in starts]


def centred_starts(
    places: NDArray[np.int32],
    probability: NDArray[np.float32] | NDArray[np.float64],
    size: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    most: int,
    middle: float,
    sure: float,
) -> list[tuple[int, int, int]]:
    """Starts of at most `most` sub-volumes of `size` voxels in a scan of `shape`, none beyond its border.

    places: int32 (n, 3), voxels with their probability (n,). Each sub-volume is centred on the places around the surest
    one that is not yet in the middle of another, until none above `sure`, at least 0, is left. middle: see
    `within_middle`.
    """
    left = probability.copy()
    extent, voxels = np.array(shape), np.array(size)
    reach = np.floor(voxels * middle / 2).astype(np.int32)
    starts: list[tuple[int, int, int]] = []
    while left.size and len(starts) < most and left[surest := int(left.argmax())] > sure:
        near = (np.abs(places - places[surest]) <= reach).all(axis=1) & (left > 0)
        centre = np.rint(places[near].mean(axis=0)).astype(int)
        low = np.clip(centre - voxels // 2, 0, np.maximum(0, extent - voxels))
        x, y, z = (int(v) for v in np.where(extent < voxels, -((voxels - extent) // 2), low))
        left[within_middle(places, (x, y, z), size, shape, middle)] = 0.0
        starts.append((x, y, z))
    return starts


def within_middle(
    places: NDArray[np.int32], start: tuple[int, int, int], size: tuple[int, ...], shape: tuple[int, ...], middle: float
) -> NDArray[np.bool_]:
    """Which places (n, 3) lie in the middle of a sub-volume, bool (n,).

    middle: the part of its size, along each axis, that counts as such; where it touches the scan's border, all up to
    there does.
    """
    voxels, extent, first = np.array(size), np.array(shape), np.array(start)
    reach = np.floor(voxels * middle / 2).astype(np.int32)
    low = np.where(first <= 0, 0, first + voxels // 2 - reach)
    high = np.where(first + voxels >= extent, extent, first + voxels // 2 + reach + 1)
    return np.asarray(((places >= low) & (places < high)).all(axis=1), np.bool_)


def apply_hu_window(hu: NDArray[np.int16] | NDArray[np.float32], window: HUWindow) -> NDArray[np.float32]:
    """HU -> float32 in [0, 1], linear within the window, clipped beyond it."""
    scaled = (hu.astype(np.float32) - np.float32(window.low_hu)) / np.float32(window.high_hu - window.low_hu)
    return np.clip(scaled, 0.0, 1.0, out=scaled)


def gather(
    hu: NDArray[np.int16] | NDArray[np.float32], start: tuple[int, int, int], size: tuple[int, ...], window: HUWindow
) -> NDArray[np.float32]:
    """One sub-volume (x, y, z) of `size`, float32 in [0, 1]; where it leaves the scan it is 0, the window's floor."""
    inside = clipped(start, size, hu.shape)
    if all(s.stop - s.start == n for s, n in zip(inside, size, strict=True)):
        return apply_hu_window(hu[inside], window)
    patch = np.zeros(size, np.float32)
    target = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
    patch[target] = apply_hu_window(hu[inside], window)
    return patch


def gather_for_focus(
    hu: NDArray[np.int16] | NDArray[np.float32],
    start: tuple[int, int, int],
    size: tuple[int, ...],
    region: RegionName,
    plan: Plan,
) -> NDArray[np.float32]:
    """One sub-volume as Focus sees it: (x, y, z) as `gather` gives it, or (2, x, y, z) of a Focus with both windows."""
    own = gather(hu, start, size, plan.hu_windows.of(region))
    if plan.focus.channels == 1:
        return own
    return np.stack([own, gather(hu, start, size, plan.hu_windows.beside(region))])


def gaussian_weight(size: tuple[int, ...]) -> NDArray[np.float32]:
    """How much each voxel of a sub-volume counts (x, y, z), float32, 1 in its middle; sigma an eighth of its size.

    At the faces 3e-4, in the corners 3e-11: a network sees the surroundings of a voxel there from one side only. The
    width is that of MONAI's sliding window in mode `gaussian`.
    """
    axes = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in size]
    weight: NDArray[np.float32] = np.einsum("i,j,k->ijk", *axes).astype(np.float32)
    return weight


class Stitcher:
    """Averages overlapping probability maps in place; voxels that no sub-volume covers stay 0, background.

    blend: `constant` counts all voxels of a sub-volume alike, as published; `gaussian` those in its middle more.
    Sub-volumes may differ in size; the middle of each counts as much.
    """

    def __init__(self, shape: tuple[int, int, int], blend: Literal["constant", "gaussian"] = "constant") -> None:
        self._sum = np.zeros(shape, np.float32)
        self._weighed = blend == "gaussian"
        self._count = np.zeros(shape, np.float32 if self._weighed else np.uint16)
        self._weights: dict[tuple[int, ...], NDArray[np.float32]] = {}

    def add(self, start: tuple[int, int, int], probability: NDArray[np.float32], counts: int = 1) -> None:
        """Add one sub-volume's lesion probability (x, y, z); what lies outside the scan is dropped.

        counts: for how many such answers it counts, at least 1.
        """
        inside = clipped(start, probability.shape, self._sum.shape)
        part = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
        if not self._weighed:
            self._sum[inside] += probability[part] * np.float32(counts)
            self._count[inside] += counts
            return
        if probability.shape not in self._weights:
            self._weights[probability.shape] = gaussian_weight(probability.shape)
        weight = self._weights[probability.shape][part] * np.float32(counts)
        self._sum[inside] += probability[part] * weight
        self._count[inside] += weight

    def at(self, start: tuple[int, int, int], size: tuple[int, ...]) -> NDArray[np.float32]:
        """Mean so far of a sub-volume (x, y, z); 0 where none covers it and beyond the scan."""
        inside = clipped(start, size, self._sum.shape)
        mean = np.zeros(size, np.float32)
        part = tuple(slice(s.start - a, s.stop - a) for s, a in zip(inside, start, strict=True))
        np.divide(self._sum[inside], self._count[inside], out=mean[part], where=self._count[inside] > 0)
        return mean

    def above(self, threshold: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Voxels (n, 3) whose mean so far is above `threshold`, in the array's order, and those means (n,)."""
        found = np.nonzero(self._sum > np.float32(threshold) * self._count)
        mean = np.divide(self._sum[found], self._count[found], dtype=np.float32)
        return np.stack(found, axis=1).astype(np.int32), mean

    def finish(self) -> NDArray[np.float32]:
        """Mean lesion probability (x, y, z). The stitcher is spent afterwards."""
        return np.divide(self._sum, self._count, out=self._sum, where=self._count > 0)
