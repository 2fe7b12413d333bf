"""A painted patient for geometry's sake: body, lungs and one bright ball, drawn by position in the world.

Whatever the axes, spacing and tilt, the ball lies at the same place of the patient, so that a shifted or mirrored mask
shows. Arrays are (i, j, k); positions are RAS mm relative to the centre of the scan.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.reliability.threshold_engine import LESION_HU, TISSUE_HU

AIR_HU, LUNG_HU, BONE_HU = -1000, -820, 700
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Patient:
    """What is painted. Lengths are shares of the scan's extent `fov_mm` along R, A, S, so that any scan holds it.

    trunk: `torso`, `legs` (two cylinders), `water` (a phantom) or `none`. lungs: 0, 1 or 2. centre: offset of it all.
    """

    trunk: str = "torso"
    lungs: int = 0
    arms: bool = False
    table: bool = True
    centre: tuple[float, float] = (0.0, 0.0)
    lesion: tuple[float, float, float] = (0.14, -0.1, 0.12)
    lesion_radius: float = 0.13


def extent_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Extent of the scan along R, A, S: of the box around it, mm."""
    sizes: NDArray[np.float64] = np.abs(affine[:3, :3]) @ np.asarray(shape, np.float64)
    return sizes


def slices(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> Iterator[tuple[int, Array, Array, Array]]:
    """Slice by slice (last axis): positions R, A, S of its voxel centres relative to the centre of the scan."""
    i, j = (np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2) for n in shape[:2])
    columns = affine[:3, :3].astype(np.float32)
    for k in range(shape[2]):
        z = np.float32(k - (shape[2] - 1) / 2)
        r, a, s = (c[0] * i[:, None] + c[1] * j[None, :] + c[2] * z for c in columns)
        yield k, r, a, s


def paint(
    shape: tuple[int, int, int], affine: NDArray[np.float64], patient: Patient | None = None
) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """HU of the scan and where the ball is, both (i, j, k), Fortran order."""
    patient = patient or Patient()
    fov = extent_mm(shape, affine)
    hu = np.full(shape, AIR_HU, np.int16, order="F")
    truth = np.zeros(shape, bool, order="F")
    radius = patient.lesion_radius * float(fov[:2].min())
    shift = np.array([*patient.centre, 0.0]) * fov
    ball = np.array(patient.lesion) * fov + shift
    for k, r, a, s in slices(shape, affine):
        x, y = r - shift[0], a - shift[1]
        plane = hu[:, :, k]
        plane[_trunk(patient, x, y, fov)] = 0 if patient.trunk == "water" else TISSUE_HU
        for side in (-1.0, 1.0)[: patient.lungs]:
            lung = ((x - side * 0.2 * fov[0]) / (0.14 * fov[0])) ** 2 + (y / (0.22 * fov[1])) ** 2
            plane[(lung <= 1) & (s > 0)] = LUNG_HU
        if patient.arms:
            for side in (-1.0, 1.0):
                arm = np.hypot(x - side * 0.44 * fov[0], y) <= 0.05 * fov[0]
                plane[arm & (s > 0.1 * fov[2])] = TISSUE_HU
        if patient.table:
            plane[(np.abs(y + 0.46 * fov[1]) <= 0.01 * fov[1]) & (np.abs(x) <= 0.4 * fov[0])] = -200
        inside = (r - ball[0]) ** 2 + (a - ball[1]) ** 2 + (s - ball[2]) ** 2 <= radius**2
        if patient.trunk == "torso":
            plane[inside] = LESION_HU
            truth[:, :, k] = inside
    return hu, truth


def _trunk(patient: Patient, x: Array, y: Array, fov: NDArray[np.float64]) -> NDArray[np.bool_]:
    if patient.trunk == "none":
        return np.zeros(x.shape, bool)
    if patient.trunk == "legs":
        left, right = (np.hypot(x - side * 0.18 * fov[0], y) <= 0.13 * fov[0] for side in (-1.0, 1.0))
        legs: NDArray[np.bool_] = left | right
        return legs
    trunk: NDArray[np.bool_] = (x / (0.4 * fov[0])) ** 2 + (y / (0.38 * fov[1])) ** 2 <= 1
    return trunk
