"""Focus as nnU-Net v2 trained it: its U-Nets, plain or with a residual encoder, as one ensemble.

Written anew after what nnU-Net computes, so that no run needs nnU-Net or what it is built on. Tensors have nnU-Net's
names, without those that stand twice or three times in its checkpoints (convert: `nnunet_checkpoint.py`). Only the head
at full resolution is kept: the others, of deep supervision, are for training.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from gfscreen.nnunet_plan import NnunetConfig, UNetConfig


class ConvBlock(nn.Module):
    """Convolution, instance normalisation and, unless told otherwise, leaky ReLU."""

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        unet: UNetConfig,
        *,
        bias: bool,
        activated: bool = True,
    ) -> None:
        super().__init__()
        kernel_3d, stride_3d = _triple(kernel), _triple(stride)
        padding = _triple([(size - 1) // 2 for size in kernel])
        self.conv = nn.Conv3d(*channels, kernel_3d, stride_3d, padding, bias=bias)
        self.norm = nn.InstanceNorm3d(channels[1], eps=unet.norm_eps, affine=unet.norm_affine)
        self.nonlin: nn.Module = nn.LeakyReLU(unet.negative_slope, inplace=True) if activated else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels[0], X, Y, Z) -> (N, channels[1], X / stride, Y / stride, Z / stride)."""
        result: Tensor = self.nonlin(self.norm(self.conv(x)))
        return result


class ConvStack(nn.Module):
    """Convolution blocks one after the other, the first of which has the stride."""

    def __init__(
        self, count: int, channels: tuple[int, int], kernel: Sequence[int], stride: Sequence[int], unet: UNetConfig
    ) -> None:
        super().__init__()
        first = ConvBlock(channels, kernel, stride, unet, bias=unet.conv_bias)
        inner = (channels[1], channels[1])
        rest = [ConvBlock(inner, kernel, (1, 1, 1), unet, bias=unet.conv_bias) for _ in range(count - 1)]
        self.convs = nn.Sequential(first, *rest)

    def forward(self, x: Tensor) -> Tensor:
        """As the first block."""
        result: Tensor = self.convs(x)
        return result


class ResidualBlock(nn.Module):
    """Two convolutions, or three with fewer channels between them, added to what came in."""

    def __init__(
        self,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        unet: UNetConfig,
        inner: int | None,
    ) -> None:
        super().__init__()
        before, after = channels
        one, bias = (1, 1, 1), unet.conv_bias
        if inner is None:
            self.conv1 = ConvBlock((before, after), kernel, stride, unet, bias=bias)
            self.conv2 = ConvBlock((after, after), kernel, one, unet, bias=bias, activated=False)
        else:
            self.conv1 = ConvBlock((before, inner), one, one, unet, bias=bias)
            self.conv2 = ConvBlock((inner, inner), kernel, stride, unet, bias=bias)
            self.conv3 = ConvBlock((inner, after), one, one, unet, bias=bias, activated=False)
        self.nonlin = nn.LeakyReLU(unet.negative_slope, inplace=True)
        ways: list[nn.Module] = []
        if any(step != 1 for step in stride):
            ways.append(nn.AvgPool3d(_triple(stride), _triple(stride)))
        if before != after:
            ways.append(ConvBlock((before, after), one, one, unet, bias=False, activated=False))
        self.skip = nn.Sequential(*ways)
        self.convolutions = 2 if inner is None else 3

    def forward(self, x: Tensor) -> Tensor:
        """(N, before, X, Y, Z) -> (N, after, X / stride, Y / stride, Z / stride)."""
        out: Tensor = self.conv2(self.conv1(x))
        if self.convolutions == 3:
            out = self.conv3(out)
        result: Tensor = self.nonlin(out + self.skip(x))
        return result


class ResidualStage(nn.Module):
    """Residual blocks one after the other, the first of which has the stride."""

    def __init__(
        self,
        count: int,
        channels: tuple[int, int],
        kernel: Sequence[int],
        stride: Sequence[int],
        unet: UNetConfig,
        inner: int | None,
    ) -> None:
        super().__init__()
        first = ResidualBlock(channels, kernel, stride, unet, inner)
        same = (channels[1], channels[1])
        self.blocks = nn.Sequential(
            first, *[ResidualBlock(same, kernel, (1, 1, 1), unet, inner) for _ in range(count - 1)]
        )

    def forward(self, x: Tensor) -> Tensor:
        """As the first block."""
        result: Tensor = self.blocks(x)
        return result


