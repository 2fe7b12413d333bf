"""`gfscreen series` lists the series of a DICOM study; `gfscreen seg` turns a mask into a DICOM SEG of one of them."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfscreen.command.arguments import Commands

if TYPE_CHECKING:
    from gfscreen.scan.volume.dicom.series import Series

logger = logging.getLogger(__name__)


def add_series_option(group: Any) -> None:
    """The option that chooses a series, the same wherever DICOM is read."""
    group.add_argument(
        "--series",
        metavar="UID|NUMBER",
        help="of a DICOM study, the series to take (default: axial, original, longest, most slices)",
    )


def add_series(commands: Commands) -> None:
    """Add `series`."""
    parser = commands.add_parser("series", help="list the series of a DICOM study")
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="IN", help="a DICOM folder or zip")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.set_defaults(run=run_series)


def run_series(args: argparse.Namespace) -> int:
    """Print every series, which one `predict` would take, and why each other is left out."""
    from gfscreen.errors import InputError
    from gfscreen.scan.volume.dicom.choice import choose
    from gfscreen.scan.volume.dicom.series import survey
    from gfscreen.scan.volume.dicom.source import opened

    with opened(_existing(args.input)) as folder:
        series, others = survey(folder, args.input.name)
        try:
            choice, reason = choose(series, args.input.name), None
        except InputError as error:
            choice, reason = None, str(error)
    chosen, flaws = (choice.series, choice.flaws) if choice else (None, {})
    rows = [_row(one, one is chosen, one.problem or flaws.get(one.uid)) for one in series]
    if args.json:
        files = [{"reason": other.reason, "file": other.path.name} for other in others]
        shown = json.dumps({"series": rows, "no_images": files, "error": reason}, indent=2)
    else:
        lines = [f"{one.label}\n    {one.uid}\n    {_verdict(row)}" for one, row in zip(series, rows, strict=True)]
        lines += [f"{other.path.name}: left out, {other.reason}" for other in others]
        shown = "\n".join(lines)
    sys.stdout.write(shown + "\n")
    if reason is not None:
        logger.error("%s", reason)
    return 0 if chosen is not None else 1


def _existing(path: Path) -> Path:
    from gfscreen.errors import UsageError

    if not path.exists():
        raise UsageError(f"{path}: no such file or folder; -i takes a DICOM folder or zip")
    return path


def _row(series: Series, chosen: bool, left_out: str | None) -> dict[str, Any]:
    return {
        "uid": series.uid,
        "number": series.number,
        "description": series.images[0].description,
        "plane": series.plane,
        "slices": len(series.images),
        "length_mm": None if series.length_mm is None else round(series.length_mm, 2),
        "original": series.original,
        "left_out": left_out,
        "chosen": chosen,
    }


def _verdict(row: dict[str, Any]) -> str:
    if row["chosen"]:
        return "chosen"
    return f"left out, {row['left_out']}" if row["left_out"] else "can be chosen with --series"


def add_seg(commands: Commands) -> None:
    """Add `seg`."""
    parser = commands.add_parser("seg", help="turn a mask into a DICOM SEG of its series")
    parser.add_argument("-i", "--input", type=Path, required=True, metavar="IN", help="the DICOM folder or zip")
    parser.add_argument("--mask", type=Path, required=True, metavar="X.nii.gz", help="mask of {0, 1} on its grid")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="X.seg.dcm", help="the SEG to write")
    add_series_option(parser)
    parser.set_defaults(run=run_seg)


def run_seg(args: argparse.Namespace) -> int:
    """Write a mask as DICOM SEG, a segment per lesion; exit code 0. Errors are raised for the caller to report."""
    from gfscreen.errors import InputError
    from gfscreen.results.statistics.parts import instance_map
    from gfscreen.scan.volume.dicom.seg import read_mask_for_seg, write_seg

    try:
        mask, geometry = read_mask_for_seg(args.mask)
    except OSError as error:
        raise InputError(f"{args.mask}: not readable ({error.strerror or error}); name a NIfTI mask") from error
    instances = instance_map(mask, geometry, args.output)
    write_seg(args.output, instances, geometry, _existing(args.input), args.series)
    found = int(instances.max(initial=0))
    logger.info("%s: written, %d lesions, %d lesion voxels", args.output, found, int(mask.sum()))
    return 0
