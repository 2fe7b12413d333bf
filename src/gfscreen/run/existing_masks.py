"""`python -m gfscreen stats`: statistics, and if wanted preview and instance maps, of scans whose masks exist."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import GFScreenError, InputError, UsageError
from gfscreen.results.statistics.documents import MeasuredCase, csv_path, measure_case, write_statistics
from gfscreen.run.native_maps import NativeMaps
from gfscreen.run.output_folder import remove_stale_mask
from gfscreen.scan.volume import Volume, find_cases, read_volume
from gfscreen.scan.volume.geometry import grid_shift_mm
from gfscreen.scan.volume.hounsfield import refuse_mask, refuse_no_mask
from gfscreen.scan.volume.inputs import MASK_SUFFIX

if TYPE_CHECKING:  # imported when asked for
    from gfscreen.results.preview.run import Preview

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
        # A mask has the bare name, also where scans lie beside it.
        named = mask / scan.mask_name
        found = named if named.is_file() else masks.get(scan.name)
        missing = None if found else f"{scan.path.name}: no mask {scan.mask_name} in {mask}; add it or leave this out"
        pairs.append(Pair(scan.name, scan.path, found, scan.problem or missing))
    return pairs


def read_pair(pair: Pair) -> tuple[Volume, NDArray[np.bool_]]:
    """A scan and its mask, bool (i, j, k), on the same grid; every label above 0 is lesion.

    Raises InputError, also for a mask in place of a scan, and for a scan or probabilities in place of a mask.
    """
    if pair.problem is not None or pair.mask is None:
        raise InputError(pair.problem or f"{pair.image.name}: no mask")
    volume = read_volume(pair.image)
    refuse_mask(volume.hu, pair.image.name)
    mask = read_volume(pair.mask, labels=True)
    refuse_no_mask(mask.hu, pair.mask.name)
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


def run(image: Path, mask: Path, output: Path, preview: Path | None = None, instances: Path | None = None) -> int:
    """Measure every pair: 0 if all was measured, drawn and written, 1 if some of it failed.

    instances: folder for maps of which lesion a voxel belongs to. Raises UsageError before any work.

    Whatever goes wrong in one case is told of that case, and the others go on.
    """
    csv_path(output)
    pairs = pair_up(image, mask)
    maps = NativeMaps(instances)
    files = [path for pair in pairs for path in (pair.image, pair.mask) if path is not None]
    maps.check([image, mask, *(path.parent for path in files)])
    drawing = None
    if preview is not None:
        from gfscreen.results.preview.run import Preview

        drawing = Preview(preview, len(pairs))
    cases, complete = [], True
    for pair in pairs:
        case, drawn = _measured(pair, drawing, maps)
        cases.append(case)
        complete = complete and drawn and case.status == "ok"
    written = _done(output, lambda: write_statistics(output, cases))
    complete = written and complete
    if drawing is not None:
        table = csv_path(output) if written else None
        complete = _done(drawing.folder, partial(_finish, drawing, table)) and complete
    return 0 if complete else 1


def _measured(pair: Pair, drawing: Preview | None, maps: NativeMaps) -> tuple[MeasuredCase, bool]:
    """A case, measured or with the reason why not; and whether it was drawn and mapped, if that was asked for."""
    name = pair.name + MASK_SUFFIX
    for path in maps.paths(name):
        _done(path, partial(remove_stale_mask, path))
    try:
        volume, marked = read_pair(pair)
        case = measure_case(pair.name, "ok", volume, marked)
    except Exception as error:
        case = MeasuredCase(pair.name, error=_told(pair.image.name, error))
        if drawing is not None:
            drawing.add_absent(case.name, case.status, str(case.error))
        return case, False
    logger.info("%s: lesions: %d, %.2f ml", case.name, len(case.lesions), (case.lesion_volume_mm3 or 0) / 1000)
    mapped = _done(pair.image, partial(maps.write, name, volume, marked, None)) if maps.folders else True
    if drawing is None:
        return case, mapped
    try:
        from gfscreen.results.preview.case import shown_case

        drawing.add(shown_case(case.name, case.status, volume, marked, case.lesions), pair.mask)
    except Exception as error:
        drawing.add_absent(case.name, case.status, f"its preview could not be made ({_told(pair.image.name, error)})")
        return case, False
    return case, mapped


def _told(name: str, error: Exception) -> str:
    """Log an error, with its trace if it is a fault of ours; returns the line."""
    if isinstance(error, GFScreenError):
        logger.error("%s", error)
        return str(error)
    line = f"{name}: internal error, {type(error).__name__}: {error}"
    logger.error("%s", line, exc_info=error)
    return line


def _finish(drawing: Preview, table: Path | None) -> None:
    logger.info("%s: written", drawing.finish("GF-Screen: preview of existing masks", statistics=table))


def _done(target: Path, work: Callable[[], None]) -> bool:
    """Whether it went well; if not, the error is logged, and what is left to do goes on."""
    try:
        work()
    except Exception as error:
        _told(target.name, error)
        return False
    return True
