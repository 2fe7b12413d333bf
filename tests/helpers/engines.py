"""Engines that compute nothing heavy, a small plan, and a clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gfscreen.config import Plan
from gfscreen.networks.engines.base import EngineInfo, FloatArray

# Small enough for milliseconds: 32 voxels of 4 mm are 128 mm, about the size of the painted bodies.
TINY_PLAN = Plan(
    preset="tiny",
    weights="trained",
    spacing_mm=(4.0, 4.0, 4.0),
    sub_volume_voxels=(32, 32, 32),
    overlap=0.25,
    gate=0.5,
)
# In the abdomen's window [-175, 250] tissue of 40 HU is 215/425 = 0.51 and a lesion of 200 HU is 375/425 = 0.88.
BRIGHT = 0.7


@dataclass
class FakeClock:
    """A clock that only moves when told to."""

    now_s: float = 1000.0

    def __call__(self) -> float:
        return self.now_s


@dataclass
class FakeEngine:
    """An engine of two functions of one sub-volume (x, y, z); counts what it was asked. Optionally takes its time.

    channels: how many Focus sees; with two `outline` gets (channels, x, y, z).
    """

    suspicion: Callable[[FloatArray], float]
    outline: Callable[[FloatArray], FloatArray]
    glance_batch: int = 1
    focus_batch: int = 1
    info: EngineInfo = field(default_factory=lambda: EngineInfo("fake", "cpu", "fp32", "for a test"))
    clock: FakeClock | None = None
    glance_s: float = 0.0
    focus_s: float = 0.0
    glanced: int = 0
    later_rounds: int = 0
    released: int = 0
    glance_released: int = 0
    focused: list[FloatArray] = field(default_factory=list)
    channels: int = 1
    judge: Callable[[FloatArray], FloatArray] | None = None
    pieces: list[FloatArray] = field(default_factory=list)
    second_outline: Callable[[FloatArray], FloatArray] | None = None
    second_focus_s: float = 0.0
    looked_closely: list[FloatArray] = field(default_factory=list)

    def glance(self, batch: FloatArray) -> FloatArray:
        self._check(batch, self.glance_batch)
        self.glanced += len(batch)
        self.later_rounds += bool(self.focused)
        if self.clock:
            self.clock.now_s += self.glance_s
        return np.array([self.suspicion(patch) for patch in batch], np.float32)

    def cells(self, volume: FloatArray) -> FloatArray:
        """By `judge`, of a piece (z, x, y): logits (2, z / 4, x / 8, y / 8)."""
        assert self.judge is not None
        assert volume.dtype == np.float32
        assert volume.ndim == 3
        assert not any(n % multiple for n, multiple in zip(volume.shape, (8, 16, 16), strict=True))
        assert volume.min() >= 0.0
        assert volume.max() <= 1.0
        self.pieces.append(volume)
        self.later_rounds += bool(self.focused)
        if self.clock:
            self.clock.now_s += self.glance_s
        return self.judge(volume)

    def focus(self, batch: FloatArray) -> FloatArray:
        if self.channels > 1:
            assert batch.shape[1] == self.channels
            self._check(batch[:, 0], self.focus_batch)
        self._check(batch if self.channels == 1 else batch[:, -1], self.focus_batch)
        self.focused.extend(batch)
        if self.clock:
            self.clock.now_s += self.focus_s
        return np.stack([self.outline(patch) for patch in batch]).astype(np.float32)

    def second_focus(self, batch: FloatArray) -> FloatArray:
        """By `second_outline`; its batches are noted apart."""
        assert self.second_outline is not None
        self._check(batch if batch.ndim == 4 else batch[:, -1], self.focus_batch)
        self.looked_closely.extend(batch)
        if self.clock:
            self.clock.now_s += self.second_focus_s
        return np.stack([self.second_outline(patch) for patch in batch]).astype(np.float32)

    def release_glance(self) -> None:
        self.glance_released += 1

    def release(self) -> None:
        self.released += 1

    def peak_gpu_mb(self) -> float | None:
        return None

    @staticmethod
    def _check(batch: FloatArray, limit: int) -> None:
        """The engine protocol: float32 (n, x, y, z) in [0, 1], at most `limit` at once."""
        assert batch.dtype == np.float32
        assert batch.ndim == 4
        assert 1 <= len(batch) <= limit
        assert batch.min() >= 0.0
        assert batch.max() <= 1.0


def bright_engine(**options: Any) -> FakeEngine:
    """Finds what is brighter than tissue in the abdomen's window: exact where the networks would only be plausible."""
    return FakeEngine(
        lambda patch: 0.95 if (patch > BRIGHT).any() else 0.05,
        lambda patch: (patch > BRIGHT).astype(np.float32),
        **options,
    )


def constant_engine(suspicion: float, probability: float, **options: Any) -> FakeEngine:
    """Says the same everywhere."""
    return FakeEngine(lambda _: suspicion, lambda patch: np.full_like(patch, probability), **options)


@dataclass
class PatchEngine(FakeEngine):
    """One with a Focus of nnU-Net's: `outline` gets a patch (channels, z, y, x) and gives scores (scores, z, y, x)."""

    def focus(self, batch: FloatArray) -> FloatArray:
        assert batch.dtype == np.float32
        assert batch.ndim == 5
        assert 1 <= len(batch) <= self.focus_batch
        self.focused.extend(batch)
        if self.clock:
            self.clock.now_s += self.focus_s
        return np.stack([self.outline(patch) for patch in batch]).astype(np.float32)


def patch_engine(**options: Any) -> PatchEngine:
    """Finds what is brighter than 120 HU, if the only channel shows HU as they are; Glance as `bright_engine`."""
    return PatchEngine(
        lambda patch: 0.95 if (patch > BRIGHT).any() else 0.05,
        lambda patch: np.where(patch[:1] > 120.0, 8.0, -8.0).astype(np.float32),
        **options,
    )
