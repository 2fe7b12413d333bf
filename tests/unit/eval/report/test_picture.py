"""The still of a scan with its masks, and what `eval picture` says of files that do not belong together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from eval.__main__ import main
from tests.helpers.nifti_files import write_nifti
from tests.helpers.scans import paint

SHAPE = (64, 56, 40)
AFFINE = np.array([[-2.0, 0, 0, 64], [0, -2.0, 0, 56], [0, 0, 3.0, -60], [0, 0, 0, 1]])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A scan, the mask of its ball, and one of half the ball."""
    hu, ball = paint(SHAPE, AFFINE)
    half = ball.copy()
    half[: int(np.argwhere(ball)[:, 0].mean())] = False
    written = {"image": hu, "ball": ball.astype(np.uint8), "half": half.astype(np.uint8)}
    return {name: write_nifti(tmp_path / f"{name}.nii.gz", voxels, AFFINE) for name, voxels in written.items()}


def coloured(path: Path) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where a picture is clearly red, and where clearly green."""
    rgb = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    return (red > green + 60) & (red > blue + 60), (green > red + 60) & (green > blue + 60)


def picture(files: dict[str, Path], mask: str, target: Path, truth: str | None = None) -> int:
    arguments = ["picture", "--image", str(files["image"]), "--mask", str(files[mask]), "-o", str(target)]
    return main(arguments + (["--truth", str(files[truth])] if truth else []))


def test_what_was_found_is_outlined_in_red_in_three_planes(files, tmp_path):
    target = tmp_path / "new" / "still.png"
    assert picture(files, "ball", target) == 0
    red, green = coloured(target)
    assert not green.any()
    for third in np.array_split(red, 3, axis=1):
        assert third.sum() > 50


def test_the_truth_is_outlined_in_green(files, tmp_path):
    target = tmp_path / "still.png"
    assert picture(files, "half", target, truth="ball") == 0
    red, green = coloured(target)
    assert green.sum() > red.sum() > 50


def test_a_mask_of_another_scan(files, tmp_path, capsys):
    files["other"] = write_nifti(tmp_path / "other.nii.gz", np.ones((64, 56, 39), np.uint8), AFFINE)
    target = tmp_path / "still.png"
    assert picture(files, "other", target) == 1
    expected = (
        "picture: other.nii.gz: shape (64, 56, 39) differs from the scan's (64, 56, 40); name the mask of this scan\n"
    )
    assert capsys.readouterr().err == expected
    assert not target.exists()


def test_no_such_scan(files, tmp_path, capsys):
    files["image"] = tmp_path / "nothing.nii.gz"
    assert picture(files, "ball", tmp_path / "still.png") == 1
    assert capsys.readouterr().err.startswith("picture: nothing.nii.gz: no such file")
