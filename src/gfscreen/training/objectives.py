"""What the two networks are trained for, as pure functions of tensors.

The Glance is trained as a policy whose action is "let the Focus read this sub-volume". All sub-volumes of a group are
compared with each other (group relative policy optimisation): those that pay off better than the group's mean become
likelier, within a clipped step from a frozen reference. Constants and small numbers in logarithms are those of the
published code, so that the values agree with it (tests/golden/test_objectives_reference.py).

Shapes: N sub-volumes; logits (N, 2) with the lesion class last; voxel logits (N, 2, X, Y, Z); labels (N, X, Y, Z) or
(N, 1, X, Y, Z) with 0 background, 1 lesion, IGNORE unknown.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

LESION_CLASS = 1
IGNORE = 255
"""Label of voxels that nobody has annotated: they count for nothing."""

CLIP = 0.1
RATIO_RANGE = (0.01, 5.0)
KL_RANGE = (1e-4, 1e4)
KL_WEIGHT = 0.01
CE_WEIGHT = 0.1
ADVANTAGE_STD_FLOOR = 0.01
ADVANTAGE_LIMIT = 5.0
EPSILON = 1e-6
DICE_SMOOTHING = 1e-5


@dataclass(frozen=True)
class PolicyParts:
    """Terms of the policy loss and what tells whether an update is healthy; every field is a scalar tensor.

    surrogate: clipped surrogate, to be minimised. kl: mean of p - log p - 1, p = reference / current probability.
    loss: surrogate + 0.01 kl. clip_fraction: share of ratios outside 1 +- 0.1. approx_kl: mean of log(current /
    reference) of the lesion action, with its sign. entropy: mean entropy of the binary action, in nats. Only the first
    three carry gradients.
    """

    surrogate: Tensor
    kl: Tensor
    loss: Tensor
    clip_fraction: Tensor
    approx_kl: Tensor
    entropy: Tensor


def _flat_label(label: Tensor) -> Tensor:
    return label.reshape(label.shape[0], -1)


def detection_reward(logits: Tensor, label: Tensor) -> Tensor:
    """Reward (N,) float: 1 where the predicted mask (argmax) shares a voxel with the label, else 0. No gradient."""
    with torch.no_grad():
        predicted = logits.argmax(dim=1).flatten(1) == LESION_CLASS
        return (predicted & (_flat_label(label) == LESION_CLASS)).any(dim=1).float()


def dice_reward(logits: Tensor, label: Tensor) -> Tensor:
    """Reward (N,) float: Dice coefficient of the predicted mask (argmax) and the label. No gradient.

    A sub-volume without lesion pays 0 whatever is predicted. The published ablation pays 1 for an empty prediction on
    it, which asks the Glance to open exactly the windows that hold nothing.
    """
    with torch.no_grad():
        predicted = logits.argmax(dim=1).flatten(1) == LESION_CLASS
        flat = _flat_label(label)
        lesion = flat == LESION_CLASS
        predicted = predicted & (flat != IGNORE)
        shared = (predicted & lesion).sum(dim=1)
        total = predicted.sum(dim=1) + lesion.sum(dim=1)
        return 2.0 * shared / total.clamp_min(1)


def group_advantage(reward: Tensor) -> Tensor:
    """Advantage (N,) of each reward over its group: (r - mean) / max(std, 0.01), within +-5. No gradient.

    The standard deviation is the unbiased one. A group of equal rewards, or of one, has advantage 0 everywhere.
    """
    reward = reward.detach().float()
    if reward.numel() < 2:
        return torch.zeros_like(reward)
    std = reward.std().clamp_min(ADVANTAGE_STD_FLOOR)
    return ((reward - reward.mean()) / std).clamp(-ADVANTAGE_LIMIT, ADVANTAGE_LIMIT)


def lesion_probability(logits: Tensor) -> Tensor:
    """Probability (N,) of the lesion class, in float32."""
    return torch.softmax(logits.float(), dim=1)[:, LESION_CLASS]


def action_entropy(logits: Tensor) -> Tensor:
    """Mean entropy of the action "read or leave" of (N, 2) logits, in nats; a scalar with gradient."""
    log_probabilities = F.log_softmax(logits.float(), dim=1)
    return -(log_probabilities.exp() * log_probabilities).sum(dim=1).mean()


def advantage_parts(
    logits: Tensor, reference_logits: Tensor, advantage: Tensor, action: Tensor | None = None
) -> PolicyParts:
    """`policy_parts` for advantages (N,) however they were found. Gradients reach `logits` only.

    action: int64 (N,), 1 for a sub-volume that was read, 0 for one that was left; None if all were read. Ratios, KL and
    approx_kl are those of the action that was taken.
    """
    probability, reference = lesion_probability(logits), lesion_probability(reference_logits.detach())
    if action is not None:
        left = action.to(probability.device) != LESION_CLASS
        probability, reference = (torch.where(left, 1.0 - p, p) for p in (probability, reference))
    advantage = advantage.detach().to(probability.device)
    log_ratio = torch.log(probability + EPSILON) - torch.log(reference + EPSILON)
    ratio = log_ratio.exp().clamp(*RATIO_RANGE)
    clipped = ratio.clamp(1.0 - CLIP, 1.0 + CLIP)
    surrogate = -torch.minimum(ratio * advantage, clipped * advantage).mean()
    p = (reference / (probability + EPSILON)).clamp(*KL_RANGE)
    kl = (p - torch.log(p + EPSILON) - 1.0).mean()
    with torch.no_grad():
        clip_fraction = ((ratio - 1.0).abs() > CLIP).float().mean()
        entropy = action_entropy(logits)
        approx_kl = log_ratio.mean()
    return PolicyParts(surrogate, kl, surrogate + KL_WEIGHT * kl, clip_fraction, approx_kl, entropy)


def policy_parts(logits: Tensor, reference_logits: Tensor, reward: Tensor) -> PolicyParts:
    """Clipped surrogate, KL to the frozen reference and diagnostics. Gradients reach `logits` only.

    logits, reference_logits: (N, 2). reward: (N,), the whole group.
    """
    return advantage_parts(logits, reference_logits, group_advantage(reward))


def glance_policy_loss(logits: Tensor, reference_logits: Tensor, reward: Tensor) -> Tensor:
    """Policy loss of one group: clipped surrogate + 0.01 KL, a scalar.

    A group whose rewards are all equal has no surrogate gradient; then the KL alone pulls towards the reference, and
    where both models agree nothing moves.
    """
    return policy_parts(logits, reference_logits, reward).loss


def balanced_cross_entropy(logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of (N, 2) logits, averaged over lesion and over other sub-volumes apart, then added; a scalar.

    label: (N,), 1 for a sub-volume with lesion. A class that is absent adds nothing.
    """
    probability = lesion_probability(logits)
    lesion = (label.reshape(-1) == LESION_CLASS).to(probability.dtype)
    other = 1.0 - lesion
    lesion_loss = -(lesion * torch.log(probability + EPSILON)).sum() / (lesion.sum() + EPSILON)
    other_loss = -(other * torch.log(1.0 - probability + EPSILON)).sum() / (other.sum() + EPSILON)
    return lesion_loss + other_loss


