"""MetaImage (.mha) and NRRD (.nrrd), through SimpleITK; runs in the process of `itk_process`."""

from __future__ import annotations

import math
import re
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.errors import InputError
from gfscreen.scan.volume.geometry import Geometry, Volume, check_affine, check_spacing
from gfscreen.scan.volume.hounsfield import refuse_fractions, to_hounsfield
from gfscreen.scan.volume.memory import check_memory

_HEADER_BYTES = 1 << 16
_DATA_FILE_KEY = re.compile(rb"ElementDataFile", re.IGNORECASE)
_LOCAL_DATA = re.compile(rb"(?<=\n)ElementDataFile *= *LOCAL\r?\n")
# Lines of either format that hold sizes and places, and what a number in them looks like.
_GEOMETRY_LINE = re.compile(
    rb"^ *(dimsize|offset|position|origin|transformmatrix|rotation|orientation|elementspacing|elementsize"
    rb"|centerofrotation|sizes|spacings|thicknesses|axis mins|axis maxs|space directions|space origin) *[:=](.*)$",
    re.IGNORECASE | re.MULTILINE,
)
_DIMENSIONS_LINE = re.compile(rb"^ *(ndims|dimension) *[:=](.*)$", re.IGNORECASE | re.MULTILINE)
# Stored values to HU. These two names are all that MetaIO has ever had for it; NRRD has none.
_INTENSITY_LINE = re.compile(
    rb"^[ \t]*(ElementToIntensityFunction(?:Slope|Offset))[ \t]*[:=](.*)$", re.IGNORECASE | re.MULTILINE
)
_LONG_LINE = re.compile(rb"^[ \t]*ElementType[ \t]*[:=][ \t]*(MET_U?LONG)[ \t]*$", re.IGNORECASE | re.MULTILINE)
_LONG_BYTES = 4
_COMPRESSED_LINE = re.compile(rb"^[ \t]*CompressedData[ \t]*[:=][ \t]*True[ \t]*$", re.IGNORECASE | re.MULTILINE)
_PIECE_BYTES = 1 << 20
_NUMBER = re.compile(rb"[-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?|[-+]?(?:nan|inf)", re.IGNORECASE)
# Voxels or mm: far beyond any scan, far below what keeps ITK's decomposition of a matrix busy for ever.
_LARGEST_NUMBER = 1e6
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


def _reader(path: Path) -> Any:
    import SimpleITK as sitk  # noqa: N813 - the field's usual name

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    return reader


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _head(path: Path) -> bytes:
    """The beginning of the file, in which the header must end."""
    with path.open("rb") as stream:
        return stream.read(_HEADER_BYTES)


def _refuse_detached_data(path: Path, head: bytes) -> None:
    """A header may point to another file; only data inside the file itself is read."""
    if path.suffix.lower() == ".mha":
        # The first mention must be the real one: a misspelt decoy before it would hide where the data lie.
        first = _DATA_FILE_KEY.search(head)
        if first is None:
            raise InputError(f"{path.name}: expected a MetaImage header with ElementDataFile; is it a CT volume?")
        if not _LOCAL_DATA.match(head, first.start()):
            raise InputError(f"{path.name}: its data lie in another file; save it as one .mha or .nii.gz file")
        return
    if not head.startswith(b"NRRD"):
        raise InputError(f"{path.name}: expected a NRRD file, it starts with {head[:4]!r}; is it a CT volume?")
    header, blank_line, _ = head.replace(b"\r", b"").lower().partition(b"\n\n")
    if any(line.strip().startswith((b"data file:", b"datafile:")) for line in header.split(b"\n")):
        raise InputError(f"{path.name}: its data lie in another file; save it as one .nrrd or .nii.gz file")
    if not blank_line:
        raise InputError(
            f"{path.name}: expected a blank line behind the NRRD header within {_HEADER_BYTES} bytes; export it again"
        )


def _header(path: Path, head: bytes) -> bytes:
    """The lines of the header, without what ends it."""
    head = head.replace(b"\r", b"")
    end = _LOCAL_DATA.search(head) if path.suffix.lower() == ".mha" else re.search(rb"\n\n", head)
    return head[: end.start()] if end else head


def _refuse_wild_numbers(path: Path, head: bytes) -> None:
    """Numbers beyond any scan: ITK 5.4 never returns from a direction of 1e308, nor from -1 dimensions."""
    header = _header(path, head)
    for key, value in _DIMENSIONS_LINE.findall(header):
        if value.strip() not in (b"2", b"3", b"4"):
            text = value.strip().decode("latin-1")
            raise InputError(f"{path.name}: {key.decode()} must be 3, got {text!r}; is it a CT volume?")
    for key, values in _GEOMETRY_LINE.findall(header):
        for number in _NUMBER.findall(values):
            if not abs(float(number)) <= _LARGEST_NUMBER:
                raise InputError(
                    f"{path.name}: {key.decode()} must hold numbers up to {_LARGEST_NUMBER:g}, got {number.decode()}; "
                    "export it again"
                )


