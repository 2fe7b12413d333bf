"""The process that runs ITK on files from strangers: it may crash, and only the file it was reading is lost.

Started by `isolated`. Requests and replies are JSON, one a line, on stdin and stdout; voxels go into the file that the
first argument names by its descriptor. Ends when stdin ends, so it never outlives the run.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any, cast

from gfscreen.errors import InputError, ScanTooLargeError
from gfscreen.volume.geometry import Volume
from gfscreen.volume.itk import read_dicom, read_itk

# Address space for threads and libraries beside the scan.
_ADDRESS_SLACK_BYTES = 2 << 30


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
    """Read one scan; the reply holds shape, affine and warnings, or `refused` (and `too_large`), or `internal`."""
    path = Path(request["path"])
    _limit_memory(request["memory_bytes"])
    try:
        read = read_dicom if path.is_dir() else read_itk
        volume = read(path, request["memory_bytes"])
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
    affine = volume.geometry.affine_ras_mm.tolist()
    return {"shape": list(volume.geometry.shape), "affine": affine, "warnings": list(volume.warnings)}


def main() -> int:
    """Answer requests until stdin ends."""
    descriptor = int(sys.argv[1])
    for line in sys.stdin:
        sys.stdout.write(json.dumps(answer(json.loads(line), descriptor)) + "\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
