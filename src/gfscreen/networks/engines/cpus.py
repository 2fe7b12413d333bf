"""How many CPUs this process may really use: affinity and container quota, not the host's count."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path


def _quota_v2() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        if quota != "max":
            return int(quota) / int(period)
    return None


def _quota_v1() -> float | None:
    with contextlib.suppress(OSError, ValueError):
        folder = Path("/sys/fs/cgroup/cpu")
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            return quota / int((folder / "cpu.cfs_period_us").read_text())
    return None


def usable_cpus() -> int:
    """CPUs by affinity, cut to the container's quota (`docker run --cpus`); at least 1.

    More threads than the quota allows are throttled and run slower than fewer.
    """
    count = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for quota in (_quota_v2(), _quota_v1()):
        if quota is not None:
            count = min(count, quota)
    return max(1, math.ceil(count))
