"""Checkpoints in the layout of the published code: one `.pt` with `state_dict` of both networks.

The sizes of the networks are read off the tensors; what tensors cannot tell is what the published code fixes: first
stride 1, max pooling, the patch merging of MONAI before 1.5, and the box of all voxels above the HU window's floor.
"""

from __future__ import annotations

import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from gfscreen.config import Plan, preset_plan
from gfscreen.errors import WeightsError
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.models.manifest import Manifest
from gfscreen.networks.models.weights import build_networks, load_state, save_weights

GLANCE_PREFIX = "glance_model."
FOCUS_PREFIX = "segmentation_model."
_ARCHITECTURES: dict[tuple[int, ...], Literal["resnet10", "resnet18", "resnet34"]] = {
    (1, 1, 1, 1): "resnet10",
    (2, 2, 2, 2): "resnet18",
    (3, 4, 6, 3): "resnet34",
}


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a checkpoint without executing any of its pickled code. Raises WeightsError."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no such checkpoint; name the .pt file that training wrote") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a readable checkpoint ({reason}); copy the file again") from error
    state = data.get("state_dict", data) if isinstance(data, dict) else None
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{path}: expected a dictionary with 'state_dict' of tensors; is it a published checkpoint?")
    # torchrun's DDP wraps the model and prefixes every name.
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _glance_config(state: dict[str, Tensor], path: Path) -> GlanceConfig:
    blocks = tuple(
        len({name.split(".")[2] for name in state if name.startswith(f"backbone.layer{i}.")}) for i in range(1, 5)
    )
    architecture = _ARCHITECTURES.get(blocks)
    if architecture is None:
        raise WeightsError(f"{path}: Glance has {blocks} blocks per stage; ResNet-10, -18 and -34 are known")
    widths = tuple(int(state[f"backbone.layer{i}.0.conv1.weight"].shape[0]) for i in range(1, 5))
    has_downsample = "backbone.layer2.0.downsample.0.weight" in state
    return GlanceConfig(
        architecture=architecture,
        stage_channels=widths,
        first_stride=(1, 1, 1),
        shortcut="B" if has_downsample else "A",
        bias_downsample="backbone.layer2.0.downsample.0.bias" in state or not has_downsample,
        pooling="max",
    )


def _focus_config(state: dict[str, Tensor], merging: Literal["legacy", "monai"]) -> FocusConfig:
    depths, heads, window_size = [], [], 0
    for stage in range(1, 5):
        pattern = re.compile(rf"swinViT\.layers{stage}\.0\.blocks\.(\d+)\.attn\.relative_position_bias_table")
        found = [match for name in state if (match := pattern.fullmatch(name))]
        depths.append(len(found))
        offsets, head_count = state[found[0].string].shape
        heads.append(int(head_count))
        # The table has a row for each of the (2w - 1)^3 offsets between two voxels of a window.
        window_size = (round(int(offsets) ** (1 / 3)) + 1) // 2
    return FocusConfig(
        feature_size=int(state["swinViT.patch_embed.proj.weight"].shape[0]),
        depths=tuple(depths),
        num_heads=tuple(heads),
        use_v2=any(name.startswith("swinViT.layers1c.") for name in state),
        patch_merging=merging,
        window_size=window_size,
    )


def convert_checkpoint(
    path: Path,
    folder: Path,
    *,
    merging: Literal["legacy", "monai"] = "legacy",
    precision: Literal["keep", "float16", "float32"] = "keep",
) -> Manifest:
    """Turn a published checkpoint into a weights folder that gives the published mask. Raises WeightsError."""
    state = read_checkpoint(path)
    glance_state = {n.removeprefix(GLANCE_PREFIX): v for n, v in state.items() if n.startswith(GLANCE_PREFIX)}
    focus_state = {n.removeprefix(FOCUS_PREFIX): v for n, v in state.items() if n.startswith(FOCUS_PREFIX)}
    if not glance_state or not focus_state:
        raise WeightsError(
            f"{path}: expected tensors named {GLANCE_PREFIX}* and {FOCUS_PREFIX}*, found "
            f"{len(glance_state)} and {len(focus_state)}; only the published layout can be converted"
        )
    try:
        glance_config, focus_config = _glance_config(glance_state, path), _focus_config(focus_state, merging)
    except (KeyError, IndexError) as error:
        raise WeightsError(f"{path}: tensor {error} is missing; only the published layout can be converted") from error
    plan: Plan = replace(
        preset_plan("paper"), weights="trained", foreground="hu_floor", glance=glance_config, focus=focus_config
    )
    for network, part in zip(build_networks(plan), (glance_state, focus_state), strict=True):
        load_state(network, part, str(path))
    return save_weights(folder, plan, glance_state, focus_state, precision=precision, info={"source": path.name})
