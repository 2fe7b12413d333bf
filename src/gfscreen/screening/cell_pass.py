"""Glance over a scan by its cells: piece after piece, as far as the time goes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from gfscreen.config import Plan
from gfscreen.networks.engines.base import NOMINAL_VOXELS, Engine
from gfscreen.screening.budget import Allowance
from gfscreen.screening.cells import CellMap, Piece, TrunkInput, take_over
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


def nominal_sub_volumes(see: TrunkInput, piece: Piece, cells: CellMap) -> int:
    """How many sub-volumes of `NOMINAL_VOXELS` a piece counts for, which is what an engine's expectation is for."""
    return math.ceil(math.prod(see.shape(piece, cells)) / NOMINAL_VOXELS)
