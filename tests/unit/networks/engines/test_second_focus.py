"""A second Focus: stored, exported, run by both engines, and put together with other networks."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
pytest.importorskip("openvino")

from gfscreen.config import Plan, preset_plan, read_plan  # noqa: E402
from gfscreen.errors import UsageError, WeightsError  # noqa: E402
from gfscreen.network_plan import FocusConfig, GlanceConfig, SecondFocusConfig  # noqa: E402
from gfscreen.networks.engines import openvino  # noqa: E402
from gfscreen.networks.engines.export import export_openvino  # noqa: E402
from gfscreen.networks.engines.openvino import OpenVINOEngine  # noqa: E402
from gfscreen.networks.engines.torch import TorchEngine  # noqa: E402
from gfscreen.networks.models.manifest import read_manifest, verify, write_manifest  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_second_focus  # noqa: E402
from gfscreen.training.learning.assemble import assemble  # noqa: E402

SMALL = FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4)
GLANCE = GlanceConfig(architecture="resnet10", stage_channels=(4, 8, 8, 16), first_stride=(2, 2, 1), shortcut="B")
SECOND = SecondFocusConfig(replace(SMALL, hu_channels="both"), (64, 32, 32), wide=True)
PLAN = replace(
    preset_plan("fast"), weights="trained", sub_volume_voxels=(64, 64, 32), glance=GLANCE, focus=SMALL,
    second_focus=SECOND,
)  # fmt: skip
pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    init_weights(folder, PLAN, 5)
    export_openvino(folder, folder / "openvino")
    return folder


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Weights without a second Focus."""
    init_weights(tmp_path / "plain", replace(PLAN, second_focus=None), 6)
    return tmp_path / "plain"