def glance_label(label: Tensor) -> Tensor:
    """Label (N,) int64 of sub-volumes: 1 where any voxel is lesion."""
    return (_flat_label(label) == LESION_CLASS).any(dim=1).long()


def cell_cross_entropy(cells: Tensor, label: Tensor) -> Tensor:
    """Balanced cross-entropy of Glance's cells (N, 2, x, y, z) against which of them hold lesion; a scalar.

    label: (N, X, Y, Z), cut into as many blocks as there are cells. A block with unknown voxels and no lesion takes no
    part. Not in the paper: it says where in the sub-volume the lesion is, which one answer for 96 x 96 x 64 does not;
    on the cells of the last stage alone nothing was learnt within a quarter of an hour on two cores.
    """
    lesion = (label == LESION_CLASS).float()[:, None]
    unknown = (label == IGNORE).float()[:, None]
    size = cells.shape[2:]
    with_lesion, with_unknown = (F.adaptive_max_pool3d(mask, size).flatten() > 0 for mask in (lesion, unknown))
    known = with_lesion | ~with_unknown
    logits = cells.movedim(1, -1).reshape(-1, 2)
    return balanced_cross_entropy(logits[known], with_lesion[known].long())


def dice_ce(
    logits: Tensor,
    label: Tensor,
    *,
    batch: bool = False,
    include_background: bool = True,
    ce_weight: float = 1.0,
    with_dice: Tensor | None = None,
    voxel_weight: Tensor | None = None,
) -> Tensor:
    """Dice loss plus cross-entropy of voxel logits (N, 2, X, Y, Z); a scalar. Equal to MONAI's DiceCELoss.

    batch: one Dice over all sub-volumes instead of the mean over each; steadier where lesions are a few voxels and many
    sub-volumes have none (departs from the paper). ce_weight: of the cross-entropy, 1 in the paper; where lesions are
    one voxel in a thousand, its mean hardly sees a false positive, and neither does a Dice that is far too large.
    with_dice: bool (N,), which sub-volumes have a Dice at all (not with `batch`); None for all. Where a lesion can
    hardly be told, the best Dice is had by marking all that it might be: there the cross-entropy alone asks for honest
    odds.
    voxel_weight: (N, X, Y, Z), how often a voxel counts in both terms (learning/lesion_weights.py); None for once. The
    cross-entropy is still divided by the number of voxels.
    Voxels labelled IGNORE take no part; without them the defaults agree with the published loss. An empty label gives
    Dice loss 1 unless nothing at all is predicted.
    """
    logits = logits.float()
    target = label.reshape(label.shape[0], *label.shape[-3:]).long()
    valid = (target != IGNORE).to(logits.dtype)
    target = torch.where(target == LESION_CLASS, 1, 0)
    log_probability = F.log_softmax(logits, dim=1)
    weight = valid if voxel_weight is None else valid * voxel_weight
    cross_entropy = -(log_probability.gather(1, target[:, None])[:, 0] * weight).sum() / valid.sum().clamp_min(1.0)

    probability = log_probability.exp()
    one_hot = torch.stack([1 - target, target], dim=1).to(logits.dtype)
    if not include_background:
        probability, one_hot = probability[:, 1:], one_hot[:, 1:]
    axes = (0, 2, 3, 4) if batch else (2, 3, 4)
    weight = weight[:, None]
    shared = (probability * one_hot * weight).sum(dim=axes)
    total = (probability * weight).sum(dim=axes) + (one_hot * weight).sum(dim=axes)
    dice = (2.0 * shared + DICE_SMOOTHING) / (total + DICE_SMOOTHING)
    loss = 1.0 - dice
    if with_dice is not None:
        loss = loss * with_dice.to(loss)[:, None]
    return loss.mean() + ce_weight * cross_entropy
