"""Writes the torture set, screens it in one run of the command line, and judges every input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.reliability.threshold_engine import write_threshold_weights
from eval.reliability.torture.case import TortureCase, Truth
from eval.reliability.torture.file_cases import file_cases
from eval.reliability.torture.geometry_cases import geometry_cases
from eval.reliability.torture.header_cases import header_cases
from eval.reliability.torture.judge import Wrong, check_geometry, check_place, read_mask
from eval.reliability.torture.value_cases import value_cases

ROOT = Path(__file__).resolve().parents[3]


def all_cases() -> list[TortureCase]:
    """The whole set, always the same."""
    cases = [*geometry_cases(), *value_cases(), *header_cases(), *file_cases()]
    names = Counter(case.file for case in cases)
    doubled = [name for name, count in names.items() if count > 1]
    assert not doubled, f"two inputs named {doubled[0]}"
    return cases


def screen_folder(inputs: Path, outputs: Path, report: Path, weights: Path, scratch: Path) -> tuple[int, str]:
    """Run `gfscreen predict` as a process of its own; (exit code, stderr). scratch: its home and temporary folder."""
    scratch.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "TMPDIR": str(scratch),
        "HOME": str(scratch),
        "XDG_CACHE_HOME": str(scratch / ".cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    command = [sys.executable, "-m", "gfscreen", "predict", "-i", str(inputs), "-o", str(outputs)]
    command += ["--weights", str(weights), "--engine", "openvino", "--device", "cpu", "--report", str(report)]
    done = subprocess.run(command, env=environment, cwd=scratch, capture_output=True, check=False)
    return done.returncode, done.stderr.decode("utf-8", "replace")


def torture(folder: Path, cases: Iterable[TortureCase]) -> dict[str, Any]:
    """Make `inputs`, `outputs` and more below `folder`, screen, judge. Returns the result as JSON values."""
    cases = list(cases)
    inputs, outputs, scratch = folder / "inputs", folder / "outputs", folder / "scratch"
    inputs.mkdir(parents=True)
    truths = {case.file: case.make(inputs / case.file) for case in cases}
    weights = write_threshold_weights(folder / "weights")
    before = _listing(folder, skip=(outputs, scratch))
    began = time.monotonic()
    code, stderr = screen_folder(inputs, outputs, folder / "report.json", weights, scratch)
    seconds = time.monotonic() - began
    report = (
        json.loads((folder / "report.json").read_text(encoding="utf-8")) if (folder / "report.json").exists() else {}
    )
    reports = _by_case(report)
    results = [judge(case, inputs, outputs, reports, truths[case.file]) for case in cases]
    problems = _problems(cases, outputs, code, stderr)
    (folder / "report.json").unlink(missing_ok=True)
    if (after := _listing(folder, skip=(outputs, scratch))) != before:
        problems.append(f"written outside the output folder: {sorted(after ^ before)[:5]}")
    if left := [str(path.relative_to(scratch)) for path in scratch.rglob("*")]:
        problems.append(f"left in the temporary folder: {left[:5]}")
    return {"exit_code": code, "seconds": round(seconds, 1), "cases": results, "problems": problems}


def judge(
    case: TortureCase, inputs: Path, outputs: Path, reports: dict[str, list[dict[str, Any]]], truth: Truth
) -> dict[str, Any]:
    """One input: what came of it, and what is wrong with that (`wrong`, null if nothing is)."""
    mask = outputs / case.mask_name
    collides = case.expect == "error" and "would be named" in case.says
    entries = reports.get(case.mask_name.removesuffix(".nii.gz"), [])
    entry = entries[-1 if collides else 0] if entries else {}
    result: dict[str, Any] = {
        "group": case.group,
        "title": case.title,
        "file": ascii(case.file)[1:-1],
        "expected": case.expect,
        "outcome": entry.get("status", "ignored"),
        "said": entry.get("error") or "; ".join(entry.get("warnings", [])) or None,
        "dice": None,
        "wrong": None,
    }
    try:
        if case.expect == "mask":
            result["dice"] = _check_mask(case, inputs, mask, entry, truth)
        elif case.expect == "error":
            _check_error(case, mask if not collides else None, entry)
        elif entry or mask.exists():
            raise Wrong("it should have been left out")
    except Wrong as error:
        result["wrong"] = str(error)
    return result


def _check_mask(case: TortureCase, inputs: Path, mask: Path, entry: dict[str, Any], truth: Truth) -> float | None:
    if entry.get("status") != "ok":
        raise Wrong(f"no mask: {entry.get('error')}")
    if not any(case.says in warning for warning in ["", *entry["warnings"]] if case.says or not warning):
        raise Wrong(f"no warning says {case.says!r}: {entry['warnings']}")
    if not mask.is_file():
        raise Wrong("status ok without a mask")
    head, voxels = read_mask(mask)
    if case.file.lower().endswith((".nii", ".nii.gz")):
        check_geometry(inputs / case.file, head)
    return None if truth is None else round(check_place(voxels, truth), 3)


def _check_error(case: TortureCase, mask: Path | None, entry: dict[str, Any]) -> None:
    message = entry.get("error") or ""
    if entry.get("status") != "failed":
        raise Wrong(f"expected an error, got {entry.get('status')}")
    if case.file not in message and case.mask_name not in message:
        raise Wrong(f"the error does not name the file: {message}")
    if case.says.lower() not in message.lower() or "internal error" in message:
        raise Wrong(f"the error does not say {case.says!r}: {message}")
    if mask is not None and _exists(mask):
        raise Wrong("an error and a mask")


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:
        return False


def _by_case(report: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for entry in report.get("cases", []):
        found.setdefault(entry["name"], []).append(entry)
    return found


def _problems(cases: list[TortureCase], outputs: Path, code: int, stderr: str) -> list[str]:
    """What is wrong with the run as a whole."""
    problems = []
    errors = [case for case in cases if case.expect == "error"]
    if code != (1 if errors else 0):
        problems.append(f"exit code {code}: {stderr.strip().splitlines()[-3:]}")
    if "Traceback" in stderr:
        problems.append("a traceback on stderr")
    lines = stderr.splitlines()
    if odd := [line for line in lines if not line.startswith(("INFO: ", "WARNING: ", "ERROR: "))]:
        problems.append(f"lines on stderr that are no messages: {odd[:3]}")
    if (said := sum(line.startswith("ERROR: ") for line in lines)) != len(errors):
        problems.append(f"{said} errors on stderr for {len(errors)} bad inputs")
    expected = {case.mask_name for case in cases if case.expect == "mask"}
    written = {path.name for path in outputs.iterdir()} if outputs.is_dir() else set()
    if stray := written - expected:
        problems.append(f"stray files in the output folder: {sorted(stray)[:5]}")
    return problems


def _listing(folder: Path, skip: tuple[Path, ...]) -> set[tuple[str, int, int]]:
    """Every entry with size and time of change, but for what the run may write."""
    found = set()
    for path in folder.rglob("*"):
        if not any(path.is_relative_to(part) for part in skip):
            status = path.lstat()
            found.add((ascii(path.relative_to(folder)), status.st_size, 0 if path.is_dir() else status.st_mtime_ns))
    return found
