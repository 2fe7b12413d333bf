"""Maxima and areas under the sampled curves: the organisers' figures and the true ones."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean
from typing import Any

from eval.efficiency.sampler import INTERVAL_S, Sample

Points = list[tuple[float, float]]


def organisers_area(values: Sequence[float], interval_s: float = INTERVAL_S) -> float | None:
    """Sum of the samples times the nominal interval, None without samples. Low by the time that queries took."""
    return sum(values) * interval_s if values else None


def integral(points: Sequence[tuple[float, float]], start_s: float, end_s: float) -> float | None:
    """Area under `(time_s, value)` points from `start_s` to `end_s`: trapezoids, the end values held to the limits.

    Points outside the limits are moved to them. None without points.
    """
    if not points:
        return None
    inside = [(min(max(t, start_s), end_s), value) for t, value in points]
    full = [(start_s, inside[0][1]), *inside, (end_s, inside[-1][1])]
    return sum((t1 - t0) * (v0 + v1) / 2 for (t0, v0), (t1, v1) in pairwise(full))


def gpu_figures(samples: Sequence[Sample], idle: Sequence[Sample], end_s: float) -> dict[str, Any] | None:
    """Memory in MiB and MiB s, utilisation in %; None when the GPU was not measured.

    `own_*`: the part of the card that the measured processes hold by NVML's process list, None where not told.
    """
    readings = [s.gpu for s in samples if s.gpu is not None]
    if not readings:
        return None
    used = [r.used_mb for r in readings]
    baseline = [s.gpu.used_mb for s in idle if s.gpu is not None]
    busy = [(r.time_s, r.utilisation_percent) for r in readings if r.utilisation_percent is not None]
    own = [v for v in (own_gpu_mb(s) for s in samples) if v is not None]
    area = integral([(r.time_s, r.used_mb) for r in readings], 0.0, end_s)
    busy_area = integral(busy, 0.0, end_s)
    return {
        "max_mb": max(used),
        "organisers_area_mb_s": organisers_area(used),
        "area_mb_s": area,
        "idle_mb": fmean(baseline) if baseline else None,
        "max_above_idle_mb": max(used) - fmean(baseline) if baseline else None,
        "own_max_mb": max(own) if own else None,
        "max_utilisation_percent": max((v for _, v in busy), default=None),
        "mean_utilisation_percent": busy_area / end_s if busy_area is not None and end_s > 0 else None,
        "longest_query_s": max(r.query_s for r in readings),
        "readings_lost": len(samples) - len(readings),
    }


def own_gpu_mb(sample: Sample) -> float | None:
    """GPU memory of the measured processes in MiB, None where NVML or the process ids do not tell."""
    if sample.gpu is None or sample.own is None:
        return None
    held = [mb for pid, mb in sample.gpu.by_process_mb.items() if pid in sample.own.pids]
    known = [mb for mb in held if mb is not None]
    return sum(known) if known and len(known) == len(held) else None


def cpu_figures(samples: Sequence[Sample], idle: Sequence[Sample], end_s: float) -> dict[str, Any] | None:
    """CPU of the host in % of all cores and % s; `organisers_*` by their formula. None without samples."""
    if not samples:
        return None
    noted = [100 - s.host.organisers_cpu[2] for s in samples]
    busy = [(s.time_s, s.host.busy_percent) for s in samples if s.host.busy_percent is not None]
    baseline = [s.host.busy_percent for s in idle if s.host.busy_percent is not None]
    area = integral(busy, 0.0, end_s)
    return {
        "organisers_max_percent": max(noted),
        "organisers_area_percent_s": organisers_area(noted),
        "max_percent": max((v for _, v in busy), default=None),
        "mean_percent": area / end_s if area is not None and end_s > 0 else None,
        "area_percent_s": area,
        "idle_percent": fmean(baseline) if baseline else None,
    }


def ram_figures(samples: Sequence[Sample], idle: Sequence[Sample], end_s: float) -> dict[str, Any] | None:
    """Memory of the host in MiB and MiB s; None without samples."""
    if not samples:
        return None
    used = [s.host.ram_mb for s in samples]
    baseline = fmean(s.host.ram_mb for s in idle) if idle else None
    return {
        "max_mb": max(used),
        "organisers_area_mb_s": organisers_area(used),
        "area_mb_s": integral([(s.time_s, s.host.ram_mb) for s in samples], 0.0, end_s),
        "idle_mb": baseline,
        "max_above_idle_mb": None if baseline is None else max(used) - baseline,
    }


def own_figures(samples: Sequence[Sample], source: str, end_s: float) -> dict[str, Any] | None:
    """What the container or process tree itself used; None when it was never seen."""
    readings = [s.own for s in samples if s.own is not None]
    if not readings:
        return None
    ram = [r.ram_mb for r in readings if r.ram_mb is not None]
    peaks = [r.peak_mb for r in readings if r.peak_mb is not None]
    anonymous = [r.anonymous_mb for r in readings if r.anonymous_mb is not None]
    seconds = [r.cpu_s for r in readings if r.cpu_s is not None]
    cpu_s = max(seconds, default=None)
    return {
        "source": source,
        "max_ram_mb": max(ram + peaks, default=None),
        "max_anonymous_mb": max(anonymous, default=None),
        "cpu_s": cpu_s,
        "mean_cores": cpu_s / end_s if cpu_s is not None and end_s > 0 else None,
    }
