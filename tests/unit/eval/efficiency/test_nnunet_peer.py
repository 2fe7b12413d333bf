"""nnU-Net's own predictor beside ours: what is said without it, and the same mask where it is installed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from eval.__main__ import main as evaluate
from eval.efficiency.nnunet_example import OMNILESION_CHANNELS, dataset_of, plans_of
from gfscreen.command.cli import main
from gfscreen.networks.models.nnunet_files import nnunet_config, parse_channels
from tests.helpers.nifti_files import write_nifti
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, dice, paint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "x_0000.nii.gz"
    write_nifti(path, paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)
    return path


def test_the_example_of_flare26s_first_has_its_sizes():
    windows = parse_channels(OMNILESION_CHANNELS)
    config = nnunet_config(plans_of("omnilesion"), dataset_of("omnilesion"), "3d_fullres", "x", windows=windows)
    assert (config.spacing_mm, config.patch_voxels) == ((3.0, 2.0, 2.0), (96, 128, 128))
    assert config.unet.features == (32, 64, 128, 256, 320, 320)
    assert (config.unet.blocks, config.unet.decoder_convs) == ((1, 3, 4, 6, 6, 6), (1,) * 5)


def test_without_nnunet_it_says_so(scan, tmp_path, capsys):
    if importlib.util.find_spec("nnunetv2") is not None:
        pytest.skip("nnU-Net is installed")
    assert evaluate(["nnunet-peer", "-i", str(scan), "-o", str(tmp_path / "o"), "--model", str(tmp_path)]) == 2
    assert "nnunet-peer: needs nnU-Net" in capsys.readouterr().err


def test_the_same_mask_as_ours(scan, tmp_path):
    pytest.importorskip("nnunetv2")
    assert evaluate(["nnunet-example", "-o", str(tmp_path / "model"), "--folds", "2"]) == 0
    report = tmp_path / "report.json"
    words = ["nnunet-peer", "-i", str(scan), "--model", str(tmp_path / "model"), "--report", str(report)]
    assert evaluate([*words, "-o", str(tmp_path / "theirs"), "--probabilities"]) == 0
    (case,) = json.loads(report.read_text())["cases"]
    assert case["patches_timed"] == case["patches_total"] > 1
    assert evaluate([*words, "-o", str(tmp_path / "timed"), "--patches", "1"]) == 0
    (case,) = json.loads(report.read_text())["cases"]
    assert case["patches_timed"] == 1
    assert not list((tmp_path / "timed").glob("*.nii.gz"))
    assert main(["convert", "--nnunet", str(tmp_path / "model"), "-o", str(tmp_path / "weights")]) == 0
    words = ["predict", "-i", str(scan), "-o", str(tmp_path / "ours"), "--weights", str(tmp_path / "weights")]
    assert main([*words, "--engine", "torch", "--device", "cpu"]) == 0
    masks = [np.asarray(nib.load(tmp_path / side / "x.nii.gz").dataobj) for side in ("theirs", "ours")]
    assert dice(*masks) > 0.999
