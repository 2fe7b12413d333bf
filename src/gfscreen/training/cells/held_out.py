"""How suspicious cells are to heads that have not learnt from their scan: what bias, gate and `mark_from` come from.

Heads know the lesions that they were fitted to too well, and how much too well differs from region to region: nothing
but other scans tells where a lesion that is new to them comes out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfscreen.training.cells.examples import POSITIVE
from gfscreen.training.cells.gathering import ScanCells
from gfscreen.training.cells.head import Regression

FOLDS = 4
# A region's bias is moved until one in so many of its cells without lesion is more likely lesion than not: a logit then
# means the same in both regions.
OTHERS_LIKELY = 0.02
# Focus may mark in cells as suspicious as the best cell of so many of the lesions, of those of at least so many ml.
# Smaller ones the trunk hardly sees. Inserted ones count: of fifteen lesions of the scans' own, four of five reach a
# logit with a standard error of 1.4, of 412 with them one of 0.3.
MARKED_SHARE = 0.8
LEAST_ML = 0.5

Fit = Callable[[Sequence[ScanCells], int], Regression | None]


@dataclass(frozen=True)
class HeldOutLesions:
    """Lesions by their most suspicious cell. logit: float32 (n,). region: int8 (n,), the channel of that cell's region.

    ml: float32 (n,).
    """

    logit: NDArray[np.float32]
    region: NDArray[np.int8]
    ml: NDArray[np.float32]


def best_cells(scan: ScanCells, regressions: dict[int, Regression]) -> HeldOutLesions:
    """The lesions of one scan as heads by channel see them; those without a cell in a region with a head are left out.

    Empty without lesions.
    """
    found = scan.at((scan.kind == POSITIVE) & np.isin(scan.region, list(regressions)))
    logits = np.full(len(found.kind), -np.inf, np.float32)
    for channel, regression in regressions.items():
        own = found.region == channel
        logits[own] = regression.logits(found.features[own])
    numbers = np.unique(found.lesion)
    best = np.array([np.flatnonzero(found.lesion == n)[logits[found.lesion == n].argmax()] for n in numbers], np.intp)
    return HeldOutLesions(logits[best], found.region[best], found.lesion_ml[numbers - 1])


def held_out(
    scans: Sequence[tuple[str, ScanCells]], channels: Sequence[int], fit: Fit
) -> tuple[HeldOutLesions, dict[int, NDArray[np.float32]]]:
    """Every lesion as it comes out where no version of its scan was learnt from, and logits of the other cells.

    Scans by name, each version by itself. fit: a head from scans, None where they do not teach that region; what lies
    in it is then left out. Other cells: (n,) by channel, of all that are no example of lesion. Empty if there are fewer
    than two scans.
    """
    names = sorted({name for name, _ in scans})
    folds = min(FOLDS, len(names))
    lesions: list[HeldOutLesions] = []
    others: dict[int, list[NDArray[np.float32]]] = {channel: [] for channel in channels}
    for fold in range(folds if folds > 1 else 0):
        out = set(names[fold::folds])
        rest = [scan for name, scan in scans if name not in out]
        judged = [scan for name, scan in scans if name in out]
        heads = {channel: head for channel in channels if (head := fit(rest, channel)) is not None}
        lesions += [best_cells(scan, heads) for scan in judged]
        for channel, head in heads.items():
            ordinary = [(scan.kind != POSITIVE) & (scan.region == channel) for scan in judged]
            others[channel] += [head.logits(scan.features[own]) for scan, own in zip(judged, ordinary, strict=True)]
    none = np.zeros(0, np.float32)
    return joined(lesions), {channel: np.concatenate([none, *logits]) for channel, logits in others.items()}


def joined(parts: Sequence[HeldOutLesions]) -> HeldOutLesions:
    """All of them in one."""
    empty = HeldOutLesions(np.zeros(0, np.float32), np.zeros(0, np.int8), np.zeros(0, np.float32))
    several = [empty, *parts]
    return HeldOutLesions(
        np.concatenate([part.logit for part in several]),
        np.concatenate([part.region for part in several]),
        np.concatenate([part.ml for part in several]),
    )


def bias_move(others: NDArray[np.float32]) -> float:
    """What is to be added to a region's bias; 0 without cells to judge by.

    others: logits (n,) of the region's cells that are no example of lesion, by heads that have not learnt from them.
    """
    return -float(np.quantile(others, 1.0 - OTHERS_LIKELY)) if others.size else 0.0


def mark_logit(logit: NDArray[np.float32], lesions: HeldOutLesions) -> float | None:
    """The logit that MARKED_SHARE of the lesions reach; None without any of LEAST_ML to judge by.

    logit: (n,) of those lesions, with the biases moved.
    """
    judged = np.sort(logit[lesions.ml >= LEAST_ML])
    return float(judged[int((1.0 - MARKED_SHARE) * judged.size + 1e-9)]) if judged.size else None
