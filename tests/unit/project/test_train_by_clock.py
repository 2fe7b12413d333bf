"""The script that trains both networks within a given time: rehearsed with tiny networks, then given more time."""

import json
import os
import subprocess
import sys

import pytest

from gfscreen.networks.models.weights import load_networks
from gfscreen.training.learning.state import read_checkpoint
from gfscreen.training.settings import settings_from
from tests.helpers.places import ROOT
from tests.helpers.training_lists import write_training_list

STAGES = ("focus", "glance_ce", "glance_grpo")
TINY = {
    "crop_voxels": [64, 32, 32],
    "batch": 1,
    "group": 2,
    "pool": 2,
    "pool_refresh": 0,
    "threads": 1,
    "draw_workers": 1,
    "amp": "off",
    "mix": {"real": 1, "background": 1},
    "glance": {"architecture": "resnet10", "stage_channels": [4, 4, 8, 8], "first_stride": [2, 2, 2]},
    "focus": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1]},
}


@pytest.fixture
def painted(tmp_path):
    write_training_list(tmp_path / "data")
    configs = tmp_path / "configs"
    configs.mkdir()
    for stage in STAGES:
        settings = json.loads((ROOT / f"scripts/one_gpu/{stage}.json").read_text())
        (configs / f"{stage}.json").write_text(json.dumps({**settings, **TINY}))
    return tmp_path


def run(folder, minutes):
    done = subprocess.run(
        ["sh", ROOT / "scripts/train_by_clock.sh", "data/list.json", "runs", str(minutes), "configs", sys.executable],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {stage: read_checkpoint(folder / f"runs/{stage}/checkpoint.pt")["step"] for stage in STAGES}


def test_settings_for_one_gpu_are_accepted():
    for stage in STAGES:
        settings = settings_from(None, ROOT / f"scripts/one_gpu/{stage}.json")
        assert settings.preset == "paper"
        assert settings.schedule == "clock"


@pytest.mark.slow
def test_trains_by_the_clock_and_goes_on(painted):
    first = run(painted, 0.01)
    assert min(first.values()) >= 1
    second = run(painted, 0.3)
    assert first["focus"] < second["focus"]
    assert first["glance_ce"] < second["glance_ce"]

    plan, _, _ = load_networks(painted / "runs/weights")
    assert plan.focus.feature_size == 12
    focus = painted / "runs/weights/focus.safetensors"
    pieces = sorted((painted / "runs/pieces").glob("focus.safetensors.*"))
    assert b"".join(piece.read_bytes() for piece in pieces) == focus.read_bytes()
    assert (painted / "runs/pieces/manifest.json").read_bytes() == (painted / "runs/weights/manifest.json").read_bytes()
