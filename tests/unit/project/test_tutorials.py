"""The tutorials and the page on nnU-Net, followed to the letter: their commands run in a copy of the checkout.

Two things are made smaller and nothing else: the networks, by the settings file that the page writes, and the minutes,
by the variables that the page offers. Docker is pretended (helpers/fake_docker.py); its container is `sh predict.sh`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from eval.reliability.threshold_engine import write_threshold_weights
from tests.helpers.fake_docker import COMMAND, calls, install
from tests.helpers.nifti_files import write_nifti
from tests.helpers.nnunet_models import tiny_model
from tests.helpers.places import ROOT
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint
from tests.helpers.training_lists import write_training_list

pytestmark = pytest.mark.slow

COPIED = ("Dockerfile", "LICENSE", "Makefile", "README.md", "predict.sh", "pyproject.toml", "requirements-dev.txt")
SETTINGS = '{\n  "preset": "fast",\n  "schedule": "clock"\n}'
TINY_SETTINGS = {
    "preset": "fast",
    "schedule": "clock",
    "crop_voxels": [64, 32, 32],
    "batch": 1,
    "group": 2,
    "evaluation_crops": 2,
    "focus": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8], "window_size": 4},
    "glance": {"architecture": "resnet10", "stage_channels": [4, 8, 16, 32], "first_stride": [2, 2, 2]},
}


def commands_of(page: str, kind: str = "tutorial") -> list[str]:
    """The fenced `sh` blocks of a page, in order."""
    text = (ROOT / "docs" / kind / page).read_text(encoding="utf-8")
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of the checkout whose .venv is the interpreter of this test, so that `make setup` has nothing to do."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in COPIED:
        shutil.copy(ROOT / name, folder)
    for name in ("src", "eval", "scripts"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (folder / ".venv" / ".ready").touch()
    (folder / "weights").mkdir()
    (folder / "weights" / "trunk.safetensors").touch()
    return folder


def follow(blocks: list[str], checkout: Path, environment: dict[str, str]) -> str:
    """Run the blocks one after the other, each as a reader would paste it; returns what they printed."""
    said = ""
    place = {**os.environ, "PYTHONPATH": f"{checkout / 'src'}:{checkout}", **environment}
    for block in blocks:
        done = subprocess.run(["sh", "-eu", "-c", block], cwd=checkout, env=place, capture_output=True, text=True)
        said += done.stdout + done.stderr
        assert done.returncode == 0, f"{block}\n{said[-4000:]}"
    return said


def test_train_on_your_data(checkout):
    pytest.importorskip("torch")
    blocks = commands_of("train.md")
    assert sum(SETTINGS in block for block in blocks) == 1
    blocks = [block.replace(SETTINGS, json.dumps(TINY_SETTINGS)) for block in blocks]
    follow(blocks, checkout, {"MINUTES": "0.02", "LONGER": "0.05"})
    result = checkout / "tutorial"
    assert len(list((result / "masks").glob("*.nii.gz"))) == 3
    cases = json.loads((result / "report.json").read_text())["cases"]
    assert [case["status"] for case in cases] == ["ok"] * 3
    assert json.loads((result / "score" / "summary.json").read_text())
    assert (result / "page" / "index.html").is_file()
    minutes = [json.loads(line) for line in (result / "run" / "journal.jsonl").read_text().splitlines()]
    assert minutes, "the run kept a journal"


def test_from_clone_to_archive(checkout, tmp_path):
    # Instead of untrained networks of full size, which take minutes to export.
    write_threshold_weights(checkout / "demo" / "weights")
    environment = {
        **install(tmp_path / "docker"),
        COMMAND: f'GFSCREEN_WEIGHTS={checkout}/demo/weights sh {checkout}/predict.sh "$INPUTS" "$OUTPUTS"',
    }
    said = follow(commands_of("submission.md"), checkout, environment)
    assert "3 cases passed, 0 failed" in said
    assert (checkout / "myteam.tar.gz").is_file()
    runs = [call for call in calls(tmp_path / "docker") if call[:2] == ["container", "run"]]
    assert len(runs) == 3
    # The line that the page shows is the line that was run.
    page = (ROOT / "docs" / "tutorial" / "submission.md").read_text(encoding="utf-8")
    shown = re.search(r"^ {4}(docker container run .*?predict\.sh\")$", page, re.MULTILINE | re.DOTALL)
    assert shown is not None
    words = shown.group(1).replace("\\\n", " ").replace('"sh predict.sh"', "sh+predict.sh").split()
    inputs = runs[0][9].removesuffix("/inputs/:/workspace/inputs/")
    assert [word.replace("$PWD", inputs).replace("+", " ") for word in words] == ["docker", *runs[0]]


def test_bring_your_own_nnunet(checkout, tmp_path):
    """The model is a tiny one; the networks of the gate are made smaller as in the other pages, and so is its pool."""
    pytest.importorskip("torch")
    pytest.importorskip("openvino")
    tiny_model(tmp_path / "model", folds=2)
    write_training_list(tmp_path / "data")
    scans = tmp_path / "scans"
    scans.mkdir()
    write_nifti(scans / "x_0000.nii.gz", paint(PAINTED_SHAPE, PAINTED_AFFINE)[0], PAINTED_AFFINE)
    settings = '  "schedule": "clock",\n  "crop_voxels": null\n'
    small = {key: value for key, value in TINY_SETTINGS.items() if key in ("group", "evaluation_crops", "glance")}
    values = {"schedule": "clock", "crop_voxels": [64, 32, 32], **small}
    blocks = commands_of("nnunet.md", "how-to")
    assert sum(settings in block for block in blocks) == 1
    blocks = [
        block.replace(settings, json.dumps(values)[1:-1] + "\n").replace('"pool": 64', '"pool": 3') for block in blocks
    ]
    environment = {
        **install(tmp_path / "docker"),
        "MODEL": str(tmp_path / "model"), "SCANS": str(scans), "LIST": str(tmp_path / "data" / "list.json"),
        "MINUTES": "0.02", "GATE": "1e-6",
        COMMAND: f'GFSCREEN_WEIGHTS={checkout}/weights sh {checkout}/predict.sh "$INPUTS" "$OUTPUTS"',
    }  # fmt: skip
    said = follow(blocks, checkout, environment)
    assert "3 cases passed, 0 failed" in said
    assert (checkout / "myteam.tar.gz").is_file()
    byo = checkout / "byo"
    (case,) = json.loads((byo / "report.json").read_text())["cases"]
    assert (case["status"], (byo / "masks" / "x.nii.gz").is_file()) == ("ok", True)
    plan = json.loads((checkout / "weights" / "plan.json").read_text())
    assert (plan["nnunet"]["folds"], plan["gate"], plan["without_glance"]) == (2, 1e-6, False)
