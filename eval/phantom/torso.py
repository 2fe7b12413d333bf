"""The trunk's envelope: body cavity, wall of muscle, fat and skin, diaphragm and lungs (atlas mm).

Cross-sections are star-shaped about the body's axis (x = y = 0): the cavity is a superellipse whose widths change with
z; muscle and fat are added around it as radial thicknesses, so that a stouter subject keeps the same inner organs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.phantom.canvas import Canvas
from eval.phantom.shapes import Array, Box
from eval.phantom.subject import Subject

ANGLES = 2000  # bins of the contour tables; 0.5 mm of arc at the skin
EXPONENT = 2.35
SKIN_MM = 1.8
PLEURA_MM = 2.5
LUNG_APEX_MM = 207.0


class Profile:
    """A smooth function of height from a few knots (z in mm, one or more values each)."""

    def __init__(self, *knots: tuple[float, ...], smooth_mm: int = 14) -> None:
        table = np.array(sorted(knots))
        self._z = np.arange(table[0, 0] - 2 * smooth_mm, table[-1, 0] + 2 * smooth_mm)
        window = np.hanning(2 * smooth_mm + 1)
        columns = []
        for values in table[:, 1:].T:
            padded = np.pad(np.interp(self._z, table[:, 0], values), smooth_mm, mode="edge")
            columns.append(np.convolve(padded, window / window.sum(), mode="valid"))
        self._columns = columns

    def __call__(self, z: NDArray[np.floating]) -> list[NDArray[np.float64]]:
        return [np.interp(z, self._z, column) for column in self._columns]


# Half-width, front and back half-depth of the cavity: pelvis, abdomen, chest, neck, skull.
CAVITY = Profile(
    (-425, 0, 0, 0), (-390, 45, 35, 40), (-350, 72, 58, 62), (-300, 100, 70, 62), (-250, 117, 76, 60),
    (-200, 121, 78, 63), (-150, 127, 80, 70), (-100, 132, 83, 77), (-50, 136, 84, 82), (0, 137, 83, 86),
    (50, 133, 80, 87), (90, 127, 75, 86), (130, 115, 66, 83), (165, 96, 50, 74), (185, 74, 37, 62),
    (200, 52, 26, 46), (215, 25, 15, 26), (260, 15, 15, 20), (300, 18, 20, 25), (320, 45, 50, 60),
    (350, 60, 70, 80), (400, 68, 82, 88), (450, 66, 75, 82), (480, 50, 58, 62), (497, 20, 22, 24),
    (502, 0, 0, 0), smooth_mm=8,
)  # fmt: skip
# Thickness of muscle and ribs in front, at the side, at the back.
WALL = Profile(
    (-422, 0, 0, 0), (-408, 30, 50, 40), (-350, 26, 62, 50), (-300, 16, 54, 49), (-250, 12, 32, 43),
    (-180, 11, 17, 39), (-100, 11, 16, 35), (-40, 12, 17, 32), (0, 14, 18, 28), (50, 18, 21, 26),
    (90, 21, 29, 28), (130, 23, 43, 32), (165, 22, 62, 37), (195, 24, 78, 42), (215, 30, 66, 46),
    (232, 34, 44, 44), (290, 36, 38, 40), (320, 18, 20, 32), (350, 14, 16, 22), (450, 10, 10, 11),
    (497, 9, 9, 9), (508, 0, 0, 0),
)  # fmt: skip
# The same of the fat of a subject of adiposity 1.
FAT = Profile(
    (-422, 0, 0, 0), (-412, 8, 12, 14), (-350, 20, 26, 20), (-250, 23, 25, 17), (-180, 22, 22, 14),
    (-100, 17, 18, 12), (0, 11, 13, 9), (90, 9, 11, 8), (165, 8, 9, 7), (215, 6, 8, 7),
    (290, 5, 5, 6), (350, 4, 4, 4), (500, 3, 3, 3), (508, 0, 0, 0),
)  # fmt: skip
# Bumps of the skin: direction and width in degrees, height in mm over z.
BUMPS = (
    (-90, 9, Profile((-330, -12), (-290, -9), (-220, -5), (0, -5), (150, -3), (200, 0))),  # groove of the back
    (-62, 20, Profile((-400, 4), (-340, 9), (-280, 3), (-240, 0))),
    (-118, 20, Profile((-400, 4), (-340, 9), (-280, 3), (-240, 0))),
    (57, 18, Profile((-20, 0), (45, 7), (90, 5), (150, 0))),  # breasts
    (123, 18, Profile((-20, 0), (45, 7), (90, 5), (150, 0))),
)


@dataclass(frozen=True)
class Layers:
    """Depth in mm below the surface of each envelope at every voxel, (nz, ny, nx) or (N,)."""

    body: Array
    muscle: Array
    cavity: Array
    from_back_rad: Array  # angle from straight back, 0 to pi, (1, ny, nx) or (N,)


class Torso:
    """The envelope of one subject."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        rng = subject.rng(1)
        self._ripple = [(k, float(rng.uniform(0, 2 * math.pi)), float(rng.normal()) * 0.5) for k in (2, 3, 4, 5, 7)]
        table = np.array([(-100, 10), (-80, 14), (-55, 25), (-30, 20), (0, 26), (30, 24), (58, 11), (90, 6)], float)
        self._medial = table

    def radii(self, angle: NDArray[np.floating], z: NDArray[np.floating]) -> tuple[Array, Array, Array]:
        """Radius of cavity, muscle and skin in mm; `angle` in rad: 0 is the patient's right, pi/2 the front."""
        cos, sin = np.cos(angle), np.sin(angle)
        half_width, front, back = CAVITY(z)
        depth = np.where(sin >= 0, front, back)
        n = EXPONENT
        with np.errstate(divide="ignore"):
            powers = (np.abs(cos) / np.maximum(half_width, 1e-3)) ** n + (np.abs(sin) / np.maximum(depth, 1e-3)) ** n
        cavity = powers ** (-1 / n)
        weights = np.maximum(sin, 0) ** 2, cos**2, np.maximum(-sin, 0) ** 2
        wall = sum(weight * thick for weight, thick in zip(weights, WALL(z), strict=True))
        fat = sum(weight * thick for weight, thick in zip(weights, FAT(z), strict=True)) * self.subject.adiposity
        ripple = sum(size * np.sin(k * angle + phase + 0.01 * z) for k, phase, size in self._ripple)
        fat = np.maximum(fat * (1 + 0.12 * ripple), 0)
        for direction, width, height in BUMPS:
            away = (angle - math.radians(direction) + math.pi) % (2 * math.pi) - math.pi
            fat = fat + height(z)[0] * np.exp(-((away / math.radians(width)) ** 2))
        muscle = cavity + wall
        skin = muscle + np.maximum(fat, np.minimum(2.5, wall))
        return cavity.astype(np.float32), muscle.astype(np.float32), skin.astype(np.float32)

    def layers(self, x: Array, y: Array, z: Array) -> Layers:
        """Depths of a slab (x (1, 1, nx), y (1, ny, 1), z (nz, 1, 1)) or of points (all (N,))."""
        radius = np.sqrt(np.square(x) + np.square(y))
        angle = np.arctan2(y, x)
        from_back = np.abs((angle + 1.5 * math.pi) % (2 * math.pi) - math.pi).astype(np.float32)
        if z.ndim == 1:
            cavity, muscle, skin = (r - radius for r in self.radii(angle, z))
            return Layers(skin, muscle, cavity, from_back)
        bins = (np.arange(ANGLES) + 0.5) * (2 * math.pi / ANGLES) - math.pi
        tables = self.radii(bins[None, :], z[:, 0, :].astype(np.float64))
        index = np.minimum(((angle + math.pi) * (ANGLES / (2 * math.pi))).astype(np.intp), ANGLES - 1)[0]
        # The radial gap shortened to the distance from the contour: divided by sqrt(1 + (R'/R)^2).
        muscle_table = np.maximum(tables[1], 1)
        slope = np.gradient(muscle_table, 2 * math.pi / ANGLES, axis=1) / muscle_table
        shorten = _gather((1 / np.sqrt(1 + np.square(slope))).astype(np.float32), index)
        cavity, muscle, skin = ((_gather(table, index) - radius) * shorten for table in tables)
        return Layers(skin, muscle, cavity, from_back)

    def above_diaphragm(self, x: Array, y: Array, z: Array) -> Array:
        """Height above the diaphragm in mm, shortened to a distance. The dome's rim forms the costophrenic recesses."""
        right, left = self.subject.diaphragm_mm
        side = np.clip((x + 45) / 90, 0, 1)
        apex = left + (right - left) * side * side * (3 - 2 * side)
        u = np.abs(x) - 66
        u = u / np.where(u > 0, np.float32(74), np.float32(135))
        v = (y - 2) / np.where(y > 2, np.float32(125), np.float32(86))
        square = np.square(u) + np.square(v)
        dome = apex - 100 * square**1.3
        slope_square = np.square(260 * square**0.3) * (np.square(u / 90) + np.square(v / 100))
        height: Array = (z - dome) / np.sqrt(1 + slope_square)
        return height

    def lungs(self, x: Array, y: Array, z: Array, cavity: Array, height: Array) -> Array:
        """Depth inside either lung before the heart and the vessels of the mediastinum are painted over it."""
        medial = np.interp(y, self._medial[:, 0], self._medial[:, 1]).astype(np.float32)
        medial = medial * np.interp(z, [-60, 0, 120, 205], [1.25, 1.0, 0.95, 1.0]).astype(np.float32)
        depth = np.minimum(np.abs(x) - medial, cavity - PLEURA_MM)
        result: Array = np.minimum(np.minimum(depth, height), LUNG_APEX_MM - z)
        return result

    def paint(self, canvas: Canvas) -> Layers:
        """Skin, fat, muscle, cavity fat, lungs; leaves the spaces that organs may not leave on the canvas."""
        tissue = self.subject.tissue
        x, y, z = canvas.coordinates()
        layers = self.layers(x, y, z)
        canvas.fill(layers.body, tissue.skin)
        canvas.fill(layers.body - SKIN_MM, tissue.fat)
        canvas.fill(layers.muscle, self._muscle(layers, z))
        canvas.fill(layers.cavity, tissue.fat)
        in_skull = z[:, 0, 0] > 305
        if in_skull.any():
            canvas.hu[in_skull] += canvas.cover(layers.cavity[in_skull]) * (tissue.brain - canvas.hu[in_skull])
        height = self.above_diaphragm(x, y, z)
        muscle_sheet = np.minimum(2.0 - np.abs(height + 1.0), layers.cavity)
        canvas.fill(np.where(z < 60, muscle_sheet, np.float32(-1e3)), tissue.muscle)
        lungs = self.lungs(x, y, z, layers.cavity, height)
        # Blood sinks to the back of a lung: about 30 HU per 10 cm.
        canvas.fill(lungs, tissue.lung - 0.3 * y)
        fissure = np.minimum(0.7 - np.abs(0.62 * y + 0.78 * (z - 45) + np.square(np.abs(x) - 70) / 170), lungs - 1)
        canvas.hu += canvas.cover(fissure) * 70
        canvas.spaces = {
            "cavity": layers.cavity - 1,
            "lungs": lungs,
            "above_diaphragm": np.minimum(layers.cavity - 1, height),
            "below_diaphragm": np.minimum(layers.cavity - 1, -height - 2.5),
        }
        return layers

    def _muscle(self, layers: Layers, z: Array) -> Array:
        """HU of the wall: muscle with thin sheets of fat between its layers."""
        tissue = self.subject.tissue
        turn = layers.from_back_rad
        share = layers.muscle / np.maximum(layers.muscle - layers.cavity, 4)
        # Even and parallel in the flanks; wavy and broken around the chest.
        chest = np.clip((z + 60) / 50, 0, 1)
        wave = np.sin(5 * turn) * np.cos(0.035 * z) + np.cos(5 * turn) * np.sin(0.035 * z)
        share = share + 0.16 * chest * wave
        strength = np.square(np.sin(turn)) * (1 - chest * (0.5 + 0.5 * np.sin(7 * turn)))
        sheets = np.maximum(1 - np.square((share - 0.36) * 12), 0)
        if float(chest.min()) < 1:
            sheets += (1 - chest) * np.maximum(1 - np.square((share - 0.68) * 14), 0)
        hu: Array = tissue.muscle - 85 * strength * sheets
        return hu

    def bounds(self, z: Array) -> Box:
        """What the trunk covers between the lowest and the highest of some heights; `z` (nz, 1, 1)."""
        angle = np.linspace(-math.pi, math.pi, 181)[None, :]
        skin = self.radii(angle, z[:, 0, :].astype(np.float64))[2]
        x, y = skin * np.cos(angle), skin * np.sin(angle)
        low, high = float(z.min()), float(z.max())
        return Box((float(x.min()), float(y.min()), low), (float(x.max()), float(y.max()), high))


def _gather(table: Array, index: NDArray[np.intp]) -> Array:
    """Table (nz, ANGLES) at index (ny, nx) -> (nz, ny, nx); row by row with clipping: 10 times faster than indexing."""
    out = np.empty((len(table), *index.shape), np.float32)
    for row, plane in zip(table, out, strict=True):
        np.take(row, index, out=plane, mode="clip")
    return out
