"""The process that runs ITK on files from strangers: it may crash, and only the file it was reading is lost.

Started by `isolated`. Requests and replies are JSON, one a line, on stdin and stdout; voxels go into the file that the
first argument names by its descriptor. Ends when stdin ends, so it never outlives the run.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from gfscreen.errors import InputError, ScanTooLargeError
from gfscreen.scan.volume.dicom.read import located, read_dicom
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX
from gfscreen.scan.volume.geometry import Geometry, Volume
from gfscreen.scan.volume.itk import read_itk

# Address space for threads and libraries beside the scan.
_ADDRESS_SLACK_BYTES = 2 << 30
_PR_SET_PDEATHSIG = 1


def _limit_memory(scan_bytes: int) -> None:
    """Have an allocation beyond what was declared fail here, whatever a header made a library ask for."""
    with contextlib.suppress(OSError, ValueError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + scan_bytes + _ADDRESS_SLACK_BYTES, hard))


def _send_voxels(volume: Volume, descriptor: int) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    view = memoryview(cast(bytearray, volume.hu.reshape(-1, order="F").view("u1")))
    while view:
        view = view[os.write(descriptor, view[: 1 << 26]) :]


def answer(request: dict[str, Any], descriptor: int) -> dict[str, Any]:
    """Read one scan; the reply holds shape, affine, warnings and series_uid, or `refused` (`too_large`), or `internal`.

    request: `path`, `series`, `memory_bytes`, `scratch` (where to unpack a zip), `geometry_only` (of a DICOM series),
    `labels` (a mask: only whole numbers).
    """
    path, series, memory_bytes = Path(request["path"]), request["series"], request["memory_bytes"]
    _limit_memory(memory_bytes)
    tempfile.tempdir = request["scratch"]
    is_dicom = path.is_dir() or path.suffix.lower() == ZIP_SUFFIX
    try:
        if request["geometry_only"]:
            with located(path, series) as (chosen, slices, notes):
                return _placed(slices.geometry, notes, chosen.uid)
        labels = request["labels"]
        volume = read_dicom(path, series, memory_bytes) if is_dicom else read_itk(path, memory_bytes, labels=labels)
        _send_voxels(volume, descriptor)
    except InputError as error:
        return {"refused": str(error), "too_large": isinstance(error, ScanTooLargeError)}
    except OSError as error:
        return {"refused": f"{path.name}: not readable ({error.strerror or error}); check permissions and disk"}
    except MemoryError:
        refused = f"{path.name}: does not fit into memory; give more memory or split the scan"
        return {"refused": refused, "too_large": True}
    except Exception as error:
        return {"internal": f"{type(error).__name__}: {error}"}
    return _placed(volume.geometry, volume.warnings, volume.series_uid)


def _placed(geometry: Geometry, warnings: Sequence[str], series_uid: str | None) -> dict[str, Any]:
    return {
        "shape": geometry.shape,
        "affine": geometry.affine_ras_mm.tolist(),
        "warnings": list(warnings),
        "series_uid": series_uid,
    }


class _Kept(logging.Handler):
    """Keeps what is logged, for the reply: the run tells it."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[int, str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep level and message."""
        self.said.append((record.levelno, record.getMessage()))


def _end_with_parent() -> None:
    """Linux: this process is killed with the thread that started it, also when a library never returns here."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def main() -> int:
    """Answer requests until stdin ends."""
    _end_with_parent()
    descriptor = int(sys.argv[1])
    # Libraries write to the standard output as they please; the replies have it for themselves.
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    logger, kept = logging.getLogger("gfscreen"), _Kept()
    logger.setLevel(logging.DEBUG)
    logger.addHandler(kept)
    for line in sys.stdin:
        reply = answer(json.loads(line), descriptor)
        replies.write(json.dumps({**reply, "log": kept.said}) + "\n")
        kept.said.clear()
        replies.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
