"""PPO's value head: what it sees and moves, and that it stays with the run: in checkpoints, in no weights folder."""

import dataclasses
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import load_file

from gfscreen.errors import WeightsError
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.training import objectives, ppo
from gfscreen.training.data.lists import read_list
from gfscreen.training.learning import assemble, glance_step, loop, state
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.glance_step import Policy, judge
from gfscreen.training.learning.initialisation import build_run
from gfscreen.training.learning.value_head import ValueHead, pooled_kept
from gfscreen.training.settings import TrainingSettings
from tests.helpers.training_lists import write_training_list

ALONE = World(0, 1, torch.device("cpu"))
TINY = TrainingSettings(
    preset="fast",
    stage="glance",
    gate="ppo_detection",
    steps=1,
    group=4,
    pool=4,
    crop_voxels=(64, 32, 32),
    glance=GlanceConfig("resnet10", (4, 4, 8, 8), (2, 2, 2)),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1)),
    threads=1,
    evaluation_crops=0,
    log_every=1,
)


@pytest.fixture
def run():
    torch.manual_seed(3)
    return build_run(TINY, ALONE)


def group(reward=(1.0, 0.0, 1.0, 0.0)):
    """Four sub-volumes of noise, of which those that pay hold a lesion."""
    generator = torch.Generator().manual_seed(5)
    labels = torch.zeros(4, 64, 32, 32, dtype=torch.uint8)
    labels[:, 0, 0, 0] = torch.tensor(reward).byte()
    return torch.rand(4, 1, 64, 32, 32, generator=generator), labels, torch.tensor(reward)


def judged(run, settings=TINY, step=0):
    return judge(settings, run, Policy(run.glance, run.value_head), nullcontext(), group(), step)


class TestHead:
    def test_starts_at_zero_everywhere(self):
        assert ValueHead(8)(torch.randn(5, 8)).tolist() == [0.0] * 5

    def test_sees_what_the_classifier_sees(self, run):
        images = group()[0]
        with pooled_kept(run.glance) as kept:
            logits = run.glance(images)
        assert kept[0].shape == (4, 8)
        torch.testing.assert_close(run.glance.layer(kept[0]), logits)
        run.glance(images)
        assert len(kept) == 1  # nothing is kept afterwards

    @pytest.mark.parametrize(("gate", "there"), [("ce", False), ("grpo_dice", False), ("ppo_dice", True)])
    def test_is_there_for_ppo_alone(self, gate, there):
        run = build_run(dataclasses.replace(TINY, gate=gate), ALONE)
        assert (run.value_head is not None) == there
        parameters = sum(len(g["params"]) for g in run.optimizer.param_groups)
        assert parameters == len(list(run.glance.parameters())) + 2 * there


