"""`convert --nnunet` and `predict` with what it wrote, from the command line, in both engines."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.command.cli import main
from gfscreen.config import preset_plan, read_plan
from gfscreen.networks.models.weights import init_weights
from tests.helpers.nifti_files import write_nifti
from tests.helpers.nnunet_models import tiny_model
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("nnunet") / "model", folds=2)


@pytest.fixture(scope="module")
def weights(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("converted") / "weights"
    assert main(["convert", "--nnunet", str(model), "-o", str(folder)]) == 0
    return folder


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "x_0000.nii.gz"
    write_nifti(path, paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)
    return path


def predicted(scan: Path, weights: Path, folder: Path, *options: str) -> tuple[Any, dict[str, Any]]:
    """The mask as an array, and the case in the report."""
    report = folder / "report.json"
    words = [
        "predict",
        "-i",
        str(scan),
        "-o",
        str(folder / "masks"),
        "--weights",
        str(weights),
        "--report",
        str(report),
    ]
    assert main([*words, "--device", "cpu", "--precision", "fp32", *options]) == 0
    (case,) = json.loads(report.read_text())["cases"]
    return np.asarray(nib.load(folder / "masks" / "x.nii.gz").dataobj), case


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_dense_window_with_everything_beside_it(scan, weights, tmp_path, engine):
    pytest.importorskip("openvino")
    pytest.importorskip("matplotlib")
    extra = ["--probabilities", str(tmp_path / "p"), "--statistics", str(tmp_path / "s.json")]
    extra += ["--preview", str(tmp_path / "preview")]
    mask, case = predicted(scan, weights, tmp_path, "--engine", engine, *extra)
    assert case["status"] == "ok"
    assert case["windows_total"] == case["windows_kept"] == case["windows_done"] > 1
    probability = nib.load(tmp_path / "p" / "x.nii.gz").get_fdata()
    # Steps of 1/255: 127 and 128 are the same at half.
    assert (mask.astype(bool) == (probability > 0.5)).mean() > 0.999
    assert 0.0 < mask.mean() < 1.0
    assert (tmp_path / "s.json").is_file()
    assert (tmp_path / "preview" / "index.html").is_file()


def test_both_engines_agree(scan, weights, tmp_path):
    pytest.importorskip("openvino")
    masks = [predicted(scan, weights, tmp_path, "--engine", engine)[0] for engine in ("torch", "openvino")]
    assert (masks[0] == masks[1]).mean() > 0.9999


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_with_a_glance_for_a_gate(scan, model, tmp_path, engine):
    pytest.importorskip("openvino")
    init_weights(tmp_path / "glance", preset_plan("fast"), 0)
    words = ["convert", "--nnunet", str(model), "--glance", str(tmp_path / "glance"), "-o", str(tmp_path / "weights")]
    assert main(words) == 0
    assert read_plan(tmp_path / "weights").gate == 0.9
    dense, _ = predicted(scan, tmp_path / "weights", tmp_path, "--engine", engine, "--gate", "0")
    _, case = predicted(scan, tmp_path / "weights", tmp_path, "--engine", engine, "--keep-share", "0.2")
    assert case["windows_kept"] == -(-case["windows_total"] // 5)
    all_kept, _ = predicted(scan, tmp_path / "weights", tmp_path, "--engine", engine, "--gate", "1e-9")
    assert (all_kept == dense).mean() > 0.9


def refused(capsys: pytest.CaptureFixture[str], words: list[str], message: str, code: int = 2) -> None:
    assert main(words) == code
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line]
    assert re.search(message, line), line


def test_wrong_words_on_the_command_line(model, tmp_path, capsys):
    out = ["-o", str(tmp_path / "w")]
    convert = ["convert", "--nnunet", str(model), *out]
    refused(
        capsys, ["convert", *out], "nothing to convert; name a CHECKPOINT.pt, or a model of nnU-Net v2 with --nnunet"
    )
    refused(capsys, ["convert", "x.pt", "--nnunet", str(model), *out], "both x.pt and --nnunet")
    refused(capsys, ["convert", "x.pt", "--folds", "0", *out], "--folds is for models of nnU-Net v2")
    refused(capsys, [*convert, "--channels", "ct,what"], "convert --channels: expected `ct` or LOW:HIGH")
    refused(capsys, [*convert, "--channels", "ct,ct"], r"takes 1 channel\(s\), --channels names 2", 1)
    refused(capsys, [*convert, "--folds", "7"], "has no fold_7; there are fold_0, fold_1", 1)
    refused(capsys, ["convert", "--nnunet", str(tmp_path / "no"), *out], "not there; name the folder of a trained", 1)
    assert not (tmp_path / "w").exists()


def test_a_gate_without_a_glance(scan, weights, tmp_path, capsys):
    words = ["predict", "-i", str(scan), "-o", str(tmp_path / "m"), "--weights", str(weights), "--gate", "0.5"]
    assert main(words) == 2
    assert "--gate 0.5: these weights have no Glance; leave it out for the dense window" in capsys.readouterr().err
    assert not list((tmp_path / "m").glob("*")) if (tmp_path / "m").exists() else True


def test_info_shows_what_it_is(weights, capsys):
    assert main(["info", "--json", "--weights", str(weights)]) == 0
    shown = json.loads(capsys.readouterr().out)["weights"]
    assert shown["plan"]["nnunet"]["outputs"] == ["background", "lesion"]
    assert shown["info"]["nnunet_folds"] == ["fold_0", "fold_1"]
