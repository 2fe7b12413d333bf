"""Sub-volumes drawn ahead of the step that needs them, by worker processes, so that a GPU does not wait for draws.

A draw of a whole sub-volume with inserted lesions takes 10 to 50 ms of one core: little beside a step on two cores,
much beside one on a GPU. Each step's draws depend on its number alone, so that workers change nothing but the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch.utils.data import DataLoader, Dataset

from gfscreen.training.sampling import Sample

AHEAD = 4


class _Steps(Dataset[list[Sample]]):
    """The draws of the steps from `first` to before `last`, as torch's loader asks for them."""

    def __init__(self, draw: Callable[[int], list[Sample]], first: int, last: int) -> None:
        self._draw, self._first, self._last = draw, first, last

    def __len__(self) -> int:
        return self._last - self._first

    def __getitem__(self, index: int) -> list[Sample]:
        return self._draw(self._first + index)


class Draws:
    """The draws of each step in turn; the first call of `take` starts the workers."""

    def __init__(self, draw: Callable[[int], list[Sample]], *, last: int, workers: int) -> None:
        """draw: what a step needs, from its number alone. last: no step from here on. workers: 0 draws in place."""
        self._draw, self._last, self._workers = draw, last, workers
        self._ahead: Iterator[list[Sample]] | None = None

    def take(self, step: int) -> list[Sample]:
        """The sub-volumes of `step`; after the first call, of the step that follows the last."""
        if self._workers == 0:
            return self._draw(step)
        if self._ahead is None:
            # Forked workers share the scans' memory with this process; they touch neither networks nor device.
            self._ahead = iter(
                DataLoader(
                    _Steps(self._draw, step, self._last),
                    batch_size=None,
                    num_workers=self._workers,
                    prefetch_factor=AHEAD,
                    collate_fn=_as_they_are,
                    multiprocessing_context="fork",
                )
            )
        return next(self._ahead)


def _as_they_are(samples: list[Sample]) -> list[Sample]:
    return samples
