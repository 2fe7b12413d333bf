"""Read a mask file exactly as the organisers cast it, one block at a time.

The organisers write `np.uint8(nib.load(path).get_fdata())`. That holds the whole volume in float64 (2 GB for
512x512x1000) to end with 262 MB of uint8. Here the file is decompressed, scaled and cast block by block with
nibabel's own scaling rule: every voxel gets the same value, and only the uint8 volume stays in memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from gfscreen.scan.volume.geometry import grid_shift_mm
from gfscreen.scan.volume.gunzip import READ_ERRORS, Gunzip, open_unpacked, read_up_to, skip

SUFFIX = ".nii.gz"
# 2**22 voxels: 32 MiB once scaled to float64, large enough to keep the decompressor busy.
_BLOCK_VOXELS = 1 << 22
# What is unpacked behind the voxels, to come to the checksum.
_MOST_EXTRA_BYTES = 1 << 20

Spacing = tuple[float, float, float]


class MaskError(Exception):
    """A mask file that cannot be scored; the message names the file, the rule and the value found."""


@dataclass
class CastChange:
    """What the cast to uint8 does to voxels beyond rounding: 0.99999 becomes 0, 256 becomes 0, -1 becomes 255.

    `changed`: voxels that come to hold another number than the whole one nearest to them. `lost`: of these, those that
    were nearest to 1 or more and are 0. `value`, `became`: the first of them.
    """

    changed: int = 0
    lost: int = 0
    value: float = 0.0
    became: int = 0

    def add(self, values: NDArray[Any], casted: NDArray[np.uint8]) -> None:
        """Count a block: the values as read and scaled, and what became of them. NaN that becomes 0 is no change."""
        whole = values.dtype.kind in "iu"
        nearest = values if whole else np.rint(values)
        different = nearest != casted
        if not whole:
            different &= ~(np.isnan(values) & (casted == 0))
        changed = int(np.count_nonzero(different))
        if changed == 0:
            return
        if self.changed == 0:
            first = int(np.flatnonzero(different)[0])
            self.value, self.became = float(values[first]), int(casted[first])
        self.changed += changed
        self.lost += int(np.count_nonzero(different & (nearest >= 1) & (casted == 0)))


@dataclass(frozen=True)
class Mask:
    """A label volume on its native grid.

    `voxels`: uint8, axes (x, y, z) in file order, Fortran contiguous. `spacing_mm`: the header's zooms (pixdim), by
    which the organisers measure. `affine`: 4x4 float64, voxel index to RAS mm. `change`: what the cast did, None for
    nothing. `ignored_bytes`: of the file, behind the gzip stream.
    """

    voxels: NDArray[np.uint8]
    spacing_mm: Spacing
    affine: NDArray[np.float64]
    change: CastChange | None = None
    ignored_bytes: int = 0

    @property
    def grid_spacing_mm(self) -> Spacing:
        """Distance of neighbouring voxels along x, y, z by the affine, by which the product measures."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return (float(x), float(y), float(z))

    @property
    def voxel_ml(self) -> float:
        """Volume of a voxel by the affine, as in the product; by the zooms where the affine spans no volume."""
        volume_mm3 = abs(float(np.linalg.det(self.affine[:3, :3])))
        return (volume_mm3 if 0 < volume_mm3 < math.inf else math.prod(self.spacing_mm)) / 1000


def list_masks(folder: Path) -> dict[str, Path]:
    """The `*.nii.gz` files of `folder` by file name, sorted; hidden files are left out."""
    return {p.name: p for p in sorted(folder.glob(f"*{SUFFIX}")) if p.is_file() and not p.name.startswith(".")}


