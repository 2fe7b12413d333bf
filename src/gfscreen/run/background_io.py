"""Reading the next scan, computing, and writing the last mask, at the same time: one thread each, one scan ahead.

At most two scans are in memory, the one that is computed on and the next, and one mask that is written. Time is counted
per case from when computing turns to it (the first: from the start of the process) until its mask is written; that it
was read ahead is not held against it, waiting for the rest of its reading is.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from gfscreen.errors import ScanTooLargeError
from gfscreen.stopping import unstoppable

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Timed(Generic[Result]):
    """A result and the seconds that it took, wherever it was made."""

    result: Result
    seconds: float


def timed(work: Callable[[], Result]) -> Timed[Result]:
    """Do it and say how long it took."""
    start = time.monotonic()
    return Timed(work(), time.monotonic() - start)


class Background(AbstractContextManager["Background"]):
    """A thread each for loading the networks, for reading and for writing.

    What is being written when the block is left is finished, even if the process was told to stop: no file is left
    half-written, and whoever is told afterwards what was written is told all. If the block ends with an error, what has
    not begun is dropped; told to stop, it is left without waiting for what is being loaded.
    """

    def __init__(self) -> None:
        self._pools = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in ("load", "read", "write")}

    def start(self, name: str, work: Callable[[], Result]) -> Future[Result]:
        """Begin `work` in the thread `load`, `read` or `write`, after what that thread has to do already."""
        # Between a thread's start and its pool's knowing of it, a stop would have nobody wait for it.
        with unstoppable():
            return self._pools[name].submit(work)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Wait for the threads; see the class for what is dropped."""
        told_to_stop = error is not None and not isinstance(error, Exception)
        with unstoppable():
            self._pools["write"].shutdown(wait=True, cancel_futures=error is not None)
        # What is read may have been unpacked into a temporary folder, which its reader removes.
        self._pools["read"].shutdown(wait=True, cancel_futures=error is not None)
        self._pools["load"].shutdown(wait=not told_to_stop, cancel_futures=error is not None)


class ReadAhead(Generic[Item, Result]):
    """Reads the items in order, each while the one before it is worked on."""

    def __init__(self, background: Background, items: list[Item], read: Callable[[Item], Result]) -> None:
        self._background = background
        self._items = items
        self._read = read
        self._next = 0
        self._running: Future[Timed[Result]] | None = None

    def begin(self) -> None:
        """Start reading the next item, if there is one and none is being read."""
        if self._running is None and self._next < len(self._items):
            item = self._items[self._next]
            self._running = self._background.start("read", lambda: timed(lambda: self._read(item)))

    def take(self) -> Timed[Result]:
        """The next item, waited for. Whatever its reading raises is raised here, and the next `take` goes on after it.

        A scan that has not fitted into memory beside the one before is read again, now alone.
        """
        self.begin()
        running, item = self._running, self._items[self._next]
        assert running is not None
        self._running = None
        self._next += 1
        try:
            return running.result()
        except ScanTooLargeError:
            return timed(lambda: self._read(item))
