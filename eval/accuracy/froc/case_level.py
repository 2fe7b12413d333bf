"""Does a scan have a lesion? AUC of a score per scan, and whether a suspicion in [0, 1] is worth what it says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.statistics import CONFIDENCE, RESAMPLES, SEED, Estimate, bootstrap_ratio, resample_counts, wilson

BINS = 10
_ROUNDING = 1e-9


def auc(scores: Sequence[float | None], lesion: Sequence[bool], seed: int = SEED) -> dict[str, Any]:
    """Area under the ROC curve: how often a scan with lesion scores above one without, ties counting half.

    scores: per scan, None (no finding) below all others. Returns an estimate with `with_lesion` and `without_lesion`,
    scans of each, and `reason`: null, or why value or interval is undefined. The interval is a percentile bootstrap
    over scans; resamples without one of both kinds are left out. Source: Hanley and McNeil 1982.

    Raises:
        ValueError: not one score for each scan.

    """
    if len(scores) != len(lesion):
        raise ValueError(f"expected one score per scan, got {len(scores)} for {len(lesion)} scans")
    values = np.array([-np.inf if score is None else score for score in scores], np.float64)
    sick = np.asarray(lesion, np.bool_)
    n_with, n_without = int(sick.sum()), int((~sick).sum())
    counts = {"with_lesion": n_with, "without_lesion": n_without}
    for n, kind in ((n_with, "with"), (n_without, "without")):
        if n == 0:
            return {**Estimate(None, None, None, sick.size).as_dict(), **counts, "reason": f"no scan {kind} lesion"}
    first, second = values[sick][:, None], values[~sick][None, :]
    above = (first > second) + 0.5 * (first == second)
    value = float(above.mean())
    if min(n_with, n_without) < 2:
        kind = "with" if n_with < 2 else "without"
        estimate = Estimate(value, None, None, sick.size)
        return {**estimate.as_dict(), **counts, "reason": f"one scan {kind} lesion: no interval"}
    drawn = _resampled(above, sick, seed)
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
    return {**Estimate(value, low, high, sick.size).as_dict(), **counts, "reason": None}


def _resampled(above: NDArray[np.float64], sick: NDArray[np.bool_], seed: int) -> NDArray[np.float64]:
    """AUC of each draw of the scans that has both kinds; above: (with, without), 1, 0.5 or 0."""
    weights = resample_counts(sick.size, seed, RESAMPLES)
    of_with, of_without = weights[:, sick], weights[:, ~sick]
    pairs = of_with.sum(axis=1) * of_without.sum(axis=1)
    wins = ((of_with @ above) * of_without).sum(axis=1)
    drawn: NDArray[np.float64] = wins[pairs > 0] / pairs[pairs > 0]
    return drawn


def reliability(suspicion: Sequence[float], lesion: Sequence[bool], seed: int = SEED) -> dict[str, Any]:
    """Predicted suspicion in [0, 1] against the share of scans with lesion, in ten bins of equal width.

    Returns `brier`, the mean squared difference (an estimate; lower is better), `brier_of_share`, what always saying
    the overall share would have, `expected_calibration_error`, the mean distance of both over scans, and `bins`: each
    with `low`, `high`, `scans`, and `predicted` (mean), `observed` and its `wilson` interval, null in an empty bin. A
    bin holds its lower limit, the last one 1 too. All null without a scan. Source: Brier 1950; Naeini et al. 2015.

    Raises:
        ValueError: not one suspicion for each scan, or one outside [0, 1].

    """
    p, y = np.asarray(suspicion, np.float64), np.asarray(lesion, np.float64)
    if p.shape != y.shape or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"expected one suspicion in [0, 1] per scan, got {p} for {y.size} scans")
    # 0.3 * 10 is below 3 in floating point.
    places = np.minimum(np.floor(p * BINS + _ROUNDING), BINS - 1).astype(int)
    bins = [_bin(index, p[places == index], y[places == index]) for index in range(BINS)]
    off = [b["scans"] * abs(b["observed"] - b["predicted"]) for b in bins if b["scans"]]
    return {
        "scans": int(p.size),
        "brier": bootstrap_ratio((p - y) ** 2, np.ones_like(p), seed).as_dict(),
        "brier_of_share": float(y.mean() * (1 - y.mean())) if y.size else None,
        "expected_calibration_error": float(sum(off) / p.size) if p.size else None,
        "bins": bins,
    }


def _bin(index: int, p: NDArray[np.float64], y: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "low": index / BINS,
        "high": (index + 1) / BINS,
        "scans": int(p.size),
        "predicted": float(p.mean()) if p.size else None,
        "observed": float(y.mean()) if p.size else None,
        "wilson": wilson(int(y.sum()), int(p.size)),
    }
