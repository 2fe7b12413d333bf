"""Read a mask file exactly as the organisers cast it, one block at a time.

The organisers write `np.uint8(nib.load(path).get_fdata())`. That holds the whole volume in float64 (2 GB for
512x512x1000) to end with 262 MB of uint8. Here the file is decompressed, scaled and cast block by block with
nibabel's own scaling rule: every voxel gets the same value, and only the uint8 volume stays in memory.
"""

from __future__ import annotations

import io
import zlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip
from nibabel.volumeutils import apply_read_scaling
from numpy.typing import NDArray

from gfscreen.scan.volume.geometry import grid_shift_mm

SUFFIX = ".nii.gz"
# 2**22 voxels: 32 MiB once scaled to float64, large enough to keep the decompressor busy.
_BLOCK_VOXELS = 1 << 22

Spacing = tuple[float, float, float]


class MaskError(Exception):
    """A mask file that cannot be scored; the message names the file, the rule and the value found."""


@dataclass(frozen=True)
class Mask:
    """A label volume on its native grid.

    `voxels`: uint8, axes (x, y, z) in file order, Fortran contiguous. `spacing_mm`: the header's zooms.
    `affine`: 4x4 float64, voxel index to RAS mm.
    """

    voxels: NDArray[np.uint8]
    spacing_mm: Spacing
    affine: NDArray[np.float64]


def list_masks(folder: Path) -> dict[str, Path]:
    """The `*.nii.gz` files of `folder` by file name, sorted; hidden files are left out."""
    return {p.name: p for p in sorted(folder.glob(f"*{SUFFIX}")) if p.is_file() and not p.name.startswith(".")}


def cast_block(block: NDArray[Any], slope: float, inter: float) -> NDArray[np.uint8]:
    """`np.uint8(get_fdata())` for a piece of stored values.

    Fractions are cut towards zero (0.999 -> 0). Values outside 0..255 wrap or saturate as this NumPy build does it,
    which is what the organisers' expression gives on the same machine.
    """
    if block.dtype == np.uint8 and slope == 1 and inter == 0:
        return cast("NDArray[np.uint8]", block)
    scaled = apply_read_scaling(block, np.float64(slope), np.float64(inter))
    scaled = scaled.astype(np.promote_types(scaled.dtype, np.float64), copy=False)
    with np.errstate(invalid="ignore", over="ignore"):
        return cast("NDArray[np.uint8]", scaled.astype(np.uint8))


def read_mask(path: Path) -> Mask:
    """Read a 3D mask. Peak memory: one byte per voxel plus about 100 MiB.

    Raises:
        MaskError: not readable as NIfTI, not three-dimensional, no usable spacing, or cut short.

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
    if not all(np.isfinite(s) and s > 0 for s in spacing):
        raise MaskError(f"{path.name}: expected a positive spacing in mm, got {spacing}; repair the header's pixdim")
    try:
        voxels = _stream(path, proxy, shape)
    except (OSError, EOFError, zlib.error, igzip.BadGzipFile) as error:
        raise MaskError(f"{path.name}: voxel data not readable ({type(error).__name__}: {error})") from error
    return Mask(voxels, spacing, np.asarray(image.affine, dtype=np.float64))


def _stream(path: Path, proxy: Any, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    dtype: np.dtype[Any] = proxy.dtype
    out = np.empty(shape, dtype=np.uint8, order="F")
    flat = out.reshape(-1, order="F")
    with closing(_open(path)) as stream:
        stream.seek(int(proxy.offset))
        for start in range(0, flat.size, _BLOCK_VOXELS):
            count = min(_BLOCK_VOXELS, flat.size - start)
            data = stream.read(count * dtype.itemsize)
            if len(data) != count * dtype.itemsize:
                found = start + len(data) // dtype.itemsize
                raise MaskError(
                    f"{path.name}: expected {flat.size} voxels, the file ends after {found}; write it again"
                )
            block = np.frombuffer(data, dtype=dtype)
            flat[start : start + count] = cast_block(block, float(proxy.slope), float(proxy.inter))
    return out


def _open(path: Path) -> BinaryIO:
    """Compressed or plain by content, so that `.nii` is read too."""
    with path.open("rb") as probe:
        compressed = probe.read(2) == b"\x1f\x8b"
    if compressed:
        return cast("BinaryIO", igzip.open(path, "rb"))
    return io.BufferedReader(io.FileIO(path))


def geometry_problem(truth: Mask, other: Mask, name: str, tolerance_voxels: float = 0.1) -> str | None:
    """Say how `other` fails to lie on `truth`'s grid, or None when it does.

    Shapes must be equal, and no corner of the volume may be displaced by more than `tolerance_voxels` of the smallest
    spacing: enough room for float32 headers, too little for a flip, a shift or another spacing.
    """
    if other.voxels.shape != truth.voxels.shape:
        return (
            f"{name}: shape mismatch, expected {truth.voxels.shape} as the ground truth, got {other.voxels.shape}; "
            "write the mask on the input's grid"
        )
    worst_mm = grid_shift_mm(truth.voxels.shape, truth.affine, other.affine)
    if not worst_mm <= tolerance_voxels * min(truth.spacing_mm):  # also true for NaN
        return (
            f"{name}: geometry mismatch, a corner lies {worst_mm:.3g} mm from the ground truth's, allowed "
            f"{tolerance_voxels * min(truth.spacing_mm):.3g} mm; copy the input's affine to the mask"
        )
    return None
