"""Where sub-volumes lie, what the networks see of them, and how overlapping answers become one map."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gfscreen.config import Plan
from gfscreen.network_plan import HUWindow, HUWindows
from gfscreen.screening.windows import (
    Stitcher,
    all_starts,
    apply_hu_window,
    axis_starts,
    gather,
    gather_for_focus,
    gaussian_weight,
    plan_windows,
    starts_over_body,
)
from tests.helpers.engines import TINY_PLAN
from tests.helpers.scans import model_scan

CHEST, ABDOMEN = HUWindows().chest, HUWindows().abdomen


class TestStarts:
    @pytest.mark.parametrize(
        ("length", "size", "overlap", "starts"),
        [
            # Stride 96 - 24 = 72; the last start is 300 - 96 = 204, not 216.
            (300, 96, 0.25, [0, 72, 144, 204]),
            # Stride 64 - 16 = 48; 160 - 64 = 96 falls on it.
            (160, 64, 0.25, [0, 48, 96]),
            # Stride 96 - 72 = 24.
            (150, 96, 0.75, [0, 24, 48, 54]),
            (96, 96, 0.25, [0]),
            (97, 96, 0.25, [0, 1]),
            # Shorter than a sub-volume: centred, 96 - 90 = 6 before and after; an odd rest goes behind.
            (84, 96, 0.25, [-6]),
            (83, 96, 0.25, [-6]),
            (1, 96, 0.25, [-47]),
            (200, 100, 0.0, [0, 100]),
            # Stride 10 - int(9.9) = 1.
            (12, 10, 0.99, [0, 1, 2]),
        ],
    )
    def test_by_hand(self, length, size, overlap, starts):
        assert axis_starts(length, size, overlap) == starts

    @pytest.mark.parametrize("overlap", [0.25, 0.5, 0.75])
    @pytest.mark.parametrize("shape", [(96, 96, 64), (97, 200, 65), (311, 250, 171), (300, 96, 130)])
    def test_equal_monais_sliding_window(self, shape, overlap):
        utils = pytest.importorskip("monai.data.utils")
        size = (96, 96, 64)
        interval = tuple(s - int(s * overlap) if s != n else s for s, n in zip(size, shape, strict=True))
        expected = [tuple(int(s.start) for s in window) for window in utils.dense_patch_slices(shape, size, interval)]
        assert all_starts(shape, size, overlap) == expected

    def test_z_runs_fastest(self):
        assert all_starts((4, 4, 4), (2, 4, 2), 0.0) == [(0, 0, 0), (0, 0, 2), (2, 0, 0), (2, 0, 2)]


class TestPlan:
    PLAN = replace(TINY_PLAN, overlap=0.0)

    def test_windows_without_body_are_left_out(self):
        body = np.zeros((64, 64, 32), bool)
        body[40, 5, 31] = True  # one voxel, in the second window along x
        windows = plan_windows(model_scan(body.shape, body=body), self.PLAN, 0.0)
        # Around the voxel and 4 to each side, 36..44: 23 voxels to spare, 11 of them before; y and z end at the scan.
        assert [window.start for window in windows] == [(25, 0, 0)]

    def test_each_row_is_as_wide_as_the_body_in_it(self):
        # 96 x 64 voxels: the lower 32 rows of the body are 96 wide (3 windows), the upper ones 20 (1 window).
        body = np.zeros((96, 64, 32), bool)
        body[:, :32] = True
        body[50:70, 32:] = True
        assert starts_over_body(body, (32, 32, 32), 0.0) == [(0, 0, 0), (32, 0, 0), (64, 0, 0), (44, 32, 0)]

    def test_a_margin_is_taken_only_where_it_costs_no_window(self):
        # 60 voxels of body in 100: two windows of 32 have 4 to spare, 2 on each side. 64 leave nothing.
        body = np.zeros((100, 32, 32), bool)
        body[20:80] = True
        assert [x for x, _, _ in starts_over_body(body, (32, 32, 32), 0.0)] == [18, 50]
        body[20:84] = True
        assert [x for x, _, _ in starts_over_body(body, (32, 32, 32), 0.0)] == [20, 52]

    def test_between_the_legs_there_is_nothing(self):
        body = np.zeros((160, 32, 32), bool)
        body[:20] = body[140:] = True
        assert [x for x, _, _ in starts_over_body(body, (32, 32, 32), 0.0)] == [0, 128]

    @settings(max_examples=60, deadline=None)
    @given(
        shape=st.tuples(*[st.integers(1, 60)] * 3),
        size=st.tuples(*[st.integers(4, 24)] * 3),
        overlap=st.floats(0.0, 0.75),
        share=st.sampled_from([0.0005, 0.01, 0.3, 1.0]),
        seed=st.integers(0, 99),
    )
    def test_every_voxel_of_the_body_is_covered_and_every_window_holds_some(self, shape, size, overlap, share, seed):
        body = np.random.default_rng(seed).random(shape) < share
        starts = starts_over_body(body, size, overlap)
        covered = np.zeros(shape, bool)
        for start in starts:
            part = tuple(slice(max(0, a), a + n) for a, n in zip(start, size, strict=True))
            covered[part] = True
            assert all(0 <= a <= n - s for a, n, s in zip(start, shape, size, strict=True) if n >= s)
        assert not (body & ~covered).any()
        assert len(set(starts)) == len(starts)
        assert bool(starts) == body.any()
        assert len(starts) <= len(all_starts(shape, size, overlap))

    def test_the_published_rule_keeps_them(self):
        scan = model_scan((64, 64, 32), body=np.zeros((64, 64, 32), bool))
        assert len(plan_windows(scan, replace(self.PLAN, foreground="hu_floor"), 0.0)) == 4
        assert plan_windows(scan, self.PLAN, 0.0) == []

    def test_each_window_has_the_region_of_most_of_its_slices(self):
        chest = np.arange(96) >= 40  # windows 0..31, 32..63 (24 of 32 are chest), 64..95
        windows = plan_windows(model_scan((32, 32, 96), chest=chest), self.PLAN, 0.0)
        assert [(window.start[2], window.region) for window in windows] == [
            (0, "abdomen"),
            (32, "chest"),
            (64, "chest"),
        ]

    def test_a_small_scan_is_one_window_around_it(self):
        chest = np.ones(10, bool)
        (window,) = plan_windows(model_scan((20, 31, 10), chest=chest), self.PLAN, 0.25)
        # (32 - 20) / 2, (32 - 31) // 2, (32 - 10) / 2
        assert (window.start, window.region) == ((-6, 0, -11), "chest")


class TestHUWindow:
    @pytest.mark.parametrize(
        ("window", "hu", "value"),
        [
            (CHEST, -900, 0.0),
            (CHEST, -901, 0.0),
            (CHEST, 650, 1.0),
            (CHEST, 3071, 1.0),
            (CHEST, -125, 0.5),  # 775 / 1550
            (ABDOMEN, -175, 0.0),
            (ABDOMEN, 250, 1.0),
            (ABDOMEN, 40, 215 / 425),
            (ABDOMEN, -32768, 0.0),
            (ABDOMEN, 32767, 1.0),
        ],
    )
    def test_linear_within_clipped_beyond(self, window, hu, value):
        for dtype in (np.int16, np.float32):
            scaled = apply_hu_window(np.full((2, 2, 2), hu, dtype), window)
            assert scaled.dtype == np.float32
            np.testing.assert_array_equal(scaled, np.float32(value))

    def test_every_hu_equals_the_formula_in_double_precision(self):
        hu = np.arange(-1100, 800, dtype=np.int16)
        expected = np.clip((hu.astype(np.float64) + 900) / 1550, 0, 1)
        np.testing.assert_allclose(apply_hu_window(hu, CHEST), expected, atol=1e-7)

    def test_the_scan_itself_is_not_changed(self):
        hu = np.full((4, 4, 4), 40, np.float32)
        apply_hu_window(hu, ABDOMEN)
        assert (hu == 40).all()


def test_a_focus_sees_one_window_or_both():
    plan = Plan()
    hu = np.linspace(-1000, 800, 4 * 4 * 4, dtype=np.float32).reshape(4, 4, 4)
    start, size = (-1, 0, 1), (5, 4, 3)
    own, other = gather(hu, start, size, CHEST), gather(hu, start, size, ABDOMEN)
    np.testing.assert_array_equal(gather_for_focus(hu, start, size, "chest", plan), own)
    both = replace(plan, focus=replace(plan.focus, hu_channels="both"))
    np.testing.assert_array_equal(gather_for_focus(hu, start, size, "chest", both), np.stack([own, other]))
    np.testing.assert_array_equal(gather_for_focus(hu, start, size, "abdomen", both), np.stack([other, own]))


class TestGather:
    HU = np.arange(4 * 5 * 6, dtype=np.float32).reshape(4, 5, 6)
    WINDOW = HUWindow(0.0, 120.0)

    def test_inside(self):
        patch = gather(self.HU, (1, 2, 3), (2, 2, 2), self.WINDOW)
        np.testing.assert_allclose(patch, self.HU[1:3, 2:4, 3:5] / 120, atol=1e-7)

    def test_beyond_the_scan_it_is_the_floor_of_the_window(self):
        patch = gather(self.HU + 1, (-1, 0, 4), (6, 5, 4), self.WINDOW)
        assert patch.shape == (6, 5, 4)
        np.testing.assert_allclose(patch[1:5, :, :2], (self.HU[:, :, 4:] + 1) / 120, atol=1e-7)
        outside = np.ones(patch.shape, bool)
        outside[1:5, :, :2] = False
        assert (patch[outside] == 0).all()

    def test_equals_monais_symmetric_padding(self):
        transforms = pytest.importorskip("monai.transforms")
        scaled = apply_hu_window(self.HU, self.WINDOW)
        expected = transforms.SpatialPad((9, 8, 6))(scaled[None])[0].numpy()
        start = tuple(axis_starts(n, s, 0.25)[0] for n, s in zip(self.HU.shape, (9, 8, 6), strict=True))
        np.testing.assert_array_equal(gather(self.HU, start, (9, 8, 6), self.WINDOW), expected)


class TestStitcher:
    def test_mean_of_two_windows_where_they_overlap(self):
        stitcher = Stitcher((6, 1, 1))
        stitcher.add((0, 0, 0), np.full((4, 1, 1), 0.2, np.float32))
        stitcher.add((2, 0, 0), np.full((4, 1, 1), 0.8, np.float32))
        np.testing.assert_allclose(stitcher.finish().ravel(), [0.2, 0.2, 0.5, 0.5, 0.8, 0.8], atol=1e-7)

    def test_uncovered_voxels_are_background(self):
        stitcher = Stitcher((5, 1, 1))
        stitcher.add((1, 0, 0), np.ones((2, 1, 1), np.float32))
        assert stitcher.finish().ravel().tolist() == [0, 1, 1, 0, 0]

    def test_nothing_added(self):
        assert not Stitcher((3, 3, 3)).finish().any()

    def test_what_lies_in_the_padding_is_dropped(self):
        stitcher = Stitcher((2, 1, 1))
        stitcher.add((-2, 0, 0), np.arange(6, dtype=np.float32).reshape(6, 1, 1))
        assert stitcher.finish().ravel().tolist() == [2, 3]

    def test_more_windows_than_a_byte_counts(self):
        stitcher = Stitcher((1, 1, 1))
        for _ in range(300):
            stitcher.add((0, 0, 0), np.full((1, 1, 1), 0.5, np.float32))
        assert stitcher.finish().item() == pytest.approx(0.5)

    def test_middles_count_more(self):
        stitcher = Stitcher((6, 1, 1), "gaussian")
        stitcher.add((0, 0, 0), np.full((4, 1, 1), 0.2, np.float32))
        stitcher.add((2, 0, 0), np.full((4, 1, 1), 0.8, np.float32))
        # Distances from the middle 0.5 and 1.5 voxels, sigma half a voxel.
        near, far = np.exp(-0.5), np.exp(-4.5)
        at_2 = (0.2 * near + 0.8 * far) / (near + far)
        np.testing.assert_allclose(stitcher.finish().ravel(), [0.2, 0.2, at_2, 1.0 - at_2, 0.8, 0.8], atol=1e-6)

    def test_a_corner_that_one_window_covers_is_what_it_says(self):
        stitcher = Stitcher((96, 96, 64), "gaussian")
        probability = np.random.default_rng(0).random((96, 96, 64), np.float32)
        stitcher.add((0, 0, 0), probability)
        np.testing.assert_allclose(stitcher.finish(), probability, atol=1e-6)

    def test_the_mean_so_far_of_a_part(self):
        stitcher = Stitcher((6, 1, 1))
        assert not stitcher.at((0, 0, 0), (6, 1, 1)).any()
        stitcher.add((0, 0, 0), np.full((4, 1, 1), 0.2, np.float32))
        stitcher.add((2, 0, 0), np.full((4, 1, 1), 0.8, np.float32))
        found = stitcher.at((-1, 0, 0), (5, 1, 1))
        np.testing.assert_allclose(found.ravel(), [0.0, 0.2, 0.2, 0.5, 0.5], atol=1e-7)
        np.testing.assert_allclose(stitcher.at((0, 0, 0), (6, 1, 1)), stitcher.finish(), atol=1e-7)

    def test_the_middle_of_a_small_one_counts_as_much(self):
        stitcher = Stitcher((12, 1, 1), "gaussian")
        stitcher.add((0, 0, 0), np.full((12, 1, 1), 0.2, np.float32))
        stitcher.add((4, 0, 0), np.full((4, 1, 1), 0.8, np.float32))
        found = stitcher.finish().ravel()
        assert found[5] == found[6] == pytest.approx(0.2 + 0.6 / (1 + np.exp(0.5 - 1 / 18)), abs=0.03)
        assert found[4] < found[5] - 0.1
        np.testing.assert_allclose(found[[0, 1, 2, 3, 8, 9, 10, 11]], 0.2, atol=1e-6)

    def test_the_weight_is_monais(self):
        utils = pytest.importorskip("monai.data.utils")
        expected = utils.compute_importance_map((12, 8, 6), mode="gaussian", sigma_scale=0.125).numpy()
        # MONAI lifts what is below a thousandth.
        np.testing.assert_allclose(np.maximum(gaussian_weight((12, 8, 6)), expected.min()), expected, rtol=0.01)


def test_the_published_plan():
    plan = Plan()
    assert (plan.spacing_mm, plan.sub_volume_voxels) == ((1.0, 1.0, 3.0), (96, 96, 64))
    assert (plan.overlap, plan.gate) == (0.25, 0.9)
    assert (HUWindow(-900, 650), HUWindow(-175, 250)) == (CHEST, ABDOMEN)
