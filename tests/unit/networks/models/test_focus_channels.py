"""A Focus that sees both HU windows: begun from one that saw its region's, run by both engines, trained, assembled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.config import Plan, read_plan  # noqa: E402
from gfscreen.errors import UsageError  # noqa: E402
from gfscreen.network_plan import FocusConfig  # noqa: E402
from gfscreen.networks.models.focus import INPUT_LAYERS, build_focus, widened  # noqa: E402
from gfscreen.networks.models.manifest import change_plan  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_networks  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from gfscreen.training.learning import assemble, loop  # noqa: E402
from gfscreen.training.learning.distributed import World  # noqa: E402
from gfscreen.training.learning.initialisation import build_run  # noqa: E402
from tests.helpers.tiny_training import TINY  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402

ONE = FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4)
BOTH = replace(ONE, hu_channels="both")
ALONE = World(0, 1, torch.device("cpu"))


def test_it_begins_with_the_answers_of_the_one_before():
    torch.manual_seed(1)
    before, after = build_focus(ONE).eval(), build_focus(BOTH).eval()
    assert all(name in before.state_dict() for name in INPUT_LAYERS)
    after.load_state_dict(widened(before.state_dict(), BOTH))
    image = torch.rand(1, 2, 64, 32, 32)
    with torch.inference_mode():
        torch.testing.assert_close(after(image), before(image[:, :1]), rtol=0, atol=1e-5)
        # With weights the second channel counts.
        for name in INPUT_LAYERS:
            after.state_dict()[name][:, 1] = 0.1
        assert (after(image) - before(image[:, :1])).abs().max() > 1e-3


def test_as_many_channels_stay_as_they_are():
    state = build_focus(BOTH).state_dict()
    assert all(torch.equal(value, state[name]) for name, value in widened(state, BOTH).items())


@pytest.mark.parametrize("config", [BOTH, replace(BOTH, full_resolution_channels=4)], ids=["wide", "narrow"])
def test_both_engines_give_the_same(tmp_path, config):
    pytest.importorskip("openvino")
    from gfscreen.networks.engines.export import export_openvino
    from gfscreen.networks.engines.openvino import OpenVINOEngine
    from gfscreen.networks.engines.torch import TorchEngine

    init_weights(tmp_path, Plan(sub_volume_voxels=(64, 32, 32), glance=TINY.glance, focus=config), 3)
    export_openvino(tmp_path, tmp_path / "openvino")
    batch = np.random.default_rng(1).random((2, 2, 64, 32, 32), dtype=np.float32)
    fast = OpenVINOEngine(tmp_path / "openvino", precision="fp32", reason="for a test")
    eager = TorchEngine(tmp_path, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test")
    assert fast.focus(batch).shape == (2, 64, 32, 32)
    np.testing.assert_allclose(fast.focus(batch), eager.focus(batch), atol=1e-4)
    swapped = np.ascontiguousarray(batch[:, ::-1])
    assert np.abs(fast.focus(swapped) - fast.focus(batch)).max() > 1e-3


SETTINGS = replace(TINY, focus=BOTH, evaluation_crops=1, augment="strong")


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_training_list(folder)
    return folder


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("before")
    init_weights(folder, replace(SETTINGS.plan, focus=ONE), 1)
    change_plan(folder, gate=0.25, lesion_threshold=0.2)
    return folder


def run(data_folder: Path, folder: Path, **keys: object) -> Path:
    settings = replace(SETTINGS, **keys)  # type: ignore[arg-type]
    return loop.train(settings, loop.Job(read_list(data_folder / "list.json"), folder / "cache", folder), ALONE)


def test_on_from_weights_with_one_channel(data_folder, before, tmp_path):
    """It learns from the second channel, and keeps gate and thresholds by `assemble --thresholds`."""
    started = build_run(replace(SETTINGS, init=str(before)), ALONE).focus.state_dict()
    assert not any(started[name][:, 1].any() for name in INPUT_LAYERS)
    trained = run(data_folder, tmp_path / "run", init=str(before), steps=3)
    plan, _, focus = load_networks(trained)
    assert plan.focus == BOTH
    assert all(focus.state_dict()[name][:, 1].any() for name in INPUT_LAYERS)
    assemble.assemble([tmp_path / "run"], [before], tmp_path / "new", thresholds=before)
    assert read_plan(tmp_path / "new") == replace(read_plan(before), focus=BOTH)


def test_the_mean_with_what_it_went_on_from(data_folder, before, tmp_path):
    run(data_folder, tmp_path / "run", init=str(before))
    assemble.assemble([before, tmp_path / "run"], [before], tmp_path / "mean")
    plan, _, mean = load_networks(tmp_path / "mean")
    _, _, trained = load_networks(tmp_path / "run" / "weights")
    assert plan.focus == BOTH
    name = INPUT_LAYERS[0]
    torch.testing.assert_close(
        mean.state_dict()[name][:, 1], trained.state_dict()[name][:, 1] / 2, rtol=1e-2, atol=1e-6
    )
    other = tmp_path / "other"
    init_weights(other, replace(plan, focus=replace(BOTH, feature_size=24)), 0)
    with pytest.raises(UsageError, match="hold different Focus networks"):
        assemble.assemble([before, other], [before], tmp_path / "none")


@pytest.mark.parametrize("stage", ["joint", "glance"])
def test_a_glance_beside_it_sees_its_own_window(data_folder, tmp_path, stage):
    trained = run(data_folder, tmp_path, stage=stage, gate="grpo", pool=2)
    assert load_networks(trained)[0].focus == BOTH
