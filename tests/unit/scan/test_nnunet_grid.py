"""The grid of a Focus of nnU-Net's: made as nnU-Net makes it, and placed on the model grid of Glance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling, UNetConfig
from gfscreen.scan.grid import model_grid, to_model
from gfscreen.scan.nnunet_grid import (
    Normaliser,
    model_box,
    nnunet_grid,
    restore_scores,
    scan_box,
    scores_on_model,
    to_nnunet,
    to_ras,
)
from gfscreen.scan.volume import Geometry, Volume

UNET = UNetConfig("plain", (4, 4), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), (1, 1), (1,))
CT = InputChannel("ct", None, (-900.0, 700.0), -50.0, 250.0)
CONFIG = NnunetConfig(UNET, (4.0, 3.0, 3.0), (8, 8, 8), (CT,))


def scan(shape=(20, 16, 12), mm=(1.5, 1.5, 3.0), signs=(-1, -1, 1), order=(0, 1, 2), seed=0) -> Volume:
    """Smooth noise; file axis n runs along patient axis order[n], in the direction of its sign."""
    rng = np.random.default_rng(seed)
    hu = ndimage.gaussian_filter(rng.normal(size=shape), 1.5) * 2000 + 20
    affine = np.zeros((4, 4))
    affine[3, 3] = 1.0
    for axis, patient in enumerate(order):
        affine[patient, axis] = signs[axis] * mm[axis]
    return Volume(np.asfortranarray(hu.astype(np.int16)), Geometry(shape, affine), None)


class TestImage:
    def test_normalised_then_resized_as_nnunet_does(self):
        volume = scan()
        image = to_nnunet(volume, CONFIG).image
        values = (np.clip(volume.hu.transpose(2, 1, 0).astype(float), -900, 700) + 50) / 250
        shape = (9, 8, 10)
        zoom = [b / a for a, b in zip(values.shape, shape, strict=True)]
        expected = ndimage.zoom(values, zoom, order=3, mode="nearest", grid_mode=True)
        expected = np.clip(expected, values.min(), values.max())
        assert image.shape == (1, *shape)
        assert image.dtype == np.float32
        assert np.abs(image[0] - expected).max() < 1e-4

    def test_thick_slices_are_resized_one_by_one(self):
        volume = scan(mm=(1.5, 1.5, 6.0))
        image = to_nnunet(volume, CONFIG).image[0]
        values = (np.clip(volume.hu.transpose(2, 1, 0).astype(float), -900, 700) + 50) / 250
        shape = (18, 8, 10)
        zoom = (8 / 16, 10 / 20)
        slices = [ndimage.zoom(part, zoom, order=3, mode="nearest", grid_mode=True) for part in values]
        slices = [np.clip(own, part.min(), part.max()) for own, part in zip(slices, values, strict=True)]
        nearest = np.floor((np.arange(18) + 0.5) * 12 / 18 - 0.5 + 0.5).astype(int)
        assert image.shape == shape
        assert np.abs(image - np.stack(slices)[nearest]).max() < 1e-4

    def test_what_is_zero_all_around_is_cropped(self):
        volume = scan()
        hu = np.zeros((26, 20, 14), np.int16, order="F")
        hu[2:22, 1:17, 2:] = volume.hu
        hu[2, 1, 2] = hu[21, 16, 13] = 5
        wide = replace(volume, hu=hu, geometry=replace(volume.geometry, shape=hu.shape))
        grid = nnunet_grid(wide, CONFIG)
        assert grid.crop == ((2, 14), (1, 17), (2, 22))
        assert grid.shape == nnunet_grid(volume, CONFIG).shape

    def test_a_scan_of_nothing_but_zero(self):
        volume = scan()
        empty = replace(volume, hu=np.zeros_like(volume.hu))
        assert nnunet_grid(empty, CONFIG).crop == ((0, 12), (0, 16), (0, 20))
        assert np.allclose(to_nnunet(empty, CONFIG).image, 0.2)

    def test_transposed(self):
        turned = replace(CONFIG, transpose=(2, 0, 1), spacing_mm=(3.0, 4.0, 3.0))
        plain, other = to_nnunet(scan(), CONFIG).image, to_nnunet(scan(), turned).image
        assert np.allclose(plain.transpose(0, 3, 1, 2), other, atol=1e-5)

    def test_in_ras_order_the_file_does_not_matter(self):
        ras = replace(CONFIG, orientation="ras")
        one = scan(signs=(1, 1, 1))
        mirrored = Geometry(one.hu.shape, np.diag([-1.5, -1.5, 3.0, 1.0]))
        other = replace(one, hu=np.asfortranarray(one.hu[::-1, ::-1]), geometry=mirrored)
        assert np.allclose(to_nnunet(one, ras).image, to_nnunet(other, ras).image)
        assert not np.allclose(to_nnunet(one, CONFIG).image, to_nnunet(other, CONFIG).image)

    def test_two_windows_of_one_scan(self):
        windows = (InputChannel("none", (-150.0, 250.0)), InputChannel("none", (-1000.0, 400.0)))
        image = to_nnunet(scan(), replace(CONFIG, channels=windows)).image
        assert image.shape[0] == 2
        assert image.min() >= 0.0
        assert image.max() <= 1.0
        assert not np.allclose(image[0], image[1])


class TestNormaliser:
    HU = np.array([-2000, -100, 0, 100, 3000], np.int16)

    def test_ct(self):
        assert np.allclose(Normaliser(CT, self.HU)(self.HU), (np.clip(self.HU, -900, 700) + 50.0) / 250)

    def test_zscore_and_rescale_of_the_whole_scan(self):
        values = np.clip((self.HU + 150.0) / 400.0, 0, 1)
        scored = Normaliser(InputChannel("zscore", (-150.0, 250.0)), self.HU)(self.HU)
        assert np.allclose(scored, (values - values.mean()) / values.std(), atol=1e-5)
        rescaled = Normaliser(InputChannel("rescale"), self.HU)(self.HU)
        assert np.allclose(rescaled, (self.HU + 2000.0) / 5000.0, atol=1e-6)

    def test_a_constant_scan_divides_by_no_zero(self):
        flat = np.full(5, 7, np.int16)
        for kind in ("zscore", "rescale"):
            assert np.array_equal(Normaliser(InputChannel(kind), flat)(flat), np.zeros(5, np.float32))


class TestBack:
    def test_scores_of_a_box_are_those_of_the_whole(self):
        volume = scan()
        grid = nnunet_grid(volume, CONFIG)
        scores = np.random.default_rng(1).normal(size=(2, *grid.shape)).astype(np.float32)
        whole = restore_scores(scores, grid, ((0, 12), (0, 16), (0, 20)))
        zoom = [a / b for a, b in zip((12, 16, 20), grid.shape, strict=True)]
        expected = [ndimage.zoom(own.astype(float), zoom, order=1, mode="nearest", grid_mode=True) for own in scores]
        assert np.abs(whole - np.stack(expected)).max() < 1e-5
        part = restore_scores(scores, grid, ((3, 7), (0, 2), (15, 20)))
        assert np.abs(part - whole[:, 3:7, :2, 15:]).max() < 1e-6

    def test_a_box_of_the_scan_holds_all_that_a_box_of_the_grid_touches(self):
        grid = nnunet_grid(scan(), CONFIG)
        scores = np.zeros((1, *grid.shape), np.float32)
        scores[0, 4, 3:5, 9] = 1.0
        whole = restore_scores(scores, grid, ((0, 12), (0, 16), (0, 20)))[0]
        box = scan_box(((4, 5), (3, 5), (9, 10)), grid)
        inside = np.zeros_like(whole, bool)
        inside[tuple(slice(*side) for side in box)] = True
        assert (whole > 0).any()
        assert not (whole[~inside] > 0).any()

    @pytest.mark.parametrize("orientation", ["file", "ras"])
    @pytest.mark.parametrize(("signs", "order"), [((-1, -1, 1), (0, 1, 2)), ((1, -1, -1), (1, 2, 0))])
    def test_places_are_where_the_patient_says(self, orientation, signs, order):
        """A function of the patient's position, sampled by either grid, is the same on the model grid."""
        volume = scan(signs=signs, order=order, mm=(2.0, 2.0, 2.0))
        config = replace(
            CONFIG, orientation=orientation, transpose=(1, 2, 0), spacing_mm=(2.0, 2.0, 2.0),
            data_resampling=Resampling(1), channels=(InputChannel("none"),),
        )  # fmt: skip
        image = to_nnunet(volume, config)
        model = model_grid(volume, (2.0, 2.0, 2.0))
        plan = Plan(spacing_mm=(2.0, 2.0, 2.0), foreground="hu_floor")
        there = to_model(volume, plan).hu
        low = [side[0] for side in to_model(volume, plan).grid.box]
        shown = scores_on_model(image.image, image.grid, volume, model)[0]
        part = shown[tuple(slice(a, a + n) for a, n in zip(low, there.shape, strict=True))]
        assert np.abs(part - there).max() < 1e-2

    def test_the_box_of_a_patch_on_the_model_grid(self):
        volume = scan(mm=(1.5, 1.5, 3.0))
        grid, model = nnunet_grid(volume, CONFIG), model_grid(volume, (1.0, 1.0, 3.0))
        whole = model_box((0, 0, 0), grid.shape, grid, volume, model)
        assert all(low <= 0 and high >= size for (low, high), size in zip(whole, model.shape, strict=True))
        corner = model_box((0, 0, 0), (4, 4, 4), grid, volume, model)
        centre = to_ras(grid, volume, np.array([[1.5, 1.5, 1.5]]))[0] * (1.5, 1.5, 1.0)
        assert all(low <= place < high for (low, high), place in zip(corner, centre, strict=True))
        # The file's rows run from right to left: its first voxels are the model grid's last.
        assert corner[0][1] >= model.shape[0] > corner[0][0] > 0
