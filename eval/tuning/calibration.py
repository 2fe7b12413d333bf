"""A logistic curve from a scan's most suspicious cell to how likely the scan is to hold a lesion, and what it is worth.

The curve is a logistic regression on one logit per scan, with Platt's targets instead of 0 and 1, which keep it finite
where few scans are told apart without error (Platt 1999). What it is worth is judged by curves that were fitted without
the scan in question: it tells something if the AUC of the logits is above one half with its whole interval, and the
held-out suspicions have a lower Brier score than the share of scans with lesion alone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logit

from eval.accuracy.froc.case_level import auc, reliability
from eval.accuracy.masks import MaskError, read_mask
from eval.tuning.gate_runs import GateCase, glance_at_all_cells
from gfscreen.config import Plan
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.networks.engines.base import Engine
from gfscreen.scan.grid import to_model
from gfscreen.scan.volume import read_volume
from gfscreen.screening.cells import highest_logit

logger = logging.getLogger(__name__)

LESION, IGNORE = 1, 2


@dataclass(frozen=True)
class JudgedScan:
    """One scan: the logit of its most suspicious cell, and whether its label has a lesion."""

    name: str
    logit: float
    lesion: bool


@dataclass(frozen=True)
class Curve:
    """suspicion = logistic(slope * logit + offset)."""

    slope: float
    offset: float

    def of(self, logits: NDArray[np.float64]) -> NDArray[np.float64]:
        """Suspicion in [0, 1] of each logit (n,)."""
        result: NDArray[np.float64] = expit(self.slope * logits + self.offset)
        return result

    def at_share(self, share: float, of_cases: float) -> Curve:
        """The same curve where a share of the scans holds a lesion, instead of that of the cases it was fitted to."""
        return Curve(self.slope, self.offset + float(logit(share) - logit(of_cases)))


def judge(cases: Sequence[GateCase], plan: Plan, engine: Engine) -> Iterator[JudgedScan]:
    """The scans whose image and label can be read and that have a cell to judge; one line for each of the others."""
    for case in cases:
        try:
            volume, label = read_volume(case.image), read_mask(case.label).voxels
        except (GFScreenError, MaskError) as error:
            logger.warning("%s: left out (%s)", case.name, error)
            continue
        lesion = bool((label == LESION).any())
        if not lesion and (label == IGNORE).any():
            logger.warning("%s: left out (nothing but value %d is labelled: readers did not agree)", case.name, IGNORE)
            continue
        cells, _ = glance_at_all_cells(to_model(volume, plan), plan, engine)
        highest = highest_logit(cells)
        if highest is None:
            logger.warning("%s: left out (there is no cell with body in it)", case.name)
            continue
        judged = JudgedScan(case.name, highest, lesion)
        logger.info("%s: logit %.2f, %s", case.name, judged.logit, "lesion" if judged.lesion else "no lesion")
        yield judged


def fit(logits: NDArray[np.float64], lesion: NDArray[np.bool_]) -> Curve:
    """The logistic curve of least cross-entropy to Platt's targets; logits and lesion (n,), with scans of both kinds.

    Targets: (with + 1) / (with + 2) for a scan with lesion, 1 / (without + 2) for one without, by their numbers.
    """
    n_with, n_without = int(lesion.sum()), int((~lesion).sum())
    target = np.where(lesion, (n_with + 1) / (n_with + 2), 1 / (n_without + 2))

    def loss(curve: NDArray[np.float64]) -> float:
        score = curve[0] * logits + curve[1]
        return float(np.mean(np.logaddexp(0.0, score) - target * score))

    found = minimize(loss, np.array([0.0, float(logit(target.mean()))]), method="BFGS")
    return Curve(float(found.x[0]), float(found.x[1]))


def held_out(logits: NDArray[np.float64], lesion: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The suspicion of each scan by a curve fitted to the others (n,); at least two scans of each kind."""
    others = ~np.eye(logits.size, dtype=bool)
    curves = (fit(logits[rest], lesion[rest]) for rest in others)
    return np.array([float(curve.of(one[None])[0]) for curve, one in zip(curves, logits, strict=True)])


def calibration_of(scans: Sequence[JudgedScan]) -> dict[str, Any]:
    """Curve, AUC of the logits, and reliability of the held-out suspicions; `worth_it`, or `reason` why not.

    Raises UsageError for fewer than two scans of either kind.
    """
    logits, lesion = np.array([s.logit for s in scans]), np.array([s.lesion for s in scans], bool)
    n_with, n_without = int(lesion.sum()), int((~lesion).sum())
    if min(n_with, n_without) < 2:
        raise UsageError(
            f"calibrate needs at least two scans with lesion and two without, got {n_with} and {n_without}; add cases "
            "that somebody read, those without lesion with an empty label"
        )
    curve, suspicion = fit(logits, lesion), held_out(logits, lesion)
    area = auc(logits.tolist(), lesion.tolist())
    trust = reliability(suspicion.tolist(), lesion.tolist())
    brier, of_share = trust["brier"]["value"], trust["brier_of_share"]
    reason = None
    if not area["low"] > 0.5:
        reason = f"the AUC of {area['value']:.2f} [{area['low']:.2f}, {area['high']:.2f}] is not above 0.5 for sure"
    elif not brier < of_share:
        reason = f"held out, the Brier score of {brier:.3f} is no better than that of the share alone, {of_share:.3f}"
    return {
        "curve": curve,
        "share": n_with / logits.size,
        "auc": area,
        "reliability": trust,
        "suspicion": suspicion,
        "worth_it": reason is None,
        "reason": reason,
    }
