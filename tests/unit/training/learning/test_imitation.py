"""A Focus cut narrow at full resolution learns to answer like the one it was cut from, by these blocks alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.errors import UsageError  # noqa: E402
from gfscreen.network_plan import FocusConfig  # noqa: E402
from gfscreen.networks.models.focus import build_focus  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_networks  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from gfscreen.training.learning import loop  # noqa: E402
from gfscreen.training.learning.distributed import World  # noqa: E402
from gfscreen.training.learning.imitation import FULL_RESOLUTION, Imitation, imitation_loss  # noqa: E402
from gfscreen.training.learning.initialisation import build_run  # noqa: E402
from gfscreen.training.settings import TrainingSettings  # noqa: E402
from tests.helpers.tiny_training import TINY  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402

WIDE = FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4)
NARROW = replace(WIDE, full_resolution_channels=6)
ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture
def settings(tmp_path: Path) -> TrainingSettings:
    """Of a run that learns from a wide Focus in `tmp_path`/wide."""
    init_weights(tmp_path / "wide", replace(TINY.plan, focus=WIDE), 1)
    return replace(TINY, focus=NARROW, init=str(tmp_path / "wide"), learns_from="init", focus_learning_rate=3e-3)


def logits(*of_lesion: float) -> torch.Tensor:
    """Two classes (1, 2, n, 1, 1) whose difference is as said."""
    values = torch.tensor(of_lesion)
    return torch.stack([-values / 2, values / 2])[None, :, :, None, None]


class TestLoss:
    def test_equal_answers_have_none(self):
        answer = logits(-9, -3, 2)
        assert imitation_loss(answer, answer) == 0
        assert imitation_loss(answer + 5.0, answer) == 0

    def test_beyond_the_largest_logits_answers_are_alike(self):
        assert imitation_loss(logits(-30, 30), logits(-8, 8)) == 0

    def test_what_nobody_holds_for_lesion_counts_little(self):
        """A logit in one voxel of a thousand: many times as much where one of both is in doubt."""
        rest = [-7.0] * 999
        background = imitation_loss(logits(-7, *rest), logits(-6, *rest))
        doubtful = logits(-3.5, *rest), logits(-4.5, *rest)
        assert imitation_loss(*doubtful) > 20 * background > 0
        assert imitation_loss(*doubtful[::-1]) == imitation_loss(*doubtful)


def test_it_learns_to_answer_like_the_wide_one(settings):
    """Sixty steps on noise: the loss on other noise falls to a third, and the body has not moved."""
    run = build_run(settings, ALONE)
    imitation = Imitation(settings, run.focus, ALONE)
    _, _, wide = load_networks(Path(settings.init or ""))
    before = {name: value.clone() for name, value in run.focus.state_dict().items()}
    torch.manual_seed(3)
    unseen = torch.rand(2, 1, 64, 32, 32)
    first = imitation_loss(*imitation(unseen)).item()
    assert first == pytest.approx(imitation_loss(run.focus(unseen), wide(unseen)).item(), rel=1e-3)
    optimizer = torch.optim.AdamW(run.focus.parameters(), 3e-3)
    for _ in range(60):
        imitation_loss(*imitation(torch.rand(1, 1, 64, 32, 32))).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    assert imitation_loss(*imitation(unseen)).item() < first / 3
    for name, value in run.focus.state_dict().items():
        assert torch.equal(value, before[name]) == (name.split(".")[0] not in FULL_RESOLUTION), name


def test_a_run(settings, tmp_path):
    write_training_list(tmp_path)
    job = loop.Job(read_list(tmp_path / "list.json"), tmp_path / "cache", tmp_path / "run")
    plan, _, focus = load_networks(loop.train(replace(settings, steps=2, evaluation_crops=0), job, ALONE))
    _, _, wide = load_networks(tmp_path / "wide")
    assert plan.focus == NARROW
    own, other = focus.state_dict(), wide.state_dict()
    body = [name for name in own if name.split(".")[0] not in FULL_RESOLUTION]
    assert body
    assert all(torch.equal(own[name], other[name]) for name in body)
    start = build_run(settings, ALONE).focus.state_dict()
    assert not torch.equal(own["out.conv.conv.weight"], start["out.conv.conv.weight"])


def test_what_does_not_fit_is_refused(settings):
    for wrong in ({"init": None}, {"stage": "glance", "gate": "grpo"}):
        with pytest.raises(ValueError, match="learns_from init is for stage focus: name as init"):
            replace(settings, **wrong)
    two = World(0, 2, torch.device("cpu"))
    with pytest.raises(UsageError, match="runs in one process; start it without torchrun"):
        Imitation(settings, build_focus(NARROW), two)
    legacy = replace(settings, focus=replace(NARROW, patch_merging="legacy"))
    with pytest.raises(UsageError, match=r"not cut from that of .*: its patch_merging must be legacy$"):
        Imitation(legacy, build_focus(legacy.plan.focus), ALONE)
    both = replace(settings, focus=replace(NARROW, hu_channels="both"))
    with pytest.raises(UsageError, match="its hu_channels must be both"):
        Imitation(both, build_focus(both.plan.focus), ALONE)
