"""How far a cohort is: counts, rate, time left; for a terminal line, a log line now and then, and Ray's metrics."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from gfscreen.cohort.records import Record

logger = logging.getLogger(__name__)

_LOG_EVERY_S = 60.0
_SHOW_EVERY_S = 1.0
# The rate is that of the last so many cases: the first ones of a run load networks.
_RATE_OVER = 200


@dataclass
class Counts:
    """Items of a cohort by what became of them. earlier: finished by an earlier run, counted in `done` as well."""

    total: int | None = None
    done: int = 0
    failed: int = 0
    set_aside: int = 0
    earlier: int = 0

    @property
    def ended(self) -> int:
        """Items that nothing more will be done with."""
        return self.done + self.failed

    def take(self, record: Record) -> None:
        """Count an item."""
        if record.done:
            self.done += 1
        else:
            self.failed += 1
            self.set_aside += record.set_aside


@dataclass
class CohortProgress:
    """Told of every record, says how far the run is.

    show: writes the line of a terminal; None: there is none. Without one a line goes to the log every minute.
    """

    counts: Counts
    show: Callable[[str], None] | None = None
    clock: Callable[[], float] = time.monotonic
    gauges: dict[str, Any] = field(default_factory=dict)
    _times_s: deque[float] = field(default_factory=lambda: deque(maxlen=_RATE_OVER))
    _said_s: float = 0.0

    def __post_init__(self) -> None:
        self._said_s = self.clock()
        self._times_s.append(self._said_s)

    def took(self) -> None:
        """An item has ended just now."""
        self._times_s.append(self.clock())

    @property
    def per_hour(self) -> float | None:
        """Items that end in an hour, by the last ones; None before the first."""
        span_s = self._times_s[-1] - self._times_s[0]
        return 3600.0 * (len(self._times_s) - 1) / span_s if len(self._times_s) > 1 and span_s > 0 else None

    @property
    def left_s(self) -> float | None:
        """Seconds that are left by that rate; None where it is not known."""
        rate = self.per_hour
        return None if not rate or self.counts.total is None else (self.counts.total - self.counts.ended) * 3600 / rate

    def line(self, workers: int) -> str:
        """`120/300 done, 2 failed, 3 workers, 85 per hour, about 2.1 h left`."""
        counts = self.counts
        parts = [f"{counts.done}/{'?' if counts.total is None else counts.total} done", f"{counts.failed} failed"]
        parts.append("1 worker" if workers == 1 else f"{workers} workers")
        if self.per_hour is not None:
            parts.append(f"{self.per_hour:.0f} per hour" if self.per_hour >= 10 else f"{self.per_hour:.1f} per hour")
        if self.left_s is not None:
            parts.append(f"about {duration(self.left_s)} left")
        return ", ".join(parts)

    def tick(self, workers: int) -> None:
        """Say how far the run is, if that was not said lately."""
        now_s = self.clock()
        if now_s - self._said_s < (_LOG_EVERY_S if self.show is None else _SHOW_EVERY_S):
            return
        self._said_s = now_s
        if self.show is None:
            logger.info("%s", self.line(workers))
        else:
            self.show(self.line(workers))
        for name, value in (("done", self.counts.done), ("failed", self.counts.failed), ("workers", workers)):
            if name in self.gauges:
                self.gauges[name].set(value)


def duration(seconds: float) -> str:
    """Seconds for a person: `40 s`, `34 min`, `2.5 h`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


def ray_gauges() -> dict[str, Any]:
    """Gauges `gfscreen_cohort_done`, `_failed` and `_workers` in Ray's metrics; a cluster's dashboard shows them."""
    from ray.util.metrics import Gauge

    told = {"done": "series screened", "failed": "series that failed", "workers": "workers that are ready"}
    return {name: Gauge(f"gfscreen_cohort_{name}", description=what) for name, what in told.items()}
