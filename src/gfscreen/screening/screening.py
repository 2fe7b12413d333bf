"""One scan through both stages: the file to read first.

    scan      the CT on the model grid, cropped to the body, chest told from abdomen           (grid, region)
    windows   96 x 96 x 64 sub-volumes that contain body                                        (windows)
    glance    how suspicious is each of them, or each cell of 12 mm, or both?                  (reading, cells)
    focus     outline the lesions in the suspicious ones, or around suspicious cells,
              the most suspicious first; where few small ones hold them, a second focus
              in those                                                                (reading, pointing)
    again     read once more, centred and mirrored, what was found and may be lesion; what
              is small by a second focus, what is large by both                    (second_look, reading)
    mask      average where sub-volumes overlap, drop what cannot be and what is hardly lesion,
              mark masses at the lung and in the liver that glance alone is sure of, drop fluid, back to the
              native grid    (windows, findings, false_positive_reduction, masses, liver_masses, fluid, grid)

A Focus of nnU-Net's reads patches of a grid of its own in place of the sub-volumes: `patch_screening`.

The order of focus makes the deadline safe: when time runs out, what was left unread is what glance thought least of.
How the time is shared, and what happens if not even glance can see all, is decided in `schedule`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.networks.engines.base import Engine
from gfscreen.scan.grid import ModelScan, to_model, to_native_mask
from gfscreen.scan.region import RegionSplit
from gfscreen.scan.volume import Volume
from gfscreen.screening.budget import Budget, Later, empty_write_reserve_s
from gfscreen.screening.cell_pass import CellGlancing
from gfscreen.screening.false_positive_reduction import drop_false_positives, judged_findings
from gfscreen.screening.findings import drop_unlikely, drop_unlikely_parts, empty_if_slight
from gfscreen.screening.fluid import drop_fluid
from gfscreen.screening.liver_masses import mark_liver_masses
from gfscreen.screening.masses import mark_masses
from gfscreen.screening.network_outputs import NetworkOutputs, gathered
from gfscreen.screening.ordinary import clear_ordinary
from gfscreen.screening.patch_screening import PatchTask, screen_patches
from gfscreen.screening.patches import Patches, plan_patches
from gfscreen.screening.pointing import pointed
from gfscreen.screening.progress import Progress, no_progress
from gfscreen.screening.reading import glance, look_again, read_suspicious
from gfscreen.screening.schedule import Timetable, evenly_spread
from gfscreen.screening.screening_state import ScreeningState, in_wide_ones
from gfscreen.screening.second_look import second_look
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Stitcher, Window, close_per_wide, plan_windows


@dataclass
class Screening:
    """Result of one scan. mask: uint8 {0, 1} (i, j, k) on the scan's own grid. seconds: by stage.

    windows_kept: above the gate, or pointed at by cells that are; windows_done: of these, those that Focus
    has read; of close ones as many count for one as take as long. windows_unglanced: those that time did not allow
    Glance to look at. second_looks: sub-volumes around findings that were to be read again; second_looks_done: those
    that were. skipped_probability: the highest suspicion among kept windows left unread. findings_dropped: findings of
    Focus, and parts of them, that are not in the mask for what they are (findings.py).
    suspicion: how likely the scan is to hold a lesion, as calibrated; None where no cells are judged.
    network_outputs: both stages' answers, if they were asked for.
    """

    mask: NDArray[np.uint8]
    region: RegionSplit
    windows_total: int
    windows_kept: int
    windows_done: int
    windows_unglanced: int
    skipped_probability: float | None
    second_looks: int = 0
    second_looks_done: int = 0
    findings_dropped: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    suspicion: float | None = None
    network_outputs: NetworkOutputs | None = None

    @property
    def complete(self) -> bool:
        """True if every sub-volume was glanced at, every suspicious one read, and every finding read again."""
        read = self.windows_done == self.windows_kept and self.second_looks_done == self.second_looks
        return self.windows_unglanced == 0 and read


@dataclass(frozen=True)
class Prepared:
    """A scan on the model grid, its sub-volumes, and the seconds that took: all that needs no network.

    patches: those of a Focus that has a grid of its own; the sub-volumes are then Glance's alone.
    """

    scan: ModelScan
    windows: list[Window]
    seconds: float
    patches: Patches | None = None


def prepare(volume: Volume, plan: Plan, settings: ScreeningSettings, budget: Budget) -> Prepared:
    """Bring a scan to where the networks are needed; can be done while they load."""
    start = budget.elapsed_s()
    scan = to_model(volume, plan, settings.region)
    if plan.nnunet is not None:
        patches = plan_patches(volume, plan, scan, settings.overlap)
        return Prepared(scan, plan_windows(scan, plan, plan.overlap), budget.elapsed_s() - start, patches)
    windows = plan_windows(scan, plan, plan.overlap if settings.overlap is None else settings.overlap)
    return Prepared(scan, windows, budget.elapsed_s() - start)


def screen(
    volume: Volume,
    plan: Plan,
    engine: Engine,
    budget: Budget,
    settings: ScreeningSettings | None = None,
    progress: Progress = no_progress,
    prepared: Prepared | None = None,
    keep_outputs: bool = False,
    keep_unfiltered: bool = False,
) -> Screening:
    """Screen one scan. Never raises for lack of time: what could not be read is counted in the result.

    prepared: what `prepare` gave for this volume, plan and settings, where that was done before. keep_outputs: hand
    out what Glance and Focus said; it holds the probabilities in memory, 4 bytes per model voxel. keep_unfiltered: with
    it, also Focus's probabilities as they were before findings were dropped, 4 bytes per model voxel more.
    """
    settings = settings or ScreeningSettings()
    plan = settings.over(plan)
    prepared = prepared or prepare(volume, plan, settings, budget)
    scan, windows, patches = prepared.scan, prepared.windows, prepared.patches
    if patches is not None:
        task = PatchTask(volume, plan, scan, windows, patches, settings.keep_share, keep_outputs, keep_unfiltered)
        found = screen_patches(task, engine, budget, glance, progress)
        seconds = {"preprocess": prepared.seconds, **found.seconds}
        return _screening(scan, plan, found.state, found.mask, found.dropped, seconds, found.suspicion, found.outputs)
    seconds = {"preprocess": prepared.seconds}

    later = Later.of(volume.hu.size, len(windows))
    time = Timetable(budget, empty_write_reserve_s(volume.hu.size), engine.info, later)
    state = ScreeningState(windows, plan.gate, settings.keep_share)
    of_cells = CellGlancing(scan, plan.cells) if plan.cells and state.glances else None
    cells = None if of_cells is None else of_cells.cells
    stitcher = Stitcher(scan.grid.shape, plan.blend)
    order = evenly_spread(windows, plan.sub_volume_voxels)
    seconds |= {"glance": 0.0, "focus": 0.0}
    # One round if there is time enough.
    while state.goes_on:
        start = budget.elapsed_s()
        if not plan.gated_by_cells:
            allowance = time.for_glance(engine.glance_batch, engine.focus_batch)
            state.saw(glance(scan, state.unseen(order), plan, engine, allowance, progress))
        if of_cells is not None:
            said, looked = of_cells.look(state.unseen(windows), plan, engine, time, progress)
            if plan.gated_by_cells:
                state.saw(said, looked=looked)
            if settings.keep_share is None:
                above = None if plan.gated_by_cells else state.suspicious
                grid = windows if above is None else list(above)
                state.point_at(pointed(of_cells.cells, scan, plan, grid, state.read, above))
        engine.release_glance()
        seconds["glance"] += budget.elapsed_s() - start

        start = budget.elapsed_s()
        unread = state.unread()
        state.did_read(read_suspicious(scan, unread, stitcher, plan, engine, time, progress))
        seconds["focus"] += budget.elapsed_s() - start

    start = budget.elapsed_s()
    again = second_look(scan, stitcher, plan, in_wide_ones(state.read, close_per_wide(plan)), cells)
    done_again = look_again(scan, again, stitcher, plan, engine, time, progress)
    seconds["focus"] += budget.elapsed_s() - start
    # A GPU is held no longer than it computes: on an H100, half of the time that it was held went into what follows.
    # On a CPU the masks need room.
    engine.release()

    start = budget.elapsed_s()
    probability = stitcher.finish()
    del stitcher  # and with it the counts, as large as the probabilities
    unfiltered = probability.copy() if keep_unfiltered else None
    if cells is not None:
        clear_ordinary(probability, scan, cells, plan)
    body = scan.body if plan.foreground == "body" else None
    threshold, peak, percentile = plan.lesion_threshold, plan.finding_peak, plan.finding_percentile
    dropped = drop_unlikely(probability, body, threshold=threshold, peak=peak, percentile=percentile)
    judged = judged_findings(probability, scan, cells, plan) if plan.finding_from or keep_outputs else None
    dropped += drop_false_positives(probability, judged, plan.finding_from)
    mark_masses(probability, scan, cells, plan)
    mark_liver_masses(probability, scan, cells, plan)
    dropped += drop_fluid(probability, scan, plan)
    mask = to_native_mask(probability, scan.grid, volume, threshold)
    dropped += drop_unlikely_parts(mask, probability, scan.grid, volume, plan)
    dropped += empty_if_slight(mask, volume, plan)
    seconds["restore"] = budget.elapsed_s() - start

    suspicion = None if of_cells is None else of_cells.suspicion
    outputs = gathered(scan.grid, plan, state, probability, unfiltered, cells, judged) if keep_outputs else None
    result = _screening(scan, plan, state, mask, dropped, seconds, suspicion, outputs)
    return replace(result, second_looks=len(again), second_looks_done=done_again)


def _screening(
    scan: ModelScan,
    plan: Plan,
    state: ScreeningState,
    mask: NDArray[np.uint8],
    dropped: int,
    seconds: dict[str, float],
    suspicion: float | None,
    outputs: NetworkOutputs | None,
) -> Screening:
    """The result, with what the search has counted; without second looks."""
    skipped = state.unread()
    kept, done = state.counts(close_per_wide(plan))
    return Screening(
        mask=mask,
        region=scan.region,
        windows_total=len(state.windows),
        windows_kept=kept,
        windows_done=done,
        windows_unglanced=len(state.unseen(state.windows)),
        skipped_probability=state.suspicion_of(skipped[0]) if skipped else None,
        findings_dropped=dropped,
        seconds=seconds,
        suspicion=suspicion,
        network_outputs=outputs,
    )
