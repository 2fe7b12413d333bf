"""Ten thousand items that sleep over 64 workers: what of the ideal a pool reaches, and what its driver takes.

Nothing is screened: a worker sleeps `--sleep` seconds for an item, one at a time. The ideal is items x sleep / workers.
While all workers run, the pool loses what it takes to hand over items; over the whole run also the start of the workers
and the last items. Ray is told of as many CPUs as there are workers.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from eval.files import write_shown
from gfscreen.cohort.records import Layout, Record, read_records
from gfscreen.errors import EngineError, UsageError

RESULT_FILE = "scale.json"
LEAST_SHARE = 0.95
MOST_GROWTH_MB = 50.0
_LOOK_EVERY_S = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval cohort-scale`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}")
    parser.add_argument("--items", type=int, default=10_000, metavar="N", help="default 10000")
    parser.add_argument("--workers", type=int, default=64, metavar="N", help="default 64")
    parser.add_argument("--sleep", type=float, default=1.0, metavar="S", help="seconds for an item (default 1)")


@dataclass(frozen=True)
class Look:
    """The driver at one moment: seconds since 1970, resident memory in MiB, CPU seconds since its start."""

    unix_s: float
    rss_mb: float
    cpu_s: float


def run(args: argparse.Namespace) -> int:
    """Measure. Exit 0: both targets are met and every item has ended once; 1: not; 2: wrong usage."""
    from eval.cohort.nodes import ask_for_ray

    if args.workers < 1 or args.sleep <= 0 or args.items < 4 * args.workers:
        raise UsageError("--workers and --sleep must be above 0, --items at least four times --workers")
    ask_for_ray()
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        result = measure(Path(folder), args.items, args.workers, args.sleep)
    write_shown(args.output / RESULT_FILE, result)
    met = result["share_of_ideal"] >= LEAST_SHARE and result["driver_rss_growth_mb"] < MOST_GROWTH_MB
    return 0 if met and result["ended_once"] == args.items and result["exit_code"] == 0 else 1


def measure(folder: Path, items: int, workers: int, sleep_s: float) -> dict[str, Any]:
    """Run the cohort in an empty folder; the result as JSON values. Raises EngineError if it gets nowhere."""
    from eval.cohort.nodes import ROOT, cluster, environment
    from eval.reliability.threshold_engine import write_threshold_plan

    weights, output = write_threshold_plan(folder / "weights"), folder / "cohort"
    manifest = folder / "list.csv"
    manifest.write_text("path,name\n" + "".join(f"list.csv,i{n:06d}\n" for n in range(items)), encoding="utf-8")
    looks: list[Look] = []
    with cluster(cpus=workers) as address, (folder / "driver.log").open("wb") as log:
        command = [*(sys.executable, "-m", "eval.cohort.sleeping"), *map(str, (manifest, output, weights, address))]
        began_s = time.time()
        driver = subprocess.Popen(
            [*command, str(workers), str(sleep_s)], env=environment(), stderr=log, stdout=log, cwd=ROOT
        )
        process = psutil.Process(driver.pid)
        try:
            while driver.poll() is None:
                looks.append(_look(process))
                time.sleep(_LOOK_EVERY_S)
        finally:
            driver.kill()
            driver.wait()
        ended_s = time.time()
    records = list(read_records(Layout(output)))
    if not records:
        said = (folder / "driver.log").read_text(encoding="utf-8", errors="replace").strip()
        raise EngineError(f"no item has ended; the driver said: {(said.splitlines() or ['nothing'])[-1]}")
    whole = {"items": items, "workers": workers, "sleep_s": sleep_s, "exit_code": driver.returncode}
    found = summary(records, looks, workers, sleep_s)
    return {**whole, "seconds": round(ended_s - began_s, 1), "ideal_s": items * sleep_s / workers, **found}


def _look(process: psutil.Process) -> Look:
    try:
        times = process.cpu_times()
        return Look(time.time(), process.memory_info().rss / 2**20, times.user + times.system)
    except psutil.Error:
        return Look(time.time(), 0.0, 0.0)


def summary(records: Sequence[Record], looks: Sequence[Look], workers: int, sleep_s: float) -> dict[str, Any]:
    """What the records and the looks at the driver say.

    The share of the ideal and the driver's CPU are those of the time while all workers run: it begins when the last
    worker begins its first item and ends when there are no more items left than the workers hold, two each. The
    driver's growth is that from the first item begun to that end; `with_table` to the end of the driver. looks: in
    order of time; those after the end of the driver have 0 MiB and count for nothing. Raises UsageError if not every
    worker has begun before that end.
    """
    done = sorted(records, key=lambda record: record.finished_unix_s or 0.0)
    first: dict[str, float] = {}
    for record in done:
        first.setdefault(str(record.worker), (record.finished_unix_s or 0.0) - sleep_s)
    last_begun_s = max(first.values())
    end_s = done[-2 * workers].finished_unix_s or 0.0
    if len(first) < workers or end_s <= last_begun_s:
        raise UsageError(f"{len(first)} of {workers} workers began before the items ran out; take more --items")
    within = [r for r in done if last_begun_s + sleep_s < (r.finished_unix_s or 0.0) <= end_s]
    steady_s = end_s - last_begun_s - sleep_s
    slept_s = sorted(float(r.seconds["total"] or 0.0) for r in within)
    driver = [look for look in looks if look.rss_mb and look.unix_s >= min(first.values())]
    grown = [look for look in driver if look.unix_s <= end_s]
    busy = [look for look in grown if look.unix_s >= last_begun_s]
    cpu_s = busy[-1].cpu_s - busy[0].cpu_s if len(busy) > 1 else None
    return {
        "ended_once": len({record.name for record in done if record.done and record.tries == 1}),
        "seconds_until_all_workers_ran": round(last_begun_s - min(first.values()), 1),
        "share_of_ideal": round(len(within) / steady_s * sleep_s / workers, 4),
        "median_sleep_s": slept_s[len(slept_s) // 2],
        "driver_rss_mb": round(driver[0].rss_mb, 1),
        "driver_rss_growth_mb": round(max(look.rss_mb for look in grown) - driver[0].rss_mb, 1),
        "driver_rss_growth_with_table_mb": round(max(look.rss_mb for look in driver) - driver[0].rss_mb, 1),
        "driver_cpu_ms_per_item": None if cpu_s is None else round(1000 * cpu_s / len(within), 2),
        "driver_share_of_a_core": None if cpu_s is None else round(cpu_s / (busy[-1].unix_s - busy[0].unix_s), 3),
    }
