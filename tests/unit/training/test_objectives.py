"""Rewards, advantage, clipped objective, cross-entropy and Dice-CE on numbers small enough to follow by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfscreen.training import objectives as o


def voxels(*lesion_indices, n=8):
    mask = torch.zeros(1, n, 1, 1, dtype=torch.long)
    for index in lesion_indices:
        mask[0, index] = 1
    return mask


def as_logits(mask, strength=9.0):
    return torch.stack([(1 - mask) * strength, mask * strength], dim=1).float()


class TestRewards:
    def test_one_shared_voxel_is_a_detection(self):
        assert o.detection_reward(as_logits(voxels(2, 3)), voxels(3, 4)).tolist() == [1.0]

    def test_neighbouring_voxel_is_none(self):
        assert o.detection_reward(as_logits(voxels(2)), voxels(3)).tolist() == [0.0]

    def test_dice(self):
        # 1 shared of 2 + 2 voxels: 2 * 1 / 4.
        assert o.dice_reward(as_logits(voxels(2, 3)), voxels(3, 4)).tolist() == [0.5]

    def test_nothing_to_find_pays_nothing(self):
        empty = voxels()
        assert o.dice_reward(as_logits(empty), empty).tolist() == [0.0]
        assert o.detection_reward(as_logits(empty), empty).tolist() == [0.0]

    def test_unknown_voxels_do_not_count(self):
        label = voxels(3)
        label[0, 5] = o.IGNORE
        assert o.dice_reward(as_logits(voxels(3, 5)), label).tolist() == [1.0]

    def test_label_with_channel_axis(self):
        assert o.detection_reward(as_logits(voxels(2)), voxels(2)[:, None]).tolist() == [1.0]


class TestAdvantage:
    def test_values(self):
        # mean 0.5; unbiased std of [0, 0, 1, 1] = sqrt(4 * 0.25 / 3).
        expected = 0.5 / math.sqrt(1 / 3)
        assert o.group_advantage(torch.tensor([0.0, 0.0, 1.0, 1.0])).tolist() == pytest.approx(
            [-expected, -expected, expected, expected]
        )

    @pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
    def test_equal_rewards_have_none(self, value):
        assert o.group_advantage(torch.full((16,), value)).abs().max() < 1e-4

    def test_group_of_one(self):
        assert o.group_advantage(torch.ones(1)).tolist() == [0.0]

    @given(st.lists(st.floats(0, 1), min_size=2, max_size=32))
    @settings(max_examples=50, deadline=None)
    def test_bounded_and_ordered(self, rewards):
        reward = torch.tensor(rewards, dtype=torch.float32)
        advantage = o.group_advantage(reward)
        assert advantage.abs().max() <= 5.0
        assert bool((advantage[reward.argmax()] >= advantage).all())


class TestPolicyLoss:
    logits = torch.tensor([[0.2, 0.4], [0.0, -0.3], [1.0, 0.1], [0.3, 0.3]])

    def test_equal_policies_give_the_negative_mean_advantage(self):
        # ratio 1 and p = 1 everywhere: -mean(advantage) = 0, KL = 0.
        loss = o.glance_policy_loss(self.logits, self.logits, torch.tensor([0.0, 1.0, 0.0, 0.0]))
        assert abs(float(loss)) < 1e-5

    def test_group_without_variance_gives_no_gradient(self):
        for reward in (torch.zeros(4), torch.ones(4)):
            logits = self.logits.clone().requires_grad_()
            o.policy_parts(logits, self.logits + 0.5 * torch.randn(4, 2), reward).surrogate.backward()
            assert logits.grad.abs().max() == 0
            logits = self.logits.clone().requires_grad_()
            o.glance_policy_loss(logits, self.logits, reward).backward()
            assert logits.grad.abs().max() < 1e-6

    def test_step_raises_what_pays(self):
        logits = self.logits.clone().requires_grad_()
        o.glance_policy_loss(logits, self.logits, torch.tensor([0.0, 1.0, 0.0, 0.0])).backward()
        lesion = logits.grad[:, 1]
        assert lesion[1] < 0  # descent raises the rewarded one
        assert bool((lesion[[0, 2, 3]] > 0).all())

    def test_no_gain_beyond_the_clip(self):
        # The rewarded action is already more than 1.1 times as likely as in the reference: its gradient is the KL's.
        logits = torch.tensor([[0.0, 2.0], [0.0, 0.0]], requires_grad=True)
        reference = torch.tensor([[0.0, 0.0], [0.0, 0.0]])
        parts = o.policy_parts(logits, reference, torch.tensor([1.0, 0.0]))
        (gradient,) = torch.autograd.grad(parts.surrogate, logits)
        assert gradient[0].abs().max() == 0
        assert float(parts.clip_fraction) == 0.5

    def test_reference_and_reward_get_no_gradient(self):
        reference = self.logits.clone().requires_grad_()
        reward = torch.tensor([0.0, 1.0, 0.0, 0.0], requires_grad=True)
        logits = self.logits.clone().requires_grad_()
        o.glance_policy_loss(logits, reference, reward).backward()
        assert reference.grad is None
        assert reward.grad is None

    def test_rewards_get_no_gradient_into_the_focus(self):
        focus = as_logits(voxels(2)).requires_grad_()
        assert not o.detection_reward(focus, voxels(2)).requires_grad
        assert not o.dice_reward(focus, voxels(2)).requires_grad

    def test_extreme_logits_stay_finite(self):
        logits = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
        loss = o.glance_policy_loss(logits, -logits.detach(), torch.tensor([1.0, 0.0]))
        loss = loss + o.balanced_cross_entropy(logits, torch.tensor([1, 0]))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()

    def test_entropy_of_even_odds(self):
        parts = o.policy_parts(torch.zeros(4, 2), torch.zeros(4, 2), torch.zeros(4))
        assert float(parts.entropy) == pytest.approx(math.log(2))


class TestBalancedCrossEntropy:
    def test_classes_weigh_alike(self):
        # Even odds: log 2 per class, however many of each.
        loss = o.balanced_cross_entropy(torch.zeros(10, 2), torch.tensor([1] + [0] * 9))
        assert float(loss) == pytest.approx(2 * math.log(2), abs=1e-4)

    def test_absent_class_adds_nothing(self):
        assert float(o.balanced_cross_entropy(torch.zeros(4, 2), torch.zeros(4))) == pytest.approx(
            math.log(2), abs=1e-4
        )


class TestDiceCE:
    def test_perfect(self):
        assert float(o.dice_ce(as_logits(voxels(2, 3), 40.0), voxels(2, 3))) < 1e-4

    def test_even_odds(self):
        # p = 1/2 on 8 voxels, 2 lesion: Dice = 2*1/(4+2) and 2*3/(4+6); cross-entropy log 2.
        loss = o.dice_ce(torch.zeros(1, 2, 8, 1, 1), voxels(2, 3))
        assert float(loss) == pytest.approx(1 - (1 / 3 + 0.6) / 2 + math.log(2), abs=1e-4)

    def test_unknown_voxels_take_no_part(self):
        label = voxels(2, 3)
        label[0, 6:] = o.IGNORE
        logits = torch.randn(1, 2, 8, 1, 1)
        cut = o.dice_ce(logits[:, :, :6], label[:, :6])
        assert float(o.dice_ce(logits, label)) == pytest.approx(float(cut), abs=1e-6)

    def test_batch_dice_of_equal_samples_is_the_mean(self):
        logits, label = torch.randn(1, 2, 8, 1, 1), voxels(1)
        one = o.dice_ce(logits, label)
        both = o.dice_ce(logits.repeat(2, 1, 1, 1, 1), label.repeat(2, 1, 1, 1), batch=True)
        assert float(one) == pytest.approx(float(both), abs=1e-4)

    def test_weight_of_the_cross_entropy(self):
        # At even odds the cross-entropy is log 2 whatever the label.
        once, thrice = (float(o.dice_ce(torch.zeros(1, 2, 8, 1, 1), voxels(2, 3), ce_weight=w)) for w in (1.0, 3.0))
        assert thrice - once == pytest.approx(2 * math.log(2), abs=1e-4)

    def test_dice_of_some_sub_volumes_only(self):
        logits, label = torch.zeros(2, 2, 8, 1, 1), torch.cat([voxels(2), voxels(3)])
        first = o.dice_ce(logits[:1], label[:1], ce_weight=0.0)
        both = o.dice_ce(logits, label, ce_weight=0.0, with_dice=torch.tensor([True, False]))
        assert float(both) == pytest.approx(float(first) / 2, abs=1e-6)
        alone = o.dice_ce(logits, label, with_dice=torch.tensor([False, False]))
        assert float(alone) == pytest.approx(math.log(2), abs=1e-4)

    def test_weight_of_voxels(self):
        logits, label = torch.randn(1, 2, 8, 1, 1), voxels(2, 3)
        # A voxel that counts twice is a voxel that is there twice, but that the cross-entropy is over eight.
        weight = torch.ones(1, 8, 1, 1)
        weight[0, 2] = 2
        again = [*range(8), 2]
        weighted = o.dice_ce(logits, label, ce_weight=0.0, voxel_weight=weight)
        doubled = o.dice_ce(logits[:, :, again], label[:, again], ce_weight=0.0)
        assert float(weighted) == pytest.approx(float(doubled), abs=1e-6)
        even = o.dice_ce(torch.zeros(1, 2, 8, 1, 1), label, voxel_weight=weight)
        assert float(even - o.dice_ce(torch.zeros(1, 2, 8, 1, 1)[:, :, again], label[:, again])) == pytest.approx(
            math.log(2) / 8, abs=1e-4
        )

    def test_cells(self):
        # Eight voxels in four cells of two; lesion in the second, nothing known of the last.
        label = voxels(2)
        label[0, 6:] = o.IGNORE
        cells = torch.zeros(1, 2, 4, 1, 1)
        # Even odds in the three known cells: log 2 for the one with lesion, log 2 for the two without.
        assert float(o.cell_cross_entropy(cells, label)) == pytest.approx(2 * math.log(2), abs=1e-4)
        cells[0, 1, 1] = 40.0
        cells[0, 0, [0, 2]] = 40.0
        cells[0, 1, 3] = 40.0
        assert float(o.cell_cross_entropy(cells, label)) < 1e-4

    def test_glance_label(self):
        label = torch.cat([voxels(), voxels(3), torch.full((1, 8, 1, 1), o.IGNORE)])
        assert o.glance_label(label).tolist() == [0, 1, 0]
