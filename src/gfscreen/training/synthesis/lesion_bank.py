"""Lesions to insert: real lung nodules with their HU, and real lesion shapes without images.

Both are kept at their native spacing and sampled onto the model grid (1 x 1 x 3 mm by plan) with a random rotation
about the body's long axis, flips, size and sub-voxel phase. Arrays are (x, y, z).

Which mask is the nodule: LIDC's widest outline is loose, a median 26 % of its voxels are air-like. Training uses the
tight one: inside the outline, voxels above the half-way HU between lung and nodule (at most -400 HU, at least -650 HU,
so that ground glass keeps a mask), largest part, cut on the model grid where the network sees it. `loose` is kept for
reports against both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.errors import InputError
from gfscreen.scan.parts import largest_part

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]

TIGHT_HU = -400.0
GROUND_GLASS_HU = -650.0
LUNG_HU = -850.0
SIZE_RANGE = (0.85, 1.2)
MARGIN_MM = 4.0


@dataclass(frozen=True)
class Nodule:
    """A nodule crop: hu int16 and outline bool (x, y, z) at spacing_mm; `patient` decides the side of the split."""

    name: str
    patient: str
    hu: NDArray[np.int16]
    outline: BoolArray
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True)
class Shape:
    """A lesion mask (x, y, z) at spacing_mm, from the collection `source` (kidney, liver, node, bone, ...)."""

    name: str
    patient: str
    source: str
    mask: BoolArray
    spacing_mm: tuple[float, float, float]

    @property
    def volume_ml(self) -> float:
        """Volume of the mask."""
        return float(self.mask.sum() * np.prod(self.spacing_mm)) / 1000.0


@dataclass(frozen=True)
class Patch:
    """A lesion on the model grid: tight and loose masks and, for nodules, HU (None for bare shapes)."""

    name: str
    hu: FloatArray | None
    loose: BoolArray
    tight: BoolArray


def patient_of(name: str) -> str:
    """Patient of a crop or shape: `LIDC-IDRI-0001_R_1` -> `LIDC-IDRI-0001`, `liver_0_lesion_01` -> `liver_0`."""
    for separator in ("_R_", "_lesion", "_l2_", "_l3_"):
        if separator in name:
            return name.split(separator)[0]
    return name


def read_nodules(folder: Path) -> list[Nodule]:
    """All nodules of a folder with `image/` and `nodule_mask/`, by name. Raises InputError for a missing mask."""
    nodules = []
    for path in sorted((folder / "image").glob("*.nii.gz")):
        name = path.name.removesuffix(".nii.gz")
        mask_path = folder / "nodule_mask" / path.name
        if not mask_path.is_file():
            raise InputError(f"{mask_path}: no mask for {path.name}; restore the file or remove the image")
        image = nib.load(path)
        hu = np.asarray(np.asanyarray(image.dataobj), dtype=np.int16)
        outline = np.asarray(np.asanyarray(nib.load(mask_path).dataobj)) > 0
        if hu.shape != outline.shape:
            raise InputError(
                f"{mask_path}: expected the image's shape {hu.shape}, got {outline.shape}; restore the file"
            )
        x, y, z = (float(v) for v in np.linalg.norm(image.affine[:3, :3], axis=0))
        if outline.any():
            nodules.append(Nodule(name, patient_of(name), hu, outline, (x, y, z)))
    return nodules


def read_shapes(folder: Path) -> list[Shape]:
    """All shapes of a folder of packed `.npz` collections, without those that lack spacing or have one slice."""
    shapes = []
    for path in sorted(folder.glob("*.npz")):
        with np.load(path, allow_pickle=False) as data:
            sizes, spacings, offsets, bits = data["shape"], data["spacing"], data["offset"], data["bits"]
            for index, name in enumerate(data["ids"]):
                size, spacing = tuple(int(n) for n in sizes[index]), spacings[index].astype(float)
                if not (spacing > 0).all() or min(size) < 2:
                    continue
                packed = bits[offsets[index] : offsets[index + 1]]
                mask = np.unpackbits(packed, count=int(np.prod(size))).reshape(size).astype(bool)
                # KiTS stores slices first; the model's slices run along the last axis.
                if path.stem.startswith("kits"):
                    mask, spacing = mask.transpose(2, 1, 0), spacing[::-1]
                x, y, z = (float(v) for v in spacing)
                shapes.append(Shape(str(name), f"{path.stem}/{patient_of(str(name))}", path.stem, mask, (x, y, z)))
    return shapes


def _matrix(rng: np.random.Generator, spacing_mm: tuple[float, ...], grid_mm: tuple[float, ...]) -> NDArray[np.float64]:
    """Matrix (3, 3) from model voxels to native voxels: rotation about z, flips, one size for all axes."""
    angle, size = rng.uniform(0, 2 * np.pi), rng.uniform(*SIZE_RANGE)
    flips = rng.choice([-1.0, 1.0], size=3)
    rotation = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]) * flips
    return np.asarray(np.diag(1 / np.asarray(spacing_mm)) @ rotation @ np.diag(grid_mm) / size)


def _resample(
    rng: np.random.Generator,
    mask: BoolArray,
    hu: NDArray[np.int16] | None,
    spacing_mm: tuple[float, ...],
    grid_mm: tuple[float, ...],
) -> tuple[FloatArray, FloatArray | None]:
    """Fraction of lesion per model voxel and, if given, HU; the box holds the lesion with MARGIN_MM around it."""
    matrix = _matrix(rng, spacing_mm, grid_mm)
    indices = np.argwhere(mask)
    low, high = indices.min(axis=0), indices.max(axis=0)
    centre = (low + high) / 2
    corners = np.stack(np.meshgrid(*zip(low - 0.5, high + 0.5, strict=True)), axis=-1).reshape(-1, 3) - centre
    reach = np.abs(corners @ np.linalg.inv(matrix).T).max(axis=0) + MARGIN_MM / np.asarray(grid_mm)
    size = 2 * np.ceil(reach).astype(int) + 1
    phase = rng.uniform(-0.5, 0.5, size=3)
    offset = centre - matrix @ ((size - 1) / 2 + phase)
    # Thick model slices average thin native ones, as a scanner's reconstruction does.
    blur = [0.0, 0.0, 0.3 * max(grid_mm[2] / spacing_mm[2] - 1.0, 0.0)]
    padded = np.pad(mask.astype(np.float32), 1)
    fraction = ndimage.affine_transform(
        ndimage.gaussian_filter(padded, blur), matrix, offset + 1, tuple(size), order=1, mode="constant"
    )
    if hu is None:
        return fraction, None
    values = ndimage.gaussian_filter(hu.astype(np.float32), blur, mode="nearest")
    # Crops end where the outline ends: the last slice is repeated so that the soft edge has something to fade from.
    return fraction, ndimage.affine_transform(values, matrix, offset, tuple(size), order=1, mode="nearest")


def tight_mask(hu: FloatArray, loose: BoolArray) -> BoolArray:
    """The nodule itself inside its loose outline (see the module's text); may be empty."""
    if not loose.any():
        return loose
    core = float(np.percentile(hu[loose], 90))
    threshold = float(np.clip((core + LUNG_HU) / 2, GROUND_GLASS_HU, TIGHT_HU))
    return largest_part(loose & (hu > threshold))


def sample_nodule(rng: np.random.Generator, nodule: Nodule, grid_mm: tuple[float, ...]) -> Patch:
    """The nodule on the model grid, randomly turned, flipped, sized and shifted by a part of a voxel."""
    fraction, hu = _resample(rng, nodule.outline, nodule.hu, nodule.spacing_mm, grid_mm)
    assert hu is not None
    loose = fraction > 0.4
    return Patch(nodule.name, hu, loose, tight_mask(hu, loose))


def sample_shape(rng: np.random.Generator, shape: Shape, grid_mm: tuple[float, ...]) -> Patch:
    """The shape on the model grid, randomly turned, flipped, sized and shifted by a part of a voxel."""
    fraction, _ = _resample(rng, shape.mask, None, shape.spacing_mm, grid_mm)
    # Masks are drawn voxel by voxel on other grids; a millimetre of smoothing takes their steps away.
    smooth = ndimage.gaussian_filter(fraction, [0.9 / g for g in grid_mm])
    mask = largest_part(smooth > 0.5)
    return Patch(shape.name, None, mask, mask)
