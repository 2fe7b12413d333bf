"""Read a scan of any supported kind; write a mask that appears whole or not at all."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError, OutputError, ScanTooLargeError
from gfscreen.files import write_atomically
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX
from gfscreen.scan.volume.geometry import Geometry, Volume
from gfscreen.scan.volume.inputs import DICOM_SUFFIX, volume_suffix
from gfscreen.scan.volume.nifti import encode_map, encode_mask, mask_voxels, read_geometry, read_nifti
from gfscreen.scan.volume.provenance import note_of

LAST_RESORT_NOTE = b"gfscreen: not screened, empty mask as a last resort"


def read_volume(path: Path, series: str | None = None, *, labels: bool = False) -> Volume:
    """Read a NIfTI, .mha or .nrrd file, or a DICOM folder or zip, as int16 HU (i, j, k).

    series: of a DICOM study, the Series Instance UID or Series Number to read; None chooses by a rule. labels: the file
    is a mask, in which fractions are refused instead of rounded.
    Raises InputError, in one line that names file, rule, value and remedy, for whatever cannot be read.
    """
    try:
        if path.is_dir() and volume_suffix(path) is not None:
            raise InputError(f"{path.name}: expected a file, found a folder of that name; rename it")
        if _is_dicom(path):
            from gfscreen.scan.volume.isolated import read_isolated

            return read_isolated(path, series)
        if series is not None:
            raise InputError(f"{path.name}: --series chooses within a DICOM folder or zip; leave it out")
        if not path.is_file():
            raise InputError(f"{path.name}: no such file; check the path or the link")
        if path.stat().st_size == 0:
            raise InputError(f"{path.name}: the file is empty; copy it again")
        if path.suffix.lower() == DICOM_SUFFIX:
            raise InputError(f"{path.name}: is one DICOM file, a slice of a series; give its folder")
        if volume_suffix(path) in (".mha", ".nrrd"):
            from gfscreen.scan.volume.isolated import read_isolated

            return read_isolated(path, labels=labels)
        return read_nifti(path, labels=labels)
    except OSError as error:
        raise InputError(
            f"{path.name}: not readable ({error.strerror or error}); check permissions and disk"
        ) from error
    except MemoryError as error:
        raise ScanTooLargeError(f"{path.name}: does not fit into memory; give more memory or split the scan") from error


def _is_dicom(path: Path) -> bool:
    return path.is_dir() or (path.is_file() and path.suffix.lower() == ZIP_SUFFIX)


def write_mask(path: Path, mask: NDArray[np.uint8], geometry: Geometry, scan: str | None = None) -> None:
    """Write a uint8 {0, 1} mask (i, j, k) as .nii.gz with the scan's geometry. Raises OutputError.

    scan: fingerprint of the scan, kept in the gzip header.
    """
    _write(path, encode_mask(mask, geometry, note_of(scan) if scan else b""))


def write_empty_mask(path: Path, geometry: Geometry) -> None:
    """Write the mask of a scan that could not be screened: no lesion, the scan's geometry. Raises OutputError.

    A note in the gzip header, which readers skip, tells it from the mask of a screened scan.
    """
    empty = np.zeros((1, 1, 1), np.uint8)
    _write(path, encode_mask(np.broadcast_to(empty, geometry.shape), geometry, LAST_RESORT_NOTE))


def write_map(path: Path, voxels: NDArray[np.generic], geometry: Geometry, slope: float = 1.0) -> None:
    """Write a uint8 or uint16 map (i, j, k) as .nii.gz with the scan's geometry; readers see `slope` times the voxels.

    Raises OutputError.
    """
    _write(path, encode_map(voxels, geometry, slope))


def _write(path: Path, content: bytes) -> None:
    try:
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error


@dataclass(frozen=True)
class FinishedMask:
    """A mask that an earlier run finished: its lesion volume, and of DICOM the series it belongs to."""

    lesion_ml: float
    series_uid: str | None = None


def finished_mask(mask: Path, scan: Path, series: str | None = None) -> FinishedMask | None:
    """The mask that an earlier run finished for this scan; None if it must be screened.

    Finished: a regular file that is readable to its checksum, holds only 0 and 1, has the scan's geometry to the byte,
    and is not the empty mask of a scan whose screening failed.
    """
    if mask.is_symlink() or not mask.is_file():
        return None
    series_uid = None
    try:
        if scan.is_file() and volume_suffix(scan) in (".nii", ".nii.gz"):
            geometry = read_geometry(scan)
        elif _is_dicom(scan):
            from gfscreen.scan.volume.isolated import dicom_geometry_isolated

            geometry, series_uid = dicom_geometry_isolated(scan, series)
        else:
            geometry = read_volume(scan).geometry
    except InputError:
        return None
    voxels = mask_voxels(mask, geometry)
    return None if voxels is None else FinishedMask(geometry.volume_ml(voxels), series_uid)