def cast_block(block: NDArray[Any], slope: float, inter: float, change: CastChange | None = None) -> NDArray[np.uint8]:
    """`np.uint8(get_fdata())` for a piece of stored values, (n,); `change` counts what that does to them.

    Fractions are cut towards zero (0.999 -> 0). Values outside 0..255 wrap or saturate as this NumPy build does it,
    which is what the organisers' expression gives on the same machine.
    """
    plain = slope == 1 and inter == 0
    if block.dtype == np.uint8 and plain:
        return cast("NDArray[np.uint8]", block)
    scaled = apply_read_scaling(block, np.float64(slope), np.float64(inter))
    scaled = scaled.astype(np.promote_types(scaled.dtype, np.float64), copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        casted = cast("NDArray[np.uint8]", scaled.astype(np.uint8))
    if change is not None:
        change.add(block if plain and block.dtype.kind in "iu" else scaled, casted)
    return casted


def read_mask(path: Path, *, spacing_used: bool = True) -> Mask:
    """Read a 3D mask. Peak memory: one byte per voxel plus about 130 MiB.

    spacing_used: whether the header's zooms will be; of a prediction they are not, and may be anything.

    Raises:
        MaskError: not readable as NIfTI, not three-dimensional, no usable spacing, cut short or damaged.

    """
    try:
        image = nib.load(path)
    except Exception as error:  # nibabel raises many kinds for broken headers; every one is this case's failure
        raise MaskError(f"{path.name}: not a readable NIfTI file ({type(error).__name__}: {error})") from error
    proxy = image.dataobj
    shape = tuple(int(n) for n in proxy.shape)
    if len(shape) != 3 or 0 in shape:
        raise MaskError(f"{path.name}: expected a 3D mask, got shape {shape}; store one label volume per file")
    if proxy.dtype.fields is not None or proxy.dtype.kind not in "iuf":
        raise MaskError(f"{path.name}: expected integer or real voxels, got {proxy.dtype}; write uint8 labels")
    zooms = tuple(float(z) for z in image.header.get_zooms())
    spacing = (zooms[0], zooms[1], zooms[2])
    if spacing_used and not all(np.isfinite(s) and s > 0 for s in spacing):
        raise MaskError(f"{path.name}: expected a positive spacing in mm, got {spacing}; repair the header's pixdim")
    try:
        voxels, change, ignored = _stream(path, proxy, shape)
    except READ_ERRORS as error:
        raise MaskError(f"{path.name}: voxel data not readable ({type(error).__name__}: {error})") from error
    affine = np.asarray(image.affine, dtype=np.float64)
    return Mask(voxels, spacing, affine, change if change.changed else None, ignored)


def _stream(path: Path, proxy: Any, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], CastChange, int]:
    """Voxels as cast, what the cast changed, and how many bytes lie behind the gzip stream."""
    dtype: np.dtype[Any] = proxy.dtype
    out = np.empty(shape, dtype=np.uint8, order="F")
    flat = out.reshape(-1, order="F")
    change = CastChange()
    with open_unpacked(path) as stream:
        skip(stream, int(proxy.offset))
        for start in range(0, flat.size, _BLOCK_VOXELS):
            block = np.empty(min(_BLOCK_VOXELS, flat.size - start), dtype)
            size = read_up_to(stream, block.view(np.uint8))
            if size < block.nbytes:
                raise MaskError(
                    f"{path.name}: expected {flat.size} voxels, the file ends after {start + size // dtype.itemsize}; "
                    "write it again"
                )
            flat[start : start + block.size] = cast_block(block, float(proxy.slope), float(proxy.inter), change)
        ignored = stream.finish(_MOST_EXTRA_BYTES) if isinstance(stream, Gunzip) else 0
    return out, change, ignored


def geometry_problem(truth: Mask, other: Mask, name: str, tolerance_voxels: float = 0.1) -> str | None:
    """Say how `other` fails to lie on `truth`'s grid, or None when it does.

    Shapes must be equal, and no corner of the volume may be displaced by more than `tolerance_voxels` of the smallest
    spacing of the affine: enough room for float32 headers, too little for a flip, a shift or another spacing.
    """
    return grid_problem(truth, other.voxels.shape, other.affine, name, tolerance_voxels)


def grid_problem(
    truth: Mask, shape: tuple[int, ...], affine: NDArray[np.float64], name: str, tolerance_voxels: float = 0.1
) -> str | None:
    """The same for a volume of which shape and affine (4x4, voxel index to RAS mm) are known."""
    if shape != truth.voxels.shape:
        return (
            f"{name}: shape mismatch, expected {truth.voxels.shape} as the ground truth, got {shape}; "
            "write the mask on the input's grid"
        )
    worst_mm = grid_shift_mm(truth.voxels.shape, truth.affine, affine)
    allowed_mm = tolerance_voxels * min(truth.grid_spacing_mm)
    if not worst_mm <= allowed_mm:  # also true for NaN
        return (
            f"{name}: geometry mismatch, a corner lies {worst_mm:.3g} mm from the ground truth's, allowed "
            f"{allowed_mm:.3g} mm; copy the input's affine to the mask"
        )
    return None
