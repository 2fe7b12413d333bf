"""How many CPUs this process may really use: affinity and quota, not the host's count."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from pathlib import Path

from gfscreen.cgroups import PROC, ROOT, cpu_quota

_limit: int | None = None


def limit_cpus(count: int | None) -> None:
    """Let this process count with at most `count` CPUs, at least 1, as one of several on a machine; None: all."""
    global _limit
    _limit = None if count is None else max(1, count)


def usable_cpus(proc: Path = PROC, root: Path = ROOT) -> int:
    """CPUs by affinity, cut to the smallest quota of the control groups (`docker run --cpus`), rounded up; at least 1.

    Cut to `limit_cpus`, too.

    More threads than the quota allows are throttled and run slower than fewer. proc, root: as for `cpu_quota`.
    """
    count = os.cpu_count() or 1
    with suppress(OSError, AttributeError):  # not on every system
        count = len(os.sched_getaffinity(0))
    quota = cpu_quota(proc, root)
    count = count if _limit is None else min(count, _limit)
    return max(1, count if quota is None else min(count, math.ceil(quota)))
