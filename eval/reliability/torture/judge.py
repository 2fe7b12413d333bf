"""Whether a mask is what it must be: whole, binary, with the input's geometry to the byte, and in the right place.

Reads the files with the standard library alone, so that a mistake of the product's reader cannot hide itself.
"""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

# Bytes of the header that a mask may change: datatype, bitpix, vox_offset, scl_slope, scl_inter, cal_max, cal_min.
_CHANGED = {
    348: ((70, 74), (108, 112), (112, 120), (124, 132)),
    540: ((12, 16), (168, 176), (176, 192), (192, 208)),
}
# A ball that is found where it is: the model grid has voxels of 4 mm, the coarsest scans of 12 mm.
MIN_DICE = 0.6


class Wrong(Exception):  # noqa: N818 - a verdict
    """What is wrong with a mask."""


def _unpacked(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(_without_padding(data)) if data[:2] == b"\x1f\x8b" else data


def _without_padding(data: bytes) -> bytes:
    return data.rstrip(b"\0") + b"\0" * 8 if data.endswith(bytes(512)) else data


def read_mask(path: Path) -> tuple[bytes, NDArray[np.uint8]]:
    """Header and voxels (i, j, k) of a mask. Raises Wrong unless it is whole, uint8 and binary."""
    try:
        data = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, ValueError) as error:
        raise Wrong(f"not a whole gzip file: {error}") from error
    order, size = next(((o, s) for o in "<>" for s in (348, 540) if data[:4] == struct.pack(o + "i", s)), (None, 0))
    if order is None:
        raise Wrong("not a NIfTI header")
    if size == 348:
        dims, code = struct.unpack_from(order + "8h", data, 40), struct.unpack_from(order + "h", data, 70)[0]
        offset, (slope, inter) = (
            struct.unpack_from(order + "f", data, 108)[0],
            struct.unpack_from(order + "2f", data, 112),
        )
    else:
        dims, code = struct.unpack_from(order + "8q", data, 16), struct.unpack_from(order + "h", data, 12)[0]
        offset, (slope, inter) = (
            struct.unpack_from(order + "q", data, 168)[0],
            struct.unpack_from(order + "2d", data, 176),
        )
    if (code, slope, inter) != (2, 1.0, 0.0):
        raise Wrong(f"datatype {code}, slope {slope}, intercept {inter}; expected uint8, 1, 0")
    shape = (dims[1], dims[2], dims[3])
    voxels = np.frombuffer(data[int(offset) :], np.uint8)
    if voxels.size != np.prod(shape):
        raise Wrong(f"{voxels.size} voxels for {shape}")
    if voxels.max(initial=0) > 1:
        raise Wrong(f"a voxel of {voxels.max()}")
    return data[:size], voxels.reshape(shape, order="F")


def check_geometry(scan: Path, head: bytes) -> None:
    """Raise Wrong if a NIfTI scan's header and its mask's differ in more than the voxels' type."""
    original = _unpacked(scan)[: len(head)]
    allowed = {n for start, stop in _CHANGED[len(head)] for n in range(start, stop)}
    different = [n for n in range(len(head)) if original[n] != head[n] and n not in allowed]
    if different:
        raise Wrong(f"header bytes {different[:8]} are not those of the scan")


def check_place(mask: NDArray[np.uint8], truth: NDArray[np.bool_]) -> float:
    """Dice of mask and ball. Raises Wrong if it is too low: the mask is shifted, mirrored or empty."""
    found = mask.astype(bool)
    if found.shape != truth.shape:
        raise Wrong(f"shape {found.shape}, expected {truth.shape}")
    dice = 2.0 * float((found & truth).sum()) / max(float(found.sum() + truth.sum()), 1.0)
    if dice < MIN_DICE:
        raise Wrong(f"the mask is not where the ball is: Dice {dice:.2f}, {int(found.sum())} voxels")
    return dice
