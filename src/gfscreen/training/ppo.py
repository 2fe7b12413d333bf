"""Proximal policy optimisation with a learnt value, the baseline that group relative policy optimisation replaces.

Schulman, Wolski, Dhariwal, Radford, Klimov, "Proximal Policy Optimization Algorithms", arXiv:1707.06347, 2017. Pure
functions of tensors, as in objectives.py, whose clipped step, ratio range and normalisation these share. The
differences:

| | group relative (objectives.policy_parts) | here |
|---|---|---|
| action | all sub-volumes are read | read or left, sampled from the old policy |
| a reward is compared with | the group's mean reward | the value that a head expects of this sub-volume |
| held back by | KL to the reference, weight 0.01 | entropy bonus, weight 0.01 |

An episode has one step: the action is "let the Focus read this sub-volume" or not, the reward comes at once and nothing
follows. Returns are rewards, and there is nothing for generalised advantage estimation to discount or to smooth.

Why actions are sampled here: a value that knows the sub-volume leaves the policy gradient unbiased only then. Where all
are read, a value that foresees the reward leaves no advantage, and the policy learns nothing or drifts
(tests/unit/training/test_learning_to_open.py shows it). Why leaving pays the group's mean reward: if it paid nothing,
reading would cost nothing and nothing would ever be left. So both objectives ask for the same: to read what pays more
than the mean of the group.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gfscreen.training.objectives import (
    LESION_CLASS,
    action_entropy,
    advantage_parts,
    group_advantage,
    lesion_probability,
)

# The paper's table for Atari games, where policy and value share their layers as ours do.
VALUE_WEIGHT = 1.0
ENTROPY_WEIGHT = 0.01


@dataclass(frozen=True)
class PPOParts:
    """Terms of the PPO loss and what tells whether an update is healthy; every field is a scalar tensor.

    surrogate: clipped surrogate, to be minimised. value_loss: mean of (value - reward) squared. entropy: mean entropy
    of the binary action, in nats. loss: surrogate + value_loss - 0.01 entropy. kl, clip_fraction, approx_kl: as in
    objectives.PolicyParts, of the actions taken. explained_variance: 1 - var(reward - value) / var(reward), 1 where the
    value foresees every reward, 0 where it is a constant, NaN where all rewards are equal. Only the first four carry
    gradients.
    """

    surrogate: Tensor
    value_loss: Tensor
    entropy: Tensor
    loss: Tensor
    kl: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor
    explained_variance: Tensor


def sample_action(old_logits: Tensor, chance: Tensor) -> Tensor:
    """Actions int64 (N,) of the old policy, logits (N, 2): 1, read, where `chance` is below its probability; else 0.

    chance: (N,), uniform in [0, 1), drawn by the caller, who thereby says which generator it is.
    """
    read = chance.to(old_logits.device) < lesion_probability(old_logits.detach())
    return read.long()


def action_reward(pays: Tensor, action: Tensor) -> Tensor:
    """Reward float32 (N,) of each action: what reading pays (N,) where it was read, the group's mean where it was left.

    The mean is what the time is worth elsewhere in the group. No gradient.
    """
    pays = pays.detach().float()
    return torch.where(action == LESION_CLASS, pays, pays.mean())


def ppo_advantage(reward: Tensor, value: Tensor) -> Tensor:
    """Advantage (N,) float32 of rewards (N,) over values (N,), normalised over the batch. No gradient.

    Normalised as `objectives.group_advantage` does: less the mean, over max(std, 0.01), within +-5. A batch of one, and
    one whose rewards exceed the values by the same everywhere, has advantage 0.
    """
    return group_advantage(reward.detach().float() - value.detach().float())


def ppo_parts(
    logits: Tensor,
    old_logits: Tensor,
    value: Tensor,
    reward: Tensor,
    action: Tensor,
    *,
    value_weight: float = VALUE_WEIGHT,
    entropy_weight: float = ENTROPY_WEIGHT,
) -> PPOParts:
    """Clipped surrogate, value loss, entropy bonus and diagnostics of one batch of sub-volumes.

    logits, old_logits: (N, 2), of the policy and of the old one, which chose the actions and which the step is clipped
    against; a policy with one logit z per sub-volume is (0, z), whose probability of reading is sigmoid(z). value:
    (N,), the reward that is expected of the sub-volume. reward: (N,), of the action (`action_reward`). action: int64
    (N,), 1 read, 0 left (`sample_action`). On one device; computed in float32.

    Gradients: the surrogate's and the entropy's reach `logits`, the value loss's `value`; none reaches `value` through
    the advantage, and `old_logits` and `reward` get none. Ratios are clamped to [0.01, 5] before they are clipped, as
    in the group relative objective.

    The value loss is the plain squared error of the paper. Clipping it around an old value, as later implementations
    do, guards a value that is fitted to the same batch many times over; here every step has its own batch.

    Raises ValueError for an empty batch, for logits that are not (N, 2), and for values, rewards or actions that are
    not (N,): (N, 1) beside (N,) would be compared all with all.
    """
    if logits.ndim != 2 or logits.shape[1] != 2 or not len(logits):
        raise ValueError(f"logits must be (N, 2) with N at least 1, got {tuple(logits.shape)}")
    if old_logits.shape != logits.shape:
        raise ValueError(f"old_logits must be {tuple(logits.shape)} like logits, got {tuple(old_logits.shape)}")
    for name, tensor in (("value", value), ("reward", reward), ("action", action)):
        if tensor.shape != logits.shape[:1]:
            raise ValueError(f"{name} must be ({len(logits)},), one for each row of logits, got {tuple(tensor.shape)}")
    reward, value = reward.detach().float(), value.float()
    step = advantage_parts(logits, old_logits, ppo_advantage(reward, value), action)
    value_loss = (value - reward).square().mean()
    entropy = action_entropy(logits)
    loss = step.surrogate + value_weight * value_loss - entropy_weight * entropy
    with torch.no_grad():
        variance = reward.var(correction=0)
        unexplained = (reward - value).var(correction=0)
        explained = torch.where(variance > 0, 1.0 - unexplained / variance, torch.nan)
    return PPOParts(
        surrogate=step.surrogate,
        value_loss=value_loss,
        entropy=entropy,
        loss=loss,
        kl=step.kl.detach(),
        clip_fraction=step.clip_fraction,
        approx_kl=step.approx_kl,
        explained_variance=explained,
    )
