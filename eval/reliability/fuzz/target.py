"""One execution: bytes become a file, the file is read, and whatever is not a scan or one clear error is a finding."""

from __future__ import annotations

import contextlib
import signal
import time
import types
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

import gfscreen.scan.volume.memory
from eval.reliability.fuzz.dicom_seeds import DICOM_SUFFIX, write_neighbours
from eval.reliability.threshold_engine import THRESHOLD_PLAN, ThresholdEngine
from gfscreen.errors import InputError
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.dicom.read import read_dicom
from gfscreen.scan.volume.nifti import encode_mask, mask_header
from gfscreen.screening.budget import Budget
from gfscreen.screening.screening import screen

ITK_SUFFIXES = (".mha", ".nrrd")
TIME_LIMIT_S = 5.0
# More for MetaImage and NRRD: where the library has crashed on a file, its process is started anew within the reading.
RESTART_LIMIT_S = 60.0
MEMORY_LIMIT_MB = 256
# Resident memory that is not the scan's: decompression buffers, library caches, the interpreter's own growth.
MEMORY_SLACK_MB = 64
# Growth over a whole run that is no longer the allocator's: 100,000 executions that keep 700 bytes each.
LEAK_LIMIT_MB = 64
LEAK_EVERY = 500
# An accepted scan of at most this size goes on through screening, one in so many.
SCREENED_VOXELS = 50_000
SCREEN_EVERY = 20


class Finding(Exception):  # noqa: N818 - the term of the field
    """Something that must not happen. kind: `crash`, `message`, `hang`, `memory`, `leak` or `mask`."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


class _TooSlow(BaseException):
    """Raised by the alarm; not an Exception, so that nothing on the way swallows it."""


@contextlib.contextmanager
def declared_limits() -> Iterator[None]:
    """While this lasts, the machine is said to have MEMORY_LIMIT_MB, and an alarm ends what takes too long."""
    memory = gfscreen.scan.volume.memory
    available, handler = memory.available_bytes, signal.signal(signal.SIGALRM, _alarm)
    memory.available_bytes = _declared_bytes
    try:
        yield
    finally:
        memory.available_bytes = available
        signal.signal(signal.SIGALRM, handler)


@dataclass
class Reader:
    """Feeds files to the reader and watches what happens; to be used within `declared_limits`.

    folder: where the file under test lies, best a memory file system. The counts are those of all executions so far.
    growth_is_own: the growth of the process is the reader's, as long as the search keeps nothing in it.
    """

    folder: Path
    growth_is_own: bool = True
    executions: int = 0
    # Of NIfTI files; ITK's include the start of its process.
    slowest_s: float = 0.0
    # The most that one execution took on top of what the process had before it.
    largest_mb: float = 0.0
    outcomes: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._baseline_mb = 0.0

    def start(self) -> None:
        """Take the present memory as that of the program itself; called after the valid files have been read once."""
        self._baseline_mb = _resident_mb()
        self.largest_mb = 0.0

    @property
    def growth_mb(self) -> float:
        """Growth of the resident memory since `start`."""
        return _resident_mb() - self._baseline_mb

    def execute(self, data: bytes, suffix: str) -> str:
        """Read one file. Returns the outcome; raises Finding."""
        path = self._placed(data, suffix)
        self.executions += 1
        _forget_peak()
        before_mb = _peak_mb()
        began = time.monotonic()
        limit_s = RESTART_LIMIT_S if suffix in ITK_SUFFIXES else TIME_LIMIT_S
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        try:
            outcome = self._read(path)
        except _TooSlow as error:
            raise Finding("hang", f"longer than {limit_s:.0f} s") from error
        except Finding:
            raise
        except Exception as error:
            raise Finding("crash", f"{type(error).__name__}: {error}") from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            took_s = time.monotonic() - began
            if limit_s == TIME_LIMIT_S:
                self.slowest_s = max(self.slowest_s, took_s)
            taken_mb = _peak_mb() - before_mb
            self.largest_mb = max(self.largest_mb, taken_mb)
        self.outcomes[outcome] += 1
        if taken_mb > MEMORY_LIMIT_MB + MEMORY_SLACK_MB:
            raise Finding("memory", f"{taken_mb:.0f} MB for one file, declared are {MEMORY_LIMIT_MB}")
        watched = self.growth_is_own and self._baseline_mb and self.executions % LEAK_EVERY == 0
        if watched and self.growth_mb > LEAK_LIMIT_MB:
            raise Finding("leak", f"{self.growth_mb:.0f} MB more than at the start after {self.executions} executions")
        return outcome

    def _placed(self, data: bytes, suffix: str) -> Path:
        """The file where it is to be read; a slice of a DICOM series lies between two whole ones."""
        if suffix != DICOM_SUFFIX:
            path = self.folder / f"scan_0000{suffix}"
            path.write_bytes(data)
            return path
        folder = self.folder / "series"
        if not folder.is_dir():
            folder.mkdir()
            write_neighbours(folder)
        (folder / f"IM1{DICOM_SUFFIX}").write_bytes(data)
        return folder

    def _read(self, path: Path) -> str:
        try:
            # In this process: what reads DICOM but for compressed frames is Python.
            volume = read_dicom(path) if path.is_dir() else read_volume(path)
        except InputError as error:
            message = str(error)
            if not message.startswith(f"{path.name}: ") or "\n" in message or "internal error" in message:
                raise Finding("message", repr(message)) from error
            return (
                "clear error, the library crashed" if "the library that reads it failed" in message else "clear error"
            )
        _check(volume)
        if self.outcomes["scan"] % SCREEN_EVERY == 0 and volume.hu.size <= SCREENED_VOXELS:
            self._screen(volume)
        return "scan"

    def _screen(self, volume: Volume) -> None:
        try:
            result = screen(volume, THRESHOLD_PLAN, ThresholdEngine(), Budget(TIME_LIMIT_S / 2))
        except MemoryError as error:
            raise Finding("memory", "an accepted scan does not fit") from error
        if result.mask.shape != volume.geometry.shape or result.mask.max(initial=0) > 1:
            raise Finding("mask", f"{result.mask.shape} for {volume.geometry.shape}")
        self.outcomes["screened"] += 1


def _check(volume: Volume) -> None:
    """What every scan must be that was accepted, and that a mask with its geometry can be made."""
    if volume.hu.dtype != np.int16 or volume.hu.shape != volume.geometry.shape:
        raise Finding("mask", f"{volume.hu.dtype} {volume.hu.shape} for {volume.geometry.shape}")
    if not np.isfinite(volume.geometry.affine_ras_mm).all():
        raise Finding("mask", "geometry is not finite")
    if volume.hu.size <= SCREENED_VOXELS:
        encode_mask(np.zeros(volume.geometry.shape, np.uint8, order="F"), volume.geometry)
    else:
        mask_header(volume.geometry)


def _resident_mb() -> float:
    return float(psutil.Process().memory_info().rss) / 2**20


def _peak_mb() -> float:
    """Peak resident memory since it was last forgotten (`VmHWM`, which psutil does not give)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("VmHWM:"):
            return float(line.split()[1]) / 1024
    raise RuntimeError("/proc/self/status has no VmHWM: memory can only be watched on Linux")


def _forget_peak() -> None:
    # "5" sets the peak to the present resident memory (proc(5), clear_refs).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _declared_bytes(proc: Path = Path(), root: Path = Path()) -> int:
    return MEMORY_LIMIT_MB * 2**20


def _alarm(number: int, frame: types.FrameType | None) -> None:
    raise _TooSlow
