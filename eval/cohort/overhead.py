"""What a cohort on Ray takes longer than `predict` of the same folder on the same cores, with the same networks.

The scans go by turns through `predict`, `cohort run --ray none` and `cohort run --ray local` with one worker that has
all cores. What a whole run takes holds the start of Ray, which does not grow with the cohort; the time per case is that
from the first finished mask to the last. A cohort measures its lesions and draws thumbnails as well; what those take is
in both kinds of cohort, so that the difference between them is Ray's own.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from gfscreen.errors import EngineError, UsageError

RESULT_FILE = "overhead.json"
MOST_OVERHEAD = 0.05
PREDICT, ALONE, ON_RAY = "predict", "cohort --ray none", "cohort --ray local"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval cohort-overhead`."""
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="DIR", help="a folder of scans, at least 3")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}")
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="weights of all runs")
    parser.add_argument("--repeats", type=int, default=3, metavar="N", help="runs of each kind (default 3)")


@dataclass(frozen=True)
class Timing:
    """One run: seconds of the process, seconds per case between the first finished mask and the last, CPUs given."""

    seconds: float
    seconds_per_case: float


def run(args: argparse.Namespace) -> int:
    """Measure. Exit 0: a whole run takes at most 5 % longer, and masks are the same; 1: not; 2: wrong usage."""
    from eval.cohort.nodes import ask_for_ray

    if args.repeats < 1:
        raise UsageError("--repeats must be at least 1")
    ask_for_ray()
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        result = measure(args.input, args.weights, Path(folder), args.repeats)
    args.output.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    (args.output / RESULT_FILE).write_text(text, encoding="utf-8")
    sys.stdout.write(text)
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
            sys.stderr.write(f"{kind}: {timing.seconds:.1f} s, {timing.seconds_per_case:.2f} s per case\n")
    return {"cases": len(expected), "cpus": cpus, **summary(timings)}


def summary(timings: Mapping[str, Sequence[Timing]]) -> dict[str, Any]:
    """Medians over repeats, and by what share `cohort --ray local` exceeds `predict` and `cohort --ray none`.

    timings: kind -> one of each repeat, at least one.
    """
    whole = {kind: statistics.median(one.seconds for one in found) for kind, found in timings.items()}
    each = {kind: statistics.median(one.seconds_per_case for one in found) for kind, found in timings.items()}
    return {
        "runs": {kind: [asdict(one) for one in found] for kind, found in timings.items()},
        "overhead": {
            "whole_run": round(whole[ON_RAY] / whole[PREDICT] - 1, 4),
            "whole_run_without_ray": round(whole[ALONE] / whole[PREDICT] - 1, 4),
            "per_case": round(each[ON_RAY] / each[PREDICT] - 1, 4),
            "per_case_without_ray": round(each[ALONE] / each[PREDICT] - 1, 4),
            "seconds_of_start": round(whole[ON_RAY] - whole[ALONE], 1),
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
    with alone():
        began_s = time.monotonic()
        done = subprocess.run(command, env=environment(), stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
        seconds = time.monotonic() - began_s
    if done.returncode != 0:
        raise EngineError(f"{kind}: ended with {done.returncode}: {(done.stderr.splitlines() or [''])[-1]}")
    paths = sorted(masks_at.iterdir())
    if len(paths) < 3:
        raise UsageError(f"{inputs}: holds {len(paths)} scans; at least 3 are needed for a time per case")
    times = [path.stat().st_mtime for path in paths]
    per_case = (max(times) - min(times)) / (len(paths) - 1)
    return Timing(round(seconds, 2), round(per_case, 3)), {path.name: path.read_bytes() for path in paths}
