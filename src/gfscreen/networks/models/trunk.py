"""The pretrained trunk: three stages of a 3D ResNet-152 that learnt from pairs of CT and report. Frozen.

It is the image encoder of Astra (arXiv 2605.31437), a 2D ResNet inflated along z as in Merlin: 3, 8 and 36 bottleneck
blocks, with the stride in the 3 x 3 x 3 convolution; the fourth stage is left out. Of the third, fewer may be kept:
each block adds to what those before it made, so features can be taken after any. `trunk_fetch` makes the file.
"""

from __future__ import annotations

from pathlib import Path

import safetensors.torch
import torch
from monai.networks.nets.resnet import ResNetBottleneck
from torch import Tensor, nn

from gfscreen.errors import WeightsError
from gfscreen.networks.models.manifest import file_sha256
from gfscreen.networks.models.trunk_pins import BLOCKS, TRUNK_SHA256

STEM_CHANNELS = 64
# (number of blocks, channels within a block) of the first two stages; the third has 256 within a block.
_FIRST_STAGES = ((3, 64), (8, 128))
_LAST_CHANNELS = 256


def _stage(channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
    """Bottleneck blocks from `channels` to four times `width`; the first has the stride and a projected shortcut."""
    out = width * ResNetBottleneck.expansion
    shortcut = nn.Sequential(nn.Conv3d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm3d(out))
    first = ResNetBottleneck(channels, width, stride=stride, downsample=shortcut)
    return nn.Sequential(first, *(ResNetBottleneck(out, width) for _ in range(1, blocks)))


class Trunk(nn.Module):
    """Features of a scan at three scales; names of the tensors as published.

    `blocks` says how many of the third stage's 36 blocks there are. Raises ValueError unless 1 to 36.
    """

    def __init__(self, blocks: int = BLOCKS) -> None:
        super().__init__()
        if not 0 < blocks <= BLOCKS:
            raise ValueError(f"trunk: blocks must be 1 to {BLOCKS}, got {blocks}")
        self.blocks = blocks
        self.conv1 = nn.Conv3d(1, STEM_CHANNELS, (3, 7, 7), stride=(1, 2, 2), padding=(1, 3, 3), bias=False)
        self.bn1 = nn.BatchNorm3d(STEM_CHANNELS)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        (blocks1, width1), (blocks2, width2) = _FIRST_STAGES
        self.layer1 = _stage(STEM_CHANNELS, width1, blocks1, stride=1)
        self.layer2 = _stage(4 * width1, width2, blocks2, stride=2)
        self.layer3 = _stage(4 * width2, _LAST_CHANNELS, blocks, stride=2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Feature maps after each stage, none negative, of volumes (N, 1, Z, X, Y) with values in [0, 1].

        The axes are those of a RAS volume, and the HU window is applied: trained were [-1000, 200] HU on chests, and
        [-1000, 1000] HU at 1.5 x 1.5 x 3 mm on abdomens. Volumes and maps have the dtype of the weights. Shapes:
        (N, 256, Z/2, X/4, Y/4), (N, 512, Z/4, X/8, Y/8) and (N, 1024, Z/8, X/16, Y/16), sizes rounded up; N = 0 gives
        empty ones.
        """
        first: Tensor = self.layer1(self.maxpool(self.relu(self.bn1(self.conv1(x)))))
        second: Tensor = self.layer2(first)
        third: Tensor = self.layer3(second)
        return first, second, third


def read_trunk(path: Path) -> Trunk:
    """The trunk in a file that `gfscreen trunk` wrote: float32, on the CPU, in evaluation mode, without gradients.

    The file's sha256 says how many blocks it holds. Raises WeightsError where it is missing, cannot be read, or is none
    of the known ones.
    """
    remedy = f"make it with: gfscreen trunk -o {path}"
    try:
        found = file_sha256(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no pretrained trunk found; {remedy}") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read ({error.strerror}); make it readable, or {remedy}") from error
    blocks = next((blocks for blocks, sha256 in TRUNK_SHA256.items() if sha256 == found), None)
    if blocks is None:
        raise WeightsError(
            f"{path}: damaged, or no pretrained trunk: its sha256 {found[:12]}… is none of the "
            f"{len(TRUNK_SHA256)} known; {remedy}"
        )
    # Without storage first: 88 million values would be drawn at random only to be replaced.
    with torch.device("meta"):
        trunk = Trunk(blocks)
    tensors = safetensors.torch.load_file(path)
    trunk.load_state_dict({name: tensor.float() for name, tensor in tensors.items()}, assign=True)
    return trunk.requires_grad_(False).eval()
