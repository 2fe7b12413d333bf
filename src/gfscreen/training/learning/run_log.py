"""What a run tells: JSON lines, TensorBoard scalars, a progress bar on a terminal, and how busy the machine is."""

from __future__ import annotations

import json
import logging
import math
import resource
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, TracebackType

import psutil
import torch

from gfscreen.cpus import usable_cpus

log = logging.getLogger(__name__)

JOURNAL_FILE = "journal.jsonl"


class Journal:
    """Appends reports to `journal.jsonl` and to TensorBoard, if it is installed. Only the first process writes."""

    def __init__(self, folder: Path, *, active: bool, total_steps: int, first_step: int) -> None:
        self._active = active
        self._path = folder / JOURNAL_FILE
        self._writer = None
        self._bar = None
        if not active:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step)
        except ImportError:
            log.info("tensorboard is not installed: scalars go to %s only", JOURNAL_FILE)
        if sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(total=total_steps, initial=first_step, unit="step")

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._bar is not None:
            self._bar.close()

    def tick(self) -> None:
        """One step is done."""
        if self._bar is not None:
            self._bar.update()

    def report(self, kind: str, step: int, values: dict[str, float | int | str | None]) -> None:
        """Write one report. A number that could not be measured is null."""
        if not self._active:
            return
        known = {key: None if isinstance(v, float) and not math.isfinite(v) else v for key, v in values.items()}
        line = {"kind": kind, "step": step, "time": round(time.time(), 1), **known}
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(line) + "\n")
        if self._writer is not None:
            for key, value in known.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f"{kind}/{key}", value, step)
        shown = ", ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in known.items())
        log.info("%s %d: %s", kind, step, shown)


class Means:
    """Running means of what each step returns, between two reports."""

    def __init__(self) -> None:
        self._sums: dict[str, list[float]] = {}

    def add(self, values: dict[str, float]) -> None:
        """Add one step's values; those that are not finite are left out."""
        for key, value in values.items():
            if math.isfinite(value):
                self._sums.setdefault(key, []).append(value)

    def take(self) -> dict[str, float | int | str | None]:
        """The means since the last call."""
        result: dict[str, float | int | str | None] = {k: sum(v) / len(v) for k, v in sorted(self._sums.items())}
        self._sums.clear()
        return result


def memory() -> dict[str, float | int | str | None]:
    """Peak resident and GPU memory of this process in MB; null without a GPU."""
    gpu = torch.cuda.max_memory_allocated() / 1e6 if torch.cuda.is_available() else None
    return {"peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, "peak_gpu_mb": gpu}


class StopRequest:
    """Notes that the process was asked to end (SIGTERM, SIGINT): the loop finishes its step and keeps a checkpoint."""

    def __init__(self) -> None:
        self.asked = False

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in (signal.SIGTERM, signal.SIGINT)}
        else:
            self._before = {}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        log.info("asked to stop: finishing the step")
        self.asked = True


class PoliteThreads:
    """Chooses torch's thread count by what the other processes leave free.

    A parallel region ends when its slowest thread does: one busy neighbour made two threads ten times slower than one
    (measured on two cores: 45 s a step against 5 s).
    """

    def __init__(self, wanted: int) -> None:
        self._fixed = wanted > 0
        # Following the machine, it starts with one and adds what is free.
        torch.set_num_threads(wanted if wanted > 0 else 1)
        self._cores = usable_cpus()
        self._before = self._busy()
        self.current = torch.get_num_threads()

    @staticmethod
    def _busy() -> tuple[float, float, float]:
        """Seconds: wall clock, all processors busy, this process."""
        times, own = psutil.cpu_times(), psutil.Process().cpu_times()
        return time.monotonic(), sum(times) - times.idle - getattr(times, "iowait", 0.0), own.user + own.system

    def adapt(self) -> None:
        """To be called every few seconds of work."""
        if self._fixed:
            return
        now = self._busy()
        wall, busy, own = (b - a for a, b in zip(self._before, now, strict=True))
        if wall < 5.0:
            return
        self._before = now
        others = max(0.0, (busy - own) / wall)
        free = max(1, min(int(self._cores or 1), int((self._cores or 1) - others + 0.25)))
        if free != self.current:
            torch.set_num_threads(free)
            self.current = free
