"""A Ray of this machine for tests, and stubs that take the place of screening in its workers."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gfscreen.cohort.records import Layout, Record, write_record
from gfscreen.cohort.sources.items import Item
from tests.helpers.orthanc import free_port
from tests.helpers.places import ROOT

AGENTS = ("dashboard-agent-grpc", "dashboard-agent-listen", "runtime-env-agent", "metrics-export")

_STARTS, _START_S = 3, 90.0


def need_ray() -> None:
    """Skips where Ray or pyarrow is not installed; with GFSCREEN_REQUIRE_RAY=1 it fails."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        message = "needs ray and pyarrow (pip install 'gfscreen[cohort]')"
        if os.environ.get("GFSCREEN_REQUIRE_RAY") == "1":
            pytest.fail(message)
        pytest.skip(message)


def environment() -> dict[str, str]:
    """Of Ray's processes and drivers: the checkout is found, nothing is sent to anybody."""
    path = os.pathsep.join(filter(None, [str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH")]))
    patient = {"RAY_raylet_start_wait_time_s": "80", "RAY_agent_register_timeout_ms": "80000"}
    return {**os.environ, **patient, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """A node with so many CPUs; the address of its head. Tried again: a busy machine is too slow for a node at times."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # sockets have paths of at most 107 bytes
        for attempt in range(_STARTS):
            port, log = free_port(), Path(folder) / f"start-{attempt}.log"
            command = [
                *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--head", f"--num-cpus={cpus}"),
                *(f"--port={port}", f"--temp-dir={folder}/{attempt}", "--include-dashboard=false"),
                *("--object-store-memory=100000000", "--disable-usage-stats"),
                # For ports that its agents choose a node waits 15 s, too little on a busy machine.
                *(f"--{agent}-port={free_port()}" for agent in AGENTS),
            ]
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command, env=environment(), stdout=stream, stderr=stream, start_new_session=True, cwd=ROOT
                )
            try:
                if not _runs(process, log) and attempt + 1 < _STARTS:
                    continue
                assert process.poll() is None, log.read_text()
                yield f"127.0.0.1:{port}"
                return
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)


def _runs(process: subprocess.Popen[bytes], log: Path) -> bool:
    """Wait until a node is up; False if it ends before, or takes too long."""
    end = time.monotonic() + _START_S
    while "Ray runtime started" not in log.read_text(errors="replace"):
        if process.poll() is not None or time.monotonic() > end:
            return False
        time.sleep(0.2)
    return True


class StubWorker:
    """Sleeps for an item and writes its record and a mask of its own; kills its worker for an item called `killer`.

    What it has screened it appends to DIR/seen.txt, a line each, before it sleeps.
    """

    def __init__(self, root: Path, sleep_s: float) -> None:
        self._layout, self._sleep_s = Layout(root), sleep_s

    def __call__(self, item: Item, tries: int) -> Record:
        with (self._layout.root / "seen.txt").open("a") as log:
            log.write(f"{item.name} {os.getpid()}\n")
        if item.name == "killer":
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(self._sleep_s)
        self._layout.mask(item.name).write_bytes(b"mask")
        record = Record(
            item.name, status="ok", tries=tries, source=item.place, worker="stub", finished_unix_s=time.time()
        )
        write_record(self._layout, record)
        return record


# A driver that screens by stubs: MANIFEST OUTPUT WEIGHTS ADDRESS WORKERS SLEEP_S.
STUB_DRIVER = """
import sys
from functools import partial
from pathlib import Path
from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.run import run_cohort
from gfscreen.command.cli import _configure_logging
from gfscreen.stopping import Stopped
from tests.helpers.ray_cluster import StubWorker

_configure_logging(False, False)
manifest, output, weights, address, workers, sleep_s = sys.argv[1:]
options = CohortOptions(manifest, Path(output), Path(weights), ray=address, workers=int(workers), cpus=1)
try:
    sys.exit(run_cohort(options, factory=partial(StubWorker, Path(output), float(sleep_s))))
except Stopped as stop:
    sys.exit(stop.exit_code)
"""
