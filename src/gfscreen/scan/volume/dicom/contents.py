"""What the files of a study are beside DICOM: known to be something else, or perhaps slices that were lost.

A slice that is left out without a word changes the volume. So a file is passed over only if it is known to be none:
by its content, or by a name that no slice has.
"""

from __future__ import annotations

from pathlib import Path

# How other files begin: pictures, archives, documents, programs, volumes.
_OTHER_CONTENT = (
    *(b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF", b"%PDF", b"PK\x03\x04", b"\x1f\x8b"),
    *(b"Rar!", b"7z\xbc\xaf", b"BZh", b"\xfd7zXZ", b"MZ", b"\x7fELF", b"SQLite format 3", b"\xd0\xcf\x11\xe0", b"NRRD"),
)
# Names that slices have: no suffix, one of these, or one without letters (a UID, a number).
_SLICE_SUFFIXES = {"", ".dcm", ".dicom", ".dic", ".ima", ".img", ".acr"}
# What systems leave in folders.
_SYSTEM_NAMES = {"thumbs.db", "desktop.ini", "__macosx"}


def is_something_else(path: Path, head: bytes, slice_suffixes: set[str]) -> bool:
    """Whether a file that is no DICOM is known to be no slice of it either.

    head: how it begins; empty for an empty file. slice_suffixes: those of the DICOM files beside it, lower case.
    """
    # Zips are unpacked under numbers, with what is left of the name behind a dash.
    name = path.name.lower()
    if name.startswith(".") or "-._" in name or "-.ds_store" in name or any(name.endswith(n) for n in _SYSTEM_NAMES):
        return True
    suffix = path.suffix.lower()
    if head.startswith(_OTHER_CONTENT) or (head and _is_text(head)):
        return True
    like_a_slice = suffix in _SLICE_SUFFIXES | slice_suffixes or not any(c.isalpha() for c in suffix)
    return not like_a_slice


def _is_text(head: bytes) -> bool:
    """Printable characters and line ends only: notes, tables, JSON, XML."""
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError as error:
        # A character may be cut at the end of what was read.
        if error.start < len(head) - 4:
            return False
        text = head[: error.start].decode("utf-8")
    return bool(text) and all(c.isprintable() or c in "\r\n\t\ufeff" for c in text)
