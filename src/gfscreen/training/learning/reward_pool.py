"""A pool of sub-volumes whose reward is known: what the Glance learns from when the Focus is frozen.

Reading a sub-volume is a hundred times dearer than glancing at it. A frozen Focus always answers the same, so each
sub-volume of the pool is read once; groups are then drawn from the pool. Flips come after the reward, which is taken to
be the same for the mirrored sub-volume. Images are kept in float16.

At step s the pool holds the pairs number s * pool_refresh and following, each drawn by a generator of its own number:
a resumed run has the pool that an uninterrupted one would have.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfscreen.networks.models.nnunet import NnunetFocus
from gfscreen.training.data.prefetch import Draws
from gfscreen.training.data.sampling import PatchSampler, Sample
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.nnunet_reader import SubVolumeReader
from gfscreen.training.settings import TrainingSettings

log = logging.getLogger(__name__)

DEFAULT_POOL = 256
NO_LAST_PAIR = 2**31


@dataclass(frozen=True)
class Judged:
    """A sub-volume with its label and what reading it pays."""

    image: NDArray[np.float16]
    label: NDArray[np.uint8]
    reward: float


class Pool:
    """Sub-volumes of the plan's size with labels and rewards."""

    def __init__(
        self,
        settings: TrainingSettings,
        sampler: PatchSampler,
        focus: nn.Module,
        reward: Callable[[Tensor, Tensor], Tensor],
        world: World,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        """autocast: what the Focus reads under."""
        self._settings, self._world = settings, world
        self._focus, self._reward_of, self._autocast = focus, reward, autocast
        self._pairs: dict[int, list[Judged]] = {}

        def draw_pair(number: int) -> list[Sample]:
            """A sub-volume and, where lesions were inserted, its twin without them.

            The twin makes the Glance look at the lesion and not at where it lies.
            """
            rng = np.random.default_rng([settings.seed, world.rank, 1, number])
            pair = sampler.draw_changed_twins(rng, settings.voxels)
            return [replace(s, loose=None, own=None) for s in pair if s is not None]

        self._patch_reader: SubVolumeReader | None = None
        if isinstance(focus, NnunetFocus):
            self._patch_reader = SubVolumeReader(focus, settings.plan.spacing_mm, world.device)
        self._draws = Draws(draw_pair, last=NO_LAST_PAIR, workers=settings.draw_workers)

    def _pair(self, number: int) -> list[Judged]:
        samples = self._draws.take(number)
        return [Judged(s.image.astype(np.float16), s.label, self._reward(s)) for s in samples]

    def _fill(self, step: int) -> list[Judged]:
        """The sub-volumes of this step; pairs that left the pool are forgotten."""
        self._focus.eval()
        first = step * self._settings.pool_refresh
        numbers = range(first, first + (self._settings.pool or DEFAULT_POOL))
        missing = [number for number in numbers if number not in self._pairs]
        for count, number in enumerate(missing, start=1):
            self._pairs[number] = self._pair(number)
            if count % 50 == 0:
                log.info("pool: %d of %d pairs", count, len(missing))
        self._pairs = {number: self._pairs[number] for number in numbers}
        return [judged for pair in self._pairs.values() for judged in pair]

    def _reward(self, sample: Sample) -> float:
        """Reward of one sub-volume. Without lesion it is 0 by definition, and the Focus need not look.

        Cross-entropy alone asks for no reward: there it only says whether there is a lesion.
        """
        has_lesion = bool((sample.label == 1).any())
        if self._settings.gate == "ce" or not has_lesion:
            return float(has_lesion)
        with torch.no_grad(), self._autocast():
            if self._patch_reader is not None:
                assert sample.hu is not None
                logits = self._patch_reader(sample.hu)
            else:
                logits = self._focus(torch.from_numpy(sample.channels)[None].to(self._world.device))
        return float(self._reward_of(logits, torch.from_numpy(sample.label)[None].to(self._world.device)))

    def group(self, rng: np.random.Generator, step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 1, X, Y, Z), labels (N, X, Y, Z) and rewards (N,) of a random group, each flipped at random."""
        pool, size = self._fill(step), self._settings.group
        chosen = [pool[int(i)] for i in rng.choice(len(pool), size=size, replace=len(pool) < size)]
        device = self._world.device
        images, labels = [], []
        for judged in chosen:
            axes = [int(a) for a in np.flatnonzero(rng.random(3) < 0.5)]
            image = torch.from_numpy(judged.image).to(device).float().flip(axes)
            images.append((image * (1 + rng.uniform(-0.1, 0.1)) + rng.uniform(-0.05, 0.05)).clamp(0, 1))
            labels.append(torch.from_numpy(judged.label).to(device).flip(axes))
        reward = torch.tensor([judged.reward for judged in chosen], dtype=torch.float32)
        return torch.stack(images)[:, None], torch.stack(labels), reward.to(device)
