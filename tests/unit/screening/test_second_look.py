"""The second look: where it goes, what it changes in the mask, and that it keeps to its share and to the deadline."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.finding_plan import FindingMeasure, FindingModel
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, SecondFocusConfig
from gfscreen.screening.budget import Budget, write_reserve_s
from gfscreen.screening.cells import CellMap
from gfscreen.screening.false_positive_reduction import judged_findings
from gfscreen.screening.screening import Screening, screen
from gfscreen.screening.second_look import MIDDLE, SURE, confirmed, second_look
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Stitcher, centred_starts
from tests.helpers.engines import TINY_PLAN, FakeClock, FakeEngine, bright_engine
from tests.helpers.scans import LESION_HU, TISSUE_HU, model_scan, volume_of

SIZE, SHAPE = (32, 32, 32), (96, 64, 64)
Start = tuple[int, int, int]
LOOKS = replace(TINY_PLAN, second_look=10.0)


def starts_of(probability: NDArray[np.float32], most: int = 100, threshold: float = 0.2) -> list[tuple[int, int, int]]:
    found = np.nonzero(probability > threshold)
    places = np.stack(found, axis=1).astype(np.int32)
    return centred_starts(places, probability[found], SIZE, probability.shape, most=most, middle=MIDDLE, sure=SURE)


def blobs(*where: tuple[tuple[int, int, int], float], shape: tuple[int, int, int] = SHAPE) -> NDArray[np.float32]:
    """Cubes of three voxels about the places, with their probability."""
    probability = np.zeros(shape, np.float32)
    for (x, y, z), value in where:
        probability[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = value
    return probability


class TestWhere:
    def test_a_finding_is_in_the_middle(self):
        assert starts_of(blobs(((40, 30, 20), 0.9))) == [(24, 14, 4)]

    def test_the_surest_comes_first(self):
        probability = blobs(((20, 20, 20), 0.6), ((70, 40, 40), 0.9), ((45, 20, 20), 0.8))
        assert starts_of(probability) == [(54, 24, 24), (29, 4, 4), (4, 4, 4)]
        assert starts_of(probability, most=2) == [(54, 24, 24), (29, 4, 4)]

    def test_what_is_close_together_shares_one(self):
        assert starts_of(blobs(((40, 30, 30), 0.9), ((46, 30, 30), 0.8))) == [(27, 14, 14)]

    def test_at_the_border_it_stays_inside_and_the_border_is_seen(self):
        assert starts_of(blobs(((2, 62, 30), 0.9))) == [(0, 32, 14)]

    def test_in_a_scan_smaller_than_a_sub_volume_it_is_the_padded_one(self):
        assert starts_of(blobs(((10, 30, 5), 0.9), shape=(20, 64, 10))) == [(-6, 14, -11)]

    def test_what_could_not_stay_gets_none(self):
        """By cells: an ordinary place in tissue; in air, where a small nodule would stay, it is looked at."""
        scan = model_scan(SHAPE)
        plan = replace(LOOKS, cells=CellGlanceConfig(), mark_from=0.5)
        cells = CellMap(np.full((9, 6, 6), -5.0, np.float32), (12.0, 12.0, 12.0))
        cells.logit[2, 2, 2] = 1.0  # about voxel 24
        stitcher = Stitcher(SHAPE, "constant")
        probability = blobs(((24, 24, 24), 0.9), ((72, 24, 24), 0.9))
        for start in ((0, 0, 0), (64, 0, 0)):
            part = tuple(slice(low, low + n) for low, n in zip(start, SIZE, strict=True))
            stitcher.add(start, probability[part])
        looks = [window.start for window in second_look(scan, stitcher, plan, 2, cells).wide]
        assert looks == [(8, 8, 8)]
        assert len(second_look(scan, stitcher, plan, 2)) == 2
        assert len(second_look(scan, stitcher, replace(plan, mark_from=0.0), 2, cells)) == 2
        scan.hu[66:78, 18:30, 18:30] = -800.0
        assert len(second_look(scan, stitcher, plan, 2, cells)) == 2

    def test_what_focus_is_not_sure_of_gets_none(self):
        assert starts_of(blobs(((40, 30, 20), SURE))) == []
        assert starts_of(blobs()) == []

    def test_unsure_voxels_of_a_finding_count_for_its_centre(self):
        probability = blobs(((40, 30, 20), 0.9))
        probability[39:42, 29:32, 22:28] = 0.3
        assert starts_of(probability) == [(24, 14, 7)]

    @given(
        where=st.lists(st.tuples(st.integers(0, 95), st.integers(0, 39), st.integers(0, 23)), max_size=12),
        seed=st.integers(0, 99),
    )
    def test_every_sure_voxel_is_in_a_middle_or_at_the_border_and_none_leaves_the_scan(self, where, seed):
        shape = (96, 40, 24)
        probability = np.zeros(shape, np.float32)
        for place, value in zip(where, np.random.default_rng(seed).uniform(0.3, 1.0, 12), strict=False):
            probability[place] = value
        starts = starts_of(probability)
        reach = [math.floor(n * MIDDLE / 2) for n in SIZE]
        for voxel in np.argwhere(probability > SURE):
            assert any(
                all(
                    (s <= 0 and v <= s + n // 2) or (s + n >= e and v >= s + n // 2) or abs(v - s - n // 2) <= r
                    for v, s, n, e, r in zip(voxel, start, SIZE, shape, reach, strict=True)
                )
                for start in starts
            )
        for start in starts:
            assert all(
                0 <= s <= e - n if e >= n else s == -((n - e) // 2) for s, n, e in zip(start, SIZE, shape, strict=True)
            )
        assert len(starts) <= len(where)
        assert starts_of(probability, most=1) == starts[:1]

    def test_share_region_and_body(self):
        body = np.ones(SHAPE, bool)
        body[60:] = False
        chest = np.arange(SHAPE[2]) >= 32
        scan = model_scan(SHAPE, body=body, chest=chest)
        stitcher = Stitcher(SHAPE)
        stitcher.add((0, 0, 0), blobs(((20, 20, 16), 0.7), ((70, 20, 20), 0.9), ((40, 20, 48), 0.6)))
        plan = replace(LOOKS, second_look=0.5)
        looks = second_look(scan, stitcher, plan, reads=4).wide
        assert [(w.start, w.region) for w in looks] == [((4, 4, 0), "abdomen"), ((24, 4, 32), "chest")]
        assert second_look(scan, stitcher, plan, reads=1).wide == looks[:1]
        assert not len(second_look(scan, stitcher, plan, reads=0))
        assert not len(second_look(scan, stitcher, TINY_PLAN, reads=4))
        assert second_look(scan, stitcher, replace(plan, foreground="hu_floor"), reads=2).wide[0].start == (54, 4, 4)


def screened(engine: FakeEngine, hu: NDArray[np.int16], plan: Plan = LOOKS, budget: Budget | None = None) -> Screening:
    return screen(
        volume_of(hu, np.diag([4.0, 4.0, 4.0, 1.0])), plan, engine, budget or Budget(), ScreeningSettings(gate=0.0)
    )


def scan_with_lesions() -> NDArray[np.int16]:
    hu = np.full((96, 48, 40), TISSUE_HU, np.int16)
    hu[20:27, 22:25, 10:21] = LESION_HU
    hu[70:72, 3:12, 30:38] = LESION_HU
    return hu


class TestInTheScan:
    def test_it_sees_the_finding_mirrored_and_turns_the_answer_back(self):
        hu = scan_with_lesions()
        engine = bright_engine()
        result = screened(engine, hu)
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)
        assert (result.second_looks, result.second_looks_done) == (2, 2)
        assert len(engine.focused) == result.windows_done + 2
        # Voxels 20..26 by 22..24 by 10..20, centre (23, 23, 15), head down.
        expected = np.where(hu == LESION_HU, 375 / 425, 215 / 425)[7:39, 7:39, 0:32][..., ::-1]
        assert any(np.allclose(patch, expected, atol=1e-6) for patch in engine.focused[result.windows_done :])

    def test_a_trick_of_the_place_falls_and_a_lesion_stays(self):
        """An engine that also takes the lowest slices of every sub-volume for lesion."""

        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            answer = np.where(patch > 0.7, np.float32(0.9), np.float32(0.0))
            answer[10:20, 10:20, :3] = 0.6
            return answer

        hu = scan_with_lesions()
        fooled = screened(FakeEngine(lambda _: 1.0, outline), hu, TINY_PLAN).mask.astype(bool)
        again = screened(FakeEngine(lambda _: 1.0, outline), hu).mask.astype(bool)
        lesion = hu == LESION_HU
        assert (fooled & ~lesion).sum() > 500
        assert (again & ~lesion).sum() < (fooled & ~lesion).sum() / 4
        assert (again & lesion).sum() == lesion.sum()

    def test_without_a_share_there_is_none(self):
        engine = bright_engine()
        result = screened(engine, scan_with_lesions(), TINY_PLAN)
        assert (result.second_looks, len(engine.focused)) == (0, result.windows_done)

    def test_nothing_found_nothing_read_again(self):
        engine = bright_engine()
        result = screened(engine, np.full((96, 48, 40), TISSUE_HU, np.int16))
        assert (result.second_looks, len(engine.focused), result.complete) == (0, result.windows_done, True)

    @pytest.mark.parametrize(("seconds_left", "done"), [(0.5, 0), (1.5, 1), (2.5, 2)])
    def test_it_keeps_to_the_deadline(self, seconds_left, done):
        hu = scan_with_lesions()
        clock = FakeClock()
        engine = bright_engine(clock=clock, focus_s=1.0)
        reads = screened(bright_engine(), hu).windows_done
        limit_s = reads + seconds_left + write_reserve_s(hu.size)
        result = screened(engine, hu, LOOKS, Budget(limit_s, clock=clock))
        assert (result.windows_done, result.second_looks, result.second_looks_done) == (reads, 2, done)
        assert result.complete == (done == 2)
        # What was found first is in the mask, whatever there was time for.
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)


CLOSE = (32, 32, 32)
TWO = replace(LOOKS, sub_volume_voxels=(64, 64, 32), second_focus=SecondFocusConfig(FocusConfig(), CLOSE))


class TestSecondFocus:
    """Small findings have a close look by the second Focus, others a wide one by Focus."""

    @staticmethod
    def looks(plan: Plan, *boxes: tuple[slice, slice, slice], reads: int = 4) -> tuple[list[Start], list[Start]]:
        scan, stitcher = model_scan((128, 96, 64)), Stitcher((128, 96, 64))
        probability = np.zeros(scan.hu.shape, np.float32)
        for number, box in enumerate(boxes):
            probability[box] = 0.9 - 0.01 * number
        stitcher.add((0, 0, 0), probability)
        again = second_look(scan, stitcher, plan, reads)
        assert len(again) == len(again.close) + len(again.wide)
        return [w.start for w in again.close], [w.start for w in again.wide]

    def test_by_the_longest_side(self):
        """0.4 of 32 voxels are 12."""
        for long, axis in itertools.product((12, 13), range(3)):
            sides = [slice(40, 44)] * 3
            sides[axis] = slice(40, 40 + long)
            close, wide = self.looks(TWO, (sides[0], sides[1], sides[2]))
            assert (len(close), len(wide)) == ((1, 0) if long == 12 else (0, 1))

    def test_without_a_second_focus_all_are_wide(self):
        close, wide = self.looks(replace(TWO, second_focus=None), (slice(40, 44), slice(40, 44), slice(40, 44)))
        assert (close, len(wide)) == ([], 1)

    def test_a_small_one_in_the_middle_of_a_wide_look_has_none_of_its_own(self):
        large = slice(40, 56), slice(40, 48), slice(28, 34)
        assert self.looks(TWO, large) == ([], [(16, 12, 14)])
        # The middle reaches to voxel 67.
        assert self.looks(TWO, large, (slice(62, 64), slice(42, 44), slice(30, 32))) == ([], [(16, 12, 14)])
        assert self.looks(TWO, large, (slice(90, 92), slice(42, 44), slice(30, 32))) == ([(74, 26, 14)], [(16, 12, 14)])

    def test_as_many_as_take_as_long(self):
        """A wide sub-volume holds four close ones, so there may be four times as many."""
        small = [
            (slice(x, x + 2), slice(y, y + 2), slice(z, z + 2))
            for x in (10, 40, 70, 100) for y in (10, 40, 70) for z in (10, 40)
        ]  # fmt: skip
        plan = replace(TWO, second_look=0.5)
        assert len(self.looks(plan, *small, reads=2)[0]) == 4
        assert len(self.looks(plan, *small, reads=4)[0]) == 8
        assert self.looks(plan, *small, reads=0) == ([], [])
        # A large one takes the time of four small ones, and has none left where Focus is surer of them.
        large = slice(100, 120), slice(70, 90), slice(44, 54)
        for boxes, reads, counts in (
            ([*small[:3], large], 2, (3, 0)), ([*small[:5], large], 4, (5, 0)), ([*small[:3], large], 4, (3, 1)),
            ([large, *small[:6]], 4, (4, 1)),
        ):  # fmt: skip
            close, wide = self.looks(plan, *boxes, reads=reads)
            assert (len(close), len(wide)) == counts

    def test_both_answers_make_the_mask_and_the_second_sees_both_windows(self):
        hu = np.full((96, 64, 40), TISSUE_HU, np.int16)
        hu[30:34, 30:34, 20:24] = LESION_HU
        network = FocusConfig(hu_channels="both")
        plan = replace(TWO, second_focus=SecondFocusConfig(network, CLOSE))
        engine = bright_engine()
        engine.second_outline = lambda patch: np.full(patch.shape[1:], 0.3, np.float32)
        result = screened(engine, hu, plan)
        assert result.complete
        assert (result.second_looks, result.second_looks_done) == (1, 1)
        assert [patch.shape for patch in engine.looked_closely] == [(2, *CLOSE)]
        # In the abdomen's window; mirrored along z, so that what lies above is below.
        assert engine.looked_closely[0].max() > 0.7
        assert all(patch.shape == (64, 64, 32) for patch in engine.focused)
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)
        engine.second_outline = lambda patch: np.zeros(patch.shape[1:], np.float32)
        assert not screened(engine, hu, replace(plan, finding_peak=0.9)).mask.any()

    @pytest.mark.parametrize("blend", ["constant", "gaussian"])
    def test_its_answer_may_count_for_several(self, blend):
        hu = np.full((96, 64, 40), TISSUE_HU, np.int16)
        hu[30:34, 30:34, 20:24] = LESION_HU
        engine = bright_engine()
        engine.second_outline = np.zeros_like
        for counts, found in ((1, True), (10, False)):
            config = SecondFocusConfig(FocusConfig(), CLOSE, counts=counts)
            plan = replace(TWO, blend=blend, second_focus=config, lesion_threshold=0.35, finding_peak=0.35)
            assert screened(engine, hu, plan).mask.any() == found
        with pytest.raises(ValueError, match="counts must be a number of answers from 1 to 10, got 0"):
            SecondFocusConfig(FocusConfig(), CLOSE, counts=0)

    @pytest.mark.parametrize("blend", ["constant", "gaussian"])
    def test_that_is_as_if_it_were_given_as_often(self, blend):
        rng = np.random.default_rng(1)
        first, said = rng.random((32, 32, 32), np.float32), rng.random((16, 16, 16), np.float32)
        once, often = Stitcher((32, 32, 32), blend), Stitcher((32, 32, 32), blend)
        for stitcher in (once, often):
            stitcher.add((0, 0, 0), first)
        once.add((8, 20, 3), said, 3)
        for _ in range(3):
            often.add((8, 20, 3), said)
        np.testing.assert_allclose(once.finish(), often.finish(), rtol=1e-5)

    def test_far_from_what_was_found_it_raises_nothing(self):
        before = np.zeros((32, 32, 32), np.float32)
        before[10:14, 10:14, 10:12] = 0.6
        before[25] = 0.1
        said = np.full(before.shape, 0.9, np.float32)
        result = confirmed(said, before, 0.2, (1.0, 1.0, 3.0), 2.0)
        assert result.dtype == np.float32
        near = np.zeros(before.shape, bool)
        near[8:16, 10:14, 10:12] = near[10:14, 8:16, 10:12] = near[9:15, 9:15, 10:12] = True
        assert (result[near] == np.float32(0.9)).all()
        np.testing.assert_array_equal(result[~near], before[~near])
        np.testing.assert_array_equal(
            confirmed(said / 10, before, 0.2, (1.0, 1.0, 3.0), 2.0)[10:14, 10:14, 10:12], said[0, 0, 0] / 10
        )
        np.testing.assert_array_equal(confirmed(said, before, 0.7, (1.0, 1.0, 3.0), 2.0), before)

    def test_a_wide_look_may_fill_what_was_found_in_part(self):
        before = np.zeros((48, 8, 8), np.float32)
        before[10] = 0.6
        said = np.full(before.shape, 0.9, np.float32)
        for growth_mm, last in ((2.0, 12), (15.0, 25)):
            marked = confirmed(said, before, 0.2, (1.0, 1.0, 3.0), growth_mm) > 0.2
            np.testing.assert_array_equal(np.flatnonzero(marked[:, 4, 4])[[0, -1]], [max(0, 20 - last), last])

    def test_what_it_sees_elsewhere_is_not_marked(self):
        hu = np.full((96, 64, 40), TISSUE_HU, np.int16)
        hu[30:34, 30:34, 20:24] = LESION_HU
        engine = bright_engine()
        engine.second_outline = lambda patch: np.ones(patch.shape, np.float32)
        plan = replace(TWO, second_focus=SecondFocusConfig(FocusConfig(), CLOSE), lesion_threshold=0.4)
        np.testing.assert_array_equal(screened(engine, hu, plan).mask, hu == LESION_HU)

    def test_a_deadline_leaves_out_what_it_has_no_time_for(self):
        hu = np.full((96, 64, 40), TISSUE_HU, np.int16)
        hu[30:34, 30:34, 20:24] = LESION_HU
        clock = FakeClock()
        engine = bright_engine(clock=clock, second_focus_s=5.0)
        engine.info = replace(engine.info, second_focus_s=5.0)
        engine.second_outline = np.zeros_like
        budget = Budget(limit_s=4.0 + write_reserve_s(hu.size), clock=clock)
        result = screened(engine, hu, TWO, budget)
        assert (result.second_looks, result.second_looks_done, result.complete) == (1, 0, False)
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)


BOTH = replace(TWO, second_focus=SecondFocusConfig(FocusConfig(), CLOSE, wide=True))


class TestWideLooksByBoth:
    """With `wide` both networks look at what is large."""

    LARGE = slice(30, 46), slice(20, 36), slice(14, 24)

    def hu(self) -> NDArray[np.int16]:
        hu = np.full((96, 64, 40), TISSUE_HU, np.int16)
        hu[self.LARGE] = LESION_HU
        return hu

    def test_each_reads_the_same_sub_volume_mirrored(self):
        engine = bright_engine()
        engine.second_outline = lambda patch: np.full(patch.shape, 0.3, np.float32)
        result = screened(engine, self.hu(), BOTH)
        assert (result.second_looks, result.second_looks_done, result.complete) == (2, 2, True)
        (seen,) = engine.looked_closely
        np.testing.assert_array_equal(seen, engine.focused[-1])
        assert (seen[..., ::-1] != seen).any()
        np.testing.assert_array_equal(result.mask, self.hu() == LESION_HU)
        # What Focus alone is sure of is no longer so sure.
        assert screened(engine, self.hu(), replace(TWO, finding_peak=0.95)).mask.any()
        assert not screened(engine, self.hu(), replace(BOTH, finding_peak=0.95)).mask.any()

    def test_it_takes_twice_the_time_of_one(self):
        scan, stitcher = model_scan((256, 96, 64)), Stitcher((256, 96, 64))
        probability = np.zeros(scan.hu.shape, np.float32)
        for x in (10, 80, 150, 220):
            probability[x : x + 16, 20:36, 14:24] = 0.9
        stitcher.add((0, 0, 0), probability)
        for share, alone, by_both in ((0.5, 2, 1), (1.0, 4, 2), (2.0, 4, 4)):
            plans = (replace(plan, second_look=share) for plan in (TWO, BOTH))
            found = [second_look(scan, stitcher, plan, 4) for plan in plans]
            assert [len(looks.wide) for looks in found] == [alone, by_both]
            assert [len(looks) for looks in found] == [alone, 2 * by_both]

    def test_a_deadline_leaves_out_what_it_has_no_time_for(self):
        clock = FakeClock()
        # A wide look is expected to take as many times longer as its sub-volume is larger: four times.
        engine = bright_engine(clock=clock, second_focus_s=2.0)
        engine.info = replace(engine.info, second_focus_s=0.5)
        engine.second_outline = np.zeros_like
        for left_s, done in ((1.5, 1), (2.5, 2)):
            budget = Budget(left_s + write_reserve_s(self.hu().size), clock=clock)
            result = screened(engine, self.hu(), BOTH, budget)
            assert (result.second_looks, result.second_looks_done) == (2, done)


def _model(name: str, mean: float, weight: float, scale: float = 1.0) -> FindingModel:
    return FindingModel(0.0, (FindingMeasure(name, mean, scale, weight, (0.0,)),), 0.5)


class TestWhatMayBeLesion:
    """With `look_from` only findings that the first reading leaves likely are looked at, the likeliest first."""

    @staticmethod
    def looks(plan: Plan, *sides: int, reads: int = 4) -> list[int]:
        """Which of some cubes, 48 voxels apart, that are less and less sure have a close look, as they are chosen."""
        shape = (len(sides) * 48, 64, 64)
        scan, stitcher = model_scan(shape), Stitcher(shape)
        probability = np.zeros(shape, np.float32)
        for number, side in enumerate(sides):
            low = number * 48 + 20
            probability[low : low + side, 24 : 24 + side, 24 : 24 + side] = 0.9 - 0.02 * number
        stitcher.add((0, 0, 0), probability)
        return [look.start[0] // 48 for look in second_look(scan, stitcher, plan, reads).close]

    def test_those_above_it(self):
        # Voxels of 64 mm3: sides of 3 and 8 voxels are 1.7 and 33 ml.
        model = _model("log10_ml", 1.0, 4.0)
        plan = replace(TWO, finding_model=model, look_from=0.5)
        assert self.looks(plan, 3, 8, 3, 8) == [1, 3]
        assert self.looks(replace(plan, look_from=0.0), 3, 8, 3, 8) == [0, 1, 2, 3]
        assert self.looks(replace(plan, look_from=0.99), 3, 8, 3, 8) == []

    def test_the_likeliest_first(self):
        plan = replace(TWO, finding_model=_model("log10_ml", 1.0, 1.0), look_from=0.01, second_look=0.5)
        assert self.looks(plan, 3, 4, 5, 6, 7, 8, reads=1) == [5, 4, 3, 2]
        assert self.looks(replace(plan, look_from=0.0), 3, 4, 5, 6, 7, 8, reads=1) == [0, 1, 2, 3]

    @pytest.mark.parametrize("name", ["probability_around", "peak_logit", "length", "contrast_hu", "alike_around"])
    def test_they_are_judged_by_all_that_is_measured(self, name):
        """As once everything is read: what lies around a finding counts too."""
        rng = np.random.default_rng(3)
        shape = (96, 64, 40)
        scan, stitcher = model_scan(shape), Stitcher(shape)
        scan.hu[:] = rng.normal(0.0, 50.0, shape)
        probability = rng.uniform(0.0, 0.2, shape).astype(np.float32)
        probability[60:, :, 20:] /= 4
        for number, (x, y, z) in enumerate(((20, 10, 5), (20, 45, 30), (70, 10, 5), (70, 45, 30))):
            probability[x : x + 4 + number, y : y + 4, z : z + 3] = 0.6 + number / 10
            scan.hu[x : x + 4 + number, y : y + 4, z : z + 3] += 50 * number
        stitcher.add((0, 0, 0), probability)
        plan = replace(TWO, finding_model=_model(name, 0.0, 1.0, 50.0), lesion_threshold=0.2)
        judged = judged_findings(probability, scan, None, plan)
        assert judged is not None
        likely = sorted(judged.likelihood[1:].tolist())
        assert len(set(likely)) == 4
        for low, high in itertools.pairwise(likely):
            found = second_look(scan, stitcher, replace(plan, look_from=(low + high) / 2), 40).close
            assert len(found) == sum(one > low for one in likely)

    def test_what_focus_is_not_sure_of_is_never_likely(self):
        shape = (64, 64, 64)
        scan, stitcher = model_scan(shape), Stitcher(shape)
        probability = np.zeros(shape, np.float32)
        probability[20:24, 20:24, 20:24] = 0.45
        stitcher.add((0, 0, 0), probability)
        model = replace(_model("log10_ml", 0.0, 0.0), offset=3.0, least_peak=0.1)
        assert len(second_look(scan, stitcher, replace(TWO, finding_model=model, look_from=0.1), 4)) == 0
