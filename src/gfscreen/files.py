"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gfscreen.stopping import unstoppable

TEMPORARY_PREFIX = ".gfscreen-"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a file without a name in the same folder, flush it to disk, then give it the name `path`.

    Whatever happens, `path` holds either its old content or all of the new one. A process that is killed leaves nothing
    behind, because a file without a name ends with it; where the file system has none, or `path` exists and must be
    replaced, a temporary name is used, which `remove_leftovers` knows. A signal to stop waits until the file is there.
    A link at `path` is replaced, not followed. Raises OSError.
    """
    with unstoppable():
        if not _write_unnamed(path, data):
            _write_named(path, data)


def _write_unnamed(path: Path, data: bytes) -> bool:
    """Write by O_TMPFILE and link. False if this place cannot do that, or `path` exists: nothing has happened then."""
    if not hasattr(os, "O_TMPFILE") or os.path.lexists(path):
        return False
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError:
        return False
    with os.fdopen(descriptor, "wb") as stream:
        _fill(stream.fileno(), data)
        try:
            # With a folder given, Python calls linkat, which follows the link of /proc; without, it would link that.
            here = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.link(
                    f"/proc/self/fd/{descriptor}", path.name, src_dir_fd=here, dst_dir_fd=here, follow_symlinks=True
                )
            finally:
                os.close(here)
        except OSError:
            return False
    return True


def _write_named(path: Path, data: bytes) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # Locked while it is written: `remove_leftovers` of another run sees that its writer lives.
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(stream.fileno(), data)
            Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def _fill(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
    # Temporary files are private; the reader of a mask is often another user.
    os.fchmod(descriptor, 0o644)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder `.gfscreen-NAME-...` in `parent`, locked while it is used and removed afterwards. Raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix=f"{TEMPORARY_PREFIX}{name}-", dir=parent))
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files and folders that a killed run left in `folder`, but none that a living one is using.

    Links are left alone. Returns what was removed.
    """
    removed = []
    for path in sorted(folder.glob(f"{TEMPORARY_PREFIX}*")):
        is_folder = path.is_dir()
        if path.is_symlink() or not (is_folder or path.suffix == ".tmp"):
            continue
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if is_folder:
                    shutil.rmtree(path)
                else:
                    path.unlink()
                removed.append(path)
            finally:
                os.close(descriptor)
    return removed
