"""Focus's export gives the same mask, bit for bit, on one CPU and on two."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.config import Plan, read_plan
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.engines.openvino import FOCUS_MODEL, OpenVINOEngine
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.exports import write_exported
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import paint

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
openvino = pytest.importorskip("openvino")

from gfscreen.networks.engines.steady_sums import SteadyConvolution, SteadyInstanceNorm, steady_sums  # noqa: E402

# Large enough for OpenVINO to give each thread a share of an instance's voxels.
PLAN = Plan(
    spacing_mm=(3.0, 3.0, 3.0),
    sub_volume_voxels=(64, 64, 64),
    glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_exported(tmp_path_factory.mktemp("weights"), PLAN)


def outline(weights: Path, cpus: int, precision: str, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    monkeypatch.setattr("gfscreen.networks.engines.openvino.usable_cpus", lambda: cpus)
    engine = OpenVINOEngine(weights / "openvino", precision=precision, reason="for a test")
    size = read_plan(weights).sub_volume_voxels
    return engine.focus(np.random.default_rng(1).random((1, *size), dtype=np.float32))


@pytest.mark.parametrize("precision", ["auto", "fp32"])
def test_probabilities(weights, precision, monkeypatch):
    one, two = (outline(weights, cpus, precision, monkeypatch) for cpus in (1, 2))
    assert one.std() > 0
    np.testing.assert_array_equal(one, two)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Focus as deep and wide as the one that ships, whose deepest decoder reads 384 channels."""
    focus = FocusConfig(feature_size=24, num_heads=(3, 6, 12, 24), window_size=4)
    plan = replace(PLAN, sub_volume_voxels=(96, 96, 64), focus=focus)
    return write_exported(tmp_path_factory.mktemp("wide"), plan)


def test_probabilities_of_wide_convolutions(wide, monkeypatch):
    one, two = (outline(wide, cpus, "auto", monkeypatch) for cpus in (1, 2))
    assert one.std() > 0
    np.testing.assert_array_equal(one, two)


def test_without_it_they_differ(tmp_path, monkeypatch):
    """Or the tests beside this one could not fail. It goes when OpenVINO's own sums no longer follow the threads."""
    monkeypatch.setattr("gfscreen.networks.engines.steady_sums.steady_sums", lambda network: None)
    folder = write_exported(tmp_path, PLAN)
    one, two = (outline(folder, cpus, "fp32", monkeypatch) for cpus in (1, 2))
    assert (one != two).any()


def test_masks(weights, tmp_path, monkeypatch):
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    hu, _ = paint((60, 60, 60), affine)
    noisy = hu + np.random.default_rng(0).normal(0, 60, hu.shape).astype(np.int16)
    (tmp_path / "in").mkdir()
    write_nifti(tmp_path / "in" / "case_0000.nii.gz", noisy, affine)
    files = []
    for cpus in (1, 2):
        monkeypatch.setattr("gfscreen.networks.engines.openvino.usable_cpus", lambda cpus=cpus: cpus)
        output = tmp_path / f"out{cpus}"
        options = Options(
            tmp_path / "in", output, weights, device="cpu", engine="openvino", settings=ScreeningSettings(gate=0.0)
        )
        assert predict(options) == 0
        files.append(output / "case.nii.gz")
    assert 0.0 < read_mask(files[0]).mean() < 1.0
    assert files[0].read_bytes() == files[1].read_bytes()


def test_no_sum_over_space_is_left_to_openvino(weights):
    model = openvino.Core().read_model(weights / "openvino" / FOCUS_MODEL)
    norms = [operation for operation in model.get_ops() if operation.get_type_name() == "MVN"]
    assert norms, "the attention's layer normalisation, over channels"
    for norm in norms:
        axes = norm.input_value(1).get_node().get_data()
        assert axes.tolist() in ([-1], [norm.get_output_partial_shape(0).rank.get_length() - 1])


@pytest.mark.parametrize(("channels", "parts"), [(193, 2), (384, 2), (400, 3)])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_convolution_in_parts_is_that_of_torch(channels, parts, has_bias):
    torch.manual_seed(0)
    convolution = torch.nn.Conv3d(channels, 5, (3, 3, 1), (2, 1, 1), (1, 1, 0), bias=has_bias)
    network = torch.nn.Sequential(convolution)
    steady_sums(network)
    assert isinstance(network[0], SteadyConvolution)
    assert network[0].parts == parts
    x = torch.randn(2, channels, 7, 6, 5)
    with torch.no_grad():
        torch.testing.assert_close(network(x), convolution(x), rtol=1e-4, atol=1e-5)


def test_other_convolutions_are_left_alone():
    others = (
        torch.nn.Conv3d(192, 2, 3),
        torch.nn.Conv3d(384, 2, 1),
        torch.nn.Conv3d(384, 384, 3, groups=384),
        torch.nn.Conv3d(384, 2, 3, padding=1, padding_mode="replicate"),
        torch.nn.ConvTranspose3d(384, 2, 3),
    )
    network = torch.nn.Sequential(*others)
    steady_sums(network)
    assert tuple(network) == others


@pytest.mark.parametrize("shape", [(96, 96, 64), (12, 12, 8), (7, 11, 13), (3, 2, 1), (1, 1, 2), (26, 25, 17)])
@pytest.mark.parametrize("is_affine", [False, True])
def test_values_are_those_of_torch(shape, is_affine):
    generator = torch.Generator().manual_seed(0)
    norm = torch.nn.InstanceNorm3d(3, affine=is_affine)
    if is_affine:
        torch.nn.init.normal_(norm.weight, generator=generator)
        torch.nn.init.normal_(norm.bias, generator=generator)
    x = torch.randn(2, 3, *shape, generator=generator) * 5 + 40
    with torch.no_grad():
        exact = torch.nn.functional.instance_norm(x.double(), eps=norm.eps)
        if is_affine:
            exact = exact * norm.weight.double().reshape(-1, 1, 1, 1) + norm.bias.double().reshape(-1, 1, 1, 1)
        torch.testing.assert_close(SteadyInstanceNorm(norm)(x).double(), exact, rtol=1e-5, atol=1e-5)


def test_running_statistics_are_left_alone():
    network = torch.nn.Sequential(
        torch.nn.InstanceNorm3d(2, track_running_stats=True),
        torch.nn.Sequential(torch.nn.InstanceNorm3d(2), torch.nn.BatchNorm3d(2)),
    )
    steady_sums(network)
    kinds = [type(module) for module in network.modules() if not isinstance(module, torch.nn.Sequential)]
    assert kinds == [torch.nn.InstanceNorm3d, SteadyInstanceNorm, torch.nn.BatchNorm3d]
