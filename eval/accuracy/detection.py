"""Was the lesion found? Detection per scan and per lesion, by size and by type.

Scan level (published definition): a scan with lesions is TP if prediction and label share a voxel, else FN; a scan
without is FP if anything is predicted, else TN. Lesion level: the same for each 26-connected component of the label;
a predicted component that shares no voxel with the label is a false positive. One voxel is little: sensitivity is told
a second time for lesions of which a tenth of the volume is marked, or more, and for scans with such a lesion.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from numpy.typing import NDArray

from eval.accuracy.masks import Spacing
from eval.accuracy.metrics import bounding_box
from eval.accuracy.statistics import SEED, bootstrap_ratio, describe, wilson

# By the diameter of the sphere of equal volume. 10 mm: the shortest measurable lesion in RECIST 1.1.
SIZE_LIMITS_MM = (10.0, 20.0, 50.0)
SIZE_CLASSES = ("<10 mm", "10-20 mm", "20-50 mm", ">=50 mm")
TENTH = 0.1
_SLAB_VOXELS = 1 << 24


@dataclass(frozen=True)
class TrueLesion:
    """One component of the label, whether the prediction shares a voxel with it, and how much of it is marked."""

    volume_ml: float
    detected: bool
    marked_share: float = 0.0

    @property
    def a_tenth(self) -> bool:
        """Whether a tenth of its volume is marked, or more."""
        return self.marked_share >= TENTH

    @property
    def diameter_mm(self) -> float:
        """Diameter of the sphere of equal volume."""
        return float((6000 * self.volume_ml / math.pi) ** (1 / 3))

    @property
    def size_class(self) -> str:
        """One of `SIZE_CLASSES`."""
        return SIZE_CLASSES[sum(self.diameter_mm >= limit for limit in SIZE_LIMITS_MM)]


@dataclass(frozen=True)
class ScanDetection:
    """What was found in one scan.

    `answered` is False where no usable prediction exists (missing, unreadable, other grid, labels above 1). Such a scan
    counts against the method: FN with lesions, FP without, as the score gives it 0 either way.
    """

    lesions: tuple[TrueLesion, ...]
    predicted_ml: float
    false_components: int
    false_components_ml: float
    answered: bool = True

    @property
    def outcome(self) -> str:
        """`TP`, `FN`, `FP` or `TN` of the scan."""
        if self.lesions:
            return "TP" if any(lesion.detected for lesion in self.lesions) else "FN"
        return "TN" if self.answered and self.predicted_ml == 0 else "FP"

    @property
    def a_tenth(self) -> bool:
        """Whether a tenth of the volume of one of its lesions is marked, or more."""
        return any(lesion.a_tenth for lesion in self.lesions)


def detect(
    truth: NDArray[Any], prediction: NDArray[Any] | None, spacing_mm: Spacing, *, voxel_ml: float | None = None
) -> ScanDetection:
    """Match the components of two masks (x, y, z) of equal shape; `prediction=None` is an unanswered scan.

    Any non-zero voxel counts. Volumes are in ml, by `voxel_ml`, the volume of a voxel, or else by `spacing_mm`: in a
    file whose pixdim contradicts its affine the two differ.
    """
    if voxel_ml is None:
        voxel_ml = math.prod(spacing_mm) / 1000
    sizes, hits = _components(truth, prediction)
    lesions = tuple(TrueLesion(int(n) * voxel_ml, bool(h), float(h / n)) for n, h in zip(sizes, hits, strict=True))
    if prediction is None:
        return ScanDetection(lesions, 0.0, 0, 0.0, answered=False)
    sizes, hits = _components(prediction, truth)
    return ScanDetection(
        lesions,
        predicted_ml=int(sizes.sum()) * voxel_ml,
        false_components=int(np.count_nonzero(hits == 0)),
        false_components_ml=int(sizes[hits == 0].sum()) * voxel_ml,
    )


def _components(mask: NDArray[Any], other: NDArray[Any] | None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Voxels of each 26-connected component of `mask`, and how many of them are in `other` too."""
    box = bounding_box(mask)
    if box is None:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    labels = number_components(mask[box])
    count = int(labels.max()) + 1
    sizes, hits = np.zeros(count, np.int64), np.zeros(count, np.int64)
    step = max(1, _SLAB_VOXELS // max(1, labels.shape[0] * labels.shape[1]))
    inside = None if other is None else other[box]
    for start in range(0, labels.shape[2], step):  # bincount widens to int64: never the whole volume at once
        slab = labels[:, :, start : start + step]
        sizes += np.bincount(slab[slab != 0], minlength=count)
        if inside is not None:
            hits += np.bincount(slab[inside[:, :, start : start + step] != 0], minlength=count)
    return sizes[1:], hits[1:]


def number_components(mask: NDArray[Any]) -> NDArray[Any]:
    """Number the 26-connected components of a non-empty 3D mask from 1; an unsigned integer array of its shape.

    cc3d (4.1) sizes its table for half the voxels of a binary image, which an odd length can exceed: the line 1 0 1 is
    a "maximum length exception". Even lengths cannot.
    """
    x, y, z = mask.shape
    even = np.zeros((x + x % 2, y + y % 2, z + z % 2), np.bool_, order="F")
    np.not_equal(mask, 0, out=even[:x, :y, :z])
    labels: NDArray[Any] = cc3d.connected_components(even, connectivity=26, binary_image=True)[:x, :y, :z]
    return labels


def summarise(scans: Sequence[ScanDetection], types: Sequence[str], seed: int = SEED) -> dict[str, Any]:
    """All detection tables as a JSON object; `types` names the lesion type of each scan.

    Every rate is `{value, low, high, n}` with a bootstrap over scans, null where its denominator is 0.
    """
    if len(scans) != len(types):
        raise ValueError(f"expected one type per scan, got {len(types)} for {len(scans)} scans")
    healthy = [s for s in scans if not s.lesions]
    kinds = sorted(set(types))
    by_kind = {kind: [s for s, t in zip(scans, types, strict=True) if t == kind] for kind in kinds}
    return {
        "scan": scan_level(scans, seed),
        "lesion": lesion_level(scans, seed),
        "lesion_by_size": {name: _size_level(scans, name, seed) for name in SIZE_CLASSES},
        "scan_by_type": {kind: scan_level(group, seed) for kind, group in by_kind.items()},
        "lesion_by_type": {kind: lesion_level(group, seed) for kind, group in by_kind.items()},
        "healthy": {
            "scans": len(healthy),
            "fpr": _rate(healthy, lambda s: s.outcome == "FP", lambda s: True, seed),
            "false_positive_ml": describe([s.predicted_ml for s in healthy if s.answered], seed).as_dict(),
        },
        "size_classes": "diameter of the sphere of equal volume",
    }


def scan_level(scans: Sequence[ScanDetection], seed: int = SEED) -> dict[str, Any]:
    """Counts and rates with one decision per scan: F1, sensitivity, specificity, FPR = FP / (FP + TN), precision."""
    counts = {key: sum(s.outcome == key.upper() for s in scans) for key in ("tp", "fp", "fn", "tn")}

    def rate(top: Iterable[str], bottom: Iterable[str]) -> dict[str, Any]:
        tops, bottoms = frozenset(top), frozenset(bottom)
        return _rate(scans, lambda s: s.outcome in tops, lambda s: s.outcome in bottoms, seed)

    return {
        "scans": len(scans),
        "unanswered": sum(not s.answered for s in scans),
        **counts,
        "f1": bootstrap_ratio(
            [2.0 * (s.outcome == "TP") for s in scans],
            [{"TP": 2.0, "FP": 1.0, "FN": 1.0, "TN": 0.0}[s.outcome] for s in scans],
            seed,
        ).as_dict(),
        "sensitivity": rate(["TP"], ["TP", "FN"]),
        "sensitivity_a_tenth": _rate(scans, lambda s: s.a_tenth, lambda s: bool(s.lesions), seed),
        "specificity": rate(["TN"], ["TN", "FP"]),
        "fpr": rate(["FP"], ["TN", "FP"]),
        "precision": rate(["TP"], ["TP", "FP"]),
    }


def lesion_level(scans: Sequence[ScanDetection], seed: int = SEED) -> dict[str, Any]:
    """Counts and rates with one decision per lesion; there is no true negative, so neither specificity nor FPR."""
    tp = [sum(lesion.detected for lesion in s.lesions) for s in scans]
    tenths = [sum(lesion.a_tenth for lesion in s.lesions) for s in scans]
    all_lesions = [len(s.lesions) for s in scans]
    fp = [s.false_components for s in scans]
    total, found = sum(all_lesions), sum(tp)
    return {
        "lesions": total,
        "tp": found,
        "fn": total - found,
        "fp": sum(fp),
        "f1": bootstrap_ratio(
            [2 * t for t in tp], [t + n + f for t, n, f in zip(tp, all_lesions, fp, strict=True)], seed
        ).as_dict(),
        "sensitivity": _sensitivity(tp, all_lesions, seed),
        "sensitivity_a_tenth": _sensitivity(tenths, all_lesions, seed),
        "precision": bootstrap_ratio(tp, [t + f for t, f in zip(tp, fp, strict=True)], seed).as_dict(),
        "false_positives_per_scan": bootstrap_ratio(fp, [1] * len(scans), seed).as_dict(),
    }


def _size_level(scans: Sequence[ScanDetection], name: str, seed: int) -> dict[str, Any]:
    sized = [[lesion for lesion in s.lesions if lesion.size_class == name] for s in scans]
    tp, n = [sum(lesion.detected for lesion in group) for group in sized], [len(group) for group in sized]
    tenths = [sum(lesion.a_tenth for lesion in group) for group in sized]
    return {
        "lesions": sum(n),
        "tp": sum(tp),
        "sensitivity": _sensitivity(tp, n, seed),
        "sensitivity_a_tenth": _sensitivity(tenths, n, seed),
    }


def _sensitivity(found: Sequence[int], lesions: Sequence[int], seed: int) -> dict[str, Any]:
    """Lesions found of all, both per scan."""
    return {**bootstrap_ratio(found, lesions, seed).as_dict(), "wilson": wilson(sum(found), sum(lesions))}


def _rate(
    scans: Sequence[ScanDetection],
    top: Callable[[ScanDetection], bool],
    bottom: Callable[[ScanDetection], bool],
    seed: int,
) -> dict[str, Any]:
    tops, bottoms = [float(top(s)) for s in scans], [float(bottom(s)) for s in scans]
    interval = wilson(round(sum(tops)), round(sum(bottoms)))
    return {**bootstrap_ratio(tops, bottoms, seed).as_dict(), "wilson": interval}
