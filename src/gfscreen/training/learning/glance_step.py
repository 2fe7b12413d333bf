"""One Glance pass over a group of sub-volumes: the loss of the gate variant, its gradient, and what to watch."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from gfscreen.training import objectives
from gfscreen.training.learning.state import Run
from gfscreen.training.settings import TrainingSettings

Values = dict[str, float]


def judge(
    settings: TrainingSettings,
    run: Run,
    glance: nn.Module,
    autocast: AbstractContextManager[None],
    group: tuple[Tensor, Tensor, Tensor],
    step: int,
) -> Values:
    """Add the gradient of one group to the Glance and return what was measured.

    glance: the run's Glance, wrapped for several processes if there are any. autocast: what forward passes run under.
    group: images (N, 1, X, Y, Z), labels (N, X, Y, Z) and rewards (N,).
    """
    images, labels, reward = group
    if step % settings.reference_every == 0:
        run.reference.load_state_dict(run.glance.state_dict())
    label = objectives.glance_label(labels)
    by_label = settings.gate == "ce" or step < settings.ce_warmup_steps
    kept: AbstractContextManager[list[Tensor]] = run.glance.stages_kept() if settings.glance_cells else nullcontext([])
    with autocast:
        with kept as stages:
            logits = glance(images)
        with torch.no_grad():
            reference = logits.detach() if by_label else run.reference.train()(images)
    cross_entropy = objectives.balanced_cross_entropy(logits, label)
    supervised, cells_loss = cross_entropy, {}
    if settings.glance_cells:
        cells = run.glance.cells([stage.float() for stage in stages])
        losses = [objectives.cell_cross_entropy(part, labels) for part in cells]
        supervised = supervised + settings.glance_cells * torch.stack(losses).sum()
        cells_loss = {f"cells_stage_{n}": float(loss.detach()) for n, loss in enumerate(losses, start=1)}
    parts = objectives.policy_parts(logits, reference, reward)
    loss = supervised if by_label else parts.loss + objectives.CE_WEIGHT * supervised
    torch.autograd.backward(run.scaler.scale(loss))
    return judgement(logits.detach(), label, reward, parts, cross_entropy) | cells_loss


def judgement(
    logits: Tensor, label: Tensor, reward: Tensor, parts: objectives.PolicyParts, cross_entropy: Tensor
) -> Values:
    """What to watch in a group: reward, policy, and how the Glance decides at even odds. NaN: no value."""
    opened, lesion = objectives.lesion_probability(logits) > 0.5, label == 1
    return {
        "reward_mean": float(reward.mean()),
        "reward_std": float(reward.std()),
        "groups_without_variance": float(reward.std() < objectives.ADVANTAGE_STD_FLOOR),
        "surrogate": float(parts.surrogate.detach()),
        "kl": float(parts.kl.detach()),
        "approx_kl": float(parts.approx_kl),
        "clip_fraction": float(parts.clip_fraction),
        "entropy": float(parts.entropy),
        "cross_entropy": float(cross_entropy.detach()),
        "glance_recall": float(opened[lesion].float().mean()) if bool(lesion.any()) else math.nan,
        "glance_kept_without_lesion": float(opened[~lesion].float().mean()) if bool((~lesion).any()) else math.nan,
        "glance_kept": float(opened.float().mean()),
    }
