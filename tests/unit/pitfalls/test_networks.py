"""Networks that compute otherwise than written: docs/reference/pitfalls.md, "Running networks".

Each test shows the library's habit first and ours beside it. If a habit goes, its row in the page is to go with it.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from gfscreen.errors import InputError
from gfscreen.networks.engines.base import require_finite
from gfscreen.screening.windows import Stitcher
from tests.helpers.places import ROOT

torch = pytest.importorskip("torch")
openvino = pytest.importorskip("openvino")
import safetensors.numpy  # noqa: E402 - torch is optional
import safetensors.torch  # noqa: E402
from openvino import opset13 as ops  # noqa: E402

from gfscreen.networks.engines.openvino import core  # noqa: E402
from gfscreen.networks.models.weights import stored_state  # noqa: E402


def model_of(operation, shape):
    parameter = ops.parameter(list(shape), np.float32)
    return openvino.Model([operation(parameter)], [parameter])


def computed(operation, values):
    return core().compile_model(model_of(operation, values.shape), "CPU")([values])[0]


class TestCache:
    """A model whose .bin is replaced, as by weights of another training in the same network."""

    @staticmethod
    def answers(compiler, folder):
        factor = ops.constant(np.full(4, 2.0, np.float32))
        openvino.save_model(model_of(lambda x: ops.multiply(x, factor), (4,)), str(folder / "model.xml"), False)
        found = []
        for weight in (2.0, 3.0):
            (folder / "model.bin").write_bytes(np.full(4, weight, np.float32).tobytes())
            compiled = compiler.compile_model(str(folder / "model.xml"), "CPU")
            found.append(float(compiled([np.ones(4, np.float32)])[0][0]))
        return found

    def test_with_a_cache_folder_the_old_weights_answer(self, tmp_path):
        # OpenVINO 2026.4.1: a model is known by the path and time of its .xml; the .bin is not looked at.
        caching = openvino.Core()
        caching.set_property({"CACHE_DIR": str(tmp_path / "cache")})
        assert self.answers(caching, tmp_path) == [2.0, 2.0]

    def test_ours_caches_nothing(self, tmp_path):
        assert self.answers(core(), tmp_path) == [2.0, 3.0]
        sources = [*(ROOT / "src").rglob("*.py"), *(ROOT / "eval").rglob("*.py")]
        assert len(sources) > 200
        assert not [path for path in sources if "CACHE_DIR" in path.read_text(encoding="utf-8")]


class TestNaN:
    # OpenVINO 2026.4.1, CPU plugin on AVX2: max(x, 0) by an instruction that gives the second operand for NaN.
    @pytest.mark.parametrize(
        ("operation", "answer"),
        [
            (ops.relu, 0.0),
            (lambda x: ops.clamp(x, 0.0, 1.0), 0.0),
            (lambda x: ops.reduce_max(x, ops.constant(np.array([0])), keep_dims=True), np.float32(0.25)),
        ],
    )
    def test_openvino_makes_a_number_of_it(self, operation, answer):
        values = np.full(16, 0.25, np.float32)
        values[0] = np.nan
        assert computed(operation, values)[0] == answer
        assert np.isnan(computed(lambda x: ops.add(x, ops.constant(np.float32(1.0))), values)[0])

    def test_ours_lets_none_in(self):
        batch = np.full((1, 4, 4, 4), 0.25, np.float32)
        require_finite(batch)
        batch[0, 1, 2, 3] = np.nan
        with pytest.raises(InputError, match="1 of 64 voxels are not"):
            require_finite(batch)


class TestStitching:
    STEP, SIZE, LENGTH = 8, 32, 64

    @pytest.mark.parametrize("mode", ["constant", "gaussian"])
    def test_monai_adds_up_in_the_networks_half_precision(self, mode):
        # MONAI 1.6.1, inferers/utils.py: the output and the weights are made with the dtype of the first prediction.
        inferers = pytest.importorskip("monai.inferers")
        constant = inferers.sliding_window_inference(
            torch.zeros(1, 1, *[self.LENGTH] * 3, dtype=torch.bfloat16),
            (self.SIZE,) * 3,
            1,
            lambda patch: torch.full_like(patch, 0.7),
            overlap=0.75,
            mode=mode,
        ).float()
        # 0.7 is 0.69921875 in bf16; what comes back reaches from 0.69 (constant) or 0.63 (gaussian) to 0.72.
        assert constant.max() - constant.min() > 0.03

    # nnU-Net 2.8.1 sums its logits in float16 (inference/predict_from_raw_data.py); ours would show here as well.
    @pytest.mark.parametrize("blend", ["constant", "gaussian"])
    def test_ours_adds_up_in_float32(self, blend):
        stitcher = Stitcher((self.LENGTH,) * 3, blend)
        value = np.float32(torch.tensor(0.7).bfloat16().item())
        starts = range(0, self.LENGTH - self.SIZE + 1, self.STEP)
        for start in itertools.product(starts, repeat=3):
            stitcher.add(start, np.full((self.SIZE,) * 3, value, np.float32))
        mean = stitcher.finish()
        assert mean.dtype == np.float32
        np.testing.assert_allclose(mean, value, rtol=1e-5)


class TestSafetensors:
    def test_its_numpy_writer_scrambles_fortran_order(self):
        # safetensors 0.8.0, numpy.py: tobytes of the buffer as it lies, under the shape in C order.
        array = np.asfortranarray(np.arange(6.0).reshape(2, 3))
        back = safetensors.numpy.load(safetensors.numpy.save({"a": array}))["a"]
        assert back.tolist() == [[0.0, 3.0, 1.0], [4.0, 2.0, 5.0]]

    def test_ours_is_torchs_which_refuses_and_gets_contiguous_tensors(self):
        tensor = torch.arange(6.0).reshape(3, 2).T
        with pytest.raises(ValueError, match="contiguous"):
            safetensors.torch.save({"a": tensor})
        back = safetensors.torch.load(safetensors.torch.save(stored_state({"a": tensor}, None)))["a"]
        assert torch.equal(back, tensor)
        users = [path for path in (ROOT / "src").rglob("*.py") if "safetensors.numpy" in path.read_text("utf-8")]
        assert not users
