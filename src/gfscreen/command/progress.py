"""Progress on a terminal: one line that is rewritten; nothing where stderr is a file or a pipe."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gfscreen.screening.screening import Progress

CLEAR_LINE = "\r\x1b[K"


def terminal_progress() -> Progress:
    """A progress line on stderr if it is a terminal, silence otherwise."""
    from gfscreen.screening.screening import no_progress

    if not sys.stderr.isatty():
        return no_progress

    def show(stage: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{stage} {done}/{total}\x1b[K" + (CLEAR_LINE if done == total else ""))
        sys.stderr.flush()

    return show


class TerminalHandler(logging.StreamHandler):  # type: ignore[type-arg]
    """Log lines that take the place of an unfinished progress line, on a terminal; plain lines elsewhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Clear the line, then write the record."""
        if self.stream.isatty():
            self.stream.write(CLEAR_LINE)
        super().emit(record)
