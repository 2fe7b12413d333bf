"""The torture set, a part of it in every run; and that its judge can say no."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from eval.reliability.torture.case import AFFINE, SHAPE
from eval.reliability.torture.judge import Wrong, check_geometry, check_place, read_mask
from eval.reliability.torture.patient import Patient, paint
from eval.reliability.torture.run import all_cases, torture
from eval.reliability.torture.store import save
from eval.reliability.torture.table import by_class, markdown

pytest.importorskip("openvino")
# Cheap ones, of every class.
PART = (
    "axes-PIR", "axes-RAS", "spacing-10x10x10", "size-5x6x7", "size-60x50x1_", "frame-turn45", "frame-sheared",
    "patient-legs", "patient-prone", "pad-3024", "metal30000", "stored-i4-slope", "stored-u2-be", "stored-nifti2-be",
    "values-raw-2000", "values-nan", "values-allnan", "header-qfac0", "header-formsapart", "header-bomb",
    "header-offset_",
    "file-checksum", "file-members", "file-plain", "itk-packed-nrrd", "itkbad-gzip-nrrd", "entry-", ".hidden", "readme",
    "two\nlines", "bytes-", "$(touch", "collision", "UPPER",
)  # fmt: skip


def test_the_set_is_what_it_says():
    cases = all_cases()
    assert len(cases) >= 80
    assert len({case.file for case in cases}) == len(cases)
    groups = Counter(case.group for case in cases)
    assert groups["orientation"] == 48
    assert len(groups) >= 12


def test_a_part_of_it_in_one_run(tmp_path: Path):
    cases = [case for case in all_cases() if any(part in case.file for part in PART)]
    assert len(cases) >= len(PART)
    result = torture(tmp_path / "set", cases)
    wrong = [(case["title"], case["wrong"]) for case in result["cases"] if case["wrong"]]
    assert wrong == []
    assert result["problems"] == []
    rows = by_class(result["cases"])
    assert rows[-1]["inputs"] == len(cases)
    assert rows[-1]["wrong"] == 0
    assert "| all |" in markdown(result["cases"])


class TestJudge:
    @pytest.fixture
    def mask(self, tmp_path: Path) -> Path:
        _, truth = paint(SHAPE, AFFINE)
        return save(tmp_path / "mask.nii.gz", truth.astype(np.uint8), AFFINE)

    def test_a_good_mask(self, mask):
        head, voxels = read_mask(mask)
        check_geometry(mask, head)
        assert check_place(voxels, paint(SHAPE, AFFINE)[1]) == 1.0

    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_mirrored_or_shifted_one_is_wrong(self, mask, axis):
        _, voxels = read_mask(mask)
        truth = paint(SHAPE, AFFINE)[1]
        for moved in (np.flip(voxels, axis), np.roll(voxels, 4, axis), np.zeros_like(voxels)):
            with pytest.raises(Wrong, match="not where the ball is"):
                check_place(moved, truth)

    @pytest.mark.parametrize("damage", ["cut", "two", "type", "slope", "short"])
    def test_a_damaged_one_is_wrong(self, mask, damage):
        data = bytearray(gzip.decompress(mask.read_bytes()))
        if damage == "two":
            data[400] = 2
        elif damage == "type":
            data[70] = 4
        elif damage == "slope":
            data[112:116] = bytes(4)
        elif damage == "short":
            data.pop()
        packed = gzip.compress(bytes(data))
        mask.write_bytes(packed[:-20] if damage == "cut" else packed)
        with pytest.raises(Wrong):
            read_mask(mask)

    def test_another_geometry_is_wrong(self, mask, tmp_path):
        moved = AFFINE.copy()
        moved[0, 3] += 1.0
        scan = save(tmp_path / "scan.nii.gz", np.zeros(SHAPE, np.int16), moved)
        with pytest.raises(Wrong, match="header bytes"):
            check_geometry(scan, read_mask(mask)[0])

    def test_the_ball_is_at_the_same_place_of_the_patient_in_any_frame(self):
        """Painted twice, with axes swapped and flipped: the centre in the world is the same but for a voxel."""
        centres = []
        for affine in (AFFINE, AFFINE @ np.array([[0, 1, 0, 0], [-1, 0, 0, 39], [0, 0, 1, 0], [0, 0, 0, 1.0]])):
            _, truth = paint((40, 40, 36), affine, Patient())
            centre = np.argwhere(truth).mean(axis=0) - (np.array(truth.shape) - 1) / 2
            centres.append(affine[:3, :3] @ centre)
        np.testing.assert_allclose(centres[0], centres[1], atol=4.0)
