"""Without Ray: one worker in this process, for job arrays. Nobody replaces it if a case ends it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from gfscreen.cohort.pool.actor import THREADS, Factory
from gfscreen.cohort.records import Record
from gfscreen.cohort.sources.items import Item
from gfscreen.errors import GFScreenError

logger = logging.getLogger(__name__)

_WAIT_S = 0.5


class AlonePool:
    """The one worker. factory: makes what screens an item; asked once, at the first item."""

    ready = 1

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    def run(self, items: Iterator[Item], draining: Callable[[], bool]) -> Iterator[Record | None]:
        """The record of every item, as it ends; None now and then while nothing does. As `Pool.run`."""
        screen = self._factory()
        with ThreadPoolExecutor(THREADS) as threads:
            running: dict[Future[Record], Item] = {}
            while True:
                while len(running) < THREADS and not draining() and (item := next(items, None)) is not None:
                    running[threads.submit(screen, item, 1)] = item
                if not running:
                    return
                done, _ = wait(running, _WAIT_S, FIRST_COMPLETED)
                if not done:
                    yield None
                for future in done:
                    yield _record(future, running.pop(future))


def _record(future: Future[Record], item: Item) -> Record:
    try:
        return future.result()
    except GFScreenError as error:
        return Record(item.name, error=str(error), source=item.place)
    except Exception as error:
        logger.debug("%s: internal error", item.name, exc_info=True)
        return Record(item.name, error=f"internal error, {type(error).__name__}: {error}", source=item.place)
