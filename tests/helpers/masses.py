"""A ball in a scan on the model grid, and a Glance that suspects it: for what Glance alone marks. 1 x 1 x 3 mm."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gfscreen.screening.cells import CellMap

STEP = (12.0, 12.0, 4.0)
Place = tuple[float, ...]


def ball(shape: tuple[int, int, int], centre: Place, radius_mm: float) -> NDArray[np.bool_]:
    """What lies within so many mm of a voxel."""
    return np.asarray(_far_mm(tuple(np.arange(n, dtype=float) for n in shape), centre) <= radius_mm, np.bool_)


def cells_at(
    shape: tuple[int, int, int], centre: Place, logit: float = 4.0, reach_mm: float = 32.0, fall_mm: float = 6.0
) -> CellMap:
    """Suspicious around a place, less by a logit for every `fall_mm`; ordinary beyond `reach_mm`."""
    counts = [int(np.floor((n - 1) / step + 0.5)) + 1 for n, step in zip(shape, STEP, strict=True)]
    far_mm = _far_mm(tuple(np.arange(n) * step for n, step in zip(counts, STEP, strict=True)), centre)
    return CellMap(np.where(far_mm <= reach_mm, logit - far_mm / fall_mm, -5.0).astype(np.float32), STEP)


def trunk_answer(volume: NDArray[np.float32], centre: Place) -> NDArray[np.float32]:
    """The same of what the trunk reads, (z, x, y) at 1.5 x 1.5 x 3 mm: logits (regions, z, x, y)."""
    z, x, y = (np.arange(0, n, step) for n, step in zip(volume.shape, (4, 8, 8), strict=True))
    far_mm = _far_mm((1.5 * x, 1.5 * y, z.astype(float)), centre).transpose(2, 0, 1)
    logit = np.where(far_mm <= 25.0, 4.0 - far_mm / 8.0, -5.0).astype(np.float32)
    return np.stack([logit, logit])


def _far_mm(axes: tuple[NDArray[np.float64], ...], centre: Place) -> NDArray[np.float64]:
    x, y, z = np.ix_(*axes)
    far: NDArray[np.float64] = np.sqrt((x - centre[0]) ** 2 + (y - centre[1]) ** 2 + (3.0 * (z - centre[2])) ** 2)
    return far
