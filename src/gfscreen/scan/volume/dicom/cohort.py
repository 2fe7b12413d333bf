"""Whether a folder holds one DICOM study or a cohort: several studies, each in a subfolder or zip of its own."""

from __future__ import annotations

import logging
from collections import defaultdict
from io import BytesIO
from pathlib import Path

from gfscreen.scan.volume.dicom.headers import quiet
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX, files_below, head_of, is_dicom

logger = logging.getLogger(__name__)

DIRECTORY_FILE = "DICOMDIR"
_STUDY_INSTANCE_UID = 0x0020000D
# The UID stands near the beginning of a file; private headers before it are long at times.
_HEADER_BYTES = 1 << 16
# Of files that do not say their study (reports, damaged ones) so many are passed over.
_MOST_FILES = 16


def members(entries: list[Path]) -> list[Path] | None:
    """The studies of a cohort, subfolders and zips in the order given; None if `entries` are those of one study.

    entries: what lies in the folder, without what is no input. A cohort has no DICOM file loose beside its subfolders
    (a DICOMDIR is none), and more than one study in them, each zip counted as one. Every subfolder belongs to it then,
    also one without DICOM, which fails as a case. Subfolders of one study are its series. Of each subfolder the first
    file that names its study counts. Raises OSError for a loose file that cannot be read.
    """
    subfolders = [path for path in entries if path.is_dir()]
    zips = [path for path in entries if path.suffix.lower() == ZIP_SUFFIX and path.is_file()]
    if not subfolders or any(_is_loose(path) for path in entries if path not in zips and not path.is_dir()):
        return None
    studies: dict[str, list[str]] = defaultdict(list)
    for folder in subfolders:
        if (uid := study_of(folder)) is not None:
            studies[uid].append(folder.name)
    if not studies or len(studies) + len(zips) < 2:
        return None
    for names in studies.values():
        if len(names) > 1:
            logger.warning("%s hold the same study; each is a case of its own", ", ".join(names))
    return [path for path in entries if path in subfolders or path in zips]


def _is_loose(path: Path) -> bool:
    return path.name.upper() != DIRECTORY_FILE and is_dicom(head_of(path))


def study_of(folder: Path) -> str | None:
    """Study Instance UID of the first file in a folder and below that names one; None if none does.

    None also for what cannot be read: the reading of the case says why.
    """
    tried = 0
    try:
        for path in files_below(folder):
            if not is_dicom(head_of(path)):
                continue
            if (uid := _study_uid(path)) is not None:
                return uid
            tried += 1
            if tried == _MOST_FILES:
                break
    except OSError:
        return None
    return None


def _study_uid(path: Path) -> str | None:
    """By the beginning of the file alone: however it is compressed, little is unpacked. Raises OSError."""
    import pydicom

    with path.open("rb") as stream:
        head = stream.read(_HEADER_BYTES)
    try:
        with quiet():
            dataset = pydicom.dcmread(
                BytesIO(head), stop_before_pixels=True, force=True, specific_tags=[_STUDY_INSTANCE_UID]
            )
            return str(dataset.get("StudyInstanceUID") or "").strip("\0 ") or None
    except Exception:  # pydicom raises many kinds for a damaged file
        return None
