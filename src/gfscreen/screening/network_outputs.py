"""What a mask rests on: what Glance thought of every sub-volume, and what Focus thought of every voxel.

`screening.screen` hands it out when it is asked to; statistics and preview are made from it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.grid import ModelGrid
from gfscreen.screening.cells import CellMap, probability
from gfscreen.screening.false_positive_reduction import JudgedFindings
from gfscreen.screening.screening_state import ScreeningState
from gfscreen.screening.windows import Window


@dataclass(frozen=True)
class NetworkOutputs:
    """Both stages' answers for one scan, on its model grid.

    windows: the sub-volumes of `size_voxels` in the grid's order; of a Glance that judges cells, those that Focus was
    pointed at. grid_windows, grid_probability: all of the grid, float64 (m,) likewise. glance_probability: float64
    (n,), NaN where time did not allow a glance; None if Glance was not asked (gate 0). kept, read: bool (n,), above the
    gate; and read by Focus. focus_probability: float32 (x, y, z), 0 where Focus read nothing or a finding was dropped;
    the screening's own array, not a copy. focus_unfiltered: the same before findings were dropped; None unless it was
    asked for. cells: what was said of cells, where these are judged; None elsewhere. judged: how likely findings are
    to be lesion, those that were dropped for it included; None without the plan's `finding_model`. finding_from: how
    likely a finding of Focus must be to stand. close_voxels: size of the close ones among `windows`.
    native_probability: with `focus_unfiltered` of a Focus that has a grid of its own, the same on the scan's grid,
    uint8 (i, j, k) in steps of 1/255; None elsewhere.
    Such a Focus's patches are shown as sub-volumes of the model grid, its findings as they were before any was dropped.
    """

    grid: ModelGrid
    size_voxels: tuple[int, ...]
    gate: float
    windows: list[Window]
    grid_windows: list[Window]
    grid_probability: NDArray[np.float64] | None
    glance_probability: NDArray[np.float64] | None
    kept: NDArray[np.bool_]
    read: NDArray[np.bool_]
    focus_probability: NDArray[np.float32]
    focus_unfiltered: NDArray[np.float32] | None = None
    cells: CellMap | None = None
    native_probability: NDArray[np.uint8] | None = None
    judged: JudgedFindings | None = None
    finding_from: float = 0.0
    close_voxels: tuple[int, ...] | None = None

    @property
    def starts(self) -> NDArray[np.intp]:
        """Starts of the sub-volumes (n, 3) on the model grid."""
        return np.array([window.start for window in self.windows], np.intp).reshape(-1, 3)

    @property
    def sizes(self) -> NDArray[np.intp]:
        """Voxels of the sub-volumes along x, y, z, (n, 3)."""
        of_kind = {False: self.size_voxels, True: self.close_voxels or self.size_voxels}
        return np.array([of_kind[window.close] for window in self.windows], np.intp).reshape(-1, 3)

    def to_model(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions (n, 3) in voxels of the scan's RAS view -> positions on the cropped model grid."""
        ratio = np.asarray(self.grid.native_mm) / np.asarray(self.grid.spacing_mm)
        result: NDArray[np.float64] = voxels * ratio - np.array([low for low, _ in self.grid.box])
        return result

    def to_scan(self, voxels: NDArray[np.float64]) -> NDArray[np.float64]:
        """The way back: positions (n, 3) on the cropped model grid -> voxels of the scan's RAS view."""
        ratio = np.asarray(self.grid.spacing_mm) / np.asarray(self.grid.native_mm)
        result: NDArray[np.float64] = (voxels + np.array([low for low, _ in self.grid.box])) * ratio
        return result

    def glance_at(self, voxel: NDArray[np.float64]) -> float | None:
        """Glance probability at a position (3,) of the scan's RAS view: of its cell, or the highest of its sub-volumes.

        None if Glance was not asked, had no time for any of them, or no sub-volume contains the position.
        """
        if self.glance_probability is None or not self.windows:
            return None
        place = np.rint(self.to_model(voxel[None])[0])
        if self.cells is not None:
            logit = self.cells.at(place[None].astype(np.intp))[0]
            return None if np.isnan(logit) else probability(float(logit))
        inside = ((self.starts <= place) & (place < self.starts + self.sizes)).all(axis=1)
        found = self.glance_probability[inside]
        found = found[~np.isnan(found)]
        return float(found.max()) if found.size else None

    def focus_mean(self, voxels: NDArray[np.intp]) -> float | None:
        """Mean Focus probability at voxels (n, 3) of the scan's RAS view, interpolated as for the mask.

        None for no voxel.
        """
        if not len(voxels):
            return None
        places = self.to_model(voxels.astype(np.float64)).T
        sampled = ndimage.map_coordinates(self.focus_probability, places, order=1, mode="nearest", prefilter=False)
        return float(sampled.mean(dtype=np.float64))

    def likelihood_of(self, voxels: NDArray[np.intp]) -> float | None:
        """How likely the finding that voxels (n, 3) of the scan's RAS view belong to is to be lesion.

        Of several the highest; of a mass that Glance alone has marked (masses.py) Glance's highest probability in it.
        None where nobody has judged, and for no voxel.
        """
        if self.judged is None or not len(voxels):
            return None
        places = self.to_model(voxels.astype(np.float64))
        last = np.array(self.grid.shape) - 1
        # What linear interpolation reads: one of these is marked wherever the mask is.
        corners = [np.clip(np.floor(places) + corner, 0, last).astype(np.intp) for corner in np.ndindex(2, 2, 2)]
        read = np.concatenate(corners)
        likelihood = self.judged.of(read)
        stands = (self.judged.number_of(read) > 0) & ((likelihood > self.finding_from) | (self.finding_from <= 0.0))
        # What does not stand is in the mask because Glance is sure of it, and its probability is Glance's.
        return float(likelihood[stands].max() if stands.any() else self.focus_probability[tuple(read.T)].max())


def gathered(
    grid: ModelGrid,
    plan: Plan,
    state: ScreeningState,
    probability: NDArray[np.float32],
    unfiltered: NDArray[np.float32] | None,
    cells: CellMap | None,
    judged: JudgedFindings | None = None,
) -> NetworkOutputs:
    """What both stages said of one scan, as the search of it left it."""
    kept = state.kept
    above = set(kept)
    windows = state.windows if state.pointed is None else kept
    suspicion = [state.suspicion_of(window) for window in kept] if state.pointed is not None else state.probability
    return NetworkOutputs(
        grid=grid,
        size_voxels=plan.sub_volume_voxels,
        close_voxels=plan.of_second_focus.sub_volume_voxels,
        gate=state.gate,
        windows=windows,
        grid_windows=state.windows,
        grid_probability=state.probability if state.glances else None,
        glance_probability=np.asarray(suspicion, np.float64) if state.glances else None,
        kept=np.array([window in above for window in windows], bool),
        read=np.array([window in state.read for window in windows], bool),
        focus_probability=probability,
        focus_unfiltered=unfiltered,
        cells=cells,
        judged=judged,
        finding_from=plan.finding_from,
    )
