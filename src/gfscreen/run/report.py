"""What is said about a run: one JSON file, the same keys for every case whether it went well or not."""

from __future__ import annotations

import json
import resource
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.config import Plan, plan_to_json
from gfscreen.errors import OutputError
from gfscreen.files import write_atomically
from gfscreen.networks.engines.base import EngineInfo
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.geometry import Geometry
from gfscreen.screening.screening import Screening
from gfscreen.version import __version__

REPORT_FORMAT = 1
STAGES = ("read", "preprocess", "glance", "focus", "write", "total")


@dataclass
class CaseReport:
    """One case. Keys are stable; null where something was not measured.

    status: `ok`; `degraded`: a valid mask, but time did not allow every suspicious sub-volume, or every finding
    again, to be read; `failed`.
    empty_mask: nobody looked at the scan, and an empty mask was written in its place: the case failed, or, `degraded`,
    the networks were not loaded in time. resumed: finished by an earlier run, whose mask was checked and left as it is;
    `ok` then says no more than that.
    source: the scan's path below the input folder, its name if it is the input itself. series_uid: of DICOM, the Series
    Instance UID that was taken.
    suspicion: how likely the scan is to hold a lesion, 0 to 1; null without cells that are calibrated.
    seconds: `results`, statistics and preview, only where they were asked for, comes after `total`.
    """

    name: str
    status: str = "failed"
    error: str | None = None
    empty_mask: bool = False
    resumed: bool = False
    source: str | None = None
    series_uid: str | None = None
    warnings: list[str] = field(default_factory=list)
    region: str | None = None
    region_detail: dict[str, Any] | None = None
    windows_total: int | None = None
    windows_kept: int | None = None
    windows_done: int | None = None
    windows_unglanced: int | None = None
    second_looks: int | None = None
    second_looks_done: int | None = None
    skipped_probability: float | None = None
    findings_dropped: int | None = None
    lesion_volume_ml: float | None = None
    suspicion: float | None = None
    seconds: dict[str, float | None] = field(default_factory=lambda: dict.fromkeys(STAGES))
    peak_rss_mb: float | None = None
    peak_gpu_mb: float | None = None

    def fill(self, volume: Volume, screening: Screening) -> None:
        """Take over what the screening found."""
        self.warnings += [warning for warning in volume.warnings if warning not in self.warnings]
        self.region = screening.region.label
        self.region_detail = region_detail(volume.geometry, screening)
        self.windows_total = screening.windows_total
        self.windows_kept = screening.windows_kept
        self.windows_done = screening.windows_done
        self.windows_unglanced = screening.windows_unglanced
        self.second_looks = screening.second_looks
        self.second_looks_done = screening.second_looks_done
        self.skipped_probability = screening.skipped_probability
        self.findings_dropped = screening.findings_dropped
        self.lesion_volume_ml = lesion_volume_ml(screening, volume.geometry)
        self.suspicion = rounded(screening.suspicion)
        if screening.windows_total == 0:
            self.warnings.append("no body found in the scan: the mask is empty")


def rounded(suspicion: float | None) -> float | None:
    """A scan's suspicion as it is written everywhere: six decimals, so that ranks near 1 are kept."""
    return None if suspicion is None else round(suspicion, 6)


def source_text(path: Path, source: Path) -> str:
    """The path of a case below the input folder; its name where it is the input itself."""
    return path.name if path == source else path.relative_to(source).as_posix()


def lesion_volume_ml(screening: Screening, geometry: Geometry) -> float:
    """Volume of the mask in ml, by the determinant of the affine."""
    return geometry.volume_ml(int(screening.mask.sum(dtype=np.int64)))


def region_detail(geometry: Geometry, screening: Screening) -> dict[str, Any]:
    """What the region decision rests on, in slices of the file and mm from the lowest slice.

    `chest_slices` and `abdomen_slices` are inclusive [first, last] along `slice_axis` of the file, null if empty.
    """
    region = screening.region
    axes, flips = geometry.ras_axes
    slices = geometry.shape[axes[2]]
    slice_mm = geometry.spacing_mm[axes[2]]
    # The number of abdominal slices; the coarse slices may leave a few of the uppermost native ones uncovered.
    split = slices if not region.chest.any() else round(region.split_slice * region.slice_mm / slice_mm)

    def in_file(low: int, high: int) -> list[int] | None:
        if low >= high:
            return None
        return [slices - high, slices - 1 - low] if flips[2] else [low, high - 1]

    return {
        "reason": region.reason,
        "forced": region.forced,
        "lung_share_max": round(float(region.lung_share.max(initial=0.0)), 3),
        "lung_share_mean": round(float(region.lung_share.mean()) if region.lung_share.size else 0.0, 3),
        "slice_axis": axes[2],
        "chest_slices": in_file(split, slices),
        "abdomen_slices": in_file(0, split),
        "split_above_lowest_slice_mm": round(split * slice_mm, 1) if 0 < split < slices else None,
    }


def peak_rss_mb() -> float:
    """Peak resident memory of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10), 1)


def run_report(
    cases: list[CaseReport],
    plan: Plan | None,
    engine: EngineInfo | None,
    settings: dict[str, Any],
    notice: str | None = None,
) -> dict[str, Any]:
    """The whole report: resolved plan, engine and settings, what the weights are of use for, and every case."""
    return {
        "format": REPORT_FORMAT,
        "gfscreen": __version__,
        "notice": notice,
        "engine": None if engine is None else asdict(engine),
        "plan": None if plan is None else plan_to_json(plan),
        "settings": settings,
        "cases": [asdict(case) for case in cases],
    }


def write_report(path: Path, report: dict[str, Any]) -> None:
    """Write the report as JSON, whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (json.dumps(report, indent=2) + "\n").encode())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error
