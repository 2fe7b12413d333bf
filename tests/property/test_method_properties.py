"""What holds for every scan: coverage, stitching, the split, deadlines, the way back."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gfscreen.config import Plan
from gfscreen.network_plan import HUWindow
from gfscreen.scan.anatomy import Anatomy
from gfscreen.scan.grid import ModelGrid, full_model_shape, sample_to_grid, to_native_mask
from gfscreen.scan.region import region_of, split
from gfscreen.screening.budget import Allowance, Budget
from gfscreen.screening.screening import screen
from gfscreen.screening.screening_state import Glanced, most_suspicious_first
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Stitcher, Window, all_starts, apply_hu_window, axis_starts, gather
from tests.helpers.engines import TINY_PLAN, FakeClock, FakeEngine, bright_engine, constant_engine
from tests.helpers.scans import volume_of


def examples(count: int) -> settings:
    """So many, however long each takes: a busy machine is not a failure."""
    return settings(max_examples=count, deadline=None)


lengths, sizes = st.integers(1, 400), st.integers(1, 128)
overlaps = st.floats(0.0, 0.95)
small_shapes = st.tuples(*[st.integers(1, 24)] * 3)


class TestWindows:
    @examples(100)
    @given(length=lengths, size=sizes, overlap=overlaps)
    def test_every_voxel_is_covered_and_no_window_leaves_a_larger_scan(self, length, size, overlap):
        starts = axis_starts(length, size, overlap)
        covered = np.zeros(length, bool)
        for start in starts:
            covered[max(0, start) : start + size] = True
        assert covered.all()
        assert starts == sorted(set(starts))
        if length >= size:
            assert starts[0] == 0
            assert starts[-1] == length - size
        else:
            # The padding is shared: as much before as behind, the odd voxel behind.
            (start,) = starts
            before, behind = -start, size - length + start
            assert behind - before in (0, 1)

    @examples(100)
    @given(length=lengths, size=sizes, overlap=overlaps)
    def test_neighbours_overlap_by_at_least_the_share(self, length, size, overlap):
        starts = axis_starts(length, size, overlap)
        assert all(size - (b - a) >= min(int(size * overlap), size - 1) for a, b in itertools.pairwise(starts))

    @examples(100)
    @given(length=lengths, size=sizes, overlap=overlaps)
    def test_no_window_is_superfluous_but_the_last_shift(self, length, size, overlap):
        starts = axis_starts(length, size, overlap)
        stride = max(1, size - int(size * overlap))
        assert all(b - a == stride for a, b in itertools.pairwise(starts[:-1]))

    @examples(50)
    @given(shape=small_shapes, size=st.tuples(*[st.integers(2, 12)] * 3), overlap=overlaps, value=st.floats(0, 1))
    def test_stitching_a_constant_gives_the_constant(self, shape, size, overlap, value):
        assume(len(all_starts(shape, size, overlap)) <= 3000)
        stitcher = Stitcher(shape)
        for start in all_starts(shape, size, overlap):
            stitcher.add(start, np.full(size, value, np.float32))
        np.testing.assert_allclose(stitcher.finish(), np.float32(value), atol=1e-5)

    @examples(50)
    @given(
        shape=small_shapes,
        size=st.tuples(*[st.integers(2, 12)] * 3),
        overlap=st.floats(0, 0.8),
        seed=st.integers(0, 99),
    )
    def test_stitching_what_was_gathered_gives_the_scan(self, shape, size, overlap, seed):
        hu = np.random.default_rng(seed).uniform(-1000, 1000, shape).astype(np.float32)
        window = HUWindow(-500.0, 500.0)
        stitcher = Stitcher(shape)
        for start in all_starts(shape, size, overlap):
            patch = gather(hu, start, size, window)
            assert patch.shape == size
            stitcher.add(start, patch)
        np.testing.assert_allclose(stitcher.finish(), apply_hu_window(hu, window), atol=1e-5)

    @examples(100)
    @given(low=st.floats(-2000, 1000), width=st.floats(1, 4000), seed=st.integers(0, 99))
    def test_an_hu_window_is_monotone_and_stays_in_the_unit_interval(self, low, width, seed):
        hu = np.sort(np.random.default_rng(seed).integers(-32768, 32767, 50)).astype(np.float32)
        scaled = apply_hu_window(hu, HUWindow(low, low + width))
        assert scaled.min() >= 0.0
        assert scaled.max() <= 1.0
        assert (np.diff(scaled) >= 0).all()


class TestScreening:
    """The whole method on random scans of 64 mm and less; one model voxel is 4 mm."""

    PLAN = TINY_PLAN

    @staticmethod
    def random_scan(shape: tuple[int, int, int], seed: int) -> np.ndarray:
        return np.random.default_rng(seed).integers(-100, 300, shape).astype(np.int16)

    @examples(25)
    @given(shape=st.tuples(*[st.integers(8, 50)] * 3), seed=st.integers(0, 99))
    def test_gate_zero_equals_any_gate_below_every_probability(self, shape, seed):
        volume = volume_of(self.random_scan(shape, seed), np.diag([4.0, 4.0, 4.0, 1.0]))
        engines = bright_engine(), FakeEngine(lambda _: 0.6, bright_engine().outline)
        dense, gated = (
            screen(volume, self.PLAN, engine, Budget(), ScreeningSettings(gate=gate))
            for engine, gate in zip(engines, (0.0, 0.59), strict=True)
        )
        assert dense.windows_kept == gated.windows_kept == dense.windows_total
        np.testing.assert_array_equal(dense.mask, gated.mask)

    @examples(25)
    @given(shape=st.tuples(*[st.integers(1, 40)] * 3), probability=st.sampled_from([0.0, 0.5, 0.500001, 1.0]))
    def test_a_constant_network_gives_a_constant_mask(self, shape, probability):
        volume = volume_of(np.full(shape, 40), np.diag([4.0, 4.0, 4.0, 1.0]))
        result = screen(volume, self.PLAN, constant_engine(0.0, probability), Budget(), ScreeningSettings(gate=0.0))
        assert result.mask.shape == shape
        assert result.mask.all() == (probability > 0.5 and result.windows_total > 0)
        assert result.mask.any() == result.mask.all()

    @examples(100)
    @given(
        probabilities=st.lists(st.floats(0, 1) | st.just(float("nan")), max_size=30),
        gate=st.floats(0.0, 1.0, exclude_min=True),
    )
    def test_what_is_kept_is_above_the_gate_and_falls(self, probabilities, gate):
        windows = [Window((n, 0, 0), "abdomen") for n in range(len(probabilities))]
        kept = [
            probabilities[w.start[0]] for w in most_suspicious_first(Glanced(windows, np.array(probabilities)), gate)
        ]
        assert all(p > gate for p in kept)
        assert kept == sorted(kept, reverse=True)
        assert len(kept) == sum(p > gate for p in probabilities)

    @examples(60)
    @given(
        limit=st.floats(0.0, 40.0),
        spent=st.floats(0.0, 50.0),
        glance_s=st.floats(0.0, 1.0),
        focus_s=st.floats(0.0, 1.5),
        batch=st.integers(1, 3),
        seed=st.integers(0, 9),
    )
    def test_a_deadline_is_kept_and_what_is_skipped_is_least_suspicious(
        self, limit, spent, glance_s, focus_s, batch, seed
    ):
        clock, rng = FakeClock(), np.random.default_rng(seed)
        told: dict[bytes, float] = {}

        def suspicion(patch: np.ndarray) -> float:
            return told.setdefault(patch.tobytes(), float(rng.random()))

        engine = FakeEngine(
            suspicion,
            np.ones_like,
            clock=clock,
            glance_s=glance_s,
            focus_s=focus_s,
            glance_batch=batch,
            focus_batch=batch,
        )
        budget = Budget(limit, spent_s=spent, clock=clock)
        volume = volume_of(self.random_scan((128, 32, 32), seed), np.diag([4.0, 4.0, 4.0, 1.0]))
        result = screen(volume, self.PLAN, engine, budget, ScreeningSettings(gate=0.3, overlap=0.0))
        if spent >= limit:
            assert (engine.glanced, len(engine.focused)) == (0, 0)
        else:
            assert budget.elapsed_s() <= limit + 1e-6
        read = [told[patch.tobytes()] for patch in engine.focused]
        unread = sorted((p for p in told.values() if p > 0.3 and p not in read), reverse=True)
        assert len(read) == result.windows_done
        assert len(unread) == result.windows_kept - result.windows_done
        # In one round, that is if all were glanced at before the first was read, nothing less suspicious was preferred.
        if read and unread and not engine.later_rounds:
            assert min(read) >= max(unread)
        np.testing.assert_allclose(result.skipped_probability or 0.0, unread[0] if unread else 0.0, atol=1e-6)

    @examples(100)
    @given(durations=st.lists(st.floats(0, 5), max_size=40), allowed=st.floats(-1, 40))
    def test_only_a_step_slower_than_all_before_but_the_first_can_overrun(self, durations, allowed):
        clock = FakeClock()
        budget = Budget(clock=clock)
        allowance, done = Allowance(budget, allowed), []
        for duration in durations:
            before = budget.elapsed_s()
            if not allowance.another():
                break
            slowest = max(done[1:] or done, default=0.0)
            assert before + slowest <= allowed + 1e-9
            clock.now_s += duration
            if budget.elapsed_s() > allowed + 1e-9:
                assert duration > slowest - 1e-9
            done.append(duration)


class TestRegion:
    @examples(100)
    @given(share=st.lists(st.integers(0, 60), min_size=1, max_size=80), slice_mm=st.floats(0.5, 10))
    def test_chest_is_everything_above_one_position(self, share, slice_mm):
        body = np.ones((100, 1, len(share)), bool)
        lungs = np.zeros_like(body)
        for z, count in enumerate(share):
            lungs[:count, 0, z] = True
        result = split(Anatomy((1, 1, 1), (4.0, 4.0, slice_mm), body, lungs))
        assert (np.diff(result.chest.astype(int)) >= 0).all()
        assert result.split_slice == (~result.chest).sum()
        assert result.label in ("chest", "abdomen", "chest-abdomen")
        assert result.chest.any() or result.label == "abdomen"
        assert (max(share) < 12) <= (not result.chest.any())

    @examples(100)
    @given(abdomen=st.integers(0, 60), chest=st.integers(0, 60), start=st.integers(-70, 130), size=st.integers(1, 64))
    def test_a_sub_volume_is_named_after_the_majority(self, abdomen, chest, start, size):
        flags = np.array([False] * abdomen + [True] * chest, bool)
        inside = [flags[z] for z in range(start, start + size) if 0 <= z < len(flags)]
        expected = "chest" if inside and 2 * sum(inside) >= len(inside) else "abdomen"
        assert region_of(flags, start, size) == expected


native_grids = st.tuples(
    st.tuples(*[st.integers(1, 20)] * 3), st.tuples(*[st.floats(0.4, 8.0)] * 3), st.tuples(*[st.floats(0.8, 4.0)] * 3)
)


def whole_grid(native: tuple, native_mm: tuple, model_mm: tuple) -> ModelGrid:
    full = full_model_shape(native, native_mm, model_mm)
    return ModelGrid(tuple((0, n) for n in full), full, native, native_mm, model_mm)


class TestGrid:
    @examples(50)
    @given(grid=native_grids)
    def test_a_constant_scan_stays_constant(self, grid):
        native, native_mm, model_mm = grid
        model = whole_grid(native, native_mm, model_mm)
        assume(np.prod(model.shape) < 100_000)
        sampled = sample_to_grid(np.full(native, 123, np.int16), model)
        assert sampled.shape == model.shape
        np.testing.assert_allclose(sampled, 123.0, atol=1e-3)

    @examples(50)
    @given(grid=native_grids, seed=st.integers(0, 99))
    def test_interpolation_invents_no_extremes(self, grid, seed):
        native, native_mm, model_mm = grid
        model = whole_grid(native, native_mm, model_mm)
        assume(np.prod(model.shape) < 100_000)
        hu = np.random.default_rng(seed).integers(-1000, 1000, native).astype(np.int16)
        sampled = sample_to_grid(hu, model)
        assert hu.min() - 1e-2 <= sampled.min()
        assert sampled.max() <= hu.max() + 1e-2

    @examples(50)
    @given(grid=native_grids)
    def test_lesion_everywhere_is_the_whole_native_grid_and_nowhere_none_of_it(self, grid):
        native, native_mm, model_mm = grid
        model = whole_grid(native, native_mm, model_mm)
        assume(np.prod(model.shape) < 100_000)
        volume = volume_of(np.zeros(native), np.diag([*native_mm, 1.0]))
        assert to_native_mask(np.ones(model.shape, np.float32), model, volume, 0.5).all()
        assert not to_native_mask(np.full(model.shape, 0.5, np.float32), model, volume, 0.5).any()

    @examples(50)
    @given(
        shape=st.tuples(*[st.integers(6, 30)] * 3),
        crop=st.tuples(*[st.tuples(st.integers(0, 4), st.integers(0, 4))] * 3),
        spacing=st.floats(0.5, 5.0),
        seed=st.integers(0, 99),
    )
    def test_on_equal_spacing_the_way_there_and_back_is_exact(self, shape, crop, spacing, seed):
        """Any mask inside the crop comes back voxel by voxel."""
        assume(all(a + b < n for (a, b), n in zip(crop, shape, strict=True)))
        box = tuple((a, n - b) for (a, b), n in zip(crop, shape, strict=True))
        grid = ModelGrid(box, shape, shape, (spacing,) * 3, (spacing,) * 3)
        mask = np.zeros(shape, np.uint8)
        inside = tuple(slice(*b) for b in box)
        mask[inside] = np.random.default_rng(seed).random(grid.shape) < 0.3
        model = sample_to_grid(mask, grid, nearest=True)
        np.testing.assert_array_equal(model, mask[inside])
        volume = volume_of(np.zeros(shape), np.diag([spacing] * 3 + [1.0]))
        np.testing.assert_array_equal(to_native_mask(model.astype(np.float32), grid, volume, 0.5), mask)


def test_the_published_sizes_follow_from_the_rules():
    """Steps of the published plan at overlap 0.25: 72, 72, 48; at 0.75: 24, 24, 16."""
    plan = Plan()
    for overlap, steps in ((0.25, (72, 72, 48)), (0.75, (24, 24, 16))):
        starts = [axis_starts(1000, n, overlap) for n in plan.sub_volume_voxels]
        assert tuple(s[1] for s in starts) == steps
