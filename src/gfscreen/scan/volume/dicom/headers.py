"""What each DICOM file is: the headers of images, and a reason for each file that is none. No voxels are kept.

GDCM reads them, through SimpleITK, so that screening a DICOM folder needs no package beyond those of NIfTI.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.scan.volume.dicom.source import DICOM_PREAMBLE_BYTES, dicom_files

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


@dataclass(frozen=True)
class Header:
    """Header of one image. Lengths in mm, directions and positions LPS; None where the file does not say."""

    path: Path
    sop_uid: str
    sop_class: str
    study_uid: str
    series_uid: str
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


@dataclass(frozen=True)
class NoImage:
    """A DICOM file that holds no readable image, and what it is. `damaged`: by its class it should hold a CT slice."""

    path: Path
    reason: str
    damaged: bool = False


def is_a(sop_class: str, uid: str) -> bool:
    """Whether a SOP class is `uid` or belongs to its family."""
    return sop_class == uid or sop_class.startswith(uid + ".")


def sop_class_of(path: Path) -> str:
    """SOP class from the file meta group, which is always explicit little endian; empty if it is not there."""
    with path.open("rb") as stream:
        stream.seek(DICOM_PREAMBLE_BYTES)
        head = stream.read(_META_BYTES)
    start = head.find(_MEDIA_STORAGE_SOP_CLASS)
    if start < 0:
        return ""
    start += len(_MEDIA_STORAGE_SOP_CLASS)
    length = int.from_bytes(head[start : start + 2], "little")
    return head[start + 2 : start + 2 + length].decode("ascii", "replace").strip("\0 ")


def read_headers(folder: Path) -> tuple[list[Header], list[NoImage]]:
    """Headers of the images in `folder` and below, and the files that are no images."""
    import SimpleITK as sitk  # noqa: N813 - the field's usual name

    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    headers, others = [], []
    for path in dicom_files(folder):
        sop_class = sop_class_of(path)
        what = next((name for uid, name in _NO_IMAGES.items() if is_a(sop_class, uid)), None)
        if what is not None:
            others.append(NoImage(path, what))
            continue
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.SetImageIO("GDCMImageIO")
        try:
            reader.ReadImageInformation()
        except RuntimeError:
            damaged = sop_class in (CT_IMAGE, "")
            reason = "damaged CT slice" if damaged else f"no image (SOP class {sop_class})"
            others.append(NoImage(path, reason, damaged))
            continue
        headers.append(_header(path, reader, sop_class))
    return headers, others


def _header(path: Path, reader: Any, sop_class: str) -> Header:
    def text(tag: str) -> str:
        return str(reader.GetMetaData(tag)).strip("\0 ") if reader.HasMetaDataKey(tag) else ""

    def numbers(tag: str, count: int) -> NDArray[np.float64] | None:
        try:
            values = np.array([float(part) for part in text(tag).split("\\")])
        except ValueError:
            return None
        return values if values.size == count and np.isfinite(values).all() else None

    size = [int(n) for n in reader.GetSize()]
    pixel = numbers("0028|0030", 2)
    between, thickness = numbers("0018|0088", 1), numbers("0018|0050", 1)
    slice_mm = between if between is not None else thickness
    series_number = text("0020|0011")
    return Header(
        path=path,
        sop_uid=text("0008|0018"),
        sop_class=text("0008|0016") or sop_class,
        study_uid=text("0020|000d"),
        series_uid=text("0020|000e"),
        series_number=int(series_number) if series_number.lstrip("+-").isdigit() else None,
        description=text("0008|103e"),
        modality=text("0008|0060") or "unknown",
        image_type=tuple(part.strip().upper() for part in text("0008|0008").split("\\") if part.strip()),
        columns=size[0],
        rows=size[1],
        frames=size[2] if len(size) > 2 else 1,
        components=int(reader.GetNumberOfComponents()),
        orientation=numbers("0020|0037", 6),
        position_lps_mm=numbers("0020|0032", 3),
        pixel_mm=None if pixel is None else (float(pixel[0]), float(pixel[1])),
        slice_mm=None if slice_mm is None else abs(float(slice_mm[0])),
    )
