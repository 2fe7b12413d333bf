"""Small valid scans of every kind that is read, from which mutations start."""

from __future__ import annotations

import gzip
import itertools
import zlib
from dataclasses import dataclass
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from eval.reliability.threshold_engine import LESION_HU, TISSUE_HU

SHAPE = (12, 10, 8)
AFFINE = np.array([[-4.0, 0, 0, 22], [0, 3.9, -0.6, -20], [0, 0.6, 4.9, -18], [0, 0, 0, 1]])


@dataclass(frozen=True)
class Seed:
    """One valid file: its suffix and its bytes."""

    suffix: str
    data: bytes


def _hu() -> NDArray[np.int16]:
    """A block of tissue with a bright corner in air, (i, j, k)."""
    hu = np.full(SHAPE, -1000, np.int16)
    hu[2:10, 2:9, 1:7] = TISSUE_HU
    hu[4:7, 4:7, 3:5] = LESION_HU
    return hu


def nifti(dtype: Any, version: int = 1, endian: str = "<", form: str = "both") -> bytes:
    """An uncompressed single-file NIfTI of the seed scan. form: `both`, `sform`, `qform` or `none` are set."""
    header = (nib.Nifti1Header if version == 1 else nib.Nifti2Header)(endianness=endian)
    header.set_data_shape(SHAPE)
    stored = _hu() + 1024 if np.dtype(dtype).kind == "u" else _hu()
    header.set_data_dtype(np.dtype(dtype).newbyteorder(endian))
    header.set_xyzt_units("mm", "sec")
    header.set_qform(AFFINE, code=1 if form in ("both", "qform") else 0)
    header.set_sform(AFFINE, code=1 if form in ("both", "sform") else 0)
    header["scl_slope"], header["scl_inter"] = 1.0, -1024.0 if np.dtype(dtype).kind == "u" else 0.0
    header["vox_offset"] = int(header["sizeof_hdr"]) + 4
    voxels = stored.astype(np.dtype(dtype).newbyteorder(endian)).tobytes(order="F")
    return bytes(header.binaryblock) + bytes(4) + voxels


def meta_image(compressed: bool) -> bytes:
    """A MetaImage of the seed scan, raw or zlib."""
    voxels = _hu().tobytes(order="F")
    packed = zlib.compress(voxels)
    lines = [
        "ObjectType = Image",
        "NDims = 3",
        "BinaryData = True",
        "BinaryDataByteOrderMSB = False",
        f"CompressedData = {compressed}",
        *([f"CompressedDataSize = {len(packed)}"] if compressed else []),
        "TransformMatrix = 1 0 0 0 1 0 0 0 1",
        "Offset = -20 -18 -16",
        "ElementSpacing = 4 4 5",
        "DimSize = " + " ".join(map(str, SHAPE)),
        "ElementType = MET_SHORT",
        "ElementDataFile = LOCAL",
    ]
    return "\n".join([*lines, ""]).encode() + (packed if compressed else voxels)


def nrrd(encoding: str) -> bytes:
    """A NRRD of the seed scan; encoding: `raw`, `gzip` or `ascii`."""
    lines = [
        "NRRD0004",
        "type: short",
        "dimension: 3",
        "space: left-posterior-superior",
        "sizes: " + " ".join(map(str, SHAPE)),
        "space directions: (4,0,0) (0,4,0) (0,0,5)",
        "kinds: domain domain domain",
        "endian: little",
        f"encoding: {encoding}",
        "space origin: (-20,-18,-16)",
        "",
        "",
    ]
    voxels = _hu().tobytes(order="F")
    if encoding == "gzip":
        voxels = gzip.compress(voxels, mtime=0)
    elif encoding == "ascii":
        voxels = " ".join(map(str, _hu().ravel(order="F"))).encode()
    return "\n".join(lines).encode() + voxels


def make_seeds() -> list[Seed]:
    """All seeds, always the same."""
    types = ("u1", "i2", "u2", "i4", "f4", "f8", "i8")
    plain = [nifti(f"{endian}{kind}", 1, endian) for endian, kind in itertools.product("<>", types)]
    plain += [nifti("i2", 2), nifti("f4", 2, ">")]
    plain += [nifti("i2", form=form) for form in ("sform", "qform", "none")]
    seeds = [Seed(".nii", data) for data in plain]
    seeds += [Seed(".nii.gz", gzip.compress(data, 1, mtime=0)) for data in plain]
    seeds += [Seed(".mha", meta_image(compressed)) for compressed in (False, True)]
    return seeds + [Seed(".nrrd", nrrd(encoding)) for encoding in ("raw", "gzip", "ascii")]
