"""The body of a lesion: an ellipsoid whose radius varies smoothly, in lobes or in spikes, with direction (scan mm)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from eval.phantom.shapes import Array, Box, Rotation, Vector, vector

DIRECTIONS = 1000


def sphere_directions(count: int) -> NDArray[np.float64]:
    """Evenly spread unit vectors (Fibonacci sphere), shape (count, 3)."""
    index = np.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = math.pi * (1 + math.sqrt(5)) * index
    ring = np.sqrt(1 - z * z)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), z], axis=1)


@dataclass(frozen=True)
class LesionShape:
    """Inside where |q| < 1 + bumps(q/|q|), with q the point in the ellipsoid's own axes divided by its radii.

    Args:
        waves: (size, kx, ky, kz, phase) of each smooth bump `size * sin(k . n + phase)`.
        spikes: (size, nx, ny, nz) of narrow rays; none for a smooth lesion.
        spike_sharpness: larger is narrower.

    """

    centre_mm: Vector
    radii_mm: Vector
    axes: Rotation
    waves: tuple[tuple[float, float, float, float, float], ...] = ()
    spikes: tuple[tuple[float, float, float, float], ...] = ()
    spike_sharpness: float = 40.0

    def _bumps(self, nx: Array, ny: Array, nz: Array) -> Array:
        total = np.zeros(np.broadcast_shapes(nx.shape, ny.shape, nz.shape), nx.dtype)
        for size, kx, ky, kz, phase in self.waves:
            total += size * np.sin(kx * nx + ky * ny + kz * nz + phase)
        for size, ax, ay, az in self.spikes:
            total += size * np.exp(self.spike_sharpness * (ax * nx + ay * ny + az * nz - 1))
        return total

    @cached_property
    def surface_mm(self) -> NDArray[np.float64]:
        """Points of the surface relative to the centre, (DIRECTIONS, 3), RAS."""
        own = sphere_directions(DIRECTIONS)
        radius = 1 + self._bumps(*(own.T))
        points: NDArray[np.float64] = (own * radius[:, None] * np.asarray(self.radii_mm)) @ np.asarray(self.axes)
        return points

    @cached_property
    def volume_ml(self) -> float:
        """Volume, integrated over directions: abc/3 times the mean of (1 + bumps)^3 over 4 pi."""
        cubes = (1 + self._bumps(*(sphere_directions(DIRECTIONS).T))) ** 3
        return float(math.prod(self.radii_mm) * 4 * math.pi / 3 * cubes.mean() / 1000)

    @cached_property
    def long_axis_mm(self) -> float:
        """Largest distance between two points of the surface."""
        points = self.surface_mm[::3]
        gram = points @ points.T
        square = np.diag(gram)[:, None] + np.diag(gram)[None, :] - 2 * gram
        return float(np.sqrt(square.max()))

    @cached_property
    def reach_mm(self) -> float:
        """Distance from the centre to the farthest point."""
        return float(np.linalg.norm(self.surface_mm, axis=1).max())

    @property
    def bounds(self) -> Box:
        centre = np.asarray(self.centre_mm)
        low, high = self.surface_mm.min(axis=0), self.surface_mm.max(axis=0)
        return Box(vector(centre + low - 0.5), vector(centre + high + 0.5))

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        """Depth in mm below the surface, to first order along the radius."""
        dx, dy, dz = x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]
        u, v, w = (
            (row[0] * dx + row[1] * dy + row[2] * dz) / radius
            for row, radius in zip(self.axes, self.radii_mm, strict=True)
        )
        norm = np.maximum(np.sqrt(np.square(u) + np.square(v) + np.square(w)), 1e-4)
        distance = np.sqrt(np.square(dx) + np.square(dy) + np.square(dz))
        surface = 1 + self._bumps(u / norm, v / norm, w / norm)
        scale = np.maximum(distance / norm, min(self.radii_mm))
        depth: Array = (surface - norm) * scale
        return depth
