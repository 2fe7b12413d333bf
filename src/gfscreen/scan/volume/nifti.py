"""NIfTI-1 and -2 single files: a header checked before anything is allocated, and masks that keep it to the byte.

nibabel reads the header; the voxels are read here, because a checked and bounded stream is what protects against
truncated files, header dimensions that the file does not hold, and decompression bombs.
"""

from __future__ import annotations

import itertools
import math
import struct
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from isal import igzip, isal_zlib
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError
from gfscreen.scan.volume.geometry import Geometry, Volume
from gfscreen.scan.volume.gunzip import READ_ERRORS, Gunzip, fill, open_unpacked, skip
from gfscreen.scan.volume.hounsfield import refuse_fractions, to_hounsfield
from gfscreen.scan.volume.memory import check_memory
from gfscreen.scan.volume.nifti_header import affine_of, parse_header, shape_of, voxel_offset
from gfscreen.scan.volume.provenance import made_of, note_of

# Deflate cannot expand by more than this; a header that promises more than the file can hold is refused unread.
_MAX_DEFLATE_RATIO = 1032
_MASK_COMPRESSION_LEVEL = 1
_PIECE_BYTES = 1 << 22
# What is unpacked behind the voxels, to come to the checksum.
_MOST_EXTRA_BYTES = 1 << 20


def read_geometry(path: Path) -> Geometry:
    """Geometry from the header alone. Raises InputError."""
    try:
        with open_unpacked(path) as stream:
            header = parse_header(stream, path)
    except READ_ERRORS as error:
        raise InputError(f"{path.name}: not readable ({error}); copy the file again") from error
    shape = shape_of(header, path)
    return Geometry(shape, affine_of(header, path, shape)[0], bytes(header.binaryblock))


def read_nifti(path: Path, *, labels: bool = False) -> Volume:
    """Read a .nii or .nii.gz scan: int16 HU (i, j, k). Raises InputError naming file, rule, value and remedy.

    labels: it is a mask, in which fractions are refused instead of rounded.
    """
    try:
        with open_unpacked(path) as stream:
            header = parse_header(stream, path)
            shape = shape_of(header, path)
            affine, warnings = affine_of(header, path, shape)
            dtype = header.get_data_dtype()
            data_bytes = math.prod(shape) * int(dtype.itemsize)
            offset = voxel_offset(header, path)
            _check_size(path, isinstance(stream, Gunzip), offset, data_bytes, shape)
            spacing = np.linalg.norm(affine[:3, :3], axis=0)
            check_memory(path.name, shape, (spacing[0], spacing[1], spacing[2]), int(dtype.itemsize))
            skip(stream, offset - int(header["sizeof_hdr"]))
            stored = _read_array(stream, shape, dtype)
            ignored = stream.finish(_MOST_EXTRA_BYTES) if isinstance(stream, Gunzip) else 0
    except READ_ERRORS as error:
        raise InputError(f"{path.name}: truncated or damaged ({error}); copy the file again") from error
    if ignored:
        warnings.append(f"{ignored} bytes behind the gzip stream of the scan were ignored")
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if labels:
        refuse_fractions(stored, slope, intercept, path.name)
    hu, value_notes = to_hounsfield(stored, slope, intercept, path.name)
    geometry = Geometry(shape, affine, bytes(header.binaryblock))
    return Volume(hu, geometry, path, tuple(warnings + value_notes))


def _check_size(path: Path, gzipped: bool, offset: int, data_bytes: int, shape: tuple[int, ...]) -> None:
    """Refuse a header that promises more than the file can hold, before anything is allocated."""
    file_bytes = path.stat().st_size
    possible = file_bytes * _MAX_DEFLATE_RATIO if gzipped else file_bytes
    if offset + data_bytes > possible:
        raise InputError(
            f"{path.name}: truncated, the header says {shape} = {data_bytes} bytes at {offset}, "
            f"the file of {file_bytes} bytes cannot hold them; copy the file again"
        )


