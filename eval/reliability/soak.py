"""Screen 300 cases in one process and see whether its memory stays flat.

Every kind of end is among them: masks, errors, scans without body, other file types, sizes that change all the time.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gfscreen.errors import UsageError

RESULT_FILE = "soak.json"
MAX_SLOPE_MB = 1.0
WARM_UP_CASES = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval soak`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}")
    parser.add_argument("--cases", type=int, default=300, metavar="N", help="default 300")
    parser.add_argument("--weights", type=Path, metavar="DIR", help="default: networks of a few operations, OpenVINO")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="openvino")


class _Memory(logging.Handler):
    """Takes the resident memory of this process, MB, each time a case has ended."""

    def __init__(self, names: set[str]) -> None:
        super().__init__(logging.INFO)
        import psutil

        self._process = psutil.Process()
        self._left = set(names)
        self.rss_mb: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        """One message per case names it first: `name: ok, ...` or `name_0000.nii.gz: what was wrong`."""
        name = record.getMessage().partition(": ")[0].partition("_0000")[0]
        ended = record.levelno >= logging.ERROR or record.getMessage().startswith((f"{name}: ok", f"{name}: degraded"))
        if ended and name in self._left:
            self._left.remove(name)
            self.rss_mb.append(round(self._process.memory_info().rss / 2**20, 2))


def make_inputs(folder: Path, count: int) -> set[str]:
    """Scans of changing size, every tenth damaged, some not NIfTI; returns the names of the cases."""
    import numpy as np

    from eval.reliability.fuzz.seeds import meta_image, nrrd
    from eval.reliability.torture.patient import Patient, paint
    from eval.reliability.torture.store import plain_affine, save

    folder.mkdir(parents=True)
    names = set()
    for number in range(count):
        name = f"case{number:04d}"
        names.add(name)
        path = folder / f"{name}_0000.nii.gz"
        if number % 30 == 7:
            (folder / f"{name}_0000.mha").write_bytes(meta_image(compressed=True))
        elif number % 30 == 17:
            (folder / f"{name}_0000.nrrd").write_bytes(nrrd("gzip"))
        elif number % 10 == 9:
            path.write_bytes(b"damaged" * number)
        else:
            shape = (40 + number * 7 % 31, 36 + number * 5 % 23, 20 + number * 3 % 41)
            affine = plain_affine((8.0, 8.0, 8.0), shape)
            hu, _ = paint(shape, affine, Patient(trunk="none" if number % 10 == 3 else "torso", lungs=number % 3))
            save(path, hu if number % 4 else hu.astype(np.float32), affine)
    return names


def slope_mb_per_case(rss_mb: Sequence[float], skip: int = WARM_UP_CASES) -> float | None:
    """Slope of the least-squares line through memory over cases, the first `skip` left out; None below three points."""
    import numpy as np

    kept = np.asarray(rss_mb[skip:], np.float64)
    if len(kept) < 3:
        return None
    return float(np.polyfit(np.arange(len(kept)), kept, 1)[0])


def soak(folder: Path, count: int, weights: Path | None, engine: str) -> dict[str, Any]:
    """Make the inputs in `folder`, screen them all in this process. Returns the result as JSON values."""
    from eval.reliability.threshold_engine import write_threshold_weights
    from gfscreen.run.options import Options
    from gfscreen.run.predict import predict

    names = make_inputs(folder / "inputs", count)
    weights = write_threshold_weights(folder / "weights") if weights is None else weights
    memory = _Memory(names)
    logger = logging.getLogger("gfscreen")
    before = logger.level, logger.propagate
    logger.addHandler(memory)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    began = time.monotonic()
    try:
        options = Options(folder / "inputs", folder / "outputs", weights, device="cpu", engine=engine)
        code = predict(options)
    finally:
        logger.removeHandler(memory)
        logger.setLevel(before[0])
        logger.propagate = before[1]
    written = len(list((folder / "outputs").iterdir()))
    slope = slope_mb_per_case(memory.rss_mb)
    return {
        "cases": count,
        "ended": len(memory.rss_mb),
        "masks": written,
        "exit_code": code,
        "seconds": round(time.monotonic() - began, 1),
        "engine": engine,
        "slope_mb_per_case": None if slope is None else round(slope, 4),
        "limit_mb_per_case": MAX_SLOPE_MB,
        "rss_after_warm_up_mb": memory.rss_mb[WARM_UP_CASES] if len(memory.rss_mb) > WARM_UP_CASES else None,
        "rss_at_end_mb": memory.rss_mb[-1] if memory.rss_mb else None,
        "rss_mb": memory.rss_mb,
    }


def run(args: argparse.Namespace) -> int:
    """Soak. Exit 0: memory is flat and every case ended; 1: not; 2: wrong usage."""
    if args.cases < 1:
        raise UsageError("--cases must be at least 1")
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        result = soak(Path(folder), args.cases, args.weights, args.engine)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / RESULT_FILE).write_text(json.dumps(result) + "\n", encoding="utf-8")
    shown = {key: value for key, value in result.items() if key != "rss_mb"}
    sys.stdout.write(json.dumps(shown, indent=2) + "\n")
    slope = result["slope_mb_per_case"]
    return 0 if result["ended"] == args.cases and slope is not None and slope < MAX_SLOPE_MB else 1
