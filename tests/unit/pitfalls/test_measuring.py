"""Masks that others measure otherwise: docs/reference/pitfalls.md, "Masks and measurements".

Each test shows the library's habit first and ours beside it. If a habit goes, its row in the page is to go with it.
"""

from __future__ import annotations

from dataclasses import fields

import cc3d
import numpy as np
import pytest
import scipy.ndimage
import surface_distance

from eval.accuracy.metrics import Score, score_pair
from gfscreen.results.statistics.parts import instance_map, parts_of
from gfscreen.scan.volume import Geometry
from tests.helpers.nifti_files import write_painted

MM = (1.0, 1.0, 1.0)
pytestmark = pytest.mark.filterwarnings("ignore")  # what MONAI and surface-distance call is deprecated


def cube(value: int = 1) -> np.ndarray:
    mask = np.zeros((12, 12, 12), np.uint8)
    mask[3:7, 3:7, 3:7] = value
    return mask


class TestMasksOf255:
    # MONAI 1.6.1, metrics/meandice.py: masks are taken to be 0 and 1; 255 is multiplied as it is.
    @pytest.mark.parametrize(("prediction", "truth"), [(255, 1), (1, 255), (255, 255)])
    def test_monais_dice_is_0_or_nan(self, prediction, truth):
        torch = pytest.importorskip("torch")
        metrics = pytest.importorskip("monai.metrics")
        a, b = (torch.from_numpy(cube(value)[None, None]) for value in (prediction, truth))
        found = float(metrics.DiceMetric()(a, b))
        assert found == 0.0 or np.isnan(found)

    def test_ours_takes_any_label_of_a_truth_and_names_the_rule_for_a_prediction(self):
        assert score_pair(cube(255), cube(), MM).dsc == 1.0
        refused = score_pair(cube(), cube(255), MM)
        assert (refused.dsc, refused.rule) == (0.0, "labels_above_one")


class TestNumbersBySize:
    @staticmethod
    def mask():
        """Parts of 1, 2 and 5 voxels, the largest last."""
        mask = np.zeros((20, 6, 6), np.uint8)
        mask[1, 1, 1] = mask[4:6, 1, 1] = mask[9:14, 1, 1] = 1
        return mask

    def test_cc3ds_largest_k_does_so_only_where_it_leaves_some_out(self):
        # cc3d 4.1.1, largest_k: with k parts or fewer it returns the labels as they were found; else from the smallest.
        sizes = {}
        for k in (2, 3, 5):
            labels = cc3d.largest_k(self.mask(), k=k, connectivity=26)
            sizes[k] = np.bincount(labels.ravel())[1:].tolist()
        assert sizes == {2: [2, 5], 3: [1, 2, 5], 5: [1, 2, 5]}
        turned = np.ascontiguousarray(self.mask()[::-1])
        labels = cc3d.largest_k(turned, k=3, connectivity=26)
        assert np.bincount(labels.ravel())[1:].tolist() == [5, 2, 1], "the order of the voxels, not of the sizes"

    @pytest.mark.parametrize("turned", [False, True])
    def test_ours_begin_at_the_largest(self, tmp_path, turned):
        mask = self.mask()[::-1] if turned else self.mask()
        geometry = Geometry(mask.shape, np.eye(4))
        numbers = instance_map(mask, geometry, tmp_path / "x.nii.gz")
        assert np.bincount(numbers.ravel())[1:].tolist() == [5, 2, 1]
        assert [int(part.inside.sum()) for part in parts_of(mask, geometry)] == [5, 2, 1]


def test_a_finding_of_exactly_the_least_volume_stands(run):
    """Not so in scikit-image 0.26.0: its remove_small_objects(min_size=3) takes an object of 3 pixels away."""
    write_painted(run.inputs / "a_0000.nii.gz")
    exact_ml = run().only["lesion_volume_ml"]
    assert exact_ml > 1
    # One voxel of 4 x 4 x 5 mm is 0.08 ml.
    assert run(min_volume_ml=exact_ml).only["lesion_volume_ml"] == exact_ml
    assert run(min_volume_ml=exact_ml + 0.04).only["lesion_volume_ml"] == 0.0


