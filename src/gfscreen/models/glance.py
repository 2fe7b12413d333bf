"""Glance: a 3D ResNet that tells suspicious sub-volumes from the rest.

Layout of the published checkpoints: `backbone` is MONAI's ResNet without its classifier and with global max pooling
(a lesion of a few voxels must not be averaged away), `layer` a linear layer with two classes on top.
"""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from monai.networks.nets.resnet import ResNet, ResNetBlock
from torch import Tensor, nn

from gfscreen.config import GlanceConfig

_BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3]}
LESION_CLASS = 1


def zero_padded_shortcut(x: Tensor, planes: int, stride: int) -> Tensor:
    """Shortcut of type A: every `stride`-th voxel of x (N, C, X, Y, Z), zeros up to `planes` channels; no gradient.

    The values and gradients of MONAI's own, which takes `.data` where this detaches: an export by tracing does not see
    `.data`, and froze the shortcut to the activations of the example that it was traced with.
    """
    kept = F.avg_pool3d(x, kernel_size=1, stride=stride).detach()
    return F.pad(kept, (0, 0, 0, 0, 0, 0, 0, planes - kept.shape[1]))


def _make_shortcuts_traceable(backbone: nn.Module) -> None:
    for block in backbone.modules():
        own = getattr(block, "downsample", None)
        if isinstance(own, partial):
            block.downsample = partial(  # type: ignore[assignment]
                zero_padded_shortcut, planes=own.keywords["planes"], stride=own.keywords["stride"]
            )


class Glance(nn.Module):
    """Logits for {not suspicious, lesion} of sub-volumes.

    Input: float tensor (N, 1, X, Y, Z), HU window applied, values in [0, 1]. Output: (N, 2).
    """

    def __init__(self, config: GlanceConfig) -> None:
        super().__init__()
        self.backbone = ResNet(
            block=ResNetBlock,
            layers=_BLOCKS[config.architecture],
            block_inplanes=list(config.stage_channels),
            spatial_dims=3,
            n_input_channels=1,
            conv1_t_size=7,
            conv1_t_stride=config.first_stride,
            shortcut_type=config.shortcut,
            feed_forward=False,
            bias_downsample=config.bias_downsample,
        )
        _make_shortcuts_traceable(self.backbone)
        if config.pooling == "max":
            self.backbone.avgpool = nn.AdaptiveMaxPool3d(1)
        self.layer = nn.Sequential(nn.Linear(config.stage_channels[-1], 2))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        logits: Tensor = self.layer(self.backbone(x))
        return logits


class GlanceProbability(nn.Module):
    """Glance followed by softmax: probability of "lesion", (N,) float32. This is what engines run."""

    def __init__(self, glance: Glance) -> None:
        super().__init__()
        self.glance = glance

    def forward(self, x: Tensor) -> Tensor:
        """Lesion probability (N,) of sub-volumes (N, 1, X, Y, Z)."""
        return torch.softmax(self.glance(x).float(), dim=1)[:, LESION_CLASS]
