"""Boxes of a voxel grid, kept apart so that whatever hangs together lies within one."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

BoxSlices = tuple[slice, slice, slice]


def apart(boxes: Iterable[BoxSlices]) -> list[BoxSlices]:
    """Boxes merged until no two of them overlap or touch, by face, edge or corner; none of no boxes."""
    lows, highs = np.empty((0, 3), np.intp), np.empty((0, 3), np.intp)
    for box in boxes:
        low, high = np.array([side.start for side in box]), np.array([side.stop for side in box])
        while (near := ((lows <= high) & (highs >= low)).all(axis=1)).any():
            low, high = np.vstack([lows[near], low]).min(axis=0), np.vstack([highs[near], high]).max(axis=0)
            lows, highs = lows[~near], highs[~near]
        lows, highs = np.vstack([lows, low]), np.vstack([highs, high])
    sides = zip(lows.tolist(), highs.tolist(), strict=True)
    return [(slice(a[0], b[0]), slice(a[1], b[1]), slice(a[2], b[2])) for a, b in sides]
