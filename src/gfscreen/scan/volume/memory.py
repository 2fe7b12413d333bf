"""How much memory a scan will need, and whether the machine or the container has it: asked before it is allocated."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import psutil

from gfscreen.cgroups import PROC, ROOT, memory_left_bytes
from gfscreen.errors import ScanTooLargeError

# Per voxel of the model grid (3 mm3): HU, label of the body, probability sum, count, and one working copy.
_MODEL_BYTES_PER_VOXEL = 16
_MODEL_VOXEL_MM3 = 3.0
# Per native voxel: HU (2), the mask (1) and its encoded copies (2).
_NATIVE_BYTES_PER_VOXEL = 5


def available_bytes(proc: Path = PROC, root: Path = ROOT) -> int:
    """Memory that can still be used: the machine's, or what a control group above this process leaves if that is less.

    proc, root: as for `memory_left_bytes`.
    """
    available = int(psutil.virtual_memory().available)
    left = memory_left_bytes(proc, root)
    return available if left is None else min(available, left)


# What the scan that is being worked on may still allocate, while the next one is read.
_promised = 0


@contextlib.contextmanager
def promised(size: int) -> Iterator[None]:
    """While this lasts, other scans may not count on `size` bytes of what is available."""
    global _promised
    _promised += size
    try:
        yield
    finally:
        _promised -= size


def needed_bytes(shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], itemsize: int) -> int:
    """Estimate of the peak while a scan is screened, without the networks."""
    voxels = shape[0] * shape[1] * shape[2]
    volume_mm3 = voxels * spacing_mm[0] * spacing_mm[1] * spacing_mm[2]
    return int(voxels * (itemsize + _NATIVE_BYTES_PER_VOXEL) + volume_mm3 / _MODEL_VOXEL_MM3 * _MODEL_BYTES_PER_VOXEL)


def unpromised_bytes() -> int:
    """Memory that can still be used and that no other scan was promised."""
    return max(0, available_bytes() - _promised)


def check_memory(
    name: str,
    shape: tuple[int, int, int],
    spacing_mm: tuple[float, float, float],
    itemsize: int,
    memory_bytes: int | None = None,
) -> None:
    """Raise ScanTooLargeError if the scan cannot fit into `memory_bytes`, with both figures.

    memory_bytes: None for what is available now and not promised to another scan.
    """
    needed = needed_bytes(shape, spacing_mm, itemsize)
    available = unpromised_bytes() if memory_bytes is None else memory_bytes
    if needed > available:
        raise ScanTooLargeError(
            f"{name}: {shape[0]}x{shape[1]}x{shape[2]} voxels need about {needed / 2**30:.1f} GiB, "
            f"{available / 2**30:.1f} GiB are available; give more memory or split the scan"
        )
