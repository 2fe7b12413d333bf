"""A pool of sub-volumes whose reward is known: what the Glance learns from when the Focus is frozen.

Reading a sub-volume is a hundred times dearer than glancing at it. A frozen Focus always answers the same, so each
sub-volume of the pool is read once; groups are then drawn from the pool. Flips come after the reward, which is taken to
be the same for the mirrored sub-volume. Images are kept in float16.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from gfscreen.training.distributed import World
from gfscreen.training.sampling import Sample, Sampler
from gfscreen.training.settings import Settings

log = logging.getLogger(__name__)

DEFAULT_POOL = 256


class Pool:
    """Sub-volumes of the plan's size with labels and rewards."""

    def __init__(
        self,
        settings: Settings,
        sampler: Sampler,
        focus: nn.Module,
        reward: Callable[[Tensor, Tensor], Tensor],
        world: World,
    ) -> None:
        self._group, self._device = settings.group, world.device
        self._by_label = settings.gate == "ce"
        size, count = settings.voxels, settings.pool or DEFAULT_POOL
        self._images: list[NDArray[np.float16]] = []
        self._labels: list[NDArray[np.uint8]] = []
        rewards: list[float] = []
        focus.eval()
        index = 0
        while len(rewards) < count:
            # A twin without the inserted lesions makes the Glance look at the lesion and not at where it lies.
            pair = sampler.draw_twins(np.random.default_rng([settings.seed, world.rank, 1, index]), size)
            index += 1
            for sample in pair:
                if sample is None:
                    continue
                rewards.append(self._reward(sample, focus, reward))
                self._images.append(sample.image.astype(np.float16))
                self._labels.append(sample.label)
            if index % 50 == 0:
                log.info("pool: %d of %d sub-volumes, mean reward %.3f", len(rewards), count, np.mean(rewards))
        self._rewards = torch.tensor(rewards, dtype=torch.float32)

    def _reward(self, sample: Sample, focus: nn.Module, reward: Callable[[Tensor, Tensor], Tensor]) -> float:
        """Reward of one sub-volume. Without lesion it is 0 by definition, and the Focus need not look.

        Cross-entropy alone asks for no reward: there it only says whether there is a lesion.
        """
        has_lesion = bool((sample.label == 1).any())
        if self._by_label or not has_lesion:
            return float(has_lesion)
        with torch.no_grad():
            logits = focus(torch.from_numpy(sample.image)[None, None].to(self._device))
        return float(reward(logits, torch.from_numpy(sample.label)[None].to(self._device)))

    def group(self, rng: np.random.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Images (N, 1, X, Y, Z), labels (N, X, Y, Z) and rewards (N,) of a random group, each flipped at random."""
        chosen = rng.choice(len(self._images), size=self._group, replace=len(self._images) < self._group)
        images, labels = [], []
        for index in chosen:
            axes = tuple(int(a) for a in np.flatnonzero(rng.random(3) < 0.5))
            image = np.flip(self._images[int(index)], axes).astype(np.float32)
            images.append(np.clip(image * (1 + rng.uniform(-0.1, 0.1)) + rng.uniform(-0.05, 0.05), 0, 1))
            labels.append(np.flip(self._labels[int(index)], axes).copy())
        stacked = torch.from_numpy(np.stack(images).astype(np.float32)[:, None])
        reward = self._rewards[torch.from_numpy(chosen)]
        return stacked.to(self._device), torch.from_numpy(np.stack(labels)).to(self._device), reward.to(self._device)
