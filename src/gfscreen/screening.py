"""One scan through both stages: the file to read first.

    scan      the CT on the model grid, cropped to the body, chest told from abdomen           (grid, region)
    windows   96 x 96 x 64 sub-volumes that contain body                                        (windows)
    glance    how suspicious is each of them?                                                   (engine)
    focus     outline the lesions in the suspicious ones, the most suspicious first             (engine)
    mask      average where sub-volumes overlap, back to the grid of the scan                   (windows, grid)

The order of focus makes the deadline safe: when time runs out, what was left unread is what glance thought least of.
How the time is shared, and what happens if not even glance can see all, is decided in `schedule`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gfscreen.budget import Allowance, Budget, write_reserve_s
from gfscreen.config import Plan
from gfscreen.engines.base import Engine, FloatArray
from gfscreen.grid import ModelScan, to_model, to_native_mask
from gfscreen.region import RegionSplit
from gfscreen.schedule import Timetable, evenly_spread
from gfscreen.volume import Volume
from gfscreen.windows import Stitcher, Window, gather, plan_windows

Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """Say nothing."""


@dataclass(frozen=True)
class Settings:
    """What the user may change for a run; None takes the plan's value. gate 0 is the dense sliding window.

    keep_share: for timing untrained weights: instead of what is above the gate, keep this share of the sub-volumes.
    """

    region: str = "auto"
    overlap: float | None = None
    gate: float | None = None
    keep_share: float | None = None


@dataclass
class Glanced:
    """Sub-volumes with their suspicion: NaN where time did not allow a glance."""

    windows: list[Window]
    probability: NDArray[np.float64]


class Search:
    """How far the search of one scan has come: which sub-volumes were glanced at, with what suspicion, and read."""

    def __init__(self, windows: list[Window], gate: float, keep_share: float | None = None) -> None:
        self.windows = windows
        self.gate = gate
        self.keep_share = keep_share
        # Gate 0 needs no glance: everything is suspicious.
        self.suspicion = dict.fromkeys(windows, 1.0) if gate == 0 and keep_share is None else {}
        self.read: set[Window] = set()
        self.goes_on = bool(windows)
        self._moved = False

    def unseen(self, order: list[Window]) -> list[Window]:
        """Those of `order` that were not glanced at."""
        return [window for window in order if window not in self.suspicion]

    def unread(self) -> list[Window]:
        """Those that are suspicious and were not read, the most suspicious first."""
        glanced = Glanced(self.windows, np.array([self.suspicion.get(w, np.nan) for w in self.windows], np.float64))
        kept = most_suspicious_first(glanced, self.gate, self.keep_share)
        return [window for window in kept if window not in self.read]

    def saw(self, glanced: Glanced) -> None:
        """Take over what Glance says."""
        seen = {w: float(p) for w, p in zip(glanced.windows, glanced.probability, strict=True) if not math.isnan(p)}
        self.suspicion |= seen
        self._moved = bool(seen)

    def did_read(self, windows: list[Window]) -> None:
        """Take over what Focus has read, which ends a round; one in which nothing was done was the last."""
        self.read |= set(windows)
        done = len(self.suspicion) == len(self.windows) and not self.unread()
        self.goes_on = (self._moved or bool(windows)) and not done


@dataclass
class Screening:
    """Result of one scan. mask: uint8 {0, 1} (i, j, k) on the scan's own grid. seconds: by stage.

    windows_kept: above the gate; windows_done: of these, those that Focus has read; windows_unglanced: those that time
    did not allow Glance to look at. skipped_probability: the highest suspicion among kept windows left unread.
    """

    mask: NDArray[np.uint8]
    region: RegionSplit
    windows_total: int
    windows_kept: int
    windows_done: int
    windows_unglanced: int
    skipped_probability: float | None
    seconds: dict[str, float] = field(default_factory=dict)

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
) -> Screening:
    """Screen one scan. Never raises for lack of time: what could not be read is counted in the result."""
    settings = settings or Settings()
    overlap = plan.overlap if settings.overlap is None else settings.overlap
    gate = plan.gate if settings.gate is None else settings.gate
    seconds: dict[str, float] = {}

    start = budget.elapsed_s()
    scan = to_model(volume, plan, settings.region)
    windows = plan_windows(scan, plan, overlap)
    seconds["preprocess"] = budget.elapsed_s() - start

    time = Timetable(budget, write_reserve_s(volume.hu.size), engine.info)
    search = Search(windows, gate, settings.keep_share)
    stitcher = Stitcher(scan.grid.shape, plan.sub_volume_voxels)
    order = evenly_spread(windows, plan.sub_volume_voxels)
    seconds |= {"glance": 0.0, "focus": 0.0}
    # One round if there is time enough.
    while search.goes_on:
        start = budget.elapsed_s()
        allowance = time.for_glance(engine.glance_batch, engine.focus_batch)
        search.saw(glance(scan, search.unseen(order), plan, engine, allowance, progress))
        seconds["glance"] += budget.elapsed_s() - start

        start = budget.elapsed_s()
        unread = search.unread()
        search.did_read(unread[: focus(scan, unread, stitcher, plan, engine, time.for_focus(), progress)])
        seconds["focus"] += budget.elapsed_s() - start

    start = budget.elapsed_s()
    mask = to_native_mask(stitcher.finish(), scan.grid, volume)
    seconds["restore"] = budget.elapsed_s() - start

    skipped = search.unread()
    return Screening(
        mask=mask,
        region=scan.region,
        windows_total=len(windows),
        windows_kept=len(search.read) + len(skipped),
        windows_done=len(search.read),
        windows_unglanced=len(search.unseen(windows)),
        skipped_probability=search.suspicion[skipped[0]] if skipped else None,
        seconds=seconds,
    )


def glance(
    scan: ModelScan, windows: list[Window], plan: Plan, engine: Engine, allowance: Allowance, progress: Progress
) -> Glanced:
    """Suspicion of the sub-volumes, in batches and in the order given, of as many as the allowance lets in."""
    probability = np.full(len(windows), np.nan)
    done = 0
    while part := windows[done : done + engine.glance_batch]:
        if not allowance.another(len(part)):
            break
        probability[done : done + len(part)] = engine.glance(_gather(scan, part, plan))
        done += len(part)
        progress("glance", done, len(windows))
    allowance.stop()
    return Glanced(windows, probability)


def most_suspicious_first(glanced: Glanced, gate: float, keep_share: float | None = None) -> list[Window]:
    """The sub-volumes above the gate by falling suspicion, equal ones in the grid's order. Gate 0 keeps all.

    With `keep_share` that share of those glanced at (rounded up) is kept, whatever the gate.
    """
    order = np.argsort(-glanced.probability, kind="stable")
    if keep_share is not None:
        seen = int((~np.isnan(glanced.probability)).sum())
        return [glanced.windows[i] for i in order[: math.ceil(keep_share * seen)]]
    kept = [i for i in order if glanced.probability[i] > gate or gate == 0]
    return [glanced.windows[i] for i in kept]


def focus(
    scan: ModelScan,
    windows: list[Window],
    stitcher: Stitcher,
    plan: Plan,
    engine: Engine,
    allowance: Allowance,
    progress: Progress,
) -> int:
    """Add the lesion probability of the sub-volumes to `stitcher`; returns how many, in order, there was time for."""
    done = 0
    while part := windows[done : done + engine.focus_batch]:
        if not allowance.another(len(part)):
            break
        for window, probability in zip(part, engine.focus(_gather(scan, part, plan)), strict=True):
            stitcher.add(window.start, probability)
        done += len(part)
        progress("focus", done, len(windows))
    allowance.stop()
    return done


def _gather(scan: ModelScan, windows: list[Window], plan: Plan) -> FloatArray:
    """The sub-volumes as one batch (n, x, y, z), each through the HU window of its own region."""

    def patches() -> Iterator[FloatArray]:
        for window in windows:
            yield gather(scan.hu, window.start, plan.sub_volume_voxels, plan.hu_windows.of(window.region))

    return np.stack(list(patches()))
