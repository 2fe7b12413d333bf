"""A DICOM series as a scan: chosen, stacked, and read as int16 HU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gfscreen.cpus import usable_cpus
from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.choice import choose, notes_of
from gfscreen.scan.volume.dicom.headers import quiet
from gfscreen.scan.volume.dicom.pixels import read_slice
from gfscreen.scan.volume.dicom.series import Series, survey
from gfscreen.scan.volume.dicom.source import opened
from gfscreen.scan.volume.dicom.stack import Stack
from gfscreen.scan.volume.geometry import Volume, check_affine
from gfscreen.scan.volume.hounsfield import value_warnings
from gfscreen.scan.volume.memory import check_memory

logger = logging.getLogger(__name__)

_MOST_THREADS = 4


@contextmanager
def located(
    source: Path, wanted: str | None = None, *, again: bool = False
) -> Iterator[tuple[Series, Stack, list[str]]]:
    """The series to screen of a folder or zip, its stack of files, and notes for the report. Raises InputError.

    The files of a zip exist only inside the context. wanted: Series Instance UID or Series Number; None: by the rule.
    again: the reading tells, or has told, what was taken and left out; here nothing is logged and noted.
    """
    with opened(source) as folder:
        series, others = survey(folder, source.name)
        choice = choose(series, source.name, wanted)
        yield choice.series, choice.stack, [] if again else notes_of(series, others, choice, wanted)


def read_dicom(source: Path, wanted: str | None = None, memory_bytes: int | None = None) -> Volume:
    """Read one CT series of a folder or zip as int16 HU (i, j, k): column, row, slice.

    memory_bytes: what the scan may need; None for what is available. Raises InputError.
    """
    with located(source, wanted) as (series, slices, notes):
        geometry = slices.geometry
        logger.debug("%s: %s voxels of %s mm", source.name, geometry.shape, np.round(geometry.spacing_mm, 4).tolist())
        warnings = [*notes, *check_affine(geometry.affine_ras_mm, source)]
        check_memory(source.name, geometry.shape, geometry.spacing_mm, 4, memory_bytes)
        hu = np.empty(geometry.shape, np.int16, order="F")

        def read(k: int) -> int:
            plane, clipped = read_slice(slices.files[k])
            if plane.T.shape != geometry.shape[:2]:
                raise InputError(
                    f"{slices.files[k].name} has {plane.T.shape} pixels, its header says {geometry.shape[:2]}; "
                    "copy it again"
                )
            hu[:, :, k] = plane.T
            return clipped

        try:
            with quiet(), ThreadPoolExecutor(min(_MOST_THREADS, usable_cpus())) as threads:
                clipped = sum(threads.map(read, range(geometry.shape[2])))
        except InputError as error:
            raise InputError(f"{source.name}: {error}") from error
    if clipped:
        warnings.append(f"{clipped} voxels beyond [-32768, 32767] HU were clipped")
    return Volume(hu, geometry, source, (*warnings, *value_warnings(hu)), series.uid)
