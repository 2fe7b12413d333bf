"""Order and shares of a search that may be cut short."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfscreen.networks.engines.base import EngineInfo
from gfscreen.screening.budget import Budget, Later
from gfscreen.screening.schedule import Timetable, evenly_spread
from gfscreen.screening.windows import Window
from tests.helpers.engines import FakeClock

SIZE = (32, 32, 32)


def grid(*counts: int) -> list[Window]:
    """Sub-volumes 24 voxels apart."""
    return [Window((24 * x, 24 * y, 24 * z), "abdomen") for x, y, z in itertools.product(*(range(n) for n in counts))]


class TestEvenlySpread:
    def test_none(self):
        assert evenly_spread([], SIZE) == []

    def test_along_a_line(self):
        # Centre, one end (the first of two equally far ones), the other end, then the middles of the gaps.
        assert [w.start[0] // 24 for w in evenly_spread(grid(9, 1, 1), SIZE)][:5] == [4, 0, 8, 2, 6]

    @settings(max_examples=30, deadline=None)
    @given(counts=st.tuples(*[st.integers(1, 7)] * 3))
    def test_every_window_once(self, counts):
        windows = grid(*counts)
        order = evenly_spread(windows, SIZE)
        assert sorted(order, key=lambda w: w.start) == windows
        assert order == evenly_spread(windows, SIZE)

    @settings(max_examples=30, deadline=None)
    @given(counts=st.tuples(*[st.integers(1, 7)] * 3), share=st.floats(0.1, 1.0))
    def test_every_beginning_covers_the_whole_scan(self, counts, share):
        """No window is farther from those seen than they are from each other: no side is left out."""
        order = evenly_spread(grid(*counts), SIZE)
        count = max(2, int(share * len(order)))
        starts = np.array([window.start for window in order], float)
        seen, rest = starts[:count], starts[count:]
        if len(rest) == 0 or len(seen) < 2:
            return
        apart = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
        gap = max(min(np.linalg.norm(a - b) for b in seen) for a in rest)
        assert gap <= apart + 1e-9


class TestTimetable:
    INFO = EngineInfo("fake", "cpu", "fp32", "for a test", 1.0, 4.0)

    def table(self, limit_s: float) -> Timetable:
        return Timetable(Budget(limit_s, clock=FakeClock()), 2.0, self.INFO)

    def test_the_reserve_is_not_handed_out(self):
        assert self.table(22.0).left_s() == 20.0

    def test_glance_gets_half(self):
        # 10 s of 20 s: ten steps of 1 s, nine if they come in threes.
        allowance = self.table(22.0).for_glance(1, 1)
        assert allowance.another(10)
        assert not self.table(22.0).for_glance(1, 1).another(11)

    def test_glance_leaves_time_to_read(self):
        # 5.5 s are left: a glance of 1 s and a reading of 4 s fit. Of 4.5 s they do not: no glance.
        assert self.table(7.5).for_glance(1, 1).another()
        assert not self.table(6.5).for_glance(1, 1).another()

    def test_cells_beside_a_glance_have_a_pace_of_their_own(self):
        info = EngineInfo("fake", "cpu", "fp32", "for a test", 1.0, 4.0, 2.0)
        table = Timetable(Budget(22.0, clock=FakeClock()), 2.0, info)
        # 10 s of 20 s: five steps of 2 s, or one that takes more if a read of 4 s fits after it.
        assert table.for_cells(1, 1).another(5)
        assert not table.for_cells(1, 1).another(6)
        assert table.for_cells(8, 1).another(8)
        assert not table.for_cells(9, 1).another(9)

    def test_focus_gets_the_rest(self):
        assert self.table(6.0).for_focus().another()
        assert not self.table(5.9).for_focus().another()

    @pytest.mark.parametrize(("limit_s", "at_most_s", "read"), [(20.0, 3.0, 3), (21.0, 3.0, 4), (21.0, 10.0, 3)])
    def test_what_a_read_costs_later_must_fit_as_well(self, limit_s, at_most_s, read):
        """Reads of 4 s, 1 s each later, but no more than so much in all; 2 s are kept in any case."""
        clock = FakeClock()
        table = Timetable(Budget(limit_s, clock=clock), 2.0, self.INFO, Later(1.0, at_most_s))
        allowance, done = table.for_focus(), 0
        while allowance.another():
            clock.now_s += 4.0
            done += 1
        assert done == read
        assert table.left_s() == limit_s - 2.0 - 4.0 * read - min(1.0 * read, at_most_s)

    def test_another_round_counts_what_was_read_before(self):
        table = Timetable(Budget(8.9, clock=FakeClock()), 2.0, self.INFO, Later(1.0, 10.0))
        assert table.for_focus().another()
        # Of 6.9 s the first one takes a second later: 4 s and another one fit, and then no more.
        assert table.for_focus().another()
        assert table.left_s() == pytest.approx(4.9)
        assert not table.for_focus().another()

    def test_glance_leaves_time_for_what_a_read_costs_later(self):
        for limit_s, fits in ((8.0, True), (7.9, False)):
            table = Timetable(Budget(limit_s, clock=FakeClock()), 2.0, self.INFO, Later(1.0, 10.0))
            assert table.for_glance(1, 1).another() is fits

    def test_without_a_deadline_everything_fits(self):
        table = Timetable(Budget(None, clock=FakeClock()), 2.0, self.INFO)
        assert table.for_glance(4, 2).another(10**6)
        assert table.for_focus().another(10**6)
