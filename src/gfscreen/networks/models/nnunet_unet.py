"""The network that nnU-Net's plans describe -> our `UNetConfig`, or what of it is not supported. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from gfscreen.errors import WeightsError
from gfscreen.nnunet_plan import AXES, UNetConfig

_ENCODERS: dict[str, Literal["plain", "residual"]] = {"PlainConvUNet": "plain", "ResidualEncoderUNet": "residual"}
_PLAIN_KEY, _RESIDUAL_KEY = "n_conv_per_stage", "n_blocks_per_stage"
_KNOWN_ARGUMENTS = {
    "n_stages", "features_per_stage", "conv_op", "kernel_sizes", "strides", "n_conv_per_stage_decoder", "conv_bias",
    "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin", "nonlin_kwargs", "deep_supervision",
    "block", "bottleneck_channels", "stem_channels", _PLAIN_KEY, _RESIDUAL_KEY,
}  # fmt: skip

Json = Mapping[str, Any]


def unet_config(settings: Json, source: str) -> UNetConfig:
    """The network of a configuration, as since nnU-Net 2.4 in `architecture`, or as before it. Raises WeightsError."""
    if "architecture" in settings:
        name = str(settings["architecture"]["network_class_name"])
        given: Json = settings["architecture"]["arch_kwargs"]
    else:
        name, given = str(settings["UNet_class_name"]), _older_arguments(settings)
    encoder = _ENCODERS.get(name.rpartition(".")[2])
    if encoder is None or ("." in name and not name.startswith("dynamic_network_architectures.")):
        raise WeightsError(f"{source}: network class {name!r} is not supported; supported are {', '.join(_ENCODERS)}")
    if unknown := sorted(set(given) - _KNOWN_ARGUMENTS):
        raise WeightsError(f"{source}: the network's setting {unknown[0]!r} is not supported; train without it")
    operations = {
        "conv_op": (str(given.get("conv_op", "Conv3d")), ("Conv3d",)),
        "norm_op": (str(given.get("norm_op", "InstanceNorm3d")), ("InstanceNorm3d",)),
        "nonlin": (str(given.get("nonlin", "LeakyReLU")), ("LeakyReLU", "ReLU")),
        "block": (str(given.get("block") or "BasicBlockD").rstrip("'>"), ("BasicBlockD", "BottleneckD")),
    }
    for key, (value, known) in operations.items():
        if value.rpartition(".")[2] not in known:
            raise WeightsError(f"{source}: the network's {key} {value!r} is not supported; supported: {known[0]}")
    norm = dict(given.get("norm_op_kwargs") or {})
    if unknown := sorted(set(norm) - {"eps", "affine"}):
        raise WeightsError(f"{source}: the normalisation's setting {unknown[0]!r} is not supported; train without it")
    relu = operations["nonlin"][0].rpartition(".")[2] == "ReLU"
    slope = 0.0 if relu else float((given.get("nonlin_kwargs") or {}).get("negative_slope", 0.01))
    stages = int(given["n_stages"])
    blocks = given[_PLAIN_KEY if encoder == "plain" else _RESIDUAL_KEY]
    narrow = given.get("bottleneck_channels") if operations["block"][0].endswith("BottleneckD") else None
    stem = given.get("stem_channels")
    return UNetConfig(
        encoder=encoder,
        features=_per_stage(given["features_per_stage"], stages),
        kernels=tuple(_per_axis(kernel) for kernel in as_list(given["kernel_sizes"], stages)),
        strides=tuple(_per_axis(stride) for stride in as_list(given["strides"], stages)),
        blocks=_per_stage(blocks, stages),
        decoder_convs=_per_stage(given["n_conv_per_stage_decoder"], stages - 1),
        conv_bias=bool(given.get("conv_bias", False)),
        norm_eps=float(norm.get("eps", 1e-5)),
        norm_affine=bool(norm.get("affine", False)),
        negative_slope=slope,
        bottleneck=None if narrow is None else _per_stage(narrow, stages),
        stem_channels=None if stem is None else int(stem),
    )


def _older_arguments(settings: Json) -> dict[str, Any]:
    """The network's settings where plans are older than nnU-Net 2.4, which had them beside the others."""
    stages = len(settings["n_conv_per_stage_encoder"])
    base, most = int(settings["UNet_base_num_features"]), int(settings["unet_max_num_features"])
    blocks = _PLAIN_KEY if settings["UNet_class_name"] == "PlainConvUNet" else _RESIDUAL_KEY
    return {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
        "kernel_sizes": settings["conv_kernel_sizes"],
        "strides": settings["pool_op_kernel_sizes"],
        blocks: settings["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": settings["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    }


def as_list(value: Any, count: int) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value] * count


def _per_stage(value: Any, stages: int) -> tuple[int, ...]:
    return tuple(int(n) for n in as_list(value, stages))


def _per_axis(value: Any) -> tuple[int, ...]:
    return _per_stage(value, AXES)
