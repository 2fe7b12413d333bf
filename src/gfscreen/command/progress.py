"""The standard streams, which may be closed or lead nowhere, and progress on a terminal: one line that is rewritten.

Results are files: whatever becomes of the streams, a run goes on and its exit code stays. Imports nothing of the
method, and is the first that a program calls.
"""

from __future__ import annotations

import io
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gfscreen.screening.progress import Progress

CLEAR_LINE = "\r\x1b[K"
_NAME_WIDTH = 32


def open_standard_streams() -> None:
    """Have the standard streams that the caller closed (`>&-`) lead to /dev/null, for child processes as well.

    Files that are opened later would get their descriptors, and what libraries print would end up in a mask. To be
    called before other files are opened. A standard output whose reader has gone (`| head`) takes what is written and
    drops it from then on.
    """
    with suppress(OSError):  # a system without /dev/null
        for descriptor in range(3):
            try:
                os.fstat(descriptor)
            except OSError:
                # The lowest free descriptor is opened, which is this one.
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(mode))
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):  # not what a test put there
        with suppress(OSError, ValueError):
            sys.stdout = _patient(sys.stdout)


def _nowhere(mode: str) -> IO[Any]:
    try:
        return open(os.devnull, mode, encoding="utf-8", errors="replace")  # noqa: PTH123 - for the whole process
    except OSError:
        return io.StringIO()


class _Patient(io.FileIO):
    """Writes while somebody reads."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            return memoryview(data).nbytes
        except OSError as error:
            error.filename = "standard output"
            raise


def _patient(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(_Patient(stream.fileno(), "w", closefd=False)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering or stream.write_through,
    )


def flush_standard_streams() -> None:
    """Write what is still held back, and drop it where nobody takes it (a broken pipe, a full disk).

    Python would try again when it ends, fail, and make that the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError, AttributeError):
            with suppress(OSError, ValueError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (OSError, ValueError, AttributeError):  # closed, or there is none
        return False


def terminal_progress() -> Progress:
    """A progress line on stderr if it is a terminal, silence otherwise."""
    from gfscreen.screening.progress import no_progress

    return TerminalProgress() if _is_terminal(sys.stderr) else no_progress


def terminal_line() -> Callable[[str], None] | None:
    """Writes a line on stderr in place of the one before, if it is a terminal; None otherwise."""
    return _rewrite if _is_terminal(sys.stderr) else None


def _rewrite(line: str, *, clear: bool = False) -> None:
    with suppress(OSError, ValueError):  # the terminal may go while the run goes on
        # A line that is wrapped cannot be rewritten.
        line = line[: max(1, shutil.get_terminal_size().columns - 1)]
        sys.stderr.write(f"\r{line}\x1b[K" + (CLEAR_LINE if clear else ""))
        sys.stderr.flush()


class TerminalProgress:
    """One line, rewritten: `[3/200] CASE  focus 7/19  about 34 min left`.

    What is left is told from the second case that needs screening on: their mean so far, for every case to come.
    """

    def __init__(self) -> None:
        self._case = ""
        self._number = self._cases = 0
        self._began_s = 0.0
        self._screened = False  # whether the case that runs needed the networks; those of an earlier run do not
        self._seconds: list[float] = []

    def begin_case(self, number: int, cases: int, name: str) -> None:
        """Case `number` of `cases` begins, and the one before it has ended."""
        from gfscreen.text import visible

        now_s = time.monotonic()
        if self._screened:
            self._seconds.append(now_s - self._began_s)
        self._number, self._cases, self._case = number, cases, visible(name, _NAME_WIDTH)
        self._began_s, self._screened = now_s, False
        self._show("", clear=False)

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Part `done` of `total` of a stage is done; the line is cleared when it ends."""
        self._screened = True
        self._show(f"{stage} {done}/{total}", clear=done == total)

    def _show(self, stage: str, *, clear: bool) -> None:
        parts = [f"[{self._number}/{self._cases}] {self._case}" if self._cases else "", stage, self._left()]
        _rewrite("  ".join(part for part in parts if part), clear=clear)

    def _left(self) -> str:
        if not self._seconds:
            return ""
        mean_s = sum(self._seconds) / len(self._seconds)
        spent_s = min(mean_s, time.monotonic() - self._began_s)
        return f"about {duration(mean_s * (self._cases - self._number + 1) - spent_s)} left"


def duration(seconds: float) -> str:
    """Seconds for a person: `40 s`, `34 min`, `2.5 h`."""
    if seconds < 90:
        return f"{round(seconds)} s"
    if seconds < 90 * 60:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"


class TerminalHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines that take the place of an unfinished progress line, on a terminal; plain lines elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Clear the line, then write the record."""
        if _is_terminal(self.stream):
            with suppress(OSError, ValueError):
                self.stream.write(CLEAR_LINE)
        super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Nothing where the stream takes nothing any more: there is nobody to tell. A fault of ours is told."""
        if not isinstance(sys.exc_info()[1], OSError) and not getattr(self.stream, "closed", False):
            super().handleError(record)
