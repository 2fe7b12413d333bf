"""NIfTI-1 and -2 single files: a header checked before anything is allocated, and masks that keep it to the byte.

nibabel reads the header; the voxels are read here, because a checked and bounded stream is what protects against
truncated files, header dimensions that the file does not hold, and decompression bombs.
"""

from __future__ import annotations

import io
import itertools
import math
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO, cast

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError
from gfscreen.scan.volume.geometry import Geometry, Volume, check_affine, grid_shift_mm
from gfscreen.scan.volume.hounsfield import to_hounsfield
from gfscreen.scan.volume.memory import check_memory

# Deflate cannot expand by more than this; a header that promises more than the file can hold is refused unread.
_MAX_DEFLATE_RATIO = 1032
_RGB_CODES = {128: "RGB", 2304: "RGBA"}
_REAL_CODES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
_MASK_COMPRESSION_LEVEL = 1
# Between header and voxels lie extensions of kilobytes; more would only be a way to keep a reader unpacking.
MAX_OFFSET_BYTES = 1 << 24
# Quaternions and coordinates are stored in float32: less than this is rounding, more than a voxel's part is news.
FORMS_TOLERANCE_MM = 0.5
_PIECE_BYTES = 1 << 22
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


def _qform(header: Any) -> tuple[NDArray[np.float64], list[str]]:
    """The qform's affine. A qfac (pixdim[0]) that is neither 1 nor -1 counts as 1, as the definition of NIfTI says."""
    if float(header["pixdim"][0]) in (-1.0, 1.0):
        return np.asarray(header.get_qform(), np.float64), []
    repaired = header.copy()
    found = float(header["pixdim"][0])
    repaired["pixdim"][0] = 1.0
    # 0 is what many writers leave, and means 1 by the definition: not worth a word.
    notes = [] if found == 0.0 else [f"qfac (pixdim[0]) is {found:g}, neither 1 nor -1: taken as 1"]
    return np.asarray(repaired.get_qform(), np.float64), notes


def _affine(header: Any, path: Path, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], list[str]]:
    """RAS affine by NIfTI's order (sform, then qform, then spacing alone) and warnings."""
    warnings: list[str] = []
    spacing = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    has_sform, has_qform = int(header["sform_code"]) > 0, int(header["qform_code"]) > 0
    if not has_sform and (not np.isfinite(spacing).all() or spacing.min() <= 0):
        raise InputError(
            f"{path.name}: expected a positive spacing, the header says {spacing.tolist()} mm; "
            "repair pixdim or set an sform"
        )
    try:
        if has_sform:
            affine = np.asarray(header.get_sform(), dtype=np.float64)
        elif has_qform:
            affine, warnings = _qform(header)
        else:
            affine = np.asarray(header.get_base_affine(), dtype=np.float64)
            warnings.append(
                "neither sform nor qform is set: axes taken as left-right, posterior-anterior, inferior-superior"
            )
    except (ValueError, np.linalg.LinAlgError, HeaderDataError) as error:
        raise InputError(f"{path.name}: expected a readable orientation, got: {error}; repair the header") from error
    warnings += check_affine(affine, path)
    if has_sform and has_qform:
        warnings += _form_warnings(header, affine, shape)
    return affine, warnings


def _form_warnings(header: Any, sform: NDArray[np.float64], shape: tuple[int, int, int]) -> list[str]:
    """A word if sform and qform, both set, place the scan differently; the sform is used."""
    try:
        qform, notes = _qform(header)
    except (ValueError, np.linalg.LinAlgError, HeaderDataError) as error:
        return [f"the qform cannot be read ({error}): the sform is used"]
    apart = grid_shift_mm(shape, sform, qform)
    if not apart <= FORMS_TOLERANCE_MM:
        notes.append(f"sform and qform place the scan up to {apart:.4g} mm apart: the sform is used, both are kept")
    return notes


def read_geometry(path: Path) -> Geometry:
    """Geometry from the header alone. Raises InputError."""
    try:
        stream, _ = _open(path)
        with stream:
            header = _parse_header(stream, path)
    except _READ_ERRORS as error:
        raise InputError(f"{path.name}: not readable ({error}); copy the file again") from error
    shape = _check_shape(header, path)
    return Geometry(shape, _affine(header, path, shape)[0], bytes(header.binaryblock))


def read_nifti(path: Path) -> Volume:
    """Read a .nii or .nii.gz scan: int16 HU (i, j, k). Raises InputError naming file, rule, value and remedy."""
    try:
        stream, gzipped = _open(path)
        with stream:
            header = _parse_header(stream, path)
            shape = _check_shape(header, path)
            affine, warnings = _affine(header, path, shape)
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
    if offset > MAX_OFFSET_BYTES:
        raise InputError(
            f"{path.name}: expected voxels within the first {MAX_OFFSET_BYTES} bytes, the header says {offset:.0f}; "
            "repair vox_offset"
        )
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


def encode_mask(mask: NDArray[np.uint8], geometry: Geometry, note: bytes = b"") -> bytes:
    """A gzipped NIfTI of a uint8 {0, 1} mask (i, j, k); the same mask gives the same bytes. Raises OutputError.

    note: a comment in the gzip header, which no reader of images sees.
    """
    if mask.shape != geometry.shape or mask.dtype != np.uint8:
        raise OutputError(f"mask must be uint8 of shape {geometry.shape}, got {mask.dtype} {mask.shape}")
    no_extensions = b"\0\0\0\0"
    packer = isal_zlib.compressobj(_MASK_COMPRESSION_LEVEL, wbits=-15)
    checksum = size = 0
    packed = [_gzip_header(note)]
    # Slice by slice, without a copy where the mask lies in Fortran order: a second whole mask is never made.
    slices = (np.ravel(mask[:, :, k], order="F") for k in range(mask.shape[2]))
    for piece in itertools.chain([mask_header(geometry).binaryblock + no_extensions], slices):
        checksum, size = isal_zlib.crc32(piece, checksum), size + len(piece)
        packed.append(packer.compress(piece))
    packed += [packer.flush(), struct.pack("<II", checksum, size % 2**32)]
    return b"".join(packed)


def _gzip_header(note: bytes) -> bytes:
    """RFC 1952: magic, deflate, flags (16: a comment follows), no time, no hints, system unknown."""
    return b"\x1f\x8b\x08" + (b"\x10" if note else b"\0") + bytes(5) + b"\xff" + (note + b"\0" if note else b"")


def mask_voxels(path: Path, geometry: Geometry) -> int | None:
    """Number of lesion voxels of a mask file; None unless it is whole, binary, of this geometry, and without a note."""
    try:
        with path.open("rb") as packed:
            if packed.read(10) != _gzip_header(b""):
                return None
        expected = bytes(mask_header(geometry).binaryblock) + bytes(4)
        left = math.prod(geometry.shape)
        voxels = 0
        with igzip.open(path, "rb") as stream:
            if stream.read(len(expected)) != expected:
                return None
            while piece := stream.read(min(_PIECE_BYTES, left + 1)):
                values = np.frombuffer(piece, np.uint8)
                left -= len(values)
                if left < 0 or values.max() > 1:
                    return None
                voxels += int(values.sum(dtype=np.int64))
    except _READ_ERRORS:
        return None
    return voxels if left == 0 else None
