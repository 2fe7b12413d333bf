"""An nnU-Net v2 model folder with random weights: what nnU-Net's predictor and `gfscreen convert --nnunet` both read.

`omnilesion`: the residual encoder of FLARE26's first, 3x2x2 mm, three channels of one CT. `plain`: a default
PlainConvUNet, 3d_fullres. `tiny`: a few channels, for tests. nnU-Net is not needed: the tensors are named as it does.
"""

from __future__ import annotations

import argparse
import json
from copy import deepcopy
from pathlib import Path
from typing import Any

KINDS = ("omnilesion", "plain", "tiny")
# What each input channel of `omnilesion` is made of, for `--channels` of `convert` and of `nnunet-peer`.
OMNILESION_CHANNELS = "ct,-150:250,-1000:400"
_INTENSITIES = {
    "max": 3000.0, "mean": -44.7, "median": 39.0, "min": -1024.0, "percentile_00_5": -856.0,
    "percentile_99_5": 728.0, "std": 245.3,
}  # fmt: skip


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval nnunet-example`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="model folder to write")
    parser.add_argument("--kind", choices=KINDS, default="tiny", help="network and plan (default: tiny)")
    parser.add_argument("--folds", type=int, default=1, help="number of folds (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")


def run(args: argparse.Namespace) -> int:
    """Write the folder."""
    write_example(args.output, plans_of(args.kind), dataset_of(args.kind), folds=args.folds, seed=args.seed)
    return 0


def plans_of(kind: str) -> dict[str, Any]:
    """plans.json of an example, as nnU-Net 2.8 writes it."""
    stages = 3 if kind == "tiny" else 6
    features = [4, 6, 8] if kind == "tiny" else [32, 64, 128, 256, 320, 320]
    residual = kind == "omnilesion"
    counts = [1, 3, 4, 6, 6, 6][:stages] if residual else [2] * stages
    channels = 3 if residual else 1
    patch = {"omnilesion": [96, 128, 128], "plain": [96, 128, 128], "tiny": [16, 24, 24]}[kind]
    spacing = {"omnilesion": [3.0, 2.0, 2.0], "plain": [2.5, 0.8, 0.8], "tiny": [5.0, 4.0, 4.0]}[kind]
    name = "ResidualEncoderUNet" if residual else "PlainConvUNet"
    architecture = {
        "network_class_name": f"dynamic_network_architectures.architectures.unet.{name}",
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": features,
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[3, 3, 3]] * stages,
            "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 2) + [[1, 2, 2] if kind == "omnilesion" else [2, 2, 2]],
            "n_blocks_per_stage" if residual else "n_conv_per_stage": counts,
            "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }
    resampling = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
    function = "resample_data_or_seg_to_shape"
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": patch,
        "median_image_size_in_voxels": [200.0, 200.0, 200.0],
        "spacing": spacing,
        "normalization_schemes": ["CTNormalization", "NoNormalization", "NoNormalization"][:channels],
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": function,
        "resampling_fn_seg": function,
        "resampling_fn_data_kwargs": dict(resampling),
        "resampling_fn_seg_kwargs": {**resampling, "is_seg": True, "order": 1},
        "resampling_fn_probabilities": function,
        "resampling_fn_probabilities_kwargs": {**resampling, "order": 1},
        "architecture": architecture,
        "batch_dice": True,
    }
    return {
        "dataset_name": "Dataset901_Lesion",
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [2.0, 0.75, 0.75],
        "original_median_shape_after_transp": [134, 512, 512],
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(n): dict(_INTENSITIES) for n in range(channels)},
    }


def dataset_of(kind: str) -> dict[str, Any]:
    """dataset.json of an example."""
    names = ("CT", "soft tissue", "lung")[: 3 if kind == "omnilesion" else 1]
    return {
        "channel_names": {str(number): name for number, name in enumerate(names)},
        "labels": {"background": 0, "lesion": 1},
        "numTraining": 2,
        "file_ending": ".nii.gz",
    }


def write_example(
    folder: Path,
    plans: dict[str, Any],
    dataset: dict[str, Any],
    *,
    folds: int = 1,
    seed: int = 0,
    trainer: str = "nnUNetTrainer",
) -> Path:
    """Write plans.json, dataset.json and fold_N/checkpoint_final.pth; returns the folder.

    The tensors are as nnU-Net's checkpoints have them: every layer also in its block's list, the encoder also in the
    decoder, and a head for every stage of the decoder.
    """
    import torch

    from gfscreen.networks.models.nnunet import UNet
    from gfscreen.networks.models.nnunet_files import nnunet_config

    configuration = next(iter(plans["configurations"]))
    channels = len(dataset["channel_names"])
    config = nnunet_config(plans, dataset, configuration, str(folder), windows=(None,) * channels, lesion=None)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "plans.json").write_text(json.dumps(plans, indent=1), encoding="utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1), encoding="utf-8")
    for fold in range(folds):
        torch.manual_seed(seed + fold)
        network = UNet(channels, len(config.outputs), config.unet)
        state = {}
        for name, value in network.state_dict().items():
            stored = name.replace("decoder.head.", f"decoder.seg_layers.{len(config.unet.features) - 2}.")
            state[stored] = value
            for own, position in ((".conv.", 0), (".norm.", 1)):
                block, found, tail = stored.rpartition(own)
                if found:
                    state[f"{block}.all_modules.{position}.{tail}"] = value
        for number, features in enumerate(reversed(config.unet.features[1:-1])):
            head = torch.nn.Conv3d(features, len(config.outputs), 1)
            state |= {f"decoder.seg_layers.{number}.{name}": value for name, value in head.state_dict().items()}
        state |= {f"decoder.{name}": value for name, value in state.items() if name.startswith("encoder.")}
        init = {"plans": deepcopy(plans), "configuration": configuration, "fold": fold, "dataset_json": dataset}
        place = folder / f"fold_{fold}"
        place.mkdir(exist_ok=True)
        data = {
            "network_weights": state, "trainer_name": trainer, "init_args": init, "current_epoch": 1000,
            "inference_allowed_mirroring_axes": (0, 1, 2), "logging": {}, "_best_ema": 0.5,
            "grad_scaler_state": None, "optimizer_state": {},
        }  # fmt: skip
        torch.save(data, place / "checkpoint_final.pth")
    return folder
