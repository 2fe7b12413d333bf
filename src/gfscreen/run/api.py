"""Screening from Python: the networks are loaded once, then any number of scans can be given to the screener."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import read_plan
from gfscreen.errors import InputError
from gfscreen.networks.engines.base import EngineInfo
from gfscreen.networks.engines.select import load_engine
from gfscreen.run.options import default_weights
from gfscreen.run.report import lesion_volume_ml
from gfscreen.scan.volume import Geometry, Volume, read_volume, write_mask
from gfscreen.scan.volume.geometry import check_affine
from gfscreen.scan.volume.hounsfield import refuse_mask
from gfscreen.scan.volume.provenance import fingerprint
from gfscreen.screening.budget import Budget
from gfscreen.screening.progress import Progress, no_progress
from gfscreen.screening.screening import Screening, screen
from gfscreen.screening.settings import ScreeningSettings


@dataclass(frozen=True)
class Result:
    """What was found in one scan.

    screening: the mask with all counts, region and seconds per stage. geometry: where its voxels lie.
    warnings: what was odd about the scan. scan: its fingerprint, which the saved mask carries.
    """

    screening: Screening
    geometry: Geometry
    warnings: tuple[str, ...]
    scan: str | None = None

    @property
    def mask(self) -> NDArray[np.uint8]:
        """uint8 {0, 1} (i, j, k), along the axes of the scan's file."""
        return self.screening.mask

    @property
    def affine_ras_mm(self) -> NDArray[np.float64]:
        """(4, 4), voxel index -> RAS+ mm."""
        return self.geometry.affine_ras_mm

    @property
    def lesion_volume_ml(self) -> float:
        """Volume of the mask; 0.0 if nothing was found."""
        return lesion_volume_ml(self.screening, self.geometry)

    @property
    def suspicion(self) -> float | None:
        """How likely the scan is to hold a lesion, 0 to 1; None without cells that are calibrated."""
        return self.screening.suspicion

    @property
    def region(self) -> str:
        """`chest`, `abdomen` or `chest-abdomen`."""
        return self.screening.region.label

    @property
    def complete(self) -> bool:
        """False if the time limit left suspicious sub-volumes unread; the mask is valid but may lack lesions."""
        return self.screening.complete

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the mask as .nii.gz with the geometry of the scan, whole or not at all. Raises OutputError."""
        target = Path(path)
        write_mask(target, self.mask, self.geometry, self.scan)
        return target


class Screener:
    """Both networks, loaded once and ready for any number of scans.

    weights: folder made by `train`, `convert` or `init`; None takes GFSCREEN_WEIGHTS, else ./weights. device: `auto`,
    `cpu`, `cuda`, `cuda:N`. engine: `auto`, `torch`, `openvino`. precision: `auto`, `fp32`. region: `auto`, `chest`,
    `abdomen`. overlap, gate, lesion_threshold, finding_peak, finding_from, min_volume_ml: None takes the plan's; gate 0
    is the dense sliding window. operating_point: `sensitive`, `balanced` or `specific`, if the plan has it, in place of
    the plan's own values; what is given beside it goes over it. progress: called with stage, done and total.
    Raises UsageError, WeightsError, EngineError. Not safe for several threads at once.
    """

    def __init__(
        self,
        weights: str | os.PathLike[str] | None = None,
        *,
        device: str = "auto",
        engine: str = "auto",
        precision: str = "auto",
        gpu_memory_limit_mb: float | None = None,
        region: str = "auto",
        overlap: float | None = None,
        gate: float | None = None,
        lesion_threshold: float | None = None,
        finding_peak: float | None = None,
        finding_from: float | None = None,
        min_volume_ml: float | None = None,
        operating_point: str | None = None,
        progress: Progress = no_progress,
    ) -> None:
        folder = default_weights() if weights is None else Path(weights)
        self.plan = read_plan(folder)
        self._settings = ScreeningSettings(
            region,
            overlap,
            gate,
            lesion_threshold=lesion_threshold,
            finding_peak=finding_peak,
            finding_from=finding_from,
            min_volume_ml=min_volume_ml,
            operating_point=operating_point,
        )
        self._settings.over(self.plan)  # refused before networks are loaded
        self._progress = progress
        self._engine = load_engine(
            folder, device=device, engine=engine, precision=precision, gpu_memory_limit_mb=gpu_memory_limit_mb
        )

    @property
    def engine(self) -> EngineInfo:
        """Engine, device and precision that were chosen, and why."""
        return self._engine.info

    def __call__(
        self, scan: str | os.PathLike[str], *, series: str | None = None, time_limit_s: float | None = None
    ) -> Result:
        """Screen a NIfTI, MetaImage or NRRD file, or a DICOM folder or zip (`series`: UID or number). InputError."""
        volume = read_volume(Path(scan), series)
        refuse_mask(volume.hu, volume.source.name)
        return self._screen(volume, time_limit_s)

    def screen_array(
        self, hu: NDArray[np.int16], affine_ras_mm: NDArray[np.float64], *, time_limit_s: float | None = None
    ) -> Result:
        """Screen Hounsfield units in memory: int16 (i, j, k), and (4, 4) voxel index -> RAS+ mm. Raises InputError."""
        affine = np.asarray(affine_ras_mm, dtype=np.float64)
        if hu.ndim != 3 or hu.dtype != np.int16 or hu.size == 0:
            raise InputError(f"array: expected int16 HU (i, j, k), got {hu.dtype} {hu.shape}; convert it first")
        if affine.shape != (4, 4):
            raise InputError(f"array: expected an affine of shape (4, 4), got {affine.shape}; see nibabel's img.affine")
        source = Path("array")
        warnings = tuple(check_affine(affine, source))
        geometry = Geometry((hu.shape[0], hu.shape[1], hu.shape[2]), affine)
        return self._screen(Volume(np.asfortranarray(hu), geometry, source, warnings), time_limit_s)

    def _screen(self, volume: Volume, time_limit_s: float | None) -> Result:
        result = screen(volume, self.plan, self._engine, Budget(time_limit_s), self._settings, self._progress)
        return Result(result, volume.geometry, volume.warnings, fingerprint(volume))
