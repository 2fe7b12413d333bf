"""Focus: SwinUNETR v2, which outlines the lesions of one sub-volume.

The network is MONAI's. Only the order of the neighbours in patch merging is chosen here: MONAI 1.5 changed it silently,
and a checkpoint trained before gives a different mask, without an error, if it is run with the new order.
"""

from __future__ import annotations

from typing import Any

import torch
from monai.networks.blocks import UnetOutBlock
from monai.networks.blocks.unetr_block import UnetrBasicBlock, UnetrUpBlock
from monai.networks.nets.swin_unetr import PatchMergingV2, SwinUNETR
from torch import Tensor, nn

from gfscreen.network_plan import FocusConfig

LESION_CLASS = 1
# The weights of a SwinUNETR (out, channels, x, y, z) that read its input.
INPUT_LAYERS = (
    "swinViT.patch_embed.proj.weight",
    "encoder1.layer.conv1.conv.weight",
    "encoder1.layer.conv3.conv.weight",
)

# Offsets (x, y, z) of the eight neighbours that are concatenated, in MONAI's order before 1.5. Two of them stand twice
# and two corners are never read: a slip of the original that trained weights depend on.
LEGACY_MERGING_OFFSETS = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0), (0, 0, 1), (1, 1, 1))


class LegacyPatchMerging(PatchMergingV2):  # type: ignore[misc]  # MONAI is untyped
    """Patch merging in MONAI's order before 1.5; input (N, X, Y, Z, C), output (N, X/2, Y/2, Z/2, 2C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate every second voxel at the eight legacy offsets, normalise, reduce."""
        _, size_x, size_y, size_z, _ = x.shape
        if size_x % 2 or size_y % 2 or size_z % 2:
            x = nn.functional.pad(x, (0, 0, 0, size_z % 2, 0, size_y % 2, 0, size_x % 2))
        merged = torch.cat([x[:, i::2, j::2, k::2, :] for i, j, k in LEGACY_MERGING_OFFSETS], dim=-1)
        reduced: Tensor = self.reduction(self.norm(merged))
        return reduced


def build_focus(config: FocusConfig, *, use_checkpoint: bool = False) -> nn.Module:
    """SwinUNETR with 2 output channels: (N, C, X, Y, Z) in [0, 1] -> logits (N, 2, X, Y, Z), C as the config says.

    X, Y, Z must be multiples of 32. `use_checkpoint` trades time for memory in training.
    """
    downsample: Any = LegacyPatchMerging if config.patch_merging == "legacy" else "merging"
    network = SwinUNETR(
        in_channels=config.channels,
        out_channels=2,
        feature_size=config.feature_size,
        depths=config.depths,
        num_heads=config.num_heads,
        window_size=config.window_size,
        use_v2=config.use_v2,
        downsample=downsample,
        use_checkpoint=use_checkpoint,
        spatial_dims=3,
    )
    assert isinstance(network, nn.Module)
    if (width := config.full_resolution_width) != config.feature_size:
        network.encoder1 = UnetrBasicBlock(3, config.channels, width, 3, 1, "instance", res_block=True)
        network.decoder1 = UnetrUpBlock(3, config.feature_size, width, 3, 2, "instance", res_block=True)
        network.out = UnetOutBlock(3, width, 2)
    return network


def fitted(state: dict[str, Tensor], config: FocusConfig) -> dict[str, Tensor]:
    """The state of a Focus to go on from, for a config with more input channels, or narrower at full resolution.

    Otherwise it is returned as it is, as is that of a network without these layers.
    """
    return narrowed(widened(state, config), config)


