"""Where the body is and where its lungs are, on coarse grids small enough to draw by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.scan.anatomy import coarse_hu, enclosing_sides, find_anatomy, find_lungs, find_tissue
from tests.helpers.scans import AIR_HU, LUNG_HU, TISSUE_HU, volume_of

MM = (4.0, 4.0, 5.0)
SHAPE = (60, 60, 8)  # 240 x 240 x 40 mm


def scene(*parts: tuple[NDArray[np.bool_], float], noise: float = 0.0) -> NDArray[np.float32]:
    """Air with parts painted into it, coarse."""
    coarse = np.full(SHAPE, AIR_HU, np.float32)
    for where, hu in parts:
        coarse[where] = hu
    return coarse + np.random.default_rng(0).normal(0, noise, SHAPE).astype(np.float32)


def ellipse(x_mm: float, y_mm: float, rx_mm: float, ry_mm: float) -> NDArray[np.bool_]:
    """A cylinder along z."""
    x, y = np.ogrid[: SHAPE[0], : SHAPE[1]]
    flat = ((x * MM[0] - x_mm) / rx_mm) ** 2 + ((y * MM[1] - y_mm) / ry_mm) ** 2 <= 1
    return np.repeat(flat[:, :, None], SHAPE[2], axis=2)


def slab(x_mm: tuple[float, float], y_mm: tuple[float, float]) -> NDArray[np.bool_]:
    mask = np.zeros(SHAPE, bool)
    mask[int(x_mm[0] / 4) : int(x_mm[1] / 4), int(y_mm[0] / 4) : int(y_mm[1] / 4)] = True
    return mask


TRUNK = ellipse(120, 140, 90, 60)  # its back at y = 80 mm
LUNGS = ellipse(80, 140, 28, 40) | ellipse(160, 140, 28, 40)


class TestCoarseGrid:
    @pytest.mark.parametrize(
        ("native", "step"),
        [
            ((1.0, 1.0, 1.0), (4, 4, 5)),
            ((0.7, 0.8, 5.0), (6, 5, 1)),
            ((4.0, 4.0, 5.0), (1, 1, 1)),
            ((9, 9, 9), (1, 1, 1)),
        ],
    )
    def test_steps_of_about_4_4_5_mm(self, native, step):
        volume = volume_of(np.zeros((24, 24, 20)), np.diag([*native, 1.0]))
        coarse, found = coarse_hu(volume)
        assert found == step
        assert coarse.shape == tuple(n // s for n, s in zip((24, 24, 20), step, strict=True))

    def test_mean_of_two_samples_per_axis(self):
        # Step 4: samples 1 and 3 of each block; 1 mm voxels whose value is 10 x: (10 + 30)/2 and (50 + 70)/2.
        hu = np.broadcast_to(10 * np.arange(8)[:, None, None], (8, 4, 5))
        np.testing.assert_allclose(coarse_hu(volume_of(hu, np.eye(4)))[0].ravel(), [20.0, 60.0])

    def test_padding_far_below_air_counts_as_air(self):
        hu = np.full((4, 4, 5), 40)
        hu[:2] = -3024  # half of the samples: (-1024 + 40)/2
        np.testing.assert_allclose(coarse_hu(volume_of(hu, np.eye(4)))[0], -492.0)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 1), (5, 64, 1), (1, 1, 40)])
    def test_scans_smaller_than_a_block(self, shape):
        coarse, step = coarse_hu(volume_of(np.full(shape, 40), np.eye(4)))
        assert min(coarse.shape) >= 1
        assert all(s <= n for s, n in zip(step, shape, strict=True))
        np.testing.assert_allclose(coarse, 40.0)


class TestBody:
    def test_only_air(self):
        assert not find_tissue(scene(), MM).any()

    def test_trunk(self):
        tissue = find_tissue(scene((TRUNK, TISSUE_HU), noise=30), MM)
        # The opening rounds the outline by less than a voxel here and there.
        assert (tissue & TRUNK).sum() / TRUNK.sum() > 0.97
        assert not (tissue & ~TRUNK).any()

    def test_fat_is_body(self):
        assert find_tissue(scene((TRUNK, -110)), MM).sum() > 0.97 * TRUNK.sum()

    @pytest.mark.parametrize("gap_mm", [4, 12, 40])
    @pytest.mark.parametrize("hu", [-150, 100, 400])
    def test_table_shell_is_not_body(self, gap_mm, hu):
        back = 80 - gap_mm
        table = slab((20, 220), (back - 8, back))  # 8 mm thick, 200 mm wide
        tissue = find_tissue(scene((TRUNK, TISSUE_HU), (table, hu)), MM)
        assert not (tissue & table).any()
        assert (tissue & TRUNK).sum() > 0.97 * TRUNK.sum()

    def test_table_shell_that_touches_the_back_adds_no_width(self):
        table = slab((0, 240), (76, 84))
        tissue = find_tissue(scene((TRUNK, TISSUE_HU), (table, 100)), MM)
        columns = np.flatnonzero(tissue.any(axis=(1, 2)))
        # The trunk reaches from 30 to 210 mm: columns 8 to 52.
        assert (columns[0], columns[-1]) == (8, 52)

    def test_clothes_and_cables_are_not_body(self):
        blanket = ellipse(120, 140, 110, 80) & ~ellipse(120, 140, 104, 74)
        cable = ellipse(220, 40, 6, 6)
        tissue = find_tissue(scene((blanket, -200), (TRUNK, TISSUE_HU), (cable, 900)), MM)
        assert not (tissue & (blanket | cable)).any()

    def test_an_arm_beside_the_trunk_is_body(self):
        arm = ellipse(215, 140, 18, 30)  # 68 ml in 40 mm
        tissue = find_tissue(scene((ellipse(95, 140, 90, 60), TISSUE_HU), (arm, TISSUE_HU)), MM)
        assert (tissue & arm).sum() > 0.8 * arm.sum()

    def test_a_small_thick_thing_is_not_body(self):
        # 28 x 28 x 40 mm are 25 ml, below the 50 ml that a part of the body has.
        bottle = ellipse(220, 40, 14, 14)
        assert not (find_tissue(scene((TRUNK, TISSUE_HU), (bottle, 0)), MM) & bottle).any()

    def test_a_body_cut_by_the_field_of_view_keeps_its_border(self):
        whole = np.ones(SHAPE, bool)
        assert find_tissue(scene((whole, TISSUE_HU)), MM).all()

    def test_one_slice(self):
        tissue = find_tissue(scene((TRUNK, TISSUE_HU))[:, :, :1], MM)
        assert tissue.sum() > 0.97 * TRUNK[:, :, 0].sum()


class TestEnclosingSides:
    def test_counts_by_hand(self):
        # One row (x) of one slice: tissue at 1 and 3 of five columns.
        tissue = np.array([0, 1, 0, 1, 0], bool)[:, None, None]
        # A voxel sees itself on all four sides; between the two: left and right; outside: one side.
        assert enclosing_sides(tissue)[:, 0, 0].tolist() == [1, 4, 2, 4, 1]

    def test_inside_a_ring_all_four(self):
        ring = ellipse(120, 120, 80, 80) & ~ellipse(120, 120, 60, 60)
        assert (enclosing_sides(ring)[ellipse(120, 120, 40, 40)] == 4).all()


class TestLungs:
    def lungs(self, *parts: tuple[NDArray[np.bool_], float]) -> NDArray[np.bool_]:
        coarse = scene(*parts)
        return find_lungs(coarse, find_tissue(coarse, MM), MM)

    def test_both_lungs(self):
        found = self.lungs((TRUNK, TISSUE_HU), (LUNGS, LUNG_HU))
        assert (found & LUNGS).sum() > 0.95 * LUNGS.sum()
        assert not (found & ~LUNGS).any()

    def test_no_lungs_in_a_trunk(self):
        assert not self.lungs((TRUNK, TISSUE_HU)).any()

    def test_bowel_gas_is_too_dark(self):
        assert not self.lungs((TRUNK, TISSUE_HU), (ellipse(120, 150, 40, 20), -1000)).any()

    def test_a_little_stool_is_too_small(self):
        # pi * 18 * 18 * 40 mm3 = 41 ml of lung-like density, below 60 ml.
        assert not self.lungs((TRUNK, TISSUE_HU), (ellipse(120, 140, 18, 18), -600)).any()

    def test_foam_pad_under_the_patient_is_no_lung(self):
        pad = slab((20, 220), (40, 80)) & ~TRUNK
        assert not self.lungs((pad, -910), (TRUNK, TISSUE_HU)).any()

    def test_lung_cut_open_by_the_field_of_view_on_one_side(self):
        # Tissue is left on three sides: still lung.
        trunk = ellipse(120, 140, 90, 60)
        cut = scene((trunk, TISSUE_HU), (LUNGS, LUNG_HU))[20:]
        found = find_lungs(cut, find_tissue(cut, MM), MM)
        assert (found & LUNGS[20:]).sum() > 0.9 * LUNGS[20:].sum()


class TestLook:
    def volume(self, coarse: NDArray[np.float32]) -> object:
        return volume_of(coarse, np.diag([*MM, 1.0]))

    def test_body_is_filled_and_holds_the_lungs(self):
        trachea = ellipse(120, 140, 9, 9)
        anatomy = find_anatomy(self.volume(scene((TRUNK, TISSUE_HU), (LUNGS, LUNG_HU), (trachea, -1000))))
        assert anatomy.body[LUNGS].all()
        assert anatomy.body[trachea].all()
        assert not anatomy.body[~TRUNK].any()
        assert anatomy.voxel_ml == pytest.approx(0.08)  # 4 * 4 * 5 mm3

    @pytest.mark.parametrize("hu", [-1024, -1000, -3024])
    def test_air_has_no_body(self, hu):
        anatomy = find_anatomy(self.volume(np.full((20, 20, 6), hu, np.float32)))
        assert not anatomy.body.any()
        assert not anatomy.lungs.any()

    def test_a_crop_inside_the_lung_is_looked_at_as_a_whole(self):
        # Nothing in it is 24 mm thick, but 80 x 80 x 30 mm = 192 ml of it are lung.
        anatomy = find_anatomy(self.volume(np.full((20, 20, 6), LUNG_HU, np.float32)))
        assert anatomy.body.all()
        assert anatomy.lungs.all()

    def test_a_scan_of_thin_parts_only_is_looked_at_as_a_whole(self):
        coarse = np.full((20, 20, 6), AIR_HU, np.float32)
        coarse[8:11, 8:11] = TISSUE_HU  # a finger, 12 mm thick
        assert find_anatomy(self.volume(coarse)).body.all()

    def test_solid_block_is_all_body(self):
        assert find_anatomy(self.volume(np.full((20, 20, 6), 40, np.float32))).body.all()
