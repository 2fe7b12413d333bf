"""NIfTI files made and read byte by byte, so that no library checks itself."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from tests.helpers.scans import (
    PAINTED_AFFINE,
    PAINTED_SHAPE,
    paint,
)


def nifti_header(
    shape: tuple[int, ...],
    dtype: Any = np.int16,
    *,
    sform: NDArray[np.float64] | None = None,
    qform: NDArray[np.float64] | None = None,
    sform_code: int = 1,
    qform_code: int = 1,
    zooms: tuple[float, ...] | None = None,
    slope: float = float("nan"),
    intercept: float = float("nan"),
    version: int = 1,
    endian: str = "<",
) -> Any:
    """A NIfTI header with exactly these forms; an absent form has code 0 and zeros."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    if qform is not None:
        header.set_qform(qform, code=qform_code, strip_shears=True)
    if sform is not None:
        header.set_sform(sform, code=sform_code)
        if qform is None:
            header["pixdim"][1:4] = np.linalg.norm(sform[:3, :3], axis=0)
    if zooms is not None:
        header["pixdim"][1 : 1 + len(zooms)] = zooms
    header.set_xyzt_units("mm", "sec")
    header["scl_slope"], header["scl_inter"] = slope, intercept
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    return header


def nifti_bytes(header: Any, stored: NDArray[Any], extension: bytes = b"") -> bytes:
    """Header, extension flag and voxels, i fastest, in the header's byte order."""
    flag = b"\1\0\0\0" if extension else b"\0\0\0\0"
    dtype = stored.dtype.newbyteorder(header.endianness)
    return bytes(header.binaryblock) + flag + extension + stored.astype(dtype).tobytes(order="F")


def write_nifti(path: Path, stored: NDArray[Any], affine: NDArray[np.float64] | None = None, **header: Any) -> Path:
    """Write a scan; sform and qform both from `affine` unless the header's arguments say otherwise."""
    affine = np.diag([4.0, 4.0, 5.0, 1.0]) if affine is None else affine
    forms = {} if {"sform", "qform", "zooms"} & set(header) else {"sform": affine, "qform": affine}
    content = nifti_bytes(nifti_header(stored.shape, stored.dtype, **forms, **header), stored)
    path.write_bytes(gzip.compress(content, 1, mtime=0) if path.suffix == ".gz" else content)
    return path


def write_painted(path: Path) -> Path:
    """A scan of PAINTED_SHAPE with a body and a bright ball."""
    return write_nifti(path, paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)


def raw_content(path: Path) -> bytes:
    """The bytes of a NIfTI file, unpacked."""
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# Byte ranges of the header, from the NIfTI-1 and NIfTI-2 definitions (nifti1.h, nifti2.h), not from any library.
GEOMETRY_FIELDS = {
    348: {
        "dim": (40, 56),
        "pixdim": (76, 108),
        "xyzt_units": (123, 124),
        "qform_code": (252, 254),
        "sform_code": (254, 256),
        "quatern": (256, 268),
        "qoffset": (268, 280),
        "srow": (280, 328),
    },
    540: {
        "dim": (16, 80),
        "pixdim": (104, 168),
        "qform_code": (344, 348),
        "sform_code": (348, 352),
        "quatern": (352, 376),
        "qoffset": (376, 400),
        "srow": (400, 496),
        "xyzt_units": (500, 504),
    },
}
# What a mask may change: datatype and bitpix, vox_offset, scl_slope, scl_inter, cal_max, cal_min.
CHANGED_FIELDS = {
    348: [(70, 74), (108, 112), (112, 120), (124, 132)],
    540: [(12, 16), (168, 176), (176, 192), (192, 208)],
}


def assert_same_geometry(scan: Path, mask: Path) -> None:
    """The mask's header equals the scan's to the byte in everything but the type of its voxels."""
    a, b = raw_content(scan), raw_content(mask)
    size = 348 if 348 in (int.from_bytes(a[:4], "little"), int.from_bytes(a[:4], "big")) else 540
    for name, (start, stop) in GEOMETRY_FIELDS[size].items():
        assert a[start:stop] == b[start:stop], f"{name}: {a[start:stop].hex()} became {b[start:stop].hex()}"
    changed = {n for start, stop in CHANGED_FIELDS[size] for n in range(start, stop)}
    different = [n for n in range(size) if a[n] != b[n] and n not in changed]
    assert not different, f"header bytes {different} changed"


def header_of(path: Path) -> Any:
    """The header as stored; nibabel's images forget slope and calibration on loading."""
    content = raw_content(path)
    kind = (
        nib.Nifti2Header
        if 540 in (int.from_bytes(content[:4], order) for order in ("little", "big"))
        else nib.Nifti1Header
    )
    return kind(content[: kind.sizeof_hdr], check=False)


def read_mask(path: Path) -> NDArray[np.uint8]:
    """The stored voxels of a mask, after checking that they are uint8 {0, 1} with slope 1."""
    header = header_of(path)
    assert header.get_data_dtype() == np.uint8
    assert (float(header["scl_slope"]), float(header["scl_inter"])) == (1.0, 0.0)
    shape = tuple(int(n) for n in header["dim"][1:4])
    content = raw_content(path)[int(header["vox_offset"]) :]
    assert len(content) == np.prod(shape), "one byte per voxel and nothing behind them"
    stored = np.frombuffer(content, np.uint8).reshape(shape, order="F")
    assert set(np.unique(stored)) <= {0, 1}
    return stored
