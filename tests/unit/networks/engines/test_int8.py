"""Convolutions of Focus in whole numbers: the answers stay near, and only those who asked for it have them."""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import EngineError, WeightsError
from gfscreen.network_plan import Int8Input
from gfscreen.networks.engines.int8 import FULL_RESOLUTION, convolution, to_int8
from gfscreen.networks.engines.openvino import FOCUS_MODEL, OpenVINOEngine, core
from gfscreen.networks.models.manifest import change_plan, read_manifest, write_manifest
from tests.helpers.cpus import asks_for_bf16, has_bf16
from tests.helpers.exports import SMALL_PLAN, write_exported

pytest.importorskip("torch")
pytest.importorskip("monai")
openvino = pytest.importorskip("openvino")

# Instance normalisation leaves inputs of these sizes.
INPUTS = tuple(Int8Input(name, 0.0 if "conv2" in name else -5.0, 5.0) for name in FULL_RESOLUTION)
PLAN = replace(SMALL_PLAN, focus_int8=INPUTS)
# What OpenVINO tells of a compiled layer.
KEYS = ("layerType", "runtimePrecision")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exported(tmp_path_factory.mktemp("weights"), PLAN)


def focus_of(exported: Path) -> object:
    return core().read_model(exported / "openvino" / FOCUS_MODEL)


def weights_of(node: object) -> np.ndarray:
    """Of a convolution, which has them by way of a conversion from half precision."""
    stored = node.input_value(1).get_node()
    assert stored.get_type_name() == "Convert"
    return np.array(stored.input_value(0).get_node().data, np.float32)


def answer(model: object, batch: np.ndarray) -> np.ndarray:
    compiled = core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return np.array(compiled([batch])[0])


class TestToInt8:
    @asks_for_bf16
    def test_answers_stay_near_and_are_not_the_same(self, exported):
        batch = np.random.default_rng(1).random((1, 1, 64, 32, 32), dtype=np.float32)
        before, model = answer(focus_of(exported), batch), focus_of(exported)
        to_int8(model, INPUTS)
        after = answer(model, batch)
        moved = np.abs(after - before)
        assert 0 < moved.mean() < 0.05 * before.std()
        assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.995

    def test_what_lies_beyond_the_span_is_clipped(self, exported):
        batch = np.random.default_rng(1).random((1, 1, 64, 32, 32), dtype=np.float32)
        model = focus_of(exported)
        to_int8(model, [replace(INPUTS[2], high=0.01)])
        assert np.corrcoef(answer(focus_of(exported), batch).ravel(), answer(model, batch).ravel())[0, 1] < 0.9

    def test_weights_have_255_levels_for_each_output_channel(self, exported):
        model = focus_of(exported)
        name = FULL_RESOLUTION[1]
        before = weights_of(convolution(model, name))
        to_int8(model, INPUTS)
        node = convolution(model, name).input_value(1).get_node()
        assert node.get_type_name() == "FakeQuantize"
        assert node.get_attributes()["levels"] == 255
        largest = np.array(node.input_value(2).get_node().data).ravel()
        np.testing.assert_array_equal(largest, np.abs(before).max(axis=(1, 2, 3, 4)))

    def test_a_channel_of_zeros_stays_one(self, exported):
        """Its span has no width of its own: no NaN comes of it."""
        from openvino import opset13 as ops

        model = focus_of(exported)
        node = convolution(model, FULL_RESOLUTION[2])
        weights = weights_of(node)
        weights[0] = 0
        node.input(1).replace_source_output(ops.constant(weights).output(0))
        to_int8(model, INPUTS)
        assert np.isfinite(answer(model, np.ones((1, 1, 64, 32, 32), np.float32))).all()

    def test_nothing_asked_nothing_done(self, exported):
        model = focus_of(exported)
        count = len(model.get_ops())
        to_int8(model, ())
        assert len(model.get_ops()) == count

    def test_another_networks_convolution_is_refused(self, exported):
        with pytest.raises(
            EngineError, match=r"has no convolution decoder9\.conv; choose anew with python -m eval int8"
        ):
            to_int8(focus_of(exported), [Int8Input("decoder9.conv", 0.0, 1.0)])


class TestEngine:
    @pytest.mark.parametrize(("precision", "whole"), [("auto", has_bf16()), ("bf16", False), ("fp32", False)])
    def test_only_by_auto_where_the_cpu_has_bf16(self, exported, precision, whole):
        if precision == "bf16" and not has_bf16():
            pytest.skip("this CPU does not compute in bfloat16, and says so when asked to")
        batch = np.random.default_rng(2).random((1, 64, 32, 32), dtype=np.float32)
        engine = OpenVINOEngine(exported / "openvino", precision=precision, reason="for a test")
        engine.focus(batch)
        layers = engine._focus.result().get_compiled_model().get_runtime_model().get_ops()
        told = [{key: layer.get_rt_info()[key].astype(str) for key in KEYS} for layer in layers]
        bytewise = [
            one for one in told if one["layerType"] == "Convolution" and one["runtimePrecision"] in ("u8", "i8")
        ]
        assert len(bytewise) == (len(INPUTS) if whole else 0)
        assert engine.info.precision.endswith("+int8") == whole

    def test_an_export_of_before_it_has_none(self, exported, tmp_path):
        """One without the key, as an older version made it."""
        folder = shutil.copytree(exported / "openvino", tmp_path / "openvino")
        manifest = read_manifest(folder)
        info = {key: value for key, value in manifest.info.items() if key != "focus_int8"}
        write_manifest(folder, manifest.sha256, info)
        engine = OpenVINOEngine(folder, precision="auto", reason="for a test")
        assert "int8" not in engine.info.precision

    @pytest.mark.parametrize("noted", [7, [7], [{"convolution": "a.conv"}], [{**asdict(INPUTS[0]), "high": -1.0}]])
    @asks_for_bf16
    def test_what_cannot_be_read_is_said(self, exported, tmp_path, noted):
        folder = shutil.copytree(exported / "openvino", tmp_path / "openvino")
        manifest = read_manifest(folder)
        write_manifest(folder, manifest.sha256, {**manifest.info, "focus_int8": noted})
        with pytest.raises(WeightsError, match=r"manifest\.json: focus_int8 is not readable .*; delete the folder"):
            OpenVINOEngine(folder, precision="auto", reason="for a test")

    def test_other_spans_ask_for_another_export(self, exported, tmp_path):
        from gfscreen.networks.engines.export import is_current

        folder = shutil.copytree(exported, tmp_path / "weights")
        assert is_current(folder / "openvino", folder)
        change_plan(folder, focus_int8=())
        assert not is_current(folder / "openvino", folder)
