"""One scan through both stages: the file to read first.

    scan      the CT on the model grid, cropped to the body, chest told from abdomen           (grid, region)
    windows   96 x 96 x 64 sub-volumes that contain body                                        (windows)
    glance    how suspicious is each of them?                                                   (engine)
    focus     outline the lesions in the suspicious ones, the most suspicious first             (engine)
    mask      average where sub-volumes overlap, back to the grid of the scan                   (windows, grid)

The order of focus makes the deadline safe: when time runs out, what was left unread is what glance thought least of.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gfscreen.budget import GLANCE_SHARE, Allowance, Budget, write_reserve_s
from gfscreen.config import Plan
from gfscreen.engines.base import Engine, FloatArray
from gfscreen.evidence import Evidence
from gfscreen.grid import ModelScan, to_model, to_native_mask
from gfscreen.region import RegionSplit
from gfscreen.volume import Volume
from gfscreen.windows import Stitcher, Window, gather, plan_windows

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Settings:
    """What the user may change for a run; None takes the plan's value. gate 0 is the dense sliding window."""

    region: str = "auto"
    overlap: float | None = None
    gate: float | None = None


@dataclass
class Glanced:
    """Sub-volumes with their suspicion: NaN where time did not allow a glance."""

    windows: list[Window]
    probability: NDArray[np.float64]


@dataclass
class Screening:
    """Result of one scan. mask: uint8 {0, 1} (i, j, k) on the scan's own grid. seconds: by stage.

    windows_kept: above the gate; windows_done: of these, those that Focus has read; windows_unglanced: those that time
    did not allow Glance to look at. skipped_probability: the highest suspicion among kept windows left unread.
    evidence: both stages' answers, if they were asked for.
    """

    mask: NDArray[np.uint8]
    region: RegionSplit
    windows_total: int
    windows_kept: int
    windows_done: int
    windows_unglanced: int
    skipped_probability: float | None
    seconds: dict[str, float] = field(default_factory=dict)
    evidence: Evidence | None = None

    @property
    def complete(self) -> bool:
        """True if every sub-volume was glanced at and every suspicious one was read."""
        return self.windows_unglanced == 0 and self.windows_done == self.windows_kept


def screen(
    volume: Volume,
    plan: Plan,
    engine: Engine,
    budget: Budget,
    settings: Settings | None = None,
    progress: Progress = no_progress,
    keep_evidence: bool = False,
) -> Screening:
    """Screen one scan. Never raises for lack of time: what could not be read is counted in the result.

    keep_evidence: hand out what Glance and Focus said; it holds the probabilities in memory, 4 bytes per model voxel.
    """
    settings = settings or Settings()
    overlap = plan.overlap if settings.overlap is None else settings.overlap
    gate = plan.gate if settings.gate is None else settings.gate
    seconds: dict[str, float] = {}

    start = budget.elapsed_s()
    scan = to_model(volume, plan, settings.region)
    windows = plan_windows(scan, plan, overlap)
    seconds["preprocess"] = budget.elapsed_s() - start

    start = budget.elapsed_s()
    time_left = budget.remaining_s() - write_reserve_s(volume.hu.size)
    if gate > 0:
        glanced = glance(scan, windows, plan, engine, Allowance(budget, GLANCE_SHARE * time_left), progress)
    else:
        glanced = Glanced(windows, np.ones(len(windows)))
    suspicious = most_suspicious_first(glanced, gate)
    seconds["glance"] = budget.elapsed_s() - start

    start = budget.elapsed_s()
    time_left = budget.remaining_s() - write_reserve_s(volume.hu.size)
    probability, done = focus(scan, suspicious, plan, engine, Allowance(budget, time_left), progress)
    seconds["focus"] = budget.elapsed_s() - start

    start = budget.elapsed_s()
    mask = to_native_mask(probability, scan.grid, volume)
    seconds["restore"] = budget.elapsed_s() - start

    unread = [glanced.probability[windows.index(window)] for window in suspicious[done : done + 1]]
    return Screening(
        mask=mask,
        region=scan.region,
        windows_total=len(windows),
        windows_kept=len(suspicious),
        windows_done=done,
        windows_unglanced=int(np.isnan(glanced.probability).sum()),
        skipped_probability=float(unread[0]) if unread else None,
        seconds=seconds,
        evidence=_evidence(scan, plan, gate, glanced, suspicious, done, probability) if keep_evidence else None,
    )


def glance(
    scan: ModelScan, windows: list[Window], plan: Plan, engine: Engine, allowance: Allowance, progress: Progress
) -> Glanced:
    """Suspicion of every sub-volume, in batches, while the allowance lasts."""
    probability = np.full(len(windows), np.nan)
    done = 0
    while done < len(windows) and allowance.another():
        part = windows[done : done + engine.glance_batch]
        probability[done : done + len(part)] = engine.glance(_gather(scan, part, plan))
        done += len(part)
        progress("glance", done, len(windows))
    return Glanced(windows, probability)


def most_suspicious_first(glanced: Glanced, gate: float) -> list[Window]:
    """The sub-volumes above the gate by falling suspicion, equal ones in the grid's order. Gate 0 keeps all."""
    order = np.argsort(-glanced.probability, kind="stable")
    kept = [i for i in order if glanced.probability[i] > gate or gate == 0]
    return [glanced.windows[i] for i in kept]


def focus(
    scan: ModelScan, windows: list[Window], plan: Plan, engine: Engine, allowance: Allowance, progress: Progress
) -> tuple[FloatArray, int]:
    """Lesion probability (x, y, z) on the model grid, and how many of `windows` were read before time ran out."""
    stitcher = Stitcher(scan.grid.shape, plan.sub_volume_voxels)
    done = 0
    while done < len(windows) and allowance.another():
        part = windows[done : done + engine.focus_batch]
        for window, probability in zip(part, engine.focus(_gather(scan, part, plan)), strict=True):
            stitcher.add(window.start, probability)
        done += len(part)
        progress("focus", done, len(windows))
    return stitcher.finish(), done


def _gather(scan: ModelScan, windows: list[Window], plan: Plan) -> FloatArray:
    """The sub-volumes as one batch (n, x, y, z), each through the HU window of its own region."""

    def patches() -> Iterator[FloatArray]:
        for window in windows:
            yield gather(scan.hu, window.start, plan.sub_volume_voxels, plan.hu_windows.of(window.region))

    return np.stack(list(patches()))


def _evidence(
    scan: ModelScan,
    plan: Plan,
    gate: float,
    glanced: Glanced,
    suspicious: list[Window],
    done: int,
    probability: FloatArray,
) -> Evidence:
    kept, read = set(suspicious), set(suspicious[:done])
    return Evidence(
        grid=scan.grid,
        size_voxels=plan.sub_volume_voxels,
        gate=gate,
        windows=glanced.windows,
        glance_probability=glanced.probability if gate > 0 else None,
        kept=np.array([window in kept for window in glanced.windows], bool),
        read=np.array([window in read for window in glanced.windows], bool),
        focus_probability=probability,
    )
