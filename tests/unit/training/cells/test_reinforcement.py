"""The head as a policy, on sub-volumes whose reward is known."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gfscreen.errors import InputError  # noqa: E402
from gfscreen.training.cells.head import Regression  # noqa: E402
from gfscreen.training.cells.reinforcement import CellPolicy, reinforce  # noqa: E402
from gfscreen.training.cells.sub_volumes import SubVolume  # noqa: E402

FEATURES = 8


def blank(bias=0.0):
    return Regression(torch.full((FEATURES,), 1.0), torch.full((FEATURES,), 2.0), torch.zeros(FEATURES), bias)


def sub_volume(rng, pays, detection_only=False):
    """One cell of it, of either region, has the feature that tells whether reading pays."""
    features = rng.normal(1.0, 2.0, (6, FEATURES))
    features[3, 5] = 9.0 if pays else 1.0
    region = np.array([0, 1, 0, 1, 0, 1], np.int8)
    dice = 0.0 if detection_only else 0.7 * pays
    return SubVolume(features.astype(np.float16), region, bool(pays), float(pays), dice)


@pytest.fixture
def pool():
    rng = np.random.default_rng(0)
    return [sub_volume(rng, n % 2) for n in range(40)]


def test_opens_as_its_most_suspicious_cell_by_the_head_of_that_cells_region(pool):
    weight = torch.zeros(FEATURES)
    weight[5] = 4.0
    heads = [blank(-5.0), Regression(blank().mean, blank().scale, weight, -2.0)]
    logits, cells = CellPolicy(heads)(pool[:2])
    for row, one in enumerate(pool[:2]):
        by_cell = [heads[r].logits(one.features[n : n + 1])[0] for n, r in enumerate(one.region)]
        assert logits[row].tolist() == pytest.approx([0.0, max(by_cell)], abs=1e-4)
        expected = (one.features[int(np.argmax(by_cell))].astype(float) - 1.0) / 2.0
        np.testing.assert_allclose(cells[row].detach().numpy(), expected, atol=1e-3)


@pytest.mark.parametrize("objective", ["grpo-detection", "grpo-dice", "ppo"])
def test_learns_to_open_what_pays(pool, objective):
    heads = reinforce([blank(), blank()], pool, objective, 0, steps=120, learning_rate=0.02)
    with torch.no_grad():
        opens = CellPolicy(heads)(pool)[0][:, 1].numpy()
    pays = np.array([one.has_lesion for one in pool])
    assert opens[pays].mean() > opens[~pays].mean() + 1.0


def test_labels_alone_change_nothing(pool):
    heads = [blank(), blank(1.0)]
    assert reinforce(heads, pool, "ce", 0) == heads


def test_a_seed_gives_the_same_again(pool):
    first, again, other = (reinforce([blank(), blank()], pool, "ppo", seed, steps=5) for seed in (0, 0, 1))
    assert torch.equal(first[1].weight, again[1].weight)
    assert not torch.equal(first[1].weight, other[1].weight)


def test_a_focus_that_finds_nothing_is_told_of(pool):
    rng = np.random.default_rng(0)
    unpaid = [sub_volume(rng, 1, detection_only=True) for _ in range(4)]
    with pytest.raises(InputError, match="4 sub-volumes that all pay 0 teach nothing"):
        reinforce([blank(), blank()], unpaid, "grpo-dice", 0)
    with pytest.raises(InputError, match="0 sub-volumes"):
        reinforce([blank(), blank()], [], "ppo", 0)
