"""Do two runs give the same masks? Dice of each pair, for an optimisation that must not change the result."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import UsageError

SUFFIX = ".nii.gz"
# What counts as unchanged.
SAME_DICE = 0.995


def compare_masks(before: NDArray[np.generic], after: NDArray[np.generic], voxel_ml: float) -> dict[str, Any]:
    """Dice of two binary masks (i, j, k), their volumes in ml, and the volume in which they differ.

    Two empty masks have Dice 1, one empty and one not have 0.
    """
    a, b = np.asarray(before) > 0, np.asarray(after) > 0
    in_both, total = int((a & b).sum()), int(a.sum()) + int(b.sum())
    return {
        "dice": 2.0 * in_both / total if total else 1.0,
        "before_ml": round(float(a.sum()) * voxel_ml, 4),
        "after_ml": round(float(b.sum()) * voxel_ml, 4),
        "different_ml": round(float(total - 2 * in_both) * voxel_ml, 4),
    }


def compare_folders(before: Path, after: Path) -> dict[str, Any]:
    """Every mask that both folders hold. Raises ValueError for masks of different size."""
    names = [{path.name for path in folder.glob(f"*{SUFFIX}")} for folder in (before, after)]
    cases = []
    for name in sorted(names[0] & names[1]):
        first, second = nib.load(before / name), nib.load(after / name)
        if first.shape != second.shape:
            raise ValueError(f"{name}: {first.shape} voxels in {before}, {second.shape} in {after}")
        voxel_ml = abs(float(np.linalg.det(first.affine[:3, :3]))) / 1000.0
        masks = [np.asarray(image.dataobj) for image in (first, second)]
        cases.append({"name": name.removesuffix(SUFFIX), **compare_masks(masks[0], masks[1], voxel_ml)})
    dice = [case["dice"] for case in cases]
    both_empty = sum(case["before_ml"] == case["after_ml"] == 0.0 for case in cases)
    return {
        "cases": cases,
        "both_empty": both_empty,
        "min_dice": min(dice, default=None),
        "mean_dice": float(np.mean(dice)) if dice else None,
        "changed": [case["name"] for case in cases if case["dice"] < SAME_DICE],
        "only_before": sorted(names[0] - names[1]),
        "only_after": sorted(names[1] - names[0]),
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval ab`."""
    parser.add_argument("before", type=Path, help="folder of masks X.nii.gz")
    parser.add_argument("after", type=Path, help="folder of masks X.nii.gz of the same cases")
    parser.add_argument("-o", "--output", type=Path, help="write the result to this JSON file")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Compare. Exit 0: every Dice at least 0.995 and no mask missing; 1: some below; 2: nothing to compare."""
    try:
        result = compare_folders(args.before, args.after)
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    if not result["cases"]:
        raise UsageError(f"{args.before} and {args.after} share no mask X{SUFFIX}")
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text if args.json else _brief(result))
    return int(bool(result["changed"] or result["only_before"] or result["only_after"]))


def _brief(result: dict[str, Any]) -> str:
    lines = [
        f"{case['name']}: Dice {case['dice']:.4f}, {case['before_ml']:.2f} ml -> {case['after_ml']:.2f} ml, "
        f"{case['different_ml']:.2f} ml differ"
        for case in result["cases"]
    ]
    lines.append(
        f"{len(result['cases'])} masks ({result['both_empty']} empty in both): Dice at least {result['min_dice']:.4f}, "
        f"mean {result['mean_dice']:.4f}; {len(result['changed'])} below {SAME_DICE}"
    )
    lines += [f"only before: {name}" for name in result["only_before"]]
    lines += [f"only after: {name}" for name in result["only_after"]]
    return "\n".join(lines) + "\n"
