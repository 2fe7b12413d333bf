"""`python -m eval cases`: files, bytes, exit codes."""

from __future__ import annotations

import gzip
import json
import struct

import nibabel as nib
import numpy as np
import pytest
import SimpleITK

from eval.__main__ import main
from eval.phantom import make_phantom

SMALL = ["--shape", "48,40,16", "--spacing", "8,8,5"]  # 80 mm of the body: half a second


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def chest(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cases")
    assert main(["cases", "-o", str(folder), "--kind", "chest", "--seed", "7", *SMALL]) == 0
    return folder


def test_writes_nothing_but_image_label_and_table(chest):
    assert list(files(chest)) == ["cases.json", "images/chest_seed7_0000.nii.gz", "labels/chest_seed7.nii.gz"]


def test_same_arguments_same_bytes(chest, tmp_path):
    assert main(["cases", "-o", str(tmp_path), "--kind", "chest", "--seed", "7", *SMALL]) == 0
    assert files(tmp_path) == files(chest)


def test_voxels_are_those_of_the_python_call(chest):
    phantom = make_phantom("chest", 7, (48, 40, 16), (8.0, 8.0, 5.0))
    for name, expected in (("images/chest_seed7_0000", phantom.image), ("labels/chest_seed7", phantom.label)):
        stored = nib.load(chest / f"{name}.nii.gz")
        np.testing.assert_array_equal(np.asarray(stored.dataobj), expected)
        np.testing.assert_array_equal(stored.affine, phantom.affine_ras)


@pytest.mark.parametrize(
    ("name", "code", "bits"), [("images/chest_seed7_0000.nii.gz", 4, 16), ("labels/chest_seed7.nii.gz", 2, 8)]
)
def test_raw_header(chest, name, code, bits):
    compressed = (chest / name).read_bytes()
    assert compressed[4:8] == bytes(4)  # gzip: no time of writing
    header = gzip.decompress(compressed)[:352]
    assert struct.unpack_from("<2h", header, 70) == (code, bits)  # datatype, bitpix
    assert struct.unpack_from("<3f", header, 108) == (352, 1, 0)  # vox_offset, scl_slope, scl_inter
    assert struct.unpack_from("<2h", header, 252) == (1, 1)  # qform_code, sform_code


def test_image_and_label_share_their_geometry_in_another_reader(chest):
    image = SimpleITK.ReadImage(str(chest / "images/chest_seed7_0000.nii.gz"))
    label = SimpleITK.ReadImage(str(chest / "labels/chest_seed7.nii.gz"))
    for part in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
        assert getattr(image, part)() == getattr(label, part)()
    assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)  # LPS, as scanners write it


def test_table_describes_the_case(chest):
    (case,) = json.loads((chest / "cases.json").read_text())["cases"]
    label = np.asarray(nib.load(chest / "labels/chest_seed7.nii.gz").dataobj)
    assert (case["name"], case["kind"], case["seed"], case["healthy"]) == ("chest_seed7", "chest", 7, False)
    assert case["shape"] == [48, 40, 16]
    assert case["label_volume_ml"] == pytest.approx(label.sum() * np.prod(case["spacing_mm"]) / 1000, abs=1e-3)
    assert {"kind", "centre_ras_mm", "long_axis_mm", "volume_ml", "contrast_hu"} <= set(case["lesions"][0])
    z = case["affine_ras"][2][3] + case["spacing_mm"][2] * np.arange(16)
    assert case["chest_from_slice"] == int(np.argmax(z >= case["boundary_z_mm"]))
    assert len(case["lesions"]) >= 3


def test_by_default_one_case_of_each_kind(tmp_path, capsys):
    assert main(["cases", "-o", str(tmp_path), "--healthy", "--json", *SMALL]) == 0
    table = json.loads(capsys.readouterr().out)
    assert [case["kind"] for case in table["cases"]] == ["chest", "abdomen", "chest-abdomen"]
    for case in table["cases"]:
        assert case["lesions"] == []
        assert not np.asarray(nib.load(tmp_path / "labels" / f"{case['name']}.nii.gz").dataobj).any()


def test_both_is_one_scan_and_a_second_call_adds_to_the_table(tmp_path, capsys):
    for seed in (["--seed", "4", "--count", "2"], ["--seed", "2"]):
        assert main(["cases", "-o", str(tmp_path), "--kind", "both", *seed, *SMALL]) == 0
        assert capsys.readouterr().out.strip() == str(tmp_path)
    names = [case["name"] for case in json.loads((tmp_path / "cases.json").read_text())["cases"]]
    assert names == [f"chest-abdomen_seed{number}" for number in (2, 4, 5)]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--shape", "1,2"], ["--shape", "'1,2'", "three"]),
        (["--shape", "-1,64,64"], ["(-1, 64, 64)", "from 16", "192,160,56"]),
        (["--shape", "a,b,c"], ["'a,b,c'", "whole numbers"]),
        (["--spacing", "0,1,1"], ["spacing (0.0, 1.0, 1.0)", "0.8,0.8,5"]),
        (["--spacing", "nan,1,1"], ["nan"]),
        (["--seed", "-3"], ["--seed -3", "at least 0"]),
        (["--count", "0"], ["--count 0", "at least 1"]),
        (["--kind", "leg"], ["--kind 'leg'", "chest-abdomen"]),
        (["--shape", "16,16,16", "--spacing", "1,1,1"], ["no chest lesion fits", "healthy"]),
    ],
)
def test_wrong_usage_exits_2_with_one_line(tmp_path, capsys, arguments, words):
    folder = tmp_path / "out"
    assert main(["cases", "-o", str(folder), *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert all(word in err for word in words), err
    assert not folder.exists()


def test_output_that_is_a_file_exits_2(tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert main(["cases", "-o", str(tmp_path / "out")]) == 2
    assert "is a file" in capsys.readouterr().err
    assert (tmp_path / "out").read_text() == "mine"


def test_a_foreign_table_is_not_overwritten(tmp_path, capsys):
    (tmp_path / "cases.json").write_text("[1, 2")
    assert main(["cases", "-o", str(tmp_path), *SMALL]) == 2
    assert "not a case table" in capsys.readouterr().err
    assert files(tmp_path) == {"cases.json": b"[1, 2"}


def test_a_failed_write_leaves_no_file_and_exits_1(tmp_path, capsys, monkeypatch):
    def half(scan):
        yield next(slabs(scan))
        raise OSError("disk full")

    from eval.phantom import Scan

    slabs = Scan.slabs
    monkeypatch.setattr(Scan, "slabs", half)
    assert main(["cases", "-o", str(tmp_path), "--kind", "chest", *SMALL]) == 1
    assert "disk full" in capsys.readouterr().err
    assert files(tmp_path) == {}
