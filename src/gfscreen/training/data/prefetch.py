"""Sub-volumes drawn ahead of the step that needs them, by worker processes, so that a GPU does not wait for draws.

A draw of a whole sub-volume with inserted lesions takes 10 to 50 ms of one core: little beside a step on two cores,
much beside one on a GPU. Each step's draws depend on its number alone, so that workers change nothing but the time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from torch.utils.data import DataLoader, Dataset

AHEAD = 4

T = TypeVar("T")


class _Numbers(Dataset[T]):
    """What is drawn for the numbers from `first` to before `last`, as torch's loader asks for it."""

    def __init__(self, draw: Callable[[int], T], first: int, last: int) -> None:
        self._draw, self._first, self._last = draw, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> T:
        return self._draw(self._first + index)


class Draws(Generic[T]):
    """What is drawn for each number in turn: a step, or a pair of the pool. The first call of `take` starts workers."""

    def __init__(self, draw: Callable[[int], T], *, last: int, workers: int) -> None:
        """draw: from the number alone. last: no number from here on. workers: 0 draws in place."""
        self._draw, self._last, self._workers = draw, last, workers
        self._ahead: Iterator[T] | None = None

    def take(self, number: int) -> T:
        """What is drawn for `number`; after the first call, for the one that follows the last."""
        if self._workers == 0:
            return self._draw(number)
        if self._ahead is None:
            # Forked workers share the scans' memory with this process; they touch neither networks nor device.
            self._ahead = iter(
                DataLoader(
                    _Numbers(self._draw, number, self._last),
                    batch_size=None,
                    num_workers=self._workers,
                    prefetch_factor=AHEAD,
                    collate_fn=_as_they_are,
                    worker_init_fn=_leave_group,
                    multiprocessing_context="fork",
                )
            )
        return next(self._ahead)


def _leave_group(_worker: int) -> None:
    """A request to stop often goes to all processes of a group: only the run may answer it, after its step."""
    os.setpgid(0, 0)


def _as_they_are(drawn: T) -> T:
    return drawn
