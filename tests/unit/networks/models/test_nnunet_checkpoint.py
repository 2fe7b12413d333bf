"""nnU-Net v2's checkpoints: converted without loss and without running their code, or refused by name."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from eval.efficiency.nnunet_example import dataset_of, plans_of  # noqa: E402 - torch is optional
from gfscreen.config import preset_plan, read_plan  # noqa: E402
from gfscreen.errors import WeightsError  # noqa: E402
from gfscreen.finding_plan import FindingMeasure, FindingModel  # noqa: E402
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, Int8Input, SecondFocusConfig  # noqa: E402
from gfscreen.networks.models.glance import Glance  # noqa: E402
from gfscreen.networks.models.manifest import read_manifest, verify  # noqa: E402
from gfscreen.networks.models.nnunet import NnunetFocus, UNet  # noqa: E402
from gfscreen.networks.models.nnunet_checkpoint import convert_nnunet  # noqa: E402
from gfscreen.networks.models.nnunet_files import nnunet_config  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_networks, stored_precision  # noqa: E402
from tests.helpers.nnunet_models import arguments_of, residual, settings_of, tiny_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
FOLD = Path("fold_0/checkpoint_final.pth")


def changed(model: Path, change: Any, fold: int = 0) -> Path:
    """A model whose checkpoint was changed in place."""
    path = model / f"fold_{fold}" / "checkpoint_final.pth"
    data = torch.load(path, weights_only=True)
    change(data)
    torch.save(data, path)
    return model


def refused(model: Path, target: Path, message: str, **options: Any) -> None:
    """The conversion fails with one line, and nothing is written."""
    with pytest.raises(WeightsError, match=message) as caught:
        convert_nnunet(model, target, **options)
    assert "\n" not in str(caught.value)
    assert not target.exists()


class TestConverted:
    @pytest.mark.parametrize("change", [lambda _: None, residual], ids=["plain", "residual"])
    def test_the_networks_are_those_of_the_checkpoints(self, tmp_path, change):
        model = tiny_model(tmp_path / "model", folds=2, plans=change)
        convert_nnunet(model, tmp_path / "weights")
        verify(tmp_path / "weights")
        plan, glance, focus = load_networks(tmp_path / "weights")
        assert glance is None
        assert isinstance(focus, NnunetFocus)
        assert plan.nnunet is not None
        patch = torch.randn(1, 1, *plan.nnunet.patch_voxels)
        logits = []
        for fold in range(2):
            torch.manual_seed(fold)
            logits.append(UNet(1, 2, plan.nnunet.unet).eval()(patch))
        mean = torch.stack(logits).mean(dim=0)
        assert torch.allclose(focus(patch), mean[:, 1:] - mean[:, :1], atol=1e-5)
        assert (logits[0] - logits[1]).abs().max() > 0.01

    def test_the_plan_goes_nnunets_way_and_has_no_gate(self, tmp_path):
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights")
        plan = read_plan(tmp_path / "weights")
        assert (plan.gate, plan.without_glance, plan.second_look) == (0.0, True, 0.0)
        assert (plan.lesion_threshold, plan.finding_peak, plan.min_finding_ml, plan.weights) == (
            0.5,
            0.5,
            0.0,
            "trained",
        )
        info = read_manifest(tmp_path / "weights").info
        assert (info["nnunet_configuration"], info["nnunet_folds"]) == ("3d_fullres", ["fold_0"])

    def test_with_a_glance_the_gate_is_its(self, tmp_path):
        init_weights(tmp_path / "glance", preset_plan("fast"), 0)
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights", glance=tmp_path / "glance")
        plan, glance, _ = load_networks(tmp_path / "weights")
        _, own, _ = load_networks(tmp_path / "glance")
        assert (plan.gate, plan.without_glance) == (0.9, False)
        state = glance.state_dict()
        assert all(torch.equal(value, state[name]) for name, value in own.state_dict().items())

    def test_cells_beside_that_glance_stay_behind(self, tmp_path):
        """They say where Focus may mark, which a Focus of nnU-Net's is not told; so the trunk is not needed either."""
        cells = CellGlanceConfig(role="marks")
        init_weights(tmp_path / "glance", replace(preset_plan("fast"), cells=cells, mark_from=0.2), 0)
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights", glance=tmp_path / "glance")
        plan, glance, _ = load_networks(tmp_path / "weights")
        assert (plan.cells, plan.mark_from, plan.gate) == (None, 0.0, 0.9)
        assert isinstance(glance, Glance)
        assert not (tmp_path / "weights" / "cells.safetensors").exists()

    def test_what_was_chosen_for_its_own_focus_stays_behind(self, tmp_path):
        model = FindingModel(-1.0, (FindingMeasure("length", 0.3, 0.2, -0.7, (0.1,)),), 0.5)
        own = replace(
            preset_plan("fast"), focus_int8=(Int8Input("out.conv", 0.0, 9.0),), finding_model=model, finding_from=0.4,
            second_focus=SecondFocusConfig(FocusConfig(feature_size=12, num_heads=(1, 2, 4, 8), window_size=4)),
        )  # fmt: skip
        init_weights(tmp_path / "glance", own, 0)
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights", glance=tmp_path / "glance")
        plan = read_plan(tmp_path / "weights")
        assert (plan.focus_int8, plan.finding_model, plan.finding_from, plan.second_focus) == ((), None, 0.0, None)
        assert not (tmp_path / "weights" / "second_focus.safetensors").exists()

    def test_a_glance_of_weights_that_have_none(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        convert_nnunet(model, tmp_path / "first")
        refused(model, tmp_path / "weights", "has no Glance of its own", glance=tmp_path / "first")

    def test_prefixes_of_compiled_and_parallel_training(self, tmp_path):
        def prefixed(data: Any) -> None:
            data["network_weights"] = {f"module._orig_mod.{n}": v for n, v in data["network_weights"].items()}

        convert_nnunet(tiny_model(tmp_path / "a"), tmp_path / "one")
        convert_nnunet(changed(tiny_model(tmp_path / "b"), prefixed), tmp_path / "two")
        assert read_manifest(tmp_path / "one").sha256 == read_manifest(tmp_path / "two").sha256

    def test_without_the_heads_of_deep_supervision(self, tmp_path):
        def single(data: Any) -> None:
            weights = data["network_weights"]
            data["network_weights"] = {n: v for n, v in weights.items() if "seg_layers.0." not in n}

        convert_nnunet(tiny_model(tmp_path / "a"), tmp_path / "one")
        convert_nnunet(changed(tiny_model(tmp_path / "b"), single), tmp_path / "two")
        assert read_manifest(tmp_path / "one").sha256 == read_manifest(tmp_path / "two").sha256

    def test_numbers_of_numpys_beside_the_tensors(self, tmp_path):
        def noted(data: Any) -> None:
            data["logging"] = {
                "ema_fg_dice": [np.float64(0.5), np.float32(0.1)],
                "epochs": [np.int64(3)],
                "all": np.arange(3.0),
            }
            data["_best_ema"] = np.float64(0.7)

        model = tiny_model(tmp_path / "model")
        data = torch.load(model / FOLD, weights_only=True)
        noted(data)
        torch.save(data, model / FOLD)
        convert_nnunet(model, tmp_path / "weights")

    def test_half_precision_on_demand(self, tmp_path):
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights", precision="float16")
        assert stored_precision(tmp_path / "weights" / "focus.safetensors") == "float16"

    def test_mirroring_along_the_axes_of_the_training(self, tmp_path):
        convert_nnunet(tiny_model(tmp_path / "model"), tmp_path / "weights", mirror=True)
        assert read_plan(tmp_path / "weights").nnunet.mirror_axes == (0, 1, 2)

    @pytest.mark.parametrize(
        ("folds", "expected"),
        [(None, [0, 1, 2]), ("all", [0, 1, 2]), ("1", [1]), ("2,0", [2, 0])],
    )
    def test_folds(self, tmp_path, folds, expected):
        convert_nnunet(tiny_model(tmp_path / "model", folds=3), tmp_path / "weights", folds=folds)
        assert read_manifest(tmp_path / "weights").info["nnunet_folds"] == [f"fold_{n}" for n in expected]

    def test_a_training_on_all_data(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        (model / "fold_0").rename(model / "fold_all")
        convert_nnunet(model, tmp_path / "weights")
        assert read_manifest(tmp_path / "weights").info["nnunet_folds"] == ["fold_all"]

    def test_an_unfinished_fold_counts_only_if_it_is_asked_for(self, tmp_path):
        model = tiny_model(tmp_path / "model", folds=2)
        (model / "fold_1" / "checkpoint_final.pth").rename(model / "fold_1" / "checkpoint_best.pth")
        convert_nnunet(model, tmp_path / "weights")
        assert read_plan(tmp_path / "weights").nnunet.folds == 1
        refused(model, tmp_path / "all", "there is only checkpoint_best.pth: finish the training", folds="all")


class TestRefused:
    def test_a_folder_without_checkpoint(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        shutil.rmtree(model / "fold_0")
        refused(model, tmp_path / "weights", "holds no fold_N with checkpoint_final.pth")
        (model / "fold_0").mkdir()
        refused(model, tmp_path / "weights", "fold_0/checkpoint_final.pth: no such checkpoint")

    def test_a_missing_fold(self, tmp_path):
        model = tiny_model(tmp_path / "model", folds=2)
        refused(model, tmp_path / "w", "has no fold_4; there are fold_0, fold_1: name these with --folds", folds="0,4")
        refused(model, tmp_path / "w", "--folds 0,0 names a fold twice", folds="0,0")

    def test_no_model_folder_at_all(self, tmp_path):
        refused(tmp_path / "nowhere", tmp_path / "weights", "plans.json: not there")

    def test_a_checkpoint_of_other_plans(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        plans = plans_of("tiny")
        settings_of(plans)["spacing"] = [3.0, 2.0, 2.0]
        (model / "plans.json").write_text(json.dumps(plans))
        refused(model, tmp_path / "weights", "was trained with other plans than plans.json beside it: spacing_mm is")

    def test_a_checkpoint_of_another_network_that_does_not_say_so(self, tmp_path):
        model = changed(tiny_model(tmp_path / "model"), lambda data: data.pop("init_args"))
        plans = plans_of("tiny")
        arguments_of(plans)["features_per_stage"] = [4, 6, 10]
        (model / "plans.json").write_text(json.dumps(plans))
        refused(model, tmp_path / "weights", r"does not fit the plan: .* has shape")

    def test_a_trainer_with_a_head_of_its_own(self, tmp_path):
        def own_head(data: Any) -> None:
            data["trainer_name"] = "nnUNetTrainerPresence"
            data["network_weights"]["presence.weight"] = torch.zeros(1, 8)

        model = changed(tiny_model(tmp_path / "model"), own_head)
        refused(
            model, tmp_path / "weights", r"trainer nnUNetTrainerPresence, which may have a network of its own.*unknown"
        )

    def test_a_configuration_that_it_was_not_trained_with(self, tmp_path):
        def another(plans: Any) -> None:
            plans["configurations"]["3d_lowres"] = {"inherits_from": "3d_fullres", "spacing": [6.0, 5.0, 5.0]}

        model = tiny_model(tmp_path / "model", plans=another)
        refused(model, tmp_path / "w", "was trained with configuration '3d_fullres'", configuration="3d_lowres")

    def test_weights_that_are_not_finite(self, tmp_path):
        def spoilt(data: Any) -> None:
            data["network_weights"]["encoder.stages.0.0.convs.0.conv.weight"][0] = float("nan")

        refused(changed(tiny_model(tmp_path / "model"), spoilt), tmp_path / "weights", "hold NaN or infinity")

    def test_code_in_the_pickle_is_not_run(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        data = torch.load(model / FOLD, weights_only=True)
        data["logging"] = Touches(tmp_path / "ran")
        torch.save(data, model / FOLD)
        refused(model, tmp_path / "weights", r"holds \S+ beside its tensors, which could run code and is not load")
        assert not (tmp_path / "ran").exists()

    def test_a_damaged_file_and_one_of_something_else(self, tmp_path):
        model = tiny_model(tmp_path / "model")
        (model / FOLD).write_bytes(b"no checkpoint")
        refused(model, tmp_path / "weights", "not a readable checkpoint")
        torch.save({"state_dict": {}}, model / FOLD)
        refused(model, tmp_path / "weights", "expected a dictionary with 'network_weights' of tensors")


class Touches:
    """Leaves a file behind where its pickle is run."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def test_our_networks_are_nnunets(tmp_path):
    """Against dynamic-network-architectures, where it is installed: the same tensors, the same answers."""
    unets = pytest.importorskip("dynamic_network_architectures.architectures.unet")
    for change in (lambda _: None, residual):
        plans = plans_of("tiny")
        change(plans)
        arguments_of(plans)["features_per_stage"] = [4, 8, 8]
        config = nnunet_config(plans, dataset_of("tiny"), "3d_fullres", "x")
        given = dict(arguments_of(plans), conv_op=torch.nn.Conv3d, norm_op=torch.nn.InstanceNorm3d)
        given["nonlin"] = torch.nn.LeakyReLU
        kind = settings_of(plans)["architecture"]["network_class_name"].rpartition(".")[2]
        theirs = getattr(unets, kind)(input_channels=1, num_classes=2, deep_supervision=False, **given).eval()
        model = tiny_model(tmp_path / kind, plans=lambda own, new=plans: own.update(new))
        state = dict(theirs.state_dict())
        changed(model, lambda data, state=state: data.update(network_weights=state))
        convert_nnunet(model, tmp_path / f"w-{kind}")
        _, _, ours = load_networks(tmp_path / f"w-{kind}")
        patch = torch.randn(1, 1, *config.patch_voxels)
        with torch.no_grad():
            logits = theirs(patch)
            assert torch.allclose(ours(patch), logits[:, 1:] - logits[:, :1], atol=1e-5)
