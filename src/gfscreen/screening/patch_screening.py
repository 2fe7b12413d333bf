"""One scan through both stages where Focus is nnU-Net's and reads patches of a grid of its own.

The same rounds as in `screening`: Glance looks at its own sub-volumes or cells, and the patches over what it finds
suspicious are read, the most suspicious first. What is counted are the patches.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.networks.engines.base import Engine, FloatArray
from gfscreen.scan.grid import ModelScan
from gfscreen.scan.nnunet_grid import scores_on_model
from gfscreen.scan.volume import Volume
from gfscreen.screening.budget import Allowance, Budget, write_reserve_s
from gfscreen.screening.cell_pass import CellGlancing
from gfscreen.screening.cells import CellMap
from gfscreen.screening.findings import empty_if_slight
from gfscreen.screening.network_outputs import NetworkOutputs, gathered
from gfscreen.screening.patch_mask import native_probability, patch_mask
from gfscreen.screening.patches import (
    Patches,
    PatchStitcher,
    PatchSuspicion,
    lesion_probability,
    on_model_grid,
    read_patches,
)
from gfscreen.screening.progress import Progress
from gfscreen.screening.schedule import Timetable, evenly_spread
from gfscreen.screening.screening_state import Glanced, ScreeningState
from gfscreen.screening.windows import Window


class GlanceAtWindows(Protocol):
    """`screening.glance`: suspicion of sub-volumes, in the order given, of as many as the allowance lets in."""

    def __call__(
        self,
        scan: ModelScan,
        windows: list[Window],
        plan: Plan,
        engine: Engine,
        allowance: Allowance,
        progress: Progress,
    ) -> Glanced: ...


@dataclass(frozen=True)
class PatchTask:
    """A scan, prepared, and what is asked of it; as in `screening.screen`. windows: Glance's sub-volumes."""

    volume: Volume
    plan: Plan
    scan: ModelScan
    windows: list[Window]
    patches: Patches
    keep_share: float | None = None
    keep_outputs: bool = False
    keep_unfiltered: bool = False


@dataclass(frozen=True)
class PatchScreening:
    """mask: uint8 {0, 1} (i, j, k). state: of the patches. dropped: parts of the mask that did not stand."""

    mask: NDArray[np.uint8]
    state: ScreeningState
    dropped: int
    seconds: dict[str, float]
    suspicion: float | None
    outputs: NetworkOutputs | None


def screen_patches(
    task: PatchTask, engine: Engine, budget: Budget, glance: GlanceAtWindows, progress: Progress
) -> PatchScreening:
    """Screen one scan. Never raises for lack of time: what could not be read is counted in the state."""
    volume, plan, scan, patches = task.volume, task.plan, task.scan, task.patches
    seconds = {"glance": 0.0, "focus": 0.0}
    time = Timetable(budget, write_reserve_s(volume.hu.size), engine.info)
    state = ScreeningState(patches.windows, plan.gate, task.keep_share)
    suspicion = PatchSuspicion(patches, task.windows, plan.sub_volume_voxels, plan.gate)
    of_cells = CellGlancing(scan, plan.cells) if plan.cells and state.glances else None
    cells = None if of_cells is None else of_cells.cells
    stitcher = PatchStitcher(patches.scan.grid.shape, patches.config)
    order = evenly_spread(task.windows, plan.sub_volume_voxels)
    while state.goes_on:
        start = budget.elapsed_s()
        if of_cells is not None:
            _, looked = of_cells.look([], plan, engine, time, progress)
            state.saw(suspicion.of_cells(of_cells.cells), looked=looked)
        elif state.glances:
            allowance = time.for_glance(engine.glance_batch, engine.focus_batch)
            said, looked = suspicion.take(glance(scan, suspicion.unseen(order), plan, engine, allowance, progress))
            state.saw(said, looked=looked)
        engine.release_glance()
        seconds["glance"] += budget.elapsed_s() - start

        start = budget.elapsed_s()
        unread = state.unread()
        state.did_read(unread[: read_patches(patches, unread, stitcher, engine, time.for_focus(), progress)])
        seconds["focus"] += budget.elapsed_s() - start
    engine.release()

    start = budget.elapsed_s()
    scores = stitcher.finish()
    del stitcher
    mask, dropped = patch_mask(scores, patches.scan.grid, volume, plan)
    dropped += empty_if_slight(mask, volume, plan)
    seconds["restore"] = budget.elapsed_s() - start
    known = None if of_cells is None else of_cells.suspicion
    outputs = _outputs(task, state, scores, cells) if task.keep_outputs else None
    return PatchScreening(mask, state, dropped, seconds, known, outputs)


def _outputs(task: PatchTask, state: ScreeningState, scores: FloatArray, cells: CellMap | None) -> NetworkOutputs:
    """What both stages said, on the model grid, and, if it was asked for, Focus's probability on the scan's own."""
    grid, model = task.patches.scan.grid, task.scan.grid
    probability = lesion_probability(scores_on_model(scores, grid, task.volume, model), task.patches.config)
    unfiltered = probability if task.keep_unfiltered else None
    native = native_probability(scores, grid, task.volume) if task.keep_unfiltered else None
    outputs = on_model_grid(gathered(model, task.plan, state, probability, unfiltered, cells), task.patches)
    return replace(outputs, native_probability=native)
