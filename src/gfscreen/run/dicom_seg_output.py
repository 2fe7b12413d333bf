"""`predict --dicom-seg`: every mask also as a DICOM SEG of the series that it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError, UsageError
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.run.output_folder import prepare_output
from gfscreen.scan.volume import InputCase
from gfscreen.scan.volume.dicom.seg import SEG_SUFFIX, check_available, check_series, write_seg
from gfscreen.scan.volume.geometry import Geometry
from gfscreen.scan.volume.inputs import volume_suffix


def seg_path(case: InputCase, folder: Path) -> Path:
    """Where the SEG of a case goes."""
    return folder / (case.name + SEG_SUFFIX)


def check_seg_output(cases: list[InputCase], folder: Path, series: str | None = None) -> None:
    """See before any work that SEGs can be made of these cases and written there.

    Of each case the headers of the series that will be screened are looked at. series: as for `read_volume`. What
    stands in the way is told of all cases at once, in one line. Raises UsageError, OutputError.
    """
    check_available()
    volumes = [case.path.name for case in cases if volume_suffix(case.path) is not None]
    if volumes:
        raise UsageError(f"--dicom-seg: {volumes[0]} is no DICOM series, a SEG needs one; name a DICOM folder or zip")
    prepare_output(folder)
    problems = [problem for case in cases if (problem := _problem_of(case, seg_path(case, folder), series))]
    if problems:
        raise OutputError(" | ".join(problems))


def _problem_of(case: InputCase, target: Path, series: str | None) -> str | None:
    """Why no SEG can be made of a case, or written at its place; None if it can, or the case fails anyway."""
    if case.problem is not None:
        return None
    try:
        if target.is_dir() and not target.is_symlink():
            return f"{target}: cannot be written (is a folder); move it away"
        target.lstat()
    except FileNotFoundError:
        pass
    except OSError as error:
        return f"{target}: cannot be written ({error.strerror or error}); shorten the name of the folder or zip"
    try:
        check_series(case.path, series)
    except OutputError as error:
        return str(error)
    except (InputError, OSError):
        # Nothing is lost: its reading will tell, before it is screened.
        return None
    return None


def write_seg_of(
    case: InputCase, mask: NDArray[np.uint8], geometry: Geometry, target: Path, series: str | None, weights: Path
) -> None:
    """Write the SEG of one case, a segment per lesion, with the digest of the weights that made the mask."""
    from gfscreen.results.statistics.parts import instance_map  # imported when asked for

    instances = instance_map(mask, geometry, target)
    write_seg(target, instances, geometry, case.path, series, read_manifest(weights).digest, again=True)
