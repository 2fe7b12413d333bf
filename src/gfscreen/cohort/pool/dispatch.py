"""Which item goes to which worker, and what becomes of those whose worker ends under them.

Each worker is given two items: one is screened, the other read meanwhile. A worker that ends is replaced; its items are
tried once more, each alone, so that one that ends workers is known for sure: it is set aside. Workers that went with
their node do not count. That a node has died is known some seconds after its workers have gone, so a verdict waits.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from gfscreen.cohort.pool.actor import THREADS, Factory, remote_actor
from gfscreen.cohort.records import Record
from gfscreen.cohort.sources.items import Item
from gfscreen.errors import EngineError, GFScreenError

logger = logging.getLogger(__name__)

MOST_TRIES = 2
_WAIT_S = 0.5
_SIZE_EVERY_S = 5.0
_SAY_WAITING_S = 30.0
# Workers that end one after the other before any has screened something.
_MOST_FALSE_STARTS = 5
# Ray asks a node every 3 s and gives it up after five times without an answer.
_VERDICT_S = 25.0


@dataclass(frozen=True)
class _Task:
    """An item, and the nodes of the workers that have ended under it."""

    item: Item
    ended_on: tuple[str | None, ...] = ()

    @property
    def tries(self) -> int:
        """Workers that it was given to."""
        return len(self.ended_on)

    @property
    def alone(self) -> bool:
        """Whether it may share no worker: one has ended under it."""
        return bool(self.ended_on)


@dataclass(frozen=True)
class _Suspect:
    """A task under which workers have ended so often that it is set aside, unless their nodes turn out to be dead."""

    task: _Task
    since_s: float
    why: str


@dataclass
class _Worker:
    """A worker: its actor, what it is doing, and whether it is ready. starting: the reference of its start."""

    actor: Any
    starting: Any
    node: str | None = None
    tasks: dict[Any, _Task] = field(default_factory=dict)

    def takes(self, task: _Task) -> bool:
        """Whether it can be given a task now."""
        if self.node is None or len(self.tasks) >= THREADS or any(other.alone for other in self.tasks.values()):
            return False
        return not (task.alone and self.tasks)


class Pool:
    """Workers on a connected Ray.

    factory: makes what screens an item, in the worker's process. workers: at most so many; None: as many as the cluster
    holds, also as it grows. cpus, gpus: of each.
    """

    def __init__(self, ray: Any, factory: Factory, workers: int | None, cpus: int, gpus: int = 0) -> None:
        self._ray, self._factory = ray, factory
        self._most, self._cpus, self._gpus = workers, cpus, gpus
        self._workers: list[_Worker] = []
        self._again: deque[_Task] = deque()
        self._suspects: deque[_Suspect] = deque()
        self._ahead: _Task | None = None
        self._false_starts = 0
        self._sized_s = -math.inf
        self._size = 0
        self._began_s = time.monotonic()
        self._said_waiting = False

    @property
    def ready(self) -> int:
        """Workers that can screen."""
        return sum(worker.node is not None for worker in self._workers)

    def run(self, items: Iterator[Item], draining: Callable[[], bool]) -> Iterator[Record | None]:
        """The record of every item, as it ends; None now and then while nothing does.

        draining: asked all the time; once true, no item is begun and those that are being screened are waited for.
        Raises EngineError, WeightsError or UsageError if no worker can start.
        """
        try:
            while True:
                self._refill(items, stop=draining())
                if not self._busy() and (draining() or not (self._again or self._ahead)):
                    return
                yield from self._collect()
                yield from self._verdicts()
        finally:
            for worker in self._workers:
                self._end(worker)
            self._workers.clear()

    def _busy(self) -> bool:
        return bool(self._suspects) or any(worker.tasks for worker in self._workers)

    def _next(self, items: Iterator[Item]) -> _Task | None:
        """The task that comes next, which stays so until it is given away; those to be tried again come first."""
        if self._again:
            return self._again[0]
        if self._ahead is None and (item := next(items, None)) is not None:
            self._ahead = _Task(item)
        return self._ahead

    def _refill(self, items: Iterator[Item], *, stop: bool) -> None:
        """Give tasks to workers that can take some; first one to each. Make workers while there is more to do."""
        if stop:
            return
        while (task := self._next(items)) is not None:
            able = [worker for worker in self._workers if worker.takes(task)]
            if not able:
                break
            worker = min(able, key=lambda one: len(one.tasks))
            if task is self._ahead:
                self._ahead = None
            else:
                self._again.popleft()
            reference = worker.actor.screen.remote(task.item, task.tries + 1)
            worker.tasks[reference] = task
        if task is None:
            # Nothing is left to begin: what is idle is given back to the cluster.
            for worker in [one for one in self._workers if not one.tasks and self._busy()]:
                self._end(worker)
                self._workers.remove(worker)
            return
        while len(self._workers) < self._wanted():
            actor = remote_actor(self._ray, self._factory, self._cpus, self._gpus)
            self._workers.append(_Worker(actor, actor.start.remote()))
        self._say_if_waiting()

    def _wanted(self) -> int:
        """How many workers there should be: what was asked for, else what the cluster holds just now, at least one."""
        if self._most is not None:
            return self._most
        if time.monotonic() - self._sized_s > _SIZE_EVERY_S:
            self._sized_s = time.monotonic()
            resources = self._ray.cluster_resources()
            per_worker, what = (self._gpus, "GPU") if self._gpus else (self._cpus, "CPU")
            self._size = max(1, int(resources.get(what, 0) // per_worker))
        return self._size

    def _say_if_waiting(self) -> None:
        if not self._said_waiting and not self.ready and time.monotonic() - self._began_s > _SAY_WAITING_S:
            self._said_waiting = True
            needs = "1 GPU" if self._gpus else f"{self._cpus} CPUs"
            logger.warning("no worker is ready yet: each needs %s; `ray status` tells what the cluster has", needs)

    def _collect(self) -> Iterator[Record | None]:
        """Wait a little; records of what has ended, None if nothing has."""
        starting = {worker.starting: worker for worker in self._workers if worker.node is None}
        running = {reference: worker for worker in self._workers for reference in worker.tasks}
        references = [*running, *starting]
        if not references:
            time.sleep(_WAIT_S)
            yield None
            return
        done, _ = self._ray.wait(references, num_returns=1, timeout=_WAIT_S)
        if done and len(references) > 1:
            done, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        if not done:
            yield None
        for reference in done:
            if reference in starting:
                self._take_start(starting[reference])
            elif reference in running and reference in running[reference].tasks:
                record = self._take(running[reference], reference)
                if record is not None:
                    yield record

    def _take_start(self, worker: _Worker) -> None:
        errors = self._ray.exceptions
        try:
            worker.node, _ = self._ray.get(worker.starting)
            return
        except errors.RayTaskError as error:
            cause = error.cause
            if isinstance(cause, GFScreenError):
                raise cause from error
            raise EngineError(f"a worker cannot start: {type(cause).__name__}: {_first_line(cause)}") from error
        except errors.RayError as error:
            self._workers.remove(worker)
            self._end(worker)
            self._false_starts += 1
            if self._false_starts >= _MOST_FALSE_STARTS:
                raise EngineError(
                    f"{self._false_starts} workers ended while they started ({_first_line(error)}); give each more "
                    "memory, or see Ray's logs"
                ) from error

    def _take(self, worker: _Worker, reference: Any) -> Record | None:
        """The record of a task that has ended; None if it will be tried again."""
        errors = self._ray.exceptions
        task = worker.tasks[reference]
        try:
            record: Record = self._ray.get(reference)
        except errors.RayTaskError as error:
            # The worker lives: what it could not even write down is told here.
            del worker.tasks[reference]
            cause = error.cause
            told = (
                str(cause) if isinstance(cause, GFScreenError) else f"internal error, {type(cause).__name__}: {cause}"
            )
            return _failed(task, task.tries + 1, told)
        except errors.RayError as error:
            self._mourn(worker, error)
            return None
        del worker.tasks[reference]
        self._false_starts = 0
        return record

    def _mourn(self, worker: _Worker, error: Exception) -> None:
        """A worker has ended: its tasks are tried again, alone; one that may have ended several waits for a verdict."""
        alone, tasks = len(worker.tasks) == 1, list(worker.tasks.values())
        self._workers.remove(worker)
        worker.tasks.clear()
        self._end(worker)
        for task in tasks:
            task = _Task(task.item, (*task.ended_on, worker.node))
            if alone and task.tries >= MOST_TRIES:
                self._suspects.append(_Suspect(task, time.monotonic(), _why(error)))
            else:
                logger.warning("%s: its worker ended under it; tried again", task.item.name)
                self._again.append(task)

    def _verdicts(self) -> Iterator[Record]:
        """The records of those that are set aside, once it is known which nodes live."""
        while self._suspects and time.monotonic() - self._suspects[0].since_s >= _VERDICT_S:
            suspect = self._suspects.popleft()
            dead = {node["NodeID"] for node in self._ray.nodes() if not node["Alive"]}
            count = sum(node not in dead for node in suspect.task.ended_on)
            if count < MOST_TRIES:
                logger.warning("%s: its node died; tried again", suspect.task.item.name)
                self._again.append(suspect.task)
                continue
            told = f"it ended its worker {count} times ({suspect.why}); look at it alone"
            record = _failed(suspect.task, suspect.task.tries, told)
            record.set_aside = True
            yield record

    def _end(self, worker: _Worker) -> None:
        try:
            self._ray.kill(worker.actor)
        except Exception:  # it has ended by itself
            logger.debug("a worker was gone already")


def _failed(task: _Task, tries: int, error: str) -> Record:
    return Record(task.item.name, error=error, tries=tries, source=task.item.place, finished_unix_s=time.time())


def _first_line(error: BaseException) -> str:
    return (str(error).strip().split("\n") or [""])[0]


def _why(error: Exception) -> str:
    """What ended a worker, in a few words: Ray's own explanations run to paragraphs."""
    text = str(error).lower()
    if "outofmemory" in type(error).__name__.lower() or "memory monitor" in text or "due to node running low" in text:
        return "out of memory"
    return "killed, crashed, or out of memory"
