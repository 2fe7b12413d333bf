"""`python -m gfscreen stats`: statistics, and if wanted a preview, of scans whose masks exist already."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import GFScreenError, InputError, UsageError
from gfscreen.results.statistics.documents import Case, csv_path, write_statistics
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.scan.volume import Volume, find_cases, read_volume
from gfscreen.scan.volume.geometry import grid_shift_mm

logger = logging.getLogger(__name__)

# Room for headers in float32 and printed decimals, too little for a flip, a shift or another spacing.
TOLERANCE_VOXELS = 0.1


@dataclass(frozen=True)
class Pair:
    """A scan and its mask. `problem` is set for a pair that is refused before it is read."""

    name: str
    image: Path
    mask: Path | None
    problem: str | None = None


def pair_up(image: Path, mask: Path) -> list[Pair]:
    """One scan with one mask, or the scans of a folder with the masks of a folder by the case's name.

    Raises UsageError if a file is given where a folder is needed.
    """
    scans = find_cases(image)
    if not mask.exists():
        raise UsageError(f"{mask}: no such file or folder; --mask takes a mask or a folder of masks")
    if mask.is_file():
        if len(scans) != 1:
            raise UsageError(f"{mask}: one mask for {len(scans)} scans; give a folder of masks, or one scan")
        return [Pair(scans[0].name, scans[0].path, mask, scans[0].problem)]
    masks = {case.name: case.path for case in find_cases(mask)}
    pairs = []
    for scan in scans:
        found = masks.get(scan.name)
        missing = None if found else f"{scan.path.name}: no mask {scan.mask_name} in {mask}; add it or leave this out"
        pairs.append(Pair(scan.name, scan.path, found, scan.problem or missing))
    return pairs


def read_pair(pair: Pair) -> tuple[Volume, NDArray[np.bool_]]:
    """A scan and its mask, bool (i, j, k), on the same grid; every label above 0 is lesion. Raises InputError."""
    if pair.problem is not None or pair.mask is None:
        raise InputError(pair.problem or f"{pair.image.name}: no mask")
    volume = read_volume(pair.image)
    mask = read_volume(pair.mask)
    expected, found = volume.geometry, mask.geometry
    if found.shape != expected.shape:
        raise InputError(
            f"{pair.mask.name}: shape {found.shape} differs from the scan's {expected.shape}; "
            "name the mask of this scan"
        )
    shift_mm = grid_shift_mm(expected.shape, expected.affine_ras_mm, found.affine_ras_mm)
    allowed_mm = TOLERANCE_VOXELS * min(expected.spacing_mm)
    if not shift_mm <= allowed_mm:  # also for NaN
        raise InputError(
            f"{pair.mask.name}: a corner lies {shift_mm:.3g} mm from the scan's, allowed are {allowed_mm:.3g} mm; "
            "resample the mask to the scan or copy the scan's affine"
        )
    return volume, mask.hu > 0


def run(image: Path, mask: Path, output: Path, preview: Path | None = None) -> int:
    """Measure every pair: 0 if all were measured, 1 if some case failed. Raises UsageError before any work."""
    csv_path(output)
    pairs = pair_up(image, mask)
    drawing = None
    if preview is not None:
        from gfscreen.results.preview.run import Preview

        drawing = Preview(preview, len(pairs))
    cases: list[Case] = []
    failed = False
    for pair in pairs:
        case = Case(pair.name)
        cases.append(case)
        try:
            volume, marked = read_pair(pair)
            case.fill(volume, measure_lesions(volume, marked))
            case.status = "ok"
            logger.info("%s: lesions: %d, %.2f ml", case.name, len(case.lesions), (case.lesion_volume_mm3 or 0) / 1000)
            if drawing is not None:
                from gfscreen.results.preview.case import shown_case

                drawing.add(shown_case(case.name, case.status, volume, marked, case.lesions))
        except GFScreenError as error:
            failed = True
            logger.error("%s", error)
            case.error = str(error)
            if drawing is not None:
                drawing.add_absent(case.name, case.status, str(error))
    write_statistics(output, cases)
    if drawing is not None:
        logger.info("%s: written", drawing.finish("GF-Screen: preview of existing masks"))
    return 1 if failed else 0
