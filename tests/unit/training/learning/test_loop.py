"""The loop on a painted scan with tiny networks: every stage and gate, resume, full disk, two processes, the clock."""

import dataclasses
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from gfscreen import files
from gfscreen.command.cli import main
from gfscreen.config import OperatingPoint, read_plan
from gfscreen.errors import OutputError, UsageError, WeightsError
from gfscreen.finding_plan import FindingMeasure, FindingModel
from gfscreen.network_plan import FocusConfig, Int8Input
from gfscreen.networks.models.manifest import change_plan
from gfscreen.networks.models.weights import init_weights, load_networks
from gfscreen.training.data.lists import read_list
from gfscreen.training.data.sampling import Sample
from gfscreen.training.learning import assemble, loop, state
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.initialisation import build_run
from gfscreen.training.learning.validation import score_crop
from tests.helpers.tiny_training import TINY
from tests.helpers.training_lists import write_training_list

ALONE = World(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_training_list(folder)
    return folder


def job(data_folder, folder, **keys):
    return loop.Job(read_list(data_folder / "list.json"), data_folder / "cache", folder, **keys)


def tensors(folder):
    data = state.read_checkpoint(folder / state.CHECKPOINT_FILE)
    found = {}
    for part in ("focus", "glance", "focus_average", *(("value_head",) if "value_head" in data else ())):
        found |= {f"{part}.{name}": value for name, value in data[part].items()}
    return found


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def journal(folder):
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


class TestStages:
    @pytest.mark.parametrize(
        ("stage", "gate"),
        [("focus", "none"), ("joint", "none"), ("joint", "ce"), ("joint", "grpo_detection"), ("joint", "grpo_dice"),
         ("glance", "grpo_detection"), ("joint", "ppo_detection"), ("glance", "ppo_dice"), ("focus", "ppo_dice")],
    )  # fmt: skip
    def test_trains_what_it_should_and_writes_weights(self, stage, gate, data_folder, tmp_path):
        settings = dataclasses.replace(
            TINY, stage=stage, gate=gate, steps=1, group=3, batch=2, pool=4, glance_cells=0.5
        )
        before = build_run(settings, ALONE) if torch.manual_seed(settings.seed) else None
        start = {"glance": before.glance.state_dict(), "focus": before.focus.state_dict()}
        weights = loop.train(settings, job(data_folder, tmp_path / "run"), ALONE)
        plan, _, _ = load_networks(weights)
        assert plan.weights == "trained"
        assert plan.focus == TINY.focus
        after = tensors(tmp_path / "run")
        moved = {
            part: any(not torch.equal(value, after[f"{part}.{name}"]) for name, value in start[part].items())
            for part in ("focus", "glance")
        }
        assert moved == {"focus": stage != "glance", "glance": stage != "focus" and gate != "none"}
        (report,) = journal(tmp_path / "run")
        assert report["seconds_per_step"] > 0
        if moved["glance"]:
            assert {
                "reward_mean",
                "reward_std",
                "kl",
                "clip_fraction",
                "entropy",
                "glance_recall",
                "glance_kept",
            } <= set(report)
            assert report["clip_fraction"] == 0  # right after a refresh every ratio is 1
        with_value = moved["glance"] and gate.startswith("ppo")
        assert ("value_loss" in report) == ("value_head.layer.weight" in after) == with_value

    def test_one_lesion_can_be_learnt(self, data_folder, tmp_path):
        settings = dataclasses.replace(
            TINY, steps=10, focus_learning_rate=3e-3, warmup_steps=1, lesion_prior=0.1, dice_background=False
        )
        loop.train(settings, job(data_folder, tmp_path / "run"), ALONE)
        losses = [line["focus_loss"] for line in journal(tmp_path / "run")]
        assert np.mean(losses[-3:]) < np.mean(losses[:3])

    def test_stops_by_the_clock(self, data_folder, tmp_path):
        settings = dataclasses.replace(TINY, steps=10_000, schedule="clock")
        loop.train(settings, job(data_folder, tmp_path / "run", minutes=0.5 / 60), ALONE)
        steps = state.read_checkpoint(tmp_path / "run" / "checkpoint.pt")["step"]
        assert 1 <= steps < 100


class TestDrawWorkers:
    @pytest.mark.parametrize("stage", ["focus", "joint", "glance"])
    def test_change_nothing(self, stage, data_folder, tmp_path):
        settings = dataclasses.replace(
            TINY, stage=stage, steps=3, group=2, batch=1, accumulation=2, pool=2, pool_refresh=1, small_lesion_ml=1.0
        )
        loop.train(settings, job(data_folder, tmp_path / "alone"), ALONE)
        loop.train(dataclasses.replace(settings, draw_workers=2), job(data_folder, tmp_path / "workers"), ALONE)
        assert_equal(tensors(tmp_path / "alone"), tensors(tmp_path / "workers"))

    def test_an_error_in_a_worker_ends_the_run(self, data_folder, tmp_path, monkeypatch):
        def fail(*_args, **_kwargs):
            raise ValueError("no such draw")

        monkeypatch.setattr(loop.PatchSampler, "draw", fail)
        with pytest.raises(ValueError, match="no such draw"):
            loop.train(dataclasses.replace(TINY, draw_workers=1), job(data_folder, tmp_path), ALONE)

    def test_a_request_to_stop_that_reaches_them_too_is_answered_by_the_run(self, data_folder, tmp_path, monkeypatch):
        take = loop.Draws.take

        def stopped(draws, step):
            samples = take(draws, step)
            # What `timeout` or a terminal sends to a whole process group.
            workers = [worker.pid for worker in multiprocessing.active_children()]
            assert len(workers) == 2
            for process in [*workers, os.getpid()]:
                if os.getpgid(process) == os.getpgid(0):
                    os.kill(process, signal.SIGTERM)
            return samples

        monkeypatch.setattr(loop.Draws, "take", stopped)
        settings = dataclasses.replace(TINY, steps=10_000, draw_workers=2)
        weights = loop.train(settings, job(data_folder, tmp_path), ALONE)
        assert (weights / "focus.safetensors").is_file()
        assert 1 <= state.read_checkpoint(tmp_path / "checkpoint.pt")["step"] <= 3

    @pytest.mark.parametrize("stage", ["focus", "glance"])
    def test_none_are_left_when_the_clock_ends_the_run(self, stage, data_folder, tmp_path):
        settings = dataclasses.replace(TINY, stage=stage, steps=10_000, schedule="clock", draw_workers=2, pool=2)
        loop.train(settings, job(data_folder, tmp_path, minutes=0.5 / 60), ALONE)
        assert not multiprocessing.active_children()


class TestResume:
    @pytest.mark.parametrize(
        ("stage", "gate"),
        [("focus", "none"), ("joint", "grpo_detection"), ("glance", "grpo_detection"), ("joint", "ppo_detection"),
         ("glance", "ppo_dice")],
    )  # fmt: skip
    def test_equals_an_uninterrupted_run(self, stage, gate, data_folder, tmp_path):
        settings = dataclasses.replace(
            TINY, stage=stage, gate=gate, steps=3, group=2, reference_every=2, pool=2, pool_refresh=1
        )
        loop.train(settings, job(data_folder, tmp_path / "whole"), ALONE)
        # A clock that is already over stops the first part after one step.
        original = loop.progress
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "progress", lambda s, r, m: 1.0 if r.step >= 1 else original(s, r, m))
            loop.train(settings, job(data_folder, tmp_path / "parts"), ALONE)
        torch.manual_seed(99)
        loop.train(settings, job(data_folder, tmp_path / "parts", resume=True), ALONE)
        assert_equal(tensors(tmp_path / "whole"), tensors(tmp_path / "parts"))
        assert [line["step"] for line in journal(tmp_path / "parts")] == [1, 2, 3]

    def test_other_settings_are_refused(self, data_folder, tmp_path):
        loop.train(dataclasses.replace(TINY, steps=1), job(data_folder, tmp_path / "run"), ALONE)
        other = dataclasses.replace(TINY, focus_learning_rate=0.5)
        with pytest.raises(WeightsError, match=r"was made with focus_learning_rate 0\.0003, the settings say 0\.5"):
            loop.train(other, job(data_folder, tmp_path / "run", resume=True), ALONE)

    def test_checkpoint_of_another_preset_is_refused(self, data_folder, tmp_path):
        loop.train(dataclasses.replace(TINY, steps=1), job(data_folder, tmp_path / "run"), ALONE)
        with pytest.raises(WeightsError, match="was made with preset 'fast'"):
            loop.train(
                dataclasses.replace(TINY, preset="paper"), job(data_folder, tmp_path / "run", resume=True), ALONE
            )

    def test_nothing_to_resume(self, data_folder, tmp_path):
        with pytest.raises(WeightsError, match="no checkpoint to resume from"):
            loop.train(TINY, job(data_folder, tmp_path, resume=True), ALONE)

    def test_glance_starts_from_a_focus_run(self, data_folder, tmp_path):
        loop.train(dataclasses.replace(TINY, steps=1), job(data_folder, tmp_path / "focus"), ALONE)
        settings = dataclasses.replace(TINY, stage="glance", steps=1, pool=4, init=str(tmp_path / "focus"))
        run = build_run(settings, ALONE)
        trained = tensors(tmp_path / "focus")
        for name, value in run.focus.state_dict().items():
            assert torch.equal(value, trained[f"focus_average.{name}"])


