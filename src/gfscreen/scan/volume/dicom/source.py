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
# A slice of a CT shrinks to a half or a third, an empty one to about a hundredth; bombs to a thousandth and less.
MAX_RATIO = 200
# The longest whole-body CT has a few thousand slices of 0.5 MB; a study some such series.
MAX_FILES = 100_000
MAX_BYTES = 32 * 2**30
_BLOCK_BYTES = 1 << 20
_NAME_LENGTH = 80


def is_dicom(path: Path) -> bool:
    """Whether a file carries DICOM's preamble. Raises OSError if it cannot be read."""
    with path.open("rb") as stream:
        stream.seek(DICOM_PREAMBLE_BYTES)
        return stream.read(len(DICOM_MAGIC)) == DICOM_MAGIC


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files of a folder and of the folders below it, sorted; links to folders are not followed.

    Raises OSError for a file or folder that cannot be read, a link to nothing included: it may be a slice.
    """

    def refuse(error: OSError) -> None:
        raise error

    for place, folders, names in os.walk(folder, onerror=refuse):
        folders.sort()
        for name in sorted(names):
            path = Path(place) / name
            if (path.is_file() or path.is_symlink()) and is_dicom(path):
                yield path


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


def unpack(source: Path, folder: Path) -> int:
    """Write the DICOM files of a zip into `folder`; returns how many.

    Files are numbered in the order of their names; of a name only harmless characters of its last part are kept, for
    messages: nothing can be written elsewhere. Sizes, counts and ratios are checked before anything is written; no
    member yields more than it declares. Raises InputError, OSError, zipfile.BadZipFile.
    """
    with zipfile.ZipFile(source) as archive:
        members = sorted((m for m in archive.infolist() if not m.is_dir()), key=lambda m: m.filename)
        _check(source, members, folder)
        written = 0
        for member in members:
            with archive.open(member) as stream:
                head = stream.read(DICOM_PREAMBLE_BYTES + len(DICOM_MAGIC))
                if head[DICOM_PREAMBLE_BYTES:] != DICOM_MAGIC:
                    continue
                written += 1
                with (folder / f"{written:06d}-{_harmless(member.filename)}").open("wb") as target:
                    target.write(head)
                    shutil.copyfileobj(stream, target, _BLOCK_BYTES)
    if not written:
        raise InputError(f"{source.name}: expected a zip of DICOM files, found none; zip the folder of the series")
    return written


def _harmless(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]", "_", re.split(r"[/\\\\]", name)[-1])[-_NAME_LENGTH:]


def _check(source: Path, members: list[zipfile.ZipInfo], folder: Path) -> None:
    encrypted = next((m for m in members if m.flag_bits & 1), None)
    if encrypted is not None:
        raise InputError(f"{source.name}: is encrypted; unpack it and name the folder")
    if len(members) > MAX_FILES:
        raise InputError(f"{source.name}: holds {len(members)} files, at most {MAX_FILES} are read; zip one study")
    total = sum(m.file_size for m in members)
    if total > MAX_RATIO * max(source.stat().st_size, 1):
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
