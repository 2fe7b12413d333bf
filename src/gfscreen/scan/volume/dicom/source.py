"""Where DICOM files come from: a folder, or a zip that is unpacked with limits into a temporary folder."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gfscreen.errors import InputError

ZIP_SUFFIX = ".zip"
DICOM_PREAMBLE_BYTES = 128
DICOM_MAGIC = b"DICM"
HEAD_BYTES = 512
_BARE_BYTES = 16
_FIRST_ELEMENT_BYTES = 1024
# A slice of a CT shrinks to a half or a third, an empty one or a phantom without noise to some hundredth; bombs to a
# thousandth and less. What unpacks to no more than a long series is harmless at any ratio.
MAX_RATIO = 200
HARMLESS_BYTES = 1 << 30
# The longest whole-body CT has a few thousand slices of 0.5 MB; a study some such series.
MAX_FILES = 100_000
MAX_BYTES = 32 * 2**30
_BLOCK_BYTES = 1 << 20
_NAME_LENGTH = 80


def is_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` is DICOM: with the preamble, or a bare data set as older exports are."""
    return head[DICOM_PREAMBLE_BYTES : DICOM_PREAMBLE_BYTES + 4] == DICOM_MAGIC or _is_bare(head)


def _is_bare(head: bytes) -> bool:
    """A data set without preamble begins with an element of group 0002 or 0008, in little endian."""
    if len(head) < _BARE_BYTES or head[:2] not in (b"\x02\x00", b"\x08\x00"):
        return False
    # Explicit: two capitals name the kind of value; implicit: the length of a first element is small.
    return bool(re.fullmatch(rb"[A-Z]{2}", head[4:6])) or int.from_bytes(head[4:8], "little") <= _FIRST_ELEMENT_BYTES


def head_of(path: Path) -> bytes:
    """The beginning of a file, enough to see what it is. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(HEAD_BYTES)


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder and of the folders below it, sorted; links to folders are not followed.

    Raises OSError for a folder that cannot be read; of links to nothing whoever opens them is told.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if path.is_file() or path.is_symlink():
                yield path


def holds_dicom(folder: Path) -> bool:
    """Whether any file below a folder is DICOM. Raises OSError for a file or folder that cannot be read."""
    return any(is_dicom(head_of(path)) for path in files_below(folder))


@contextmanager
def opened(source: Path) -> Iterator[Path]:
    """A folder with the DICOM files of `source`: itself, or a temporary one for a zip. Raises InputError."""
    if source.is_dir():
        yield source
        return
    with tempfile.TemporaryDirectory(prefix="gfscreen-") as temporary:
        try:
            unpack(source, Path(temporary))
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            raise InputError(f"{source.name}: damaged or not a zip ({error}); copy the file again") from error
        except OSError as error:
            raise InputError(
                f"{source.name}: cannot be unpacked into {temporary} ({error.strerror or error}); "
                "make room there or set TMPDIR"
            ) from error
        yield Path(temporary)


def unpack(source: Path, folder: Path) -> None:
    """Write the files of a zip into `folder`.

    Files are numbered in the order of their names; of a name only harmless characters of its last part are kept, for
    messages: nothing can be written elsewhere. Sizes, counts and ratios are checked before anything is written; no
    member yields more than it declares. Raises InputError, OSError, zipfile.BadZipFile.
    """
    with zipfile.ZipFile(source) as archive:
        members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
        _check(source, members, folder)
        found = False
        for number, member in enumerate(members, start=1):
            with archive.open(member) as stream:
                head = stream.read(HEAD_BYTES)
                found = found or is_dicom(head)
                with (folder / f"{number:06d}-{_harmless(member.filename)}").open("wb") as target:
                    target.write(head)
                    shutil.copyfileobj(stream, target, _BLOCK_BYTES)
    if not found:
        raise InputError(f"{source.name}: expected a zip of DICOM files, found none; zip the folder of the series")


def _harmless(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", re.split(r"[/\\\\]", name)[-1])[-_NAME_LENGTH:]


def _check(source: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    encrypted = next((m for m in members if m.flag_bits & 1), None)
    if encrypted is not None:
        raise InputError(f"{source.name}: is encrypted; unpack it and name the folder")
    if len(members) > MAX_FILES:
        raise InputError(f"{source.name}: holds {len(members)} files, at most {MAX_FILES} are read; zip one study")
    total = sum(m.file_size for m in members)
    if total > HARMLESS_BYTES and total > MAX_RATIO * max(source.stat().st_size, 1):
        raise InputError(
            f"{source.name}: would grow from {source.stat().st_size} to {total} bytes, more than {MAX_RATIO} times, "
            "which no CT does; check where it comes from"
        )
    available = min(MAX_BYTES, shutil.disk_usage(folder).free)
    if total > available:
        raise InputError(
            f"{source.name}: needs {total / 2**20:.0f} MiB unpacked, {available / 2**20:.0f} MiB are available in "
            f"{folder.parent}; make room there or set TMPDIR"
        )
