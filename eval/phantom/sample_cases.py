"""Write sample CTs with lesions, made by the project itself: no patient, no licence."""

from __future__ import annotations

import argparse
import json
import logging
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from gfscreen.errors import OutputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eval.phantom import Kind, Scan

N = TypeVar("N", int, float)
logger = logging.getLogger(__name__)

KIND_CHOICES: dict[str, tuple[Kind, ...]] = {
    "chest": ("chest",),
    "abdomen": ("abdomen",),
    "chest-abdomen": ("chest-abdomen",),
    "both": ("chest-abdomen",),
}
TABLE_NAME = "cases.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval cases`."""
    # "-1,64,64" is a wrong value, which `run` explains, and not an unknown option.
    parser._negative_number_matcher = re.compile(r"^-\d")
    parser.add_argument("-o", "--output", metavar="DIR", required=True, help="gets images/, labels/ and cases.json")
    parser.add_argument(
        "--kind",
        metavar="|".join(KIND_CHOICES),
        help="both is one chest-abdomen scan; without --kind: one case of each of the three",
    )
    parser.add_argument("--shape", metavar="X,Y,Z", help="voxels; default: covers the usual field of view")
    parser.add_argument("--spacing", metavar="X,Y,Z", help="mm; default: 2,2,5, or what --shape needs")
    parser.add_argument("--seed", metavar="N", default="0", help="the first patient (default 0)")
    parser.add_argument("--count", metavar="N", default="1", help="patients per kind, seeds N, N+1, ... (default 1)")
    parser.add_argument("--healthy", action="store_true", help="no lesions: all-zero labels")
    parser.add_argument("--json", action="store_true", help="print the case table instead of the folder")


def run(args: argparse.Namespace) -> int:
    """Write the cases. Exit 0: done; 1: could not be written; 2: wrong usage."""
    logging.basicConfig(
        level=logging.INFO if sys.stderr.isatty() else logging.WARNING, format="%(message)s", stream=sys.stderr
    )
    try:
        table = _write_cases(args)
    except OSError as error:
        raise OutputError(
            f"{args.output}: cannot be written ({error.strerror or error}); check folder and disk"
        ) from error
    sys.stdout.write((json.dumps(table, indent=2) if args.json else str(args.output)) + "\n")
    return 0


def _write_cases(args: argparse.Namespace) -> dict[str, Any]:
    shape = _three("--shape", args.shape, int, "512,512,55")
    spacing_mm = _three("--spacing", args.spacing, float, "0.8,0.8,5")
    seed = _whole("--seed", args.seed, at_least=0)
    count = _whole("--count", args.count, at_least=1)
    if args.kind is not None and args.kind not in KIND_CHOICES:
        raise UsageError(f"--kind {args.kind!r}: unknown; choose one of {', '.join(KIND_CHOICES)}")
    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"-o {folder}: is a file; give a folder")
    known = _known_cases(folder)

    # Late: the options are checked, and --help shown, without loading SciPy and nibabel.
    from eval.phantom import KINDS, Scan
    from eval.phantom.store import write_scan

    written = []
    for kind in KINDS if args.kind is None else KIND_CHOICES[args.kind]:
        for number in range(seed, seed + count):
            try:
                scan = Scan(kind, number, shape, spacing_mm, args.healthy)
            except ValueError as error:
                raise UsageError(str(error)) from error
            for name in ("images", "labels"):
                (folder / name).mkdir(parents=True, exist_ok=True)
            case = f"{kind}_healthy_seed{number}" if args.healthy else f"{kind}_seed{number}"
            voxels = write_scan(scan, folder / "images" / f"{case}_0000.nii.gz", folder / "labels" / f"{case}.nii.gz")
            written.append(_describe(case, number, args.healthy, scan, voxels))
            known[case] = written[-1]
            # After each case, so that the table never lacks a scan that is there.
            _write_table(folder, known)
            logger.info("%s: %s voxels, %d lesions", case, "x".join(map(str, scan.grid.shape)), len(scan.lesions))
    return {"cases": written}


def _describe(case: str, seed: int, healthy: bool, scan: Scan, voxels: int) -> dict[str, Any]:
    """One entry of the case table. `chest_from_slice`: the lowest axial slice of the chest, null without any chest."""
    region = scan.region
    voxel_ml = scan.grid.spacing_mm[0] * scan.grid.spacing_mm[1] * scan.grid.spacing_mm[2] / 1000
    return {
        "name": case,
        "kind": scan.kind,
        "seed": seed,
        "healthy": healthy,
        "shape": list(scan.grid.shape),
        "spacing_mm": list(scan.grid.spacing_mm),
        "affine_ras": scan.grid.affine_ras.tolist(),
        "boundary_z_mm": round(scan.boundary_z_mm, 2),
        "chest_from_slice": region.index("chest") if "chest" in region else None,
        "label_volume_ml": round(voxels * voxel_ml, 4),
        "lesions": [lesion.as_dict() for lesion in scan.lesions],
    }


def _known_cases(folder: Path) -> dict[str, Any]:
    """Cases that an earlier call wrote into this folder, by name."""
    path = folder / TABLE_NAME
    if not path.exists():
        return {}
    try:
        return {case["name"]: case for case in json.loads(path.read_text(encoding="utf-8"))["cases"]}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: is not a case table ({error!r}); remove it or choose another folder") from error


def _write_table(folder: Path, cases: dict[str, Any]) -> None:
    table = {"cases": [cases[name] for name in sorted(cases)]}
    temporary = folder / f".{TABLE_NAME}.part"
    temporary.write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
    temporary.replace(folder / TABLE_NAME)


def _three(option: str, text: str | None, number: Callable[[str], N], example: str) -> tuple[N, N, N] | None:
    """Three comma-separated numbers, or None if the option was not given. Their limits are the grid's business."""
    if text is None:
        return None
    try:
        x, y, z = (number(part) for part in text.split(","))
    except ValueError:
        words = "whole numbers" if number is int else "numbers"
        raise UsageError(f"{option} {text!r}: expected three {words} X,Y,Z; give for example {example}") from None
    return x, y, z


def _whole(option: str, text: str, at_least: int) -> int:
    try:
        value = int(text)
    except ValueError:
        raise UsageError(f"{option} {text!r}: expected a whole number; give for example {at_least}") from None
    if value < at_least:
        raise UsageError(f"{option} {value}: must be at least {at_least}")
    return value
