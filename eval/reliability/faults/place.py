"""A place for one fault: inputs, outputs, and runs of the command line in processes that may be killed.

Runs are forks of this process, which has loaded everything once: 200 of them then take minutes and not hours. The
engine is `ThresholdEngine`, so that a fault can be put between any two batches.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import gfscreen.command.cli
import gfscreen.run.predict
from eval.reliability.threshold_engine import ThresholdEngine, write_threshold_plan
from eval.reliability.torture.patient import paint
from eval.reliability.torture.store import plain_affine, save
from gfscreen.scan.volume.isolated import close as close_itk

CASES = 6
RUN_LIMIT_S = 120.0
# Larger than the others by far, 77 MB as float64: the one that does not fit when memory is short.
LARGE_SHAPE = (400, 400, 60)


def make_inputs(folder: Path, count: int = CASES) -> None:
    """Painted patients of different sizes, `case0_0000.nii.gz` and on."""
    folder.mkdir(parents=True)
    for number in range(count):
        shape = (40 + 3 * number, 38, 30 + 2 * number)
        affine = plain_affine((8.0, 8.0, 9.0), shape)
        hu, _ = paint(shape, affine)
        noise = np.random.default_rng(number).integers(-15, 16, shape).astype(np.int16)
        save(folder / f"case{number}_0000.nii.gz", hu + noise, affine)


@dataclass
class Place:
    """Folders below `root`. reference: name of each mask -> its bytes after an undisturbed run."""

    root: Path
    inputs: Path
    weights: Path
    reference: dict[str, bytes] = field(default_factory=dict)

    @property
    def outputs(self) -> Path:
        """Where the masks go."""
        return self.root / "outputs"

    @property
    def scratch(self) -> Path:
        """Home and temporary folder of the runs."""
        return self.root / "scratch"

    @property
    def log(self) -> Path:
        """What the last run said."""
        return self.root / "stderr"

    def fresh(self) -> None:
        """Empty outputs and scratch."""
        for folder in (self.outputs, self.scratch):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)

    def start(
        self,
        *arguments: str,
        before_each: Callable[[int], None] = lambda _: None,
        prepare: Callable[[], None] = lambda: None,
    ) -> int:
        """Start a run; returns its process id. before_each: see ThresholdEngine; prepare: called in the new process."""
        pid = os.fork()
        if pid:
            return pid
        code = 70
        try:
            self._become_a_run(before_each)
            prepare()
            options = ["-i", str(self.inputs), "-o", str(self.outputs), "--weights", str(self.weights)]
            code = gfscreen.command.cli.main(["predict", *options, *arguments])
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            # Whatever happens, the child must never go on with the work of its parent.
            try:
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _become_a_run(self, before_each: Callable[[int], None]) -> None:
        """In the child: own temporary folder, stderr into the log, this engine instead of networks."""
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(descriptor, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        os.environ["TMPDIR"] = os.environ["HOME"] = str(self.scratch)
        tempfile.tempdir = str(self.scratch)
        os.chdir(self.scratch)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)
        setattr(gfscreen.run.predict, "load_engine", lambda *_, **__: ThresholdEngine(before_each))  # noqa: B010 - for mypy

    def run(
        self,
        *arguments: str,
        before_each: Callable[[int], None] = lambda _: None,
        prepare: Callable[[], None] = lambda: None,
    ) -> int:
        """Start a run and wait for it; see `start`. Returns the exit code, negative for a signal."""
        return wait(self.start(*arguments, before_each=before_each, prepare=prepare))

    def problems(self) -> list[str]:
        """What must never be: anything in outputs but whole masks, or anything left in the temporary folder."""
        found = []
        for path in sorted(self.outputs.iterdir()) if self.outputs.is_dir() else []:
            if path.name not in self.reference:
                found.append(f"stray file {path.name}")
            elif path.read_bytes() != self.reference[path.name]:
                found.append(f"{path.name} is not the mask of an undisturbed run")
        return found + [f"left in the temporary folder: {path.name}" for path in self.scratch.iterdir()]

    def resume(self) -> list[str]:
        """Run again with --resume: what is wrong afterwards. Finished masks must not be touched."""
        before = self._finished()
        code = self.run("--resume")
        found = self.problems()
        if code != 0:
            found.append(f"the restart ended with {code}: {self.said()[-1:]}")
        if missing := sorted(set(self.reference) - {path.name for path in self.outputs.iterdir()}):
            found.append(f"the restart did not make {missing}")
        if changed := [path.name for path, (inode, when) in before.items() if _identity(path) != (inode, when)]:
            found.append(f"the restart made finished masks again: {changed}")
        return found

    def said(self) -> list[str]:
        """Lines of the last run's stderr."""
        return self.log.read_text(encoding="utf-8", errors="replace").splitlines()

    def _finished(self) -> dict[Path, tuple[int, int]]:
        return {
            path: _identity(path)
            for path in (self.outputs.iterdir() if self.outputs.is_dir() else [])
            if path.read_bytes() == self.reference.get(path.name)
        }


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def wait(pid: int, limit_s: float = RUN_LIMIT_S) -> int:
    """Exit code of a child, negative for a signal. One that does not end within the limit is killed: -9."""
    deadline = time.monotonic() + limit_s
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def make_place(root: Path) -> Place:
    """Inputs, weights and the reference masks of an undisturbed run. Raises RuntimeError if even that one fails."""
    close_itk()
    make_inputs(root / "inputs")
    place = Place(root, root / "inputs", write_threshold_plan(root / "weights"))
    place.fresh()
    if place.run() != 0:
        raise RuntimeError(f"an undisturbed run failed: {place.said()[-3:]}")
    place.reference = {path.name: path.read_bytes() for path in place.outputs.iterdir()}
    if len(place.reference) != CASES:
        raise RuntimeError(f"an undisturbed run made {len(place.reference)} masks of {CASES}")
    return place
