"""Model folders as nnU-Net v2 writes them, with networks of a few channels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from eval.efficiency.nnunet_example import dataset_of, plans_of, write_example

Json = dict[str, Any]


def settings_of(plans: Json) -> Json:
    """The configuration 3d_fullres of plans."""
    return plans["configurations"]["3d_fullres"]


def arguments_of(plans: Json) -> Json:
    """The network's settings of plans."""
    return settings_of(plans)["architecture"]["arch_kwargs"]


def tiny_model(
    folder: Path,
    *,
    folds: int = 1,
    plans: Callable[[Json], Any] = lambda _: None,
    dataset: Callable[[Json], Any] = lambda _: None,
    **options: Any,
) -> Path:
    """Write a tiny model, its plans and dataset changed in place by two functions; returns its folder."""
    own_plans, own_dataset = plans_of("tiny"), dataset_of("tiny")
    plans(own_plans)
    dataset(own_dataset)
    return write_example(folder, own_plans, own_dataset, folds=folds, **options)


def residual(plans: Json) -> None:
    """Change plans to a residual encoder."""
    architecture = settings_of(plans)["architecture"]
    architecture["network_class_name"] = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    arguments = architecture["arch_kwargs"]
    arguments["n_blocks_per_stage"] = arguments.pop("n_conv_per_stage")
