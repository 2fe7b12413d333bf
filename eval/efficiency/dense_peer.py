"""The peer of the benchmark: the same network as a dense sliding window, MONAI and eager torch, one scan at a time.

What most entries run: no Glance, no OpenVINO. It shares with the product what is not the point of the comparison,
reading, the model grid with its body box, and writing, so that the ratio of the times is that of start and search.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from eval.efficiency.runner import IMAGE_SUFFIX, find_cases
from gfscreen.errors import UsageError

STAGES = ("import", "load", "read", "preprocess", "focus", "write", "total")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval dense-peer`."""
    parser.add_argument("-i", "--input", type=Path, required=True, help="a scan X_0000.nii.gz, or a folder of them")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the masks")
    parser.add_argument("--weights", type=Path, required=True, help="weights folder with focus.safetensors")
    parser.add_argument("--overlap", type=float, help="default: the plan's")
    parser.add_argument("--cpus", type=int, help="use this many cores (default: all)")
    parser.add_argument("--bf16", action="store_true", help="bfloat16 autocast (default: fp32)")
    parser.add_argument("--report", type=Path, help="write seconds per stage to this JSON file")


def run(args: argparse.Namespace) -> int:
    """Segment densely. Exit 0: all masks written; 2: no scan."""
    cases = find_cases(args.input)
    if not cases:
        raise UsageError(f"{args.input}: no scan X{IMAGE_SUFFIX}")
    if args.cpus is not None:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: args.cpus])
    reports = [segment(path, args) for path in cases]
    if args.report is not None:
        args.report.parent.mkdir(parents=True, exist_ok=True)
        args.report.write_text(json.dumps({"cases": reports}, indent=2) + "\n", encoding="utf-8")
    return 0


def segment(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Write the mask of one scan; returns its name, window count and seconds by stage."""
    seconds: dict[str, float] = {}
    started = time.monotonic()
    with _timed(seconds, "import"):
        import numpy as np
        import torch
        from monai.data.utils import dense_patch_slices
        from monai.inferers import sliding_window_inference

        from gfscreen.networks.models.focus import FocusProbability
        from gfscreen.networks.models.weights import load_stored
        from gfscreen.scan.grid import to_model, to_native_mask
        from gfscreen.scan.volume import read_volume, write_mask
        from gfscreen.screening.windows import gather_for_focus
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    with _timed(seconds, "load"):
        plan, _, focus = load_stored(args.weights)
        network = FocusProbability(focus).eval()
    overlap = plan.overlap if args.overlap is None else args.overlap
    with _timed(seconds, "read"):
        volume = read_volume(path)
    with _timed(seconds, "preprocess"):
        scan = to_model(volume, plan)
        # One region per scan, as the published code has it.
        shape = scan.grid.shape
        seen = gather_for_focus(scan.hu, (0, 0, 0), shape, "chest" if scan.chest.any() else "abdomen", plan)
    with _timed(seconds, "focus"), torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
        probability = sliding_window_inference(
            torch.from_numpy(np.ascontiguousarray(seen)).reshape(1, -1, *shape),
            plan.sub_volume_voxels,
            1,
            lambda x: network(x)[:, None],
            overlap=overlap,
        )
    interval = tuple(n - int(n * overlap) for n in plan.sub_volume_voxels)
    padded = tuple(max(n, size) for n, size in zip(shape, plan.sub_volume_voxels, strict=True))
    windows = len(dense_patch_slices(padded, plan.sub_volume_voxels, interval))
    with _timed(seconds, "write"):
        args.output.mkdir(parents=True, exist_ok=True)
        mask = to_native_mask(probability[0, 0].float().numpy(), scan.grid, volume, plan.lesion_threshold)
        name = path.name.removesuffix(IMAGE_SUFFIX)
        write_mask(args.output / f"{name}.nii.gz", mask, volume.geometry)
    seconds["total"] = time.monotonic() - started
    rounded = {stage: round(seconds[stage], 3) for stage in STAGES}
    return {"name": name, "status": "ok", "windows_total": windows, "windows_done": windows, "seconds": rounded}


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    start = time.monotonic()
    yield
    seconds[stage] = time.monotonic() - start