class TestBlur:
    @pytest.mark.parametrize(("level_hu", "shift_hu"), [(40, -1.5), (-800, 1.5)])
    def test_scipys_gaussian_on_int16_moves_the_mean_towards_zero(self, level_hu, shift_hu):
        # scipy 1.x, ndimage: the output has the input's type, and each of the three passes cuts its fractions off.
        hu = np.random.default_rng(0).normal(level_hu, 30, (40, 40, 40)).round()
        moved = scipy.ndimage.gaussian_filter(hu.astype(np.int16), 1.0).mean() - hu.mean()
        assert moved == pytest.approx(shift_hu, abs=0.1)
        assert abs(scipy.ndimage.gaussian_filter(hu.astype(np.float32), 1.0).mean() - hu.mean()) < 0.01

    def test_ours_blurs_no_whole_numbers(self, monkeypatch):
        from gfscreen.training.synthesis import augmentation, insertion, lesion_bank
        from gfscreen.training.synthesis.tissue import SOFT

        kinds = []
        blur = scipy.ndimage.gaussian_filter

        def noted(values, *args, **kwargs):
            kinds.append(np.asarray(values).dtype.kind)
            return blur(values, *args, **kwargs)

        monkeypatch.setattr(scipy.ndimage, "gaussian_filter", noted)
        rng = np.random.default_rng(1)
        inside = np.indices((25, 25, 13)) - np.array([12, 12, 6]).reshape(3, 1, 1, 1)
        ball = (inside**2 * np.array([1, 1, 4]).reshape(3, 1, 1, 1)).sum(axis=0) <= 64
        hu = np.where(ball, 20, -860).astype(np.int16)
        lesion_bank.sample_nodule(rng, lesion_bank.Nodule("n", "n", hu, ball, (0.8, 0.8, 2.0)), (1.0, 1.0, 3.0))
        patch = lesion_bank.sample_shape(rng, lesion_bank.Shape("s", "s", "x", ball, (1.0, 1.0, 2.0)), (1.0, 1.0, 3.0))
        host = rng.normal(60, 10, (64, 64, 32)).astype(np.int16)
        tissue = np.full(host.shape, SOFT, np.uint8)
        crop = insertion.Crop(host, np.zeros(host.shape, np.uint8), tissue, (1.0, 1.0, 3.0))
        assert insertion.insert_soft_lesion(rng, crop, patch) is not None
        label = np.zeros(host.shape, np.uint8)
        before = len(kinds)
        for _ in range(40):  # one in six is blurred
            augmentation.distort(rng, rng.random((1, 16, 16, 8), dtype=np.float32), label[:16, :16, :8])
        assert len(kinds) > before >= 4
        assert set(kinds) == {"f"}


class TestNoHausdorff:
    """A cube, and beside it a speck of 8 voxels that is 30 mm away: HD95 of 0, 1.5 or 30 mm. We report none."""

    def test_libraries_differ(self):
        # MONAI 1.6.1 takes voxels, surface-distance 0.1 areas, both the larger of the two directions; medpy 0.5.2 puts
        # the distances of both directions together, in which the speck is a few percent.
        torch = pytest.importorskip("torch")
        metrics = pytest.importorskip("monai.metrics")
        truth = np.zeros((60, 16, 16), bool)
        truth[2:8, 2:8, 2:8] = True
        found = truth.copy()
        found[37:39, 2:4, 2:4] = True
        distances = surface_distance.compute_surface_distances(truth, found, MM)
        by_area = float(surface_distance.compute_robust_hausdorff(distances, 95))
        tensors = [torch.from_numpy(mask[None, None]) for mask in (found, truth)]
        by_voxel = float(metrics.compute_hausdorff_distance(*tensors, percentile=95))
        assert by_area == pytest.approx(30.0)
        assert by_voxel < 2.0

    def test_ours_are_dsc_and_nsd(self):
        assert {field.name for field in fields(Score)} == {"dsc", "nsd", "rule"}
