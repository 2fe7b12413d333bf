"""Where voxels lie in the patient: affine, spacing, orientation, and the repair of cosines that are not orthonormal."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gfscreen.errors import InputError

# Cosines are stored in float32 and often printed with few digits; a larger deviation is a sheared or damaged frame.
ORTHONORMAL_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Geometry:
    """Geometry of a scan.

    shape: voxels along the file's axes (i, j, k). affine_ras_mm: (4, 4), voxel index -> RAS+ mm, as the file says.
    nifti_header: the header exactly as found (348 or 540 bytes), to be written back with the mask; None if the scan did
    not come as NIfTI.
    """

    shape: tuple[int, int, int]
    affine_ras_mm: NDArray[np.float64]
    nifti_header: bytes | None = None

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance of neighbouring voxels along i, j, k."""
        i, j, k = np.linalg.norm(self.affine_ras_mm[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @cached_property
    def voxel_mm3(self) -> float:
        """Volume of a voxel, by the determinant of the affine."""
        return abs(float(np.linalg.det(self.affine_ras_mm[:3, :3])))

    def volume_ml(self, voxels: int) -> float:
        """Volume of so many voxels, rounded to 0.1 mm3."""
        return round(voxels * self.voxel_mm3 / 1000.0, 4)

    @cached_property
    def cosines_deviation(self) -> float:
        """Largest deviation of the direction cosines' Gram matrix from the identity; 0 for a proper frame."""
        cosines = self.affine_ras_mm[:3, :3] / np.asarray(self.spacing_mm)
        return float(np.abs(cosines.T @ cosines - np.eye(3)).max())

    @cached_property
    def direction_ras(self) -> NDArray[np.float64]:
        """Orthonormal direction cosines (3, 3), columns along i, j, k: the nearest rotation (or reflection), by SVD."""
        u, _, vt = np.linalg.svd(self.affine_ras_mm[:3, :3] / np.asarray(self.spacing_mm))
        direction: NDArray[np.float64] = u @ vt
        return direction

    @cached_property
    def ras_axes(self) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
        """File axis that runs closest to each of R, A, S, and whether it runs against it.

        `axes[0]` is the file axis for left-right, `flips[0]` is True if it runs from right to left. A one-to-one
        assignment, by the largest remaining cosine; a 45 degree tie goes to the lower axis.
        """
        cosines = np.abs(self.direction_ras)
        axes = [-1, -1, -1]
        # Rounding makes ties reproducible whatever the SVD's last digits are.
        order = np.argsort(-np.round(cosines, 6), axis=None, kind="stable")
        for index in order:
            ras, file_axis = divmod(int(index), 3)
            if axes[ras] < 0 and file_axis not in axes:
                axes[ras] = file_axis
        flips = [bool(self.direction_ras[ras, axes[ras]] < 0) for ras in range(3)]
        return (axes[0], axes[1], axes[2]), (flips[0], flips[1], flips[2])


@dataclass(frozen=True)
class Volume:
    """A scan in memory: `hu` int16 (i, j, k) in Hounsfield units, its geometry, and what was odd about it.

    series_uid: Series Instance UID of the DICOM series that was taken; None for other files.
    """

    hu: NDArray[np.int16]
    geometry: Geometry
    source: Path
    warnings: tuple[str, ...] = field(default=())
    series_uid: str | None = None


# Beyond these the header's units are wrong: no CT has voxels of a hundredth of a millimetre, or of ten centimetres.
SPACING_RANGE_MM = (0.01, 100.0)


def check_spacing(spacing_mm: NDArray[np.float64], source: Path) -> None:
    """Raise InputError unless every spacing is a length that a CT can have."""
    low, high = SPACING_RANGE_MM
    if not (np.isfinite(spacing_mm).all() and spacing_mm.min() >= low and spacing_mm.max() <= high):
        raise InputError(
            f"{source.name}: expected a spacing of at least {low} and at most {high:.0f} mm, got "
            f"{[float(f'{s:.6g}') for s in spacing_mm]} mm; check the units of the header"
        )


# Spacings are stored in float32 and often written with three digits behind the point: 0.977 for 0.9765625 is 0.05 %.
# A part in a thousand is half a millimetre over the width of a scan, as little as two forms may lie apart.
SPACING_TOLERANCE = 1e-3


def same_spacing(a: ArrayLike, b: ArrayLike) -> bool:
    """Whether two spacings (i, j, k) in mm are the same but for how they were written; not with NaN or infinity."""
    first, second = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if not (np.isfinite(first).all() and np.isfinite(second).all()):
        return False
    return bool((np.abs(first - second) <= SPACING_TOLERANCE * np.maximum(np.abs(first), np.abs(second))).all())


def spacing_text(spacing_mm: ArrayLike) -> str:
    """A spacing for a message: 0.976562 x 0.976562 x 3."""
    return " x ".join(f"{mm:.6g}" for mm in np.asarray(spacing_mm, np.float64))


def grid_shift_mm(shape: tuple[int, ...], a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """How far two 4x4 affines place the same corner voxel of a grid of `shape` apart, at most; NaN if either holds it.

    0 means the same grid; a flip, a shift or another spacing shows as many mm.
    """
    corners = np.array([[x, y, z, 1] for x in (0, 1) for y in (0, 1) for z in (0, 1)], dtype=np.float64)
    corners *= np.array([*(n - 1 for n in shape), 1])
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.linalg.norm((corners @ (a - b).T)[:, :3], axis=1).max())


def check_affine(affine: NDArray[np.float64], source: Path) -> list[str]:
    """Raise InputError for an affine that places no volume in space; return warnings for one that is repaired."""
    if not np.isfinite(affine).all():
        raise InputError(
            f"{source.name}: expected finite geometry, the affine holds NaN or infinity; repair the header"
        )
    columns = affine[:3, :3]
    with np.errstate(over="ignore"):
        spacing = np.linalg.norm(columns, axis=0)
    if spacing.min() <= 1e-6 or abs(np.linalg.det(columns / np.maximum(spacing, 1e-12))) < 1e-3:
        raise InputError(
            f"{source.name}: expected three independent axes with positive spacing, got spacing "
            f"{np.round(spacing, 6).tolist()} mm; repair the header"
        )
    check_spacing(spacing, source)
    deviation = Geometry((1, 1, 1), affine).cosines_deviation
    if deviation > ORTHONORMAL_TOLERANCE:
        return [
            f"direction cosines are not orthonormal (deviation {deviation:.4f}): "
            "nearest rotation used for reading, original header kept for the mask"
        ]
    return []
