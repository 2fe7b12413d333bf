"""Check masks against the challenge's rules before anyone scores them: names, values, type, geometry, nothing else."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.errors import UsageError

SCAN_SUFFIX = "_0000.nii.gz"
MASK_SUFFIX = ".nii.gz"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval check`."""
    parser.add_argument("--images", type=Path, required=True, metavar="DIR", help="the scans, X_0000.nii.gz")
    parser.add_argument("--pred", type=Path, required=True, metavar="DIR", help="the masks, X.nii.gz")


def run(args: argparse.Namespace) -> int:
    """Print one line per mask and per problem. Exit 0: all rules hold; 1: some do not; 2: wrong usage."""
    for folder in (args.images, args.pred):
        if not folder.is_dir():
            raise UsageError(f"{folder}: no such folder")
    scans = sorted(path for path in args.images.iterdir() if path.name.endswith(SCAN_SUFFIX))
    if not scans:
        raise UsageError(f"{args.images}: no X{SCAN_SUFFIX} in it")
    problems = check_folder(scans, args.pred)
    for scan in scans:
        if not any(problem.startswith(f"{mask_name(scan)}:") for problem in problems):
            sys.stdout.write(f"{mask_name(scan)}: ok\n")
    for problem in problems:
        sys.stdout.write(problem + "\n")
    return 1 if problems else 0


def mask_name(scan: Path) -> str:
    """Name of the mask that belongs to a scan."""
    return scan.name.removesuffix(SCAN_SUFFIX) + MASK_SUFFIX


def check_folder(scans: list[Path], masks: Path) -> list[str]:
    """One line per broken rule, beginning with the file's name; empty if all hold."""
    expected = {mask_name(scan): scan for scan in scans}
    found = {path.name for path in masks.iterdir()}
    problems = [f"{name}: missing; it would go unscored" for name in sorted(set(expected) - found)]
    problems += [f"{name}: not asked for; nothing but the masks may be there" for name in sorted(found - set(expected))]
    for name in sorted(found & set(expected)):
        problems += [f"{name}: {problem}" for problem in check_mask(expected[name], masks / name)]
    return problems


def check_mask(scan: Path, mask: Path) -> list[str]:
    """What is wrong with one mask, read as the organisers read it: nibabel, `np.uint8(get_fdata())`."""
    import nibabel as nib

    try:
        image: Any = nib.load(scan)
        label: Any = nib.load(mask)
        values = np.asarray(label.get_fdata())
    except Exception as error:  # nibabel raises many kinds for a damaged file
        return [f"not readable ({error})"]
    if label.shape != image.shape:
        return [f"expected shape {image.shape}, got {label.shape}"]
    problems = []
    if not np.allclose(label.affine, image.affine, atol=1e-3):
        problems.append("expected the affine of the scan, got another")
    if not np.allclose(label.header.get_zooms()[:3], image.header.get_zooms()[:3], atol=1e-4):
        problems.append(f"expected spacing {image.header.get_zooms()[:3]}, got {label.header.get_zooms()[:3]}")
    cast = values.astype(np.uint8)
    if not np.array_equal(cast, values):
        problems.append("expected whole numbers; the cast to uint8 changes values")
    if cast.max(initial=0) > 1:
        problems.append(f"expected labels 0 and 1, got {int(cast.max())}, which scores 0")
    return problems
