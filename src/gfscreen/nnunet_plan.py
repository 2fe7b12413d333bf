"""What a plan says of a Focus that nnU-Net v2 trained: its network, its own grid, its input, its labels.

All axes are in nnU-Net's order: those of the scan's array, slices first (z, y, x), then transposed as `transpose` says.
Everything is taken over from nnU-Net's own files by `gfscreen convert --nnunet`; nnU-Net itself is not needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Normalisation = Literal["ct", "zscore", "rescale", "none"]
AXES = 3


@dataclass(frozen=True)
class UNetConfig:
    """A U-Net of nnU-Net v2: `plain` or with a `residual` encoder; one entry per stage, the finest first.

    features: channels. kernels, strides: voxels along each axis. blocks: convolutions, or residual blocks, of the
    encoder. decoder_convs: convolutions of the decoder's stages, the coarsest first, one stage less. bottleneck: inner
    channels of residual blocks with three convolutions; None where they have two. stem_channels: of the residual
    encoder's first convolution; None for the first stage's. norm_eps, norm_affine: of the instance normalisation.
    negative_slope: of the leaky ReLU.
    """

    encoder: Literal["plain", "residual"]
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    blocks: tuple[int, ...]
    decoder_convs: tuple[int, ...]
    conv_bias: bool = True
    norm_eps: float = 1e-5
    norm_affine: bool = True
    negative_slope: float = 0.01
    bottleneck: tuple[int, ...] | None = None
    stem_channels: int | None = None

    def __post_init__(self) -> None:
        stages = len(self.features)
        if stages < 2:
            raise ValueError(f"unet: expected at least two stages, got {stages}")
        for name in ("kernels", "strides", "blocks"):
            if len(getattr(self, name)) != stages:
                raise ValueError(f"unet: {name} must have {stages} entries, got {len(getattr(self, name))}")
        if len(self.decoder_convs) != stages - 1:
            raise ValueError(f"unet: decoder_convs must have {stages - 1} entries, got {len(self.decoder_convs)}")
        if any(len(entry) != AXES for entry in (*self.kernels, *self.strides)):
            raise ValueError("unet: kernels and strides must have three values each, one per axis")
        if any(size % 2 == 0 for kernel in self.kernels for size in kernel):
            raise ValueError(f"unet: kernels must be odd, got {self.kernels}")
        if min(*self.features, *self.blocks, *self.decoder_convs, *(n for stride in self.strides for n in stride)) < 1:
            raise ValueError("unet: features, strides, blocks and decoder_convs must be at least 1")
        if self.bottleneck is not None and (len(self.bottleneck) != stages or self.encoder != "residual"):
            raise ValueError("unet: bottleneck must have one entry per stage of a residual encoder")

    @property
    def divisor(self) -> tuple[int, int, int]:
        """What the sides of the network's input must be multiples of."""
        z, y, x = (math.prod(stride[axis] for stride in self.strides) for axis in range(AXES))
        return z, y, x


@dataclass(frozen=True)
class InputChannel:
    """One input channel, made of the CT: first through an HU window, if it has one, then normalised.

    window_hu: low and high, scaled to [0, 1] and clipped; None leaves HU. normalisation: as nnU-Net's schemes: `ct`
    clips to `clip`, subtracts `mean` and divides by `sd`; `zscore` takes mean and sd of the scan; `rescale` takes the
    scan's lowest to highest value to [0, 1]; `none` does nothing.
    """

    normalisation: Normalisation = "ct"
    window_hu: tuple[float, ...] | None = None
    clip: tuple[float, ...] = (-1024.0, 3071.0)
    mean: float = 0.0
    sd: float = 1.0

    def __post_init__(self) -> None:
        for name, pair in (("window_hu", self.window_hu), ("clip", self.clip)):
            if pair is not None and (len(pair) != 2 or not pair[0] < pair[1]):
                raise ValueError(f"channel: {name} must be a low and a higher value, got {pair}")
        if not (math.isfinite(self.mean) and math.isfinite(self.sd) and self.sd >= 0):
            raise ValueError(f"channel: mean and sd must be finite, sd not negative; got {self.mean} and {self.sd}")


