"""A new user's first training: three phantoms, two sessions, weights that `predict` accepts."""

import json
import os
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from gfscreen.training.learning.state import read_checkpoint
from tests.helpers.places import ROOT


def command(*arguments, folder):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


@pytest.mark.slow
def test_train_on_three_phantoms_resume_and_predict(tmp_path):
    command("eval", "cases", "-o", "cases", folder=tmp_path)
    train = ("gfscreen", "train", "--preset", "fast", "--data", "cases", "-o", "runs/first")
    command(*train, "--steps", "1", folder=tmp_path)
    first = read_checkpoint(tmp_path / "runs/first/checkpoint.pt")
    command(*train, "--steps", "2", "--resume", folder=tmp_path)
    second = read_checkpoint(tmp_path / "runs/first/checkpoint.pt")
    assert (first["step"], second["step"]) == (1, 2)
    assert first["seconds"] < second["seconds"]

    # One of the three: what the others would add is their time limit.
    (tmp_path / "cases/images/chest_seed0_0000.nii.gz").rename(tmp_path / "chest_0000.nii.gz")
    predict = ("gfscreen", "predict", "-i", "chest_0000.nii.gz", "-o", "masks", "--weights", "runs/first/weights")
    command(
        *predict, "--engine", "torch", "--gate", "0", "--time-limit", "20", "--report", "report.json", folder=tmp_path
    )
    report = json.loads((tmp_path / "report.json").read_text())
    (case,) = report["cases"]
    assert case["status"] in ("ok", "degraded")
    assert case["windows_done"] > 0
    mask = np.asanyarray(nib.load(tmp_path / "masks/chest.nii.gz").dataobj)
    assert mask.dtype == np.uint8
    assert mask.max() <= 1
