"""The deadline of a case: how much time is left, and how much must be kept for what is still to be done."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

# Kept for bringing the mask back and writing it: a fixed part, a part per native voxel, and one more where Focus has
# read. 512x512x1200 voxels full of specks, as untrained weights leave them, took 8.1 s on two cores of one machine and
# 11.3 s on those of another; with marks in a tenth of them 1.2 s, in a third 2.3 s.
WRITE_RESERVE_S = 1.5
WRITE_RESERVE_S_PER_VOXEL = 1e-8
WRITE_RESERVE_S_PER_READ_VOXEL = 3e-8


class Clock(Protocol):
    """A monotonic clock in seconds."""

    def __call__(self) -> float:
        """Seconds since an arbitrary moment."""
        ...


def process_age_s() -> float:
    """Seconds since this process was started: interpreter start and imports count against the deadline.

    On Linux by the clock that counts from boot: a wall clock that is set meanwhile must not spend the time of a case.
    """
    with contextlib.suppress(OSError, ValueError, IndexError, AttributeError):
        # The name in parentheses may hold blanks; behind it, field 22 is the start in ticks since boot (man proc).
        fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started_s = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started_s)
    return max(0.0, time.time() - float(psutil.Process().create_time()))


@dataclass
class Budget:
    """Time of one case. limit_s None: no deadline. spent_s: what passed before this budget was made."""

    limit_s: float | None = None
    spent_s: float = 0.0
    clock: Clock = time.monotonic
    _start: float = field(init=False)

    def __post_init__(self) -> None:
        self._start = self.clock() - self.spent_s

    def elapsed_s(self) -> float:
        """Seconds since the case began."""
        return self.clock() - self._start

    def remaining_s(self) -> float:
        """Seconds until the deadline; infinite without one."""
        return float("inf") if self.limit_s is None else self.limit_s - self.elapsed_s()


def write_reserve_s(native_voxels: int) -> float:
    """Time to keep for bringing a mask to the native grid and writing it, wherever it may be marked."""
    return empty_write_reserve_s(native_voxels) + WRITE_RESERVE_S_PER_READ_VOXEL * native_voxels


def empty_write_reserve_s(native_voxels: int) -> float:
    """The same for a mask in which nothing can be marked, since Focus has read nothing."""
    return WRITE_RESERVE_S + WRITE_RESERVE_S_PER_VOXEL * native_voxels


class Later:
    """What sub-volumes that Focus reads cost once more when their marks are brought back and written.

    each_s: for one; at_most_s: for all, where they cover the whole scan.
    """

    def __init__(self, each_s: float = 0.0, at_most_s: float = 0.0) -> None:
        self._each_s, self._at_most_s, self._read = each_s, at_most_s, 0

    @classmethod
    def of(cls, native_voxels: int, windows: int) -> Later:
        """Of a scan whose body so many sub-volumes cover: each is taken for its share of all native voxels."""
        whole_s = WRITE_RESERVE_S_PER_READ_VOXEL * native_voxels
        return cls(whole_s / max(windows, 1), whole_s)

    def after_s(self, count: int = 0) -> float:
        """Seconds for what has been read and `count` sub-volumes more."""
        return min((self._read + count) * self._each_s, self._at_most_s)

    def add(self, count: int) -> None:
        """Take over that `count` sub-volumes are read."""
        self._read += count


class Pace:
    """How long a step takes: as expected before the first one, then as the slowest that was measured.

    The first one counts only until there is a second: it also pays for what happens once (memory, kernels, CUDA).
    expected_s: of a step with one sub-volume; None where unknown, and then nothing until one was measured.
    """

    def __init__(self, expected_s: float | None = None) -> None:
        self._expected_s = expected_s
        self._factor = 1.0
        self._first: tuple[float, int] | None = None
        self._slowest: tuple[float, int] | None = None

    def took(self, seconds: float, count: int) -> None:
        """Take over a measured step of `count` sub-volumes."""
        if self._first is None:
            self._first = seconds, count
        elif self._slowest is None or seconds > self._slowest[0]:
            self._slowest = seconds, count

    def step_s(self, count: int) -> float:
        """Seconds to count with for a step of `count` sub-volumes: in proportion if it is larger than the slowest."""
        measured = self._slowest or self._first
        if measured is None:
            return (self._expected_s or 0.0) * self._factor * count
        return measured[0] * max(1.0, count / measured[1])

    def slowdown(self) -> float:
        """How many times as long as expected the slowest measured step took; 1 where either is unknown."""
        measured = self._slowest or self._first
        if not self._expected_s or measured is None or measured[0] == 0.0:
            return 1.0
        return measured[0] / measured[1] / self._expected_s

    def scale(self, factor: float) -> None:
        """Expect so many times as long for the first step: what slowed another network down will slow this one."""
        self._factor = factor


class Allowance:
    """Whether another step of a stage fits, asked before each; the time between two questions is that of a step.

    pace: what is known of the stage's steps, shared by all its rounds. later: what they cost after the stage, which
    must fit into what is allowed as well; so must that of the rounds before.
    """

    def __init__(self, budget: Budget, allowed_s: float, pace: Pace | None = None, later: Later | None = None) -> None:
        self._budget = budget
        self._pace = Pace() if pace is None else pace
        self._later = Later() if later is None else later
        self._last_s = budget.elapsed_s()
        self._stop_at_s = self._last_s + allowed_s
        self._running = 0

    def another(self, count: int = 1) -> bool:
        """True if a step of `count` sub-volumes fits. To be asked before every step, the first included."""
        now = self._budget.elapsed_s()
        if self._running:
            self._pace.took(now - self._last_s, self._running)
        self._last_s = now
        fits = now + self._pace.step_s(count) + self._later.after_s(count) <= self._stop_at_s
        self._running = count if fits else 0
        self._later.add(self._running)
        return fits

    def stop(self) -> None:
        """Take over the time of the last step, where no further one will be asked for."""
        if self._running:
            self._pace.took(self._budget.elapsed_s() - self._last_s, self._running)
            self._running = 0
