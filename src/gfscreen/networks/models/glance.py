"""Glance: a 3D ResNet that tells suspicious sub-volumes from the rest.

Layout of the published checkpoints: `backbone` is MONAI's ResNet without its classifier and with global max pooling
(a lesion of a few voxels must not be averaged away), `layer` a linear layer with two classes on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from monai.networks.nets.resnet import ResNet, ResNetBlock
from torch import Tensor, nn

from gfscreen.network_plan import GlanceConfig

_BLOCKS = {"resnet10": [1, 1, 1, 1], "resnet18": [2, 2, 2, 2], "resnet34": [3, 4, 6, 3]}
LESION_CLASS = 1
# Logits per mean activation; activations are about 0.5 in the mean.
VOTE = 4.0


class ZeroPaddedShortcut(nn.Module):
    """The residual connection "A" where a stage changes size: every `stride`-th voxel, new channels are 0.

    Gives MONAI's values and, as there, no gradient. MONAI's own takes `.data`, which tracing records as a constant: an
    export would carry the shortcut of its example input instead of computing that of the scan.
    """

    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.channels = channels
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, X, Y, Z) -> (N, channels, X / stride, Y / stride, Z / stride), sizes rounded up."""
        n = self.stride
        kept = x[:, :, ::n, ::n, ::n].detach()
        return nn.functional.pad(kept, (0, 0, 0, 0, 0, 0, 0, self.channels - kept.shape[1]))


class Glance(nn.Module):
    """Logits for {not suspicious, lesion} of sub-volumes.

    Input: float tensor (N, 1, X, Y, Z), HU window applied, values in [0, 1]. Output: (N, 2).
    `cells` says where in the sub-volume the suspicion lies, at every stage: one cell for 4, 8, 16 and 32 voxels at
    first stride 2. Training may use them, inference does not.
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
        for block in self.backbone.modules():
            if isinstance(block, ResNetBlock) and isinstance(block.downsample, partial):
                options = block.downsample.keywords
                block.downsample = ZeroPaddedShortcut(options["planes"], options["stride"])
        if config.pooling == "max":
            self.backbone.avgpool = nn.AdaptiveMaxPool3d(1)
        self.layer = nn.Sequential(nn.Linear(config.stage_channels[-1], 2))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (N, 2)."""
        logits: Tensor = self.layer(self.backbone(x))
        return logits

    @contextmanager
    def stages_kept(self) -> Iterator[list[Tensor]]:
        """Collects the feature maps (N, C, x, y, z) of the four stages of a pass, finest first, also through DDP."""
        kept: list[Tensor] = []
        stages = (self.backbone.layer1, self.backbone.layer2, self.backbone.layer3, self.backbone.layer4)
        hooks = [stage.register_forward_hook(lambda _module, _inputs, output: kept.append(output)) for stage in stages]
        try:
            yield kept
        finally:
            for hook in hooks:
                hook.remove()

    def cells(self, stages: Sequence[Tensor]) -> list[Tensor]:
        """Logits (N, 2, x, y, z) of every place of each stage's feature map.

        The last stage has the classifier. In the others the first half of the channels votes for a lesion, the second
        half against it: training has nothing to add to the network and nothing to take away afterwards.
        """
        votes = []
        for stage in stages[:-1]:
            half = stage.shape[1] // 2
            votes.append(VOTE * torch.stack([stage[:, half:].mean(dim=1), stage[:, :half].mean(dim=1)], dim=1))
        last: Tensor = self.layer(stages[-1].movedim(1, -1))
        return [*votes, last.movedim(-1, 1)]


class GlanceProbability(nn.Module):
    """Glance followed by softmax: probability of "lesion", (N,) float32. This is what engines run."""

    def __init__(self, glance: Glance) -> None:
        super().__init__()
        self.glance = glance

    def forward(self, x: Tensor) -> Tensor:
        """Lesion probability (N,) of sub-volumes (N, 1, X, Y, Z)."""
        return torch.softmax(self.glance(x).float(), dim=1)[:, LESION_CLASS]
