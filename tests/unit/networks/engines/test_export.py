"""Exports to OpenVINO: what does not depend on the scan is computed once, and the answers stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.network_plan import GlanceConfig
from gfscreen.networks.engines.openvino import FOCUS_MODEL, OpenVINOEngine
from gfscreen.networks.models.manifest import read_manifest, verify
from tests.helpers.exports import SMALL_PLAN, write_exported

pytest.importorskip("torch")
pytest.importorskip("monai")
openvino = pytest.importorskip("openvino")

# Two blocks a stage: the second one has shifted windows, and with them an attention mask.
PLAN = replace(SMALL_PLAN, focus=replace(SMALL_PLAN.focus, depths=(2, 1, 1, 1)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exported(tmp_path_factory.mktemp("weights"), PLAN)


def test_nothing_that_could_be_computed_once_is_left(exported):
    model = openvino.Core().read_model(exported / "openvino" / FOCUS_MODEL)
    kinds = {operation.get_type_name() for operation in model.get_ops()}
    assert not kinds & {"ShapeOf", "Range", "ScatterNDUpdate", "Broadcast", "Equal", "NotEqual", "Select"}


def test_answers_are_those_of_torch(exported):
    from gfscreen.networks.engines.torch import TorchEngine

    batch = np.random.default_rng(1).random((2, 64, 32, 32), dtype=np.float32)
    fast = OpenVINOEngine(exported / "openvino", precision="fp32", reason="for a test")
    eager = TorchEngine(exported, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test")
    np.testing.assert_allclose(fast.glance(batch), eager.glance(batch), atol=1e-4)
    np.testing.assert_allclose(fast.focus(batch), eager.focus(batch), atol=1e-4)


@pytest.mark.parametrize("stages", [(4, 4, 8, 8), (4, 8, 8, 16)])
@pytest.mark.parametrize("first_stride", [(1, 1, 1), (2, 2, 2)])
def test_shortcut_has_the_values_of_monais_own(stages, first_stride):
    import torch
    from monai.networks.nets.resnet import ResNet

    from gfscreen.networks.models.glance import Glance, ZeroPaddedShortcut

    network = Glance(GlanceConfig("resnet10", stages, first_stride)).eval()
    shortcuts = [module for module in network.modules() if isinstance(module, ZeroPaddedShortcut)]
    assert len(shortcuts) == 3
    x = torch.rand(2, stages[0], 7, 8, 9, requires_grad=True)
    for shortcut in shortcuts:
        expected = ResNet._downsample_basic_block(None, x, shortcut.channels, shortcut.stride)
        torch.testing.assert_close(shortcut(x), expected, rtol=0, atol=0)
        assert not shortcut(x).requires_grad


def test_the_manifest_names_weights_and_seconds(exported):
    manifest = verify(exported / "openvino")
    assert manifest.info["weights_digest"] == read_manifest(exported).digest
    assert set(manifest.info["seconds"]) == {"glance", "focus"}
    assert min(manifest.info["seconds"].values()) > 0
