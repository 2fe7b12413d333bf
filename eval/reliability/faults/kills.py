"""Signals: killed at random moments, killed in the middle of writing, told to stop."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from random import Random

import gfscreen.files
from eval.reliability.faults.place import Place, wait
from eval.reliability.faults.result import Result


def _run_time_s(place: Place) -> float:
    place.fresh()
    began = time.monotonic()
    place.run()
    return time.monotonic() - began


def _signalled(place: Place, number: int, times: int, allowed: set[int], seed: int, title: str) -> Result:
    """Send a signal at `times` random moments of a run; after each, look, restart and look again."""
    rng = Random(seed)
    length_s = _run_time_s(place)
    result = Result(title, times)
    codes: Counter[int] = Counter()
    masks: Counter[int] = Counter()
    for attempt in range(times):
        place.fresh()
        pid = place.start()
        time.sleep(rng.uniform(0.0, length_s))
        os.kill(pid, number)
        code = wait(pid)
        codes[code] += 1
        masks[len(list(place.outputs.glob("*.nii.gz")))] += 1
        found = place.problems()
        if code not in allowed:
            found.append(f"exit code {code}: {place.said()[-2:]}")
        result.note(attempt, [*found, *place.resume()])
    result.detail = f"exit codes {_counts(codes)}; masks finished by then {_counts(masks)}"
    return result


def _counts(counter: Counter[int]) -> str:
    return ", ".join(f"{key}: {counter[key]} times" for key in sorted(counter))


def killed(place: Place, times: int, seed: int) -> Result:
    """SIGKILL at random moments."""
    # 0: it had finished before the signal came.
    return _signalled(place, signal.SIGKILL, times, {-signal.SIGKILL, 0}, seed, "kill -9 at random moments")


def terminated(place: Place, times: int, seed: int) -> Result:
    """SIGTERM at random moments: exit code 143, or death by the signal before the program has begun to listen."""
    allowed = {128 + signal.SIGTERM, -signal.SIGTERM, 0}
    return _signalled(place, signal.SIGTERM, times, allowed, seed + 1, "SIGTERM at random moments")


def interrupted(place: Place, times: int, seed: int) -> Result:
    """SIGINT, as by Ctrl-C; 70: before the program has begun to listen, where Python's own handler answers."""
    allowed = {128 + signal.SIGINT, -signal.SIGINT, 70, 0}
    return _signalled(place, signal.SIGINT, times, allowed, seed + 2, "SIGINT (Ctrl-C) at random moments")


# Functions of `os` that writing a mask calls, in order.
_STEPS = ("open", "write", "fsync", "link", "close")


class _DeadlyOs:
    """The module os, but for one function that kills the process before or after it does its work."""

    def __init__(self, step: str, after: bool, number: int) -> None:
        self._step, self._after, self._number = step, after, number

    def __getattr__(self, name: str) -> object:
        found: object = getattr(os, name)
        if name != self._step or not callable(found):
            return found

        def deadly(*args: object, **kwargs: object) -> object:
            if not self._after:
                os.kill(os.getpid(), self._number)
            result = found(*args, **kwargs)
            if self._after:
                os.kill(os.getpid(), self._number)
            return result

        return deadly


def _at_every_step(place: Place, number: int, code: int, title: str) -> Result:
    result = Result(title, 2 * len(_STEPS))
    for attempt, (step, after) in enumerate((s, a) for s in _STEPS for a in (False, True)):
        place.fresh()

        def prepare(step: str = step, after: bool = after) -> None:
            setattr(gfscreen.files, "os", _DeadlyOs(step, after, number))  # noqa: B010 - for mypy it is a module

        ended = place.run(prepare=prepare)
        found = place.problems()
        if ended != code:
            found.append(f"{'after' if after else 'before'} {step}: exit code {ended}: {place.said()[-1:]}")
        result.note(attempt, [*found, *place.resume()])
    result.detail = f"before and after each of {', '.join(_STEPS)}"
    return result


def killed_while_writing(place: Place) -> Result:
    """SIGKILL between any two system calls of the first mask."""
    return _at_every_step(place, signal.SIGKILL, -signal.SIGKILL, "kill -9 at every step of writing a mask")


def terminated_while_writing(place: Place) -> Result:
    """SIGTERM there: the mask is finished first."""
    title = "SIGTERM at every step of writing a mask"
    result = _at_every_step(place, signal.SIGTERM, 128 + signal.SIGTERM, title)
    place.fresh()
    place.run(prepare=lambda: setattr(gfscreen.files, "os", _DeadlyOs("write", False, signal.SIGTERM)))
    made = [path.name for path in place.outputs.iterdir()]
    result.note(result.times, [] if made == ["case0.nii.gz"] else [f"the mask begun was not finished: {made}"])
    result.times += 1
    return result


def two_at_once(place: Place, times: int) -> Result:
    """Two runs on the same folders: both must end well, and the masks be whole."""
    result = Result("two runs on the same folders at once", times)
    for attempt in range(times):
        place.fresh()
        codes = [wait(pid) for pid in (place.start(), place.start())]
        found = place.problems()
        if codes != [0, 0]:
            found.append(f"exit codes {codes}")
        result.note(attempt, [*found, *place.resume()])
    return result
