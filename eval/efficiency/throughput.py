"""Cases per hour of one run over a folder of scans, where reading, computing and writing overlap."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.efficiency.launch import Folders, Launch
from eval.efficiency.runner import IMAGE_SUFFIX


def measure_folder(launch: Launch, scans: Sequence[Path], out: Path) -> dict[str, Any]:
    """Run all scans in one folder at once; seconds of the whole run, start included, and cases per hour.

    The figures are null if the run failed or left a mask out. Nothing is left running, whichever way this ends.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="folder-", dir=out, ignore_cleanup_errors=True) as scratch:
        root = Path(scratch).resolve()
        folders = Folders(root / "inputs", root / "outputs", root)
        for folder in (folders.inputs, folders.outputs, folders.report.parent):
            folder.mkdir()
            folder.chmod(0o777)  # the image may run as any user
        root.chmod(0o755)
        for scan in scans:
            shutil.copyfile(scan, folders.inputs / scan.name)
        run_name = f"gfscreen-folder-{os.getpid()}"
        process = None
        with (out / "folder.log").open("wb") as log:
            start = time.perf_counter()
            try:
                process, _ = launch.start(folders, run_name, log)
                code = process.wait()
                time_s = time.perf_counter() - start
            finally:
                launch.kill(process, run_name)
        wanted = {scan.name.removesuffix(IMAGE_SUFFIX) + ".nii.gz" for scan in scans}
        complete = code == 0 and wanted <= {path.name for path in folders.outputs.iterdir()}
    return {
        "cases": [scan.name for scan in scans],
        "exit_code": code,
        "time_s": round(time_s, 2) if complete else None,
        "cases_per_hour": round(3600.0 * len(scans) / time_s, 1) if complete else None,
    }
