"""Read a scan of any supported kind; write a mask that appears whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError
from gfscreen.files import write_atomically
from gfscreen.volume.dicom.source import ZIP_SUFFIX
from gfscreen.volume.geometry import Geometry, Volume
from gfscreen.volume.inputs import volume_suffix
from gfscreen.volume.nifti import encode_mask, read_nifti


def read_volume(path: Path, series: str | None = None) -> Volume:
    """Read a NIfTI, .mha or .nrrd file, or a DICOM folder or zip, as int16 HU (i, j, k).

    series: of a DICOM study, the Series Instance UID or Series Number to read; None chooses by a rule.
    Raises InputError, in one line that names file, rule, value and remedy, for whatever cannot be read.
    """
    try:
        if path.is_dir() and volume_suffix(path) is not None:
            raise InputError(f"{path.name}: expected a file, found a folder of that name; rename it")
        if path.is_dir() or (path.is_file() and path.suffix.lower() == ZIP_SUFFIX):
            from gfscreen.volume.dicom.read import read_dicom

            return read_dicom(path, series)
        if series is not None:
            raise InputError(f"{path.name}: --series chooses within a DICOM folder or zip; leave it out")
        if not path.is_file():
            raise InputError(f"{path.name}: no such file; check the path or the link")
        if path.stat().st_size == 0:
            raise InputError(f"{path.name}: the file is empty; copy it again")
        if volume_suffix(path) in (".mha", ".nrrd"):
            from gfscreen.volume.itk import read_itk

            return read_itk(path)
        return read_nifti(path)
    except OSError as error:
        raise InputError(
            f"{path.name}: not readable ({error.strerror or error}); check permissions and disk"
        ) from error
    except MemoryError as error:
        raise InputError(f"{path.name}: does not fit into memory; give more memory or split the scan") from error


def write_mask(path: Path, mask: NDArray[np.uint8], geometry: Geometry) -> None:
    """Write a uint8 {0, 1} mask (i, j, k) as .nii.gz with the scan's geometry. Raises OutputError."""
    try:
        write_atomically(path, encode_mask(mask, geometry))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error
