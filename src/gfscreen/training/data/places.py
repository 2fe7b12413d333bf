"""Places in a scan: voxels that sub-volumes are drawn around, and the sub-volume there. Arrays are (x, y, z)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.training.data.cache import Scan
from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis.insertion import Crop
from gfscreen.training.synthesis.tissue import LUNG

DEEP_MM = 60.0
POINTS = 20_000


def spread_points(mask: NDArray[np.bool_], at_least: float = 1.0) -> NDArray[np.int16]:
    """Up to POINTS voxels of the mask (n, 3), evenly over it; none if it has fewer than `at_least` voxels."""
    flat = np.flatnonzero(mask)
    if flat.size < at_least:
        return np.zeros((0, 3), dtype=np.int16)
    chosen = flat[:: max(1, flat.size // POINTS)]
    return np.stack(np.unravel_index(chosen, mask.shape), axis=-1).astype(np.int16)


def deep_lung_points(scan: Scan, spacing_mm: tuple[float, ...]) -> NDArray[np.int16]:
    """Lung voxels (n, 3) at least DEEP_MM below the skin, every fourth in plane: towards mediastinum and hilum.

    What lies beyond the sides of the scan counts as skin. A crop that the body fills, or a patient wider than the field
    of view, does not show it: it may begin right there, and deep is only what is deep even then. A whole scan has air
    at its sides, which is nearer. Beyond the first and the last slice the body goes on, in crops as in whole scans.
    """
    step = (4, 4, 1)
    body, lung = scan.body[::4, ::4], scan.tissue[::4, ::4] == LUNG
    closed = np.pad(body, ((1, 1), (1, 1), (0, 0)))
    depth_mm = ndimage.distance_transform_edt(closed, sampling=np.multiply(spacing_mm, step))[1:-1, 1:-1]
    return np.asarray(np.argwhere(lung & (depth_mm > DEEP_MM)) * step, dtype=np.int16)


def start_around(
    rng: np.random.Generator, point: NDArray[np.int16] | NDArray[np.int64], size: tuple[int, ...], jitter: float = 0.35
) -> tuple[int, int, int]:
    """Start of a sub-volume that holds `point`, at most `jitter` of its size from the centre."""
    shift = rng.uniform(-jitter, jitter, size=3) * np.asarray(size)
    x, y, z = (int(v) for v in np.rint(np.asarray(point, dtype=float) - np.asarray(size) / 2 + shift))
    return x, y, z


def part_of(array: NDArray[np.uint8], start: tuple[int, ...], size: tuple[int, ...]) -> NDArray[np.uint8]:
    """A view of what a sub-volume has of an array (x, y, z); smaller where it leaves it, empty where it misses it."""
    return array[tuple(slice(max(0, a), max(0, a + n)) for a, n in zip(start, size, strict=True))]


def cut(scan: Scan, start: tuple[int, int, int], size: tuple[int, ...], plan: Plan) -> Crop:
    """A copy of a piece of the scan; beyond the scan it is air without label, and IGNORE where nobody annotated."""
    hu = np.full(size, -1024, dtype=np.int16)
    label = np.full(size, 0 if scan.annotated else IGNORE, dtype=np.uint8)
    tissue = np.zeros(size, dtype=np.uint8)
    low = [max(0, a) for a in start]
    high = [min(n, a + s) for a, s, n in zip(start, size, scan.hu.shape, strict=True)]
    if all(a < b for a, b in zip(low, high, strict=True)):
        source = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        target = tuple(slice(a - s, b - s) for a, b, s in zip(low, high, start, strict=True))
        hu[target], label[target], tissue[target] = scan.hu[source], scan.label[source], scan.tissue[source]
    return Crop(hu, label, tissue, plan.spacing_mm, np.zeros(size, dtype=bool))
