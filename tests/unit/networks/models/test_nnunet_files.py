"""nnU-Net's plans.json and dataset.json: read as nnU-Net reads them, or refused by name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eval.efficiency.nnunet_example import dataset_of, plans_of
from gfscreen.config import plan_from_json, plan_to_json, preset_plan
from gfscreen.errors import WeightsError
from gfscreen.networks.models.nnunet_files import nnunet_config, parse_channels, read_json, with_mirroring
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling
from tests.helpers.nnunet_models import arguments_of, residual, settings_of

CHANNELS = [None, (-150.0, 250.0), (-1000.0, 400.0)]


def read(
    plans: Callable[[dict[str, Any]], Any] = lambda _: None,
    dataset: Callable[[dict[str, Any]], Any] = lambda _: None,
    kind: str = "tiny",
    configuration: str = "3d_fullres",
    **options: Any,
) -> NnunetConfig:
    own_plans, own_dataset = plans_of(kind), dataset_of(kind)
    plans(own_plans)
    dataset(own_dataset)
    return nnunet_config(own_plans, own_dataset, configuration, "model", **options)


def setting(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plans: settings_of(plans).update({key: value})


def argument(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda plans: arguments_of(plans).update({key: value})


class TestRead:
    def test_a_default_plan(self):
        config = read(kind="plain", folds=5)
        assert (config.folds, config.outputs, config.lesion, config.scores) == (5, ("background", "lesion"), (1,), 1)
        assert config.spacing_mm == (2.5, 0.8, 0.8)
        assert config.patch_voxels == (96, 128, 128)
        assert config.unet.encoder == "plain"
        assert config.unet.features == (32, 64, 128, 256, 320, 320)
        assert config.unet.divisor == (32, 32, 32)
        assert config.channels == (InputChannel("ct", None, (-856.0, 728.0), -44.7, 245.3),)
        assert config.data_resampling == Resampling(3, 0, None)
        assert config.logit_resampling == Resampling(1, 0, None)
        assert config.mirror_axes == ()

    def test_three_channels_of_one_ct(self):
        config = read(kind="omnilesion", windows=CHANNELS)
        assert config.unet.encoder == "residual"
        assert config.unet.blocks == (1, 3, 4, 6, 6, 6)
        assert [channel.window_hu for channel in config.channels] == CHANNELS
        assert [channel.normalisation for channel in config.channels] == ["ct", "none", "none"]

    def test_plans_older_than_2_4_have_the_network_beside_the_rest(self):
        def older(plans: dict[str, Any]) -> None:
            settings = settings_of(plans)
            arguments = settings.pop("architecture")["arch_kwargs"]
            settings |= {
                "UNet_class_name": "PlainConvUNet", "UNet_base_num_features": 4, "unet_max_num_features": 8,
                "n_conv_per_stage_encoder": [2, 2, 2], "n_conv_per_stage_decoder": [2, 2],
                "num_pool_per_axis": [2, 2, 2], "pool_op_kernel_sizes": arguments["strides"],
                "conv_kernel_sizes": arguments["kernel_sizes"],
            }  # fmt: skip

        config = read(older)
        assert config.unet.features == (4, 8, 8)
        assert config.unet.blocks == (2, 2, 2)
        assert config.unet == read(lambda plans: arguments_of(plans).update(features_per_stage=[4, 8, 8])).unet

    def test_a_configuration_inherits(self):
        def inherit(plans: dict[str, Any]) -> None:
            plans["configurations"]["own"] = {"inherits_from": "3d_fullres", "spacing": [6.0, 4.0, 4.0]}

        assert read(inherit, configuration="own").spacing_mm == (6.0, 4.0, 4.0)

    def test_one_number_stands_for_every_stage(self):
        def short(plans: dict[str, Any]) -> None:
            arguments_of(plans).update(n_conv_per_stage=2, n_conv_per_stage_decoder=2, kernel_sizes=3)

        assert read(short) == read()

    def test_labels_in_the_order_of_their_numbers_and_lesions_by_name(self):
        labels = {"background": 0, "Pancreas tumor": 2, "liver": 1, "ignore": 3}
        config = read(dataset=lambda data: data.update(labels=labels))
        assert config.outputs == ("background", "liver", "Pancreas tumor")
        assert (config.lesion, config.scores, config.regions) == ((2,), 3, False)
        assert read(dataset=lambda data: data.update(labels=labels), lesion=["liver"]).lesion == (1,)

    def test_regions(self):
        labels = {"background": 0, "organ": [1, 2], "lesion": 2}

        def regions(data: dict[str, Any]) -> None:
            data.update(labels=labels, regions_class_order=[1, 2])

        config = read(dataset=regions)
        assert (config.outputs, config.lesion, config.regions, config.scores) == (("organ", "lesion"), (1,), True, 1)

    def test_readers_decide_on_the_orientation(self):
        assert read(lambda plans: plans.update(image_reader_writer="NibabelIO")).orientation == "file"
        assert read(lambda plans: plans.update(image_reader_writer="NibabelIOWithReorient")).orientation == "ras"

    def test_mirroring_only_where_the_training_allows_it(self):
        assert with_mirroring(read(), (0, 2), "x").mirror_axes == (0, 2)
        with pytest.raises(WeightsError, match="leave out --mirror"):
            with_mirroring(read(), None, "x")

    def test_the_plan_survives_json(self):
        plan = preset_plan("fast")
        data = plan_to_json(plan)
        data |= {"second_look": 0.0, "nnunet": json.loads(json.dumps(plan_to_json_nnunet(read(residual))))}
        again = plan_from_json(data, "x")
        assert again.nnunet == read(residual)
        assert plan_from_json(plan_to_json(again), "x") == again


def plan_to_json_nnunet(config: NnunetConfig) -> Any:
    import dataclasses

    return dataclasses.asdict(config)


class TestRefused:
    @pytest.mark.parametrize(
        ("plans", "message"),
        [
            (lambda plans: plans.pop("configurations"), "no key `configurations`"),
            (lambda plans: (plans.pop("configurations"), plans.update(plans_per_stage={})), "nnU-Net v1"),
            (setting("patch_size", [64, 64]), "configuration '3d_fullres' is 2d, which is not supported"),
            (setting("previous_stage", "3d_lowres"), "cascade, which is not supported; convert 3d_fullres"),
            (setting("preprocessor_name", "MyPreprocessor"), "preprocessor 'MyPreprocessor' is not supported"),
            (setting("normalization_schemes", ["RGBTo01Normalization"]), "normalisation 'RGBTo01Normalization'"),
            (lambda plans: plans.update(image_reader_writer="NaturalImage2DIO"), "image reader 'NaturalImage2DIO'"),
            (lambda plans: plans.update(label_manager="Own"), "label manager 'Own' is not supported"),
            (setting("resampling_fn_data", "resample_torch_fornnunet"), "resampling 'resample_torch_fornnunet'"),
            (argument("norm_op", "torch.nn.modules.batchnorm.BatchNorm3d"), "norm_op 'torch.nn.modules.batchnorm"),
            (argument("conv_op", "torch.nn.modules.conv.Conv2d"), "conv_op 'torch.nn.modules.conv.Conv2d'"),
            (argument("nonlin", "torch.nn.GELU"), "nonlin 'torch.nn.GELU' is not supported"),
            (argument("nonlin_first", True), "the network's setting 'nonlin_first' is not supported"),
            (argument("norm_op_kwargs", {"momentum": 0.1}), "the normalisation's setting 'momentum'"),
            (setting("patch_size", [18, 24, 24]), r"patch_voxels must be multiples of \(4, 4, 4\)"),
            (setting("spacing", [0, 1, 1]), "spacing_mm must be three positive lengths"),
            (lambda plans: settings_of(plans).pop("spacing"), "key 'spacing' is missing"),
            (lambda plans: plans.pop("foreground_intensity_properties_per_channel"), "key '0' is missing"),
        ],
    )
    def test_what_is_not_supported(self, plans, message):
        with pytest.raises(WeightsError, match=message) as caught:
            read(plans)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith("model: ")

    @pytest.mark.parametrize(
        "name",
        [
            "dynamic_network_architectures.architectures.primus.Primus",
            "dynamic_network_architectures.architectures.unet.ResidualUNet",
            "my.networks.PlainConvUNet",
        ],
    )
    def test_network_classes(self, name):
        message = f"network class '{name}' is not supported; supported are PlainConvUNet, ResidualEncoderUNet"
        with pytest.raises(WeightsError, match=re.escape(message)):
            read(lambda plans: settings_of(plans)["architecture"].update(network_class_name=name))

    def test_zscore_inside_a_mask(self):
        def masked(plans: dict[str, Any]) -> None:
            settings_of(plans).update(normalization_schemes=["ZScoreNormalization"], use_mask_for_norm=[True])

        with pytest.raises(WeightsError, match="inside a mask"):
            read(masked)

    def test_an_unknown_configuration(self):
        with pytest.raises(WeightsError, match="no configuration '3d_lowres'; name one of 3d_fullres"):
            read(configuration="3d_lowres")

    def test_inheritance_in_a_circle(self):
        with pytest.raises(WeightsError, match="cannot be resolved"):
            read(setting("inherits_from", "3d_fullres"))

    def test_labels(self):
        with pytest.raises(WeightsError, match=r"which of the labels liver, spleen are lesion. Say so with --lesion"):
            read(dataset=lambda data: data.update(labels={"background": 0, "liver": 1, "spleen": 2}))
        with pytest.raises(WeightsError, match="has no label 'cyst'; --lesion takes lesion"):
            read(lesion=["cyst"])
        with pytest.raises(WeightsError, match="must have label 0"):
            read(dataset=lambda data: data.update(labels={"lesion": 1}))
        with pytest.raises(WeightsError, match="no regions_class_order"):
            read(dataset=lambda data: data.update(labels={"background": 0, "lesion": [1, 2]}))

    def test_several_channels_without_a_word_on_how_they_are_made(self):
        with pytest.raises(WeightsError, match=r"takes 3 channels .CT, soft tissue, lung.; say how each .* --channels"):
            read(kind="omnilesion")
        with pytest.raises(WeightsError, match=r"takes 3 channel\(s\), --channels names 1"):
            read(kind="omnilesion", windows=[None])


def test_channels_of_the_command_line():
    assert list(parse_channels("ct,-150:250, -1000:400")) == CHANNELS
    for text in ("", "ct,", "100", "250:-150", "a:b", "1:2:3"):
        with pytest.raises(ValueError, match="expected `ct` or LOW:HIGH"):
            parse_channels(text)


def test_files_that_are_not_there_or_damaged(tmp_path: Path):
    with pytest.raises(WeightsError, match="not there; name the folder of a trained nnU-Net v2 model"):
        read_json(tmp_path / "plans.json")
    (tmp_path / "plans.pkl").touch()
    with pytest.raises(WeightsError, match="nnU-Net v1, which is not supported"):
        read_json(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text("{")
    with pytest.raises(WeightsError, match="not readable as JSON"):
        read_json(tmp_path / "plans.json")
    (tmp_path / "plans.json").write_text("[]")
    with pytest.raises(WeightsError, match="expected an object, got list"):
        read_json(tmp_path / "plans.json")
