"""MetaImage, NRRD and DICOM are read by ITK in a process of its own: a crash there costs one scan, not the run.

ITK 5.4 dies on a NRRD whose gzip data is damaged; what a C++ library does with the next stranger's file nobody knows.
NIfTI is read in this process, by Python code that checks what it reads.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import numpy as np

from gfscreen.errors import InputError, ScanTooLargeError
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX
from gfscreen.scan.volume.geometry import Geometry, Volume
from gfscreen.scan.volume.memory import unpromised_bytes
from gfscreen.stopping import stop_requested

logger = logging.getLogger(__name__)

# Longer than any series takes from a slow disk; a library that is not done by then never will be.
READ_LIMIT_S = 120.0
# How often to look whether the run was told to stop meanwhile.
_LOOK_UP_S = 0.2


class _DiedError(Exception):
    """The process ended; the message says how."""


class _SilentError(Exception):
    """The process does not answer; asking again would only take as long again."""


class _Process:
    """One reading process and the file, without a name, through which voxels come."""

    def __init__(self) -> None:
        self._voxels = _shared_memory()
        self._process = subprocess.Popen(
            # -P: the current folder, which may be anyone's, is not searched for modules.
            [sys.executable, "-P", "-m", "gfscreen.scan.volume.itk_process", str(self._voxels)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # ITK explains itself at length; the one line that is wanted comes as the reply.
            stderr=subprocess.DEVNULL,
            pass_fds=(self._voxels,),
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """Send a request, wait for the reply. Raises _DiedError; InputError if the run is told to stop meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise _DiedError(self._epitaph()) from error
        give_up_s = time.monotonic() + READ_LIMIT_S
        while not select.select([self._process.stdout], [], [], _LOOK_UP_S)[0]:
            if stop_requested():
                raise InputError(f"{Path(request['path']).name}: not read, the run was told to stop")
            if time.monotonic() > give_up_s:
                raise _SilentError(f"no answer within {READ_LIMIT_S:.0f} s")
        line = self._process.stdout.readline()
        if not line.endswith(b"\n"):
            raise _DiedError(self._epitaph())
        reply: dict[str, Any] = json.loads(line)
        return reply

    def _epitaph(self) -> str:
        code = self._process.wait()
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"it crashed with {signal.Signals(-code).name}"
        return f"it ended with exit code {code}"

    def voxels(self, shape: tuple[int, int, int]) -> np.ndarray[Any, np.dtype[np.int16]]:
        """The voxels of the last reply, (i, j, k) in Fortran order."""
        hu = np.empty(shape, np.int16, order="F")
        view = memoryview(cast(bytearray, hu.reshape(-1, order="F").view(np.uint8)))
        done = 0
        while done < len(view):
            done += os.preadv(self._voxels, [view[done : done + (1 << 26)]], done)
        # The pages are the kernel's until then.
        os.ftruncate(self._voxels, 0)
        return hu

    def close(self) -> None:
        """End the process, whatever it is doing."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        os.close(self._voxels)


def _shared_memory() -> int:
    """A file without a name, in memory; on disk where the system has or permits no such thing."""
    with contextlib.suppress(AttributeError, OSError):
        return os.memfd_create("scan")
    with tempfile.TemporaryFile() as stream:
        return os.dup(stream.fileno())


_processes: list[_Process] = []
# From a request until its voxels are fetched: of two threads, each would get whatever reply comes first.
_turn = threading.Lock()


def close() -> None:
    """End the reading process if there is one."""
    while _processes:
        _processes.pop().close()


atexit.register(close)


def _ask(request: dict[str, Any]) -> tuple[_Process, dict[str, Any]]:
    """Ask the reading process, starting it if there is none. Raises _DiedError."""
    if not _processes:
        _processes.append(_Process())
    process = _processes[0]
    try:
        return process, process.ask(request)
    except BaseException:
        # Stopped as well: a process that is still busy with an old request must not answer the next one with it.
        close()
        raise


def read_isolated(path: Path, series: str | None = None, *, labels: bool = False) -> Volume:
    """Read a .mha or .nrrd file, or a DICOM folder or zip; `series` and `labels` as for `read_volume`.

    A file on which the process died is tried once more in a fresh one: the fault may be of the file before.
    Raises InputError, also where the library crashed or hung, and ScanTooLargeError.
    """
    with _turn:
        process, reply = _answer(path, series, geometry_only=False, labels=labels)
        geometry = _geometry(reply)
        hu = process.voxels(geometry.shape)
    return Volume(hu, geometry, path, tuple(reply["warnings"]), reply["series_uid"])


def dicom_geometry_isolated(source: Path, series: str | None = None) -> tuple[Geometry, str]:
    """Geometry and Series Instance UID that `read_isolated` would give of a DICOM folder or zip, from the headers.

    Raises as it does.
    """
    with _turn:
        reply = _answer(source, series, geometry_only=True)[1]
    return _geometry(reply), str(reply["series_uid"])


def _geometry(reply: dict[str, Any]) -> Geometry:
    shape = (reply["shape"][0], reply["shape"][1], reply["shape"][2])
    return Geometry(shape, np.array(reply["affine"], np.float64))


def _answer(
    path: Path, series: str | None, *, geometry_only: bool, labels: bool = False
) -> tuple[_Process, dict[str, Any]]:
    """The reply to a request that was not refused."""
    request = {
        "path": str(path.absolute()),
        "series": series,
        "geometry_only": geometry_only,
        "labels": labels,
        "memory_bytes": unpromised_bytes(),
    }
    # A zip is unpacked there; what is left of it if the process dies is cleared here.
    with TemporaryDirectory(prefix="gfscreen-") if path.suffix.lower() == ZIP_SUFFIX else nullcontext() as scratch:
        request["scratch"] = scratch
        try:
            try:
                process, reply = _ask(request)
            except _DiedError:
                process, reply = _ask(request)
        except (_DiedError, _SilentError) as error:
            reason = f"the library that reads it failed: {error}"
            raise InputError(f"{path.name}: {reason}; export the scan again") from error
    for level, message in reply["log"]:
        # Of which scan, where several are read.
        logger.log(level, "%s", message if message.startswith(f"{path.name}: ") else f"{path.name}: {message}")
    if "refused" in reply:
        raise (ScanTooLargeError if reply.get("too_large") else InputError)(reply["refused"])
    if "internal" in reply:
        raise RuntimeError(reply["internal"])
    return process, reply
