"""Painted scans, in memory: a body with a bright ball, in any frame, and scans that already lie on the model grid."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.scan.anatomy import Anatomy
from gfscreen.scan.grid import ModelGrid, ModelScan
from gfscreen.scan.region import RegionSplit
from gfscreen.scan.volume import Geometry, Volume

AIR_HU, TISSUE_HU, LUNG_HU, LESION_HU = -1000, 40, -850, 200
BALL_OFFSET_MM = np.array([22.0, -14.0, 10.0])
BALL_RADIUS_MM = 18.0
BODY_SEMI_AXES_MM = np.array([58.0, 50.0, 62.0])
PAINTED_SHAPE, PAINTED_AFFINE = (36, 32, 30), np.diag([4.0, 4.0, 5.0, 1.0])


def dice(a: NDArray[Any], b: NDArray[Any]) -> float:
    """2 |A and B| / (|A| + |B|)."""
    a, b = a.astype(bool), b.astype(bool)
    return float(2.0 * (a & b).sum() / (a.sum() + b.sum()))


def world_mm(shape: tuple[int, ...], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """RAS position of every voxel centre, (i, j, k, 3)."""
    index = np.moveaxis(np.indices(shape), 0, -1).astype(np.float64)
    return index @ affine[:3, :3].T + affine[:3, 3]


def paint(shape: tuple[int, int, int], affine: NDArray[np.float64]) -> tuple[NDArray[np.int16], NDArray[np.bool_]]:
    """An ellipsoid body with one bright ball off its centre, painted by world position; (HU, where the ball is).

    The same patient whatever the axes: the ball lies to the right, back and head of the centre of the scan.
    """
    centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3]
    relative = world_mm(shape, affine) - centre
    body = ((relative / BODY_SEMI_AXES_MM) ** 2).sum(axis=-1) <= 1.0
    ball = ((relative - BALL_OFFSET_MM) ** 2).sum(axis=-1) <= BALL_RADIUS_MM**2
    hu = np.full(shape, AIR_HU, np.int16)
    hu[body] = TISSUE_HU
    hu[ball] = LESION_HU
    return hu, ball


def axes_affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing_mm: tuple[float, ...], origin_mm: tuple[float, ...]
) -> NDArray[np.float64]:
    """Affine whose file axis n runs along RAS axis order[n], in the direction of signs[n]."""
    affine = np.eye(4)
    affine[:3, :3] = 0.0
    for file_axis, (ras, sign) in enumerate(zip(order, signs, strict=True)):
        affine[ras, file_axis] = sign * spacing_mm[file_axis]
    affine[:3, 3] = origin_mm
    return affine


ORIENTATIONS = [
    pytest.param(order, signs, id="".join("LPI"[o] if s < 0 else "RAS"[o] for o, s in zip(order, signs, strict=True)))
    for order in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def affine_of(
    columns: NDArray[np.float64], origin_mm: tuple[float, ...] = (-60.0, -55.0, -70.0)
) -> NDArray[np.float64]:
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = columns, origin_mm
    return affine


def volume_of(hu: NDArray[Any], affine: NDArray[np.float64] | None = None, name: str = "scan.nii.gz") -> Volume:
    """A volume in memory; the affine defaults to 4 x 4 x 5 mm along R, A, S."""
    affine = np.diag([4.0, 4.0, 5.0, 1.0]) if affine is None else affine
    shape = (hu.shape[0], hu.shape[1], hu.shape[2])
    return Volume(np.asfortranarray(hu.astype(np.int16)), Geometry(shape, affine), Path(name))


def model_scan(
    shape: tuple[int, int, int],
    hu: NDArray[Any] | None = None,
    body: NDArray[np.bool_] | None = None,
    chest: NDArray[np.bool_] | None = None,
    spacing_mm: tuple[float, float, float] = (4.0, 4.0, 4.0),
) -> ModelScan:
    """A scan that already lies on the model grid, uncropped; all body and all abdomen unless said otherwise."""
    hu = np.full(shape, TISSUE_HU, np.float32) if hu is None else hu.astype(np.float32)
    body = np.ones(shape, bool) if body is None else body
    chest = np.zeros(shape[2], bool) if chest is None else chest
    grid = ModelGrid(((0, shape[0]), (0, shape[1]), (0, shape[2])), shape, shape, spacing_mm, spacing_mm)
    anatomy = Anatomy((1, 1, 1), spacing_mm, body, np.zeros(shape, bool))
    region = RegionSplit("abdomen", chest, np.zeros(shape[2]), spacing_mm[2], "for a test")
    return ModelScan(hu, body, chest, grid, region, anatomy)
