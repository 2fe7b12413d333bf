"""Which findings meet which lesions of one scan, and from which score on a lesion counts as found.

A lesion is a 26-connected part of the label, a finding one of the predicted mask. As the score is swept from high to
low, findings appear whole. A lesion is found (a) at the highest score of a finding that shares a voxel with it, and (b)
at the score from which the findings together mark a tenth of its volume. A finding that shares no voxel with a lesion
is a false positive, at its own score, unless more than half of it lies where the label says "ignore".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.detection import TENTH, number_components
from eval.accuracy.metrics import bounding_box

# The two meanings of "found", in the order in which they are told.
ONE_VOXEL, A_TENTH = "one_voxel", "a_tenth"
MEANINGS = (ONE_VOXEL, A_TENTH)
HIT, FALSE, IGNORED = "hit", "false", "ignored"

# By volume in ml, the lower limit included.
SIZE_LIMITS_ML = (0.1, 0.5, 2.0, 10.0)
SIZES = ("<0.1 ml", "0.1-0.5 ml", "0.5-2 ml", "2-10 ml", ">=10 ml")

_AT_ONCE = 1 << 24


@dataclass(frozen=True)
class Overlaps:
    """Findings and lesions of a scan in voxels.

    finding_voxels, ignored_voxels: int64 (f,), of each finding, and of these on an ignore value. lesion_voxels: int64
    (l,). shared: int64 (f, l) voxels of a finding in a lesion.
    """

    finding_voxels: NDArray[np.int64]
    ignored_voxels: NDArray[np.int64]
    lesion_voxels: NDArray[np.int64]
    shared: NDArray[np.int64]


@dataclass(frozen=True)
class SweptLesion:
    """A lesion and the score from which it is found, by each meaning; None: at no score."""

    voxels: int
    volume_ml: float
    one_voxel: float | None
    a_tenth: float | None

    @property
    def size(self) -> str:
        """One of `SIZES`."""
        return SIZES[sum(self.volume_ml >= limit for limit in SIZE_LIMITS_ML)]

    def found_at(self, meaning: str) -> float | None:
        """The score from which it is found; meaning: one of `MEANINGS`."""
        return self.one_voxel if meaning == ONE_VOXEL else self.a_tenth


@dataclass(frozen=True)
class SweptFinding:
    """A finding: its number (1 is the largest), score, and verdict: HIT, FALSE or IGNORED."""

    number: int
    voxels: int
    volume_ml: float
    score: float
    verdict: str


def overlaps(lesion: NDArray[np.bool_], ignored: NDArray[np.bool_], findings: NDArray[np.uint16]) -> Overlaps:
    """Count what lies where. All three arrays are (i, j, k) of one shape.

    lesion, ignored: where the label has lesion and an ignore value. findings: number of each voxel's finding from 1, 0
    outside, as in instance maps. Without lesion or finding the arrays have no entry along that axis.
    """
    box = bounding_box(lesion)
    numbered = np.empty(0, np.uint16) if box is None else number_components(lesion[box])
    count = int(numbered.max(initial=0))
    lesions = np.zeros(lesion.shape, numbered.dtype, order="F")
    if box is not None:
        lesions[box] = numbered
    most = int(findings.max(initial=0))
    table = np.zeros((most + 1) * (count + 1), np.int64)
    ignored_voxels = np.zeros(most + 1, np.int64)
    step = max(1, _AT_ONCE // max(1, lesion.shape[0] * lesion.shape[1]))
    for start in range(0, lesion.shape[2], step):  # bincount widens to int64: never the whole volume at once
        part = np.s_[:, :, start : start + step]
        marked = (findings[part] > 0) | (lesions[part] > 0)
        numbers = findings[part][marked].astype(np.int64)
        table += np.bincount(numbers * (count + 1) + lesions[part][marked], minlength=table.size)
        ignored_voxels += np.bincount(numbers[ignored[part][marked]], minlength=most + 1)
    pairs = table.reshape(most + 1, count + 1)
    return Overlaps(pairs[1:].sum(axis=1), ignored_voxels[1:], pairs[:, 1:].sum(axis=0), pairs[1:, 1:])


def sweep(
    found: Overlaps, scores: Sequence[float] | NDArray[np.float64], voxel_ml: float
) -> tuple[list[SweptLesion], list[SweptFinding]]:
    """From which score each lesion is found, and what each finding is.

    scores: (f,), of the findings in the order of their numbers; the higher, the more suspicious.

    Raises:
        ValueError: another number of scores than of findings, or one that is not finite.

    """
    values = np.asarray(scores, np.float64)
    if values.shape != found.finding_voxels.shape or not np.isfinite(values).all():
        raise ValueError(f"expected {found.finding_voxels.size} finite scores, got {values}")
    order = np.argsort(-values, kind="stable")
    lesions = []
    for voxels, shared in zip(found.lesion_voxels, found.shared.T, strict=True):
        marked = np.cumsum(shared[order])
        first = _score_at(marked > 0, values[order])
        tenth = _score_at(marked / voxels >= TENTH, values[order])
        lesions.append(SweptLesion(int(voxels), float(voxels) * voxel_ml, first, tenth))
    findings = []
    for index, (voxels, ignored, score) in enumerate(
        zip(found.finding_voxels, found.ignored_voxels, values, strict=True)
    ):
        verdict = HIT if found.shared[index].any() else IGNORED if 2 * ignored > voxels else FALSE
        findings.append(SweptFinding(index + 1, int(voxels), float(voxels) * voxel_ml, float(score), verdict))
    return lesions, findings


def _score_at(reached: NDArray[np.bool_], falling: NDArray[np.float64]) -> float | None:
    """The first of the falling scores at which something is reached."""
    return float(falling[int(np.argmax(reached))]) if reached.any() else None
