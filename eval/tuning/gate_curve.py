"""The gate curve: how much of a scan Glance keeps, and how many lesion sub-volumes it keeps, by threshold.

File format (JSON), written by training's validation: a list of objects with exactly these keys, in any order,

    [{"threshold": 0.9, "kept_share": 0.167, "sensitivity": 0.977, "specificity": 0.759}, ...]

threshold: Glance probability of "lesion" above which a sub-volume goes to Focus. kept_share: sub-volumes kept / all.
sensitivity: kept sub-volumes with lesion / all with lesion. specificity: dropped sub-volumes without lesion / all
without. All are shares in [0, 1]; sensitivity and specificity are null where their denominator is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eval.files import read_json
from gfscreen.errors import UsageError

KEYS = ("threshold", "kept_share", "sensitivity", "specificity")
_MAY_BE_NULL = ("sensitivity", "specificity")


@dataclass(frozen=True)
class GatePoint:
    """One threshold; shares in [0, 1], None where undefined."""

    threshold: float
    kept_share: float
    sensitivity: float | None
    specificity: float | None


# Published for a gate of 0.9 on the authors' own split.
PUBLISHED = GatePoint(0.9, 0.167, 0.977, 0.759)


def read_curve(path: Path) -> list[GatePoint]:
    """The points of the file by rising threshold.

    Raises:
        UsageError: not in the format above.

    """
    data = read_json(path)
    if not isinstance(data, list) or not data:
        raise UsageError(
            f"{path}: expected a non-empty list of objects with {', '.join(KEYS)}; see eval/tuning/gate_curve.py"
        )
    points = [_point(entry, f"{path}: entry {index}") for index, entry in enumerate(data)]
    return sorted(points, key=lambda p: p.threshold)


def _point(entry: Any, where: str) -> GatePoint:
    if not isinstance(entry, dict) or set(entry) != set(KEYS):
        found = sorted(entry) if isinstance(entry, dict) else entry
        raise UsageError(f"{where}: expected exactly the keys {', '.join(KEYS)}, got {found}; correct the file")
    for key, value in entry.items():
        if value is None and key in _MAY_BE_NULL:
            continue
        number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not number or not 0 <= value <= 1:
            raise UsageError(f"{where}: {key} must be a share in [0, 1], got {value!r}; correct the file")
    return GatePoint(**entry)


def at_gate(points: Sequence[GatePoint], gate: float) -> GatePoint | None:
    """The point measured at this threshold, None if there is none: nothing is interpolated."""
    return next((p for p in points if abs(p.threshold - gate) < 1e-6), None)
