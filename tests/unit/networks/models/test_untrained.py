"""A seed gives the same untrained weights, whatever else the program has learnt to build."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.networks.models.glance import Glance  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_networks  # noqa: E402
from tests.helpers.engines import TINY_PLAN  # noqa: E402


def test_glance_is_drawn_first(tmp_path):
    """Figures and masks of untrained weights, of the benchmarks among others, stay comparable."""
    init_weights(tmp_path, TINY_PLAN, 5)
    _, drawn, _ = load_networks(tmp_path)
    torch.manual_seed(5)
    expected = Glance(TINY_PLAN.glance).state_dict()
    assert drawn is not None
    for name, tensor in drawn.state_dict().items():
        torch.testing.assert_close(tensor, expected[name].half().to(tensor.dtype), rtol=0, atol=0)
