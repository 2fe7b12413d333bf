"""Which of Focus's findings are in the mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gfscreen.screening.budget import Budget
from gfscreen.screening.findings import drop_unlikely
from gfscreen.screening.screening import screen
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.scans import AIR_HU, LESION_HU, TISSUE_HU, volume_of

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
    def test_only_what_has_no_voxel_in_the_body_goes(self):
        values = probability(inside=0.7, edge=0.7, outside=0.9)
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == 1
        np.testing.assert_array_equal(values[OUTSIDE], 0.0)
        # A finding at the edge is kept whole: its part outside is not cut off.
        np.testing.assert_array_equal(values[INSIDE], np.float32(0.7))
        np.testing.assert_array_equal(values[EDGE], np.float32(0.7))

    def test_corners_touch(self):
        values = probability(inside=0.7)
        values[5:15, 5, 5] = 0.7
        assert drop_unlikely(values, body(), threshold=0.5, peak=0.5) == 0

    @pytest.mark.parametrize("unknown", [None, np.zeros(SHAPE, bool)])
    def test_where_the_body_is_not_known_nothing_goes(self, unknown):
        values = probability(outside=0.9)
        assert drop_unlikely(values, unknown, threshold=0.5, peak=0.5) == 0
        assert values[OUTSIDE].min() > 0.5


class TestVolume:
    @pytest.mark.parametrize(("min_ml", "dropped"), [(0.0, 0), (0.024, 0), (0.0241, 1), (0.036, 1), (0.0361, 2)])
    def test_findings_below_the_smallest_volume_go(self, min_ml, dropped):
        values = probability(inside=0.7, edge=0.7)  # 8 and 12 voxels of 3 mm3
        assert drop_unlikely(values, None, threshold=0.5, peak=0.5, min_ml=min_ml, voxel_ml=0.003) == dropped
        assert (values > 0.5).sum() == {0: 20, 1: 12, 2: 0}[dropped]


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
        assert (kept & inside).any() or not inside.any()
    again = after.copy()
    assert drop_unlikely(again, inside, threshold=0.5, peak=peak) == 0
    np.testing.assert_array_equal(again, after)


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

    def test_the_published_foreground_knows_no_body(self):
        assert self.screened(replace(TINY_PLAN, foreground="hu_floor")).mask[24:38, 41].any()
