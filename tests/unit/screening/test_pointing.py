"""Where Focus is pointed at: every suspicious cell is in the middle of a read, the most suspicious first, few reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, SecondFocusConfig
from gfscreen.screening.cells import CellMap, probability
from gfscreen.screening.pointing import MIDDLE, _closer, pointed
from gfscreen.screening.windows import Window, plan_windows, size_of, within_middle
from tests.helpers.engines import TINY_PLAN
from tests.helpers.scans import model_scan

SIZE = TINY_PLAN.sub_volume_voxels
SHAPE = (96, 64, 64)
CELL = 4.0
PLAN = replace(TINY_PLAN, gate=0.5, cells=CellGlanceConfig())


def cells_of(*where: tuple[tuple[int, int, int], float], shape: tuple[int, int, int] = SHAPE) -> CellMap:
    """Cells of 4 voxels, ordinary but for some, by index."""
    logit = np.full([n // int(CELL) for n in shape], -5.0, np.float32)
    for index, value in where:
        logit[index] = value
    return CellMap(logit, (CELL, CELL, CELL))


def places(cells: CellMap, gate: float = 0.5) -> NDArray[np.int32]:
    found = np.argwhere(cells.logit > np.log(gate / (1 - gate)))
    return np.asarray(found * CELL, np.int32)


def point(cells: CellMap, plan: Plan = PLAN, read: tuple[Window, ...] = (), shape: tuple[int, int, int] = SHAPE):
    scan = model_scan(shape)
    return pointed(cells, scan, plan, plan_windows(scan, plan, 0.125), read)


class TestWhere:
    def test_one_cell_takes_one_read_that_is_centred_on_it(self):
        # Cell (12, 8, 7) is centred on voxel (48, 32, 28); a sub-volume of 32 begins 16 before.
        found = point(cells_of(((12, 8, 7), 1.0)))
        assert found == [(Window((32, 16, 12), "abdomen"), probability(1.0))]

    def test_at_the_border_it_stays_within_the_scan(self):
        ((window, _),) = point(cells_of(((23, 0, 15), 1.0)))
        assert window.start == (96 - 32, 0, 64 - 32)

    def test_a_scan_smaller_than_a_sub_volume(self):
        shape = (20, 40, 12)
        ((window, _),) = point(cells_of(((1, 5, 1), 1.0), shape=shape), shape=shape)
        assert window.start == (-6, 4, -10)

    def test_neighbours_share_a_read_and_far_ones_do_not(self):
        near = point(cells_of(((10, 8, 8), 1.0), ((12, 8, 8), 2.0)))
        assert [window.start for window, _ in near] == [(28, 16, 16)]
        far = point(cells_of(((4, 8, 8), 1.0), ((20, 8, 8), 2.0)))
        assert [(window.start[0], suspicion) for window, suspicion in far] == [
            (64, probability(2.0)),
            (0, probability(1.0)),
        ]

    def test_the_most_suspicious_is_read_first_however_near_the_logits(self):
        found = point(cells_of(((4, 4, 4), 30.0), ((20, 8, 8), 31.0), ((12, 12, 12), 29.0)))
        assert [window.start[0] for window, _ in found] == [64, 0, 32]

    def test_a_last_cell_that_is_centred_beyond_the_scan(self):
        # 67 voxels have cells about 0, 12, ..., 60 and 72, which lies 6 behind the last voxel.
        shape = (67, 64, 64)
        cells = CellMap(np.full((7, 16, 16), -5.0, np.float32), (12.0, CELL, CELL))
        cells.logit[6, 8, 8] = 1.0
        ((window, _),) = point(cells, shape=shape)
        assert window.start == (67 - 32, 16, 16)

    def test_nothing_suspicious_nothing_read(self):
        assert point(cells_of()) == []
        assert point(cells_of(((4, 4, 4), 0.0))) == []  # the gate is what has to be passed

    def test_unknown_cells_and_those_without_body_are_not_pointed_at(self):
        cells = cells_of(((4, 4, 4), np.nan), ((20, 8, 8), -np.inf))
        assert point(cells) == []

    def test_what_was_read_is_not_read_again(self):
        cells = cells_of(((4, 8, 8), 1.0), ((20, 8, 8), 2.0))
        (first, _), second = point(cells)
        assert point(cells, read=(first,)) == [second]
        assert point(cells, read=(first, second[0])) == []

    def test_a_scan_that_is_suspicious_all_over_costs_no_more_than_the_grid(self):
        cells = cells_of()
        cells.logit[...] = 1.0
        scan = model_scan(SHAPE)
        grid = plan_windows(scan, PLAN, 0.125)
        found = [window for window, _ in pointed(cells, scan, PLAN, grid, ())]
        assert len(found) <= len(grid)
        assert covered(places(cells), found).all()

    @pytest.mark.parametrize("gate", [1e-30, 0.2, 0.999999, 1.0])
    def test_gates_to_the_ends(self, gate):
        cells = cells_of(((4, 8, 8), 1.0), ((20, 8, 8), 40.0))
        found = point(cells, replace(PLAN, gate=gate))
        assert {1e-30: len(found) > 2, 0.2: len(found) == 2, 0.999999: len(found) == 1, 1.0: not found}[gate]

    def test_where_marks_would_be_cleared_it_reads_only_what_holds_air(self):
        """Two cells above the gate and below `mark_from`, and one above both; air in one of the two."""
        cells = cells_of(((4, 8, 8), 1.0), ((12, 8, 8), 3.0), ((20, 8, 8), 1.0))
        scan = model_scan(SHAPE)
        grid = plan_windows(scan, PLAN, 0.125)
        starts = [w.start[0] for w, _ in pointed(cells, scan, replace(PLAN, mark_from=0.9), grid, ())]
        assert starts == [32]
        # A quarter of the cell about voxel 80, which has voxels 78 to 81.
        scan.hu[78, 30:34, 30:34] = -800.0
        starts = [w.start[0] for w, _ in pointed(cells, scan, replace(PLAN, mark_from=0.9), grid, ())]
        assert starts == [32, 64]
        scan.body[78, 30, 30] = False
        assert len(pointed(cells, scan, replace(PLAN, mark_from=0.9), grid, ())) == 1
        assert len(pointed(cells, scan, PLAN, grid, ())) == 3

    def test_the_region_is_that_of_the_place(self):
        chest = np.arange(64) >= 40
        scan = model_scan(SHAPE, chest=chest)
        cells = cells_of(((12, 8, 1), 2.0), ((12, 8, 14), 1.0))
        found = pointed(cells, scan, PLAN, plan_windows(scan, PLAN, 0.125), ())
        assert [window.region for window, _ in found] == ["abdomen", "chest"]


class TestBesideAGlance:
    """A Glance says which sub-volumes are suspicious, cells which places in them are worth a read."""

    MARKS = replace(PLAN, mark_from=0.5, cells=CellGlanceConfig(role="marks"))
    LEFT, RIGHT = Window((0, 16, 16), "abdomen"), Window((64, 16, 16), "abdomen")

    def reads(self, cells: CellMap, suspicious: dict[Window, float], air: bool = False) -> list[tuple[Window, float]]:
        scan = model_scan(SHAPE)
        if air:
            scan.hu[...] = -800.0
        return pointed(cells, scan, self.MARKS, list(suspicious), (), suspicious)

    def test_only_in_suspicious_sub_volumes_and_as_suspicious_as_these(self):
        cells = cells_of(((4, 8, 8), 1.0), ((12, 8, 8), 3.0), ((20, 8, 8), 2.0))
        found = self.reads(cells, {self.LEFT: 0.9, self.RIGHT: 0.6})
        assert [(window.start[0], suspicion) for window, suspicion in found] == [
            (0, pytest.approx(0.9)),
            (64, pytest.approx(0.6)),
        ]

    def test_of_equally_suspicious_ones_the_more_suspicious_cell_comes_first(self):
        cells = cells_of(((4, 8, 8), 1.0), ((20, 8, 8), 2.0))
        found = self.reads(cells, {self.LEFT: 0.9, self.RIGHT: 0.9})
        assert [window.start[0] for window, _ in found] == [64, 0]

    def test_what_would_be_cleared_is_read_only_where_there_is_air(self):
        cells = cells_of(((4, 8, 8), -1.0))
        assert self.reads(cells, {self.LEFT: 0.9}) == []
        assert len(self.reads(cells, {self.LEFT: 0.9}, air=True)) >= 1

    def test_cells_that_nobody_has_looked_at_are_read(self):
        cells = cells_of(((4, 8, 8), np.nan), ((20, 8, 8), -np.inf))
        assert [w.start[0] for w, _ in self.reads(cells, {self.LEFT: 0.9, self.RIGHT: 0.9}, air=False)] == [0]

    def test_nothing_suspicious_nothing_read(self):
        assert self.reads(cells_of(((4, 8, 8), 5.0)), {}) == []

    @given(
        st.sampled_from([4.0, 3.7, 3.98, 5.5]),
        st.sets(st.integers(0, 17), min_size=1),
        st.floats(0, 1),
        st.integers(0, 2**32 - 1),
    )
    @settings(max_examples=80, deadline=None)
    def test_never_more_reads_than_suspicious_sub_volumes(self, step, chosen, unknown, seed):
        """Wherever cells are centred: on a face of a sub-volume, between two voxels, behind the last one."""
        random = np.random.default_rng(seed)
        logit = random.normal(0.0, 2.0, [int(np.ceil(n / step)) + 1 for n in SHAPE]).astype(np.float32)
        logit[random.random(logit.shape) < unknown] = np.nan
        scan = model_scan(SHAPE)
        grid = plan_windows(scan, self.MARKS, 0.125)
        suspicious = {grid[n % len(grid)]: 0.5 + 0.02 * n for n in chosen}
        cells = CellMap(logit, (step, step, step))
        found = [window for window, _ in pointed(cells, scan, self.MARKS, list(suspicious), (), suspicious)]
        assert len(found) <= len(suspicious)
        centre = np.stack([np.rint(np.argwhere(~(logit < 0))[:, axis] * step) for axis in range(3)], axis=1)
        held = covered(centre.clip(0, np.array(SHAPE) - 1).astype(np.int32), list(suspicious))
        assert not held.any() or covered(centre.clip(0, np.array(SHAPE) - 1).astype(np.int32)[held], found).all()


CLOSE = (32, 32, 32)
READS = replace(PLAN, sub_volume_voxels=(64, 64, 32), second_focus=SecondFocusConfig(FocusConfig(), CLOSE, reads=True))
# A wide sub-volume takes as long as four close ones.
CLOSE_PER_WIDE = 4


class TestCloseReads:
    """What few sub-volumes of the second Focus hold is read by it."""

    def test_one_cell_takes_one_close_read_that_is_centred_on_it(self):
        found = point(cells_of(((12, 8, 7), 1.0)), READS)
        assert found == [(Window((32, 16, 12), "abdomen", close=True), probability(1.0))]

    def test_two_cells_of_one_wide_read_that_are_far_from_each_other(self):
        cells = cells_of(((10, 4, 8), 1.0), ((10, 12, 8), 2.0))
        assert [window.start for window, _ in point(cells, replace(READS, second_focus=None))] == [(8, 0, 16)]
        assert point(cells, READS) == [
            (Window((24, 32, 16), "abdomen", close=True), probability(2.0)),
            (Window((24, 0, 16), "abdomen", close=True), probability(1.0)),
        ]

    def test_what_many_would_have_to_hold_is_read_as_before(self):
        # The middle of a wide sub-volume holds 77 voxels along x, that of a close one 51; it would take two of them.
        second = SecondFocusConfig(FocusConfig(), (64, 64, 32), reads=True)
        plan = replace(READS, sub_volume_voxels=(96, 64, 32), second_focus=second)
        wide = [Window((0, 0, 14), "abdomen")]
        for last, found in ((20, wide), (14, [Window((8, 0, 14), "abdomen", close=True)])):
            cells = cells_of()
            cells.logit[7:last, 4:12, 6:10] = 1.0
            assert [window for window, _ in point(cells, plan)] == found
            assert [window for window, _ in point(cells, replace(plan, second_focus=None))] == wide

    def test_what_was_read_closely_is_not_read_again(self):
        cells = cells_of(((4, 8, 8), 1.0), ((20, 8, 8), 2.0))
        (first, _), second = point(cells, READS)
        assert first.close
        assert point(cells, READS, read=(first,)) == [second]
        assert point(cells, READS, read=(first, second[0])) == []

    def test_of_two_that_lie_on_each_other_at_the_border_one_is_read(self):
        """A scan that one close sub-volume holds, of whose two cells each wide one has its own."""
        where = np.array([[0, 16, 16], [28, 16, 16]], np.int32)
        wide = [Window((-60, 0, 0), "abdomen"), Window((8, 0, 0), "abdomen")]
        found = _closer(wide, where, np.ones(2, np.float32), model_scan((32, 32, 32)), READS)
        assert found == [Window((0, 0, 0), "abdomen", close=True)]

    def test_the_region_is_that_of_the_close_one(self):
        chest = np.arange(64) >= 40
        scan = model_scan(SHAPE, chest=chest)
        cells = cells_of(((12, 8, 1), 2.0), ((12, 8, 14), 1.0))
        found = pointed(cells, scan, READS, plan_windows(scan, READS, 0.125), ())
        assert [(window.region, window.close) for window, _ in found] == [("abdomen", True), ("chest", True)]

    @given(
        st.lists(
            st.tuples(
                st.tuples(st.integers(0, 23), st.integers(0, 15), st.integers(0, 15)), st.floats(0.125, 9, width=32)
            ),
            max_size=40,
        )
    )
    @settings(max_examples=80, deadline=None)
    def test_every_suspicious_cell_is_read_in_no_more_time(self, where):
        cells = cells_of(*where)
        before = point(cells, replace(READS, second_focus=None))
        found = [window for window, _ in point(cells, READS)]
        assert sum(1 / CLOSE_PER_WIDE if window.close else 1 for window in found) <= len(before)
        assert len(set(found)) == len(found)
        hot = places(cells)
        held = np.zeros(len(hot), bool)
        for window in found:
            low = np.array(window.start)
            held |= ((hot >= low) & (hot < low + np.array(size_of(window, READS)))).all(axis=1)
        assert held.all()


def covered(where: NDArray[np.int32], windows: list[Window]) -> NDArray[np.bool_]:
    low = np.array([window.start for window in windows])
    inside = (where[:, None] >= low) & (where[:, None] < low + np.array(SIZE))
    return inside.all(axis=2).any(axis=1)


@given(
    st.lists(
        st.tuples(st.tuples(st.integers(0, 23), st.integers(0, 15), st.integers(0, 15)), st.floats(0.125, 9, width=32)),
        max_size=40,
    )
)
@settings(max_examples=80, deadline=None)
def test_every_suspicious_cell_is_read_and_never_with_more_reads_than_the_grid_needs(where):
    cells = cells_of(*where)
    scan = model_scan(SHAPE)
    grid = plan_windows(scan, PLAN, 0.125)
    found = [window for window, _ in pointed(cells, scan, PLAN, grid, ())]
    hot = places(cells)
    assert (not len(hot)) == (not found)
    if found:
        assert covered(hot, found).all()
        in_middle = [within_middle(hot, window.start, SIZE, SHAPE, MIDDLE) for window in found]
        assert set(found) <= set(grid) or np.any(in_middle, axis=0).all()
        assert len(found) <= sum(bool(covered(hot, [window]).any()) for window in grid)
        assert len(set(found)) == len(found)
