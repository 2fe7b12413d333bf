"""The weights that ship: whole, trained, small, with a card; they find and outline 14 of 32 lesions of the demo."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from eval.__main__ import main
from eval.accuracy.detection import detect
from eval.accuracy.masks import read_mask
from eval.accuracy.metrics import as_bool, dice
from gfscreen.config import read_plan
from gfscreen.networks.models.manifest import verify
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from tests.helpers.places import ROOT

WEIGHTS = ROOT / "weights"


def test_they_are_whole_trained_and_small_enough():
    manifest = verify(WEIGHTS)
    assert read_plan(WEIGHTS).weights == "trained"
    assert max(manifest.bytes.values()) < 50e6
    assert sum(manifest.bytes.values()) < 150e6


def test_the_card_says_what_they_are():
    card = (WEIGHTS / "MODEL_CARD.md").read_text(encoding="utf-8")
    for said in ("not a medical device", "CC BY-NC", "LIDC-IDRI", "95 %", "scripts/train_fast.sh", "Limitations"):
        assert said in card, said
    gate = read_plan(WEIGHTS).gate
    assert f"{gate:.4f}" in card, "the card names another gate than the plan"


def test_the_recipe_is_accepted_as_it_is():
    from gfscreen.training.settings import settings_from

    stages = sorted((WEIGHTS / "recipe").glob("*.json"))
    assert len(stages) >= 3
    for stage in stages:
        settings = settings_from(None, stage)
        assert settings.preset == "fast"
        assert json.loads(stage.read_text(encoding="utf-8"))["schedule"] == "steps"


def demo_masks(tmp_path: Path) -> Path:
    """The demo's folder with its cases and the masks of these weights: CI's, which has just made it, or made here."""
    if folder := os.environ.get("GFSCREEN_DEMO"):
        report = json.loads((Path(folder) / "report.json").read_text(encoding="utf-8"))
        assert {case["status"] for case in report["cases"]} == {"ok"}
        return Path(folder)
    assert main(["cases", "-o", str(tmp_path / "cases")]) == 0
    assert predict(Options(tmp_path / "cases" / "images", tmp_path / "masks", WEIGHTS, device="cpu")) == 0
    return tmp_path


@pytest.mark.slow
def test_lesions_of_the_demo_are_found_and_outlined_among_few_others(tmp_path):
    folder = demo_masks(tmp_path)
    found = lesions = others = 0
    dices = []
    for label in sorted((folder / "cases" / "labels").glob("*.nii.gz")):
        truth, mask = read_mask(label), read_mask(folder / "masks" / label.name)
        result = detect(truth.voxels, mask.voxels, truth.spacing_mm)
        lesions += len(result.lesions)
        found += sum(lesion.a_tenth for lesion in result.lesions)
        others += result.false_components
        dices.append(dice(as_bool(truth.voxels), as_bool(mask.voxels)))
    # Measured in bf16 with whole numbers: 18 of 32, a tenth of each or more; 8 others a scan; mean DSC 0.53. Wanted:
    # all, and none.
    assert lesions == 32
    assert found >= 14
    assert others <= 16 * len(dices)
    assert sum(dices) / len(dices) > 0.45