class TestStep:
    def test_value_loss_by_hand(self, run, monkeypatch):
        monkeypatch.setattr(glance_step, "sample_action", lambda *_: torch.tensor([1, 1, 0, 0]))
        values = judged(run)
        # Rewards 1 and 0 of the two that were read, the mean 0.5 of the two that were left, over a value of 0.
        assert values["value_loss"] == pytest.approx((1 + 0 + 0.25 + 0.25) / 4)
        assert values["explained_variance"] == pytest.approx(0.0, abs=1e-6)
        assert values["reward_mean"] == 0.5  # of reading, as for the other gates

    def test_the_values_gradient_reaches_head_and_backbone(self, run, monkeypatch):
        def value_alone(*arguments):
            parts = ppo.ppo_parts(*arguments)
            return dataclasses.replace(parts, loss=parts.value_loss)

        monkeypatch.setattr(glance_step, "ppo_parts", value_alone)
        monkeypatch.setattr(objectives, "CE_WEIGHT", 0.0)
        with torch.no_grad():
            run.value_head.layer.weight.fill_(0.5)
        judged(run)
        assert run.value_head.layer.weight.grad.abs().max() > 0
        assert run.glance.backbone.layer1[0].conv1.weight.grad.abs().max() > 0
        assert run.glance.layer[0].weight.grad.abs().max() == 0

    def test_actions_are_those_of_seed_rank_and_step(self, run):
        # Even odds, so that it is chance that decides.
        torch.nn.init.zeros_(run.glance.layer[0].weight)
        torch.nn.init.zeros_(run.glance.layer[0].bias)

        def losses(rank=0):
            policy = Policy(run.glance, run.value_head, rank)
            return [judge(TINY, run, policy, nullcontext(), group(), step)["value_loss"] for step in range(4)]

        first = losses()
        assert len(set(first)) > 1
        assert losses() == first
        assert losses(rank=1) != first

    def test_under_autocast(self, run):
        """The Glance answers in bf16, the value is found outside."""
        autocast = torch.autocast("cpu", dtype=torch.bfloat16)
        seen = []
        run.value_head.register_forward_hook(
            lambda _module, inputs, output: seen.extend([inputs[0].dtype, output.dtype])
        )
        judge(TINY, run, Policy(run.glance, run.value_head), autocast, group(), 0)
        assert seen == [torch.float32] * 2
        gradient = run.value_head.layer.bias.grad
        assert bool(torch.isfinite(gradient).all())

    def test_waits_while_the_glance_warms_up_on_labels(self, run):
        settings = dataclasses.replace(TINY, ce_warmup_steps=1)
        assert "value_loss" not in judged(run, settings, step=0)
        assert run.value_head.layer.weight.grad is None
        assert "value_loss" in judged(run, settings, step=1)

    @pytest.mark.parametrize(
        ("gate", "reward"), [("ppo_detection", objectives.detection_reward), ("ppo_dice", objectives.dice_reward)]
    )
    def test_reward(self, gate, reward):
        assert loop.reward_of(dataclasses.replace(TINY, gate=gate)) is reward


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a finished run of one step by PPO, `run`, and how to start others on its data."""
    folder = tmp_path_factory.mktemp("ppo")
    write_training_list(folder)

    def start(name, settings, **keys):
        job = loop.Job(read_list(folder / "list.json"), folder / "cache", folder / name, **keys)
        loop.train(settings, job, ALONE)
        return folder / name

    start("run", TINY)
    return folder, start


class TestRun:
    def test_moves_and_is_in_the_checkpoint_alone(self, trained):
        folder, _ = trained
        head = state.read_checkpoint(folder / "run" / state.CHECKPOINT_FILE)["value_head"]
        assert set(head) == {"layer.weight", "layer.bias"}
        assert any(bool(value.any()) for value in head.values())
        glance = {name for name in build_run(TINY, ALONE).glance.state_dict() if "num_batches" not in name}
        assemble.assemble([folder / "run"], [folder / "run"], folder / "assembled")
        for weights in (folder / "run" / "weights", folder / "assembled"):
            assert set(load_file(weights / "glance.safetensors")) == glance
            assert not any("value" in name for name in load_file(weights / "focus.safetensors"))

    def test_a_checkpoint_without_it_is_refused_by_name(self, trained):
        _, start = trained
        path = start("damaged", TINY) / state.CHECKPOINT_FILE
        data = state.read_checkpoint(path)
        del data["value_head"]
        torch.save(data, path)
        with pytest.raises(WeightsError, match=rf"{path}: has no value_head, which gate ppo_detection needs"):
            start("damaged", dataclasses.replace(TINY, steps=2), resume=True)

    def test_other_gates_keep_the_checkpoint_that_they_had(self, trained):
        _, start = trained
        settings = dataclasses.replace(TINY, gate="grpo_detection")
        path = start("grpo", settings) / state.CHECKPOINT_FILE
        assert "value_head" not in state.read_checkpoint(path)
        start("grpo", dataclasses.replace(settings, steps=2), resume=True)
        assert state.read_checkpoint(path)["step"] == 2

    def test_a_new_run_takes_the_glance_and_a_fresh_head(self, trained):
        folder, _ = trained
        run = build_run(dataclasses.replace(TINY, init_glance=str(folder / "run")), ALONE)
        learnt = state.read_checkpoint(folder / "run" / state.CHECKPOINT_FILE)["glance"]
        for name, value in run.glance.named_parameters():
            assert torch.equal(value, learnt[name]), name
        assert not any(bool(value.any()) for value in run.value_head.state_dict().values())
