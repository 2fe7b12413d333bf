"""Glance over a scan by its cells: piece after piece, as far as the time goes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gfscreen.config import Plan
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.engines.base import NOMINAL_VOXELS, Engine
from gfscreen.screening.budget import Allowance
from gfscreen.screening.cells import CellMap, OnModelGrid, Piece, TrunkInput, blank_cells, case_suspicion, take_over
from gfscreen.screening.schedule import Timetable
from gfscreen.screening.screening_state import Glanced
from gfscreen.screening.windows import Window


def glance_at_cells(
    see: TrunkInput,
    cells: CellMap,
    windows: list[Window],
    plan: Plan,
    engine: Engine,
    allowance: Allowance,
    progress: Callable[[str, int, int], None],
) -> Glanced:
    """Look at pieces of the scan, in order, as long as the allowance lets; suspicion of the sub-volumes by their cells.

    NaN for a sub-volume of which a cell is unknown. What was looked at is entered in `cells`; the rest stays for later.
    """
    total = len(cells.pieces)
    for piece in list(cells.pieces):
        if not allowance.another(nominal_sub_volumes(see, piece, cells)):
            break
        take_over(cells, piece, engine.cells(see(piece, cells)))
        progress("glance", total - len(cells.pieces), total)
    allowance.stop()
    if not cells.pieces:
        see.forget()
    suspicion = [cells.suspicion(window, plan.sub_volume_voxels) for window in windows]
    return Glanced(windows, np.array(suspicion, np.float64))


class CellGlancing:
    """The cells of one scan as they become known, round by round; makes what the trunk reads when it is asked for."""

    def __init__(self, scan: OnModelGrid, config: CellGlanceConfig) -> None:
        self.cells = blank_cells(scan, config)
        self._config = config
        self._see = TrunkInput(scan, config)

    def look(
        self,
        windows: list[Window],
        plan: Plan,
        engine: Engine,
        time: Timetable,
        progress: Callable[[str, int, int], None],
    ) -> tuple[Glanced, bool]:
        """One round, as far as its share of the time goes: `glance_at_cells`, and whether anything was looked at."""
        cells = self.cells
        step = nominal_sub_volumes(self._see, cells.pieces[0], cells) if cells.pieces else 1
        share = time.for_cells if plan.marked_by_cells else time.for_glance
        before, allowance = len(cells.pieces), share(step, engine.focus_batch)
        said = glance_at_cells(self._see, cells, windows, plan, engine, allowance, progress)
        return said, len(cells.pieces) < before

    @property
    def suspicion(self) -> float | None:
        """How likely the scan is to hold a lesion, calibrated; None if nothing was looked at."""
        return case_suspicion(self.cells, self._config)


def nominal_sub_volumes(see: TrunkInput, piece: Piece, cells: CellMap) -> int:
    """How many sub-volumes of `NOMINAL_VOXELS` a piece counts for, which is what an engine's expectation is for."""
    return math.ceil(math.prod(see.shape(piece, cells)) / NOMINAL_VOXELS)