def _read_array(stream: Any, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Read exactly the voxels into one array, Fortran order (i fastest), as NIfTI stores them."""
    array = np.empty(shape, dtype, order="F")
    fill(stream, array.reshape(-1, order="F").view(np.uint8))
    return array


def mask_header(geometry: Geometry) -> Any:
    """Header of the mask: the scan's own to the byte, but uint8, slope 1, and data right behind the header."""
    return map_header(geometry, np.dtype(np.uint8))


def map_header(geometry: Geometry, dtype: np.dtype[Any], slope: float = 1.0) -> Any:
    """Header of a map on the scan's grid: the scan's own, but of this type and slope, intercept 0."""
    if geometry.nifti_header is None:
        header = nib.Nifti1Header()
        header.set_data_shape(geometry.shape)
        header.set_sform(geometry.affine_ras_mm, code=1)
        header.set_qform(geometry.affine_ras_mm, code=1, strip_shears=True)
        header.set_xyzt_units("mm")
    else:
        kind = nib.Nifti1Header if len(geometry.nifti_header) == 348 else nib.Nifti2Header
        header = kind(geometry.nifti_header, check=False)
    header.set_data_dtype(dtype)
    header["scl_slope"], header["scl_inter"] = slope, 0.0
    header["cal_min"], header["cal_max"] = 0.0, 0.0
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    return header


def encode_mask(mask: NDArray[np.uint8], geometry: Geometry, note: bytes = b"") -> bytes:
    """A gzipped NIfTI of a uint8 {0, 1} mask (i, j, k); the same mask gives the same bytes. Raises OutputError.

    note: a comment in the gzip header, which no reader of images sees.
    """
    if mask.shape != geometry.shape or mask.dtype != np.uint8:
        raise OutputError(f"mask must be uint8 of shape {geometry.shape}, got {mask.dtype} {mask.shape}")
    return _pack(mask, mask_header(geometry), note)


def encode_map(voxels: NDArray[np.generic], geometry: Geometry, slope: float = 1.0) -> bytes:
    """A gzipped NIfTI of a uint8 or uint16 map (i, j, k); readers see `slope` times the voxels. Raises OutputError."""
    if voxels.shape != geometry.shape or voxels.dtype not in (np.uint8, np.uint16):
        raise OutputError(f"map must be uint8 or uint16 of shape {geometry.shape}, got {voxels.dtype} {voxels.shape}")
    return _pack(voxels, map_header(geometry, voxels.dtype, slope))


def _pack(voxels: NDArray[np.generic], header: Any, note: bytes = b"") -> bytes:
    """Header and voxels (i, j, k), in the header's type and byte order, as gzip."""
    no_extensions = b"\0\0\0\0"
    packer = isal_zlib.compressobj(_MASK_COMPRESSION_LEVEL, wbits=-15)
    checksum = size = 0
    packed = [_gzip_header(note)]
    stored = header.get_data_dtype()
    # Slice by slice, without a copy where the mask lies in Fortran order: a second whole mask is never made.
    slices = (
        np.ravel(voxels[:, :, k], order="F").astype(stored, copy=False).view(np.uint8) for k in range(voxels.shape[2])
    )
    for piece in itertools.chain([header.binaryblock + no_extensions], slices):
        checksum, size = isal_zlib.crc32(piece, checksum), size + len(piece)
        packed.append(packer.compress(piece))
    packed += [packer.flush(), struct.pack("<II", checksum, size % 2**32)]
    return b"".join(packed)


def _gzip_header(note: bytes) -> bytes:
    """RFC 1952: magic, deflate, flags (16: a comment follows), no time, no hints, system unknown."""
    return b"\x1f\x8b\x08" + (b"\x10" if note else b"\0") + bytes(5) + b"\xff" + (note + b"\0" if note else b"")


def mask_voxels(path: Path, geometry: Geometry) -> int | None:
    """Number of lesion voxels of a mask file; None unless it is ours, of a screened scan, whole, on this grid."""
    try:
        scan = made_of(path)
        header = _gzip_header(note_of(scan) if scan else b"")
        with path.open("rb") as packed:
            if packed.read(len(header)) != header:
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
    except READ_ERRORS:
        return None
    return voxels if left == 0 else None
