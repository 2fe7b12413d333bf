"""Progress on a terminal: one line that is rewritten; nothing where stderr is a file or a pipe."""

from __future__ import annotations

import sys

from gfscreen.screening import Progress, no_progress


def terminal_progress() -> Progress:
    """A progress line on stderr if it is a terminal, silence otherwise."""
    if not sys.stderr.isatty():
        return no_progress

    def show(stage: str, done: int, total: int) -> None:
        sys.stderr.write(f"\r{stage} {done}/{total}\x1b[K" + ("\r\x1b[K" if done == total else ""))
        sys.stderr.flush()

    return show
