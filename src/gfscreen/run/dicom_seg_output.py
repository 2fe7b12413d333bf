"""`predict --dicom-seg`: every mask also as a DICOM SEG of the series that it was made from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.scan.volume import Case
from gfscreen.scan.volume.dicom.seg import SEG_SUFFIX, check_available, write_seg
from gfscreen.scan.volume.geometry import Geometry
from gfscreen.scan.volume.inputs import volume_suffix


def seg_path(case: Case, folder: Path) -> Path:
    """Where the SEG of a case goes."""
    return folder / (case.name + SEG_SUFFIX)


def check_seg_output(cases: list[Case], folder: Path) -> None:
    """See before any work that SEGs can be made of these cases and written there. Raises UsageError, OutputError."""
    check_available()
    volumes = [case.path.name for case in cases if volume_suffix(case.path) is not None]
    if volumes:
        raise UsageError(f"--dicom-seg: {volumes[0]} is no DICOM series, a SEG needs one; name a DICOM folder or zip")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error}); check its permissions") from error


def write_seg_of(
    case: Case, mask: NDArray[np.uint8], geometry: Geometry, target: Path, series: str | None, weights: Path
) -> None:
    """Write the SEG of one case, with the digest of the weights that made the mask."""
    write_seg(target, mask, geometry, case.path, series, read_manifest(weights).digest)
