"""A Ray cluster of several nodes on this machine, each in processes of its own that may be killed."""

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

import psutil

from gfscreen.errors import EngineError, UsageError

ROOT = Path(__file__).resolve().parents[2]
_STARTS = 3
_START_LIMIT_S = 120.0
_STORE_BYTES = 100_000_000

# Holds the first node until its input ends: CPUS FOLDER BYTES GPUS. `ray start` would start more than is needed.
_HEAD = """
import sys
import ray
ray.init(
    num_cpus=int(sys.argv[1]), _temp_dir=sys.argv[2], object_store_memory=int(sys.argv[3]),
    num_gpus=int(sys.argv[4]), include_dashboard=False, log_to_driver=False,
)
print("address", ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def ask_for_ray() -> None:
    """Raises UsageError where Ray or pyarrow is not installed."""
    for name in ("ray", "pyarrow"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"needs {name}, which is not installed; pip install 'gfscreen[cohort]'")


def environment() -> dict[str, str]:
    """Of Ray's processes and drivers: the checkout is found, nothing is sent to anybody, a slow start is waited for."""
    path = os.pathsep.join(filter(None, map(str, [ROOT / "src", ROOT, os.environ.get("PYTHONPATH", "")])))
    patient = {"RAY_raylet_start_wait_time_s": "80", "RAY_agent_register_timeout_ms": "80000"}
    # Ray asks every node and driver for it.
    patient |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "b7" * 32}
    return {**os.environ, **patient, "PYTHONPATH": path, "RAY_USAGE_STATS_ENABLED": "0"}


@contextmanager
def alone() -> Iterator[None]:
    """While no other process that asks has a Ray of this machine: a second one on a node is refused."""
    with (Path(tempfile.gettempdir()) / f"gfscreen-ray-{os.getuid()}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def cluster(cpus: int, variables: dict[str, str] | None = None, gpus: int = 0) -> Iterator[str]:
    """A node that Ray is told has so many CPUs and GPUs, whether it has them or not; its address, HOST:PORT.

    variables: of the node's processes, None: those of `environment`. A start is tried three times: a busy machine is
    too slow at times. Raises EngineError.
    """
    # Sockets have paths of at most 107 bytes.
    with alone(), tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:
        for attempt in range(_STARTS):
            log = Path(folder) / f"{attempt}.log"
            command = [sys.executable, "-c", _HEAD, str(cpus), f"{folder}/{attempt}", str(_STORE_BYTES), str(gpus)]
            with log.open("wb") as stream:
                process = subprocess.Popen(
                    command,
                    env=environment() if variables is None else variables,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stream,
                    cwd=ROOT,
                )
            try:
                assert process.stdout is not None
                line = next((line for line in process.stdout if line.startswith(b"address ")), None)
                if line is None and attempt + 1 < _STARTS:
                    continue
                if line is None:
                    raise EngineError(f"Ray has not started in {_STARTS} tries: {_last_line(log.read_bytes())}")
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
def another_node(address: str, cpus: int, variables: dict[str, str] | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """One more node of a cluster, in a process group of its own; ended with the context. Raises EngineError."""
    command = [
        *(sys.executable, "-m", "ray.scripts.scripts", "start", "--block", f"--address={address}"),
        *(f"--num-cpus={cpus}", f"--object-store-memory={_STORE_BYTES}", "--include-log-monitor=false"),
    ]
    with tempfile.TemporaryFile() as log:
        node = subprocess.Popen(
            command,
            env=environment() if variables is None else variables,
            stdout=log,
            stderr=log,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )
        try:
            end, said = time.monotonic() + _START_LIMIT_S, b""
            while b"Ray runtime started" not in said:
                if node.poll() is not None or time.monotonic() > end:
                    raise EngineError(f"a node of {address} has not started: {_last_line(said)}")
                time.sleep(0.2)
                said = os.pread(log.fileno(), 1 << 16, 0)
            yield node
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(node.pid, number)
                    time.sleep(0.5)
            node.wait()


def kill_node(node: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a node and all that it has started, as when its machine goes."""
    there = psutil.Process(node.pid)
    for one in [there, *there.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()


def worker_pids() -> list[int]:
    """Processes on this machine that are workers of a pool, by their title."""
    running = psutil.process_iter(["cmdline"])
    return sorted(one.pid for one in running if " ".join(one.info["cmdline"] or []).startswith("ray::Actor"))


def _last_line(log: bytes) -> str:
    return (log.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
