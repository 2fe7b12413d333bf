"""What each DICOM file is: the headers of images, and a reason for each file that is none. No voxels are kept."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.scan.volume.dicom.contents import is_something_else
from gfscreen.scan.volume.dicom.source import DICOM_MAGIC, DICOM_PREAMBLE_BYTES, files_below, head_of, is_dicom

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"
SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
# SOP classes or their families (DICOM PS3.6) of what an exported study may hold beside images; the special first.
_NO_IMAGES = {
    "1.2.840.10008.5.1.4.1.1.88.67": "dose report",
    "1.2.840.10008.5.1.4.1.1.88": "structured report",
    "1.2.840.10008.5.1.4.1.1.11": "presentation state",
    "1.2.840.10008.5.1.4.1.1.66": "segmentation or raw data",
    "1.2.840.10008.5.1.4.1.1.481": "radiotherapy object",
    "1.2.840.10008.5.1.4.1.1.104": "document",
    DIRECTORY: "DICOMDIR",
}
_META_BYTES = 1024
_MEDIA_STORAGE_SOP_CLASS = b"\x02\x00\x02\x00UI"
# By which of several acquisitions an image may have been made.
ACQUISITION_KEYS = {
    "AcquisitionNumber": "acquisition number",
    "TemporalPositionIdentifier": "temporal position (phase)",
    "NominalPercentageOfCardiacPhase": "cardiac phase",
    "ContrastBolusAgent": "contrast phase",
    "KVP": "tube voltage",
    "ConvolutionKernel": "convolution kernel",
}


@dataclass(frozen=True)
class Header:
    """Header of one image. Lengths in mm, directions and positions LPS; None where the file does not say.

    acquisition: by ACQUISITION_KEYS, as text. acquisition_s: time of acquisition, seconds of the day.
    """

    path: Path
    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
    frame_uid: str
    series_number: int | None
    description: str
    modality: str
    image_type: tuple[str, ...]
    columns: int
    rows: int
    frames: int
    components: int
    orientation: NDArray[np.float64] | None
    position_lps_mm: NDArray[np.float64] | None
    pixel_mm: tuple[float, float] | None
    slice_mm: float | None
    transfer_syntax: str = ""
    rescale_type: str = ""
    acquisition: dict[str, str] = field(default_factory=dict)
    acquisition_s: float | None = None


@dataclass(frozen=True)
class NoImage:
    """A file that holds no readable image, and what it is. `lost`: it may be a slice of a series."""

    path: Path
    reason: str
    lost: bool = False


def is_a(sop_class: str, uid: str) -> bool:
    """Whether a SOP class is `uid` or belongs to its family."""
    return sop_class == uid or sop_class.startswith(uid + ".")


def sop_class_of(path: Path) -> str:
    """SOP class from the file meta group, which is always explicit little endian; empty if it is not there."""
    with path.open("rb") as stream:
        head = stream.read(DICOM_PREAMBLE_BYTES + _META_BYTES)
    start = head.find(_MEDIA_STORAGE_SOP_CLASS)
    if start < 0:
        return ""
    start += len(_MEDIA_STORAGE_SOP_CLASS)
    length = int.from_bytes(head[start : start + 2], "little")
    return head[start + 2 : start + 2 + length].decode("ascii", "replace").strip("\0 ")


def read_headers(folder: Path) -> tuple[list[Header], list[NoImage]]:
    """Headers of the images in `folder` and below, and the files that are no images. Raises OSError."""
    headers, others = [], []
    heads = {path: head_of(path) for path in files_below(folder)}
    dicom = [path for path, head in heads.items() if is_dicom(head)]
    suffixes = {path.suffix.lower() for path in dicom}
    for path, head in heads.items():
        if not is_dicom(head):
            if is_something_else(path, head, suffixes):
                others.append(NoImage(path, "no DICOM"))
            else:
                others.append(NoImage(path, "no DICOM file, though named as one" if head else "empty", lost=True))
            continue
        read = _read(path, head)
        if isinstance(read, Header):
            headers.append(read)
        else:
            others.append(read)
    return headers, others


def _read(path: Path, head: bytes) -> Header | NoImage:
    with_preamble = head[DICOM_PREAMBLE_BYTES : DICOM_PREAMBLE_BYTES + 4] == DICOM_MAGIC
    sop_class = sop_class_of(path) if with_preamble else ""
    what = next((name for uid, name in _NO_IMAGES.items() if is_a(sop_class, uid)), None)
    if what is not None:
        return NoImage(path, what)
    try:
        with quiet():
            dataset = read_dataset(path, pixels=False)
            sop_class = _text(dataset, 0x00080016) or sop_class
            what = next((name for uid, name in _NO_IMAGES.items() if is_a(sop_class, uid)), None)
            if what is not None:
                return NoImage(path, what)
            return _header(path, dataset, sop_class)
    except OSError:
        raise
    except Exception:  # pydicom raises many kinds for a damaged file
        lost = sop_class in (CT_IMAGE, "")
        return NoImage(path, "damaged CT slice" if lost else f"no image (SOP class {sop_class})", lost)


def read_dataset(path: Path, *, pixels: bool) -> Any:
    """The data set of a file, with or without a preamble. Raises what pydicom raises."""
    import pydicom

    # By an open file: names that are no UTF-8 are Python's business, not a library's.
    with path.open("rb") as stream:
        return pydicom.dcmread(stream, stop_before_pixels=not pixels, force=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without what pydicom says of odd values: what matters of them is said by the rules here."""
    logger = logging.getLogger("pydicom")
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _text(dataset: Any, tag: int) -> str:
    """The text of an element as stored, without padding; empty if it is not there."""
    item = dataset.get_item(tag)
    value = getattr(item, "value", None)
    if isinstance(value, bytes):
        return value.decode("latin-1").strip("\0 ")
    if value is None:
        return ""
    parts = value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else [value]
    return "\\".join(str(part) for part in parts).strip("\0 ")


