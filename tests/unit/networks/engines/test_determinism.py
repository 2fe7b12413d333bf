"""Same scan, same mask, bit for bit, on one machine; across engines within the stated tolerance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gfscreen.config import Plan
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.engines.select import load_engine
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import dice, paint

AFFINE = np.diag([3.0, 3.0, 4.0, 1.0])
# Probabilities of the same network in fp32, torch against OpenVINO on one CPU: the order of sums is all that differs.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real networks, as small as they get, seeded."""
    pytest.importorskip("openvino")
    made = pytest.importorskip("gfscreen.networks.models.weights")
    plan = Plan(
        spacing_mm=(4.0, 4.0, 4.0),
        sub_volume_voxels=(64, 32, 32),
        glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
        focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2)),
    )
    folder = tmp_path_factory.mktemp("weights")
    made.init_weights(folder, plan, 3)
    from gfscreen.networks.engines.export import default_export, export_openvino

    export_openvino(folder, default_export(folder))
    return folder


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    for number, shape in enumerate([(40, 36, 30), (30, 44, 34)]):
        hu, _ = paint(shape, AFFINE)
        noisy = hu + np.random.default_rng(number).normal(0, 60, shape).astype(np.int16)
        write_nifti(folder / f"case{number}_0000.nii.gz", noisy, AFFINE)
    return folder


def masks(inputs: Path, output: Path, weights: Path, engine: str) -> dict[str, bytes]:
    """The files of a run in which Focus reads everything."""
    options = Options(
        inputs, output, weights, device="cpu", engine=engine, precision="fp32", settings=ScreeningSettings(gate=0.0)
    )
    assert predict(options) == 0
    return {path.name: path.read_bytes() for path in output.iterdir()}


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_the_same_scans_give_the_same_files(weights, inputs, tmp_path, engine):
    first, second = (masks(inputs, tmp_path / name, weights, engine) for name in ("first", "second"))
    assert len(first) == 2
    assert first == second
    shares = [float(read_mask(tmp_path / "first" / name).mean()) for name in first]
    assert max(shares) > 0.0, "an empty mask would always be the same"
    assert min(shares) < 1.0


def test_engines_agree_within_the_tolerance(weights, inputs, tmp_path):
    options = {"device": "cpu", "precision": "fp32", "gpu_memory_limit_mb": None}
    engines = [load_engine(weights, engine=name, **options) for name in ("torch", "openvino")]
    batch = np.random.default_rng(0).random((2, 64, 32, 32), dtype=np.float32)
    one, other = ([e.focus(batch[n : n + 1]) for n in range(2)] for e in engines)
    assert np.abs(np.concatenate(one) - np.concatenate(other)).max() < TOLERANCE
    assert np.abs(engines[0].glance(batch[:1]) - engines[1].glance(batch[:1])).max() < TOLERANCE
    for name in ("torch", "openvino"):
        masks(inputs, tmp_path / name, weights, name)
    for path in (tmp_path / "torch").iterdir():
        assert dice(read_mask(path), read_mask(tmp_path / "openvino" / path.name)) > 0.999
