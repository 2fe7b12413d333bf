"""The FROC curve: sensitivity per lesion against false positives per scan, with intervals by a bootstrap over scans.

Nothing is interpolated: at a number of false positives per scan, the sensitivity is that of the lowest score at which
there are no more of them. The curve begins at no finding and ends at all of them: beyond that it is not known.
Source: Chakraborty 1989 (FROC), and the operating points of LUNA16 (Setio et al. 2017) from 0.5 on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.froc.matching import FALSE, IGNORED, MEANINGS, SweptFinding, SweptLesion
from eval.accuracy.statistics import CONFIDENCE, RESAMPLES, SEED, Estimate, resample_counts, wilson

# False positives per scan at which the sensitivity is told.
RATES = (0.5, 1.0, 2.0, 4.0, 8.0)
# So many elements of resamples times scores are held at once.
_AT_ONCE = 1 << 23
_ROUNDING = 1e-9

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SweptScan:
    """One scan of a curve: its lesions and findings.

    answered: False where there is no usable prediction. The lesions of such a scan are missed at every score; how many
    false positives it would have is not known, so it is no scan of that rate.
    """

    lesions: tuple[SweptLesion, ...]
    findings: tuple[SweptFinding, ...]
    answered: bool = True

    @property
    def highest_score(self) -> float | None:
        """Of the findings that count (not IGNORED); None without any."""
        return max((f.score for f in self.findings if f.verdict != IGNORED), default=None)


@dataclass(frozen=True)
class _Counts:
    """scores: (t,), falling. false: (n, t) false positives of each scan from each score on; found: by meaning, (n, t)
    its lesions that are found; lesions, answered: (n,).
    """

    scores: Floats
    false: Floats
    found: dict[str, Floats]
    lesions: Floats
    answered: Floats


def froc(
    scans: Sequence[SweptScan], of: Callable[[SweptLesion], bool] | None = None, seed: int = SEED
) -> dict[str, Any]:
    """The curve of some scans, as JSON.

    Args:
        scans: with their lesions and findings.
        of: which lesions count; None: all. False positives are those of all scans.
        seed: of the bootstrap.

    Returns:
        `scans` (answered), `lesions`, `false_positives`; `points` from the highest score on, each with `score`,
        `false_positives_per_scan`, `one_voxel` and `a_tenth`; `end`, the last of them; `sensitivity_at`, by meaning and
        rate, each an estimate with `reason`, null or why there is no value. Without an answered scan or a lesion there
        is no point.

    """
    counts = _count(scans, of or (lambda lesion: True))
    points = _points(counts)
    return {
        "scans": int(counts.answered.sum()),
        "lesions": int(counts.lesions.sum()),
        "false_positives": int(counts.false[:, -1].sum()) if counts.scores.size else 0,
        "points": points,
        "end": points[-1] if points else None,
        "sensitivity_at": _at_rates(counts, points, seed),
    }


def _count(scans: Sequence[SweptScan], of: Callable[[SweptLesion], bool]) -> _Counts:
    false = [[f.score for f in scan.findings if f.verdict == FALSE] for scan in scans]
    own = [[lesion for lesion in scan.lesions if of(lesion)] for scan in scans]
    found = {m: [[s for x in group if (s := x.found_at(m)) is not None] for group in own] for m in MEANINGS}
    every = [score for groups in (false, *found.values()) for group in groups for score in group]
    scores = -np.unique(-np.array(every, np.float64))
    return _Counts(
        scores,
        _from_each_score(false, scores),
        {meaning: _from_each_score(groups, scores) for meaning, groups in found.items()},
        np.array([len(group) for group in own], np.float64),
        np.array([scan.answered for scan in scans], np.float64),
    )


def _from_each_score(groups: Sequence[Sequence[float]], falling: Floats) -> Floats:
    """How many of each group (n,) have at least each of the falling scores (t,): float64 (n, t)."""
    table = np.empty((len(groups), falling.size), np.float64)
    for row, group in zip(table, groups, strict=True):
        row[:] = len(group) - np.searchsorted(np.sort(np.asarray(group, np.float64)), falling, side="left")
    return table


def _points(counts: _Counts) -> list[dict[str, float]]:
    """One point for each score, from the highest on; none where a rate has the denominator 0."""
    scans, lesions = float(counts.answered.sum()), float(counts.lesions.sum())
    if scans == 0 or lesions == 0:
        return []
    columns = [counts.scores, counts.false.sum(axis=0) / scans]
    columns += [counts.found[meaning].sum(axis=0) / lesions for meaning in MEANINGS]
    names = ("score", "false_positives_per_scan", *MEANINGS)
    return [dict(zip(names, map(float, row), strict=True)) for row in zip(*columns, strict=True)]


def _at_rates(counts: _Counts, points: Sequence[dict[str, float]], seed: int) -> dict[str, dict[str, Any]]:
    n = int(np.count_nonzero(counts.lesions))
    lesions, ends = int(counts.lesions.sum()), points[-1]["false_positives_per_scan"] if points else 0.0
    whole = _sensitivities(counts, np.ones((1, counts.lesions.size)))
    drawn = _resampled(counts, seed) if n > 1 and points else None
    tail = (1 - CONFIDENCE) / 2
    result: dict[str, dict[str, Any]] = {meaning: {} for meaning in MEANINGS}
    for meaning in MEANINGS:
        for index, rate in enumerate(RATES):
            reason = _why_not(counts, rate, ends)
            estimate, interval = Estimate(None, None, None, n), None
            if reason is None:
                value = float(whole[meaning][0, index])
                low = high = None
                if drawn is not None:
                    low, high = (float(q) for q in np.nanquantile(drawn[meaning][:, index], [tail, 1 - tail]))
                estimate = Estimate(value, low, high, n)
                interval = wilson(round(value * lesions), lesions)
            result[meaning][f"{rate:g}"] = {**estimate.as_dict(), "wilson": interval, "reason": reason}
    return result


def _why_not(counts: _Counts, rate: float, ends: float) -> str | None:
    if counts.lesions.sum() == 0:
        return "no lesion"
    if counts.answered.sum() == 0:
        return "no scan with a usable prediction"
    if ends < rate - _ROUNDING:
        return f"not reached: the curve ends at {ends:.3g} false positives per scan"
    return None


def _sensitivities(counts: _Counts, weights: Floats) -> dict[str, Floats]:
    """Sensitivity at each rate of `RATES` (r, rates), by meaning; NaN where a resample has no lesion or no scan.

    weights: (r, n), how often each scan counts. A resample whose curve ends before a rate has its last sensitivity.
    """
    scans, lesions = weights @ counts.answered, weights @ counts.lesions
    defined = (scans > 0) & (lesions > 0)
    result = {meaning: np.full((len(weights), len(RATES)), np.nan) for meaning in MEANINGS}
    false = weights @ counts.false
    found = {meaning: weights @ counts.found[meaning] for meaning in MEANINGS}
    for index, rate in enumerate(RATES):
        # Neither falls from score to score, so as many scores as keep to the rate come first.
        kept = (false <= (rate * scans + _ROUNDING)[:, None]).sum(axis=1)
        for meaning in MEANINGS:
            hits = np.zeros(len(weights))
            some = kept > 0
            hits[some] = found[meaning][some, kept[some] - 1]
            result[meaning][defined, index] = hits[defined] / lesions[defined]
    return result


def _resampled(counts: _Counts, seed: int) -> dict[str, Floats]:
    """The same for `RESAMPLES` draws of the scans."""
    parts = [_sensitivities(counts, weights) for weights in _draws(counts, seed)]
    return {meaning: np.concatenate([part[meaning] for part in parts]) for meaning in MEANINGS}


def _draws(counts: _Counts, seed: int) -> Iterator[Floats]:
    weights = resample_counts(counts.lesions.size, seed, RESAMPLES)
    step = max(1, _AT_ONCE // max(1, counts.scores.size))
    for start in range(0, len(weights), step):
        yield weights[start : start + step]
