"""How far a converted model is from nnU-Net's own predictor: its lesion probability voxel by voxel, and the masks.

`nnunet-peer --probabilities` makes the other side. Ours is read dense, in single precision, without mirroring and
without rules on findings: what is left are nnU-Net's half precision and the order of sums.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.mask_agreement import compare_masks
from gfscreen.config import Plan
from gfscreen.errors import UsageError
from gfscreen.networks.engines.base import Engine
from gfscreen.scan.volume import Volume

SUFFIX = "_0000.nii.gz"
_BORDER_VOXELS = 8


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval nnunet-parity`."""
    parser.add_argument(
        "-i", "--input", type=Path, nargs="+", required=True, metavar="SCAN", help="scans X_0000.nii.gz"
    )
    parser.add_argument(
        "--peer", type=Path, required=True, metavar="DIR", help="X.nii.gz and X.npz of `nnunet-peer --probabilities`"
    )
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="the same model, converted")
    parser.add_argument("--engine", choices=("torch", "openvino"), default="torch", help="default torch")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the figures to this JSON file, too")


def run(args: argparse.Namespace) -> int:
    """Compare. Exit 0: every scan was compared; 2: wrong usage."""
    from gfscreen.config import read_plan
    from gfscreen.networks.engines.select import load_engine
    from gfscreen.scan.volume import read_volume

    plan = read_plan(args.weights)
    if plan.nnunet is None:
        raise UsageError(f"{args.weights}: is no nnU-Net; convert one with `gfscreen convert --nnunet`")
    pairs = [(path, *_theirs(path, args.peer)) for path in args.input]
    engine = load_engine(args.weights, device="cpu", engine=args.engine, precision="fp32", gpu_memory_limit_mb=None)
    cases = []
    for path, probability, mask in pairs:
        name = path.name.removesuffix(SUFFIX)
        cases.append({"name": name, **compared(read_volume(path), plan, engine, _loaded(probability), mask)})
        sys.stdout.write(json.dumps(cases[-1]) + "\n")
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(json.dumps({"engine": args.engine, "cases": cases}, indent=2) + "\n", encoding="utf-8")
    return 0


def compared(
    volume: Volume, plan: Plan, engine: Engine, probability: NDArray[np.floating[Any]], mask: Path
) -> dict[str, Any]:
    """Differences from the peer over all voxels of a scan, as JSON values.

    probability: the peer's, (i, j, k) on the scan's own grid. mask: the peer's, a file. Raises UsageError where their
    size is not that of the scan.
    """
    import nibabel as nib

    theirs = np.asarray(nib.load(mask).dataobj)
    for what, array in (("probabilities", probability), ("mask", theirs)):
        if array.shape != volume.hu.shape:
            raise UsageError(f"{mask}: the {what} of the peer have {array.shape} voxels, the scan {volume.hu.shape}")
    own, own_mask, patches, focus_s = _read_dense(volume, plan, engine)
    difference = np.abs(own - probability.astype(np.float32))
    masks = compare_masks(theirs, own_mask, volume.geometry.voxel_mm3 / 1000.0)
    return {
        "patches": patches,
        "mean_difference": float(f"{difference.mean():.2e}"),
        "max_difference": round(float(difference.max()), 4),
        "max_difference_inside": _inside(difference),
        "within_0.02_of_half": round(float((np.abs(own - 0.5) < 0.02).mean()), 4),
        "dice": round(masks["dice"], 6),
        "peer_ml": masks["before_ml"],
        "own_ml": masks["after_ml"],
        "focus_s": round(focus_s, 1),
    }


def _inside(difference: NDArray[np.float32]) -> float | None:
    """The largest difference away from the scan's border, where half precision is worst; None: no such voxels."""
    inside = difference[(slice(_BORDER_VOXELS, -_BORDER_VOXELS),) * 3]
    return round(float(inside.max()), 4) if inside.size else None


def _read_dense(
    volume: Volume, plan: Plan, engine: Engine
) -> tuple[NDArray[np.float32], NDArray[np.uint8], int, float]:
    """Lesion probability and mask (i, j, k) on the scan's grid, how many patches were read, and in how many seconds."""
    from gfscreen.scan.nnunet_grid import restore_scores
    from gfscreen.screening.budget import Allowance, Budget
    from gfscreen.screening.patch_mask import patch_mask
    from gfscreen.screening.patches import PatchStitcher, lesion_probability, read_patches
    from gfscreen.screening.progress import no_progress
    from gfscreen.screening.screening import prepare
    from gfscreen.screening.settings import ScreeningSettings

    bare = replace(plan, finding_peak=plan.lesion_threshold, min_finding_ml=0.0)
    patches = prepare(volume, bare, ScreeningSettings(), Budget()).patches
    assert patches is not None
    stitcher = PatchStitcher(patches.scan.grid.shape, patches.config)
    began_s = time.monotonic()
    read_patches(patches, patches.windows, stitcher, engine, Allowance(Budget(), float("inf")), no_progress)
    focus_s = time.monotonic() - began_s
    scores, grid = stitcher.finish(), patches.scan.grid
    mask, _ = patch_mask(scores, grid, volume, bare)
    z, y, x = grid.cropped_shape
    probability = np.zeros(volume.hu.shape, np.float32)
    inside = tuple(slice(*part) for part in grid.crop)
    grid.view(probability, volume)[inside] = lesion_probability(
        restore_scores(scores, grid, ((0, z), (0, y), (0, x))), patches.config
    )
    return probability, mask, len(patches.windows), focus_s


def _theirs(scan: Path, peer: Path) -> tuple[Path, Path]:
    if not scan.name.endswith(SUFFIX):
        raise UsageError(f"{scan}: expected a scan X{SUFFIX}")
    name = scan.name.removesuffix(SUFFIX)
    found = peer / f"{name}.npz", peer / f"{name}.nii.gz"
    for path in found:
        if not path.is_file():
            raise UsageError(f"{path}: no such file; make it with `python -m eval nnunet-peer --probabilities`")
    return found


def _loaded(path: Path) -> NDArray[np.floating[Any]]:
    try:
        with np.load(path) as arrays:
            found: NDArray[np.floating[Any]] = arrays["lesion"]
            return found
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{path}: holds no probabilities ({error}); make it with `nnunet-peer` again") from error
