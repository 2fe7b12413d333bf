"""Where Focus may mark: in cells that Glance finds suspicious, and small nodules in air."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.network_plan import CellGlanceConfig
from gfscreen.scan.grid import ModelScan
from gfscreen.screening.cells import CellMap
from gfscreen.screening.ordinary import NEIGHBOUR_LOGIT, clear_ordinary, marked_planes, may_mark, nodules_in_air
from tests.helpers.engines import TINY_PLAN
from tests.helpers.scans import model_scan

SHAPE = (60, 60, 20)
LUNG_HU, TISSUE_HU = -850, 40
EVEN_ODDS = replace(TINY_PLAN, cells=CellGlanceConfig(), mark_from=0.5)


def cell_map(logit: NDArray[Any]) -> CellMap:
    return CellMap(logit.astype(np.float32), (12.0, 12.0, 4.0))


def ordinary() -> NDArray[np.float64]:
    return np.full((6, 6, 6), -5.0)


def scan(hu: int) -> ModelScan:
    return replace(model_scan(SHAPE, spacing_mm=(1.0, 1.0, 3.0)), hu=np.full(SHAPE, hu, np.float32))


def cleared(logit: NDArray[Any], mark_from: float, hu: int = TISSUE_HU) -> NDArray[np.float32]:
    focus = np.full(SHAPE, 0.8, np.float32)
    clear_ordinary(focus, scan(hu), cell_map(logit), replace(EVEN_ODDS, mark_from=mark_from))
    return focus


class TestCells:
    def test_marks_stay_about_the_middle_of_suspicious_cells(self):
        """Cell 2 is centred on voxel 24, and 8 along z; the border is half-way to neighbours that are ordinary."""
        logit = ordinary()
        logit[2, 2, 2] = 0.3
        kept = cleared(logit, 0.5) > 0
        assert np.flatnonzero(kept[:, 24, 8]).tolist() == list(range(18, 31))
        assert np.flatnonzero(kept[24, 24]).tolist() == [6, 7, 8, 9, 10]
        assert not kept[[17, 31]].any()

    def test_masks_have_no_corners_of_cells(self):
        logit = ordinary()
        logit[2, 2, 2] = 0.3
        kept = cleared(logit, 0.5) > 0
        assert not kept[18, 18, 8]
        assert kept[21, 20, 8]

    def test_the_most_suspicious_cell_opens_up_no_more_than_half_a_cell_around_it(self):
        logit = ordinary()
        logit[2, 2, 2] = 40.0
        assert np.flatnonzero(cleared(logit, 0.5)[:, 24, 8]).tolist() == list(range(15, 34))

    def test_every_plane_at_the_centres_is_what_the_cells_say(self):
        logit = np.random.default_rng(2).normal(-1.0, 2.0, (6, 6, 6))
        logit[0, 0, 0], logit[5, 5, 5] = np.nan, -np.inf
        cells = cell_map(logit)
        marked = np.stack(list(marked_planes(cells, SHAPE, 0.4, range(SHAPE[0]))))
        assert marked.shape == SHAPE
        np.testing.assert_array_equal(marked[::12, ::12, ::4], may_mark(cells, 0.4)[:5, :5, :5])

    @pytest.mark.parametrize("cell", [4.0, 12.0, 13.7, 70.0])
    def test_any_size_of_cells(self, cell: float):
        shape = tuple(int(np.floor((n - 1) / cell + 0.5)) + 1 for n in SHAPE)
        cells = CellMap(np.ones(shape, np.float32), (cell, cell, cell))
        assert np.stack(list(marked_planes(cells, SHAPE, 0.5, range(SHAPE[0])))).all()

    def test_and_in_cells_beside_them_that_are_nearly_as_suspicious(self):
        logit = ordinary()
        logit[2, 2, 2] = 0.0
        logit[3, 3, 3] = -NEIGHBOUR_LOGIT  # touches it by a corner
        logit[1, 2, 2] = -NEIGHBOUR_LOGIT - 0.01
        logit[5, 5, 5] = -NEIGHBOUR_LOGIT  # touches none
        np.testing.assert_array_equal(np.argwhere(may_mark(cell_map(logit), 0.5)), [[2, 2, 2], [3, 3, 3]])

    def test_the_value_itself_counts(self):
        logit = ordinary()
        logit[2, 2, 2] = math.log(0.25 / 0.75)
        assert cleared(logit, 0.25).any()
        assert not cleared(logit, 0.2501).any()

    def test_at_0_everything_stays(self):
        assert (cleared(np.full((6, 6, 6), -np.inf), 0.0) == np.float32(0.8)).all()
        assert may_mark(cell_map(ordinary()), 0.0).all()

    def test_what_nobody_has_looked_at_stays(self):
        logit = ordinary()
        logit[0, 0, 0] = np.nan
        focus = cleared(logit, 0.9)
        assert focus[0, 0, 0] == np.float32(0.8)
        assert focus[18:].max() == 0.0


class TestNodules:
    def found(self, *corners: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
        found = np.zeros(SHAPE, bool)
        for corner in corners:
            found[corner] = True
        return found

    # 0.5 ml is 166 voxels of 3 mm3.
    SMALL = (slice(20, 25), slice(20, 25), slice(8, 11))
    LARGE = (slice(40, 48), slice(40, 48), slice(8, 11))

    def test_a_small_one_in_air_stays_wherever_it_is(self):
        focus = np.where(self.found(self.SMALL, self.LARGE), np.float32(0.8), np.float32(0.1))
        lung = scan(LUNG_HU)
        lung.hu[self.SMALL] = lung.hu[self.LARGE] = TISSUE_HU
        clear_ordinary(focus, lung, cell_map(ordinary()), EVEN_ODDS)
        np.testing.assert_array_equal(focus > 0, self.found(self.SMALL))

    @pytest.mark.parametrize("hu", [TISSUE_HU, -100])
    def test_not_in_tissue_or_fat(self, hu: int):
        assert not nodules_in_air(self.found(self.SMALL), scan(hu)).any()

    def test_beside_the_chest_wall_more_than_half_of_its_rim_must_be_air(self):
        wall = scan(LUNG_HU)
        wall.hu[:22] = TISSUE_HU
        assert not nodules_in_air(self.found(self.SMALL), wall).any()
        wall.hu[19:22] = LUNG_HU
        assert nodules_in_air(self.found(self.SMALL), wall).any()

    def test_at_the_border_of_the_scan(self):
        corner = (slice(0, 4), slice(0, 4), slice(0, 2))
        np.testing.assert_array_equal(nodules_in_air(self.found(corner), scan(LUNG_HU)), self.found(corner))

    def test_where_nothing_was_found(self):
        assert not nodules_in_air(self.found(), scan(LUNG_HU)).any()
