"""Dice between the masks of two runs."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.accuracy.mask_agreement import compare_masks


def mask(folder: Path, name: str, voxels: slice, shape: tuple[int, int, int] = (10, 10, 10)) -> None:
    folder.mkdir(exist_ok=True)
    array = np.zeros(shape, np.uint8)
    array.reshape(-1)[voxels] = 1
    nib.save(nib.Nifti1Image(array, np.diag([1.0, 2.0, 5.0, 1.0])), folder / f"{name}.nii.gz")


class TestMasks:
    def test_by_hand(self):
        # 4 and 3 voxels, 2 in common: Dice 4/7; 3 differ, of 10 mm3 each.
        a, b = np.zeros(10), np.zeros(10)
        a[:4] = 1
        b[2:5] = 1
        found = compare_masks(a, b, 0.01)
        assert found["dice"] == pytest.approx(4 / 7)
        assert (found["before_ml"], found["after_ml"], found["different_ml"]) == (0.04, 0.03, 0.03)

    def test_empty(self):
        nothing, something = np.zeros(5), np.ones(5)
        assert compare_masks(nothing, nothing, 1.0)["dice"] == 1.0
        assert compare_masks(nothing, something, 1.0)["dice"] == 0.0


class TestCommand:
    def test_same(self, tmp_path, capsys):
        for folder in ("a", "b"):
            mask(tmp_path / folder, "x", slice(0, 500))
            mask(tmp_path / folder, "y", slice(0, 0))
        assert main(["ab", str(tmp_path / "a"), str(tmp_path / "b")]) == 0
        assert "2 masks (1 empty in both): Dice at least 1.0000, mean 1.0000; 0 below 0.995" in capsys.readouterr().out

    def test_a_changed_mask(self, tmp_path):
        mask(tmp_path / "a", "x", slice(0, 500))
        mask(tmp_path / "b", "x", slice(0, 490))  # Dice 980 / 990 = 0.9899
        out = tmp_path / "ab.json"
        assert main(["ab", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(out)]) == 1
        result = json.loads(out.read_text())
        assert result["min_dice"] == pytest.approx(980 / 990)
        assert result["changed"] == ["x"]
        assert result["cases"][0]["different_ml"] == 0.1

    def test_a_missing_mask(self, tmp_path, capsys):
        for name in "xy":
            mask(tmp_path / "a", name, slice(0, 5))
        mask(tmp_path / "b", "x", slice(0, 5))
        assert main(["ab", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
        assert "only before: y.nii.gz" in capsys.readouterr().out

    def test_nothing_in_common(self, tmp_path, capsys):
        mask(tmp_path / "a", "x", slice(0, 5))
        (tmp_path / "b").mkdir()
        assert main(["ab", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
        assert "share no mask" in capsys.readouterr().err

    def test_other_sizes(self, tmp_path, capsys):
        mask(tmp_path / "a", "x", slice(0, 5))
        mask(tmp_path / "b", "x", slice(0, 5), (10, 10, 9))
        assert main(["ab", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
        assert "(10, 10, 9)" in capsys.readouterr().err
