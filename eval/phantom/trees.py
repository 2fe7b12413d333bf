"""Branching vessels: a tree that fills a cloud of points, thinner by Murray's law at each fork."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.phantom.shapes import Array, Capsule, Vector

Inside = Callable[[Array, Array, Array], Array]


@dataclass(frozen=True)
class Twig:
    """One segment of a tree; `order` counts the forks from the root."""

    capsule: Capsule
    order: int


def sample_inside(
    depth: Inside, low_mm: Vector, high_mm: Vector, count: int, rng: np.random.Generator, margin_mm: float = 0.0
) -> NDArray[np.float64]:
    """At most `count` random points deeper than `margin_mm` in a space that lies within a box; shape (n, 3), mm."""
    points = rng.uniform(low_mm, high_mm, size=(count * 5, 3))
    x, y, z = points.astype(np.float32).T
    found: NDArray[np.float64] = points[depth(x, y, z) > margin_mm][:count]
    return found


def grow(root_mm: Vector, points_mm: NDArray[np.float64], tip_mm: float, stem_mm: float) -> list[Twig]:
    """A binary tree from `root_mm` to the points; all forks of one order are made at once.

    Args:
        root_mm: where the stem begins.
        points_mm: (n, 3) targets; the first 2^k of them are reached, with 2^k the largest power of two up to n.
            No points: no tree.
        tip_mm: radius of the twigs at the points.
        stem_mm: no segment is thicker than this radius.

    """
    twigs: list[Twig] = []
    if len(points_mm) == 0:
        return twigs
    generations = len(points_mm).bit_length() - 1
    clouds = points_mm[None, : 2**generations]
    starts = np.asarray([root_mm], dtype=float)
    for order in range(generations + 1):
        size = clouds.shape[1]
        reach = 1.0 if size == 1 else 0.35 if order == 0 else 0.55
        ends = starts + reach * (clouds.mean(axis=1) - starts)
        thick, thin = (min(tip_mm * max(n, 1) ** (1 / 2.6), stem_mm) for n in (size, size / 2))
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True):
            twigs.append(Twig(Capsule((start[0], start[1], start[2]), (end[0], end[1], end[2]), thick, thin), order))
        if size > 1:
            # Split across the longest extent, as lobes and segments divide a lung.
            longest = np.ptp(clouds, axis=1).argmax(axis=1)
            along = np.take_along_axis(clouds, longest[:, None, None], axis=2)
            ranked = np.take_along_axis(clouds, along.argsort(axis=1, kind="stable"), axis=1)
            clouds = ranked.reshape(-1, size // 2, 3)
            starts = ends.repeat(2, axis=0)
    return twigs
