"""The head as a policy: the action is "let the Focus read this sub-volume", as probable as its most suspicious cell.

Starts from the regression, moves its weights alone, on standardised features, and is held to labels by a tenth of the
cross-entropy over the sub-volumes, as the Glance of the paper is (learning/glance_step.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from gfscreen.errors import InputError
from gfscreen.training.cells.head import SCALE_FLOOR, Regression
from gfscreen.training.cells.sub_volumes import SubVolume
from gfscreen.training.objectives import CE_WEIGHT, PolicyParts, balanced_cross_entropy, policy_parts
from gfscreen.training.ppo import PPOParts, action_reward, ppo_parts, sample_action

log = logging.getLogger(__name__)

Objective = Literal["ce", "grpo-detection", "grpo-dice", "ppo"]
OBJECTIVES: tuple[Objective, ...] = ("ce", "grpo-detection", "grpo-dice", "ppo")

STEPS = 400
GROUP = 16
REFERENCE_EVERY = 40
# Of Adam: with 2048 standardised features a step moves a logit by some hundredths.
LEARNING_RATE = 2e-5
VALUE_RATE = 1e-3
# Of heads that have not learnt anything: size of the standardised weights, and the logit of a mean cell.
START_SIZE = 0.003
START_BIAS = -2.0


class CellPolicy(nn.Module):
    """The heads of all regions as one policy. regressions: by channel of the region, equal in length."""

    mean: Tensor
    scale: Tensor

    def __init__(self, regressions: Sequence[Regression]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.stack([r.mean for r in regressions]))
        self.register_buffer("scale", torch.stack([r.scale for r in regressions]))
        self.weight = nn.Parameter(torch.stack([r.weight for r in regressions]))
        self.bias = nn.Parameter(torch.tensor([r.bias for r in regressions]))

    def forward(self, group: Sequence[SubVolume]) -> tuple[Tensor, Tensor]:
        """Logits (N, 2) of leaving and reading, (0, z), and the most suspicious cells (N, features), standardised.

        z: the highest logit among a sub-volume's cells, so that reading has the probability sigmoid(z).
        """
        weight = self.weight / self.scale
        shift = self.bias - (weight * self.mean).sum(dim=1)
        highest, cells = [], []
        for sub_volume in group:
            features = torch.from_numpy(sub_volume.features).float()
            region = torch.from_numpy(sub_volume.region.astype(np.int64))
            # The gradient of a maximum is that of the highest: the others need none.
            with torch.no_grad():
                # One product with a vector for each region: with a matrix of two columns torch takes ten times as long.
                by_region = torch.stack([features @ row for row in weight], dim=1) + shift
                best = int(by_region.gather(1, region[:, None]).argmax())
            of = region[best]
            highest.append(features[best] @ weight[of] + shift[of])
            cells.append((features[best] - self.mean[of]) / self.scale[of])
        z = torch.stack(highest)
        return torch.stack([torch.zeros_like(z), z], dim=1), torch.stack(cells)

    def regressions(self, before: Sequence[Regression]) -> list[Regression]:
        """The heads as they are now."""
        return [
            replace(r, weight=self.weight[channel].detach().clone(), bias=float(self.bias[channel].detach()))
            for channel, r in enumerate(before)
        ]


def untrained(pool: Sequence[SubVolume], regions: int, seed: int) -> list[Regression]:
    """Heads of random weights, which find most cells unlikely, on the features of the pool's cells, standardised.

    A region without cells in the pool has those of all. The pool must hold a cell.
    """
    features = torch.from_numpy(np.concatenate([sub_volume.features for sub_volume in pool]).astype(np.float32))
    region = torch.from_numpy(np.concatenate([sub_volume.region for sub_volume in pool]))
    random = torch.Generator().manual_seed(seed)
    heads = []
    for channel in range(regions):
        own = features[region == channel] if bool((region == channel).any()) else features
        scale = own.std(dim=0, correction=0) + SCALE_FLOOR
        weight = START_SIZE * torch.randn(features.shape[1], generator=random)
        heads.append(Regression(own.mean(dim=0), scale, weight, START_BIAS))
    return heads


def _drawn(rng: np.random.Generator, size: int) -> list[int]:
    """A group from a pool of that size, each once where there are enough."""
    chosen: list[int] = rng.choice(size, size=GROUP, replace=size < GROUP).tolist()
    return chosen


def learn_from_labels(
    regressions: Sequence[Regression], pool: Sequence[SubVolume], seed: int, *, steps: int, learning_rate: float
) -> list[Regression]:
    """The heads after as many groups as `reinforce` takes, by the cross-entropy of the sub-volumes alone."""
    policy = CellPolicy(regressions)
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    for step in range(steps):
        group = [pool[index] for index in _drawn(np.random.default_rng([seed, step]), len(pool))]
        label = torch.tensor([sub_volume.has_lesion for sub_volume in group]).long()
        optimizer.zero_grad()
        torch.autograd.backward(balanced_cross_entropy(policy(group)[0], label))
        optimizer.step()
    return policy.regressions(regressions)


def reinforce(
    regressions: Sequence[Regression],
    pool: Sequence[SubVolume],
    objective: Objective,
    seed: int,
    *,
    steps: int = STEPS,
    learning_rate: float = LEARNING_RATE,
) -> list[Regression]:
    """The heads after `steps` groups of GROUP sub-volumes; `ce` gives them back as they are.

    grpo-detection, ppo: reading pays 1 where the Focus marks a lesion voxel; grpo-dice: its Dice. ppo compares with a
    value that is linear in the most suspicious cell. Raises InputError if reading pays the same everywhere in the pool.
    """
    if objective == "ce":
        return list(regressions)
    pays = [sub_volume.dice if objective == "grpo-dice" else sub_volume.detection for sub_volume in pool]
    if len(pool) < 2 or min(pays) == max(pays):
        raise InputError(
            f"objective {objective}: {len(pool)} sub-volumes that all pay {pays[0] if pays else 0:g} teach nothing; "
            "give more scans, a Focus that finds lesions, or use --objective ce"
        )
    policy, reference = CellPolicy(regressions), CellPolicy(regressions).requires_grad_(requires_grad=False)
    value = nn.Linear(len(regressions[0].mean), 1)
    nn.init.zeros_(value.weight)
    nn.init.zeros_(value.bias)
    groups = [{"params": list(policy.parameters()), "lr": learning_rate}]
    if objective == "ppo":
        groups.append({"params": list(value.parameters()), "lr": VALUE_RATE})
    optimizer = torch.optim.Adam(groups)
    for step in range(steps):
        if step % REFERENCE_EVERY == 0:
            reference.load_state_dict(policy.state_dict())
        rng = np.random.default_rng([seed, step])
        chosen = _drawn(rng, len(pool))
        group = [pool[index] for index in chosen]
        reward = torch.tensor([pays[index] for index in chosen])
        label = torch.tensor([sub_volume.has_lesion for sub_volume in group]).long()
        logits, cells = policy(group)
        with torch.no_grad():
            old, _ = reference(group)
        parts: PolicyParts | PPOParts
        if objective == "ppo":
            action = sample_action(old, torch.from_numpy(rng.random(GROUP, dtype=np.float32)))
            parts = ppo_parts(logits, old, value(cells)[:, 0], action_reward(reward, action), action)
        else:
            parts = policy_parts(logits, old, reward)
        optimizer.zero_grad()
        torch.autograd.backward(parts.loss + CE_WEIGHT * balanced_cross_entropy(logits, label))
        optimizer.step()
        if (step + 1) % 100 == 0:
            log.info(
                "%s: step %d, reward %.3f, KL %.4f, entropy %.3f", objective, step + 1, float(reward.mean()),
                float(parts.kl.detach()), float(parts.entropy.detach()),
            )  # fmt: skip
    return policy.regressions(regressions)
