"""Deadlines, by a clock that moves when it is told to."""

from __future__ import annotations

import math
import time

import pytest

from gfscreen.screening.budget import (
    Allowance,
    Budget,
    Later,
    Pace,
    empty_write_reserve_s,
    process_age_s,
    write_reserve_s,
)
from tests.helpers.engines import FakeClock


class TestBudget:
    def test_elapsed_and_remaining(self):
        clock = FakeClock()
        budget = Budget(45.0, clock=clock)
        clock.now_s += 12
        assert (budget.elapsed_s(), budget.remaining_s()) == (12.0, 33.0)

    def test_what_was_spent_before_counts(self):
        budget = Budget(45.0, spent_s=5.0, clock=FakeClock())
        assert (budget.elapsed_s(), budget.remaining_s()) == (5.0, 40.0)

    def test_past_the_deadline_it_is_negative(self):
        clock = FakeClock()
        budget = Budget(1.0, clock=clock)
        clock.now_s += 3
        assert budget.remaining_s() == -2.0

    def test_without_limit_it_never_ends(self):
        clock = FakeClock()
        budget = Budget(clock=clock)
        clock.now_s += 1e9
        assert budget.remaining_s() == math.inf

    def test_interpreter_start_counts(self):
        first = process_age_s()
        assert first > 0.0
        time.sleep(0.05)
        # As much as has passed; on a busy machine more.
        assert 0.04 < process_age_s() - first < 5.0

    def test_reserve_grows_with_the_scan(self):
        # 512 x 512 x 554 voxels: 1.5 s + 145e6 * 40 ns = 7.31 s.
        assert write_reserve_s(512 * 512 * 554) == pytest.approx(7.31, abs=0.05)
        assert write_reserve_s(0) == 1.5

    def test_reserve_is_that_of_an_empty_mask_and_of_all_reads(self):
        voxels, windows = 512 * 512 * 554, 49
        later = Later.of(voxels, windows)
        empty_s = empty_write_reserve_s(voxels)
        assert (empty_s, later.after_s()) == (pytest.approx(2.95, abs=0.01), 0.0)
        assert empty_s + later.after_s(windows) == pytest.approx(write_reserve_s(voxels))
        # More reads than sub-volumes, as where Focus is pointed, cannot mark more than the whole scan.
        assert later.after_s(3 * windows) == later.after_s(windows)
        assert later.after_s(7) == pytest.approx(later.after_s(windows) / 7)
        later.add(7)
        assert later.after_s(14) == pytest.approx(later.after_s() * 3)
        assert Later.of(voxels, 0).after_s(1) == Later.of(voxels, 1).after_s(1)


class TestAllowance:
    def steps(self, durations: list[float], allowed_s: float) -> int:
        """How many steps of these durations are allowed."""
        clock = FakeClock()
        allowance = Allowance(Budget(clock=clock), allowed_s)
        done = 0
        for duration in durations:
            if not allowance.another():
                break
            clock.now_s += duration
            done += 1
        return done

    @pytest.mark.parametrize(
        ("duration", "allowed", "steps"),
        [
            (1.0, 5.0, 5),  # the fifth ends exactly at 5
            (1.0, 4.9, 4),
            (2.0, 5.0, 2),
            (10.0, 5.0, 1),  # the first cannot be foreseen
            (1.0, 0.0, 1),
            (1.0, -0.1, 0),
            (0.0, 1.0, 99),
        ],
    )
    def test_steps_that_fit(self, duration, allowed, steps):
        assert self.steps([duration] * 99, allowed) == steps

    def test_the_slowest_step_so_far_is_what_the_next_may_take(self):
        # After 1 + 3 = 4 s another 3 s would end at 7 > 6.5, although the steps before were faster.
        assert self.steps([1.0, 3.0, 1.0, 1.0], 6.5) == 2
        assert self.steps([1.0, 3.0, 1.0, 1.0], 8.0) == 4

    def test_no_limit(self):
        assert self.steps([1e6] * 50, math.inf) == 50


class TestPace:
    def test_expected_then_measured(self):
        pace = Pace(0.5)
        assert (pace.step_s(1), pace.step_s(4)) == (0.5, 2.0)
        pace.took(0.2, 1)
        assert pace.step_s(1) == 0.2  # what was measured counts, not what was expected

    def test_unknown_is_nothing(self):
        assert Pace().step_s(8) == 0.0

    def test_larger_batches_cost_in_proportion_smaller_ones_as_much_as_the_slowest(self):
        # 2 sub-volumes took 3 s: 4 may take 6 s; whether a single one takes half is not known.
        pace = Pace()
        pace.took(1.0, 2)
        pace.took(3.0, 2)
        pace.took(1.0, 2)
        assert (pace.step_s(4), pace.step_s(2), pace.step_s(1)) == (6.0, 3.0, 3.0)

    def test_the_first_counts_until_there_is_a_second(self):
        pace = Pace(0.1)
        pace.took(5.0, 1)  # with all that happens once
        assert pace.step_s(2) == 10.0
        pace.took(0.4, 2)
        assert (pace.step_s(2), pace.step_s(4)) == (0.4, 0.8)
        assert pace.slowdown() == pytest.approx(2.0)

    def test_slowdown(self):
        glance, focus = Pace(0.1), Pace(1.0)
        assert glance.slowdown() == 1.0
        glance.took(0.6, 2)  # 0.3 s each instead of 0.1
        focus.scale(glance.slowdown())
        assert focus.step_s(2) == pytest.approx(6.0)
        # The engine's own measurement is of the first run, which also allocates: later ones may well be faster.
        quick = Pace(0.1)
        quick.took(0.05, 1)
        focus.scale(quick.slowdown())
        assert focus.step_s(2) == pytest.approx(1.0)
        assert Pace().slowdown() == 1.0

    def test_the_last_step_of_a_round_is_measured_too(self):
        clock, pace = FakeClock(), Pace()
        allowance = Allowance(Budget(clock=clock), 100.0, pace)
        assert allowance.another(2)
        clock.now_s += 4.0
        allowance.stop()
        assert pace.step_s(2) == 4.0
        clock.now_s += 50.0  # between rounds
        assert Allowance(Budget(clock=clock), 4.0, pace).another(2)
        assert pace.step_s(2) == 4.0


@pytest.mark.parametrize("jump_s", [86400.0, -86400.0])
def test_a_wall_clock_that_is_set_does_not_age_the_process(monkeypatch, jump_s):
    import time

    from gfscreen.screening.budget import process_age_s

    before = process_age_s()
    now = time.time()
    monkeypatch.setattr("gfscreen.screening.budget.time.time", lambda: now + jump_s)
    assert before <= process_age_s() < before + 60.0
