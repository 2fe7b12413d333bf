"""The deadline of a case: how much time is left, and how much must be kept for what is still to be done."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import psutil

# Kept for bringing the mask back and writing it: a fixed part and a part per native voxel, generous on two cores.
WRITE_RESERVE_S = 1.5
WRITE_RESERVE_S_PER_VOXEL = 2e-8
# Glance may use this share of what is left when it starts; a Glance that alone would overrun still leaves Focus time.
GLANCE_SHARE = 0.5


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
    """Time to keep for bringing the mask to the native grid and writing it."""
    return WRITE_RESERVE_S + WRITE_RESERVE_S_PER_VOXEL * native_voxels


class Allowance:
    """Whether another step of a stage fits, asked before each: the next may take as long as the slowest so far."""

    def __init__(self, budget: Budget, allowed_s: float) -> None:
        self._budget = budget
        self._stop_at_s = budget.elapsed_s() + allowed_s
        self._last_s = budget.elapsed_s()
        self._slowest_s = 0.0

    def another(self) -> bool:
        """True if one more step fits. To be asked before every step, the first included."""
        now = self._budget.elapsed_s()
        self._slowest_s = max(self._slowest_s, now - self._last_s)
        self._last_s = now
        return now + self._slowest_s <= self._stop_at_s
