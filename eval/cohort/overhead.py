"""What a cohort on Ray takes longer than `predict` of the same folder on the same cores, with the same networks.

The scans go by turns through `predict`, `cohort run --ray none` and `cohort run --ray local` with one worker that has
all cores. What a whole run takes holds the start of Ray, which does not grow with the cohort; the time per case is that
from the first finished mask to the last. CPU seconds are those of the command and all that it has started, Ray's own
processes with it: they tell the same on a machine that does other things as well, where times do not. A cohort measures
its lesions and draws thumbnails, too; that is in both kinds of cohort, so their difference is Ray's own.
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from eval.files import write_shown
from gfscreen.errors import EngineError, UsageError

RESULT_FILE = "overhead.json"
MOST_OVERHEAD = 0.05
_LOOK_EVERY_S = 0.25
PREDICT, ALONE, ON_RAY = "predict", "cohort --ray none", "cohort --ray local"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval cohort-overhead`."""
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="DIR", help="a folder of scans, at least 3")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}")
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="weights of all runs")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each kind (default 3)")


@dataclass(frozen=True)
class Timing:
    """One run: seconds of the process, those per case between the first finished mask and the last, CPU seconds."""

    seconds: float
    seconds_per_case: float
    cpu_s: float


def run(args: argparse.Namespace) -> int:
    """Measure. Exit 0: a whole run takes at most 5 % longer, and masks are the same; 1: not; 2: wrong usage."""
    from eval.cohort.nodes import ask_for_ray

    if args.repeats < 1:
        raise UsageError("--repeats must be at least 1")
    ask_for_ray()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        result = measure(args.input, args.weights, Path(folder), args.repeats)
    write_shown(args.output / RESULT_FILE, result)
    return 0 if result["overhead"]["whole_run"] <= MOST_OVERHEAD else 1


def measure(inputs: Path, weights: Path, folder: Path, repeats: int) -> dict[str, Any]:
    """All runs, by turns, in an empty folder; the result as JSON values.

    Raises EngineError if a run fails or masks are not those of `predict`, UsageError for fewer than three scans.
    """
    from gfscreen.cpus import usable_cpus

    cpus = usable_cpus()
    timings: dict[str, list[Timing]] = {PREDICT: [], ALONE: [], ON_RAY: []}
    expected: dict[str, bytes] = {}
    for repeat in range(repeats):
        for kind, found in timings.items():
            output = folder / f"{repeat}-{kind.replace(' ', '')}"
            timing, masks = _timed(kind, inputs, weights, output, cpus)
            expected = expected or masks
            if masks != expected:
                raise EngineError(f"{kind}: masks are not those of predict; that must not be")
            found.append(timing)
            sys.stderr.write(
                f"{kind}: {timing.seconds:.1f} s, {timing.seconds_per_case:.2f} s per case, CPU {timing.cpu_s:.0f} s\n"
            )
    return {"cases": len(expected), "cpus": cpus, **summary(timings)}


def summary(timings: Mapping[str, Sequence[Timing]]) -> dict[str, Any]:
    """Medians over repeats, and by what share `cohort --ray local` exceeds `predict` and `cohort --ray none`.

    timings: kind -> one of each repeat, at least one.
    """
    whole, each, cpu = (
        {kind: statistics.median(getattr(one, what) for one in found) for kind, found in timings.items()}
        for what in ("seconds", "seconds_per_case", "cpu_s")
    )
    return {
        "runs": {kind: [asdict(one) for one in found] for kind, found in timings.items()},
        "overhead": {
            "whole_run": round(whole[ON_RAY] / whole[PREDICT] - 1, 4),
            "whole_run_without_ray": round(whole[ALONE] / whole[PREDICT] - 1, 4),
            "per_case": round(each[ON_RAY] / each[PREDICT] - 1, 4),
            "per_case_without_ray": round(each[ALONE] / each[PREDICT] - 1, 4),
            "cpu": round(cpu[ON_RAY] / cpu[PREDICT] - 1, 4),
            "cpu_without_ray": round(cpu[ALONE] / cpu[PREDICT] - 1, 4),
            "cpu_s_of_ray": round(cpu[ON_RAY] - cpu[ALONE], 1),
        },
    }


def _timed(kind: str, inputs: Path, weights: Path, output: Path, cpus: int) -> tuple[Timing, dict[str, bytes]]:
    """A run and its masks. Raises EngineError, UsageError."""
    from eval.cohort.nodes import ROOT, alone, environment

    command = [sys.executable, "-m", "gfscreen"]
    if kind == PREDICT:
        command += ["predict"]
        masks_at = output
    else:
        command += ["cohort", "run", "--ray", kind.split()[-1], "--cpus-per-worker", str(cpus)]
        masks_at = output / "masks"
    command += ["-i", str(inputs), "-o", str(output), "--weights", str(weights)]
    with alone(), tempfile.TemporaryFile() as log:
        began_s = time.monotonic()
        process = subprocess.Popen(command, env=environment(), stdout=log, stderr=log, cwd=ROOT)
        cpu_s = _cpu_seconds(process)
        seconds = time.monotonic() - began_s
        log.seek(0)
        said = log.read().decode(errors="replace").splitlines()
    if process.returncode != 0:
        raise EngineError(f"{kind}: ended with {process.returncode}: {(said or [''])[-1]}")
    paths = sorted(masks_at.iterdir())
    if len(paths) < 3:
        raise UsageError(f"{inputs}: holds {len(paths)} scans; at least 3 are needed for a time per case")
    times = [path.stat().st_mtime for path in paths]
    per_case = (max(times) - min(times)) / (len(paths) - 1)
    timing = Timing(round(seconds, 2), round(per_case, 3), round(cpu_s, 1))
    return timing, {path.name: path.read_bytes() for path in paths}


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Wait for a process; user and system seconds of it and its descendants, each as it was last seen alive."""
    seen: dict[tuple[int, float], float] = {}
    root = psutil.Process(process.pid)
    try:
        while process.poll() is None:
            with contextlib.suppress(psutil.Error):
                for one in [root, *root.children(recursive=True)]:
                    with contextlib.suppress(psutil.Error):
                        times = one.cpu_times()
                        seen[one.pid, one.create_time()] = times.user + times.system
            time.sleep(_LOOK_EVERY_S)
    finally:
        process.kill()
        process.wait()
    return sum(seen.values())
