"""NIfTI-1 and -2 single files: a header checked before anything is allocated, and masks that keep it to the byte.

nibabel reads the header; the voxels are read here, because a checked and bounded stream is what protects against
truncated files, header dimensions that the file does not hold, and decompression bombs.
"""

from __future__ import annotations

import io
import math
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError
from gfscreen.volume.geometry import Geometry, Volume, check_affine
from gfscreen.volume.hounsfield import to_hounsfield
from gfscreen.volume.memory import check_memory

# Deflate cannot expand by more than this; a header that promises more than the file can hold is refused unread.
_MAX_DEFLATE_RATIO = 1032
_RGB_CODES = {128: "RGB", 2304: "RGBA"}
_REAL_CODES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
_MASK_COMPRESSION_LEVEL = 1
_GZIP_WBITS = 31
_PIECE_BYTES = 1 << 24
# isal has no type stubs that mypy accepts for its error class, which is an Exception.
_READ_ERRORS: tuple[type[Exception], ...] = (EOFError, OSError, zlib.error, cast(type[Exception], isal_zlib.error))


def _open(path: Path) -> tuple[BinaryIO, bool]:
    """Open a plain or gzipped file by its first bytes, not by its name; True if gzipped."""
    with path.open("rb") as stream:
        gzipped = stream.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, igzip.open(path, "rb") if gzipped else path.open("rb")), gzipped


def _read_exactly(stream: BinaryIO, size: int) -> bytes:
    data = stream.read(size)
    if len(data) != size:
        raise EOFError(f"ends after {len(data)} of {size} bytes")
    return data


def _parse_header(stream: BinaryIO, path: Path) -> Any:
    """The nibabel header at the start of a stream. Raises InputError unless it is a single-file NIfTI."""
    start = _read_exactly(stream, 4)
    size = {int.from_bytes(start, "little"), int.from_bytes(start, "big")} & {348, 540}
    if not size:
        raise InputError(
            f"{path.name}: expected a NIfTI file, the header starts with {start.hex()}; is it a CT volume?"
        )
    length = size.pop()
    raw = start + _read_exactly(stream, length - 4)
    kind = nib.Nifti1Header if length == 348 else nib.Nifti2Header
    header = kind(raw, check=False)
    magic = bytes(header["magic"].tobytes())[:3]
    if magic not in (b"n+1", b"n+2"):
        raise InputError(f"{path.name}: expected a single-file NIfTI (magic n+1), got {magic!r}; convert it to .nii.gz")
    return header


def _check_shape(header: Any, path: Path) -> tuple[int, int, int]:
    dimensions = int(header["dim"][0])
    if not 1 <= dimensions <= 7:
        raise InputError(f"{path.name}: expected 3 dimensions, the header says {dimensions}; repair the header")
    shape = tuple(int(n) for n in header["dim"][1 : dimensions + 1])
    code = int(header["datatype"])
    if code in _RGB_CODES:
        raise InputError(
            f"{path.name}: expected grey values, got {_RGB_CODES[code]} colours; export the CT, not a picture"
        )
    if code not in _REAL_CODES:
        raise InputError(f"{path.name}: expected a real number type, got NIfTI datatype {code}; convert it to int16")
    if min(shape) < 1:
        raise InputError(f"{path.name}: expected positive dimensions, the header says {shape}; repair the header")
    if len(shape) < 3 or any(n != 1 for n in shape[3:]):
        remedy = "split the time axis first" if len(shape) > 3 else "stack the slices to a volume first"
        raise InputError(f"{path.name}: expected a 3D volume, got shape {shape}; {remedy}")
    return shape[0], shape[1], shape[2]


def _affine(header: Any, path: Path) -> tuple[NDArray[np.float64], list[str]]:
    """RAS affine by NIfTI's order (sform, then qform, then spacing alone) and warnings."""
    warnings = []
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and (not np.isfinite(spacing).all() or spacing.min() <= 0):
        raise InputError(
            f"{path.name}: expected a positive spacing, the header says {spacing.tolist()} mm; "
            "repair pixdim or set an sform"
        )
    try:
        affine = np.asarray(header.get_best_affine(), dtype=np.float64)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise InputError(f"{path.name}: expected a readable orientation, got: {error}; repair the header") from error
    if not has_sform and not has_qform:
        warnings.append(
            "neither sform nor qform is set: axes taken as left-right, posterior-anterior, inferior-superior"
        )
    return affine, warnings + check_affine(affine, path)


def read_geometry(path: Path) -> Geometry:
    """Geometry from the header alone. Raises InputError."""
    try:
        stream, _ = _open(path)
        with stream:
            header = _parse_header(stream, path)
    except _READ_ERRORS as error:
        raise InputError(f"{path.name}: not readable ({error}); copy the file again") from error
    return Geometry(_check_shape(header, path), _affine(header, path)[0], bytes(header.binaryblock))


def read_nifti(path: Path) -> Volume:
    """Read a .nii or .nii.gz scan: int16 HU (i, j, k). Raises InputError naming file, rule, value and remedy."""
    try:
        stream, gzipped = _open(path)
        with stream:
            header = _parse_header(stream, path)
            shape = _check_shape(header, path)
            affine, warnings = _affine(header, path)
            dtype = header.get_data_dtype()
            data_bytes = math.prod(shape) * int(dtype.itemsize)
            offset = _voxel_offset(header, path)
            _check_size(path, gzipped, offset, data_bytes, shape)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            check_memory(path.name, shape, (spacing[0], spacing[1], spacing[2]), int(dtype.itemsize))
            _skip(stream, offset - int(header["sizeof_hdr"]))
            stored = _read_array(stream, shape, dtype)
            _finish(stream)
    except _READ_ERRORS as error:
        raise InputError(f"{path.name}: truncated or damaged ({error}); copy the file again") from error
    hu, value_notes = to_hounsfield(stored, float(header["scl_slope"]), float(header["scl_inter"]), path.name)
    geometry = Geometry(shape, affine, bytes(header.binaryblock))
    return Volume(hu, geometry, path, tuple(warnings + value_notes))


def _voxel_offset(header: Any, path: Path) -> int:
    """Byte at which the voxels begin; what lies inside the header, 0 above all, means right behind it."""
    offset = float(header["vox_offset"])
    if not np.isfinite(offset):
        raise InputError(f"{path.name}: expected an offset of the voxels, the header says {offset}; repair vox_offset")
    return max(int(offset), int(header["sizeof_hdr"]))


def _check_size(path: Path, gzipped: bool, offset: int, data_bytes: int, shape: tuple[int, ...]) -> None:
    """Refuse a header that promises more than the file can hold, before anything is allocated."""
    file_bytes = path.stat().st_size
    possible = file_bytes * _MAX_DEFLATE_RATIO if gzipped else file_bytes
    if offset + data_bytes > possible:
        raise InputError(
            f"{path.name}: truncated, the header says {shape} = {data_bytes} bytes at {offset}, "
            f"the file of {file_bytes} bytes cannot hold them; copy the file again"
        )


def _skip(stream: BinaryIO, size: int) -> None:
    while size > 0:
        size -= len(_read_exactly(stream, min(size, 1 << 20)))


def _read_array(stream: BinaryIO, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read exactly the voxels into one array, Fortran order (i fastest), as NIfTI stores them."""
    array = np.empty(shape, dtype, order="F")
    view = memoryview(cast(bytearray, array.reshape(-1, order="F").view(np.uint8)))
    done = 0
    while done < len(view):
        count = cast(io.BufferedReader, stream).readinto(view[done : done + (1 << 24)])
        if not count:
            raise EOFError(f"voxels end after {done} of {len(view)} bytes")
        done += count
    return array


def _finish(stream: BinaryIO, limit: int = 1 << 20) -> None:
    """Read past the end, so that a gzip checksum is verified; stop at `limit` bytes of unexpected extra data."""
    while limit > 0 and (piece := stream.read(min(limit, 1 << 16))):
        limit -= len(piece)


def mask_header(geometry: Geometry) -> Any:
    """Header of the mask: the scan's own to the byte, but uint8, slope 1, and data right behind the header."""
    if geometry.nifti_header is None:
        header = nib.Nifti1Header()
        header.set_data_shape(geometry.shape)
        header.set_sform(geometry.affine_ras_mm, code=1)
        header.set_qform(geometry.affine_ras_mm, code=1, strip_shears=True)
        header.set_xyzt_units("mm")
    else:
        kind = nib.Nifti1Header if len(geometry.nifti_header) == 348 else nib.Nifti2Header
        header = kind(geometry.nifti_header, check=False)
    header.set_data_dtype(np.uint8)
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    header["cal_min"], header["cal_max"] = 0.0, 0.0
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    return header


def encode_mask(mask: NDArray[np.uint8], geometry: Geometry) -> bytes:
    """A gzipped NIfTI of a uint8 {0, 1} mask (i, j, k); the same mask gives the same bytes. Raises OutputError."""
    if mask.shape != geometry.shape or mask.dtype != np.uint8:
        raise OutputError(f"mask must be uint8 of shape {geometry.shape}, got {mask.dtype} {mask.shape}")
    header = mask_header(geometry)
    no_extensions = b"\0\0\0\0"
    # Piece by piece, without a copy of the whole mask; the gzip header that zlib's format 31 writes has time 0.
    packer = isal_zlib.compressobj(_MASK_COMPRESSION_LEVEL, wbits=_GZIP_WBITS)
    voxels = np.asfortranarray(mask).reshape(-1, order="F")
    pieces = [packer.compress(header.binaryblock + no_extensions)]
    pieces += [packer.compress(voxels[i : i + _PIECE_BYTES]) for i in range(0, voxels.size, _PIECE_BYTES)]
    return b"".join([*pieces, packer.flush()])
