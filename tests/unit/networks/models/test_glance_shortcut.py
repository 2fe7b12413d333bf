"""Glance's shortcuts: MONAI's values and gradients, and still there after an export."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen.network_plan import GlanceConfig
from gfscreen.networks.models.manifest import write_manifest
from tests.helpers.runs import write_plan

torch = pytest.importorskip("torch")
pytest.importorskip("monai")


def small(pooling: Any = "max") -> Any:
    from gfscreen.networks.models.glance import Glance

    torch.manual_seed(0)
    return Glance(GlanceConfig("resnet10", (4, 4, 8, 8), pooling=pooling))


def shortcuts(glance: Any) -> list[Any]:
    from gfscreen.networks.models.glance import ZeroPaddedShortcut

    blocks = glance.backbone.modules()
    return [block for block in blocks if isinstance(getattr(block, "downsample", None), ZeroPaddedShortcut)]


def test_values_and_gradients_are_monais():
    glance = small().train()
    state = {name: value.clone() for name, value in glance.state_dict().items()}
    x = torch.rand(2, 1, 33, 32, 32)

    def both() -> tuple[Any, list[Any]]:
        glance.load_state_dict(state)
        glance.zero_grad()
        logits = glance(x)
        logits.sum().backward()
        return logits.detach().clone(), [parameter.grad.clone() for parameter in glance.parameters()]

    own = both()
    blocks = shortcuts(glance)
    assert len(blocks) == 3
    for block in blocks:
        shortcut = block.downsample
        # A module's place takes modules only.
        del block.downsample
        block.downsample = partial(
            glance.backbone._downsample_basic_block, planes=shortcut.channels, stride=shortcut.stride
        )
    monais = both()
    torch.testing.assert_close(own, monais, rtol=0, atol=0)


def test_a_traced_network_does_not_remember_its_example():
    glance = small().eval()
    x, example = torch.rand(1, 1, 32, 32, 32), torch.rand(1, 1, 32, 32, 32)
    with torch.inference_mode():
        traced = torch.jit.trace(glance, example, check_trace=False)
        torch.testing.assert_close(traced(x), glance(x))
        assert not np.allclose(glance(x), glance(example))


@pytest.mark.parametrize(
    ("info", "current"),
    [
        ({}, True),
        ({"openvino": "2026.4.1", "format": 4}, True),
        ({"openvino": "2026.4.1"}, False),
        ({"openvino": "2026.4.1", "format": 1}, False),
        ({"openvino": "2026.4.1", "format": 2}, False),
        ({"openvino": "2026.4.1", "format": 3}, False),
    ],
)
def test_an_export_of_before_is_made_anew(tmp_path: Path, info: dict[str, Any], current: bool):
    from gfscreen.networks.engines.export import is_current

    weights = write_plan(tmp_path / "weights")
    digest = write_manifest(weights, ["plan.json"], {}).digest
    export = weights / "openvino"
    export.mkdir()
    write_manifest(export, [], {"weights_digest": digest, **info})
    assert is_current(export, weights) == current
