"""Glance on a pretrained trunk: the trunk, frozen, and a head that gives each cell of about 12 mm a logit.

The head sees a cell at three scales (the mean and the maximum of the trunk's finest features around it, its middle
features, its coarse ones interpolated) and answers for each region, chest and abdomen, with weights of its own: the
trunk sees either through another HU window. It is linear, so the coarse part is computed where the trunk has it and
only its answer is interpolated.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import safetensors
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from gfscreen.errors import WeightsError
from gfscreen.files import write_atomically
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.models.manifest import NOTICE_FILE
from gfscreen.networks.models.trunk import Trunk, read_trunk
from gfscreen.networks.models.trunk_pins import TRUNK_FILE

REGIONS = ("chest", "abdomen")
FINE, MIDDLE, COARSE = 256, 512, 1024
FEATURES = 2 * FINE + MIDDLE + COARSE


class CellHead(nn.Module):
    """Logits of "lesion" per cell and region from the trunk's three feature maps; linear in them."""

    def __init__(self) -> None:
        super().__init__()
        self.fine_mean = nn.Conv3d(FINE, len(REGIONS), 1, bias=False)
        self.fine_highest = nn.Conv3d(FINE, len(REGIONS), 1, bias=False)
        self.middle = nn.Conv3d(MIDDLE, len(REGIONS), 1)
        self.coarse = nn.Conv3d(COARSE, len(REGIONS), 1, bias=False)

    @property
    def layers(self) -> tuple[nn.Conv3d, nn.Conv3d, nn.Conv3d, nn.Conv3d]:
        """In the order of the features that `CellFeatures` gives."""
        return self.fine_mean, self.fine_highest, self.middle, self.coarse

    def forward(self, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """(N, 256, 2Z, 2X, 2Y), (N, 512, Z, X, Y), (N, 1024, Z/2, X/2, Y/2) -> logits (N, 2, Z, X, Y)."""
        mean, highest = around(fine)
        sharp = self.middle(middle) + self.fine_mean(mean) + self.fine_highest(highest)
        answer: Tensor = sharp + between(self.coarse(coarse))
        return answer


class CellFeatures(nn.Module):
    """What a head is trained on: volumes as of `CellGlance` -> features (N, 2048, Z/4, X/8, Y/8) of every cell.

    In the order of `linear_head`, whose head gives the same logits as its weights with these features.
    """

    def __init__(self, trunk: Trunk) -> None:
        super().__init__()
        self.trunk = trunk

    def forward(self, x: Tensor) -> Tensor:
        """Features, float32."""
        fine, middle, coarse = self.trunk(x)
        return torch.cat([*around(fine), middle, between(coarse)], dim=1).float()


def around(fine: Tensor) -> tuple[Tensor, Tensor]:
    """(N, C, 2z, 2x, 2y) -> mean and maximum, (N, C, z, x, y) each, of the 3 x 3 x 3 finer places around every cell."""
    return F.avg_pool3d(fine, 3, stride=2, padding=1), F.max_pool3d(fine, 3, stride=2, padding=1)


def between(coarse: Tensor) -> Tensor:
    """(N, C, z, x, y) -> (N, C, 2z, 2x, 2y): every second value as it was, linear between two, the last one repeated.

    The trunk's strides keep the first voxel: cell 2i of the finer map has the centre of cell i of the coarser one.
    """
    finer = coarse
    for axis in (2, 3, 4):
        whole = (slice(None),) * axis
        # Slices, not sizes: a traced network keeps to no size.
        following = torch.cat([finer[(*whole, slice(1, None))], finer[(*whole, slice(-1, None))]], dim=axis)
        finer = torch.stack([finer, 0.5 * (finer + following)], dim=axis + 1).flatten(axis, axis + 1)
    return finer


class CellGlance(nn.Module):
    """Volumes (N, 1, Z, X, Y) on the trunk's grid, in [0, 1] -> logits (N, 2, Z/4, X/8, Y/8). What engines run.

    Z must be a multiple of 8, X and Y of 16. The state that is stored is the head's alone.
    """

    def __init__(self, trunk: Trunk, head: CellHead) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits of "lesion", float32."""
        answer: Tensor = self.head(*self.trunk(x))
        return answer.float()


def load_trunk(weights: Path, config: CellGlanceConfig) -> Trunk:
    """The trunk beside the weights that need it, cut to as many blocks as they use. Raises WeightsError."""
    path = weights / TRUNK_FILE
    if not path.is_file():
        raise WeightsError(
            f"{path}: the Glance of these weights needs the pretrained trunk {config.trunk}, which is not there; make "
            f"it with: gfscreen trunk --blocks {config.trunk_blocks} -o {path}"
        )
    trunk = read_trunk(path)
    if trunk.blocks < config.trunk_blocks:
        raise WeightsError(
            f"{path}: holds {trunk.blocks} blocks of the trunk's third stage, these weights need "
            f"{config.trunk_blocks}; make it with: gfscreen trunk --blocks {config.trunk_blocks} -o {path}"
        )
    trunk.layer3 = nn.Sequential(*list(trunk.layer3)[: config.trunk_blocks])
    trunk.blocks = config.trunk_blocks
    return trunk


def copy_trunk(source: Path, folder: Path) -> list[str]:
    """Copy the trunk beside weights, with its notice, beside others, as far as they are there; the names copied."""
    folder.mkdir(parents=True, exist_ok=True)
    copied = [name for name in (TRUNK_FILE, NOTICE_FILE) if (source / name).is_file()]
    for name in copied:
        write_atomically(folder / name, (source / name).read_bytes())
    return copied


def trunk_notice(weights: Path) -> str:
    """What must go with every copy of the trunk, and so with networks that hold it.

    The weights' own NOTICE, else the licence that the trunk's file carries.
    """
    own = weights / NOTICE_FILE
    if own.is_file():
        return own.read_text(encoding="utf-8")
    with safetensors.safe_open(weights / TRUNK_FILE, framework="pt") as stored:
        return str(stored.metadata()["licence"])


def linear_head(weights: Mapping[str, Tensor], biases: Mapping[str, float]) -> CellHead:
    """The head of one weight vector (2048,) and one bias per region, features in the order fine mean, fine highest,
    middle, coarse.
    """
    head = CellHead()
    stacked = torch.stack([weights[region].float() for region in REGIONS])[..., None, None, None]
    parts = torch.split(stacked, [FINE, FINE, MIDDLE, COARSE], dim=1)
    with torch.no_grad():
        for layer, part in zip(head.layers, parts, strict=True):
            layer.weight.copy_(part)
        assert head.middle.bias is not None
        head.middle.bias.copy_(torch.tensor([biases[region] for region in REGIONS]))
    return head
