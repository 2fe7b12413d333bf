"""Writes NIfTI files whose headers are right, or wrong in exactly the way that is asked for."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray


def header(
    shape: tuple[int, ...],
    dtype: Any,
    affine: NDArray[np.float64],
    *,
    forms: str = "both",
    version: int = 1,
    endian: str = "<",
    fields: dict[str, Any] | None = None,
) -> Any:
    """A header of this scan. forms: `both`, `sform`, `qform` or `none` are set; fields: set last, as given.

    A field's value may be a dict index -> value, for single elements of pixdim, dim and srow.
    """
    made = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    made.set_data_shape(shape)
    made.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    made.set_qform(affine, code=int(forms in ("both", "qform")), strip_shears=True)
    made.set_sform(affine, code=int(forms in ("both", "sform")))
    made.set_xyzt_units("mm", "sec")
    made["scl_slope"], made["scl_inter"] = 1.0, 0.0
    made["vox_offset"] = int(made["sizeof_hdr"]) + 4
    for name, value in (fields or {}).items():
        if isinstance(value, dict):
            for index, item in value.items():
                made[name][index] = item
        else:
            made[name] = value
    return made


def content(head: Any, stored: NDArray[Any], between: bytes = b"") -> bytes:
    """The file's bytes: header, no extensions, `between`, then voxels, i fastest, in the header's byte order."""
    dtype = stored.dtype.newbyteorder(head.endianness)
    return bytes(head.binaryblock) + bytes(4) + between + stored.astype(dtype).tobytes(order="F")


def save(
    path: Path, stored: NDArray[Any], affine: NDArray[np.float64], *, packed: bool | None = None, **options: Any
) -> Path:
    """Write `stored` (i, j, k); gzipped if the name ends in gz, unless `packed` says otherwise. See `header`."""
    data = content(header(stored.shape, stored.dtype, affine, **options), stored)
    packed = path.name.lower().endswith(".gz") if packed is None else packed
    path.write_bytes(gzip.compress(data, 1, mtime=0) if packed else data)
    return path


def axes_affine(
    order: tuple[int, ...], signs: tuple[int, ...], spacing_mm: tuple[float, ...], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    """Affine whose file axis n runs along RAS axis order[n] in the direction of signs[n], centred near the origin."""
    affine = np.zeros((4, 4))
    for file_axis, (ras, sign) in enumerate(zip(order, signs, strict=True)):
        affine[ras, file_axis] = sign * spacing_mm[file_axis]
    affine[:3, 3] = -affine[:3, :3] @ (np.asarray(shape) / 2) + (3.0, -7.0, 11.0)
    affine[3, 3] = 1.0
    return affine


def plain_affine(spacing_mm: tuple[float, ...], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """LPS-like axes, as most CTs come: i to the left, j to the back, k to the head."""
    return axes_affine((0, 1, 2), (-1, -1, 1), spacing_mm, shape)


def rotation(axis: int, degrees: float) -> NDArray[np.float64]:
    """Rotation matrix (3, 3) about one of the RAS axes."""
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(3)
    a, b = [n for n in range(3) if n != axis]
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = cosine, -sine, sine, cosine
    return matrix
