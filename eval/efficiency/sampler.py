"""Sample GPU, CPU and memory beside a running program: a look, a sleep of 0.1 s, the next look."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from eval.efficiency.gpu import GpuProbe, GpuReading
from eval.efficiency.host import HostProbe, HostReading
from eval.efficiency.own import OwnProbe, OwnReading

logger = logging.getLogger(__name__)

INTERVAL_S = 0.1


@dataclass(frozen=True)
class Sample:
    """One round: when the host was read (on the sampler's clock), and the readings. None: not measured."""

    time_s: float
    host: HostReading
    gpu: GpuReading | None
    own: OwnReading | None


def shifted(samples: list[Sample], origin_s: float) -> list[Sample]:
    """The samples with times counted from `origin_s`."""
    return [
        replace(
            s,
            time_s=s.time_s - origin_s,
            gpu=None if s.gpu is None else replace(s.gpu, time_s=s.gpu.time_s - origin_s),
        )
        for s in samples
    ]


class UsageSampler:
    """Takes samples in a thread of this process, from `start` to `stop`.

    As in the organisers' loop the interval is slept between rounds, so a slow query stretches the distance between
    samples: `sum(samples) * 0.1` then reads low. The times are kept, so that the true area can be taken too.
    """

    def __init__(
        self, gpu: GpuProbe | None, clock: Callable[[], float] = time.perf_counter, interval_s: float = INTERVAL_S
    ) -> None:
        self._gpu = gpu
        self._clock = clock
        self._interval_s = interval_s
        self._host = HostProbe()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self.own: OwnProbe | None = None
        self.samples: list[Sample] = []

    def take(self) -> Sample:
        """One round, now."""
        gpu = self._gpu.read() if self._gpu is not None else None
        now = self._clock()
        host = self._host.read()
        own = self.own.read() if self.own is not None else None
        return Sample(now, host, gpu, own)

    def idle(self, seconds: float) -> list[Sample]:
        """Sample for `seconds` in the calling thread, before anything is started: the baseline (at least one round)."""
        end = self._clock() + seconds
        samples = []
        while True:
            time.sleep(self._interval_s)  # first, so that the CPU times have moved
            samples.append(self.take())
            if self._clock() >= end:
                break
        time.sleep(self._interval_s)
        return samples

    def start(self) -> None:
        """Begin to sample."""
        if self._thread is not None:
            raise RuntimeError("the sampler runs already")
        self._stopping.clear()
        self._thread = threading.Thread(target=self._loop, name="sampler", daemon=True)
        self._thread.start()

    def stop(self) -> list[Sample]:
        """End the thread and return what it took; harmless when it does not run."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        return self.samples

    def _loop(self) -> None:
        while not self._stopping.is_set():
            try:
                self.samples.append(self.take())
            except Exception:  # a lost sample is worth a line in the log, not the measurement
                logger.exception("sample lost")
            self._stopping.wait(self._interval_s)
