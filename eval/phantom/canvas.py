"""A slab of the scan while it is being painted, part after part; later parts cover earlier ones."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from eval.phantom.shapes import Array, Box, Capsule, Shape

Window = tuple[slice, slice, slice]
Space = Literal["cavity", "lungs", "above_diaphragm", "below_diaphragm"]


@dataclass(frozen=True)
class Part:
    """One painted thing: its shape, its HU, and the space that it may not leave."""

    name: str
    shape: Shape
    hu: float
    within: Space | None = None
    box: Box = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "box", self.shape.bounds)


class PartList:
    """Parts in painting order that finds those of a slab quickly: there are thousands, mostly vessels."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = tuple(parts)
        self._low_mm = np.array([part.box.low_mm[2] for part in parts])
        self._high_mm = np.array([part.box.high_mm[2] for part in parts])

    def between(self, low_mm: float, high_mm: float) -> list[Part]:
        """Those that reach into a range of z."""
        near = (self._low_mm <= high_mm) & (self._high_mm >= low_mm)
        return [self.parts[index] for index in np.flatnonzero(near)]


def thin_share(radius_mm: float, edge_mm: float) -> float:
    """What a thin tube keeps of its soft-edged cover, so that a vessel weighs as much in coarse voxels as in fine ones.

    A tube of radius r < edge/2 is painted as a cone of height p = 1/2 + r/edge over a disc of radius p edge: its
    integral is pi edge^2 p^3 / 3, but the tube's cross-section is pi r^2. The ratio is 3/4 at r = edge/2 and goes to 1
    at r = edge, from where on a tube has a solid core.
    """
    ratio = radius_mm / edge_mm
    if ratio >= 0.5:
        return min(0.5 + 0.5 * ratio, 1.0)
    return 3 * ratio**2 / (0.5 + ratio) ** 3


class Canvas:
    """HU of a slab, float32, axes (z, y, x): the order in which NIfTI stores voxels.

    Args:
        x_mm, y_mm, z_mm: voxel centres along each axis, in the frame of the shapes, equally spaced, up or down.
        edge_mm: width of a soft edge: what a voxel or the scanner's resolution blurs.
        hu: paint on this array instead of on air.

    """

    def __init__(self, x_mm: Array, y_mm: Array, z_mm: Array, edge_mm: float, hu: Array | None = None) -> None:
        self._axes = (z_mm, y_mm, x_mm)
        self.edge_mm = edge_mm
        self.hu: Array = np.full([len(a) for a in self._axes], -1000, np.float32) if hu is None else hu
        self.spaces: dict[Space, Array] = {}

    def coordinates(self, window: Window | None = None) -> tuple[Array, Array, Array]:
        """Arrays x (1, 1, nx), y (1, ny, 1), z (nz, 1, 1) of the slab or of a window of it."""
        z, y, x = self._axes if window is None else (a[s] for a, s in zip(self._axes, window, strict=True))
        return x[None, None, :], y[None, :, None], z[:, None, None]

    def crop(self, window: Window) -> Canvas:
        """A smaller canvas that paints on the same voxels."""
        z, y, x = (axis[part] for axis, part in zip(self._axes, window, strict=True))
        return Canvas(x, y, z, self.edge_mm, self.hu[window])

    def window(self, box: Box) -> Window | None:
        """The voxels that a shape with these bounds and its soft edge can touch; None if there are none."""
        found = []
        for axis, low, high in zip(self._axes, reversed(box.low_mm), reversed(box.high_mm), strict=True):
            start = float(axis[0])
            step = float(axis[-1] - axis[0]) / (len(axis) - 1) if len(axis) > 1 else 1.0
            a, b = sorted(((low - self.edge_mm - start) / step, (high + self.edge_mm - start) / step))
            first, last = max(math.ceil(max(a, -1.0)), 0), min(math.floor(min(b, len(axis))), len(axis) - 1)
            if first > last:
                return None
            found.append(slice(first, last + 1))
        return found[0], found[1], found[2]

    def cover(self, depth_mm: Array) -> Array:
        """Share of a voxel that is inside, from the depth of its centre: 0 to 1, 0.5 on the surface."""
        share: Array = depth_mm * (1 / self.edge_mm) + 0.5
        np.minimum(share, 1, out=share)
        return np.maximum(share, 0, out=share)

    def fill(self, depth_mm: Array, hu: float | Array) -> None:
        """Paint the whole slab where `depth_mm` is positive."""
        self.hu += self.cover(depth_mm) * (hu - self.hu)

    def paint(self, parts: Iterable[Part]) -> None:
        """Paint parts in their order."""
        for part in parts:
            window = self.window(part.box)
            if window is None:
                continue
            depth = part.shape.depth(*self.coordinates(window))
            if part.within is not None:
                depth = np.minimum(depth, self.spaces[part.within][window])
            target = self.hu[window]
            cover = self.cover(depth)
            if isinstance(part.shape, Capsule):
                cover *= thin_share(part.shape.start_radius_mm, self.edge_mm)
            target += cover * (part.hu - target)
