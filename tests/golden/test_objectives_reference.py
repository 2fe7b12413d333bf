"""Objectives against values of the authors' published code, run unmodified (shared/reference/objectives.json)."""

import json

import pytest
import torch

from gfscreen.training.objectives import balanced_cross_entropy, dice_ce, glance_policy_loss, group_advantage

pytestmark = pytest.mark.shared


@pytest.fixture(scope="module")
def cases(shared_dir):
    return json.loads((shared_dir / "reference" / "objectives.json").read_text(encoding="utf-8"))["cases"]


@pytest.mark.parametrize("index", range(6))
def test_policy_and_cross_entropy(cases, index):
    case = cases[index]
    logits, reference = torch.tensor(case["new_logits"]), torch.tensor(case["old_logits"])
    reward = torch.tensor(case["reward"])
    assert group_advantage(reward).tolist() == pytest.approx(case["advantage"], abs=1e-5)
    assert float(glance_policy_loss(logits, reference, reward)) == pytest.approx(case["policy_loss"], abs=1e-5)
    label = torch.tensor(case["glance_label"])
    assert float(balanced_cross_entropy(logits, label)) == pytest.approx(case["glance_ce"], abs=1e-5)


def test_dice_ce(cases):
    given = [case for case in cases if case["seg"] is not None]
    assert len(given) >= 2
    for case in given:
        loss = dice_ce(torch.tensor(case["seg"]), torch.tensor(case["label"]))
        assert float(loss) == pytest.approx(case["dice_ce"], abs=1e-5)
