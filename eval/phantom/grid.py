"""The voxel grid of a scan: size, spacing and place in patient space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.phantom.shapes import Array, Box, Vector, vector

SHAPE_LIMITS = (16, 4096)
SPACING_LIMITS_MM = (0.2, 12.0)


def check_limits(shape: tuple[int, int, int] | None, spacing_mm: Vector | None) -> None:
    """Refuse what no scanner writes, NaN included. What is None is not checked.

    Raises:
        ValueError: naming the value, the rule and an example.

    """
    low, high = SHAPE_LIMITS
    if shape is not None and not all(low <= size <= high for size in shape):
        raise ValueError(f"shape {shape}: each size must be from {low} to {high} voxels; give for example 192,160,56")
    least, most = SPACING_LIMITS_MM
    if spacing_mm is not None and not all(least <= step <= most for step in spacing_mm):
        raise ValueError(f"spacing {spacing_mm}: each must be from {least} to {most} mm; give for example 0.8,0.8,5")


@dataclass(frozen=True)
class Grid:
    """Voxels (x, y, z) stored as scanners store them: index x runs to the patient's left, y to the back, z to the head.

    Args:
        shape: voxels along x, y, z.
        spacing_mm: distance of voxel centres.
        centre_ras_mm: middle of the field of view.

    """

    shape: tuple[int, int, int]
    spacing_mm: Vector
    centre_ras_mm: Vector

    def __post_init__(self) -> None:
        check_limits(self.shape, self.spacing_mm)

    @property
    def affine_ras(self) -> NDArray[np.float64]:
        """4x4, voxel index -> RAS mm of the voxel's centre. Its numbers are exact in float32, as NIfTI stores them."""
        affine = np.diag([-self.spacing_mm[0], -self.spacing_mm[1], self.spacing_mm[2], 1.0])
        half = (np.asarray(self.shape) - 1) / 2 * self.spacing_mm
        affine[:3, 3] = np.asarray(self.centre_ras_mm) + half * (1, 1, -1)
        return affine.astype(np.float32).astype(np.float64)

    def axes_mm(self) -> tuple[Array, Array, Array]:
        """RAS coordinates of the voxel centres along each axis, float32."""
        affine = self.affine_ras
        x, y, z = (affine[i, 3] + affine[i, i] * np.arange(self.shape[i]) for i in range(3))
        return x.astype(np.float32), y.astype(np.float32), z.astype(np.float32)

    def inner_box(self) -> Box:
        """The field of view without its outermost voxels: what lies in here has background all round it."""
        half = (np.asarray(self.shape) / 2 - 1) * self.spacing_mm
        centre = np.asarray(self.centre_ras_mm)
        return Box(vector(centre - half), vector(centre + half))
