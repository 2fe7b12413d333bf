"""A mask in place of a scan, and a scan or probabilities in place of a mask: refused, case by case."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name

from gfscreen.command.cli import main
from gfscreen.errors import InputError
from gfscreen.run.existing_masks import pair_up
from gfscreen.scan.volume.dicom.seg import read_mask_for_seg
from tests.helpers.nifti_files import write_nifti, write_painted
from tests.helpers.runs import Runner
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint


def lesion() -> np.ndarray:
    return paint(PAINTED_SHAPE, PAINTED_AFFINE)[1]


@pytest.mark.parametrize("top", [1, 255])
def test_predict_of_a_mask(monkeypatch, tmp_path, top):
    run = Runner(monkeypatch, tmp_path)
    write_nifti(run.inputs / "a_0000.nii.gz", lesion().astype(np.uint8) * top, PAINTED_AFFINE)
    write_painted(run.inputs / "b_0000.nii.gz")
    result = run()
    assert (result.code, result.written) == (1, ["b.nii.gz"])
    assert result.cases["a"]["error"] == (
        f"a_0000.nii.gz: expected a CT in HU, found only the values 0 and {top}, as in a mask or a scan scaled to "
        "0..1; give the scan itself"
    )


MASKS = {
    "the scan itself": (lambda: paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], "labels from 0 on, got values down to"),
    "probabilities": (lambda: lesion() * np.float32(0.75), "whole numbers, got 0.75"),
    "a picture": (
        lambda: np.arange(np.prod(PAINTED_SHAPE)).reshape(PAINTED_SHAPE) % 1000 + lesion(), "at most 200 labels, found",
    ),
}  # fmt: skip


class TestStats:
    @pytest.fixture
    def place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        for folder in ("scans", "masks"):
            (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            write_painted(tmp_path / "scans" / f"{name}_0000.nii.gz")
            write_nifti(tmp_path / "masks" / f"{name}.nii.gz", lesion().astype(np.uint8), PAINTED_AFFINE)
        return tmp_path

    STATS = ("-q", "stats", "--image", "scans", "--mask", "masks", "-o", "s.json")

    @pytest.mark.parametrize("kind", MASKS)
    @pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
    def test_what_is_no_mask_fails_alone(self, place, capsys, kind, suffix):
        make, says = MASKS[kind]
        stored = make()
        path = place / "masks" / f"a{suffix}"
        if suffix == ".nrrd":
            (place / "masks" / "a.nii.gz").unlink()
            image = sitk.GetImageFromArray(stored.astype(np.float32 if stored.dtype.kind == "f" else np.int16).T)
            sitk.WriteImage(image, str(path))
        else:
            write_nifti(path, stored.astype(np.float32 if stored.dtype.kind == "f" else np.int16), PAINTED_AFFINE)
        assert main(list(self.STATS)) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"ERROR: a{suffix}: expected a mask of ")
        assert says in line
        cases = json.loads((place / "s.json").read_text())["cases"]
        assert [case["status"] for case in cases] == ["failed", "ok"]

    def test_a_mask_for_the_scan(self, place, capsys):
        write_nifti(place / "scans" / "a_0000.nii.gz", lesion().astype(np.uint8), PAINTED_AFFINE)
        assert main(list(self.STATS)) == 1
        assert "ERROR: a_0000.nii.gz: expected a CT in HU" in capsys.readouterr().err

    def test_scans_and_masks_in_one_folder(self, place):
        for mask in (place / "masks").iterdir():
            mask.rename(place / "scans" / mask.name)
        pairs = pair_up(place / "scans", place / "scans")
        assert [(pair.image.name, pair.mask and pair.mask.name) for pair in pairs] == [
            ("a_0000.nii.gz", "a.nii.gz"), ("b_0000.nii.gz", "b.nii.gz"),
        ]  # fmt: skip
        assert main([*self.STATS[:5], "scans", *self.STATS[6:]]) == 0


def test_a_seg_is_not_made_of_probabilities(tmp_path):
    path = write_nifti(tmp_path / "p.nii.gz", lesion() * np.float32(0.75), PAINTED_AFFINE)
    with pytest.raises(InputError, match=r"^p.nii.gz: expected a mask of whole numbers, got 0.75"):
        read_mask_for_seg(path)
