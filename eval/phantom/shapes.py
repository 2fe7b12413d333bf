"""Solid shapes in patient millimetres (RAS): each answers how deep inside it a point lies.

Coordinates come as three float32 arrays that broadcast against each other, so that one shape serves single points
(N,), and slabs as `x` (1, 1, nx), `y` (1, ny, 1), `z` (nz, 1, 1). A depth is positive inside, negative outside, zero
on the surface; it is a distance in mm near the surface, where soft edges need it, and only a monotone guide elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
Vector = tuple[float, float, float]
Rotation = tuple[Vector, Vector, Vector]  # rows are the shape's own axes in RAS


@dataclass(frozen=True)
class Box:
    """Axis-parallel bounds in mm."""

    low_mm: Vector
    high_mm: Vector

    def union(self, other: Box) -> Box:
        low, high = np.minimum(self.low_mm, other.low_mm), np.maximum(self.high_mm, other.high_mm)
        return Box(vector(low), vector(high))


class Shape(Protocol):
    """What can be painted."""

    @property
    def bounds(self) -> Box: ...

    def depth(self, x: Array, y: Array, z: Array) -> Array: ...


def vector(values: Iterable[SupportsFloat]) -> Vector:
    """Three plain floats: NumPy scalars of double precision would turn float32 arithmetic into float64."""
    a, b, c = (float(value) for value in values)
    return a, b, c


def rotation_from_axis(direction: Iterable[SupportsFloat]) -> Rotation:
    """Axes of a shape whose first own axis points along `direction`; the other two are any right-handed completion."""
    first = np.asarray(vector(direction))
    first = first / np.linalg.norm(first)
    helper = np.array([0.0, 0.0, 1.0]) if abs(first[2]) < 0.9 else np.array([0.0, 1.0, 0.0])
    second = np.cross(helper, first)
    second /= np.linalg.norm(second)
    return vector(first), vector(second), vector(np.cross(first, second))


@dataclass(frozen=True)
class Wobble:
    """A smooth unevenness of a surface: a product of three sines, at most `amplitude_mm` in or out."""

    amplitude_mm: float
    wavelength_mm: float
    phases: Vector

    def __call__(self, x: Array, y: Array, z: Array) -> Array:
        k = 2 * math.pi / self.wavelength_mm
        a, b, c = self.phases
        wave: Array = np.sin(k * x + a) * np.sin(k * y + b) * (self.amplitude_mm * np.sin(k * z + c))
        return wave


@dataclass(frozen=True)
class Ellipsoid:
    """Ellipsoid, rotated if `axes` is given. Depth to first order: exact for a sphere, right at the surface for all."""

    centre_mm: Vector
    radii_mm: Vector
    axes: Rotation | None = None
    wobble: Wobble | None = None

    @property
    def bounds(self) -> Box:
        axes = np.eye(3) if self.axes is None else np.asarray(self.axes)
        reach = np.sqrt(((np.asarray(self.radii_mm)[:, None] * axes) ** 2).sum(axis=0))
        reach += self.wobble.amplitude_mm if self.wobble else 0.0
        centre = np.asarray(self.centre_mm)
        return Box(vector(centre - reach), vector(centre + reach))

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        dx, dy, dz = x - self.centre_mm[0], y - self.centre_mm[1], z - self.centre_mm[2]
        inner = np.float32(0)
        outer = np.float32(0)
        for row, radius in zip(self.axes or ((1.0, 0, 0), (0, 1.0, 0), (0, 0, 1.0)), self.radii_mm, strict=True):
            terms = [part * (weight / radius) for part, weight in zip((dx, dy, dz), row, strict=True) if weight]
            square = np.square(sum(terms[1:], terms[0]))
            inner = inner + square
            outer = outer + square * (1 / radius**2)
        norm = np.sqrt(np.maximum(inner, 1e-8))
        depth: Array = (1 - norm) * norm / np.sqrt(np.maximum(outer, 1e-8 / max(self.radii_mm) ** 2))
        return depth + self.wobble(x, y, z) if self.wobble else depth


@dataclass(frozen=True)
class Capsule:
    """A straight piece of tube with round ends whose radius changes linearly from start to end."""

    start_mm: Vector
    end_mm: Vector
    start_radius_mm: float
    end_radius_mm: float

    @property
    def bounds(self) -> Box:
        (ax, ay, az), (bx, by, bz) = self.start_mm, self.end_mm
        a, b = self.start_radius_mm, self.end_radius_mm
        return Box(
            (min(ax - a, bx - b), min(ay - a, by - b), min(az - a, bz - b)),
            (max(ax + a, bx + b), max(ay + a, by + b), max(az + a, bz + b)),
        )

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        dx, dy, dz = x - self.start_mm[0], y - self.start_mm[1], z - self.start_mm[2]
        ax, ay, az = (b - a for a, b in zip(self.start_mm, self.end_mm, strict=True))
        length_square = max(ax * ax + ay * ay + az * az, 1e-9)
        along = dx * (ax / length_square) + dy * (ay / length_square) + dz * (az / length_square)
        along = np.maximum(np.minimum(along, 1), 0)  # a third of np.clip's overhead, which rules on small windows
        square = np.square(dx - along * ax) + np.square(dy - along * ay) + np.square(dz - along * az)
        depth: Array = self.start_radius_mm + along * (self.end_radius_mm - self.start_radius_mm) - np.sqrt(square)
        return depth


@dataclass(frozen=True)
class Drum:
    """An upright elliptic cylinder with a waist of `waist` times its radius: a vertebral body, a disc."""

    centre_mm: Vector
    radii_mm: tuple[float, float]
    half_height_mm: float
    waist: float = 1.0

    @property
    def bounds(self) -> Box:
        reach = np.array([*self.radii_mm, self.half_height_mm])
        centre = np.asarray(self.centre_mm)
        return Box(vector(centre - reach), vector(centre + reach))

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        dz = (z - self.centre_mm[2]) / self.half_height_mm
        size = self.waist + (1 - self.waist) * np.minimum(np.square(dz), 1)
        u, v = (x - self.centre_mm[0]) / self.radii_mm[0], (y - self.centre_mm[1]) / self.radii_mm[1]
        radial = (size - np.sqrt(np.square(u) + np.square(v))) * min(self.radii_mm)
        depth: Array = np.minimum(radial, (1 - np.abs(dz)) * self.half_height_mm)
        return depth


@dataclass(frozen=True)
class Inset:
    """A shape made smaller by `margin_mm` all round (larger if negative): a marrow in its cortex, a fat coat."""

    shape: Shape
    margin_mm: float

    @property
    def bounds(self) -> Box:
        (ax, ay, az), (bx, by, bz) = (box := self.shape.bounds).low_mm, box.high_mm
        m = self.margin_mm
        return Box((ax + m, ay + m, az + m), (bx - m, by - m, bz - m))

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        return self.shape.depth(x, y, z) - self.margin_mm


@dataclass(frozen=True)
class Above:
    """The part of a shape in front of a coronal plane: where the gas gathers when the patient lies on the back."""

    shape: Shape
    level_y_mm: float

    @property
    def bounds(self) -> Box:
        box = self.shape.bounds
        return Box((box.low_mm[0], max(box.low_mm[1], self.level_y_mm), box.low_mm[2]), box.high_mm)

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        depth: Array = np.minimum(self.shape.depth(x, y, z), y - self.level_y_mm)
        return depth


@dataclass(frozen=True)
class Union:
    """Two shapes melted together: `blend_mm` rounds the crease between them."""

    first: Shape
    second: Shape
    blend_mm: float = 0.0

    @property
    def bounds(self) -> Box:
        return Inset(_Bounded(self.first.bounds.union(self.second.bounds)), -self.blend_mm).bounds

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        a, b = self.first.depth(x, y, z), self.second.depth(x, y, z)
        union: Array = np.maximum(a, b)
        if self.blend_mm:
            near = np.maximum(1 - np.abs(a - b) / self.blend_mm, 0)
            union = union + np.square(near) * (self.blend_mm / 4)
        return union


@dataclass(frozen=True)
class _Bounded:
    """Only bounds: lets `Inset` widen the bounds of a union."""

    bounds: Box

    def depth(self, x: Array, y: Array, z: Array) -> Array:
        raise NotImplementedError


def tube(points_mm: Sequence[Sequence[float]], radii_mm: Sequence[float]) -> list[Capsule]:
    """Capsules along a polyline; one radius per point."""
    points = [vector(point) for point in points_mm]
    return [
        Capsule(a, b, float(ra), float(rb))
        for a, b, ra, rb in zip(points[:-1], points[1:], radii_mm[:-1], radii_mm[1:], strict=True)
    ]
