"""What a plan says of the project's own networks and of the HU windows that they see. Frozen, and checked."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

RegionName = Literal["chest", "abdomen"]


@dataclass(frozen=True)
class HUWindow:
    """An interval of Hounsfield units that is mapped linearly to [0, 1]; values beyond it are clipped."""

    low_hu: float
    high_hu: float

    def __post_init__(self) -> None:
        if not self.low_hu < self.high_hu:
            raise ValueError(f"HU window: low_hu must be below high_hu, got [{self.low_hu}, {self.high_hu}]")


@dataclass(frozen=True)
class HUWindows:
    """The HU window of each region (FLARE report of the method)."""

    chest: HUWindow = HUWindow(-900.0, 650.0)
    abdomen: HUWindow = HUWindow(-175.0, 250.0)

    def of(self, region: RegionName) -> HUWindow:
        """Window of one region."""
        return self.chest if region == "chest" else self.abdomen

    def beside(self, region: RegionName) -> HUWindow:
        """Window of the other region."""
        return self.abdomen if region == "chest" else self.chest


@dataclass(frozen=True)
class GlanceConfig:
    """3D ResNet that classifies a sub-volume as suspicious or not.

    `stage_channels` are the widths of the four stages, `first_stride` the stride of the first convolution in x, y, z.
    `shortcut` and `bias_downsample` are MONAI's names for the form of the residual connection.
    """

    architecture: Literal["resnet10", "resnet18", "resnet34"] = "resnet18"
    stage_channels: tuple[int, ...] = (64, 128, 256, 512)
    first_stride: tuple[int, ...] = (1, 1, 1)
    shortcut: Literal["A", "B"] = "A"
    bias_downsample: bool = True
    pooling: Literal["max", "avg"] = "max"


@dataclass(frozen=True)
class CellGlanceConfig:
    """A Glance on a pretrained CT trunk: one pass over the whole scan, a suspicion for each cell of 12 mm.

    trunk: whose weights, kept in `trunk.safetensors` (`gfscreen trunk` fetches them). trunk_blocks: how many blocks of
    its third stage are used, of 36. spacing_mm: of the grid that it reads. hu_windows: what it sees of each region.
    case_calibration: slope and offset of the logistic curve from the logit of a scan's most suspicious cell to the
    probability that the scan holds a lesion; None where nobody knows, and no suspicion of a scan is told.
    role: `gate`: cells say where Focus reads, and the plan's `glance` counts for nothing. `marks`: the plan's `glance`
    says which sub-volumes are suspicious, cells where Focus may mark (`mark_from`).
    """

    trunk: Literal["astra"] = "astra"
    trunk_blocks: int = 6
    spacing_mm: tuple[float, ...] = (1.5, 1.5, 3.0)
    hu_windows: HUWindows = HUWindows(HUWindow(-1000.0, 200.0), HUWindow(-175.0, 250.0))
    case_calibration: tuple[float, ...] | None = None
    role: Literal["gate", "marks"] = "gate"

    def __post_init__(self) -> None:
        if not 1 <= self.trunk_blocks <= 36:
            raise ValueError(f"trunk_blocks must be from 1 to 36, got {self.trunk_blocks}")
        if len(self.spacing_mm) != 3 or min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm must be three positive lengths, got {self.spacing_mm}")
        curve = (0.0, 0.0) if self.case_calibration is None else self.case_calibration
        if len(curve) != 2 or not all(map(math.isfinite, curve)):
            raise ValueError(f"case_calibration must be a slope and an offset, got {curve}")


@dataclass(frozen=True)
class Int8Input:
    """What goes into one convolution of Focus, for one that computes in eight-bit whole numbers.

    convolution: its name in the network, as `decoder1.conv_block.conv1.conv`. low, high: the values that the whole
    numbers span, which belong to the weights; what lies beyond is clipped.
    """

    convolution: str
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= 0.0 < self.high):
            raise ValueError(f"{self.convolution}: low must be at most 0 and high above, got [{self.low}, {self.high}]")


@dataclass(frozen=True)
class FocusConfig:
    """SwinUNETR that outlines the lesions of a sub-volume.

    `patch_merging`: order of the eight neighbours in Swin's down-sampling: `monai` as since MONAI 1.5, `legacy` as
    before it, which every checkpoint of the published code was trained with.
    `window_size`: voxels along each axis of the windows that attention works in, 7 as published.
    `hu_channels`: `region`, one channel in the HU window of the sub-volume's region, as published; `both`, a second one
    in the other region's, so that a mass in the mediastinum and a nodule above the diaphragm have contrast as well.
    `full_resolution_channels`: width of the two convolution blocks that work at the input's full resolution, where
    two thirds of the arithmetic are; None, `feature_size`, as published.
    """

    feature_size: int = 48
    depths: tuple[int, ...] = (2, 2, 2, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    use_v2: bool = True
    patch_merging: Literal["legacy", "monai"] = "monai"
    window_size: int = 7
    hu_channels: Literal["region", "both"] = "region"
    full_resolution_channels: int | None = None

    def __post_init__(self) -> None:
        width = self.full_resolution_channels
        if width is not None and not 1 <= width <= self.feature_size:
            raise ValueError(
                f"full_resolution_channels must be from 1 to feature_size {self.feature_size}, got {width}"
            )

    @property
    def full_resolution_width(self) -> int:
        """Channels of the blocks at full resolution."""
        return self.full_resolution_channels or self.feature_size

    @property
    def channels(self) -> int:
        """How many channels its input has."""
        return 1 if self.hu_channels == "region" else 2


@dataclass(frozen=True)
class SecondFocusConfig:
    """A Focus of its own for second looks at small findings: another network makes other mistakes.

    network: what it is. sub_volume_voxels: what it reads around a finding, which is small if it fits well into that
    (screening/second_look.py); smaller sub-volumes than Focus's take less time. wide: it looks at large findings too,
    in sub-volumes of Focus's size, beside Focus. counts: for how many of Focus's answers one of its own counts where
    they are averaged. reads: where cells point Focus, it reads in Focus's place what few of its own sub-volumes hold
    (screening/pointing.py).
    """

    network: FocusConfig = FocusConfig()
    sub_volume_voxels: tuple[int, ...] = (64, 64, 32)
    wide: bool = False
    counts: int = 1
    reads: bool = False

    def __post_init__(self) -> None:
        check_sub_volume(self.sub_volume_voxels)
        if not 1 <= self.counts <= 10:
            raise ValueError(f"second_focus: counts must be a number of answers from 1 to 10, got {self.counts}")


def check_sub_volume(voxels: tuple[int, ...]) -> None:
    """Raise ValueError unless SwinUNETR can read a sub-volume of this size."""
    if len(voxels) != 3 or any(n < 32 or n % 32 for n in voxels):
        raise ValueError(f"sub_volume_voxels must be three multiples of 32 (SwinUNETR), got {voxels}")
