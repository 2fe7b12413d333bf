"""CPU and memory of the whole host, as the organisers sample them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil

MIB = 1024 * 1024


@dataclass(frozen=True)
class HostReading:
    """CPU since the reading before, and memory now.

    `organisers_cpu`: [user, system, idle] in %, each 100 d / (sum of d + 0.1 s) as in their script. The added 0.1 makes
    the idle share read low and their "CPU used" = 100 - idle read high: two idle cores looked at every 0.1 s give 67 %
    idle, 33 % used. `busy_percent`: without that term and with every kind of CPU time counted, 0..100; None when the
    CPU clock has not moved. `ram_mb`: used memory in MiB as psutil counts it.
    """

    organisers_cpu: tuple[float, float, float]
    busy_percent: float | None
    ram_mb: float


class HostProbe:
    """Holds the CPU times of the reading before."""

    def __init__(self) -> None:
        self._before = psutil.cpu_times()

    def read(self) -> HostReading:
        """CPU shares since the last call (or since construction) and memory now."""
        now = psutil.cpu_times()
        before, self._before = self._before, now
        used = psutil.virtual_memory().used / MIB
        return HostReading(organisers_cpu(before, now), busy_percent(before, now), used)


def organisers_cpu(before: Any, now: Any) -> tuple[float, float, float]:
    """User, system and idle shares in % by the organisers' formula, from two `psutil.cpu_times()`."""
    deltas = [now.user - before.user, now.system - before.system, now.idle - before.idle]
    total = sum(deltas) + 0.1
    user, system, idle = (100.0 * d / total for d in deltas)
    return (user, system, idle)


def busy_percent(before: Any, now: Any) -> float | None:
    """Share of CPU time that was neither idle nor waiting for a disk, 0..100 over all cores."""
    fields = [name for name in now._fields if not name.startswith("guest")]  # guest time is contained in user
    deltas: dict[str, float] = {name: max(0.0, getattr(now, name) - getattr(before, name)) for name in fields}
    total = sum(deltas.values())
    if total == 0:
        return None
    return 100.0 * (total - deltas["idle"] - deltas.get("iowait", 0.0)) / total
