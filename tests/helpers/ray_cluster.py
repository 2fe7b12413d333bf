"""A Ray of this machine for tests, and stubs that take the place of screening in its workers."""

from __future__ import annotations

import contextlib
import fcntl
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
from tests.helpers.places import ROOT

_STARTS = 3


def need_ray() -> None:
    """Skips where Ray or pyarrow is not installed; with GFSCREEN_REQUIRE_RAY=1 it fails."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("pyarrow") is None:
        message = "needs ray and pyarrow (pip install 'gfscreen[cohort]')"
        if os.environ.get("GFSCREEN_REQUIRE_RAY") == "1":
            pytest.fail(message)
        pytest.skip(message)


def environment() -> dict[str, str]:
    """Of Ray's processes and drivers: the checkout is found, nothing is sent to anybody."""
    hidden = Path(__file__).with_name("hidden")
    path = os.pathsep.join(filter(None, map(str, [hidden, ROOT / "src", ROOT, os.environ.get("PYTHONPATH", "")])))
    patient = {"RAY_raylet_start_wait_time_s": "80", "RAY_agent_register_timeout_ms": "80000"}
    # Ray asks every node and driver for it.
    patient |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b7" * 32}
    return {**os.environ, **patient, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


# Holds a node until its input ends: CPUS FOLDER. `ray start` would start more beside it than these tests need.
_NODE = """
import sys
import ray
ray.init(
    num_cpus=int(sys.argv[1]), _temp_dir=sys.argv[2], object_store_memory=100 * 2**20,
    include_dashboard=False, log_to_driver=False,
)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


@contextmanager
def alone() -> Iterator[None]:
    """While no other process of the tests has a Ray of this machine: a second one on a node is refused."""
    with (Path(tempfile.gettempdir()) / f"gfscreen-tests-ray-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def cluster(cpus: int) -> Iterator[str]:
    """A node with so many CPUs; the address of its head. Tried again: a busy machine is too slow at times."""
    # Sockets have paths of at most 107 bytes.
    with alone(), tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        for attempt in range(_STARTS):
            log = Path(folder) / f"{attempt}.log"
            command = [sys.executable, "-c", _NODE, str(cpus), f"{folder}/{attempt}"]
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command, env=environment(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stream, cwd=ROOT
                )
            try:
                assert process.stdout is not None
                line = next((line for line in process.stdout if line.startswith(b"address ")), None)
                if line is None and attempt + 1 < _STARTS:
                    continue
                assert line is not None, log.read_text(errors="replace")
                yield line.decode().split()[1]
                return
            finally:
                process.terminate()
                try:
                    process.communicate(timeout=30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.communicate()


@contextmanager
def another_node(address: str, cpus: int) -> Iterator[subprocess.Popen[bytes]]:
    """One more node of a cluster, in a process group of its own."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"),
        *(f"--num-cpus={cpus}", "--object-store-memory=100000000", "--include-log-monitor=false"),
    ]
    with tempfile.TemporaryFile() as log:
        node = subprocess.Popen(
            command,
            env=environment(),
            stdout=log,
            stderr=log,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        try:
            end, said = time.monotonic() + 120, b""
            while b"Ray runtime started" not in said:
                assert node.poll() is None, said.decode()
                assert time.monotonic() < end, said.decode()
                time.sleep(0.2)
                said = os.pread(log.fileno(), 1 << 16, 0)
            yield node
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.pid, number)
                    time.sleep(0.5)
            node.wait()


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
