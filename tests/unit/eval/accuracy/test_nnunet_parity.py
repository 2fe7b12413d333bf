"""A converted nnU-Net against its peer: here the peer's files are our own answers, and those changed in a known way."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from eval.__main__ import main as evaluate
from eval.accuracy.nnunet_parity import _read_dense
from gfscreen.command.cli import main
from gfscreen.config import read_plan
from gfscreen.networks.engines.select import load_engine
from gfscreen.scan.volume import read_volume
from tests.helpers.nifti_files import write_nifti
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """(scan, weights, probability, mask) of a tiny model."""
    folder = tmp_path_factory.mktemp("parity")
    scan, weights = folder / "x_0000.nii.gz", folder / "weights"
    write_nifti(scan, paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)
    assert evaluate(["nnunet-example", "-o", str(folder / "model")]) == 0
    assert main(["convert", "--nnunet", str(folder / "model"), "-o", str(weights)]) == 0
    engine = load_engine(weights, device="cpu", engine="torch", precision="fp32", gpu_memory_limit_mb=None)
    probability, mask, patches, _ = _read_dense(read_volume(scan), read_plan(weights), engine)
    assert patches > 1
    assert 0.0 < mask.mean() < 1.0
    return scan, weights, probability, mask


@pytest.fixture
def compare(made, tmp_path, capsys):
    scan, weights, *_ = made

    def run(probability, mask):
        (tmp_path / "peer").mkdir()
        np.savez(tmp_path / "peer" / "x.npz", lesion=probability.astype(np.float16))
        nib.save(nib.Nifti1Image(mask, PAINTED_AFFINE), tmp_path / "peer" / "x.nii.gz")
        report = tmp_path / "parity.json"
        words = ["--peer", tmp_path / "peer", "--weights", weights, "-o", report]
        code = evaluate(["nnunet-parity", "-i", str(scan), *map(str, words)])
        captured = capsys.readouterr()
        if code:
            assert not report.exists()
            return code, captured.err
        (case,) = json.loads(report.read_text())["cases"]
        assert json.loads(captured.out) == case
        return code, case

    return run


def test_the_same_answers(made, compare):
    code, case = compare(made[2], made[3])
    assert code == 0
    assert case["name"] == "x"
    assert case["mean_difference"] < 2e-4  # half precision
    assert case["max_difference"] < 1e-3
    assert case["dice"] == 1.0
    assert case["peer_ml"] == case["own_ml"] > 0


def test_other_answers(made, compare):
    probability, mask = made[2].copy(), made[3].copy()
    half = probability.shape[0] // 2
    probability[:half] += 0.25
    mask[:half] = 0
    case = compare(probability, mask)[1]
    assert case["mean_difference"] == pytest.approx(0.25 * half / probability.shape[0], abs=1e-3)
    assert case["max_difference"] == pytest.approx(0.25, abs=1e-3)
    assert case["max_difference_inside"] == pytest.approx(0.25, abs=1e-3)
    both, own = float(mask.sum()), float(made[3].sum())
    assert case["dice"] == pytest.approx(2 * both / (both + own), abs=1e-6)
    assert case["peer_ml"] < case["own_ml"]


def test_what_differs_at_the_border_alone_is_told_apart(made, compare):
    probability = made[2].copy()
    probability[:, :, -8:] += 0.25
    case = compare(probability, made[3])[1]
    assert case["max_difference"] == pytest.approx(0.25, abs=1e-3)
    assert case["max_difference_inside"] < 1e-3


def test_a_peer_of_another_scan(made, compare):
    code, told = compare(made[2][1:], made[3])
    assert code == 2
    assert "the probabilities of the peer have" in told
    assert len(told.splitlines()) == 1


def test_no_peer(made, tmp_path, capsys):
    scan, weights, *_ = made
    words = ["nnunet-parity", "-i", str(scan), "--peer", str(tmp_path), "--weights", str(weights)]
    assert evaluate(words) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"nnunet-parity: {tmp_path / 'x.npz'}: no such file; make it with")
