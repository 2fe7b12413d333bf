"""The model grid against independent implementations, and the way back to the native grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.scan.boxes import lesion_boxes
from gfscreen.scan.grid import (
    full_model_shape,
    model_grid,
    restore_box,
    sample_to_grid,
    to_model,
    to_native_mask,
)
from gfscreen.scan.volume.ras import ras_view
from tests.helpers.engines import TINY_PLAN
from tests.helpers.scans import AIR_HU, LUNG_HU, TISSUE_HU, axes_affine, dice, volume_of

NATIVE_MM = (0.8, 1.3, 4.0)
MODEL_MM = (1.0, 1.0, 3.0)
PLAN = Plan(spacing_mm=MODEL_MM)


def noise(shape: tuple[int, int, int], low: int = -1000, high: int = 1000) -> NDArray[np.int16]:
    return np.random.default_rng(1).integers(low, high, shape).astype(np.int16)


def positions(count: int, native_mm: float, model_mm: float, size: int, start: int = 0) -> NDArray[np.float64]:
    """Native position of model voxels: m * model / native, beyond the last native voxel that one."""
    return np.clip((start + np.arange(count)) * model_mm / native_mm, 0, size - 1)


class TestModelGrid:
    @pytest.mark.parametrize(
        ("voxels", "native_mm", "model_mm", "expected"),
        [
            (512, 0.8, 1.0, 410),  # 511 * 0.8 = 408.8 mm: 409 steps and one more
            (100, 5.0, 3.0, 166),  # 99 * 5/3 = 165.0
            (55, 5.0, 3.0, 91),
            (10, 1.0, 1.0, 10),
            (1, 7.0, 3.0, 1),  # one slice stays one
            (2, 5.0, 3.0, 3),  # 1.67 steps round to 2
            (2, 1.0, 3.0, 1),
            (7, 0.5, 1.0, 4),
        ],
    )
    def test_size(self, voxels, native_mm, model_mm, expected):
        assert full_model_shape((voxels,) * 3, (native_mm,) * 3, (model_mm,) * 3) == (expected,) * 3

    def test_native_spacing_gives_the_native_voxels(self):
        volume = volume_of(noise((7, 8, 9)), np.diag([*MODEL_MM, 1.0]))
        grid = model_grid(volume, MODEL_MM)
        np.testing.assert_array_equal(sample_to_grid(volume.hu, grid), volume.hu)

    def test_linear_interpolation_equals_scipy(self):
        volume = volume_of(noise((20, 15, 9)), np.diag([*NATIVE_MM, 1.0]))
        grid = model_grid(volume, MODEL_MM)
        axes = [positions(grid.shape[a], NATIVE_MM[a], MODEL_MM[a], (20, 15, 9)[a]) for a in range(3)]
        expected = ndimage.map_coordinates(volume.hu.astype(np.float64), np.meshgrid(*axes, indexing="ij"), order=1)
        found = sample_to_grid(volume.hu, grid)
        assert found.dtype == np.float32
        # Neighbours differ by up to 2000 HU: float32 positions are good for 2000 * 1e-6 of that.
        np.testing.assert_allclose(found, expected, atol=0.01)

    def test_by_hand_along_z(self):
        # Native slices at 0, 4, 8 mm with 0, 40, 80 HU; model slices at 0, 3, 6, 9 mm: 0, 30, 60 and the border's 80.
        hu = np.broadcast_to(np.array([0, 40, 80]), (4, 4, 3))
        volume = volume_of(hu, np.diag([1.0, 1.0, 4.0, 1.0]))
        np.testing.assert_allclose(sample_to_grid(volume.hu, model_grid(volume, MODEL_MM))[1, 1], [0, 30, 60, 80])

    def test_nearest_keeps_labels(self):
        label = (noise((20, 15, 9), 0, 3)).astype(np.uint8)
        volume = volume_of(label, np.diag([*NATIVE_MM, 1.0]))
        grid = model_grid(volume, MODEL_MM)
        found = sample_to_grid(label, grid, nearest=True)
        index = [
            np.rint(positions(grid.shape[a], NATIVE_MM[a], MODEL_MM[a], (20, 15, 9)[a])).astype(int) for a in range(3)
        ]
        agree = found == label[np.ix_(*index)]
        # A tie, halfway between two voxels, may fall to either side.
        ties = [np.isclose(positions(grid.shape[a], NATIVE_MM[a], MODEL_MM[a], 99) % 1, 0.5) for a in range(3)]
        tied = ties[0][:, None, None] | ties[1][None, :, None] | ties[2][None, None, :]
        assert agree[~tied].all()

    def test_a_crop_equals_the_same_part_of_the_whole(self):
        volume = volume_of(noise((20, 15, 9)), np.diag([*NATIVE_MM, 1.0]))
        whole = model_grid(volume, MODEL_MM)
        box = ((3, 11), (2, 9), (4, 10))
        crop = sample_to_grid(volume.hu, replace(whole, box=box))
        part = sample_to_grid(volume.hu, whole)[tuple(slice(*b) for b in box)]
        np.testing.assert_allclose(crop, part, atol=0.01)

    def test_equals_monais_spacing(self):
        transforms = pytest.importorskip("monai.transforms")
        from monai.data import MetaTensor

        volume = volume_of(noise((20, 15, 9)), np.diag([*NATIVE_MM, 1.0]))
        scan = MetaTensor(volume.hu[None].astype(np.float32), affine=volume.geometry.affine_ras_mm)
        expected = transforms.Spacing(pixdim=MODEL_MM, mode="bilinear")(scan)[0].numpy()
        found = sample_to_grid(volume.hu, model_grid(volume, MODEL_MM))
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=0.05)


def patient(shape: tuple[int, int, int] = (60, 50, 40), lungs: bool = False) -> NDArray[np.int16]:
    """A block of tissue from (10, 8, 5) to (50, 40, 35) in air; 4 x 4 x 5 mm."""
    hu = np.full(shape, AIR_HU, np.int16)
    hu[10:50, 8:40, 5:35] = TISSUE_HU
    if lungs:
        hu[13:26, 12:36, 5:35] = LUNG_HU
        hu[34:47, 12:36, 5:35] = LUNG_HU
    return hu


class TestToModel:
    def test_box_of_the_body_with_a_margin(self):
        scan = to_model(volume_of(patient()), TINY_PLAN)
        # x: voxels 10..49 of 4 mm are model voxels 10..49; one coarse voxel more on each side. z: 25..170 mm.
        assert scan.grid.box[0] == (9, 51)
        assert scan.grid.box[1] == (7, 41)
        assert scan.grid.box[2] == (5, 45)  # (5 - 1) * 5 / 4 = 5; (34 + 2) * 5 / 4 = 45
        assert scan.hu.shape == scan.body.shape == scan.grid.shape == (42, 34, 40)
        assert scan.hu.max() == TISSUE_HU
        assert scan.body.any(axis=(1, 2))[1:-1].all()
        assert not scan.body[0].any()

    def test_the_table_does_not_widen_the_box(self):
        hu = patient()
        hu[:, 3:5, :] = 200  # 8 mm of shell, 12 mm below the back
        assert to_model(volume_of(hu), TINY_PLAN).grid.box == to_model(volume_of(patient()), TINY_PLAN).grid.box

    def test_published_box_is_that_of_all_voxels_above_the_floor(self):
        hu = patient()
        hu[2, 3, 1] = 0  # anything above -175 HU counts, a single voxel too
        scan = to_model(volume_of(hu, np.diag([4.0, 4.0, 4.0, 1.0])), replace(TINY_PLAN, foreground="hu_floor"))
        assert scan.grid.box == ((2, 50), (3, 40), (1, 35))

    def test_published_box_uses_the_floor_of_the_region(self):
        # Air at -1000 stays below both floors; a pad of -500 HU is above the chest's floor of -900 only.
        for lungs, first in ((True, 0), (False, 8)):
            hu = patient(lungs=lungs)
            hu[:, 0:3, :] = -500
            scan = to_model(volume_of(hu, np.diag([4.0, 4.0, 4.0, 1.0])), replace(TINY_PLAN, foreground="hu_floor"))
            assert scan.grid.box[1][0] == first

    def test_a_scan_of_air_is_kept_whole_and_has_no_body(self):
        for foreground in ("body", "hu_floor"):
            scan = to_model(volume_of(np.full((20, 20, 10), -1000)), replace(TINY_PLAN, foreground=foreground))
            assert scan.grid.shape == scan.grid.full_shape
            assert not scan.body.any()

    def test_axes_are_reordered_and_not_rotated(self):
        canonical = to_model(volume_of(patient(), np.diag([4.0, 4.0, 5.0, 1.0])), TINY_PLAN)
        stored = patient().transpose(2, 0, 1)[::-1, :, ::-1]
        affine = axes_affine((2, 0, 1), (-1, 1, -1), (5.0, 4.0, 4.0), (3.0, -9.0, 40.0))
        np.testing.assert_array_equal(to_model(volume_of(stored, affine), TINY_PLAN).hu, canonical.hu)

    @pytest.mark.parametrize("region", ["chest", "abdomen"])
    def test_forced_region(self, region):
        scan = to_model(volume_of(patient(lungs=region == "abdomen")), TINY_PLAN, region)
        assert scan.region.forced
        assert (scan.chest == (region == "chest")).all()

    def test_lungs_of_a_part_are_those_of_the_whole(self):
        """And hold all air of the lungs, though they were found coarsely and the scan is cropped."""
        scan = to_model(volume_of(patient(lungs=True)), replace(TINY_PLAN, spacing_mm=(3.0, 2.0, 5.0)))
        whole = scan.lungs_in(tuple(slice(0, n) for n in scan.hu.shape))
        part = np.s_[5:41, 7:30, 3:20]
        assert scan.grid.box[0][0] > 0
        np.testing.assert_array_equal(scan.lungs_in(part), whole[part])
        air = (scan.hu < -500) & scan.body
        assert whole[air].mean() > 0.98
        assert 0.1 < whole.mean() < 0.7

    def test_the_same_scan_gives_the_same_model(self):
        first, second = (to_model(volume_of(patient()), TINY_PLAN) for _ in range(2))
        np.testing.assert_array_equal(first.hu, second.hu)
        assert first.grid == second.grid

    @pytest.mark.parametrize("shape", [(1, 1, 1), (40, 40, 1), (1, 40, 40), (2, 3, 4)])
    def test_thin_scans(self, shape):
        scan = to_model(volume_of(np.full(shape, 40)), PLAN)
        assert scan.hu.shape == scan.body.shape == scan.grid.shape
        assert scan.chest.shape == scan.grid.shape[2:]


class TestBackToNative:
    def back(self, probability: NDArray[np.float32], volume: object, plan: Plan = TINY_PLAN) -> NDArray[np.uint8]:
        return to_native_mask(probability, to_model(volume, plan).grid, volume, 0.5)

    def test_nothing_found(self):
        volume = volume_of(patient())
        mask = self.back(np.zeros(to_model(volume, TINY_PLAN).grid.shape, np.float32), volume)
        assert mask.dtype == np.uint8
        assert mask.shape == volume.hu.shape
        assert not mask.any()

    def test_exactly_one_half_is_background(self):
        # argmax of two equal classes is the first, background.
        volume = volume_of(patient())
        assert not self.back(np.full(to_model(volume, TINY_PLAN).grid.shape, 0.5, np.float32), volume).any()

    def test_one_voxel_on_the_same_spacing(self):
        volume = volume_of(patient(), np.diag([4.0, 4.0, 4.0, 1.0]))
        scan = to_model(volume, TINY_PLAN)
        probability = np.zeros(scan.grid.shape, np.float32)
        probability[20, 10, 15] = 1.0
        expected = np.zeros(volume.hu.shape, np.uint8)
        expected[tuple(b[0] + n for b, n in zip(scan.grid.box, (20, 10, 15), strict=True))] = 1
        np.testing.assert_array_equal(to_native_mask(probability, scan.grid, volume, 0.5), expected)

    def test_outline_lies_halfway_between_slices(self):
        # Model slices every 3 mm, native ones every 1 mm. Probability 1 in the slice at 9 mm only: linear, above one
        # half within 1.5 mm: native slices 8, 9, 10.
        volume = volume_of(np.full((40, 40, 30), 40), np.eye(4))
        scan = to_model(volume, PLAN)
        probability = np.zeros(scan.grid.shape, np.float32)
        probability[10:20, 10:20, 3] = 1.0
        mask = to_native_mask(probability, scan.grid, volume, 0.5)
        assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [8, 9, 10]
        assert mask[:, :, 9].sum() == 100

    def test_halfway_is_background(self):
        # Native slices every 1 mm, model slices every 2 mm: native 9 and 11 lie exactly between 0 and 1.
        volume = volume_of(np.full((40, 40, 30), 40), np.diag([2.0, 2.0, 1.0, 1.0]))
        scan = to_model(volume, replace(TINY_PLAN, spacing_mm=(2.0, 2.0, 2.0)))
        probability = np.zeros(scan.grid.shape, np.float32)
        probability[10:20, 10:20, 5] = 1.0
        mask = to_native_mask(probability, scan.grid, volume, 0.5)
        assert np.flatnonzero(mask.any(axis=(0, 1))).tolist() == [10]

    def test_lesion_at_the_borders_of_the_scan_reaches_them(self):
        # 21 slices of 4 mm: the last at 80 mm; the model grid of 3 mm has round(80/3) + 1 = 28 slices, to 81 mm.
        # 17 slices of 1 mm: the last model slice lies at 15 mm, native slice 16 beyond it.
        for slices, native_mm in ((20, 4.0), (21, 4.0), (22, 4.0), (17, 1.0), (18, 1.0)):
            volume = volume_of(np.full((12, 12, slices), 40), np.diag([4.0, 4.0, native_mm, 1.0]))
            scan = to_model(volume, replace(TINY_PLAN, spacing_mm=(4.0, 4.0, 3.0)))
            assert self.all_lesion(scan, volume).all()

    @pytest.mark.parametrize("native", [(0.7, 0.9, 1.1), (2.3, 3.1, 4.7), (4.0, 4.0, 9.9)])
    def test_everything_lesion_is_the_whole_native_grid(self, native):
        volume = volume_of(np.full((30, 28, 26), 40), np.diag([*native, 1.0]))
        assert self.all_lesion(to_model(volume, PLAN), volume).all()

    @staticmethod
    def all_lesion(scan: object, volume: object) -> NDArray[np.uint8]:
        return to_native_mask(np.ones(scan.grid.shape, np.float32), scan.grid, volume, 0.5)

    def test_equals_scipy_on_the_whole_grid(self):
        """Only the lesion's box is sampled; that must not show."""
        volume = volume_of(patient(), np.diag([3.1, 4.7, 5.3, 1.0]))
        scan = to_model(volume, TINY_PLAN)
        rng = np.random.default_rng(3)
        probability = ndimage.gaussian_filter(rng.random(scan.grid.shape), 2.0)
        probability = ((probability - probability.mean()) * 8 + 0.35).clip(0, 1).astype(np.float32)
        found = to_native_mask(probability, scan.grid, volume, 0.5)
        native_mm = (3.1, 4.7, 5.3)
        axes = [np.arange(n) * native_mm[a] / 4.0 - scan.grid.box[a][0] for a, n in enumerate(volume.hu.shape)]
        expected = (
            ndimage.map_coordinates(probability, np.meshgrid(*axes, indexing="ij"), order=1, mode="nearest") > 0.5
        )
        inside = np.ix_(*[(a > -0.5) & (a < n - 0.5) for a, n in zip(axes, probability.shape, strict=True)])
        assert dice(found[inside], expected[inside]) > 0.999

    @pytest.mark.parametrize("native", [(0.8, 0.8, 5.0), (1.0, 1.0, 3.0), (0.6, 0.7, 1.0)])
    def test_a_large_lesion_survives_the_round_trip(self, native):
        shape = tuple(int(70 / s) for s in native)
        volume = volume_of(np.full(shape, 40), np.diag([*native, 1.0]))
        index = np.indices(shape).reshape(3, -1).T * np.array(native)
        ball = (((index - 33.0) ** 2).sum(axis=1) <= 20.0**2).reshape(shape)
        grid = to_model(volume, PLAN).grid
        on_model = sample_to_grid(ball.astype(np.uint8), grid, nearest=True)
        assert dice(to_native_mask(on_model.astype(np.float32), grid, volume, 0.5), ball) > 0.93


