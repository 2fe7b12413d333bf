"""PPO with a value: where gradients go, the clipped step, the baseline's two limits, and numbers followed by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gfscreen.training import objectives, ppo

QUICK = settings(max_examples=25, deadline=None)


def moderate(low=-4.0, high=4.0):
    return st.floats(low, high, width=32)


@st.composite
def batches(draw, smallest=2):
    """Logits and old logits (N, 2), values, rewards and actions (N,)."""
    n = draw(st.integers(smallest, 16))
    pairs = st.lists(st.tuples(moderate(), moderate()), min_size=n, max_size=n)
    numbers = st.lists(moderate(0.0, 1.0), min_size=n, max_size=n)
    action = torch.tensor(draw(st.lists(st.integers(0, 1), min_size=n, max_size=n)))
    return *(torch.tensor(draw(kind), dtype=torch.float32) for kind in (pairs, pairs, numbers, numbers)), action


def leaves(*tensors):
    return [tensor.clone().requires_grad_() for tensor in tensors]


def grads(scalar, *inputs):
    """Gradients, None where the scalar does not depend on the input (or on nothing at all)."""
    if not scalar.requires_grad:
        return (None,) * len(inputs)
    return torch.autograd.grad(scalar, inputs, retain_graph=True, allow_unused=True)


class TestGradients:
    @given(batches())
    @QUICK
    def test_each_term_reaches_what_it_should(self, batch):
        logits, old, value, reward = leaves(*batch[:4])
        parts = ppo.ppo_parts(logits, old, value, reward, batch[4])
        to_logits, to_old, to_value, to_reward = grads(parts.surrogate, logits, old, value, reward)
        assert to_logits is not None
        assert (to_old, to_value, to_reward) == (None, None, None)
        to_logits, to_old, to_value, to_reward = grads(parts.value_loss, logits, old, value, reward)
        assert (to_logits, to_old, to_reward) == (None, None, None)
        torch.testing.assert_close(to_value, 2 * (value - reward).detach() / len(value))
        to_logits, to_old, to_value, to_reward = grads(parts.entropy, logits, old, value, reward)
        assert to_logits is not None
        assert (to_old, to_value, to_reward) == (None, None, None)
        watched = (parts.kl, parts.clip_fraction, parts.approx_kl, parts.explained_variance)
        assert not any(part.requires_grad for part in watched)

    @given(batches())
    @QUICK
    def test_the_loss_has_each_terms_gradient_once(self, batch):
        logits, old, value, reward, action = batch
        logits, value = leaves(logits, value)
        parts = ppo.ppo_parts(logits, old, value, reward, action, value_weight=0.5, entropy_weight=0.2)
        (surrogate,), (entropy,) = grads(parts.surrogate, logits), grads(parts.entropy, logits)
        (value_loss,) = grads(parts.value_loss, value)
        to_logits, to_value = grads(parts.loss, logits, value)
        torch.testing.assert_close(to_logits, surrogate - 0.2 * entropy)
        torch.testing.assert_close(to_value, 0.5 * value_loss)

    @given(batches(smallest=1))
    @QUICK
    def test_what_was_foreseen_moves_no_policy(self, batch):
        logits, old, _, reward, action = batch
        (logits,) = leaves(logits)
        parts = ppo.ppo_parts(logits, old, reward.clone(), reward, action)
        (gradient,) = grads(parts.surrogate, logits)
        assert gradient.abs().max() == 0
        assert float(parts.value_loss) == 0

    def test_an_action_that_paid_more_than_expected_becomes_likelier(self):
        (logits,) = leaves(torch.zeros(4, 2))
        # Read and paid more than foreseen; left with more than foreseen; both again with less; over the mean of 0.
        reward, value = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 0.0, 1.0, 1.0])
        action = torch.tensor([1, 0, 1, 0])
        (gradient,) = grads(ppo.ppo_parts(logits, torch.zeros(4, 2), value, reward, action).surrogate, logits)
        to_read = (-gradient[:, 1]).sign().tolist()  # descent
        assert to_read == [1.0, -1.0, -1.0, 1.0]

    def test_extreme_logits_stay_finite(self):
        logits = torch.tensor([[80.0, -80.0], [-80.0, 80.0]], requires_grad=True)
        value = torch.tensor([0.2, 0.1], requires_grad=True)
        loss = ppo.ppo_parts(logits, -logits.detach(), value, torch.tensor([1.0, 0.0]), torch.tensor([1, 0])).loss
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(logits.grad).all()

    def test_half_precision_is_computed_in_float32(self):
        logits, old = torch.rand(4, 2).half(), torch.rand(4, 2).half()
        half = ppo.ppo_parts(logits, old, torch.rand(4).half(), torch.rand(4).half(), torch.ones(4).long())
        assert {part.dtype for part in vars(half).values()} == {torch.float32}


class TestClippedStep:
    @given(st.floats(0.12, 0.8), st.booleans(), st.booleans())
    @QUICK
    def test_no_gain_beyond_the_clip(self, excess, paid, read):
        """An action that is already more than 1.1 times as likely as it was, and paid, has no gradient, nor has one
        below 0.9 times that did not pay; the other way round it is called back."""
        old, action = torch.zeros(2, 2), torch.tensor([int(read), 1])
        taken = 0.5 * (1 + excess if paid else 1 - excess)
        odds = math.log(taken / (1 - taken)) * (1 if read else -1)
        logits = torch.tensor([[0.0, odds], [0.0, 0.0]], requires_grad=True)
        parts = ppo.ppo_parts(logits, old, torch.zeros(2), torch.tensor([float(paid), float(not paid)]), action)
        (gradient,) = grads(parts.surrogate, logits)
        assert gradient[0].abs().max() == 0
        assert gradient[1].abs().max() > 0
        assert float(parts.clip_fraction) == 0.5
        back = ppo.ppo_parts(logits, old, torch.zeros(2), torch.tensor([float(not paid), float(paid)]), action)
        (gradient,) = grads(back.surrogate, logits)
        assert gradient[0].abs().max() > 0

    def test_by_hand(self):
        """Two sub-volumes, the first read, the second left, all terms by a pocket calculator.

        Read with probability 0.75 where it was 0.5: ratio 1.5, clipped to 1.1. Left with 0.6 where it was 0.5: 1.2.
        Rewards 1 and 0 over values 0.25 and 0.25: 0.75 and -0.25, mean 0.25, unbiased std sqrt(0.5): +-0.70711.
        """
        logits = torch.tensor([[0.0, math.log(3.0)], [math.log(1.5), 0.0]])
        value, reward, action = torch.full((2,), 0.25), torch.tensor([1.0, 0.0]), torch.tensor([1, 0])
        parts = ppo.ppo_parts(logits, torch.zeros(2, 2), value, reward, action)
        surrogate = -(1.1 * 0.70711 - 1.2 * 0.70711) / 2  # the lesser of the two: unclipped where it did not pay
        value_loss = (0.75**2 + 0.25**2) / 2
        entropy = (0.56234 + 0.67301) / 2  # of 0.75 and 0.25, and of 0.6 and 0.4
        assert float(parts.surrogate) == pytest.approx(surrogate, abs=1e-5)
        assert float(parts.value_loss) == pytest.approx(value_loss, abs=1e-6)
        assert float(parts.entropy) == pytest.approx(entropy, abs=1e-5)
        assert float(parts.loss) == pytest.approx(surrogate + value_loss - 0.01 * entropy, abs=1e-5)
        assert float(parts.clip_fraction) == 1.0
        assert float(parts.approx_kl) == pytest.approx((0.40547 + 0.18232) / 2, abs=1e-5)  # ln 1.5, ln 1.2
        # p = reference / current = 2/3 and 5/6: p - ln p - 1.
        assert float(parts.kl) == pytest.approx((0.07213 + 0.01566) / 2, abs=1e-5)
        assert float(parts.explained_variance) == pytest.approx(0.0, abs=1e-6)


class TestAction:
    def test_is_sampled_from_the_old_policy(self):
        # Probability 0.75 of reading: chances below it read.
        old = torch.tensor([[0.0, math.log(3.0)]] * 4)
        assert ppo.sample_action(old, torch.tensor([0.0, 0.74, 0.76, 0.999])).tolist() == [1, 1, 0, 0]

    def test_what_it_pays(self):
        """Reading pays what it pays; leaving pays the mean of the whole group, whatever was left."""
        pays = torch.tensor([1.0, 0.0, 0.5, 0.5], requires_grad=True)
        reward = ppo.action_reward(pays, torch.tensor([1, 1, 0, 0]))
        assert reward.tolist() == [1.0, 0.0, 0.5, 0.5]
        assert ppo.action_reward(torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.tensor([0, 0, 0, 0])).tolist() == [0.25] * 4
        assert not reward.requires_grad


class TestBaseline:
    @given(batches(), moderate(-1.0, 1.0))
    @QUICK
    def test_all_read_and_a_value_that_is_the_same_everywhere_give_the_group_relative_step(self, batch, constant):
        logits, old, value, reward, _ = batch
        reward = (reward > 0.5).float()  # rewards near 1e-8 would not survive the constant in float32
        (logits,) = leaves(logits)
        parts = ppo.ppo_parts(logits, old, torch.full_like(value, constant), reward, torch.ones(len(reward)).long())
        (ours,) = grads(parts.surrogate, logits)
        (group,) = grads(objectives.policy_parts(logits, old, reward).surrogate, logits)
        torch.testing.assert_close(ours, group, atol=1e-5, rtol=1e-4)

    @given(batches())
    @QUICK
    def test_advantage_is_normalised(self, batch):
        _, _, value, reward, _ = batch
        advantage = ppo.ppo_advantage(reward, value)
        assert advantage.abs().max() <= objectives.ADVANTAGE_LIMIT
        if (reward - value).std() > objectives.ADVANTAGE_STD_FLOOR:
            assert float(advantage.std()) == pytest.approx(1.0, abs=1e-3)
            assert float(advantage.mean()) == pytest.approx(0.0, abs=1e-4)

    def test_explained_variance(self):
        def explained(value, reward=(0.0, 1.0, 0.0, 1.0)):
            zeros = torch.zeros(len(reward), 2)
            action = torch.ones(len(reward)).long()
            parts = ppo.ppo_parts(zeros, zeros, torch.tensor(value), torch.tensor(reward), action)
            return float(parts.explained_variance)

        assert explained([0.0, 1.0, 0.0, 1.0]) == 1.0
        assert explained([0.7] * 4) == pytest.approx(0.0, abs=1e-6)
        assert explained([0.0, 0.5, 0.0, 0.5]) == pytest.approx(0.75)  # half of each is left: a quarter of the variance
        assert explained([0.0, -1.0, 0.0, -1.0]) == pytest.approx(-3.0)
        assert math.isnan(explained([0.0, 1.0], reward=(1.0, 1.0)))

    def test_a_policy_with_one_logit(self):
        """The largest of a sub-volume's cells as logits (0, z): probability sigmoid(z), gradient to that cell."""
        cells = torch.tensor([[0.3, -1.0, 0.1], [-2.0, -0.5, -3.0]], requires_grad=True)
        z = cells.amax(dim=1)
        logits = torch.stack([torch.zeros_like(z), z], dim=1)
        torch.testing.assert_close(objectives.lesion_probability(logits), torch.sigmoid(z))
        parts = ppo.ppo_parts(logits, logits, torch.zeros(2), torch.tensor([1.0, 0.0]), torch.tensor([1, 1]))
        (gradient,) = grads(parts.surrogate, cells)
        assert (gradient != 0).tolist() == [[True, False, False], [False, True, False]]


class TestShapes:
    logits, row = torch.zeros(3, 2), torch.zeros(3)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((logits, logits, row[:, None], row, row), r"value must be \(3,\).*got \(3, 1\)"),
            ((logits, logits, row, row[:2], row), r"reward must be \(3,\).*got \(2,\)"),
            ((logits, logits, row, row, row[:2]), r"action must be \(3,\).*got \(2,\)"),
            ((logits, logits[:1], row, row, row), r"old_logits must be \(3, 2\).*got \(1, 2\)"),
            ((row, row, row, row, row), r"logits must be \(N, 2\).*got \(3,\)"),
            ((logits[:0], logits[:0], row[:0], row[:0], row[:0]), r"N at least 1, got \(0, 2\)"),
        ],
    )
    def test_are_checked(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            ppo.ppo_parts(*arguments)