class TestCheckpoint:
    def test_full_disk_keeps_the_old_one(self, data_folder, tmp_path, monkeypatch):
        folder = tmp_path / "run"
        loop.train(dataclasses.replace(TINY, steps=1), job(data_folder, folder), ALONE)
        before = (folder / state.CHECKPOINT_FILE).read_bytes()

        def full(descriptor):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(files.os, "fsync", full)
        run = build_run(TINY, ALONE)
        with pytest.raises(OutputError, match=r"No space left.*previous checkpoint stands"):
            state.save_checkpoint(folder, run, TINY)
        assert (folder / state.CHECKPOINT_FILE).read_bytes() == before
        assert not list(folder.glob("*.tmp"))
        loop.keep(job(data_folder, folder), run, TINY)  # only warns

    def test_damaged(self, tmp_path):
        (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
        with pytest.raises(WeightsError, match="not a readable checkpoint"):
            state.read_checkpoint(tmp_path / "checkpoint.pt")

    def test_settings_of_a_later_version_are_refused_by_name(self, data_folder, tmp_path):
        """Whether a run is resumed from it or started from it: the file and the setting are named."""
        path = tmp_path / "run" / state.CHECKPOINT_FILE
        loop.train(dataclasses.replace(TINY, steps=1), job(data_folder, tmp_path / "run"), ALONE)
        data = state.read_checkpoint(path)
        data["settings"]["invented"] = 1
        torch.save(data, path)
        message = rf"{path}: its settings are not known to this version \(settings: unknown key 'invented'"
        with pytest.raises(WeightsError, match=message):
            loop.train(TINY, job(data_folder, tmp_path / "run", resume=True), ALONE)
        with pytest.raises(WeightsError, match=message):
            build_run(dataclasses.replace(TINY, init=str(tmp_path / "run")), ALONE)

    def test_average_forgets_the_start(self):
        network = torch.nn.Linear(1, 1)
        average = state.Average(network, 0.99)
        with torch.no_grad():
            network.weight.fill_(5.0)
        for _ in range(60):
            average.update(network)
        assert float(average.network.weight) == pytest.approx(5.0, abs=0.05)


def test_lesion_prior():
    focus = build_run(dataclasses.replace(TINY, lesion_prior=0.02), ALONE).focus
    bias = dict(focus.named_parameters())["out.conv.conv.bias"]
    assert float(torch.softmax(bias.detach(), 0)[1]) == pytest.approx(0.02)


def test_rates():
    settings = dataclasses.replace(TINY, steps=100, warmup_steps=10, focus_learning_rate=1.0)
    run = build_run(settings, ALONE)
    rates = []
    for run.step in (0, 9, 50, 99):
        rates.append(loop.set_rates(settings, run, 0.0)["focus_rate"])
    # 1/10 of the cosine's start; 1 x cos part at 9 %; half; nearly nothing.
    assert rates == pytest.approx([0.1, 0.980, 0.5, 0.0002], abs=1e-3)


def test_score_of_a_crop():
    label = np.zeros((20, 20, 20), np.uint8)
    label[5:7, 5:7, 5:7] = 1
    predicted = np.zeros(label.shape, bool)
    predicted[5:7, 5:7, 5] = True  # 4 of 8 voxels
    predicted[19, 19, 19] = True  # one far away
    score = score_crop(predicted, Sample(np.zeros(label.shape, np.float32), label, "real", 0), (1.0, 1.0, 3.0))
    assert score.found
    assert score.dice == pytest.approx(2 * 4 / (5 + 8))
    assert score.dice_within_10_mm == pytest.approx(2 * 4 / (4 + 8))
    assert score.false_positive_ml == pytest.approx(0.003)


@pytest.mark.parametrize("predicted_at", [(0, 0, 0), (10, 10, 10), (19, 19, 19)])
def test_without_a_lesion_nothing_is_near_one(predicted_at):
    """Not even at the corner from which scipy measures where there is no background."""
    sample = Sample(np.zeros((20, 20, 20), np.float32), np.zeros((20, 20, 20), np.uint8), "background", 0)
    predicted = np.zeros((20, 20, 20), bool)
    predicted[predicted_at] = True
    score = score_crop(predicted, sample, (1.0, 1.0, 3.0))
    assert not score.found
    assert score.lesion_ml == 0.0
    # One voxel of 3 mm3, all of it false wherever it lies.
    assert score.false_positive_ml == pytest.approx(0.003)


def test_a_crop_that_is_all_lesion_has_everything_near_it():
    label = np.ones((8, 8, 8), np.uint8)
    score = score_crop(
        np.ones(label.shape, bool), Sample(np.zeros(label.shape, np.float32), label, "real", 0), (1.0,) * 3
    )
    assert (score.dice, score.dice_within_10_mm, score.false_positive_ml) == (1.0, 1.0, 0.0)


class TestCommand:
    def run(self, *words):
        return main(["train", *(str(w) for w in words)])

    def settings_file(self, tmp_path, **keys):
        path = tmp_path / "settings.json"
        path.write_text(json.dumps({**TINY.to_json(), **keys}))
        return path

    def test_trains_and_resumes(self, data_folder, tmp_path, monkeypatch, capsys):
        monkeypatch.setenv("MALLOC_TOP_PAD_", "1")  # stay in this process
        config, out = self.settings_file(tmp_path), tmp_path / "run"
        words = ("--config", config, "--data", data_folder / "list.json", "-o", out, "--cache", data_folder / "cache")
        assert self.run(*words, "--steps", 1) == 0
        assert self.run(*words, "--steps", 2, "--resume") == 0
        assert state.read_checkpoint(out / "checkpoint.pt")["step"] == 2
        assert json.loads((out / "settings.json").read_text())["stage"] == "focus"
        assert self.run(*words) == 2
        assert "holds a checkpoint already" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("words", "message"),
        [(("--max-minutes", "0"), "must be above 0"), (("--steps", "0"), "must be at least 1")],
    )
    def test_wrong_usage(self, words, message, data_folder, tmp_path, capsys):
        basic = ("--preset", "fast", "--data", data_folder / "list.json", "-o", tmp_path / "run")
        assert self.run(*basic, *words) == 2
        assert message in capsys.readouterr().err

    @pytest.mark.slow
    @pytest.mark.parametrize("gate", ["grpo_detection", "ppo_detection"])
    def test_two_processes_agree(self, gate, data_folder, tmp_path):
        """Two gloo processes of one sub-volume each end with the same weights, and write once."""
        config = self.settings_file(tmp_path, stage="joint", gate=gate, steps=2, group=2)
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MALLOC_TOP_PAD_": "1", "PYTHONWARNINGS": "ignore"}
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "gfscreen", "train",
            "--config", str(config), "--data", str(data_folder / "list.json"), "-o", str(tmp_path / "run"),
            "--cache", str(data_folder / "cache"), "--device", "cpu",
        ]  # fmt: skip
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        assert [line["step"] for line in journal(tmp_path / "run")] == [1, 2]
        load_networks(tmp_path / "run" / "weights")
        assert Path(tmp_path / "run" / "checkpoint.pt").is_file()


