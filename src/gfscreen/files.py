"""Files that appear whole or not at all, and folders for what does not last."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gfscreen.stopping import unstoppable

TEMPORARY_PREFIX = ".gfscreen-"

# Of a new file; the kernel takes the umask off.
_MODE = 0o666
# Flushing is unknown here, refused or makes no sense; the data is written all the same. EROFS: said of special files,
# and of a disk that became read-only meanwhile, where the file does not get its name either.
_CANNOT_FLUSH = {errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EROFS, errno.EPERM, errno.EACCES}


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a file without a name in the same folder, flush it to disk, then give it the name `path`.

    Whatever happens, `path` holds either its old content or all of the new one. A process that is killed leaves nothing
    behind, because a file without a name ends with it; where the file system has none, or `path` exists and must be
    replaced, a temporary name is used, which `remove_leftovers` knows. A signal to stop waits until the file is there.
    A link at `path` is replaced, not followed. The mode is that of a new file: 666 less the umask, or what the folder
    lays down. Raises OSError, also for what the disk tells late; but not where a file system cannot flush.
    """
    with unstoppable():
        if not _write_unnamed(path, data):
            _write_named(path, data)


def _write_unnamed(path: Path, data: bytes) -> bool:
    """Write by O_TMPFILE and link. False if this place cannot do that, or `path` exists: nothing has happened then."""
    if not hasattr(os, "O_TMPFILE") or os.path.lexists(path):
        return False
    try:
        descriptor = os.open(path.parent, os.O_TMPFILE | os.O_WRONLY, _MODE)
    except OSError:
        return False
    with os.fdopen(descriptor, "wb") as stream:
        if _ignores_umask(descriptor):
            return False
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


def _ignores_umask(descriptor: int) -> bool:
    """Whether a new file has permissions that the umask denies, or the umask is not to be known.

    Linux before 5.19 forgets it for files without names on some file systems. Where it is the folder's default ACL that
    grants more, a file with a name gets that, too.
    """
    try:
        # Without setting it, which other threads would see.
        status = Path("/proc/self/status").read_bytes()
        umask = int(status.partition(b"\nUmask:")[2].split(None, 1)[0], 8)
    except (OSError, ValueError, IndexError):
        return True
    return bool(os.fstat(descriptor).st_mode & umask)


def _write_named(path: Path, data: bytes) -> None:
    descriptor, temporary = _new_named(path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            # Locked while it is written: `remove_leftovers` of another run sees that its writer lives.
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _fill(stream.fileno(), data)
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _new_named(folder: Path) -> tuple[int, Path]:
    """A new file of a name that nobody has, open for writing. Not by `tempfile`, whose files are private."""
    path = folder / f"{TEMPORARY_PREFIX}{os.urandom(8).hex()}.tmp"
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _MODE), path


def _fill(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_FLUSH:
            raise
    # Stores behind FUSE and network file systems send it now, and tell only now if that fails.
    os.close(os.dup(descriptor))


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


def private_folder() -> Path | None:
    """A folder of this user's own in the temporary one, the same for every run; None where there can be none.

    One that is somebody else's, or that others can write to, is not trusted.
    """
    with contextlib.suppress(OSError):
        temporary = Path(tempfile.gettempdir())
        if temporary == Path.cwd():  # Python's last resort: the output folder, perhaps
            return None
        folder = temporary / f"gfscreen-{os.geteuid()}"
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
        found = folder.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022:
            return folder
    return None


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
