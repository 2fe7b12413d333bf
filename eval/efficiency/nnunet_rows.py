"""nnU-Net's own predictor in the benchmark: a default 3d_fullres network with random weights, in a Python that has it.

A whole scan takes it many minutes, so some of its patches are timed and the page says how many. nnU-Net is not among
the project's requirements; `make bench` installs it, pinned, in an environment of its own.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.efficiency.nnunet_example import dataset_of, plans_of, write_example
from eval.efficiency.table4 import Size
from gfscreen.errors import UsageError

# Of several hundred patches, which differ in nothing but where they lie.
PATCHES = 12


def require_nnunet(python: str) -> None:
    """Raise UsageError unless `python` can be run and has nnU-Net: better said before an hour of measuring."""
    _run(python, ["-c", "import nnunetv2, eval.efficiency.nnunet_peer"])


def nnunet_rows(
    python: str, sizes: Sequence[Size], scans: Mapping[str, Path], out: Path, cpus: float | None
) -> list[dict[str, Any]]:
    """One row a size: seconds that the whole scan takes in proportion, patches in all and timed, peak memory.

    python: an interpreter with nnU-Net. Raises UsageError if it cannot be run or fails.
    """
    model = write_example(out / "model", plans_of("plain"), dataset_of("plain"))
    rows = []
    for size in sizes:
        report = out / f"{size.case}.json"
        words = ["-i", str(scans[size.case]), "-o", str(out / "masks"), "--model", str(model), "--report", str(report)]
        words += ["--patches", str(PATCHES), *(["--cpus", f"{cpus:.0f}"] if cpus else [])]
        _run(python, ["-m", "eval", "nnunet-peer", *words])
        (case,) = json.loads(report.read_text(encoding="utf-8"))["cases"]
        rows.append(
            {
                "case": size.case,
                "size": "x".join(map(str, size.shape)),
                "patches": case["patches_total"],
                "timed": case["patches_timed"],
                "time_s": case["seconds"]["total"],
                "peak_rss_mb": case["peak_rss_mb"],
            }
        )
    return rows


def _run(python: str, words: Sequence[str]) -> None:
    try:
        done = subprocess.run([python, *words], capture_output=True, text=True, check=False)
    except OSError as error:
        raise UsageError(f"--nnunet {python}: cannot be run ({error})") from error
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing was said"])[-1]
        raise UsageError(f"--nnunet {python}: exit code {done.returncode}: {said}")
