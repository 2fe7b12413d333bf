"""A packed list trains on what the original does: same voxels in the body, same labels, same side, in bounded parts."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.config import preset_plan
from gfscreen.training.data import pack
from gfscreen.training.data.cache import load_scan
from gfscreen.training.data.lists import read_list

SHAPE, SPACING = (120, 100, 40), (1.5, 1.5, 3.0)
PLAN = preset_plan("fast")


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.diag([-SPACING[0], -SPACING[1], SPACING[2], 1.0])), path)


@pytest.fixture
def listed(tmp_path):
    """A, annotated with a label value of 2, trains; B, which nobody annotated, is the other side."""
    rng = np.random.default_rng(5)
    i, j = np.indices(SHAPE[:2])
    body = (((i - 60) / 50) ** 2 + ((j - 50) / 40) ** 2 <= 1)[:, :, None] & np.ones(SHAPE, bool)
    hu = np.where(body, 60 + 15 * rng.standard_normal(SHAPE), -1000 + 8 * rng.standard_normal(SHAPE)).astype(np.int16)
    hu[70:82, 50:62, 18:23] += 70
    label = np.zeros(SHAPE, np.uint8)
    label[70:82, 50:62, 18:23] = 2
    for name in ("A", "B"):
        write(tmp_path / f"data/imagesTr/{name}_0000.nii.gz", hu)
    write(tmp_path / "data/labelsTr/A.nii.gz", label)
    write(tmp_path / "data/nodules/image/LIDC-IDRI-0001_R_1.nii.gz", hu[:9, :9, :9])
    path = tmp_path / "data/list.json"
    path.write_text(
        json.dumps(
            {
                "lesion_values": [2],
                "training": [{"image": "imagesTr/A_0000.nii.gz", "label": "labelsTr/A.nii.gz", "patient": "P1"}],
                "validation": [{"image": "imagesTr/B_0000.nii.gz", "label": None, "weight": 0.3, "phantom": True}],
                "nodules": "nodules",
                "keep_in_training": ["P1"],
                "dev_percent": 30,
            }
        )
    )
    return path


def run(listed, out, *words):
    return main(["pack", "--data", str(listed), "--cache", str(out.parent / "cache"), "-o", str(out), *words])


def scans(path, cache):
    data = read_list(path)
    entries = (*data.training, *data.validation)
    return data, [load_scan(entry, PLAN, cache, data.label_values) for entry in entries]


def test_the_same_scans(listed, tmp_path):
    assert run(listed, tmp_path / "packed") == 0
    before, originals = scans(listed, tmp_path / "cache")
    after, copies = scans(tmp_path / "packed/list.json", tmp_path / "other cache")
    assert (after.keep_in_training, after.dev_percent) == (before.keep_in_training, before.dev_percent)
    assert [p.name for p in after.nodules.rglob("*.gz")] == [p.name for p in before.nodules.rglob("*.gz")]
    # Both are cropped to a body that is found on a coarse grid, so that they may start
    # a few voxels apart and differ at the skin.
    shift = copies[0].lesions[0] - originals[0].lesions[0]
    for original, copy in zip(originals, copies, strict=True):
        assert (copy.name, copy.patient, copy.weight) == (original.name, original.patient, original.weight)
        assert copy.phantom == original.phantom == (copy.name == "B")
        assert copy.annotated == original.annotated
        low = np.maximum(shift, 0)
        high = np.minimum(np.add(original.hu.shape, shift), copy.hu.shape)
        new = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        old = tuple(slice(a, b) for a, b in zip(low - shift, high - shift, strict=True))
        body = original.body[old]
        assert body.sum() == original.body.sum()
        assert 2 * (body & copy.body[new]).sum() > 0.95 * (original.body.sum() + copy.body.sum())
        np.testing.assert_array_equal(copy.hu[new][body], original.hu[old][body])
        np.testing.assert_array_equal(copy.label[new], original.label[old])
        assert len(copy.lesions) == len(original.lesions)
        np.testing.assert_array_equal(copy.chest, original.chest)


def test_outside_the_body_is_air_and_takes_no_room(listed, tmp_path):
    run(listed, tmp_path / "packed")
    path = tmp_path / "packed/part1/A_0000.nii.gz"
    hu = np.asarray(nib.load(path).dataobj)
    assert hu.min() == pack.AIR_HU
    assert nib.load(path).header.get_zooms() == PLAN.spacing_mm
    assert hu.size < np.prod(np.multiply(SHAPE, SPACING) / PLAN.spacing_mm)


def test_parts_are_bounded(listed, tmp_path):
    assert run(listed, tmp_path / "packed", "--part-mb", "0.7") == 0
    parts = sorted((tmp_path / "packed").glob("part*"))
    assert len(parts) == 2
    for part in parts:
        assert sum(f.stat().st_size for f in part.rglob("*") if f.is_file()) <= 700_000
    read_list(tmp_path / "packed/list.json")


def test_a_part_that_holds_no_scan(listed, tmp_path, capsys):
    assert run(listed, tmp_path / "packed", "--part-mb", "0.1") == 1
    assert "a part holds 0.1; raise --part-mb" in capsys.readouterr().err
    assert not (tmp_path / "packed/list.json").exists()


def test_a_folder_in_use(listed, tmp_path, capsys):
    (tmp_path / "packed").mkdir()
    (tmp_path / "packed/mine").touch()
    assert run(listed, tmp_path / "packed") == 1
    assert "is not empty; name a new folder" in capsys.readouterr().err
    assert [p.name for p in Path(tmp_path / "packed").iterdir()] == ["mine"]


def test_two_scans_of_one_name(listed, tmp_path, capsys):
    data = json.loads(listed.read_text())
    (tmp_path / "data/other").mkdir()
    (tmp_path / "data/imagesTr/B_0000.nii.gz").rename(tmp_path / "data/other/A_0000.nii.gz")
    data["validation"][0] |= {"image": "other/A_0000.nii.gz", "patient": "P2"}
    listed.write_text(json.dumps(data))
    assert run(listed, tmp_path / "packed") == 1
    assert "A: is the name of two scans in the list; rename one of the files" in capsys.readouterr().err
    assert not (tmp_path / "packed").exists()
