"""Which of Focus's findings are in the mask."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.grid import ModelGrid, model_grid, to_native_mask
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.ras import ras_view
from gfscreen.screening.budget import Budget
from gfscreen.screening.findings import drop_unlikely, drop_unlikely_parts
from gfscreen.screening.screening import screen
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.scans import AIR_HU, LESION_HU, TISSUE_HU, affine_of, volume_of

SHAPE = (20, 16, 12)
INSIDE, EDGE, OUTSIDE = np.s_[3:5, 3:5, 3:5], np.s_[9:12, 3:5, 3:5], np.s_[15:17, 3:5, 3:5]


def body() -> NDArray[np.bool_]:
    """The lower half along x."""
    mask = np.zeros(SHAPE, bool)
    mask[:10] = True
    return mask


def probability(**findings: float) -> NDArray[np.float32]:
    values = np.full(SHAPE, 0.2, np.float32)
    for name, value in findings.items():
        values[{"inside": INSIDE, "edge": EDGE, "outside": OUTSIDE}[name]] = value
    return values


class TestBody:
    def test_what_does_not_mostly_lie_in_the_body_goes(self):
        values = probability(inside=0.7, edge=0.7, outside=0.9)
        # A third of EDGE lies in the body: it is dropped, whole.
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == 2
        np.testing.assert_array_equal(values[OUTSIDE], 0.0)
        np.testing.assert_array_equal(values[EDGE], 0.0)
        np.testing.assert_array_equal(values[INSIDE], np.float32(0.7))

    @pytest.mark.parametrize(("voxels_inside", "stands"), [(1, False), (3, False), (4, True), (6, True)])
    def test_more_than_half_of_it_must_lie_there(self, voxels_inside, stands):
        """A row of six voxels across the edge of the body; what stands is kept whole."""
        values = probability()
        row = np.s_[10 - voxels_inside : 16 - voxels_inside, 7, 7]
        values[row] = 0.7
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == (not stands)
        np.testing.assert_array_equal(values[row], np.float32(0.7 if stands else 0.0))

    def test_a_board_that_touches_the_body_in_one_voxel_is_not_body(self):
        values = probability(inside=0.7)
        values[10:18, 1:15, 5] = 0.9
        values[9, 7, 5] = 0.9
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == 1
        assert (values > 0.5).sum() == 8  # INSIDE

    def test_corners_touch(self):
        values = probability(inside=0.7)  # eight voxels in the body
        values[[5, 6, 7, 8], 5, 5] = 0.7  # on from its corner
        values[9:17, 6, 6] = 0.7  # and, by another corner, eight of which one lies in the body: 13 of 20
        assert drop_unlikely(values.copy(), body(), threshold=0.5, peak=0.5) == 0
        values[5, 5, 5] = 0.2  # without that corner the rest has 4 of 11
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == 1

    @pytest.mark.parametrize("unknown", [None, np.zeros(SHAPE, bool)])
    def test_where_the_body_is_not_known_nothing_goes(self, unknown):
        values = probability(outside=0.9)
        assert drop_unlikely(values, unknown, threshold=0.5, peak=0.5) == 0
        assert values[OUTSIDE].min() > 0.5


class TestPeak:
    def test_the_highest_probability_counts(self):
        values = probability(inside=0.7, edge=0.7)
        values[3, 3, 3] = 0.9
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.8) == 1
        assert values[INSIDE].min() > 0.5
        np.testing.assert_array_equal(values[EDGE], 0.0)

    def test_it_is_exclusive(self):
        values = probability(inside=0.75)
        assert drop_unlikely(values, None, threshold=0.5, peak=0.75) == 1
        assert drop_unlikely(probability(inside=0.75), None, threshold=0.5, peak=0.7499) == 0

    def test_a_percentile_in_place_of_the_highest(self):
        # Of eight voxels one is at 0.9: the highest, and nothing below the seventh of eight.
        for percentile, stands in ((100.0, True), (80.0, False)):
            values = probability(inside=0.7)
            values[3, 3, 3] = 0.9
            dropped = drop_unlikely(values, body(), threshold=0.5, peak=0.8, percentile=percentile)
            assert (dropped == 0) == stands

    def test_below_the_lesion_threshold_nothing_is_touched(self):
        values = probability(inside=0.9)
        values[18, 15, 11] = 0.5
        drop_unlikely(values, body(), threshold=0.5, peak=0.95)
        assert values[18, 15, 11] == 0.5
        assert values[0, 0, 0] == np.float32(0.2)

    def test_a_lower_threshold_takes_in_the_neighbourhood(self):
        values = probability(inside=0.9, edge=0.4)
        values[5:9, 3, 3] = 0.4  # joins both
        assert drop_unlikely(values.copy(), None, threshold=0.3, peak=0.8) == 0
        values[7, 3, 3] = 0.25
        assert drop_unlikely(values, None, threshold=0.3, peak=0.8) == 1
        assert values[5, 3, 3] == np.float32(0.4)
        np.testing.assert_array_equal(values[EDGE], 0.0)

    def test_without_findings(self):
        values = probability()
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.9) == 0
        np.testing.assert_array_equal(values, np.float32(0.2))


@settings(deadline=None, max_examples=60)
@given(
    arrays(np.float32, (6, 5, 4), elements=st.floats(0, 1, width=32)),
    arrays(bool, (6, 5, 4)),
    st.floats(0.5, 0.99),
)
def test_what_stands_is_as_it_was_and_meets_both_rules(values, inside, peak):
    """And a second pass finds nothing more to drop."""
    after = values.copy()
    drop_unlikely(after, inside, threshold=0.5, peak=peak)
    kept = after > 0.5
    np.testing.assert_array_equal(after[kept], values[kept])
    np.testing.assert_array_equal(after[values <= 0.5], values[values <= 0.5])
    if kept.any():
        assert after.max() > peak
        labels, count = ndimage.label(kept, np.ones((3, 3, 3)))
        if inside.any():
            assert all(inside[labels == number].mean() > 0.5 for number in range(1, count + 1))
    again = after.copy()
    assert drop_unlikely(again, inside, threshold=0.5, peak=peak) == 0
    np.testing.assert_array_equal(again, after)


NATIVE_MM = (0.5, 0.5, 1.5)


def on_native(
    findings: dict[tuple[int, int, int], float], native_mm: tuple[float, ...] = NATIVE_MM, affine: Any = None
) -> tuple[NDArray[np.uint8], NDArray[np.float32], ModelGrid, Volume]:
    """Mask of single model voxels of 1 x 1 x 3 mm, and what it is made of; thresholded at 0.2."""
    shape = tuple(round(30 / mm) for mm in native_mm)
    volume = volume_of(np.zeros(shape), np.diag([*native_mm, 1.0]) if affine is None else affine)
    grid = model_grid(volume, (1.0, 1.0, 3.0))
    values = np.zeros(grid.shape, np.float32)
    for place, value in findings.items():
        values[place] = value
    return to_native_mask(values, grid, volume, 0.2), values, grid, volume


def parts(mask: NDArray[np.uint8]) -> int:
    return int(ndimage.label(mask, np.ones((3, 3, 3)))[1])


class TestNativeParts:
    PLAN = replace(TINY_PLAN, lesion_threshold=0.2, finding_peak=0.5)

    def test_a_speck_that_broke_off_goes(self):
        # One finding, by a corner; halfway between both there is (0.9 + 0.25) / 8 = 0.14, below the threshold.
        mask, *rest = on_native({(10, 10, 4): 0.9, (11, 11, 5): 0.25})
        assert (parts(mask), mask[22, 22, 10]) == (2, 1)
        assert drop_unlikely_parts(mask, *rest, self.PLAN) == 1
        assert (parts(mask), mask[22, 22, 10], mask[20, 20, 8]) == (1, 0, 1)

    def test_what_stands_is_as_it_was(self):
        mask, *rest = on_native({(10, 10, 4): 0.9, (11, 10, 4): 0.25, (12, 10, 4): 0.25})
        before = mask.copy()
        assert drop_unlikely_parts(mask, *rest, self.PLAN) == 0
        np.testing.assert_array_equal(mask, before)

    def test_a_peak_between_native_voxels_counts(self):
        """No native voxel lies at the peak: interpolated, 0.45 is the most; the finding is in the mask nevertheless."""
        mask, *rest = on_native({(10, 10, 4): 0.6, (11, 10, 4): 0.3}, (0.75, 0.75, 3.0))
        assert mask.any()
        assert drop_unlikely_parts(mask, *rest, self.PLAN) == 0

    def test_on_a_coarse_grid_all_that_a_voxel_extends_over_counts(self):
        # Native voxels of 3 mm: the one at 9 mm sees 0.3 there; the peak is at 10 mm, between it and the next.
        mask, *rest = on_native({(9, 9, 4): 0.3, (10, 9, 4): 0.6}, (3.0, 3.0, 3.0))
        assert mask[3, 3, 4] == 1
        assert drop_unlikely_parts(mask, *rest, self.PLAN) == 0

    def test_below_the_smallest_volume_a_part_goes(self):
        # Native voxels of 0.375 mm3; the larger has 3 x 3 x 3, the smaller 1.
        mask, *rest = on_native({(10, 10, 4): 0.9, (20, 20, 6): 0.9, (21, 20, 6): 0.9})
        small, large = np.sort(np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:])
        assert small < large
        for voxels, gone in ((small, 0), (small + 1, 1), (large, 1), (large + 1, 2)):
            plan = replace(self.PLAN, min_finding_ml=float(voxels) * 0.375e-3)
            tried = mask.copy()
            assert drop_unlikely_parts(tried, *rest, plan) == gone
            assert parts(tried) == 2 - gone

    def test_as_published_nothing_is_looked_at(self):
        mask, values, grid, volume = on_native({(10, 10, 4): 0.9})
        plan = Plan(lesion_threshold=0.2, finding_peak=0.2)
        values[:] = 0.0  # would take all of it away
        assert drop_unlikely_parts(mask, values, grid, volume, plan) == 0
        assert Plan().min_finding_ml == 0.0
        assert mask.any()

    def test_an_empty_mask(self):
        mask, *rest = on_native({})
        assert drop_unlikely_parts(mask, *rest, self.PLAN) == 0

    @settings(deadline=None, max_examples=25)
    @given(
        st.dictionaries(
            st.tuples(st.integers(0, 27), st.integers(0, 27), st.integers(0, 8)),
            st.sampled_from([0.21, 0.3, 0.45, 0.55, 0.9]),
            max_size=30,
        ),
        st.sampled_from([(0.5, 0.5, 1.5), (0.75, 1.0, 3.0), (0.7, 0.9, 2.0), (1.5, 1.5, 5.0), (3.0, 3.0, 3.0)]),
        st.booleans(),
    )
    def test_against_every_voxel_looked_at_alone(self, findings, native_mm, flipped):
        columns = np.diag([-native_mm[0], native_mm[1], -native_mm[2]]) if flipped else np.diag(native_mm)
        mask, values, grid, volume = on_native(findings, native_mm, affine_of(columns))
        before = mask.copy()
        dropped = drop_unlikely_parts(mask, values, grid, volume, self.PLAN)
        seen, after = ras_view(before, volume), ras_view(mask, volume)
        labels, count = ndimage.label(seen, np.ones((3, 3, 3)))
        sure = np.argwhere(values > 0.5)
        reach = np.maximum(1 - 1e-6, np.array(native_mm) / (1.0, 1.0, 3.0) / 2)
        gone = 0
        for number in range(1, count + 1):
            places = np.argwhere(labels == number) * np.array(native_mm) / (1.0, 1.0, 3.0)
            near = any((np.abs(places - peak) <= reach).all(axis=1).any() for peak in sure)
            gone += not near
            assert (after[labels == number] == near).all()
        assert dropped == gone
        assert not after[labels == 0].any()

    def test_the_mask_is_the_same_with_any_number_of_threads(self):
        rng = np.random.default_rng(2)
        places = rng.integers(0, (30, 30, 10), (60, 3))
        findings = {tuple(place): float(value) for place, value in zip(places.tolist(), rng.random(60), strict=True)}
        before = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
        masks = []
        try:
            for threads in (1, 2, 5):
                sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
                mask, *rest = on_native(findings, (0.7, 0.9, 2.0))
                drop_unlikely_parts(mask, *rest, self.PLAN)
                masks.append(mask)
        finally:
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
        assert masks[0].any()
        assert all(np.array_equal(masks[0], mask) for mask in masks)


class TestScreening:
    """A bright plate beside the body: the couch."""

    def scan(self) -> NDArray[np.int16]:
        hu = np.full((48, 48, 40), AIR_HU, np.int16)
        hu[8:40, 8:36, :] = TISSUE_HU
        hu[20:24, 20:24, 18:22] = LESION_HU
        # The body reaches as far back as the plate, so that the crop to the body holds both.
        hu[8:18, 36:44, :] = TISSUE_HU
        hu[24:38, 41:42, :] = LESION_HU
        return hu

    def screened(self, plan=TINY_PLAN, tissue=0.0):
        def focus(patch):
            return np.where(patch > 0.7, 0.8, np.where(patch > 0.3, tissue, 0.0)).astype(np.float32)

        engine = FakeEngine(lambda patch: 1.0, focus)
        return screen(volume_of(self.scan(), np.diag([4.0, 4.0, 4.0, 1.0])), plan, engine, Budget())

    def test_the_couch_is_no_lesion(self):
        result = self.screened()
        expected = np.zeros(result.mask.shape, bool)
        expected[20:24, 20:24, 18:22] = True
        np.testing.assert_array_equal(result.mask.astype(bool), expected)
        assert result.findings_dropped == 1

    def test_the_plans_peak(self):
        result = self.screened(replace(TINY_PLAN, finding_peak=0.85))
        assert not result.mask.any()
        assert result.findings_dropped == 2

    def test_the_plans_lesion_threshold(self):
        assert not self.screened(replace(TINY_PLAN, lesion_threshold=0.81, finding_peak=0.81)).mask.any()
        plans = [replace(TINY_PLAN, lesion_threshold=threshold, finding_peak=0.7) for threshold in (0.3, 0.7)]
        low, high = (self.screened(plan, tissue=0.4).mask for plan in plans)
        assert low[high > 0].all()
        assert low.sum() > high.sum() > 0

    def test_findings_that_are_too_small_are_counted(self):
        # 4 x 4 x 4 voxels of 4 mm are 4.096 ml.
        for least_ml, dropped in ((4.096, 1), (4.097, 2)):
            result = self.screened(replace(TINY_PLAN, min_finding_ml=least_ml))
            assert (result.findings_dropped, result.mask.any()) == (dropped, dropped == 1)

    def test_a_mask_of_too_little_in_all_becomes_empty(self):
        # One finding of 4.096 ml stands; the couch has gone before.
        for least_ml, up_to, stands in ((4.096, 0, True), (4.097, 0, False), (4.097, 1, False)):
            result = self.screened(replace(TINY_PLAN, empty_below_ml=least_ml, empty_up_to=up_to))
            assert result.mask.any() == stands
            assert result.findings_dropped == (1 if stands else 2)

    def test_a_mask_of_more_parts_than_the_plan_names_stays(self):
        plan = replace(TINY_PLAN, foreground="hu_floor", empty_below_ml=1000.0, empty_up_to=1)
        assert self.screened(plan).mask.any()
        assert not self.screened(replace(plan, empty_up_to=2)).mask.any()

    def test_the_published_foreground_knows_no_body(self):
        assert self.screened(replace(TINY_PLAN, foreground="hu_floor")).mask[24:38, 41].any()
