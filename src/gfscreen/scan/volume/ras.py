"""A scan as the patient lies: views, spacing and affine in RAS order, x to the right, y to the front, z to the head."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gfscreen.scan.volume.geometry import Geometry, Volume


def ras_view(array: NDArray[np.generic], volume: Volume) -> NDArray[np.generic]:
    """A view of a native (i, j, k) array as (x, y, z) towards right, front, head; no copy."""
    return ras_view_of(array, volume.geometry)


def ras_view_of(array: NDArray[np.generic], geometry: Geometry) -> NDArray[np.generic]:
    """The same where the geometry alone is known."""
    axes, flips = geometry.ras_axes
    view = array.transpose(axes)
    return view[tuple(slice(None, None, -1) if flip else slice(None) for flip in flips)]


def ras_spacing(volume: Volume) -> tuple[float, float, float]:
    """Native spacing along x, y, z of the RAS view, mm."""
    axes, _ = volume.geometry.ras_axes
    spacing = volume.geometry.spacing_mm
    return spacing[axes[0]], spacing[axes[1]], spacing[axes[2]]


def ras_affine(volume: Volume) -> NDArray[np.float64]:
    """4x4 from the index of `ras_view` to RAS mm."""
    axes, flips = volume.geometry.ras_axes
    to_file = np.zeros((4, 4))
    to_file[3, 3] = 1.0
    for ras, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        to_file[axis, ras] = -1.0 if flip else 1.0
        to_file[axis, 3] = volume.geometry.shape[axis] - 1 if flip else 0
    affine: NDArray[np.float64] = volume.geometry.affine_ras_mm @ to_file
    return affine
