"""The actor: what runs in a worker's process. Ray hands over the item and the number of tries, and takes the record."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Protocol

from gfscreen.cohort.records import Record
from gfscreen.cohort.sources.items import Item

# One item is screened, another read or written.
THREADS = 2


class CaseFunction(Protocol):
    """Screens an item: `CaseWorker`, or what a test puts in its place."""

    def __call__(self, item: Item, tries: int) -> Record:
        """The record of the item, which is written."""
        ...


Factory = Callable[[], CaseFunction]


class Actor:
    """A worker. Its networks are loaded by `start`, so that an error of theirs is told as what it is.

    cpus: that it may use. Ray reuses processes, and libraries keep the threads of the task before or, as OpenVINO, pay
    no heed to OMP_NUM_THREADS: so both are told here.
    """

    def __init__(self, factory: Factory, cpus: int | None) -> None:
        self._factory, self._cpus = factory, cpus
        self._screen: CaseFunction | None = None

    def start(self) -> tuple[str, int]:
        """Load what is needed; the id of the node, and the process."""
        import ray

        if self._cpus is not None:
            from gfscreen.cpus import limit_cpus

            os.environ["OMP_NUM_THREADS"] = str(self._cpus)
            limit_cpus(self._cpus)
        self._screen = self._factory()
        return str(ray.get_runtime_context().get_node_id()), os.getpid()

    def screen(self, item: Item, tries: int) -> Record:
        """Screen an item after `start`."""
        assert self._screen is not None
        return self._screen(item, tries)


def remote_actor(ray: Any, factory: Factory, cpus: int, gpus: int) -> Any:
    """A new actor, which takes its place on the cluster as soon as there is one.

    Never restarted by Ray, whose count of restarts would end the pool in a long run: `Pool` makes new ones.
    """
    options = {
        "num_cpus": 1 if gpus else cpus,
        "num_gpus": gpus,
        "max_concurrency": THREADS,
        "max_restarts": 0,
        "max_task_retries": 0,
    }
    return ray.remote(Actor).options(**options).remote(factory, None if gpus else cpus)
