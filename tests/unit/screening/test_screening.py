"""Both stages on scans and engines small enough to follow: what is read, in which order, and what if time runs out."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.networks.engines.base import EngineInfo
from gfscreen.scan.volume import Volume
from gfscreen.screening import screening
from gfscreen.screening.budget import Allowance, Budget, write_reserve_s
from gfscreen.screening.reading import focus, glance
from gfscreen.screening.screening import Screening, screen
from gfscreen.screening.screening_state import Glanced, most_suspicious_first
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Stitcher, Window
from tests.helpers.engines import TINY_PLAN, FakeClock, FakeEngine, bright_engine, constant_engine
from tests.helpers.scans import AIR_HU, LESION_HU, LUNG_HU, TISSUE_HU, model_scan, volume_of

# 160 x 128 x 128 mm: 40 x 32 x 32 model voxels of 4 mm and a little air around the body.
ISOTROPIC = np.diag([4.0, 4.0, 4.0, 1.0])


def block(shape: tuple[int, int, int] = (96, 48, 40), hu: int = TISSUE_HU) -> NDArray[np.int16]:
    return np.full(shape, hu, np.int16)


def screened(
    hu: NDArray[np.int16], engine: FakeEngine, plan: Any = TINY_PLAN, budget: Budget | None = None, **settings: Any
) -> Screening:
    return screen(volume_of(hu, ISOTROPIC), plan, engine, budget or Budget(), ScreeningSettings(**settings))


class TestStages:
    def test_only_windows_above_the_gate_are_focused(self):
        # 96 voxels, size 32, stride 24: starts 0, 24, 48, 64 along x; 0, 16 along y; 0, 8 along z.
        hu = block()
        hu[10:14, 10:14, 10:14] = LESION_HU  # in x-window 0 only, y-window 0, both z-windows (0..31 and 8..39)
        engine = bright_engine()
        result = screened(hu, engine)
        assert (result.windows_total, engine.glanced) == (16, 16)
        assert (result.windows_kept, result.windows_done, len(engine.focused)) == (2, 2, 2)
        assert result.complete
        assert result.skipped_probability is None
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)

    def test_memory_of_glance_is_given_back_before_focus_reads(self):
        at_the_first_read = []
        engine = bright_engine()
        outline = engine.outline

        def look(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            at_the_first_read.append((engine.glanced, engine.glance_released))
            return outline(patch)

        engine.outline = look
        hu = block()
        hu[10:14, 10:14, 10:14] = LESION_HU
        screened(hu, engine)
        assert at_the_first_read[0] == (16, 1)

    def test_a_gpu_is_given_back_before_the_mask_is_made(self, monkeypatch):
        engine, at_the_mask = bright_engine(), []
        to_native_mask = screening.to_native_mask

        def restore(*args: Any) -> NDArray[np.uint8]:
            at_the_mask.append(engine.released)
            return to_native_mask(*args)

        monkeypatch.setattr(screening, "to_native_mask", restore)
        screened(block(), engine)
        assert at_the_mask == [1]

    def test_nothing_suspicious_gives_an_empty_mask(self):
        engine = bright_engine()
        result = screened(block(), engine)
        assert not result.mask.any()
        assert (result.windows_kept, len(engine.focused)) == (0, 0)

    def test_the_gate_is_exclusive(self):
        assert screened(block(), constant_engine(0.5, 1.0)).windows_kept == 0
        assert screened(block(), constant_engine(0.5001, 1.0)).windows_kept == 16

    def test_a_scan_of_air_asks_no_network(self):
        engine = constant_engine(1.0, 1.0)
        result = screened(block(hu=AIR_HU), engine)
        assert (result.windows_total, engine.glanced, result.mask.any()) == (0, 0, False)
        assert result.complete

    def test_each_window_goes_through_the_hu_window_of_its_region(self):
        hu = block((60, 48, 96), AIR_HU)
        hu[4:56, 4:44] = TISSUE_HU
        hu[10:24, 10:38, 48:] = LUNG_HU
        hu[36:50, 10:38, 48:] = LUNG_HU
        seen: list[float] = []

        def remember(patch: NDArray[np.float32]) -> float:
            seen.append(float(np.median(patch[patch > 0.5])))
            return 0.0

        result = screened(hu, FakeEngine(remember, lambda patch: patch))
        assert result.region.label == "chest-abdomen"
        # 40 HU: (40 + 900) / 1550 in the chest, (40 + 175) / 425 in the abdomen.
        assert {round(value, 4) for value in seen} == {round(940 / 1550, 4), round(215 / 425, 4)}

    def test_a_focus_with_both_windows_sees_the_other_beside_its_own(self):
        hu = block((60, 48, 96), AIR_HU)
        hu[4:56, 4:44] = TISSUE_HU
        hu[10:24, 10:38, 48:] = LUNG_HU
        hu[36:50, 10:38, 48:] = LUNG_HU
        plan = replace(TINY_PLAN, focus=replace(TINY_PLAN.focus, hu_channels="both"), second_look=0.5)
        seen: set[tuple[float, ...]] = set()

        def remember(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            tissue = patch[0] > 0.5
            seen.add(tuple(round(float(np.median(channel[tissue])), 4) for channel in patch))
            return (patch[-1] > 0.5).astype(np.float32)

        engine = FakeEngine(lambda _: 1.0, remember, channels=2)
        result = screened(hu, engine, plan)
        # Chest first or abdomen first, as the region says.
        chest, abdomen = round(940 / 1550, 4), round(215 / 425, 4)
        assert seen == {(chest, abdomen), (abdomen, chest)}
        assert result.second_looks_done > 0
        np.testing.assert_array_equal(result.mask, hu == TISSUE_HU)

    def test_batches(self):
        """More than one sub-volume at once changes nothing; the last batch may be smaller."""
        hu = block()
        hu[40:60, 10:20, 10:20] = LESION_HU
        single, batched = bright_engine(), bright_engine(glance_batch=5, focus_batch=3)
        np.testing.assert_array_equal(screened(hu, single).mask, screened(hu, batched).mask)
        assert batched.glanced == 16
        assert len(batched.focused) == len(single.focused)

    def test_settings_replace_the_plans_values(self):
        assert screened(block(), constant_engine(0.6, 1.0), gate=0.7).windows_kept == 0
        # Overlap 0: 3 x 2 x 2 windows; the plan's 0.25 gives 16.
        assert screened(block(), constant_engine(0.0, 0.0), overlap=0.0).windows_total == 12
        assert screened(block(), constant_engine(0.0, 0.0), region="chest").region.forced

    def test_progress_is_told(self):
        said: list[tuple[str, int, int]] = []
        screen(
            volume_of(block(), ISOTROPIC),
            TINY_PLAN,
            constant_engine(0.9, 0.0),
            Budget(),
            progress=lambda *args: said.append(args),
        )
        assert said[0] == ("glance", 1, 16)
        assert said[15:17] == [("glance", 16, 16), ("focus", 1, 16)]
        assert said[-1] == ("focus", 16, 16)

    def test_every_stage_is_timed(self):
        assert set(screened(block(), bright_engine()).seconds) == {"preprocess", "glance", "focus", "restore"}

    def test_the_same_scan_gives_the_same_mask(self):
        hu = np.random.default_rng(0).normal(60, 80, (50, 48, 40)).astype(np.int16)
        masks = [screened(hu, bright_engine()).mask for _ in range(2)]
        assert masks[0].any()
        np.testing.assert_array_equal(*masks)


class TestDense:
    """Gate 0 is the dense sliding window, without Glance."""

    def test_every_window_is_read_and_glance_is_not_asked(self):
        engine = constant_engine(0.0, 0.3)
        result = screened(block(), engine, gate=0.0)
        assert engine.glanced == 0
        assert (result.windows_kept, result.windows_done) == (16, 16)

    def test_equals_a_sliding_window_written_anew(self):
        rng = np.random.default_rng(5)
        hu = rng.normal(40, 100, (70, 45, 36)).astype(np.int16)

        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            ramp = np.linspace(0, 1, 32, dtype=np.float32)[:, None, None]  # depends on the place in the window
            return 0.5 * patch + 0.5 * ramp

        scaled = np.clip((hu.astype(np.float64) + 175) / 425, 0, 1)
        total, count = np.zeros(hu.shape), np.zeros(hu.shape)
        for x in (0, 24, 38):
            for y in (0, 13):
                for z in (0, 4):
                    part = np.s_[x : x + 32, y : y + 32, z : z + 32]
                    total[part] += outline(scaled[part])
                    count[part] += 1
        result = screened(hu, FakeEngine(lambda _: 0.0, outline), gate=0.0)
        expected = total / count > 0.5
        assert 0.2 < expected.mean() < 0.8
        assert (result.mask != expected).mean() < 1e-4  # ties in float32

    @pytest.mark.parametrize("probability", [0.2, 0.51, 1.0])
    @pytest.mark.parametrize("overlap", [0.0, 0.25, 0.75])
    def test_a_constant_network_stitches_to_the_constant(self, probability, overlap):
        scan = model_scan((50, 33, 40))
        windows = [
            Window((x, y, z), "abdomen") for x in range(0, 19, 9) for y in (0, 1) for z in (0, 8)
        ]  # covers everything
        stitcher = Stitcher(scan.grid.shape)
        engine = constant_engine(0.0, probability)
        done = focus(scan, windows, stitcher, TINY_PLAN, engine, Allowance(Budget(), math.inf), lambda *_: None)
        assert done == len(windows)
        np.testing.assert_allclose(stitcher.finish(), probability, atol=1e-6)
        result = screened(block(), constant_engine(0.0, probability), gate=0.0, overlap=overlap)
        assert result.mask.all() == result.mask.any() == (probability > 0.5)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (30, 30, 1), (5, 40, 33), (31, 32, 33)])
    def test_scans_smaller_than_a_window(self, shape):
        seen: list[NDArray[np.float32]] = []

        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            seen.append(patch)
            return np.ones_like(patch)

        mask = screened(block(shape), FakeEngine(lambda _: 1.0, outline)).mask
        assert mask.shape == shape
        # One voxel of 4 mm is no body; what is wide enough is read whole.
        assert mask.all() == bool(seen)
        for patch in seen:
            inside = int(np.prod([min(n, 32) for n in shape]))
            assert (patch > 0).sum() == inside


class TestOrder:
    def test_by_falling_probability_equal_ones_in_grid_order(self):
        windows = [Window((n, 0, 0), "abdomen") for n in range(6)]
        glanced = Glanced(windows, np.array([0.6, 0.9, 0.2, 0.9, np.nan, 0.7]))
        assert [w.start[0] for w in most_suspicious_first(glanced, 0.5)] == [1, 3, 5, 0]

    def test_gate_zero_keeps_all_of_them(self):
        windows = [Window((n, 0, 0), "abdomen") for n in range(3)]
        assert len(most_suspicious_first(Glanced(windows, np.array([0.0, 0.5, 1.0])), 0.0)) == 3

    def test_gate_one_keeps_none(self):
        windows = [Window((0, 0, 0), "abdomen")]
        assert most_suspicious_first(Glanced(windows, np.array([1.0])), 1.0) == []

    def test_a_share_is_kept_whatever_the_gate(self):
        # Five were glanced at: 20 % are one, 21 % are rounded up to two.
        windows = [Window((n, 0, 0), "abdomen") for n in range(6)]
        glanced = Glanced(windows, np.array([0.1, 0.3, 0.2, np.nan, 0.05, 0.25]))
        assert [w.start[0] for w in most_suspicious_first(glanced, 0.9, 0.2)] == [1]
        assert [w.start[0] for w in most_suspicious_first(glanced, 0.9, 0.21)] == [1, 5]
        assert len(most_suspicious_first(glanced, 0.0, 1.0)) == 5
        assert most_suspicious_first(glanced, 0.0, 0.0) == []

    def test_a_share_of_the_whole_scan(self):
        engine = constant_engine(0.3, 0.0)
        result = screened(block(), engine, keep_share=0.25)
        assert (engine.glanced, result.windows_kept, result.windows_done, result.complete) == (16, 4, 4, True)

    def test_focus_reads_in_that_order(self):
        # Brightness along x is the suspicion; three windows side by side.
        hu = block((96, 32, 32))
        hu[:32], hu[32:64], hu[64:] = 100, 220, 160
        engine = FakeEngine(lambda patch: float(patch.max()), lambda patch: np.zeros_like(patch))
        screened(hu, engine, gate=0.5, overlap=0.0)
        order = [round(float(patch.max()) * 425 - 175) for patch in engine.focused]
        assert order == [220, 160, 100]


def ranked(patch: NDArray[np.float32]) -> float:
    return float(patch.mean())


def gradient() -> NDArray[np.int16]:
    """12 windows side by side along x, each a bit brighter than the one before, and in a mixed order."""
    hu = block((12 * 32, 32, 32))
    for n, level in enumerate([3, 11, 0, 7, 5, 9, 1, 10, 2, 8, 4, 6]):
        hu[n * 32 : (n + 1) * 32] = 50 + 15 * level
    return hu


class TestDeadline:
    """One Glance takes glance_s, one Focus focus_s, everything else no time at all."""

    def run(
        self, limit_s: float | None, glance_s: float, focus_s: float, spent_s: float = 0.0, **options: Any
    ) -> tuple[Screening, FakeEngine, float]:
        clock = FakeClock()
        engine = FakeEngine(ranked, np.ones_like, clock=clock, glance_s=glance_s, focus_s=focus_s, **options)
        budget = Budget(limit_s, spent_s=spent_s, clock=clock)
        result = screened(gradient(), engine, budget=budget, gate=0.1, overlap=0.0)
        return result, engine, budget.elapsed_s()

    def test_enough_time(self):
        result, _, _ = self.run(60.0, 0.1, 1.0)
        assert result.complete
        assert result.mask.all()

    def test_no_deadline(self):
        assert self.run(None, 1e4, 1e4)[0].complete

    @pytest.mark.parametrize(("limit_s", "read"), [(7.8, 5), (10.8, 8), (12.0, 9), (14.6, 11)])
    def test_focus_stops_in_time(self, limit_s, read):
        # Glance takes 12 * 0.1 = 1.2 s; 1.5 s and 12 ms (393,216 voxels) are kept for writing; the rest is for
        # Focus, one second each: 7.8 - 1.2 - 1.512 = 5.09 s are five.
        result, engine, elapsed_s = self.run(limit_s, 0.1, 1.0)
        assert result.windows_unglanced == 0
        assert result.windows_done == len(engine.focused) == read
        assert elapsed_s <= limit_s - write_reserve_s(result.mask.size)

    def test_the_least_suspicious_windows_are_the_ones_left_unread(self):
        result, engine, _ = self.run(7.8, 0.1, 1.0)
        read = sorted((float(patch.mean()) for patch in engine.focused), reverse=True)
        levels = [(50 + 15 * level + 175) / 425 for level in range(11, -1, -1)]
        np.testing.assert_allclose(read, levels[: len(read)], atol=1e-6)
        assert result.skipped_probability == pytest.approx(levels[len(read)], abs=1e-6)
        assert not result.complete

    def test_the_mask_holds_exactly_what_was_read(self):
        result, engine, _ = self.run(7.8, 0.1, 1.0)
        assert result.mask.sum() == len(engine.focused) * 32**3
        assert set(np.unique(result.mask)) == {0, 1}

    def test_a_glance_that_alone_would_overrun(self):
        # 12 x 2 s do not fit into 20 s, of which 18.49 s may be used. First round: half of it, four glances; four are
        # read, 0.5 s each: 10 s are gone. Half of the 8.49 s left are two more, which are read: 15 s. Of 3.49 s a half
        # is no glance, but one and its reading fit: 17.5 s. Then nothing more does.
        result, engine, elapsed_s = self.run(20.0, 2.0, 0.5)
        assert (engine.glanced, result.windows_unglanced) == (7, 5)
        assert result.windows_done == 7
        assert not result.complete
        assert elapsed_s == pytest.approx(17.5)

    def test_a_glance_cut_short_has_seen_all_over_the_scan(self):
        _, engine, _ = self.run(9.6, 1.0, 0.0)
        # 8.09 s: four glances, then two, one, one: 12 windows side by side, the farthest from all before comes next.
        levels = [3, 11, 0, 7, 5, 9, 1, 10, 2, 8, 4, 6]
        seen = [levels.index(round((float(patch.mean()) * 425 - 225) / 15)) for patch in engine.focused]
        assert engine.glanced == len(seen) == 8
        assert max(np.diff([-1, *sorted(seen), 12])) <= 3

    def test_time_that_focus_does_not_need_goes_to_glance(self):
        # Nothing suspicious above this gate: all 12 glances of 1.5 s fit into 20 s although half of it is less.
        clock = FakeClock()
        engine = FakeEngine(ranked, np.ones_like, clock=clock, glance_s=1.5, focus_s=9.0)
        result = screened(gradient(), engine, budget=Budget(20.0, clock=clock), gate=0.99, overlap=0.0)
        assert (engine.glanced, result.windows_unglanced, result.windows_kept) == (12, 0, 0)
        assert result.complete

    @pytest.mark.parametrize(("focus_s", "read"), [(3.0, 2), (8.0, 0), (None, 1)])
    def test_the_first_step_is_taken_only_if_it_is_expected_to_fit(self, focus_s, read):
        # Focus takes 3 s; 12 glances take 1.2 s; of 8.5 s 5.79 s are left for it. Expected to take 8 s: it is not even
        # begun. Expected to take nothing in particular: one, whose time is then known. Two would end at 7.2 > 6.99.
        clock = FakeClock()
        info = EngineInfo("fake", "cpu", "fp32", "for a test", 0.1, focus_s)
        engine = FakeEngine(ranked, np.ones_like, clock=clock, glance_s=0.1, focus_s=3.0, info=info)
        result = screened(gradient(), engine, budget=Budget(8.5, clock=clock), gate=0.1, overlap=0.0)
        assert result.windows_done == min(read, 1)
        assert clock.now_s - 1000.0 <= 8.5 - 1.5

    def test_a_slow_machine_is_slow_for_both_networks(self):
        # Glance takes 10 times what was expected, so Focus is expected to take 5 s instead of 0.5 s: after 1.2 s the
        # 4.3 s left of 7 s are not enough.
        clock = FakeClock()
        info = EngineInfo("fake", "cpu", "fp32", "for a test", 0.01, 0.5)
        engine = FakeEngine(ranked, np.ones_like, clock=clock, glance_s=0.1, focus_s=5.0, info=info)
        result = screened(gradient(), engine, budget=Budget(7.0, clock=clock), gate=0.1, overlap=0.0)
        assert (result.windows_done, engine.focused) == (0, [])
        assert result.skipped_probability is not None
        assert not result.complete

    @pytest.mark.parametrize("limit_s", [3.0, 5.0, 9.0, 17.0, 33.0])
    @pytest.mark.parametrize("glance_s", [0.01, 0.3, 1.0])
    @pytest.mark.parametrize("focus_s", [0.1, 1.0, 1.4])
    def test_it_holds_for_any_speed_of_the_engine(self, limit_s, glance_s, focus_s):
        result, _, elapsed_s = self.run(limit_s, glance_s, focus_s)
        # The first step of a stage cannot be foreseen; what is kept for writing is longer than one.
        assert elapsed_s <= limit_s
        assert result.mask.shape == gradient().shape

    def test_time_that_is_already_gone(self):
        result, engine, _ = self.run(10.0, 0.1, 0.1, spent_s=11.0)
        assert (engine.glanced, len(engine.focused)) == (0, 0)
        assert result.windows_unglanced == result.windows_total == 12
        assert not result.mask.any()
        assert not result.complete

    def test_dense_mode_too(self):
        clock = FakeClock()
        engine = FakeEngine(ranked, np.ones_like, clock=clock, focus_s=1.0)
        budget = Budget(6.0, clock=clock)
        result = screened(gradient(), engine, budget=budget, gate=0.0, overlap=0.0)
        assert (result.windows_kept, result.windows_done) == (12, 4)
        assert budget.elapsed_s() <= 6.0

    def test_batches_are_steps(self):
        result, engine, elapsed_s = self.run(10.0, 0.1, 2.0, focus_batch=3)
        # 10 - 1.2 - 1.5 = 7.3 s are three batches of 2 s.
        assert (result.windows_done, len(engine.focused)) == (9, 9)
        assert elapsed_s <= 10.0


def test_stages_alone_stop_when_told():
    scan = model_scan((64, 32, 32))
    windows = [Window((0, 0, 0), "abdomen"), Window((32, 0, 0), "abdomen")]
    engine = constant_engine(1.0, 1.0)
    silent: Callable[..., None] = lambda *_: None  # noqa: E731
    stitcher = Stitcher(scan.grid.shape)
    glanced = glance(scan, windows, TINY_PLAN, engine, Allowance(Budget(), -1.0), silent)
    assert np.isnan(glanced.probability).all()
    assert focus(scan, windows, stitcher, TINY_PLAN, engine, Allowance(Budget(), -1.0), silent) == 0
    assert not stitcher.finish().any()


def test_plan_of_another_size():
    plan = replace(TINY_PLAN, sub_volume_voxels=(64, 32, 96))
    shapes: list[tuple[int, ...]] = []

    def remember(patch: NDArray[np.float32]) -> float:
        shapes.append(patch.shape)
        return 0.0

    volume: Volume = volume_of(block(), ISOTROPIC)
    screen(volume, plan, FakeEngine(remember, lambda patch: patch), Budget())
    assert set(shapes) == {(64, 32, 96)}