class TestLesionBoxes:
    @staticmethod
    def at_once(probability: NDArray[np.float32], grid: object, volume: object) -> NDArray[np.uint8]:
        whole = np.zeros(volume.hu.shape, np.uint8, order="F")
        everything = ((0, grid.shape[0]), (0, grid.shape[1]), (0, grid.shape[2]))
        restore_box(probability, everything, grid, ras_view(whole, volume), 0.5)
        return whole

    @pytest.mark.parametrize("share", [0.0002, 0.01, 0.5])
    def test_the_mask_is_that_of_the_whole_grid_sampled_at_once(self, share):
        """The boxes are a matter of time alone."""
        rng = np.random.default_rng(4)
        volume = volume_of(np.zeros((50, 70, 40), np.int16), np.diag([1.7, -0.9, 2.0, 1.0]))
        grid = model_grid(volume, (1.0, 1.0, 3.0))
        probability = np.where(rng.random(grid.shape) < share, rng.random(grid.shape), 0.2).astype(np.float32)
        mask = to_native_mask(probability, grid, volume, 0.5)
        assert mask.any()
        np.testing.assert_array_equal(mask, self.at_once(probability, grid, volume))

    def test_a_box_that_cuts_through_another_lesion_does_not_widen_it(self):
        """A slanting lesion's box holds a part of another one in its corner."""
        volume = volume_of(np.zeros((100, 100, 20), np.int16), np.diag([0.7, 0.7, 3.0, 1.0]))
        grid = model_grid(volume, (1.0, 1.0, 3.0))
        probability = np.zeros(grid.shape, np.float32)
        for n in range(4, 40, 8):
            probability[n, n, 4] = 0.9
        probability[33:41, 4, 4] = 0.9  # the slanting one's box ends at 40, where this one does
        boxes = lesion_boxes(probability > 0.5)
        assert len(boxes) == 2
        assert any(box[0][1] == 41 for box in boxes)
        mask = to_native_mask(probability, grid, volume, 0.5)
        np.testing.assert_array_equal(mask, self.at_once(probability, grid, volume))

    def test_a_lesion_between_two_native_slices_sets_nothing(self):
        volume = volume_of(np.zeros((40, 40, 12), np.int16), np.diag([1.0, 1.0, 15.0, 1.0]))
        grid = model_grid(volume, (1.0, 1.0, 3.0))
        probability = np.zeros(grid.shape, np.float32)
        probability[10:20, 10:20, 7] = 0.9  # at 21 mm; slices lie at 15 and 30 mm
        mask = to_native_mask(probability, grid, volume, 0.5)
        np.testing.assert_array_equal(mask, self.at_once(probability, grid, volume))
        assert not mask.any()