def _intensity_function(path: Path, head: bytes) -> tuple[float, float]:
    """Slope and offset of a MetaImage, HU = stored * slope + offset, which ITK leaves alone; 1 and 0 if it has none.

    Raises InputError for a slope of 0, which NIfTI takes for none and MetaImage does not, and for what is no number.
    """
    found = {b"slope": 1.0, b"offset": 0.0}
    if path.suffix.lower() != ".mha":
        return found[b"slope"], found[b"offset"]
    for key, value in _INTENSITY_LINE.findall(_header(path, head)):
        name = b"slope" if key.lower().endswith(b"slope") else b"offset"
        number = float(value) if _NUMBER.fullmatch(value.strip()) else math.nan
        if not math.isfinite(number) or (name == b"slope" and number == 0.0):
            rule = "a number other than 0" if name == b"slope" else "a number"
            text = value.strip().decode("latin-1")
            raise InputError(f"{path.name}: {key.decode()} must be {rule}, got {text!r}; repair it or export again")
        found[name] = number
    return found[b"slope"], found[b"offset"]


def _holds_more(path: Path, start: int, limit: int, *, compressed: bool) -> bool:
    """Whether behind `start` there are more than `limit` bytes of data, inflated where they are compressed."""
    if not compressed:
        return path.stat().st_size - start > limit
    inflater, found = zlib.decompressobj(), 0
    with path.open("rb") as stream:
        stream.seek(start)
        while found <= limit and not inflater.eof:
            piece = inflater.unconsumed_tail or stream.read(_PIECE_BYTES)
            if not piece:
                break
            found += len(inflater.decompress(piece, _PIECE_BYTES))
    return found > limit


def _refuse_long_longs(path: Path, head: bytes, voxels: int) -> None:
    """MET_LONG has four bytes, to ITK, and eight from writers that take the machine's: ITK reads half of the voxels
    then, spread over all of the scan, and says nothing (findings/metaimageio_long.sh).
    """
    header = _header(path, head)
    named = _LONG_LINE.search(header) if path.suffix.lower() == ".mha" else None
    end = _LOCAL_DATA.search(head)
    if named is None or end is None:
        return
    compressed = _COMPRESSED_LINE.search(header) is not None
    if _holds_more(path, end.end(), voxels * _LONG_BYTES, compressed=compressed):
        raise InputError(
            f"{path.name}: ElementType {named[1].decode()} is {_LONG_BYTES} bytes for each of {voxels} voxels, and it "
            "holds more: written with 8 bytes each; save it with 16-bit integers"
        )


def _to_volume(image: Any, source: Path, slope: float, offset: float, *, labels: bool) -> Volume:
    import SimpleITK as sitk  # noqa: N813

    size = image.GetSize()
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * np.asarray(image.GetSpacing())
    affine[:3, 3] = image.GetOrigin()
    affine = _LPS_TO_RAS @ affine
    warnings = check_affine(affine, source)
    # SimpleITK's arrays are (k, j, i) in C order: transposed, they are (i, j, k) in Fortran order without a copy.
    stored = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)
    if labels:
        refuse_fractions(stored, slope, offset, source.name)
    hu, value_notes = to_hounsfield(stored, slope, offset, source.name)
    hu = np.asfortranarray(hu) if hu.base is None else hu.copy(order="F")
    return Volume(hu, Geometry((size[0], size[1], size[2]), affine), source, tuple(warnings + value_notes))


def _check_information(reader: Any, source: Path, memory_bytes: int) -> None:
    """Refuse by the header: dimensions, colours, spacing, memory."""
    import SimpleITK as sitk  # noqa: N813

    size = tuple(int(n) for n in reader.GetSize())
    if len(size) != 3 or min(size) < 1:
        remedy = "split the time axis first" if len(size) > 3 else "stack the slices to a volume first"
        raise InputError(f"{source.name}: expected a 3D volume, got shape {size}; {remedy}")
    if reader.GetNumberOfComponents() != 1:
        raise InputError(
            f"{source.name}: expected one value per voxel, got {reader.GetNumberOfComponents()}; "
            "export the CT, not a picture"
        )
    spacing = tuple(float(abs(s)) for s in reader.GetSpacing())
    check_spacing(np.asarray(spacing), source)
    # As in "16-bit signed integer".
    bits = sitk.GetPixelIDValueAsString(reader.GetPixelID()).partition("-")[0]
    itemsize = int(bits) // 8 if bits.isdigit() else 8
    shape_mm = (spacing[0], spacing[1], spacing[2])
    check_memory(source.name, (size[0], size[1], size[2]), shape_mm, itemsize, memory_bytes)


def read_itk(path: Path, memory_bytes: int, *, labels: bool = False) -> Volume:
    """Read a .mha or .nrrd scan that needs at most `memory_bytes`; labels: a mask, of whole numbers. InputError."""
    head = _head(path)
    _refuse_detached_data(path, head)
    _refuse_wild_numbers(path, head)
    slope, offset = _intensity_function(path, head)
    reader = _reader(path)
    try:
        reader.ReadImageInformation()
        _check_information(reader, path, memory_bytes)
        _refuse_long_longs(path, head, math.prod(reader.GetSize()))
        image = reader.Execute()
    except (RuntimeError, zlib.error) as error:
        raise InputError(f"{path.name}: truncated or damaged ({_reason(error)}); copy the file again") from error
    return _to_volume(image, path, slope, offset, labels=labels)
