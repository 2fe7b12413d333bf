"""Run the cases one by one and measure each."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from eval.accuracy.masks import SUFFIX
from eval.efficiency.gpu import GpuProbe
from eval.efficiency.launch import ContainerLaunch, Folders, Launch
from eval.efficiency.sampler import Sample, UsageSampler, shifted

logger = logging.getLogger(__name__)

IMAGE_SUFFIX = f"_0000{SUFFIX}"
# Lines of a failed case's output that go into its error.
_TAIL_LINES = 5


@dataclass(frozen=True)
class Measurement:
    """One case. Times in s from the start of its process; `exit_code` as a shell gives it (137: killed).

    `status`: `ok`, `failed` (exit code not 0), `timeout`, `no_output` (exit code 0 but no mask) or `interrupted`.
    `report`: the product's own entry for the case, None when it left none.
    """

    name: str
    status: str
    exit_code: int | None
    time_s: float
    samples: list[Sample]
    idle: list[Sample]
    own_source: str
    error: str = ""
    cpu_s: float | None = None
    report: dict[str, Any] | None = None
    unexpected_outputs: list[str] = field(default_factory=list)
    input_bytes: int = 0

    @property
    def case(self) -> str:
        """`X` of `X_0000.nii.gz`."""
        return self.name.removesuffix("_0000")


def find_cases(path: Path) -> list[Path]:
    """The scans `X_0000.nii.gz` of a folder (or of its `images/`), or the one scan given; empty when there is none."""
    if path.is_file():
        return [path] if path.name.endswith(SUFFIX) else []
    for folder in (path, path / "images"):
        found = sorted(p for p in folder.glob(f"*{IMAGE_SUFFIX}") if not p.name.startswith("."))
        if found:
            return found
    return []


def run_cases(
    cases: Sequence[Path], out: Path, launch: Launch, gpu: GpuProbe | None, timeout_s: float | None, idle_s: float
) -> Iterator[Measurement]:
    """Measure the cases in order. On Ctrl-C the running case ends, is yielded as `interrupted`, and then we stop."""
    for index, path in enumerate(tqdm(cases, desc="measuring", unit="case", disable=None)):
        measurement = run_case(path, out, launch, gpu, timeout_s, idle_s, index)
        yield measurement
        if measurement.status == "interrupted":
            return


def run_case(
    path: Path, out: Path, launch: Launch, gpu: GpuProbe | None, timeout_s: float | None, idle_s: float, index: int = 0
) -> Measurement:
    """Run one scan in fresh folders and sample beside it.

    The mask goes to `out/predictions`, what the program printed to `out/logs`. Neither a process, nor a thread, nor a
    container is left behind, whichever way this ends.
    """
    name = path.name.removesuffix(SUFFIX)
    for folder in ("predictions", "logs"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    run_name = f"gfscreen-eval-{os.getpid()}-{index}"
    with tempfile.TemporaryDirectory(prefix="case-", dir=out, ignore_cleanup_errors=True) as scratch:
        folders = _prepare(path, Path(scratch).resolve())
        log_path = out / "logs" / f"{name}.log"
        with log_path.open("wb") as log:
            result = _measure(launch, folders, run_name, log, gpu, timeout_s, idle_s)
        outputs = sorted(p for p in folders.outputs.rglob("*") if not p.is_dir())
        wanted = f"{name.removesuffix('_0000')}{SUFFIX}"
        status, error = result.status, ""
        if status == "ok" and folders.outputs / wanted not in outputs:
            status, error = "no_output", f"{name}: exit code 0, but outputs hold no {wanted}"
        elif status != "ok":
            error = _error(name, result, timeout_s, log_path)
        mask = folders.outputs / wanted
        (out / "predictions" / wanted).unlink(missing_ok=True)  # of a run before
        if mask in outputs:
            shutil.move(mask, out / "predictions" / wanted)
        return Measurement(
            name=name,
            status=status,
            exit_code=result.exit_code,
            time_s=result.time_s,
            samples=result.samples,
            idle=result.idle,
            own_source=result.own_source,
            error=error,
            cpu_s=result.cpu_s,
            report=read_report(folders.report, name.removesuffix("_0000")),
            unexpected_outputs=[str(p.relative_to(folders.outputs)) for p in outputs if p != mask],
            input_bytes=path.stat().st_size,
        )


def _prepare(path: Path, scratch: Path) -> Folders:
    """Fresh folders; the scan is copied, as a container run as root could write to the user's own file."""
    folders = Folders(scratch / "inputs", scratch / "outputs", scratch)
    for folder in (folders.inputs, folders.outputs, folders.report.parent):
        folder.mkdir()
        folder.chmod(0o777)  # as the organisers do for outputs: the image may run as any user
    scratch.chmod(0o755)
    shutil.copyfile(path, folders.inputs / path.name)
    return folders