def narrowed(state: dict[str, Tensor], config: FocusConfig) -> dict[str, Tensor]:
    """The state with the channels at full resolution that count most, as many as the config asks for.

    Chosen from the output backwards, by the size of the weights that read them: but for what comes from below, layers
    are normalised, so these tell how much a channel counts. What is left has to be trained on. More channels than
    there are: as it is.
    """
    out = state.get("out.conv.conv.weight")
    width = config.full_resolution_width
    if out is None or out.shape[1] <= width or "decoder1.transp_conv.conv.weight" not in state:
        return state
    result, whole = dict(state), out.shape[1]

    def most(sizes: Tensor) -> Tensor:
        return torch.sort(torch.topk(sizes, width).indices).values

    def size(weight: Tensor, channel_axis: int) -> Tensor:
        sizes: Tensor = torch.linalg.vector_norm(weight.float().transpose(0, channel_axis).flatten(1), dim=1)
        return sizes

    def keep(name: str, axis: int, channels: Tensor) -> Tensor:
        result[name] = result[name].index_select(axis, channels)
        return result[name]

    decoder, encoder = "decoder1.conv_block", "encoder1.layer"
    logit = (out[LESION_CLASS] - out[1 - LESION_CLASS])[None]
    kept = most(size(logit, 1))
    keep("out.conv.conv.weight", 1, kept)
    inner = most(size(keep(f"{decoder}.conv2.conv.weight", 0, kept), 1))
    keep(f"{decoder}.conv2.conv.weight", 1, inner)
    sizes = size(keep(f"{decoder}.conv1.conv.weight", 0, inner), 1)
    sizes = (sizes**2 + size(keep(f"{decoder}.conv3.conv.weight", 0, kept), 1) ** 2).sqrt()
    raised = most(sizes[:whole] * size(result["decoder1.transp_conv.conv.weight"], 1))
    beside = most(sizes[whole:])
    keep("decoder1.transp_conv.conv.weight", 1, raised)
    for name in ("conv1", "conv3"):
        keep(f"{decoder}.{name}.conv.weight", 1, torch.cat([raised, whole + beside]))
    inner = most(size(keep(f"{encoder}.conv2.conv.weight", 0, beside), 1))
    keep(f"{encoder}.conv2.conv.weight", 1, inner)
    keep(f"{encoder}.conv1.conv.weight", 0, inner)
    keep(f"{encoder}.conv3.conv.weight", 0, beside)
    return result


def widened(state: dict[str, Tensor], config: FocusConfig) -> dict[str, Tensor]:
    """The state of a Focus for a config with more input channels: new ones weigh nothing, and it answers as before.

    With as many channels, and of a network without these layers, it is returned as it is.
    """
    result = dict(state)
    for name in INPUT_LAYERS:
        layer = state.get(name)
        if layer is not None and layer.shape[1] < config.channels:
            more = layer.new_zeros(layer.shape[0], config.channels - layer.shape[1], *layer.shape[2:])
            result[name] = torch.cat([layer, more], dim=1)
    return result


class Float32Block(UnetrBasicBlock):  # type: ignore[misc]  # MONAI is untyped
    """A convolution block that stays in float32 under autocast."""

    def forward(self, inp: Tensor) -> Tensor:
        """The block's output in float32."""
        with torch.autocast(inp.device.type, enabled=False):
            result: Tensor = super().forward(inp.float())
        return result


def keep_deepest_float32(focus: nn.Module) -> None:
    """Run the deepest block in float32 whatever the autocast.

    On a CPU the bfloat16 gradient of its 3 x 3 x 3 convolution over a few voxels is sporadically not finite
    (torch 2.13, one pass in about forty); the block is a few per cent of the time. Weights and their names stay.
    """
    focus.encoder10.__class__ = Float32Block


class FocusProbability(nn.Module):
    """Focus followed by softmax: lesion probability per voxel, (N, X, Y, Z) float32. This is what engines run."""

    def __init__(self, focus: nn.Module) -> None:
        super().__init__()
        self.focus = focus

    def forward(self, x: Tensor) -> Tensor:
        """Lesion probability (N, X, Y, Z) of sub-volumes (N, C, X, Y, Z)."""
        return torch.softmax(self.focus(x).float(), dim=1)[:, LESION_CLASS]
