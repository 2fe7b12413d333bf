"""Patches of a Focus of nnU-Net's: where they lie, how they add up, which are read, and the mask they give."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.errors import UsageError
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling, UNetConfig
from gfscreen.screening.budget import Budget, write_reserve_s
from gfscreen.screening.patches import (
    PatchStitcher,
    axis_steps,
    lesion_logit,
    lesion_probability,
    patch_weight,
    plan_patches,
)
from gfscreen.screening.screening import Screening, prepare, screen
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.engines import TINY_PLAN, FakeClock, PatchEngine, patch_engine
from tests.helpers.scans import LESION_HU, TISSUE_HU, volume_of

UNET = UNetConfig("plain", (4, 4), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), (1, 1), (1,))
# The scan's own grid, so that what is found is exact; patches of 16 voxels, 8 apart.
CONFIG = NnunetConfig(UNET, (4.0, 4.0, 4.0), (16, 16, 16), (InputChannel("none"),), data_resampling=Resampling(1))
PLAN = replace(TINY_PLAN, nnunet=CONFIG)
DENSE = replace(PLAN, gate=0.0, without_glance=True)
ISOTROPIC = np.diag([4.0, 4.0, 4.0, 1.0])


def block(shape: tuple[int, int, int] = (48, 40, 36)) -> NDArray[np.int16]:
    return np.full(shape, TISSUE_HU, np.int16)


def with_lesion(where: tuple[slice, slice, slice] = np.s_[6:11, 20:26, 4:9]) -> NDArray[np.int16]:
    hu = block()
    hu[where] = LESION_HU
    return hu


def screened(
    hu: NDArray[np.int16], engine: PatchEngine, plan: Any = PLAN, budget: Budget | None = None, **settings: Any
) -> Screening:
    asked = {key: settings.pop(key) for key in ("keep_outputs", "keep_unfiltered") if key in settings}
    volume = volume_of(hu, ISOTROPIC)
    return screen(volume, plan, engine, budget or Budget(), ScreeningSettings(**settings), **asked)


class TestPlaces:
    def test_spread_evenly_as_nnunet_does(self):
        # The example in nnU-Net's own source.
        assert axis_steps(110, 64, 0.5) == [0, 23, 46]
        assert axis_steps(64, 64, 0.5) == [0]
        assert axis_steps(65, 64, 0.5) == [0, 1]
        assert axis_steps(205, 128, 0.5) == [0, 38, 77]
        assert axis_steps(100, 50, 1.0) == [0, 50]

    def test_a_scan_smaller_than_a_patch_lies_in_its_middle(self):
        assert axis_steps(21, 32, 0.5) == [-5]
        assert axis_steps(1, 16, 0.5) == [-7]

    def test_every_voxel_is_covered(self):
        for length in range(1, 90, 7):
            starts = axis_steps(length, 16, 0.5)
            covered = {n for start in starts for n in range(start, start + 16)}
            assert set(range(length)) <= covered
            assert max(np.diff(starts), default=0) <= 8

    def test_an_overlap_of_the_run_takes_the_place_of_the_step(self):
        scan = prepare(volume_of(block(), ISOTROPIC), DENSE, ScreeningSettings(), Budget())
        tighter = prepare(volume_of(block(), ISOTROPIC), DENSE, ScreeningSettings(overlap=0.75), Budget())
        assert len(tighter.patches.windows) > len(scan.patches.windows) == 5 * 4 * 4


class TestStitching:
    def test_weights_are_nnunets(self):
        weight = patch_weight((16, 24, 32))
        assert weight.max() == weight[8, 12, 16] == 10.0
        assert weight.min() > 0
        # Half precision, and sigma an eighth of the patch.
        assert np.array_equal(weight, weight.astype(np.float16))
        assert weight[8, 12, 20] == pytest.approx(10 * np.exp(-0.5), rel=2e-3)

    def test_the_mean_of_equal_answers_is_that_answer(self):
        config = replace(CONFIG, outputs=("background", "a", "b"), lesion=(1,))
        stitcher = PatchStitcher((20, 18, 16), config)
        answer = np.random.default_rng(0).normal(size=(3, 20, 18, 16)).astype(np.float32)
        for z in axis_steps(20, 16, 0.5):
            for y in axis_steps(18, 16, 0.5):
                stitcher.add((z, y, 0), answer[:, z : z + 16, y : y + 16])
        assert np.abs(stitcher.finish() - answer).max() < 1e-5

    def test_what_lies_outside_the_scan_is_dropped_and_the_unread_is_background(self):
        stitcher = PatchStitcher((4, 30, 16), CONFIG)
        stitcher.add((-6, 0, 0), np.ones((1, 16, 16, 16), np.float32))
        scores = stitcher.finish()
        assert np.allclose(scores[0, :, :16], 1.0)
        assert lesion_probability(scores, CONFIG)[:, 16:].max() < 1e-8
        several = replace(CONFIG, outputs=("background", "a", "b"), lesion=(1, 2))
        assert lesion_probability(PatchStitcher((4, 4, 4), several).finish(), several).max() < 1e-8


class TestScores:
    LABELS = replace(CONFIG, outputs=("background", "organ", "a", "b"), lesion=(2, 3))

    def test_labels_are_argmax_and_softmax(self):
        scores = np.random.default_rng(0).normal(size=(4, 500)).astype(np.float32) * 3
        raised = np.exp(scores)
        assert np.array_equal(lesion_logit(scores, self.LABELS) > 0, scores.argmax(axis=0) >= 2)
        expected = raised[2:].sum(axis=0) / raised.sum(axis=0)
        assert np.allclose(lesion_probability(scores, self.LABELS), expected, atol=1e-6)

    def test_regions_are_each_a_sigmoid(self):
        regions = replace(CONFIG, outputs=("organ", "core", "rim"), lesion=(1, 2), regions=True)
        scores = np.array([[-1.0, 2.0, -3.0], [-2.0, -5.0, 1.0]], np.float32)
        assert regions.scores == 2
        assert lesion_logit(scores, regions).tolist() == [-1.0, 2.0, 1.0]
        assert np.allclose(lesion_probability(scores, regions), 1 / (1 + np.exp([1.0, -2.0, -1.0])))

    def test_large_scores_do_not_overflow(self):
        scores = np.array([[-900.0, 900.0]] * 4, np.float32) * np.array([[1], [1], [-1], [1]], np.float32)
        assert np.isfinite(lesion_probability(scores, self.LABELS)).all()


class TestScreened:
    def test_dense_is_every_patch_and_the_mask_exact(self):
        hu, engine = with_lesion(), patch_engine()
        result = screened(hu, engine, DENSE)
        assert (result.windows_total, result.windows_done, len(engine.focused)) == (80, 80, 80)
        assert engine.glanced == 0
        assert result.complete
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)

    def test_only_patches_over_what_glance_kept_are_read(self):
        hu, engine = with_lesion(), patch_engine()
        result = screened(hu, engine)
        assert engine.glanced > 0
        assert 0 < result.windows_kept < result.windows_total == 80
        assert len(engine.focused) == result.windows_kept
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)

    def test_where_glance_kept_something_the_scores_are_those_of_the_dense_window(self):
        # An answer that depends on the patch, so that a missing one would be seen.
        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            return patch[:1] / 100.0 + patch.std() / 50.0

        engines = [replace(patch_engine(), outline=outline) for _ in range(2)]
        asked = {"keep_outputs": True, "keep_unfiltered": True}
        gated = screened(with_lesion(), engines[0], **asked).network_outputs
        dense = screened(with_lesion(), engines[1], DENSE, **asked).network_outputs
        assert len(engines[0].focused) < len(engines[1].focused)
        prepared = prepare(volume_of(with_lesion(), ISOTROPIC), PLAN, ScreeningSettings(), Budget())
        suspicious = [w for w in prepared.windows if (with_lesion()[_of(w.start, prepared)] == LESION_HU).any()]
        assert suspicious
        assert len(suspicious) < len(prepared.windows)
        for window in suspicious:
            part = _of(window.start, prepared)
            assert np.array_equal(gated.native_probability[part], dense.native_probability[part])
        assert not np.array_equal(gated.native_probability, dense.native_probability)

    def test_a_gate_by_cells(self):
        plan = replace(PLAN, cells=CellGlanceConfig(spacing_mm=(4.0, 4.0, 4.0), case_calibration=(1.0, 0.0)))
        engine = replace(patch_engine(), judge=_bright_cells)
        result = screened(with_lesion(), engine, plan)
        assert 0 < len(engine.focused) < result.windows_total
        assert result.suspicion > 0.9
        np.testing.assert_array_equal(result.mask, with_lesion() == LESION_HU)

    def test_a_share_of_the_patches_for_timing(self):
        engine = patch_engine()
        result = screened(with_lesion(), engine, keep_share=0.2)
        assert len(engine.focused) == result.windows_kept == 16

    def test_without_a_glance_only_the_dense_window_can_be_had(self):
        for options in ({"gate": 0.5}, {"keep_share": 0.2}):
            with pytest.raises(UsageError, match="these weights have no Glance"):
                screened(block(), patch_engine(), DENSE, **options)
        assert screened(block(), patch_engine(), DENSE, gate=0.0).complete

    def test_the_deadline_leaves_the_least_suspicious_unread(self):
        hu = with_lesion()
        hu[40:44, 4:8, 30:34] = LESION_HU
        clock = FakeClock()
        engine = patch_engine(clock=clock, focus_s=1.0)
        budget = Budget(write_reserve_s(hu.size) + 5.5, clock=clock)
        result = screened(hu, engine, budget=budget)
        assert (result.windows_done, len(engine.focused)) == (5, 5)
        assert not result.complete
        assert result.windows_kept > 5
        assert result.skipped_probability > 0.9

    def test_a_deadline_that_stops_glance(self):
        clock = FakeClock()
        engine = patch_engine(clock=clock, glance_s=1.0, focus_s=0.1)
        budget = Budget(write_reserve_s(block().size) + 4.0, clock=clock)
        result = screened(with_lesion(), engine, budget=budget)
        assert 0 < engine.glanced < len(prepare_windows())
        assert result.windows_unglanced > 0
        assert not result.complete

    def test_mirrored_answers_are_averaged(self):
        mirrored = replace(DENSE, nnunet=replace(CONFIG, mirror_axes=(0, 2)))
        engine = patch_engine()
        result = screened(with_lesion(), engine, mirrored)
        assert len(engine.focused) == 4 * 80
        np.testing.assert_array_equal(result.mask, with_lesion() == LESION_HU)
        # An answer by place: mirrored back it is even along the mirrored axes.
        asked = {"keep_outputs": True, "keep_unfiltered": True}
        whole = replace(mirrored, nnunet=replace(CONFIG, mirror_axes=(2,), patch_voxels=(48, 48, 48)))
        line = np.broadcast_to(np.linspace(-4, 4, 48, dtype=np.float32), (1, 48, 48, 48))
        even = screened(block(), replace(patch_engine(), outline=lambda _: line), whole, **asked)
        assert set(np.unique(even.network_outputs.native_probability)) <= {127, 128}

    def test_statistics_see_the_probability_on_the_model_grid(self):
        outputs = screened(with_lesion(), patch_engine(), keep_outputs=True).network_outputs
        assert outputs.focus_probability.shape == outputs.grid.shape
        assert outputs.native_probability is None
        voxels = np.argwhere(with_lesion() == LESION_HU)
        assert outputs.focus_mean(voxels) > 0.99
        assert outputs.glance_at(voxels[0].astype(float)) > 0.9
        assert len(outputs.windows) == len(outputs.kept) == 80

    def test_several_labels_take_the_argmax(self):
        labels = replace(CONFIG, outputs=("background", "organ", "lesion"), lesion=(2,))

        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            bright = patch[0] > 120.0
            return np.stack([np.zeros_like(patch[0]), np.where(bright, 1.0, 2.0), np.where(bright, 1.2, 0.0)])

        result = screened(with_lesion(), replace(patch_engine(), outline=outline), replace(DENSE, nnunet=labels))
        np.testing.assert_array_equal(result.mask, with_lesion() == LESION_HU)


class TestFindings:
    """Rules on connected parts of the mask."""

    def two(self) -> NDArray[np.int16]:
        hu = with_lesion()
        hu[30:32, 6:8, 20:22] = LESION_HU
        return hu

    def test_the_smallest_volume(self):
        small = 8 * 0.064
        result = screened(self.two(), patch_engine(), DENSE, min_volume_ml=small + 0.01)
        np.testing.assert_array_equal(result.mask, with_lesion() == LESION_HU)
        assert result.findings_dropped == 1
        assert screened(self.two(), patch_engine(), DENSE, min_volume_ml=small).findings_dropped == 0

    @pytest.mark.parametrize(("percentile", "stands"), [(100.0, True), (90.0, True), (30.0, False)])
    def test_a_percentile_of_the_probability(self, percentile, stands):
        def outline(patch: NDArray[np.float32]) -> NDArray[np.float32]:
            # Of the brightest three fifths of the lesion Focus is sure.
            return np.select([patch[:1] > 250.0, patch[:1] > 120.0], [5.0, 1.0], -8.0)

        hu = with_lesion()
        hu[8:11, 20:26, 4:9] += 100
        plan = replace(DENSE, finding_peak=0.9, finding_percentile=percentile)
        result = screened(hu, replace(patch_engine(), outline=outline), plan)
        assert result.mask.any() == stands

    def test_too_little_in_all_is_nothing(self):
        total = 150 * 0.064
        for least, up_to, stands in [(total, 0, True), (total + 1, 0, False), (total + 1, 1, False)]:
            plan = replace(DENSE, empty_below_ml=least, empty_up_to=up_to)
            assert screened(with_lesion(), patch_engine(), plan).mask.any() == stands
        plan = replace(DENSE, empty_below_ml=total + 1, empty_up_to=1)
        assert screened(self.two(), patch_engine(), plan).mask.any()


def _of(start: tuple[int, int, int], prepared: Any) -> tuple[slice, ...]:
    """A Glance sub-volume as voxels of the scan, which has the model grid's spacing."""
    low = [side[0] for side in prepared.scan.grid.box]
    return tuple(slice(max(0, a + b), a + b + 32) for a, b in zip(start, low, strict=True))


def prepare_windows() -> list[Any]:
    return prepare(volume_of(with_lesion(), ISOTROPIC), PLAN, ScreeningSettings(), Budget()).windows


def _bright_cells(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """3 for a cell with something bright in the abdomen's window, else -3."""
    z, x, y = (n // step for n, step in zip(volume.shape, (4, 8, 8), strict=True))
    highest = volume.reshape(z, 4, x, 8, y, 8).max(axis=(1, 3, 5))
    return np.stack([np.where(highest > 0.7, 3.0, -3.0)] * 2)


def test_patches_of_an_empty_scan():
    volume = volume_of(np.zeros((20, 20, 20), np.int16), ISOTROPIC)
    prepared = prepare(volume, DENSE, ScreeningSettings(), Budget())
    assert len(plan_patches(volume, DENSE, prepared.scan, None).windows) == 8
    assert not screen(volume, DENSE, patch_engine(), Budget()).mask.any()