@dataclass(frozen=True)
class _Run:
    status: str
    exit_code: int | None
    time_s: float
    samples: list[Sample]
    idle: list[Sample]
    own_source: str
    cpu_s: float | None


def _measure(
    launch: Launch,
    folders: Folders,
    name: str,
    log: IO[bytes],
    gpu: GpuProbe | None,
    timeout_s: float | None,
    idle_s: float,
) -> _Run:
    sampler = UsageSampler(gpu)
    idle: list[Sample] = []
    process: subprocess.Popen[bytes] | None = None
    timed_out = threading.Event()
    timer: threading.Timer | None = None
    interrupted = False
    source = ""
    children_before = _children_cpu_s()
    start = time.perf_counter()
    try:
        idle = sampler.idle(idle_s)
        sampler.start()
        start = time.perf_counter()
        process, sampler.own = launch.start(folders, name, log)
        if timeout_s is not None:
            running = process

            def expire() -> None:
                timed_out.set()
                launch.kill(running, name)

            timer = threading.Timer(timeout_s, expire)
            timer.start()
        process.wait()  # without a timeout: Python's polls, and adds up to 50 ms
    except KeyboardInterrupt:
        interrupted = True
    finally:
        time_s = time.perf_counter() - start
        if timer is not None:
            timer.cancel()
            timer.join()
        launch.kill(process, name)  # also after a normal end: descendants may have stayed
        samples = sampler.stop()
        source = sampler.own.source if sampler.own is not None else ""
    code = process.returncode if process is not None else None
    exit_code = 128 - code if code is not None and code < 0 else code
    status = "ok" if exit_code == 0 else "failed"
    if interrupted:
        status = "interrupted"
    elif timed_out.is_set():
        status = "timeout"
    # A container is no child of ours: its CPU time comes from its cgroup.
    cpu_s = None if isinstance(launch, ContainerLaunch) else _children_cpu_s() - children_before
    return _Run(status, exit_code, time_s, shifted(samples, start), shifted(idle, start), source, cpu_s)


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _error(name: str, run: _Run, timeout_s: float | None, log_path: Path) -> str:
    reasons = {
        "timeout": f"still running after {timeout_s} s, killed",
        "interrupted": "interrupted by the user",
        "failed": f"exit code {run.exit_code}" + (" (killed, often for memory)" if run.exit_code == 137 else ""),
    }
    lines = log_path.read_text(encoding="utf-8", errors="replace").splitlines()
    tail = " | ".join(line.strip() for line in lines[-_TAIL_LINES:] if line.strip())
    return f"{name}: {reasons[run.status]}" + (f": {tail}" if tail else "")


def read_report(path: Path, case: str) -> dict[str, Any] | None:
    """The entry of `case` in the product's report `{"cases": [...]}`, or None when it is absent or another thing."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        entries = [entry for entry in report["cases"] if isinstance(entry, dict)]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    for entry in entries:
        stem = str(entry.get("name", "")).removesuffix(SUFFIX).removesuffix("_0000")
        if stem == case:
            return entry
    return entries[0] if len(entries) == 1 else None
