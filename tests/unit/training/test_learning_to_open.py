"""A toy that can be solved: PPO, GRPO and cross-entropy each open the sub-volumes that pay and leave the others."""

import pytest
import torch
from torch import nn

from gfscreen.training import objectives, ppo

GROUP, STEPS, REFERENCE_EVERY = 16, 100, 5


def zeros(layer):
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


def first_policy():
    """Linear in two features; it opens what does not pay."""
    policy = zeros(nn.Linear(2, 2))
    with torch.no_grad():
        policy.weight[1, 0] = -1.0
    return policy


def drawn(generator, n=GROUP):
    """Features (n, 2), whose first says by its sign and with a margin whether reading pays, and what it pays (n,): 1
    for half of them."""
    pays = (torch.rand(n, generator=generator) < 0.5).float()
    features = torch.randn(n, 2, generator=generator) * torch.tensor([0.2, 1.0])
    features[:, 0] += 2 * pays - 1
    return features, pays


def loss_of(name, logits, old_logits, value, pays, generator):
    if name == "ce":
        return objectives.balanced_cross_entropy(logits, pays)
    if name == "grpo":
        return objectives.glance_policy_loss(logits, old_logits, pays)
    action = ppo.sample_action(old_logits, torch.rand(len(pays), generator=generator))
    if name == "all read":
        action = torch.ones_like(action)
    return ppo.ppo_parts(logits, old_logits, value, ppo.action_reward(pays, action), action).loss


def learnt(name, seed):
    """Policy after training as the loop does it: one update per group, the old policy refreshed every few steps. The
    value, for PPO, is linear too."""
    generator = torch.Generator().manual_seed(seed)
    policy, old, head = first_policy(), nn.Linear(2, 2), zeros(nn.Linear(2, 1))
    optimizer = torch.optim.Adam([*policy.parameters(), *head.parameters()], lr=0.02)
    for step in range(STEPS):
        if step % REFERENCE_EVERY == 0:
            old.load_state_dict(policy.state_dict())
        features, pays = drawn(generator)
        with torch.no_grad():
            old_logits = old(features)
        optimizer.zero_grad()
        loss_of(name, policy(features), old_logits, head(features)[:, 0], pays, generator).backward()
        optimizer.step()
    return policy


def share_right(policy):
    """How many of 1000 fresh sub-volumes are opened where it pays and left where it does not."""
    features, pays = drawn(torch.Generator().manual_seed(1_000_000), n=1000)
    with torch.no_grad():
        opened = objectives.lesion_probability(policy(features)) > 0.5
    return float((opened == (pays == 1)).float().mean())


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("name", ["ce", "grpo", "ppo"])
def test_what_pays_is_opened(name, seed):
    assert share_right(first_policy()) < 0.03
    assert share_right(learnt(name, seed)) > 0.98


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_with_a_value_actions_must_be_sampled(seed):
    """Were all sub-volumes read, as GRPO may, a value that foresees what they pay would leave nothing to learn."""
    assert share_right(learnt("all read", seed)) < 0.75
