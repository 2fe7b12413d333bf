"""A DICOM series as a scan: chosen, stacked, and read as int16 HU."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.series import Series, choose, log_choice, survey
from gfscreen.scan.volume.dicom.source import opened
from gfscreen.scan.volume.dicom.stack import Stack, stack
from gfscreen.scan.volume.geometry import Volume, check_affine
from gfscreen.scan.volume.hounsfield import to_hounsfield
from gfscreen.scan.volume.memory import check_memory

logger = logging.getLogger(__name__)


@contextmanager
def located(source: Path, wanted: str | None = None) -> Iterator[tuple[Series, Stack, list[str]]]:
    """The series to screen of a folder or zip, its stack of files, and notes for the report. Raises InputError.

    The files of a zip exist only inside the context. wanted: Series Instance UID or Series Number; None: by the rule.
    """
    with opened(source) as folder:
        series, others = survey(folder, source.name)
        chosen = choose(series, source.name, wanted)
        note = log_choice(series, others, chosen, wanted)
        yield chosen, stack(chosen, source.name), [] if note is None else [note]


def read_dicom(source: Path, wanted: str | None = None, memory_bytes: int | None = None) -> Volume:
    """Read one CT series of a folder or zip as int16 HU (i, j, k): column, row, slice.

    memory_bytes: what the scan may need; None for what is available. Raises InputError.
    """
    import SimpleITK as sitk  # noqa: N813 - the field's usual name

    with located(source, wanted) as (_, slices, notes):
        geometry = slices.geometry
        logger.debug("%s: %s voxels of %s mm", source.name, geometry.shape, np.round(geometry.spacing_mm, 4).tolist())
        warnings = [*notes, *check_affine(geometry.affine_ras_mm, source)]
        check_memory(source.name, geometry.shape, geometry.spacing_mm, 4, memory_bytes)
        reader = sitk.ImageSeriesReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileNames([str(path) for path in slices.files])
        try:
            image = reader.Execute()
        except RuntimeError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise InputError(f"{source.name}: damaged DICOM series ({lines[-1]}); copy the files again") from error
    # SimpleITK's arrays are (k, j, i) in C order: transposed, they are (i, j, k) in Fortran order without a copy.
    stored = sitk.GetArrayViewFromImage(image).transpose(2, 1, 0)
    if stored.shape != geometry.shape:
        raise InputError(f"{source.name}: expected {geometry.shape} voxels, got {stored.shape}; copy the files again")
    hu, value_notes = to_hounsfield(stored, 1.0, 0.0, source.name)
    hu = np.asfortranarray(hu) if hu.base is None else hu.copy(order="F")
    return Volume(hu, geometry, source, tuple(warnings + value_notes))
