"""Being told to stop: SIGTERM, SIGINT and SIGHUP end a run in order, and never in the middle of writing a file."""

from __future__ import annotations

import signal
import threading
import types
from collections.abc import Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stopped(BaseException):
    """The process was told to stop. Not an Exception: what goes on after a failed case must not swallow it."""

    def __init__(self, number: int) -> None:
        self.signal = signal.Signals(number)
        super().__init__(f"stopped by {self.signal.name}")

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + int(self.signal)


class _State:
    """Of the process, as signals are. holds: nested sections that must be finished; pending: what came meanwhile."""

    holds = 0
    pending: int | None = None
    stopping = False


def _handle(number: int, frame: types.FrameType | None) -> None:
    # The first one counts: a second must not break what the first one's clean-up is doing.
    if _State.stopping:
        return
    _State.stopping = True
    if _State.holds:
        _State.pending = number
    else:
        raise Stopped(number)


@contextmanager
def stop_on_signals() -> Iterator[None]:
    """Within it, the first of `SIGNALS` raises Stopped in the main thread; later ones are ignored.

    A signal that is ignored already (SIGINT of a background job) stays ignored. Outside the main thread: no effect.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _State.stopping, _State.pending = False, None
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        # What is done afterwards in this process was not told to stop.
        _State.stopping, _State.pending = False, None


def stop_requested() -> bool:
    """Whether a signal came: for threads other than the main one, where Stopped is never raised."""
    return _State.stopping


@contextmanager
def unstoppable() -> Iterator[None]:
    """A section that is finished before a signal takes effect: Stopped is raised at its end.

    Outside the main thread no signal takes effect anyway, and whoever has begun such work there waits for its end.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _State.holds += 1
    try:
        yield
    finally:
        _State.holds -= 1
        if _State.holds == 0 and _State.pending is not None:
            number, _State.pending = _State.pending, None
            raise Stopped(number)
