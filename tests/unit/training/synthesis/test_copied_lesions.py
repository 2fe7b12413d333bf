"""Real lesions copied between painted scans: which are taken, and what a copy looks like where it lands."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis.copied_lesions import CONTRAST, insert_copy, real_lesions
from gfscreen.training.synthesis.insertion import Crop
from gfscreen.training.synthesis.tissue import LUNG, SOFT

GRID_MM = (1.0, 1.0, 3.0)
SHAPE = (80, 80, 40)


def ball(centre, radius_mm):
    distance = (np.moveaxis(np.indices(SHAPE), 0, -1) - centre) * GRID_MM
    return np.linalg.norm(distance, axis=-1) <= radius_mm


def scan_with(*lesions, liver_hu=110.0, noise_hu=12.0):
    """A liver that fills the scan, with balls (centre, radius in mm, HU)."""
    rng = np.random.default_rng(1)
    hu, label = np.full(SHAPE, liver_hu), np.zeros(SHAPE, np.uint8)
    for centre, radius_mm, level in lesions:
        inside = ball(centre, radius_mm)
        hu[inside], label[inside] = level, 1
    hu = ndimage.gaussian_filter(hu, (0.8, 0.8, 0.3)) + rng.normal(0, noise_hu, SHAPE)
    return hu.astype(np.int16), label


def host(level_hu=60.0, noise_hu=25.0, tissue=SOFT, label=0):
    rng = np.random.default_rng(7)
    hu = rng.normal(level_hu, noise_hu, SHAPE).astype(np.int16)
    return Crop(hu, np.full(SHAPE, label, np.uint8), np.full(SHAPE, tissue, np.uint8), GRID_MM)


class TestWhichAreTaken:
    def test_with_their_level_and_that_of_their_surroundings(self):
        (lesion,) = real_lesions("A", *scan_with(((40, 40, 20), 10.0, 70.0)), GRID_MM)
        assert lesion.level_hu == pytest.approx(70, abs=3)
        assert lesion.around_hu == pytest.approx(110, abs=3)
        # 4.19 ml, and 6 mm about it.
        assert lesion.mask.sum() * 0.003 == pytest.approx(4.19, rel=0.05)
        assert lesion.mask.shape == (33, 33, 11)

    def test_each_by_itself(self):
        scan = scan_with(((25, 25, 20), 8.0, 78.0), ((60, 60, 20), 8.0, 142.0))
        assert [round(found.level_hu / 20) * 20 for found in real_lesions("A", *scan, GRID_MM)] == [80, 140]

    @pytest.mark.parametrize(
        ("lesion", "why"),
        [
            (((40, 40, 20), 3.0, 70.0), "a few voxels"),
            (((6, 40, 20), 10.0, 70.0), "cut by the scan's edge"),
            (((40, 40, 20), 10.0, 104.0), "hardly darker than the liver"),
        ],
    )
    def test_others_are_not(self, lesion, why):
        assert real_lesions("A", *scan_with(lesion), GRID_MM) == [], why

    def test_nor_what_lies_in_lung(self):
        assert real_lesions("A", *scan_with(((40, 40, 20), 10.0, 40.0), liver_hu=-850), GRID_MM) == []

    def test_none_without_lesions(self):
        assert real_lesions("A", *scan_with(), GRID_MM) == []


class TestCopies:
    @pytest.fixture
    def lesion(self):
        (found,) = real_lesions("A", *scan_with(((40, 40, 20), 10.0, 70.0)), GRID_MM)
        return found

    def copies(self, lesion, count=30, **of_host):
        for seed in range(count):
            crop = host(**of_host)
            if insert_copy(np.random.default_rng(seed), crop, lesion) is not None:
                yield crop

    def test_contrast_is_the_lesions_own_and_the_level_the_places(self, lesion):
        differences = [np.median(c.hu[c.label == 1]) - 60 for c in self.copies(lesion)]
        assert len(differences) > 20
        darker = [d for d in differences if d < 0]
        # Of 40 HU, less what the soft edge takes; one in five the other way round.
        assert all(40 * CONTRAST[0] * 0.7 < abs(d) < 40 * CONTRAST[1] * 1.1 for d in differences)
        assert 0.6 < len(darker) / len(differences) < 1.0

    def test_grain_is_that_of_the_host(self, lesion):
        for noise_hu in (5.0, 25.0):
            for crop in self.copies(lesion, 5, noise_hu=noise_hu):
                deep = ndimage.binary_erosion(crop.label == 1, iterations=3)
                values = crop.hu.astype(float)
                grain = values - ndimage.gaussian_filter(values, (1.2, 1.2, 0.4))
                assert grain[deep].std() == pytest.approx(grain[crop.label == 0].std(), rel=0.25)

    def test_edge_is_soft_and_what_is_far_away_stays(self, lesion):
        for crop in self.copies(lesion, 5):
            distance = ndimage.distance_transform_edt(crop.label != 1, sampling=GRID_MM)
            assert (crop.hu[distance > 8] == host().hu[distance > 8]).all()

    def test_never_below_water(self, lesion):
        for crop in self.copies(lesion, 8, level_hu=5.0, noise_hu=3.0):
            assert np.median(crop.hu[crop.label == 1]) > -3

    @pytest.mark.parametrize("of_host", [{"tissue": LUNG}, {"label": 1}])
    def test_no_place_outside_soft_tissue_or_over_a_lesion(self, lesion, of_host):
        crop = host(**of_host)
        assert insert_copy(np.random.default_rng(0), crop, lesion) is None
        assert (crop.hu == host(**of_host).hu).all()

    def test_of_a_scan_that_nobody_annotated_the_surroundings_become_known(self, lesion):
        crop = next(self.copies(lesion, label=IGNORE))
        assert {0, 1, IGNORE} == set(np.unique(crop.label))

    def test_mirrored_and_turned_by_the_generator_alone(self, lesion):
        long = dataclasses.replace(lesion, mask=lesion.mask & (np.arange(33)[:, None, None] < 16))
        one, two, *others = (self.copy_of(long, seed) for seed in (0, 0, *range(1, 9)))
        assert (one.hu == two.hu).all()
        shapes = {self.size(c) for c in others if (c.label == 1).any()}
        assert {first > second for first, second in shapes} == {True, False}

    def copy_of(self, lesion, seed):
        crop = host()
        insert_copy(np.random.default_rng(seed), crop, lesion)
        return crop

    def size(self, crop):
        (box,) = ndimage.find_objects((crop.label == 1).astype(int))
        return box[0].stop - box[0].start, box[1].stop - box[1].start
