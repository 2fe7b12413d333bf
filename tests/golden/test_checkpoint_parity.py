"""The published checkpoint layout on a real chest CT, against values from the published code run unmodified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.config import Plan, read_plan
from gfscreen.networks.engines.base import Engine, EngineInfo, FloatArray
from gfscreen.networks.engines.select import load_engine
from gfscreen.scan.grid import to_model
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.screening.budget import Allowance, Budget
from gfscreen.screening.reading import focus, glance
from gfscreen.screening.screening_state import most_suspicious_first
from gfscreen.screening.windows import Stitcher, apply_hu_window, plan_windows

pytestmark = [pytest.mark.shared, pytest.mark.slow]

OVERLAPS = {"075": 0.75, "025": 0.25}


class Remembering:
    """An engine that computes no sub-volume twice: the windows at overlap 0.25 are among those at 0.75."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[str, bytes], FloatArray] = {}
        self.glance_batch = self.focus_batch = 1
        self.info: EngineInfo = engine.info

    def _ask(self, stage: str, batch: FloatArray) -> FloatArray:
        key = (stage, batch.tobytes())
        if key not in self._known:
            self._known[key] = getattr(self._engine, stage)(batch)
        return self._known[key]

    def glance(self, batch: FloatArray) -> FloatArray:
        return self._ask("glance", batch)

    def focus(self, batch: FloatArray) -> FloatArray:
        return self._ask("focus", batch)

    def second_focus(self, batch: FloatArray) -> FloatArray:
        return self._ask("second_focus", batch)

    def peak_gpu_mb(self) -> float | None:
        return None


@pytest.fixture(scope="module")
def reference(shared_dir: Path) -> Path:
    return shared_dir / "reference" / "checkpoint"


@pytest.fixture(scope="module")
def weights(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    published = pytest.importorskip("gfscreen.networks.models.published")
    folder = tmp_path_factory.mktemp("weights")
    published.convert_checkpoint(reference / "model.pt", folder)
    return folder


@pytest.fixture(scope="module")
def volume(reference: Path) -> Volume:
    return read_volume(reference / "crop_0000.nii.gz")


@pytest.fixture(scope="module")
def plan(weights: Path) -> Plan:
    return read_plan(weights)


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest, weights: Path) -> Remembering:
    loaded = load_engine(weights, device="cpu", engine=request.param, precision="fp32", gpu_memory_limit_mb=None)
    return Remembering(loaded)


def test_preprocessing_equals_the_published_one(reference: Path, volume: Volume, plan: Plan) -> None:
    scan = to_model(volume, plan, "chest")
    expected = np.load(reference / "preprocessed.npz")["image"]
    assert scan.hu.shape == expected.shape
    difference = np.abs(apply_hu_window(scan.hu, plan.hu_windows.chest) - expected)
    assert difference.mean() < 2e-3


def test_the_crop_is_recognised_as_chest(volume: Volume, plan: Plan) -> None:
    assert to_model(volume, plan).region.label == "chest"


# Torch reads the sub-volumes at overlap 0.25, which are among those at 0.75: three minutes of CI for the others.
@pytest.mark.parametrize(
    ("engine", "suffix"), [("torch", "025"), ("openvino", "075"), ("openvino", "025")], indirect=["engine"]
)
def test_glance_and_focus_equal_the_published_ones(
    reference: Path, volume: Volume, plan: Plan, engine: Remembering, suffix: str
) -> None:
    expected = np.load(reference / "expected.npz")
    tolerance = 1e-3 if engine.info.name == "torch" else 1e-2
    scan = to_model(volume, plan, "chest")
    windows = plan_windows(scan, plan, OVERLAPS[suffix])
    assert [list(window.start) for window in windows] == expected[f"coords_{suffix}"].tolist()

    unlimited = Allowance(Budget(), float("inf"))
    glanced = glance(scan, windows, plan, engine, unlimited, lambda *_: None)
    np.testing.assert_allclose(glanced.probability, expected[f"glance_prob_{suffix}"], atol=tolerance)
    kept = most_suspicious_first(glanced, replace(plan).gate)
    assert {window.start for window in kept} == {
        tuple(start) for start in expected[f"coords_{suffix}"][expected[f"kept_{suffix}"]].tolist()
    }

    stitcher = Stitcher(scan.grid.shape)
    assert focus(scan, kept, stitcher, plan, engine, unlimited, lambda *_: None) == len(kept)
    probability = stitcher.finish()
    difference = np.abs(probability - expected[f"lesion_prob_{suffix}"].astype(np.float32))
    assert difference.mean() < (2e-3 if engine.info.name == "torch" else 1e-2)
    mask, truth = probability > 0.5, expected[f"mask_{suffix}"].astype(bool)
    dice = 2.0 * (mask & truth).sum() / (mask.sum() + truth.sum())
    assert dice >= 0.999
