"""Workers, a node and the driver of a cohort are killed; afterwards its masks must be those of `predict`, made once.

Three Ray nodes on this machine with one worker each, small painted scans, or those of a folder again and again under
other names, and networks of a few operations (OpenVINO). Workers are killed one by one while the cohort goes on; one
node goes after a third of it; the driver is killed at two thirds, and started again.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.files import write_shown
from gfscreen.cohort.records import CASES, MASKS, Layout, read_records
from gfscreen.errors import UsageError

RESULT_FILE = "kills.json"
# Driver and restarts together, of each case; a run that hangs is ended then.
_LIMIT_S_A_CASE = 20.0
_LOOK_EVERY_S = 0.2
_LEAST_CASES_PER_KILL = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval cohort-kills`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}")
    parser.add_argument("-i", "--input", type=Path, metavar="DIR", help="scans (default: small painted ones)")
    parser.add_argument("--cases", type=int, default=300, metavar="N", help="default 300")
    parser.add_argument("--kills", type=int, default=20, metavar="N", help="workers to kill (default 20)")
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="nodes; one of them is killed (default 3)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the scans and the choice of workers")


def run(args: argparse.Namespace) -> int:
    """Kill. Exit 0: every mask is that of `predict` and nothing was lost or made twice; 1: not; 2: wrong usage."""
    from eval.cohort.nodes import ask_for_ray

    if args.kills < 1 or args.nodes < 2 or args.seed < 0 or args.cases < _LEAST_CASES_PER_KILL * args.kills:
        raise UsageError(
            f"--kills must be at least 1, --nodes at least 2, --cases at least {_LEAST_CASES_PER_KILL} times --kills"
        )
    ask_for_ray()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        result = killed(Path(folder), args.input, args.cases, args.kills, args.nodes, args.seed)
    write_shown(args.output / RESULT_FILE, result)
    return 1 if result["failures"] else 0


@dataclass
class Course:
    """What was done to a run, and what was seen of it meanwhile.

    finished: mask -> inode and time of change when its record was first seen; what is finished must stay as it is.
    """

    worker_kills: int = 0
    node_kills: int = 0
    driver_kills: int = 0
    exit_code: int | None = None
    seconds: float = 0.0
    finished: dict[str, tuple[int, int]] = field(default_factory=dict)

    def look(self, layout: Layout) -> int:
        """Take down masks that have their record since the last look; how many there are."""
        for path in (layout.root / CASES).glob("*.json"):
            if path.stem not in self.finished and (identity := _identity(layout.mask(path.stem))) is not None:
                self.finished[path.stem] = identity
        return len(self.finished)


def killed(folder: Path, scans: Path | None, cases: int, kills: int, nodes: int, seed: int) -> dict[str, Any]:
    """Make everything in an empty folder, run, kill, and compare; the result as JSON values.

    scans: the folder to take them from; None paints small ones. Raises EngineError, UsageError for a folder without.
    """
    from eval.cohort.nodes import ROOT, another_node, cluster, environment
    from eval.reliability.threshold_engine import write_threshold_weights

    weights, inputs, output = write_threshold_weights(folder / "weights"), folder / "inputs", folder / "cohort"
    if scans is None:
        _write_scans(inputs, cases, seed)
    else:
        _repeat_scans(scans, inputs, cases)
    course = Course()
    with cluster(cpus=1) as address, ExitStack() as stack, (folder / "driver.log").open("ab") as log:
        others = [stack.enter_context(another_node(address, cpus=1)) for _ in range(nodes - 1)]
        command = [*(sys.executable, "-m", "gfscreen", "cohort", "run", "-i", str(inputs), "-o", str(output))]
        command += ["--weights", str(weights), "--ray", address, "--cpus-per-worker", "1"]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(command, env=environment(), stderr=log, stdout=log, cwd=ROOT)

        _drive(start, Layout(output), course, others[-1], cases, kills, seed)
    expected = folder / "masks"
    predict = [sys.executable, "-m", "gfscreen", "-q", "predict", "-i", str(inputs), "-o", str(expected)]
    subprocess.run([*predict, "--weights", str(weights)], env=environment(), cwd=ROOT, check=True)
    return _result(course, Layout(output), expected, cases, kills)


def _drive(
    start: Callable[[], subprocess.Popen[bytes]],
    layout: Layout,
    course: Course,
    node: subprocess.Popen[bytes],
    cases: int,
    kills: int,
    seed: int,
) -> None:
    """Run the driver to its end, and kill meanwhile as this module says."""
    from eval.cohort.nodes import kill_node, worker_pids

    choice, began_s, next_kill = random.Random(seed), time.monotonic(), 1.0
    driver = start()
    try:
        while True:
            time.sleep(_LOOK_EVERY_S)
            done = course.look(layout)
            if driver.poll() is not None:
                if driver.returncode != -signal.SIGKILL:
                    break
                driver = start()
            if course.worker_kills < kills and done >= next_kill and (pids := worker_pids()):
                os.kill(choice.choice(pids), signal.SIGKILL)
                course.worker_kills += 1
                next_kill = done + cases / (kills + 4)
            if not course.node_kills and done >= cases / 3:
                kill_node(node)
                course.node_kills = 1
            if not course.driver_kills and done >= 2 * cases / 3:
                driver.kill()
                driver.wait()
                course.driver_kills = 1
            if time.monotonic() - began_s > _LIMIT_S_A_CASE * cases:
                break
    finally:
        driver.kill()
        driver.wait()
    course.exit_code, course.seconds = driver.returncode, round(time.monotonic() - began_s, 1)


def _result(course: Course, layout: Layout, expected: Path, cases: int, kills: int) -> dict[str, Any]:
    """What was done and what is wrong; `failures` is empty if nothing is."""
    import pyarrow.parquet as pq

    records = list(read_records(layout))
    masks = {path.name: path for path in (layout.root / MASKS).iterdir()}
    same = sum(path.name in masks and masks[path.name].read_bytes() == path.read_bytes() for path in expected.iterdir())
    again = sorted(name for name, identity in course.finished.items() if _identity(layout.mask(name)) != identity)
    table = layout.root / "cohort.parquet"
    rows = pq.read_table(table).column("name").to_pylist() if table.is_file() else []
    wanted = {
        f"{course.exit_code} is the exit code, not 0": course.exit_code == 0,
        f"{course.worker_kills} workers were killed, not {kills}": course.worker_kills == kills,
        "the node was not killed": course.node_kills == 1,
        "the driver was not killed": course.driver_kills == 1,
        f"{same} masks of {cases} are those of predict": same == cases,
        f"{len(masks)} files lie among the masks, not {cases}": len(masks) == cases,
        f"{len(rows)} rows of {len(set(rows))} names are in the table": len(rows) == len(set(rows)) == cases,
        f"finished and made again: {again}": not again,
        f"not ok: {[r.name for r in records if not r.done]}": sum(r.done for r in records) == cases,
    }
    return {
        "cases": cases,
        **{key: getattr(course, key) for key in ("worker_kills", "node_kills", "driver_kills", "exit_code", "seconds")},
        "masks_of_predict": same,
        "set_aside": sum(record.set_aside for record in records),
        "tried_twice": sum(record.tries > 1 for record in records),
        "finished_and_made_again": len(again),
        "failures": [told for told, holds in wanted.items() if not holds],
    }


def _write_scans(folder: Path, count: int, seed: int) -> None:
    """Bodies of 96x96x60 voxels at 4x4x5 mm, each with one bright box somewhere: `c0000_0000.nii.gz` and on."""
    import nibabel as nib

    folder.mkdir(parents=True)
    draw = np.random.default_rng(seed)
    for number in range(count):
        hu = np.full((96, 96, 60), -1000, np.int16)
        hu[16:80, 20:76, 4:56] = 40
        i, j, k = (int(draw.integers(low, high)) for low, high in ((20, 64), (24, 64), (8, 48)))
        hu[i : i + 8, j : j + 6, k : k + 4] = 200
        hu += draw.integers(-5, 6, hu.shape).astype(np.int16)
        nib.save(nib.Nifti1Image(hu, np.diag([4.0, 4.0, 5.0, 1.0])), folder / f"c{number:04d}_0000.nii.gz")


def _repeat_scans(source: Path, folder: Path, count: int) -> None:
    """The scans of a folder by turns as `c0000_0000.nii.gz` and on; each is copied once. Raises UsageError for none."""
    found = sorted(source.glob("*_0000.nii.gz"))
    if not found:
        raise UsageError(f"{source}: holds no scan X_0000.nii.gz; name a folder of scans")
    folder.mkdir(parents=True)
    for number in range(count):
        target = folder / f"c{number:04d}_0000.nii.gz"
        if number < len(found):
            shutil.copyfile(found[number], target)
        else:
            os.link(folder / f"c{number % len(found):04d}_0000.nii.gz", target)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns
