"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from pathlib import Path

TEMPORARY_PREFIX = ".gfscreen-"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary name in the same folder, flush it to disk, then rename it to `path`.

    Whatever happens, `path` holds either its old content or all of the new one, and the temporary file is removed. The
    file is locked while it is written: `remove_leftovers` of another run sees that its writer lives. Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
            # mkstemp makes the file private; the reader of a mask is often another user.
            os.fchmod(stream.fileno(), 0o644)
            Path(temporary).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(temporary).unlink()
        raise


def remove_leftovers(folder: Path) -> list[Path]:
    """Remove temporary files that a killed run left in `folder`, but none that a living one is writing.

    Returns what was removed.
    """
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*.tmp"):
        with contextlib.suppress(OSError), path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            removed.append(path)
    return removed
