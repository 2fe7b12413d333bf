"""Write a scan and its label as `.nii.gz`, slab by slab: memory stays small, a reader never sees half a file."""

from __future__ import annotations

import os
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import nibabel as nib
import numpy as np
from isal import igzip

from eval.phantom.assemble import Scan
from eval.phantom.grid import Grid

if TYPE_CHECKING:
    from collections.abc import Iterator

# The fastest level of ISA-L: noise hardly shrinks further with more effort.
GZIP_LEVEL = 1


def write_scan(scan: Scan, image_path: Path, label_path: Path) -> int:
    """Draw a scan into two files with the same geometry; returns the number of lesion voxels.

    Image int16 HU, label uint8, slope 1, qform and sform code 1. The bytes depend only on the scan: gzip's time stamp
    is 0. Both files appear under their names only when both are complete.
    """
    voxels = 0
    with ExitStack() as stack:
        label = stack.enter_context(_nifti_stream(label_path, scan.grid, np.dtype(np.uint8)))
        image = stack.enter_context(_nifti_stream(image_path, scan.grid, np.dtype(np.int16)))
        for slab in scan.slabs():
            image.write(slab.image.astype("<i2", copy=False).tobytes())
            label.write(slab.label.tobytes())
            voxels += int(slab.label.sum(dtype=np.int64))
    return voxels


def nifti_header(grid: Grid, dtype: np.dtype[Any]) -> bytes:
    """NIfTI-1 header of a single file, 352 bytes with the empty extension."""
    header = nib.Nifti1Header(endianness="<")
    header.set_data_dtype(dtype)
    header.set_data_shape(grid.shape)
    header.set_xyzt_units("mm")
    header.set_qform(grid.affine_ras, code=1)
    header.set_sform(grid.affine_ras, code=1)
    header.set_slope_inter(1, 0)
    header["magic"] = b"n+1"
    header["vox_offset"] = 352
    return bytes(header.binaryblock) + bytes(4)


@contextmanager
def _nifti_stream(path: Path, grid: Grid, dtype: np.dtype[Any]) -> Iterator[IO[bytes]]:
    """A gzip stream that already holds the header; renamed to `path` on success, removed on failure."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as raw, igzip.IGzipFile("", "wb", GZIP_LEVEL, raw, mtime=0) as stream:
            stream.write(nifti_header(grid, dtype))
            yield stream
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
