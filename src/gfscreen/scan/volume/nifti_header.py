"""What a NIfTI header says, and where it contradicts itself: kind of numbers, shape, and the place in space."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.scan.volume.geometry import check_affine, grid_shift_mm, same_spacing, spacing_text
from gfscreen.scan.volume.gunzip import fill

_RGB_CODES = {128: "RGB", 2304: "RGBA"}
_REAL_CODES = {2, 4, 8, 16, 64, 256, 512, 768, 1024, 1280}
# Between header and voxels lie extensions of kilobytes; more would only be a way to keep a reader unpacking.
MAX_OFFSET_BYTES = 1 << 24
# Quaternions and coordinates are stored in float32: less than this is rounding, more than a voxel's part is news.
FORMS_TOLERANCE_MM = 0.5
_FORM_ERRORS = (ValueError, np.linalg.LinAlgError, HeaderDataError)


def parse_header(stream: Any, path: Path) -> Any:
    """The nibabel header at the start of a stream.

    Raises InputError unless it is a single-file NIfTI, and EOFError where the stream ends.
    """
    start = bytearray(4)
    fill(stream, start)
    size = {int.from_bytes(start, "little"), int.from_bytes(start, "big")} & {348, 540}
    if not size:
        raise InputError(
            f"{path.name}: expected a NIfTI file, the header starts with {start.hex()}; is it a CT volume?"
        )
    length = size.pop()
    rest = bytearray(length - 4)
    fill(stream, rest)
    kind = nib.Nifti1Header if length == 348 else nib.Nifti2Header
    header = kind(bytes(start + rest), check=False)
    magic = bytes(header["magic"].tobytes())[:3]
    if magic not in (b"n+1", b"n+2"):
        raise InputError(f"{path.name}: expected a single-file NIfTI (magic n+1), got {magic!r}; convert it to .nii.gz")
    return header


def shape_of(header: Any, path: Path) -> tuple[int, int, int]:
    """Voxels along (i, j, k). Raises InputError unless it is a volume of real numbers."""
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


def voxel_offset(header: Any, path: Path) -> int:
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


def affine_of(header: Any, path: Path, shape: tuple[int, int, int]) -> tuple[NDArray[np.float64], list[str]]:
    """RAS affine by NIfTI's order (sform, then qform, then spacing alone) and warnings. Raises InputError."""
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
    except _FORM_ERRORS as error:
        raise InputError(f"{path.name}: expected a readable orientation, got: {error}; repair the header") from error
    warnings += check_affine(affine, path)
    if has_sform:
        warnings += _contradictions(header, affine, shape, has_qform)
    return affine, warnings


def _qform(header: Any, spacing_mm: NDArray[np.float64] | None = None) -> tuple[NDArray[np.float64], list[str]]:
    """The qform's affine. A qfac (pixdim[0]) that is neither 1 nor -1 counts as 1, as the definition of NIfTI says.

    spacing_mm: instead of pixdim's. Raises one of _FORM_ERRORS.
    """
    header = header.copy()
    if spacing_mm is not None:
        header["pixdim"][1:4] = spacing_mm
    found = float(header["pixdim"][0])
    if found in (-1.0, 1.0):
        return np.asarray(header.get_qform(), np.float64), []
    header["pixdim"][0] = 1.0
    # 0 is what many writers leave, and means 1 by the definition: not worth a word.
    notes = [] if found == 0.0 else [f"qfac (pixdim[0]) is {found:g}, neither 1 nor -1: taken as 1"]
    return np.asarray(header.get_qform(), np.float64), notes


def _contradictions(header: Any, sform: NDArray[np.float64], shape: tuple[int, int, int], has_qform: bool) -> list[str]:
    """One warning if pixdim or the qform says otherwise than the sform, which is used; and that of the qfac.

    The spacing of the qform is pixdim's: where that is told, the qform is compared by its axes and its origin alone.
    """
    notes: list[str] = []
    found: list[str] = []
    pixdim, spacing = np.asarray(header["pixdim"][1:4], np.float64), np.linalg.norm(sform[:3, :3], axis=0)
    if not same_spacing(pixdim, spacing):
        found.append(f"pixdim says a spacing of {spacing_text(pixdim)} mm, the sform {spacing_text(spacing)} mm")
    if has_qform:
        try:
            qform, notes = _qform(header, spacing if found else None)
            apart = grid_shift_mm(shape, sform, qform)
            if not apart <= FORMS_TOLERANCE_MM:
                found.append(f"sform and qform place the scan up to {apart:.4g} mm apart")
        except _FORM_ERRORS as error:
            found.append(f"the qform cannot be read ({error})")
    if not found:
        return notes
    return [*notes, f"{'; '.join(found)}: the sform is used, {'both' if len(found) == 1 else 'all'} are kept"]
