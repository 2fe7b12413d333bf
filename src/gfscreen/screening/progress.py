"""Who is told how far a screening has come."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

Progress = Callable[[str, int, int], None]


@runtime_checkable
class CaseProgress(Protocol):
    """Progress that shows more than one scan: told before each case, which counts from 1."""

    def begin_case(self, number: int, cases: int, name: str) -> None:
        """Case `number` of `cases`, called `name`, begins."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Say nothing."""
