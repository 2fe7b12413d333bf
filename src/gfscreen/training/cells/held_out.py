"""How suspicious lesions are to heads that have not learnt from their scan: what a head's bias and gate are taken from.

Heads know the lesions that they were fitted to too well, and how much too well differs from region to region: nothing
but other scans tells where a lesion that is new to them comes out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gfscreen.training.cells.examples import POSITIVE
from gfscreen.training.cells.gathering import ScanCells
from gfscreen.training.cells.head import Regression
from gfscreen.training.cells.inserted import REAL

FOLDS = 4
# A region's bias is raised, never lowered, until so many of its real lesions of at least so many ml are more likely
# lesion than not, or so many of its other cells are. Smaller lesions the trunk hardly sees.
LIKELY_SHARE = 0.8
LEAST_ML = 0.5
MOST_OTHERS_SHARE = 0.02

Fit = Callable[[Sequence[ScanCells], int], Regression | None]


@dataclass(frozen=True)
class HeldOutLesions:
    """Lesions by their most suspicious cell. logit: float32 (n,). region: int8 (n,), the channel of that cell's region.

    real: bool (n,), a scan's own as opposed to inserted ones. ml: float32 (n,).
    """

    logit: NDArray[np.float32]
    region: NDArray[np.int8]
    real: NDArray[np.bool_]
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
    return HeldOutLesions(
        logits[best],
        found.region[best],
        np.asarray(found.lesion_kind[numbers - 1] == REAL, np.bool_),
        found.lesion_ml[numbers - 1],
    )


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
    empty = HeldOutLesions(
        np.zeros(0, np.float32), np.zeros(0, np.int8), np.zeros(0, np.bool_), np.zeros(0, np.float32)
    )
    several = [empty, *parts]
    return HeldOutLesions(
        np.concatenate([part.logit for part in several]),
        np.concatenate([part.region for part in several]),
        np.concatenate([part.real for part in several]),
        np.concatenate([part.ml for part in several]),
    )


def raise_by(lesions: HeldOutLesions, others: NDArray[np.float32], channel: int) -> float:
    """What is to be added to a region's bias, at least 0; 0 without real lesions there to judge by.

    others: logits (n,) of the region's cells that are no example of lesion.
    """
    judged = lesions.logit[(lesions.region == channel) & lesions.real & (lesions.ml >= LEAST_ML)]
    if not judged.size:
        return 0.0
    may_be_lost = int((1.0 - LIKELY_SHARE) * judged.size + 1e-9)
    wanted = -float(np.sort(judged)[may_be_lost])
    allowed = -float(np.quantile(others, 1.0 - MOST_OTHERS_SHARE)) if others.size else math.inf
    return max(0.0, min(wanted, allowed))
