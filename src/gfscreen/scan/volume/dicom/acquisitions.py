"""Several acquisitions in one series: phases, repetitions, energies whose slices lie between or upon each other.

Such slices make an even stack that alternates between two scans. Acquisitions that follow each other along the patient,
as steps of a table do, are one scan.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.headers import ACQUISITION_KEYS, Header

# What two may share of the length of all: steps of a table overlap a little, phases nearly whole.
_SHARED = 0.2


def check_one_acquisition(images: Sequence[Header], along_mm: Sequence[float], name: str) -> None:
    """Raise InputError if images of different acquisitions overlap. along_mm: position of each along the normal."""
    along = np.asarray(along_mm, np.float64)
    extent = float(np.ptp(along)) if along.size else 0.0
    if extent <= 0:
        return
    for keyword, words in ACQUISITION_KEYS.items():
        values = [image.acquisition.get(keyword, "") for image in images]
        ranges = _ranges(values, along)
        for n, (first, (low, high)) in enumerate(ranges):
            for second, (other_low, other_high) in ranges[n + 1 :]:
                if min(high, other_high) - max(low, other_low) > _SHARED * extent:
                    raise InputError(_message(name, words, first, second, len(ranges)))
    times = [image.acquisition_s for image in images if image.acquisition_s is not None]
    if len(times) == len(images) and _goes_back(times, along, extent):
        raise InputError(_message(name, "time of acquisition", _clock(min(times)), _clock(max(times)), 2))


def _ranges(values: Sequence[str], along: np.ndarray) -> list[tuple[str, tuple[float, float]]]:
    """Where along the normal the images of each value lie; empty if all have the same."""
    known = sorted(set(values))
    if len(known) < 2:
        return []
    own = {value: along[[v == value for v in values]] for value in known}
    return [(value, (float(part.min()), float(part.max()))) for value, part in own.items()]


def _goes_back(times: Sequence[float], along: np.ndarray, extent: float) -> bool:
    """Whether the table, by the time of each image, returns to where it has been: a second pass."""
    covered: tuple[float, float] | None = None
    for time in sorted(set(times)):
        part = along[[t == time for t in times]]
        low, high = float(part.min()), float(part.max())
        if covered is not None:
            shared = min(high, covered[1]) - max(low, covered[0])
            # A single slice has no length of its own: how deep it lies inside what was covered.
            depth = min(low - covered[0], covered[1] - high) if low == high else shared
            if depth > _SHARED * extent:
                return True
        covered = (low, high) if covered is None else (min(low, covered[0]), max(high, covered[1]))
    return False


def _clock(seconds: float) -> str:
    whole = int(seconds)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}"


def _message(name: str, words: str, first: str, second: str, count: int) -> str:
    return (
        f"{name}: expected one acquisition, slices of {count} overlap in one series ({words} "
        f"{first or 'absent'} and {second or 'absent'}); export each acquisition or phase as its own series"
    )