class Encoder(nn.Module):
    """The way down: the feature maps of all stages, the finest first."""

    def __init__(self, inputs: int, unet: UNetConfig) -> None:
        super().__init__()
        residual = unet.encoder == "residual"
        before = inputs
        if residual:
            before = unet.stem_channels or unet.features[0]
            self.stem: nn.Module = ConvStack(1, (inputs, before), unet.kernels[0], (1, 1, 1), unet)
        else:
            self.stem = nn.Identity()
        inner = unet.bottleneck or (None,) * len(unet.features)
        stages: list[nn.Module] = []
        per_stage = zip(unet.blocks, unet.features, unet.kernels, unet.strides, inner, strict=True)
        for count, features, kernel, stride, narrow in per_stage:
            if residual:
                stages.append(ResidualStage(count, (before, features), kernel, stride, unet, narrow))
            else:
                stages.append(nn.Sequential(ConvStack(count, (before, features), kernel, stride, unet)))
            before = features
        self.stages = nn.Sequential(*stages)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(N, inputs, X, Y, Z) -> one map per stage."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class Decoder(nn.Module):
    """The way up, with the encoder's maps at each stage, and the head."""

    def __init__(self, outputs: int, unet: UNetConfig) -> None:
        super().__init__()
        stages, transposed = [], []
        for number, count in enumerate(unet.decoder_convs, start=1):
            below, beside = unet.features[-number], unet.features[-number - 1]
            stride = _triple(unet.strides[-number])
            transposed.append(nn.ConvTranspose3d(below, beside, stride, stride, bias=unet.conv_bias))
            kernel = unet.kernels[-number - 1]
            stages.append(ConvStack(count, (2 * beside, beside), kernel, (1, 1, 1), unet))
        self.stages = nn.ModuleList(stages)
        self.transpconvs = nn.ModuleList(transposed)
        self.head = nn.Conv3d(unet.features[0], outputs, 1)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """The encoder's maps -> logits (N, outputs, X, Y, Z)."""
        x = maps[-1]
        for up, stage, beside in zip(self.transpconvs, self.stages, reversed(maps[:-1]), strict=True):
            x = stage(torch.cat([up(x), beside], dim=1))
        logits: Tensor = self.head(x)
        return logits


class UNet(nn.Module):
    """One network of nnU-Net's: (N, inputs, X, Y, Z) -> logits (N, outputs, X, Y, Z)."""

    def __init__(self, inputs: int, outputs: int, unet: UNetConfig) -> None:
        super().__init__()
        self.encoder = Encoder(inputs, unet)
        self.decoder = Decoder(outputs, unet)

    def forward(self, x: Tensor) -> Tensor:
        """Logits; the sides of x must be multiples of the product of the strides."""
        logits: Tensor = self.decoder(self.encoder(x))
        return logits


class NnunetFocus(nn.Module):
    """The ensemble of all folds: (N, channels, X, Y, Z), normalised, axes as nnU-Net's -> scores (N, scores, X, Y, Z).

    Scores are means of the folds' logits: of all labels, or of the regions that are lesion; of two labels alone the
    difference, lesion less background, which is all that softmax sees. What is made of them: `lesion_logit` and
    `lesion_probability` of screening/patch_scores.py.
    """

    def __init__(self, config: NnunetConfig) -> None:
        super().__init__()
        self.config = config
        outputs = len(config.outputs)
        self.folds = nn.ModuleList(UNet(len(config.channels), outputs, config.unet) for _ in range(config.folds))

    def forward(self, x: Tensor) -> Tensor:
        """Scores, float32."""
        logits = (
            torch.stack([fold(x).float() for fold in self.folds]).mean(dim=0)
            if len(self.folds) > 1
            else (self.folds[0](x).float())
        )
        if self.config.regions:
            return logits[:, list(self.config.lesion)]
        return logits[:, 1:] - logits[:, :1] if self.config.scores == 1 else logits


def build_nnunet_focus(config: NnunetConfig) -> NnunetFocus:
    """The network of a plan, with fresh weights, in training mode."""
    return NnunetFocus(config)


def _triple(values: Sequence[int]) -> tuple[int, int, int]:
    x, y, z = values
    return x, y, z
