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
    patient = {"RAY_raylet_start_wait_time_s": "180", "RAY_agent_register_timeout_ms": "180000"}
    return {**os.environ, **patient, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def cluster(cpus: int, head_port: int | None = None) -> Iterator[str]:
    """A node with so many CPUs; the address of its head. Joins a cluster whose head's port is given."""
    address = f"127.0.0.1:{head_port or free_port()}"
    # Sockets have paths of at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        command = [
            *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--num-cpus={cpus}"),
            *("--object-store-memory=100000000", "--disable-usage-stats"),
            # For ports that its agents choose a node waits 15 s, too little on a busy machine.
            *(f"--{agent}-port={free_port()}" for agent in AGENTS),
            *(
                [f"--address={address}"]
                if head_port
                else [
                    "--head",
                    f"--port={address.rpartition(':')[2]}",
                    "--include-dashboard=false",
                    f"--temp-dir={folder}",
                ]
            ),
        ]
        with (Path(folder) / "start.log").open("wb") as log:
            process = subprocess.Popen(
                command, env=environment(), stdout=log, stderr=log, start_new_session=True, cwd=ROOT
            )
        try:
            _wait_until_it_runs(process, Path(folder) / "start.log")
            yield address
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def _wait_until_it_runs(process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 240
    while "Ray runtime started" not in log.read_text(errors="replace"):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.2)


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
