"""The regression against its optimum, its weights, and the head that it is folded into."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gfscreen.networks.models.cell_glance import CellFeatures, CellGlance, linear_head  # noqa: E402
from gfscreen.training.cells.examples import NEGATIVE, POSITIVE, RING  # noqa: E402
from gfscreen.training.cells.head import Regression, cell_weights, fit  # noqa: E402
from tests.helpers.trunk import random_trunk  # noqa: E402

FEATURES = 2048


def planted(n=400, features=6, seed=0):
    """Features of which one tells lesion, on scales that differ by a thousand; (features, positive)."""
    rng = np.random.default_rng(seed)
    positive = rng.random(n) < 0.2
    x = rng.standard_normal((n, features))
    x[:, 2] += 3.0 * positive
    return (x * np.logspace(-1, 2, features) + 5.0).astype(np.float16), positive


def test_separates_what_was_planted():
    features, positive = planted()
    regression = fit(features, positive, np.ones(len(positive), np.float32), 0.01)
    unseen, lesion = planted(seed=1)
    logits = regression.logits(unseen)
    assert np.median(logits[lesion]) > np.quantile(logits[~lesion], 0.95)
    assert int(regression.weight.abs().argmax()) == 2


def test_is_the_optimum_of_the_loss_that_is_described():
    features, positive = planted()
    weight = np.where(positive, 3.0, 1.0).astype(np.float32)
    regression = fit(features, positive, weight, 0.05)
    x = features.astype(np.float64)
    z = (x - regression.mean.numpy()) / regression.scale.numpy()
    residual = 1 / (1 + np.exp(-(z @ regression.weight.numpy() + regression.bias))) - positive
    share = weight / weight.sum()
    np.testing.assert_allclose(z.T @ (share * residual) + 0.05 * regression.weight.numpy(), 0, atol=2e-4)
    assert abs((share * residual).sum()) < 2e-4


def test_a_larger_penalty_gives_smaller_weights():
    features, positive = planted()
    norms = [
        float(fit(features, positive, np.ones(len(positive), np.float32), p).weight.norm()) for p in (0.01, 0.1, 1)
    ]
    assert norms[0] > norms[1] > norms[2]


@pytest.mark.parametrize("value", [True, False])
def test_one_kind_alone_is_refused(value):
    features, positive = planted()
    with pytest.raises(ValueError, match="positive and other"):
        fit(features, np.full(len(positive), value), np.ones(len(positive), np.float32), 0.01)


def test_a_large_lesion_weighs_no_more_than_twelve_cells_and_a_real_one_twice_that():
    kind = np.array([POSITIVE] * 40 + [POSITIVE] * 2 + [NEGATIVE, RING] + [POSITIVE] * 24, np.int8)
    lesion = np.array([1] * 40 + [2] * 2 + [0, 0] + [3] * 24, np.int32)
    weight = cell_weights(kind, lesion, np.array([False, False, True]))
    assert weight[lesion == 1].sum() == pytest.approx(12)
    assert weight[lesion == 2].tolist() == [1, 1]
    assert weight[lesion == 0].tolist() == [1, 1]
    assert weight[lesion == 3].sum() == pytest.approx(24)


def test_many_lesions_of_one_scan_count_as_ten():
    """Sixty metastases of one liver do not outweigh other patients; inserted lesions beside them stay as they were."""
    lesion = np.arange(1, 63, dtype=np.int32)
    real = np.array([True] * 60 + [False, False])
    weight = cell_weights(np.full(62, POSITIVE, np.int8), lesion, real)
    assert weight[:60].sum() == pytest.approx(20)
    assert weight[60:].tolist() == [1, 1]


def test_the_head_gives_the_logits_of_the_regression(tmp_path, monkeypatch):
    trunk = random_trunk(tmp_path, monkeypatch)
    rng = np.random.default_rng(0)
    volume = torch.from_numpy(rng.random((1, 1, 16, 32, 48), dtype=np.float32))
    features = CellFeatures(trunk)(volume)[0]
    assert features.shape == (FEATURES, 4, 4, 6)
    columns = features.flatten(1).T
    regressions = {
        region: Regression(
            columns.mean(dim=0), columns.std(dim=0) + 1e-3, torch.from_numpy(rng.normal(size=FEATURES)).float(), bias
        )
        for region, bias in (("chest", -1.5), ("abdomen", 2.0))
    }
    folded = {region: regression.folded() for region, regression in regressions.items()}
    head = linear_head({r: f[0] for r, f in folded.items()}, {r: f[1] for r, f in folded.items()})
    found = CellGlance(trunk, head)(volume)[0].detach().numpy()
    for channel, region in enumerate(("chest", "abdomen")):
        of = regressions[region]
        expected = ((columns - of.mean) / of.scale) @ of.weight + of.bias
        assert float(expected.std()) > 1
        np.testing.assert_allclose(found[channel].reshape(-1), expected, atol=2e-3)
        np.testing.assert_allclose(of.logits(columns.numpy()), expected, atol=2e-3)