@dataclass(frozen=True)
class Resampling:
    """How nnU-Net brings an array to another grid: splines of `order`; across thick slices, apart, of `order_z`.

    separate_z: always or never apart; None, as nnU-Net by default: where the slices are more than three times as thick
    as the pixels are wide.
    """

    order: int = 3
    order_z: int = 0
    separate_z: bool | None = None

    def __post_init__(self) -> None:
        if not (0 <= self.order <= 5 and 0 <= self.order_z <= 5):
            raise ValueError(f"resampling: orders must be from 0 to 5, got {self.order} and {self.order_z}")


@dataclass(frozen=True)
class NnunetConfig:
    """A Focus that nnU-Net v2 trained.

    unet: the network; folds: how many of them are averaged, logits before softmax. outputs: names of its outputs, in
    order; lesion: which of them are lesion. regions: the outputs are overlapping regions (sigmoid each) in place of
    labels that exclude each other (softmax, the first is background).
    spacing_mm, patch_voxels: of its grid. transpose: which of the array's axes (z, y, x) each axis of the network is.
    orientation: `file`, axes run as in the scan's file; `ras`, they are turned first. channels: its input.
    step: from one patch to the next, in patches. mirror_axes: each patch is also read mirrored along every combination
    of these axes; none, the default, reads it once.
    data_resampling, logit_resampling: from the scan's grid to the network's, and of its logits back.
    """

    unet: UNetConfig
    spacing_mm: tuple[float, ...]
    patch_voxels: tuple[int, ...]
    channels: tuple[InputChannel, ...]
    outputs: tuple[str, ...] = ("background", "lesion")
    lesion: tuple[int, ...] = (1,)
    regions: bool = False
    folds: int = 1
    transpose: tuple[int, ...] = (0, 1, 2)
    orientation: Literal["file", "ras"] = "file"
    step: float = 0.5
    mirror_axes: tuple[int, ...] = ()
    data_resampling: Resampling = Resampling(3)
    logit_resampling: Resampling = Resampling(1)

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != AXES or min(self.spacing_mm) <= 0:
            raise ValueError(f"nnunet: spacing_mm must be three positive lengths, got {self.spacing_mm}")
        if len(self.patch_voxels) != AXES or any(
            size < 1 or size % divisor for size, divisor in zip(self.patch_voxels, self.unet.divisor, strict=True)
        ):
            raise ValueError(
                f"nnunet: patch_voxels must be multiples of {self.unet.divisor}, the product of the strides, "
                f"got {self.patch_voxels}"
            )
        if not self.channels or self.folds < 1:
            raise ValueError(f"nnunet: expected at least one channel and fold, got {len(self.channels)}, {self.folds}")
        first = 0 if self.regions else 1
        if not self.lesion or any(not first <= n < len(self.outputs) for n in self.lesion):
            raise ValueError(f"nnunet: lesion must name outputs from {first} to {len(self.outputs) - 1}")
        if sorted(self.transpose) != list(range(AXES)):
            raise ValueError(f"nnunet: transpose must be an order of 0, 1 and 2, got {self.transpose}")
        if len(set(self.mirror_axes)) != len(self.mirror_axes) or not set(self.mirror_axes) <= set(range(AXES)):
            raise ValueError(f"nnunet: mirror_axes must be among 0, 1 and 2, got {self.mirror_axes}")
        if not 0.0 < self.step <= 1.0:
            raise ValueError(f"nnunet: step must be above 0 and at most 1, got {self.step}")

    @property
    def scores(self) -> int:
        """How many values per voxel the networks hand out (see `Focus` of networks/models/nnunet.py).

        One, the logit of lesion, where that is all that there is to know: two labels, or one region. Else the logits
        of all labels, or of the regions that are lesion.
        """
        if self.regions:
            return len(self.lesion)
        return 1 if len(self.outputs) == 2 else len(self.outputs)