@pytest.fixture(scope="module")
def engines(weights: Path) -> tuple[OpenVINOEngine, TorchEngine]:
    return (
        OpenVINOEngine(weights / "openvino", precision="fp32", reason="for a test"),
        TorchEngine(weights, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test"),
    )


@pytest.mark.parametrize("size", [(64, 32, 32), (64, 64, 32)])
def test_both_engines_say_the_same_and_not_what_focus_says(engines, size):
    batch = np.random.default_rng(0).random((2, 2, *size), np.float32)
    found, expected = (engine.second_focus(batch) for engine in engines)
    assert found.shape == expected.shape == (2, *size)
    assert found.dtype == expected.dtype == np.float32
    assert expected.std() > 0.01
    np.testing.assert_allclose(found, expected, atol=1e-3)
    own = engines[1].focus(np.zeros((1, 64, 64, 32), np.float32))
    assert own.shape == (1, 64, 64, 32)
    for engine in engines:
        engine.release()
        np.testing.assert_allclose(engine.second_focus(batch), expected, atol=1e-3)


def test_networks_that_take_turns_hold_the_memory_of_one(weights, monkeypatch):
    engine = OpenVINOEngine(weights / "openvino", precision="fp32", reason="for a test")
    given_back: list[object] = []
    monkeypatch.setattr(openvino, "_release", lambda *requests: given_back.extend(filter(None, requests)))
    own, close, wide = np.zeros((1, 64, 64, 32)), np.zeros((1, 2, 64, 32, 32)), np.zeros((1, 2, 64, 64, 32))
    asked = [(engine.focus, own), (engine.second_focus, close), (engine.focus, own), (engine.second_focus, wide)]
    counts = []
    for ask, batch in asked:
        for _ in range(2):
            ask(batch.astype(np.float32))
        counts.append(len(given_back))
    assert counts == [0, 1, 2, 3]
    focus, second = given_back[:2]
    assert focus is not second
    assert given_back[2] is focus
    engine.release()
    engine.release()
    assert [one for one in given_back[3:] if one is not engine._glance and one is not engine._cells] == [
        engine._wide_second_focus
    ]


def test_its_seconds_are_expected(weights, engines):
    seconds = json.loads((weights / "openvino/manifest.json").read_text())["info"]["seconds"]
    assert set(seconds) == {"glance", "focus", "second_focus", "second_focus_wide"}
    info = engines[0].info
    assert info.second_focus_s == pytest.approx(info.focus_s * seconds["second_focus"] / seconds["focus"])


def test_it_is_stored_and_vouched_for(weights, plain):
    assert "second_focus.safetensors" in verify(weights).sha256
    assert {"second_focus.xml", "second_focus_wide.xml"} <= set(verify(weights / "openvino").sha256)
    assert "second_focus.safetensors" not in verify(plain).sha256
    assert load_second_focus(plain) is None
    engine = TorchEngine(plain, device="cpu", precision="fp32", gpu_memory_limit_mb=None, reason="for a test")
    assert engine.info.second_focus_s is None


def test_without_wide_looks_there_is_no_second_export(tmp_path):
    init_weights(tmp_path / "close", replace(PLAN, second_focus=replace(SECOND, wide=False)), 6)
    export_openvino(tmp_path / "close", tmp_path / "close/openvino")
    made = set(verify(tmp_path / "close/openvino").sha256)
    assert "second_focus.xml" in made
    assert "second_focus_wide.xml" not in made


def test_a_damaged_one_is_refused(weights, tmp_path):
    folder = tmp_path / "weights"
    shutil.copytree(weights, folder, ignore=shutil.ignore_patterns("openvino"))
    shutil.copyfile(folder / "focus.safetensors", folder / "second_focus.safetensors")
    manifest = read_manifest(folder)
    write_manifest(folder, manifest.sha256, manifest.info)
    with pytest.raises(WeightsError, match=r"second_focus.safetensors: does not fit the plan: .* has shape"):
        load_second_focus(folder)


class TestPlan:
    def test_the_plan_as_the_second_focus_has_it(self):
        own = PLAN.of_second_focus
        assert (own.focus, own.sub_volume_voxels, own.second_focus) == (SECOND.network, (64, 32, 32), None)
        assert own.of_second_focus is own
        assert PLAN.of_wide_second_focus == replace(own, sub_volume_voxels=PLAN.sub_volume_voxels)

    @pytest.mark.parametrize("size", [(64, 64), (64, 64, 31), (0, 64, 64)])
    def test_sizes_that_it_cannot_read(self, size):
        with pytest.raises(ValueError, match="three multiples of 32"):
            SecondFocusConfig(SMALL, size)


class TestAssemble:
    def test_another_runs_focus_becomes_the_second(self, weights, plain, tmp_path):
        assemble([plain], [plain], tmp_path / "made", second=weights)
        plan = read_plan(tmp_path / "made")
        assert plan.second_focus == SecondFocusConfig(SMALL, wide=True)
        assert same_focus(tmp_path / "made/second_focus.safetensors", weights / "focus.safetensors")
        assert read_manifest(tmp_path / "made").info["second_focus_run"] == weights.name

    def test_it_goes_with_its_focus_and_with_the_thresholds(self, weights, plain, tmp_path):
        assemble([weights], [plain], tmp_path / "focus")
        assemble([plain], [plain], tmp_path / "thresholds", thresholds=weights)
        assemble([plain], [weights], tmp_path / "glance")
        for name in ("focus", "thresholds"):
            assert read_plan(tmp_path / name).second_focus == SECOND
            assert same_focus(tmp_path / name / "second_focus.safetensors", weights / "second_focus.safetensors")
        assert read_plan(tmp_path / "glance").second_focus is None
        assert not (tmp_path / "glance/second_focus.safetensors").exists()

    def test_one_of_another_preset_is_refused(self, plain, tmp_path):
        other: Plan = replace(preset_plan("paper"), weights="trained", glance=GLANCE, focus=SMALL)
        init_weights(tmp_path / "paper", other, 1)
        with pytest.raises(UsageError, match=r"--second .*paper: two Focuses of preset fast go together"):
            assemble([plain], [plain], tmp_path / "made", second=tmp_path / "paper")
        assert not (tmp_path / "made").exists()


def same_focus(one: Path, other: Path) -> bool:
    from safetensors.torch import load_file

    first, second = load_file(one), load_file(other)
    return set(first) == set(second) and all(torch.equal(first[name], second[name]) for name in first)
