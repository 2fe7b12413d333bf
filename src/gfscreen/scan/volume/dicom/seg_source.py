"""What a SEG takes from the headers of its series: mended, made where it can be made, and a word on what cannot.

highdicom copies the patient and the study from the source images and refuses, one by one, what does not suit it. So it
is given images that are made anew: identity and text of the headers, geometry of the volume that was screened.
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.scan.volume.dicom.characters import NAME_DELIMITERS, TEXT_DELIMITERS, decoded
from gfscreen.scan.volume.dicom.headers import CT_IMAGE, quiet, read_dataset
from gfscreen.scan.volume.dicom.stack import LPS_TO_RAS, Stack
from gfscreen.scan.volume.dicom.values import TEXT_KINDS, decimal, mended, number_of, plain

UTF_8 = "ISO_IR 192"
# Of the patient and the study, what every object has, if only empty (Type 2).
TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
# What is asked of every slice; of the first, everything.
_OF_EVERY_SLICE = frozenset(
    (
        *TYPE_2,
        "SOPClassUID",
        "SOPInstanceUID",
        "StudyInstanceUID",
        "SeriesInstanceUID",
        "FrameOfReferenceUID",
        "Modality",
        "ImagePositionPatient",
    )
)
_NUMBER_KINDS = {"FD", "FL", "SL", "SS", "UL", "US"}
# A header's own numbers are kept where they agree with the volume to this; positions may stray by a slice.
_SAME = 1e-3
_NAMED = 3


@dataclass
class SegSource:
    """Source images for highdicom, in the order of the volume's slices.

    patient_name: left out of the images, to be set afterwards. series: Series Instance UID of each image, of which the
    images have the first. changed: keywords whose values in the first image were altered or left empty. made: keywords
    that no slice, or not every slice, had. problems: what makes a SEG impossible.
    """

    images: list[Any] = field(default_factory=list)
    patient_name: str = ""
    series: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def seg_source(slices: Stack) -> SegSource:
    """The source images of a SEG of these slices. Needs pydicom; raises nothing for a header, however odd."""
    from pydicom.config import disable_value_validation

    source = SegSource()
    unread = []
    # UIDs stay as they are, valid or not: what they name is found under no other.
    with quiet(), disable_value_validation():
        for path in slices.files:
            try:
                dataset = read_dataset(path, pixels=False)
                image, changed = _mended(dataset, [], _OF_EVERY_SLICE if source.images else None)
                source.changed += [] if source.images else changed
                source.images.append(image)
            except Exception as error:  # pydicom raises many kinds for a damaged file
                unread.append(f"{path.name} cannot be read ({str(error).splitlines()[0] if str(error) else error!r})")
        if unread:
            source.problems = unread[:_NAMED] + ([f"and {len(unread) - _NAMED} more"] if len(unread) > _NAMED else [])
            return source
        _check_identity(source, slices.files)
        _complete(source)
        _place(source.images, slices)
    return source


def _mended(dataset: Any, terms: Sequence[str], wanted: frozenset[str] | None = None) -> tuple[Any, list[str]]:
    """The public elements of a data set, text as Unicode, and keywords of those that were altered or emptied.

    terms: Specific Character Set of the data set around it. wanted: keywords, None for all.
    """
    from pydicom.datadict import dictionary_has_tag, dictionary_VM, dictionary_VR, keyword_for_tag
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

    own = _bytes(dataset.get_item(0x00080005)).decode("latin_1")
    terms = [term.strip("\0 ") for term in own.split("\\")] if own.strip("\0 \\") else terms
    result, changed = Dataset(), []
    for tag in sorted(dataset.keys()):
        if tag.is_private or tag == 0x00080005 or tag.element == 0 or not dictionary_has_tag(tag):
            continue
        kind, keyword = dictionary_VR(tag), keyword_for_tag(tag)
        if wanted is not None and keyword not in wanted:
            continue
        if kind in TEXT_KINDS:
            delimiters = NAME_DELIMITERS if kind == "PN" else TEXT_DELIMITERS
            text = decoded(_bytes(dataset.get_item(tag)), terms, delimiters)
            most = dictionary_VM(tag).rpartition("-")[2]
            values = mended(text, kind, int(most) if most.isdigit() else None, keyword)
            if "\\".join(values) != plain(text, kind):
                changed.append(keyword)
            result[tag] = DataElement(tag, kind, values[0] if len(values) == 1 else values or "")
        elif kind in _NUMBER_KINDS or kind == "SQ":
            element = _copied(dataset, tag, kind, terms)
            if element is None:
                changed.append(keyword)
            else:
                result[tag] = element
    return result, changed


def _copied(dataset: Any, tag: Any, kind: str, terms: Sequence[str]) -> Any:
    """A binary number as it is, or a sequence of mended items; None for what cannot be understood."""
    from pydicom.dataelem import DataElement
    from pydicom.sequence import Sequence as Items

    try:
        value = dataset[tag].value
        if kind == "SQ":
            return DataElement(tag, kind, Items([_mended(item, terms)[0] for item in value]))
        numbers = list(value) if hasattr(value, "__iter__") else [] if value is None else [value]
        return DataElement(tag, kind, value) if all(isinstance(n, int | float) for n in numbers) else None
    except Exception:  # optional, and pydicom raises many kinds for a damaged element
        return None


def _bytes(item: Any) -> bytes:
    """The value of an element as stored; of one that pydicom has decoded already, as UTF-8."""
    value = getattr(item, "value", None)
    if isinstance(value, bytes):
        return value
    if value is None:
        return b""
    several = hasattr(value, "__iter__") and not isinstance(value, str) and type(value).__name__ == "MultiValue"
    return "\\".join(map(str, value)).encode() if several else str(value).encode()


def _text(image: Any, keyword: str) -> str:
    """The only value of an element, empty if it is not there."""
    value = image.get(keyword)
    return "" if value is None else str(value)


def _check_identity(source: SegSource, files: Sequence[Path]) -> None:
    """Note what nobody else can give: by which UIDs the slices are known."""
    uids = [_text(image, "SOPInstanceUID") for image in source.images]
    counts = Counter(uids)
    missing = [path.name for path, uid in zip(files, uids, strict=True) if not uid]
    shared = [path.name for path, uid in zip(files, uids, strict=True) if uid and counts[uid] > 1]
    if missing:
        source.problems.append(f"SOPInstanceUID is missing in {_files(missing)}")
    if shared:
        source.problems.append(f"SOPInstanceUID is shared by {_files(shared)}")
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID"):
        missing = [path.name for path, image in zip(files, source.images, strict=True) if not _text(image, keyword)]
        if missing:
            source.problems.append(f"{keyword} is missing in {_files(missing)}")
    studies = {_text(image, "StudyInstanceUID") for image in source.images} - {""}
    if len(studies) > 1:
        source.problems.append(f"StudyInstanceUID has {len(studies)} values in one series")


def _files(names: Sequence[str]) -> str:
    more = " ..." if len(names) > _NAMED else ""
    return f"{len(names)} file{'s' if len(names) > 1 else ''} ({', '.join(names[:_NAMED])}{more})"


def _complete(source: SegSource) -> None:
    """Make what is missing and can be made, and one of all slices where they must agree."""
    first = source.images[0]
    for keyword in TYPE_2:
        # Of the first slice that tells it.
        known = next((image.get(keyword) for image in source.images if image.get(keyword)), "")
        setattr(first, keyword, known)
    source.patient_name = _text(first, "PatientName")
    first.PatientName = ""  # highdicom warns of names of one part, with the name
    source.series = [_text(image, "SeriesInstanceUID") for image in source.images]
    frames = Counter(frame for image in source.images if (frame := _text(image, "FrameOfReferenceUID")))
    frame = frames.most_common(1)[0][0] if frames else ""
    if len(frames) != 1 or sum(frames.values()) < len(source.images):
        source.made.append("FrameOfReferenceUID")
        # The same for every SEG of the series.
        frame = frame or f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'frame of reference of {source.series[0]}').int}"
    text = "".join(str(element.value) for element in first.iterall() if element.VR not in ("SQ", "OB", "OW", "UN"))
    if not (text + source.patient_name).isascii():
        first.SpecificCharacterSet = UTF_8
    if first.get("LossyImageCompression") not in ("00", "01"):
        first.LossyImageCompression = "00"
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if keyword in first and not first.get(keyword):
            delattr(first, keyword)
    for image in source.images:
        image.FrameOfReferenceUID = frame
        image.SeriesInstanceUID = source.series[0]
        image.PositionReferenceIndicator = _text(first, "PositionReferenceIndicator")
        image.SOPClassUID = _text(image, "SOPClassUID") or CT_IMAGE
        image.Modality = _text(image, "Modality") or "CT"


def _place(images: Sequence[Any], slices: Stack) -> None:
    """Give every image size, position, orientation and spacing of the volume."""
    geometry = slices.geometry
    lps = LPS_TO_RAS @ geometry.affine_ras_mm
    i_mm, j_mm, k_mm = geometry.spacing_mm
    first = images[0]
    orientation = _own_or(first, "ImageOrientationPatient", np.concatenate([lps[:3, 0] / i_mm, lps[:3, 1] / j_mm]))
    spacing = _own_or(first, "PixelSpacing", np.array([j_mm, i_mm]))
    thickness = number_of(_text(first, "SliceThickness")) or 0.0
    for k, image in enumerate(images):
        image.Columns, image.Rows = geometry.shape[:2]
        image.ImagePositionPatient = _own_or(image, "ImagePositionPatient", lps[:3, 2] * k + lps[:3, 3], k_mm)
        image.ImageOrientationPatient, image.PixelSpacing = orientation, spacing
        image.SliceThickness = _text(first, "SliceThickness") if thickness > 0 else decimal(k_mm)
        image.SpacingBetweenSlices = decimal(k_mm)


def _own_or(image: Any, keyword: str, computed: NDArray[np.float64], within: float = _SAME) -> list[str]:
    """The header's own numbers if they are those of the volume, else the volume's."""
    value = image.get(keyword)
    own = [str(part) for part in value] if hasattr(value, "__iter__") and not isinstance(value, str) else []
    numbers = [number_of(part) for part in own]
    if len(numbers) == computed.size and all(
        number is not None and abs(number - right) <= within
        for number, right in zip(numbers, computed.tolist(), strict=True)
    ):
        return own
    return [decimal(round(number, 10)) for number in computed.tolist()]
