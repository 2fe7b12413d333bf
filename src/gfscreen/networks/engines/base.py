"""What every engine offers, whatever runs beneath it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError

FloatArray = NDArray[np.float32]


def require_finite(batch: FloatArray) -> None:
    """Raise InputError if a batch holds NaN or infinity; every engine asks this of every batch.

    The answers would not tell: OpenVINO's ReLU, clamp and max pooling turn NaN into ordinary numbers (a
    Glance of nothing but NaN says 0.99). Takes 0.2 ms for a sub-volume of 96 x 96 x 64.
    """
    count = batch.size - int(np.count_nonzero(np.isfinite(batch)))
    if count:
        raise InputError(
            f"sub-volumes must hold finite numbers, {count} of {batch.size} voxels are not; HU are whole numbers, so "
            "the scan is not to blame: please report it with what you ran"
        )


# What a sub-volume of 96 x 96 x 64 voxels of 1 x 1 x 3 mm is on a grid of 1.5 x 1.5 x 3 mm.
NOMINAL_SIDE_VOXELS = 64
NOMINAL_VOXELS = NOMINAL_SIDE_VOXELS**3


@dataclass(frozen=True)
class EngineInfo:
    """Name (`torch`, `openvino`), device (`cpu`, `cuda:0`), precision (`fp32`, `bf16`, `fp16`; `bf16+int8`: some
    convolutions of Focus in whole numbers), why it was chosen.

    glance_s, focus_s: seconds that one sub-volume is expected to take, for a deadline to count with before any has been
    measured; None where unknown. For a Glance that reads whole pieces of a scan, of `NOMINAL_VOXELS` of them; so
    cells_s, for cells beside a Glance. second_focus_s: of one of the second Focus's.
    """

    name: str
    device: str
    precision: str
    reason: str
    glance_s: float | None = None
    focus_s: float | None = None
    cells_s: float | None = None
    second_focus_s: float | None = None


class Engine(Protocol):
    """Runs both networks on batches of sub-volumes, float32 (n, x, y, z) with the HU window applied, in [0, 1].

    Weights whose plan says `without_glance` can only be asked for `focus`.

    Raises InputError for a batch that is not finite (`require_finite`).
    """

    # All three may change from batch to batch, as an engine learns what fits.
    info: EngineInfo
    glance_batch: int
    focus_batch: int

    def glance(self, batch: FloatArray) -> FloatArray:
        """Probability of "lesion" per sub-volume, float32 (n,)."""
        ...

    def cells(self, volume: FloatArray) -> FloatArray:
        """Logits of "lesion" per region and cell, float32 (2, z / 4, x / 8, y / 8): of weights whose plan has `cells`.

        volume: float32 (z, x, y) on the trunk's grid, z a multiple of 8, x and y of 16.
        """
        ...

    def focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, float32 (n, x, y, z).

        Of weights whose plan has `nnunet`: its patches, float32 (n, channels, z, y, x), normalised, axes as nnU-Net's
        -> scores, float32 (n, scores, z, y, x), see `NnunetFocus` (networks/models/nnunet.py).
        """
        ...

    def second_focus(self, batch: FloatArray) -> FloatArray:
        """The same by the second Focus, of weights whose plan has one, for its sub-volumes; at most `focus_batch`.

        Of weights whose plan has it look at large findings as well, also for sub-volumes of Focus's size.
        """
        ...

    def release_glance(self) -> None:
        """Give back what Glance and cells have computed in, for Focus is next; a later batch takes it again.

        Where a GPU's allocator hands it on by itself: nothing.
        """
        ...

    def release(self) -> None:
        """Give back all memory that is only computed in: nothing more is asked for now; a later batch takes it again.

        Of a GPU the weights' as well.
        """
        ...

    def peak_gpu_mb(self) -> float | None:
        """Peak GPU memory of this process in MiB since the last call; None without a GPU."""
        ...
