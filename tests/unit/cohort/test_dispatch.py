"""The pool on a Ray that is played by this file: which item is tried again, which is set aside, what ends the run."""

from __future__ import annotations

import types

import pytest

from gfscreen.cohort.pool import dispatch
from gfscreen.cohort.pool.dispatch import Pool
from gfscreen.cohort.records import Record
from gfscreen.cohort.sources.items import Item
from gfscreen.errors import EngineError, WeightsError


class RayError(Exception):
    pass


class RayTaskError(RayError):
    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class ActorDiedError(RayError):
    pass


class Reference:
    def __init__(self, actor, work):
        self.actor, self.work = actor, work


class FakeRay:
    """Actors that do their oldest work when it is waited for. `plan(name, tries)`: `ok`, `die`, `node` or an error."""

    def __init__(self, plan, cpus=2, start=lambda: None):
        self.exceptions = types.SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)
        self.plan, self.cpus, self.start = plan, cpus, start
        self.actors, self.dead_nodes, self.most_at_once, self.killed = [], set(), 0, 0
        self.crowds: list[tuple[str, ...]] = []

    def cluster_resources(self):
        return {"CPU": self.cpus}

    def nodes(self):
        return [{"NodeID": f"n{i}", "Alive": f"n{i}" not in self.dead_nodes} for i in range(len(self.actors))]

    def new_actor(self, *_):
        actor = types.SimpleNamespace(alive=True, queue=[], node=f"n{len(self.actors)}")

        def remote_of(kind):
            def remote(*arguments):
                reference = Reference(actor, (kind, *arguments))
                actor.queue.append(reference)
                return reference

            return types.SimpleNamespace(remote=remote)

        actor.start, actor.screen = remote_of("start"), remote_of("screen")
        self.actors.append(actor)
        return actor

    def kill(self, actor):
        actor.alive = False
        self.killed += 1

    def wait(self, references, num_returns, timeout):
        live = [actor for actor in self.actors if actor.alive]
        self.most_at_once = max(self.most_at_once, len(live))
        ready = [ref for ref in references if not ref.actor.alive or ref.actor.queue[0] is ref]
        return ready[:num_returns], []

    def get(self, reference):
        actor, work = reference.actor, reference.work
        if not actor.alive:
            raise ActorDiedError("the actor died because its worker process has died")
        if work[0] == "start":
            actor.queue.remove(reference)
            if (error := self.start()) is not None:
                raise error
            return actor.node, 1
        _, item, tries = work
        self.crowds.append(tuple(other.work[1].name for other in actor.queue))
        outcome = self.plan(item.name, tries)
        if outcome in ("die", "node"):
            actor.alive = False
            if outcome == "node":
                self.dead_nodes.add(actor.node)
            raise ActorDiedError("the actor died because its worker process has died")
        actor.queue.remove(reference)
        if isinstance(outcome, Exception):
            raise RayTaskError(outcome)
        return Record(item.name, status="ok", tries=tries, worker="w")


@pytest.fixture
def screen(monkeypatch):
    """Runs names through a pool; (records by name, the played Ray)."""

    def run(names, plan=lambda *_: "ok", draining=lambda: False, workers=None, **more):
        ray = FakeRay(plan, **more)
        monkeypatch.setattr(dispatch, "remote_actor", ray.new_actor)
        monkeypatch.setattr(dispatch, "_VERDICT_S", 0.0)
        monkeypatch.setattr(dispatch, "_WAIT_S", 0.01)
        pool = Pool(ray, None, workers, cpus=1)
        records = [record for record in pool.run(iter(Item(name, name) for name in names), draining) if record]
        assert len({record.name for record in records}) == len(records), "an item came twice"
        return {record.name: record for record in records}, ray

    return run


def test_every_item_once_and_two_at_a_worker(screen):
    records, ray = screen([f"i{n}" for n in range(9)], cpus=3)
    assert len(records) == 9
    assert all(record.tries == 1 for record in records.values())
    assert ray.most_at_once == 3
    assert max(map(len, ray.crowds)) == 2


def test_workers_are_as_many_as_asked_for(screen):
    assert screen("abcdefgh", workers=2, cpus=64)[1].most_at_once == 2


def test_nothing_to_do_starts_nothing(screen):
    assert screen([])[1].actors == []


def test_who_ends_its_worker_twice_is_set_aside_and_all_others_are_done(screen):
    records, ray = screen("abcKdefg", lambda name, _: "die" if name == "K" else "ok")
    killer = records.pop("K")
    assert (killer.status, killer.set_aside, killer.tries) == ("failed", True, 2)
    assert killer.error == "it ended its worker 2 times (killed, crashed, or out of memory); look at it alone"
    assert {record.status for record in records.values()} == {"ok"}
    assert set(records) == set("abcdefg")
    assert max(record.tries for record in records.values()) <= 2
    # The second time it was alone: nobody else can have done it.
    assert [crowd for crowd in ray.crowds if crowd[0] == "K"][-1] == ("K",)


def test_two_killers_side_by_side_cost_nobody_else(screen):
    records, _ = screen("aKLb", lambda name, _: "die" if name in "KL" else "ok", cpus=1)
    assert {name for name, record in records.items() if record.set_aside} == {"K", "L"}
    assert {name for name, record in records.items() if record.status == "ok"} == {"a", "b"}


def test_killed_once_from_outside_is_done(screen):
    records, _ = screen("abcd", lambda name, tries: "die" if name in "bd" and tries == 1 else "ok")
    assert {record.status for record in records.values()} == {"ok"}
    assert records["b"].tries == 2


def test_a_node_that_dies_is_not_held_against_an_item(screen):
    times = []

    def plan(name, _):
        if name != "b":
            return "ok"
        times.append(1)
        return "node" if len(times) < 5 else "ok"

    records, _ = screen("abcd", plan)
    assert (records["b"].status, records["b"].tries) == ("ok", 5)
    assert len(times) == 5


def test_what_a_worker_cannot_write_down_is_told(screen):
    error = OSError("no space left")
    records, ray = screen("ab", lambda name, _: error if name == "a" else "ok")
    assert (records["a"].status, records["a"].error) == ("failed", "internal error, OSError: no space left")
    assert records["b"].status == "ok"
    assert len(ray.actors) == 2  # nobody was replaced


def test_a_worker_that_cannot_load_its_networks_ends_the_run(screen):
    with pytest.raises(WeightsError, match="no weights"):
        screen("ab", start=lambda: RayTaskError(WeightsError("no weights")))


def test_a_fault_of_ours_at_the_start_is_one_line(screen):
    with pytest.raises(EngineError, match="a worker cannot start: ValueError: x"):
        screen("ab", start=lambda: RayTaskError(ValueError("x\ny")))


def test_workers_that_die_while_they_start_end_the_run(screen):
    with pytest.raises(EngineError, match="5 workers ended while they started"):
        screen("ab", start=lambda: ActorDiedError("gone"))


def test_drained_nothing_more_begins_and_what_runs_is_finished(screen):
    seen = []

    def plan(name, _):
        seen.append(name)
        return "ok"

    records, ray = screen([f"i{n}" for n in range(50)], plan, draining=lambda: len(seen) >= 4, cpus=2)
    assert set(seen) == set(records)
    assert 4 <= len(records) <= 8
    assert not any(actor.alive for actor in ray.actors)


def test_idle_workers_are_given_back_while_the_last_ones_work(screen):
    _, ray = screen("abcdefghi", cpus=4)
    assert ray.killed >= 4
