"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path

TEMPORARY_PREFIX = ".gfscreen-"


def write_atomically(path: Path, data: bytes) -> None:
    """Write `data` to a temporary name in the same folder, flush it to disk, then rename it to `path`.

    Whatever happens, `path` holds either its old content or all of the new one, and the temporary file is removed.
    Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as stream:
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
    """Remove temporary files that a killed run left in `folder`; returns what was removed."""
    removed = []
    for path in folder.glob(f"{TEMPORARY_PREFIX}*.tmp"):
        with contextlib.suppress(OSError):
            path.unlink()
            removed.append(path)
    return removed