def _numbers(dataset: Any, tag: int, count: int) -> NDArray[np.float64] | None:
    try:
        values = np.array([float(part) for part in _text(dataset, tag).split("\\")])
    except ValueError:
        return None
    return values if values.size == count and np.isfinite(values).all() else None


def _whole(dataset: Any, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return default if value is None or value == "" else int(value)


def _seconds(text: str) -> float | None:
    """DICOM time HHMMSS.FFFFFF, or the time of a date-time, in seconds of the day."""
    digits = text.replace(":", "")
    digits = digits[8:] if len(digits.partition(".")[0]) == 14 else digits
    try:
        return int(digits[:2]) * 3600 + int(digits[2:4] or 0) * 60 + float(digits[4:] or 0)
    except ValueError:
        return None


def _header(path: Path, dataset: Any, sop_class: str) -> Header:
    """Raises ValueError for a data set without rows and columns."""
    rows, columns = _whole(dataset, "Rows", 0), _whole(dataset, "Columns", 0)
    if rows < 1 or columns < 1:
        raise ValueError("no rows and columns")
    pixel = _numbers(dataset, 0x00280030, 2)
    between, thickness = _numbers(dataset, 0x00180088, 1), _numbers(dataset, 0x00180050, 1)
    slice_mm = between if between is not None else thickness
    number = _numbers(dataset, 0x00200011, 1)
    syntax = getattr(getattr(dataset, "file_meta", None), "TransferSyntaxUID", "")
    return Header(
        path=path,
        sop_uid=_text(dataset, 0x00080018),
        sop_class=sop_class,
        study_uid=_text(dataset, 0x0020000D),
        series_uid=_text(dataset, 0x0020000E),
        frame_uid=_text(dataset, 0x00200052),
        series_number=int(number[0]) if number is not None and float(number[0]).is_integer() else None,
        description=str(dataset.get("SeriesDescription") or ""),
        modality=_text(dataset, 0x00080060) or "unknown",
        image_type=tuple(part.strip().upper() for part in _text(dataset, 0x00080008).split("\\") if part.strip()),
        columns=columns,
        rows=rows,
        frames=_whole(dataset, "NumberOfFrames", 1),
        components=_whole(dataset, "SamplesPerPixel", 1),
        orientation=_numbers(dataset, 0x00200037, 6),
        position_lps_mm=_numbers(dataset, 0x00200032, 3),
        pixel_mm=None if pixel is None else (float(pixel[0]), float(pixel[1])),
        slice_mm=None if slice_mm is None else abs(float(slice_mm[0])),
        transfer_syntax=str(syntax or ""),
        rescale_type=_text(dataset, 0x00281054).upper(),
        acquisition={keyword: _of(dataset, keyword) for keyword in ACQUISITION_KEYS},
        acquisition_s=_seconds(_text(dataset, 0x00080032) or _text(dataset, 0x0008002A)),
    )


def _of(dataset: Any, keyword: str) -> str:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    assert tag is not None
    return _text(dataset, tag)
