"""Lesions put into painted scans: where they land, what they look like, what the label says."""

import numpy as np
import pytest
from scipy import ndimage

from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis import insertion
from gfscreen.training.synthesis import lesion_bank as lesions
from gfscreen.training.synthesis.insertion import (
    Crop,
    insert_leaning_mass,
    insert_lung_mass,
    insert_node,
    insert_nodule,
    insert_soft_lesion,
)
from gfscreen.training.synthesis.lesion_bank import Nodule, Shape
from gfscreen.training.synthesis.tissue import LUNG, OTHER, SOFT, tissue_map

GRID_MM = (1.0, 1.0, 3.0)


def ball(shape, centre, radius, spacing):
    index = np.moveaxis(np.indices(shape), 0, -1)
    return ((index - centre) * spacing / radius) ** 2 @ np.ones(3) <= 1


def painted_nodule(radius_mm=6.0, core_hu=20):
    spacing = np.array([0.8, 0.8, 2.0])
    shape = (30, 30, 10)
    inside = ball(shape, np.array([15, 15, 5]), radius_mm, spacing)
    loose = ball(shape, np.array([15, 15, 5]), radius_mm + 1.5, spacing)
    hu = np.where(inside, core_hu, -860).astype(np.int16)
    return Nodule("P1_R_1", "P1", hu, loose, (0.8, 0.8, 2.0))


def painted_shape(radius_mm=8.0):
    spacing = np.array([1.0, 1.0, 2.0])
    return Shape("s", "s", "uls23_LiTS", ball((25, 25, 13), np.array([12, 12, 6]), radius_mm, spacing), (1.0, 1.0, 2.0))


def crop_of(tissue, hu, label=0):
    shape = (64, 64, 32)
    rng = np.random.default_rng(5)
    values = rng.normal(hu, 10, shape).astype(np.int16)
    return Crop(values, np.full(shape, label, np.uint8), np.full(shape, tissue, np.uint8), GRID_MM)


class TestNodules:
    def test_tight_mask_cuts_air_off_the_loose_outline(self):
        patch = lesions.sample_nodule(np.random.default_rng(0), painted_nodule(), GRID_MM)
        assert patch.tight.sum() < 0.8 * patch.loose.sum()
        # Half-way between lung at -850 and a core of 20 HU.
        assert patch.hu[patch.tight].min() > -420
        # A ball of 6 mm: 905 mm3, 302 voxels of 3 mm3, times the size jitter cubed.
        assert 302 * 0.85**3 * 0.8 < patch.tight.sum() < 302 * 1.2**3 * 1.2

    def test_ground_glass_keeps_a_mask(self):
        # Core -500: half-way to lung is -675, floored at -650.
        patch = lesions.sample_nodule(np.random.default_rng(0), painted_nodule(core_hu=-500), GRID_MM)
        assert patch.tight.sum() > 100

    @pytest.mark.parametrize("seed", range(5))
    def test_lands_in_lung_with_its_own_density(self, seed):
        rng = np.random.default_rng(seed)
        crop = crop_of(LUNG, -850)
        patch = lesions.sample_nodule(rng, painted_nodule(), GRID_MM)
        assert insert_nodule(rng, crop, patch) is not None
        lesion = crop.label == 1
        assert lesion.sum() == patch.tight.sum()
        assert np.median(crop.hu[lesion]) == pytest.approx(20, abs=15)
        assert crop.hu[crop.label == 0].max() < 60

    def test_no_seam_at_the_edge(self):
        # The host is 60 HU brighter than the nodule's own lung; outside the nodule the two must be level.
        rng = np.random.default_rng(1)
        crop = crop_of(LUNG, -800)
        patch = lesions.sample_nodule(rng, painted_nodule(), GRID_MM)
        box = insert_nodule(rng, crop, patch)
        ring = patch.loose[box.patch] & ~patch.tight[box.patch] & (patch.hu[box.patch] < -800)
        assert np.median(crop.hu[box.crop][ring]) == pytest.approx(-800, abs=20)

    def test_vessels_survive_next_to_it(self):
        rng = np.random.default_rng(2)
        crop = crop_of(LUNG, -850)
        crop.hu[::4] = 40
        before = crop.hu.copy()
        insert_nodule(rng, crop, lesions.sample_nodule(rng, painted_nodule(), GRID_MM))
        outside = (crop.label == 0) & (before == 40)
        assert (crop.hu[outside] >= 40 - 1).all()

    def test_finds_no_place_outside_the_lung(self):
        rng = np.random.default_rng(3)
        crop = crop_of(SOFT, 50)
        before = crop.hu.copy()
        assert insert_nodule(rng, crop, lesions.sample_nodule(rng, painted_nodule(), GRID_MM)) is None
        assert (crop.hu == before).all()
        assert not crop.label.any()

    def test_never_over_another_lesion(self):
        rng = np.random.default_rng(4)
        crop = crop_of(LUNG, -850, label=1)
        assert insert_nodule(rng, crop, lesions.sample_nodule(rng, painted_nodule(), GRID_MM)) is None

    def test_unannotated_scan_is_known_only_around_it(self):
        rng = np.random.default_rng(6)
        crop = crop_of(LUNG, -850, label=IGNORE)
        insert_nodule(rng, crop, lesions.sample_nodule(rng, painted_nodule(), GRID_MM))
        assert (crop.label == 1).any()
        assert (crop.label == 0).any()
        assert (crop.label == IGNORE).mean() > 0.5


