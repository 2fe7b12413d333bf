"""Spread, bootstrap intervals and paired permutation tests; pure functions, seeded, null where undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 2025
RESAMPLES = 2000
CONFIDENCE = 0.95
# 2**16 sign patterns are enumerated in well under a second; above that they are drawn.
EXACT_UP_TO = 16


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval; `n` scans carry the denominator. All None when undefined (no scan, or 0/0)."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


@dataclass(frozen=True)
class Description:
    """Location and spread of a sample. `std` is the sample's (n - 1), None below two values; all None when empty."""

    n: int
    mean: float | None
    std: float | None
    median: float | None
    q1: float | None
    q3: float | None
    ci95: tuple[float, float] | None

    def as_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def describe(values: Sequence[float], seed: int = SEED, resamples: int = RESAMPLES) -> Description:
    """Describe a sample; `ci95` is the bootstrap interval of the mean (None below two values)."""
    data = np.asarray(values, dtype=np.float64)
    if data.size == 0:
        return Description(0, None, None, None, None, None, None)
    q1, median, q3 = (float(q) for q in np.quantile(data, [0.25, 0.5, 0.75]))
    std = interval = None
    if data.size > 1:
        std = float(data.std(ddof=1))
        estimate = bootstrap_ratio(data, np.ones_like(data), seed, resamples)
        if estimate.low is not None and estimate.high is not None:
            interval = (estimate.low, estimate.high)
    return Description(int(data.size), float(data.mean()), std, median, q1, q3, interval)


def bootstrap_ratio(
    numerators: Sequence[float] | NDArray[Any],
    denominators: Sequence[float] | NDArray[Any],
    seed: int = SEED,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Sum(numerators) / sum(denominators) with a percentile bootstrap over the rows.

    A row is one scan, so that lesions of one scan stay together (cluster bootstrap). A mean is the case of denominators
    of 1, sensitivity that of TP over TP + FN. Resamples in which the ratio is 0/0 are left out; with fewer than two
    rows that carry a denominator there is a value but no interval.

    Source: Efron and Tibshirani 1993, percentile interval.
    """
    top, bottom = np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)
    if top.shape != bottom.shape or top.ndim != 1:
        raise ValueError(f"expected two vectors of equal length, got {top.shape} and {bottom.shape}")
    n = int(np.count_nonzero(bottom))
    if bottom.sum() == 0:
        return Estimate(None, None, None, n)
    value = float(top.sum() / bottom.sum())
    if n < 2:
        return Estimate(value, None, None, n)
    counts = resample_counts(top.size, seed, resamples)
    drawn_bottom = counts @ bottom
    defined = drawn_bottom > 0
    drawn = (counts @ top)[defined] / drawn_bottom[defined]
    tail = (1 - CONFIDENCE) / 2
    low, high = (float(q) for q in np.quantile(drawn, [tail, 1 - tail]))
    return Estimate(value, low, high, n)


def resample_counts(n: int, seed: int = SEED, resamples: int = RESAMPLES) -> NDArray[np.float64]:
    """How often each of `n` rows is drawn in each resample: float64 (resamples, n), every row sums to `n`."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(n, np.full(n, 1 / n), size=resamples).astype(np.float64)


def auc_of(said: NDArray[np.floating[Any]], holds: NDArray[np.bool_]) -> float | None:
    """Area under the ROC curve (Mann-Whitney): how often of two the one that holds has the higher score, ties half.

    None unless there are both kinds. Without an interval, and so without a bootstrap; `froc.case_level.auc` has one.
    """
    if holds.all() or not holds.any():
        return None
    from scipy.stats import rankdata  # takes longer to load than all else here

    ranks = rankdata(said)
    positive = int(holds.sum())
    return float((ranks[holds].sum() - positive * (positive + 1) / 2) / (positive * (holds.size - positive)))


def wilson(successes: int, n: int) -> tuple[float, float] | None:
    """95 % Wilson score interval of a proportion, None for n = 0.

    Beside the bootstrap because that one collapses to a point when every trial went the same way.
    """
    if n == 0:
        return None
    z = 1.959963984540054
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (max(0.0, centre - half), min(1.0, centre + half))


def paired_permutation(differences: Sequence[float], seed: int = SEED, permutations: int = 10_000) -> float | None:
    """Two-sided p-value of "the mean paired difference is 0" under random exchange of the two runs within each case.

    Every sign pattern is enumerated up to 16 non-zero differences; above, `permutations` are drawn and the observed one
    is counted too, so that p is never 0 (Phipson and Smyth 2010). None without any pair; 1 when all differences are 0.
    """
    data = np.asarray(differences, dtype=np.float64)
    if data.size == 0:
        return None
    moving = data[data != 0]
    if moving.size == 0:
        return 1.0
    observed = abs(float(moving.sum()))
    limit = observed - 1e-12 * float(np.abs(moving).sum())  # equal sums may differ in the last bit
    if moving.size <= EXACT_UP_TO:
        signs = np.array(list(product((-1.0, 1.0), repeat=int(moving.size))))
        return float(np.mean(np.abs(signs @ moving) >= limit))
    rng = np.random.default_rng(seed)
    extreme = 0
    for start in range(0, permutations, 1000):  # bounded memory for many cases
        signs = rng.choice((-1.0, 1.0), size=(min(1000, permutations - start), moving.size))
        extreme += int(np.count_nonzero(np.abs(signs @ moving) >= limit))
    return (extreme + 1) / (permutations + 1)


def case_ranks(values: NDArray[np.float64], higher_is_better: bool = True) -> NDArray[np.float64]:
    """Rank the systems within each case, 1 for the best, ties sharing the mean of their ranks.

    `values`: (cases, systems). The challenge averages these ranks over cases and metrics.
    """
    keyed = -values if higher_is_better else values
    better = (keyed[:, None, :] < keyed[:, :, None]).sum(axis=2)
    equal = (keyed[:, None, :] == keyed[:, :, None]).sum(axis=2)
    ranks: NDArray[np.float64] = 1.0 + better + (equal - 1) / 2
    return ranks
