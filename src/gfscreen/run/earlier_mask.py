"""What lies where a mask is to go: an earlier run's mask of the same scan is replaced, another scan's is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from gfscreen.errors import InputError, OutputError
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.geometry import grid_shift_mm
from gfscreen.scan.volume.nifti import read_geometry
from gfscreen.scan.volume.provenance import made_of

_SAME_GRID_MM = 0.01


def check_earlier_mask(mask: Path, volume: Volume, scan: str, *, overwrite: bool) -> str | None:
    """A warning if the file at `mask` is replaced though it may be another scan's; None if nothing need be said.

    scan: fingerprint of the volume. A mask says of which scan it was made; of one that does not (another program, or
    an earlier version) the grid must be the scan's. Raises OutputError for another scan's mask, unless `overwrite`.
    """
    try:
        if mask.is_symlink() or not mask.is_file():
            return None
        found = made_of(mask)
        if found == scan:
            return None
        others = found is not None or not _on_the_grid_of(mask, volume)
    except (OSError, InputError):
        return f"{mask.name}: a file that is no mask lay there and is replaced"
    if not others:
        return f"{mask.name}: a mask that does not say of which scan it is lay there and is replaced"
    if overwrite:
        return f"{mask.name}: the mask of another scan lay there and is replaced"
    raise OutputError(
        f"{mask}: is there already, the mask of another scan; name another output folder, rename the scan, or add "
        "--overwrite"
    )


def _on_the_grid_of(mask: Path, volume: Volume) -> bool:
    """Raises InputError if the file is no NIfTI."""
    found, expected = read_geometry(mask), volume.geometry
    if found.shape != expected.shape:
        return False
    shift_mm = grid_shift_mm(expected.shape, expected.affine_ras_mm, found.affine_ras_mm)
    return bool(np.isfinite(shift_mm) and shift_mm <= _SAME_GRID_MM)
