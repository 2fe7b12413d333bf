"""One Glance pass over a group of sub-volumes: the loss of the gate variant, its gradient, and what to watch."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from gfscreen.training import objectives
from gfscreen.training.learning.state import Run
from gfscreen.training.learning.value_head import pooled_kept
from gfscreen.training.ppo import PPOParts, action_reward, ppo_parts, sample_action
from gfscreen.training.settings import TrainingSettings

Values = dict[str, float]
# Tells the draws of PPO's actions from the other draws of a step.
ACTION_DRAWS = 20_241


@dataclass(frozen=True)
class Policy:
    """The run's Glance and value head (None unless the gate is PPO's), wrapped for several processes if there are any.

    Both see the same pass, so that the value's gradient reaches the Glance's backbone as well. rank: of this process,
    which samples actions of its own.
    """

    glance: nn.Module
    value_head: nn.Module | None = None
    rank: int = 0


def judge(
    settings: TrainingSettings,
    run: Run,
    policy: Policy,
    autocast: AbstractContextManager[None],
    group: tuple[Tensor, Tensor, Tensor],
    step: int,
) -> Values:
    """Add the gradient of one group to the Glance and return what was measured.

    autocast: what forward passes run under. group: images (N, 1, X, Y, Z), labels (N, X, Y, Z) and rewards (N,).
    PPO makes one update per group; its old policy, which samples the actions, is the reference. While the Glance warms
    up on labels, the value head waits.
    """
    images, labels, reward = group
    if step % settings.reference_every == 0:
        run.reference.load_state_dict(run.glance.state_dict())
    label = objectives.glance_label(labels)
    by_label = settings.gate == "ce" or step < settings.ce_warmup_steps
    kept: AbstractContextManager[list[Tensor]] = run.glance.stages_kept() if settings.glance_cells else nullcontext([])
    with_value = policy.value_head is not None and not by_label
    features: AbstractContextManager[list[Tensor]] = pooled_kept(run.glance) if with_value else nullcontext([])
    with autocast:
        with kept as stages, features as pooled:
            logits = policy.glance(images)
        with torch.no_grad():
            reference = logits.detach() if by_label else run.reference.train()(images)
    cross_entropy = objectives.balanced_cross_entropy(logits, label)
    supervised, cells_loss = cross_entropy, {}
    if settings.glance_cells:
        cells = run.glance.cells([stage.float() for stage in stages])
        losses = [objectives.cell_cross_entropy(part, labels) for part in cells]
        supervised = supervised + settings.glance_cells * torch.stack(losses).sum()
        cells_loss = {f"cells_stage_{n}": float(loss.detach()) for n, loss in enumerate(losses, start=1)}
    parts: objectives.PolicyParts | PPOParts
    if policy.value_head is not None and with_value:
        draws = np.random.default_rng([settings.seed, policy.rank, ACTION_DRAWS, step])
        action = sample_action(reference, torch.from_numpy(draws.random(len(logits), dtype=np.float32)))
        value = policy.value_head(pooled[0].float())
        parts = ppo_parts(logits, reference, value, action_reward(reward, action), action)
    else:
        parts = objectives.policy_parts(logits, reference, reward)
    loss = supervised if by_label else parts.loss + objectives.CE_WEIGHT * supervised
    torch.autograd.backward(run.scaler.scale(loss))
    return judgement(logits.detach(), label, reward, parts, cross_entropy) | cells_loss


def judgement(
    logits: Tensor,
    label: Tensor,
    reward: Tensor,
    parts: objectives.PolicyParts | PPOParts,
    cross_entropy: Tensor,
) -> Values:
    """What to watch in a group: reward, policy, and how the Glance decides at even odds. NaN: no value."""
    opened, lesion = objectives.lesion_probability(logits) > 0.5, label == 1
    value = {}
    if isinstance(parts, PPOParts):
        value["value_loss"] = float(parts.value_loss.detach())
        value["explained_variance"] = float(parts.explained_variance)
    return value | {
        "reward_mean": float(reward.mean()),
        "reward_std": float(reward.std()),
        "groups_without_variance": float(reward.std() < objectives.ADVANTAGE_STD_FLOOR),
        "surrogate": float(parts.surrogate.detach()),
        "kl": float(parts.kl.detach()),
        "approx_kl": float(parts.approx_kl),
        "clip_fraction": float(parts.clip_fraction),
        "entropy": float(parts.entropy.detach()),
        "cross_entropy": float(cross_entropy.detach()),
        "glance_recall": float(opened[lesion].float().mean()) if bool(lesion.any()) else math.nan,
        "glance_kept_without_lesion": float(opened[~lesion].float().mean()) if bool((~lesion).any()) else math.nan,
        "glance_kept": float(opened.float().mean()),
    }
