"""Starts workers until the executions are done, watches for death and silence, and gathers what they found."""

from __future__ import annotations

import importlib.util
import json
import logging
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from eval.reliability.fuzz.findings import STATE_FILE
from eval.reliability.fuzz.target import MEMORY_LIMIT_MB, MEMORY_SLACK_MB, TIME_LIMIT_S
from eval.reliability.fuzz.worker import INPUT_FOLDER

logger = logging.getLogger(__name__)

# A worker that has written nothing for so long hangs in native code, where no alarm reaches it.
SILENCE_S = 120.0
# More deaths than this are not gathered any further: there is enough to repair.
MAX_DEATHS = 20
# The most that one file took; growth over the run.
MEMORY = ("largest_mb", "growth_mb")


def choose_engines(wanted: str) -> tuple[list[str], str]:
    """(engines, why): `auto` takes Atheris where it is installed, and mutations without coverage in any case."""
    if wanted != "auto":
        return [wanted], "asked for by --engine"
    if importlib.util.find_spec("atheris") is None:
        return ["random", "dicom"], "the package atheris is not installed: mutations without coverage alone"
    return ["atheris", "random", "dicom"], "atheris is installed: NIfTI guided by coverage, then all kinds without"


def fuzz(executions: int, seed: int, name: str, output: Path) -> dict[str, Any]:
    """Read `executions` damaged files; files with findings go to `output`. Returns the result as JSON values."""
    began = time.monotonic()
    total: dict[str, Any] = {"executions": 0, "outcomes": Counter(), "slowest_s": 0.0, **dict.fromkeys(MEMORY, 0.0)}
    findings: dict[str, dict[str, Any]] = {}
    deaths = 0
    while total["executions"] < executions and deaths <= MAX_DEATHS:
        with tempfile.TemporaryDirectory(prefix="fuzz-", dir=_scratch()) as scratch:
            folder = Path(scratch)
            died = _worker(folder, executions - total["executions"], seed + 1000 * deaths, name)
            state = _state(folder)
            total["executions"] += state["executions"]
            total["outcomes"].update(state["outcomes"])
            for key in ("slowest_s", *MEMORY):
                total[key] = max(total[key], state[key])
            for found in state["findings"]:
                _keep(findings, found, folder / found["file"], output)
            if died is not None:
                deaths += 1
                for path in (p for p in (folder / INPUT_FOLDER).rglob("*") if p.is_file()):
                    _keep(findings, {"what": died, "message": died, "file": "", "times": 1}, path, output)
            elif not state["executions"]:
                raise RuntimeError("the worker ended without executing anything")
    return {
        "engine": name,
        "seed": seed,
        "executions": total["executions"],
        "seconds": round(time.monotonic() - began, 1),
        "outcomes": dict(sorted(total["outcomes"].items())),
        "slowest_s": total["slowest_s"],
        "time_limit_s": TIME_LIMIT_S,
        "memory_one_file_mb": total["largest_mb"],
        "memory_growth_mb": total["growth_mb"],
        "memory_limit_mb": MEMORY_LIMIT_MB,
        "memory_slack_mb": MEMORY_SLACK_MB,
        "findings": sorted(findings.values(), key=lambda found: str(found["what"])),
    }


def _scratch() -> str | None:
    """A file system in memory where there is one: the files are small and many."""
    shared = Path("/dev/shm")
    return str(shared) if shared.is_dir() else None


def _worker(folder: Path, executions: int, seed: int, engine: str) -> str | None:
    """Run one worker to its end. Returns how it died, or None if it ended in order."""
    options = ["--folder", str(folder), "--executions", str(executions), "--seed", str(seed), "--engine", engine]
    with (folder / "stderr").open("wb") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "eval.reliability.fuzz.worker", *options], stdout=subprocess.DEVNULL, stderr=stderr
        )
        heard, state = time.monotonic(), folder / STATE_FILE
        last = None
        while process.poll() is None:
            time.sleep(0.2)
            now = state.stat().st_mtime_ns if state.exists() else None
            if now != last:
                last, heard = now, time.monotonic()
            elif time.monotonic() - heard > SILENCE_S:
                process.kill()
                process.wait()
                return f"hang in native code, longer than {SILENCE_S:.0f} s"
    if process.returncode == 0:
        return None
    said = (folder / "stderr").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    logger.warning("worker ended with %d: %s", process.returncode, " | ".join(said[-5:]))
    if process.returncode == 1:
        raise RuntimeError("the worker failed: " + " | ".join(said[-5:]))
    return f"crash of the process, exit code {process.returncode}"


def _state(folder: Path) -> dict[str, Any]:
    path = folder / STATE_FILE
    if not path.exists():
        return {"executions": 0, "outcomes": {}, "slowest_s": 0.0, **dict.fromkeys(MEMORY, 0.0), "findings": []}
    state: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return state


def _keep(findings: dict[str, dict[str, Any]], found: dict[str, Any], file: Path, output: Path) -> None:
    known = findings.get(found["what"])
    if known is not None:
        known["times"] += found["times"]
        return
    target = output / f"finding-{len(findings)}-{file.stem.partition('.')[0]}{''.join(file.suffixes[-2:])}"
    shutil.copyfile(file, target)
    findings[found["what"]] = {**found, "file": target.name}