@pytest.fixture(scope="module")
def runs(data_folder, tmp_path_factory):
    """Two runs, `b` from where `a` ended."""
    folder = tmp_path_factory.mktemp("runs")
    loop.train(TINY, job(data_folder, folder / "a"), ALONE)
    further = dataclasses.replace(TINY, init=str(folder / "a"), seed=1)
    loop.train(further, job(data_folder, folder / "b"), ALONE)
    return folder


class TestAssemble:
    def test_mean_of_two_runs_with_the_glance_and_gate_that_were_asked_for(self, runs, tmp_path):
        a, b, target = runs / "a", runs / "b", tmp_path / "weights"
        call = ["--focus", str(a), "--focus", str(b), "--glance", str(b), "-o", str(target), "--gate", "0.25"]
        assert main(["assemble", *call]) == 0
        plan, glance, focus = load_networks(target)
        assert (plan.gate, plan.weights) == (0.25, "trained")
        left, right = tensors(a), tensors(b)
        moved = 0
        for name, value in focus.state_dict().items():
            one, two = left[f"focus_average.{name}"], right[f"focus_average.{name}"]
            expected = (one + two) / 2 if value.is_floating_point() else one
            # The weights folder is half precision.
            torch.testing.assert_close(value.float(), expected.float(), rtol=1e-3, atol=1e-6)
            moved += not torch.equal(one, two)
        assert moved
        for name, value in glance.state_dict().items():
            torch.testing.assert_close(value.float(), right[f"glance.{name}"].float(), rtol=1e-3, atol=1e-6)

    def test_a_run_goes_on_from_a_weights_folder(self, runs, data_folder, tmp_path):
        assemble.assemble([runs / "a"], [runs / "b"], tmp_path / "shipped")
        settings = dataclasses.replace(TINY, init=str(tmp_path / "shipped"))
        run = build_run(settings, ALONE)
        for network, prefix, folder in ((run.focus, "focus_average", "a"), (run.glance, "glance", "b")):
            expected = tensors(runs / folder)
            for name, value in network.state_dict().items():
                if value.is_floating_point():
                    torch.testing.assert_close(value, expected[f"{prefix}.{name}"].half().float())

    def test_weights_of_another_network_are_refused(self, runs, tmp_path):
        assemble.assemble([runs / "a"], [runs / "b"], tmp_path / "shipped")
        other = dataclasses.replace(
            TINY, init=str(tmp_path / "shipped"), focus=FocusConfig(12, (1, 1, 1, 1), (1, 1, 1, 2))
        )
        with pytest.raises(WeightsError, match="does not fit the plan"):
            build_run(other, ALONE)

    def test_thresholds_of_other_networks_are_not_taken_over_in_silence(self, runs, tmp_path, caplog):
        shipped = tmp_path / "shipped"
        assemble.assemble([runs / "a"], [runs / "b"], shipped)
        assert not caplog.records
        change_plan(shipped, lesion_threshold=0.2)
        assemble.assemble([shipped], [shipped], tmp_path / "weights")
        (said,) = caplog.messages
        assert said == (
            f"{shipped}: not taken over, chosen for its own networks: lesion_threshold 0.5 (there 0.2); choose anew "
            "with python -m eval peak, or keep them with --thresholds"
        )

    def test_thresholds_of_weights_that_a_run_went_on_from_are_kept_on_request(self, runs, tmp_path, caplog):
        shipped, target = tmp_path / "shipped", tmp_path / "weights"
        assemble.assemble([runs / "a"], [runs / "b"], shipped)
        points = (OperatingPoint("sensitive", 0.1, 0.0, 0.1, 0.2),)
        model = FindingModel(-1.0, (FindingMeasure("length", 0.3, 0.2, -0.7, (0.1,)),), 0.5)
        change_plan(
            shipped, lesion_threshold=0.2, gate=0.25, min_finding_ml=0.1, operating_points=points, finding_model=model,
            finding_from=0.4, look_from=0.1,
        )  # fmt: skip
        assemble.assemble([runs / "a", shipped], [shipped], target, thresholds=shipped)
        assert read_plan(target) == read_plan(shipped)
        assemble.assemble([runs / "a"], [shipped], target, gate=0.5, thresholds=shipped)
        assert read_plan(target) == dataclasses.replace(read_plan(shipped), gate=0.5)
        assert not caplog.records
        other = tmp_path / "other"
        init_weights(
            other, dataclasses.replace(read_plan(shipped), focus=FocusConfig(12, (1, 1, 1, 1), (1, 1, 1, 2))), 0
        )
        with pytest.raises(UsageError, match=r"--thresholds .*other: has another focus; choose thresholds anew"):
            assemble.assemble([runs / "a"], [shipped], target, thresholds=other)

    def test_spans_of_whole_numbers_stay_with_the_weights_that_they_were_chosen_for(self, runs, tmp_path):
        shipped, spans = tmp_path / "shipped", (Int8Input("decoder1.conv_block.conv2.conv", 0.0, 9.0),)
        assemble.assemble([runs / "a"], [runs / "b"], shipped)
        change_plan(shipped, focus_int8=spans)
        for focus, kept in (([shipped], spans), ([shipped, runs / "b"], ()), ([runs / "a"], ())):
            target = tmp_path / str(len(list(tmp_path.iterdir())))
            assemble.assemble(focus, [shipped], target, thresholds=shipped)
            assert read_plan(target).focus_int8 == kept

    def test_weights_folders_in_place_of_runs(self, runs, tmp_path):
        """What was assembled can be averaged with a run that goes on from it, and lend its Glance."""
        shipped, target = tmp_path / "shipped", tmp_path / "weights"
        assemble.assemble([runs / "a"], [runs / "b"], shipped)
        manifest = assemble.assemble([shipped, runs / "b"], [shipped], target)
        _, glance, focus = load_networks(target)
        left, right = tensors(runs / "a"), tensors(runs / "b")
        for name, value in focus.state_dict().items():
            if value.is_floating_point():
                expected = (left[f"focus_average.{name}"].half().float() + right[f"focus_average.{name}"].float()) / 2
                torch.testing.assert_close(value.float(), expected, rtol=1e-3, atol=1e-6)
        for name, value in glance.state_dict().items():
            torch.testing.assert_close(value.float(), right[f"glance.{name}"].float(), rtol=1e-3, atol=1e-6)
        assert manifest.info["focus_runs"] == ["shipped", "b"]
        # The Glance's steps as the folder noted them, which was itself assembled of one run.
        assert manifest.info["glance_steps"] == [[TINY.steps]]

    def test_mean_of_two_glances(self, runs, tmp_path):
        manifest = assemble.assemble([runs / "a"], [runs / "a", runs / "b"], tmp_path / "weights")
        _, glance, _ = load_networks(tmp_path / "weights")
        left, right = tensors(runs / "a"), tensors(runs / "b")
        for name, value in glance.state_dict().items():
            if value.is_floating_point():
                expected = (left[f"glance.{name}"] + right[f"glance.{name}"]).float() / 2
                torch.testing.assert_close(value.float(), expected, rtol=1e-3, atol=1e-6)
        assert any(not torch.equal(left[f"glance.{name}"], right[f"glance.{name}"]) for name in glance.state_dict())
        assert (manifest.info["glance_runs"], manifest.info["glance_steps"]) == (["a", "b"], [TINY.steps] * 2)

    def test_one_alone_is_as_it_was(self):
        """Minus zero is a zero of the same value and other bytes: `eval gates` tells a Focus by its bytes."""
        assert torch.signbit(assemble.mean([{"weight": torch.tensor([-0.0])}])["weight"]).item()

    def test_other_networks_have_no_mean(self, runs, data_folder, tmp_path, capsys):
        other = dataclasses.replace(TINY, focus=FocusConfig(12, (1, 1, 1, 1), (1, 1, 1, 2)), steps=1)
        loop.train(other, job(data_folder, tmp_path / "c"), ALONE)
        call = ["--focus", str(runs / "a"), "--focus", str(tmp_path / "c"), "--glance", str(runs / "a")]
        assert main(["assemble", *call, "-o", str(tmp_path / "weights")]) == 2
        assert "different Focus networks" in capsys.readouterr().err
        assert not (tmp_path / "weights").exists()