class TestGrownLesions:
    @pytest.mark.parametrize("seed", range(5))
    def test_soft_lesion_differs_from_its_surroundings_softly(self, seed):
        rng = np.random.default_rng(seed)
        crop = crop_of(SOFT, 100)
        assert insert_soft_lesion(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is not None
        contrast = abs(np.median(crop.hu[crop.label == 1]) - 100)
        assert 10 < contrast < 100
        assert np.abs(crop.hu[crop.label == 0] - 100.0).mean() < 12  # the host's own noise has a mean deviation of 8

    def test_mass_is_solid(self):
        rng = np.random.default_rng(0)
        crop = crop_of(LUNG, -850)
        assert insert_lung_mass(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is not None
        assert -20 < np.median(crop.hu[crop.label == 1]) < 120

    def test_same_seed_same_lesion(self):
        def one():
            rng = np.random.default_rng(9)
            crop = crop_of(SOFT, 100)
            insert_soft_lesion(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM))
            return crop.hu

        assert (one() == one()).all()


def test_patients_of_names():
    assert lesions.patient_of("LIDC-IDRI-0001_R_1") == "LIDC-IDRI-0001"
    assert lesions.patient_of("liver_0_lesion_01_sample_0") == "liver_0"
    assert lesions.patient_of("case_00001_l2_2") == "case_00001"


def test_tissue_map_tells_lung_from_soft_tissue():
    hu = np.full((100, 100, 40), 60, np.int16)
    hu[10:50, 10:90, 5:35] = -850  # 40 * 80 * 30 voxels of 3 mm3 = 288 ml
    hu[70:75, 50:55, 20] = -1000
    tissue = tissue_map(hu, np.ones(hu.shape, bool), GRID_MM)
    assert (tissue[20:40, 30:70, 10:30] == LUNG).all()
    assert (tissue[80:90, 20:40, 10:30] == SOFT).all()
    assert (tissue[70:75, 50:55, 20] != LUNG).all()


def lung_beside_wall(wall_hu=50):
    """Lung from x = 24 on, beside it a wall with a layer of bone."""
    crop = crop_of(LUNG, -850)
    rng = np.random.default_rng(7)
    crop.hu[:24] = rng.normal(wall_hu, 10, (24, 64, 32))
    crop.hu[:18] = 400
    crop.tissue[:24] = SOFT
    crop.tissue[:18] = OTHER
    return crop


class TestLeaningMasses:
    @pytest.mark.parametrize("seed", range(8))
    def test_grows_from_the_wall_as_dense_as_it(self, seed):
        rng = np.random.default_rng(seed)
        crop = lung_beside_wall()
        assert insert_leaning_mass(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is not None
        lesion = crop.label == 1
        # By its middle: the soft border of a small mass is half lung. 20 HU of level, and patches of up to 40.
        middle = ndimage.distance_transform_edt(lesion, sampling=GRID_MM)
        assert np.median(crop.hu[middle > 0.5 * middle.max()]) == pytest.approx(50, abs=60)
        # The largest ball reaches 9.6 mm from its centre, at most 15 mm from the wall; roughness adds some.
        assert np.argwhere(lesion)[:, 0].max() < 24 + 15 + 10 + 10
        assert np.argwhere(lesion)[:, 0].min() >= 18
        assert crop.hu[:14].min() > 390  # the soft edge reaches a few voxels into the bone

    def test_never_far_into_the_wall(self):
        reached = []
        for seed in range(20):
            rng = np.random.default_rng(seed)
            crop = lung_beside_wall()
            crop.hu[:24] = 50
            insert_leaning_mass(rng, crop, lesions.sample_shape(rng, painted_shape(14.0), GRID_MM))
            if (crop.label == 1).any():
                reached.append(24 - np.argwhere(crop.label == 1)[:, 0].min())
        assert max(reached) <= 10
        assert max(reached) >= 3

    def test_in_one_piece_without_holes(self):
        drawn = 0
        for seed in range(30):
            rng = np.random.default_rng(seed)
            crop = lung_beside_wall()
            insert_leaning_mass(rng, crop, lesions.sample_shape(rng, painted_shape(14.0), GRID_MM))
            lesion = crop.label == 1
            if lesion.any():
                drawn += 1
                assert ndimage.label(lesion)[1] == 1
                assert (ndimage.binary_fill_holes(lesion) == lesion).all()
        assert drawn >= 10

    def test_needs_a_wall(self):
        rng = np.random.default_rng(0)
        crop = crop_of(LUNG, -850)
        assert insert_leaning_mass(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is None
        assert not crop.label.any()

    def test_never_over_another_lesion(self):
        rng = np.random.default_rng(0)
        crop = lung_beside_wall()
        crop.label[...] = 1
        before = crop.hu.copy()
        assert insert_leaning_mass(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is None
        assert (crop.hu == before).all()


class TestNodes:
    @pytest.mark.parametrize("seed", range(5))
    def test_lies_in_fat_as_dense_as_the_tissue_around(self, seed):
        rng = np.random.default_rng(seed)
        crop = crop_of(SOFT, 50)
        crop.hu[:, 20:] = rng.normal(-100, 10, (64, 44, 32))
        assert insert_node(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is not None
        lesion = crop.label == 1
        assert lesion[:, 20:].sum() >= 0.4 * lesion.sum()
        assert np.median(crop.hu[lesion]) == pytest.approx(48, abs=45)

    def test_finds_no_place_without_fat(self):
        rng = np.random.default_rng(0)
        crop = crop_of(SOFT, 50)
        assert insert_node(rng, crop, lesions.sample_shape(rng, painted_shape(), GRID_MM)) is None


def test_signed_distance_of_masks_without_border():
    """Nothing is at no distance from anything; of 3 x 3 x 3 voxels of 1 x 2 x 3 mm the middle one is 2 mm inside."""
    grid_mm = (1.0, 2.0, 3.0)
    assert np.isinf(insertion.signed_distance_mm(np.zeros((3, 3, 3), bool), grid_mm)).all()
    full = insertion.signed_distance_mm(np.ones((3, 3, 3), bool), grid_mm)
    assert full[1, 1, 1] == -2.0
    assert full[0, 0, 0] == -1.0
