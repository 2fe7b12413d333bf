"""Time and memory of scoring one pair, ours against the organisers' method, each in a process of its own."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import Spacing
from gfscreen.errors import UsageError

Number = TypeVar("Number", int, float)

# Two ways to lay out lesions: what the bounding box helps with, and what it does not.
LAYOUTS = ("single", "scattered")


def make_pair(shape: tuple[int, int, int], spacing_mm: Spacing, layout: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """Truth and prediction, uint8 (x, y, z): balls of 12 mm radius, the prediction shifted by 4 voxels along x.

    `single`: one lesion in the middle. `scattered`: nine, one near each corner of the scan and one in the middle.
    """
    inset = np.array([0.1, 0.1, 0.1])
    centres = [np.array([0.5, 0.5, 0.5])]
    if layout == "scattered":
        centres += [inset + (1 - 2 * inset) * np.array([i >> 2 & 1, i >> 1 & 1, i & 1]) for i in range(8)]
    truth, prediction = np.zeros(shape, np.uint8, order="F"), np.zeros(shape, np.uint8, order="F")
    for centre in centres:
        for mask, shift in ((truth, 0), (prediction, 4)):
            _add_ball(mask, centre * np.array(shape) + np.array([shift, 0, 0]), 12.0, spacing_mm)
    return truth, prediction


def _add_ball(mask: NDArray[Any], centre: NDArray[Any], radius_mm: float, spacing_mm: Spacing) -> None:
    low = [max(0, int(c - radius_mm / s) - 1) for c, s in zip(centre, spacing_mm, strict=True)]
    high = [min(n, int(c + radius_mm / s) + 2) for c, s, n in zip(centre, spacing_mm, mask.shape, strict=True)]
    grid = np.ogrid[tuple(slice(a, b) for a, b in zip(low, high, strict=True))]
    squares = [((g - c) * s) ** 2 for g, c, s in zip(grid, centre, spacing_mm, strict=True)]
    inside = squares[0] + squares[1] + squares[2] <= radius_mm**2
    mask[tuple(slice(a, b) for a, b in zip(low, high, strict=True))][inside] = 1


def ours(truth: Path, prediction: Path) -> tuple[float, float]:
    """DSC and NSD as `python -m eval score` takes them, reading included, detection left out."""
    from eval.accuracy.masks import read_mask
    from eval.accuracy.metrics import score_pair

    a, b = read_mask(truth), read_mask(prediction)
    score = score_pair(a.voxels, b.voxels, a.spacing_mm)
    return score.dsc, score.nsd


def organisers(truth: Path, prediction: Path) -> tuple[float, float]:
    """DSC and NSD by whole-volume float64 reading and the surface-distance library, as the organisers take them."""
    import nibabel as nib
    from surface_distance import metrics as library

    image = nib.load(truth)
    a, b = np.uint8(image.get_fdata()), np.uint8(nib.load(prediction).get_fdata())
    dsc = 2 * (a & b).sum() / (int(a.sum()) + int(b.sum()))
    with warnings.catch_warnings():  # the library uses SciPy's old module names
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = library.compute_surface_distances(a > 0, b > 0, image.header.get_zooms())
    return float(dsc), float(library.compute_surface_dice_at_tolerance(distances, 2.0))


_METHODS = {"ours": ours, "organisers": organisers}


def _child(method: str, truth: Path, prediction: Path, pipe: Connection) -> None:
    start = time.perf_counter()
    dsc, nsd = _METHODS[method](truth, prediction)
    seconds = time.perf_counter() - start
    pipe.send((dsc, nsd, seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(method: str, truth: Path, prediction: Path) -> dict[str, Any]:
    """Run one method in a fresh process: DSC, NSD, seconds (imports included) and peak RSS in MB; nulls if killed."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(method, truth, prediction, send))
    process.start()
    send.close()
    try:
        dsc, nsd, seconds, peak = receive.recv()
    except EOFError:
        process.join()
        return {"dsc": None, "nsd": None, "seconds": None, "peak_rss_mb": None, "exit_code": process.exitcode}
    process.join()
    return {"dsc": dsc, "nsd": nsd, "seconds": seconds, "peak_rss_mb": peak, "exit_code": process.exitcode}


def _three(text: str, option: str, kind: Callable[[str], Number]) -> tuple[Number, Number, Number]:
    try:
        x, y, z = (kind(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text}: expected three numbers X,Y,Z") from None
    if min(x, y, z) <= 0:
        raise UsageError(f"{option} {text}: expected numbers above 0")
    return x, y, z


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval score-benchmark`."""
    parser.add_argument("--shape", default="512,512,554", help="X,Y,Z (default: %(default)s)")
    parser.add_argument("--spacing", default="0.8,0.8,1", help="mm (default: %(default)s)")
    parser.add_argument("--layout", choices=[*LAYOUTS, "both"], default="both", help="default: %(default)s")
    parser.add_argument("--skip-organisers", action="store_true", help="measure ours only (theirs may need 10 GB)")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(args: argparse.Namespace) -> int:
    """Measure. Exit 0: equal scores to 4 decimals; 1: they differ or a process died. Raises UsageError."""
    import nibabel as nib

    shape, spacing = _three(args.shape, "--shape", int), _three(args.spacing, "--spacing", float)
    methods = ["ours"] if args.skip_organisers else ["ours", "organisers"]
    result: dict[str, Any] = {"shape": shape, "spacing_mm": spacing, "layouts": {}}
    agree = True
    for layout in LAYOUTS if args.layout == "both" else [args.layout]:
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / "truth.nii.gz", Path(folder) / "prediction.nii.gz"]
            for path, mask in zip(paths, make_pair(shape, spacing, layout), strict=True):
                nib.save(nib.Nifti1Image(mask, np.diag([*spacing, 1.0])), path)
            rows = {method: measure(method, paths[0], paths[1]) for method in methods}
        seconds = [rows[m]["seconds"] for m in methods]
        ratio = seconds[1] / seconds[0] if len(seconds) == 2 and None not in seconds else None
        result["layouts"][layout] = {**rows, "ratio": ratio}
        keys = [None if r["nsd"] is None else (round(r["dsc"], 4), round(r["nsd"], 4)) for r in rows.values()]
        agree &= None not in keys and len(set(keys)) == 1
    sys.stdout.write(json.dumps(result, indent=2) + "\n" if args.json else _brief(result))
    return 0 if agree else 1


def _brief(result: dict[str, Any]) -> str:
    lines = []
    for layout, rows in result["layouts"].items():
        for method, row in rows.items():
            if method == "ratio" or row["seconds"] is None:
                continue
            lines.append(
                f"{layout:9} {method:10} DSC {row['dsc']:.4f} NSD {row['nsd']:.4f} "
                f"{row['seconds']:6.2f} s {row['peak_rss_mb']:7.0f} MB"
            )
        if rows["ratio"] is not None:
            lines.append(f"{layout:9} the organisers' method takes {rows['ratio']:.1f} times as long")
    return "\n".join(lines) + "\n"
