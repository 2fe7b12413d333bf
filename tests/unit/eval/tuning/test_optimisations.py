"""`eval optimisations`: what is undone, and that the figures tell a change from none."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.tuning import optimisations
from eval.tuning.optimisations import Change, box_windows, restore_everywhere, summarise
from gfscreen.networks.models.weights import init_weights
from gfscreen.screening.budget import Budget
from gfscreen.screening.screening import prepare, screen
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import plan_windows
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.scans import ORIENTATIONS, axes_affine, paint, volume_of


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS[::7])
def test_restored_everywhere_is_what_boxes_give(order, signs):
    affine = axes_affine(order, signs, (2.5, 3.0, 4.5), (10.0, -20.0, 30.0))
    shape = tuple(np.array([60, 50, 40])[list(order)])
    volume = volume_of(paint(shape, affine)[0], affine)
    result = screen(volume, TINY_PLAN, bright_engine(), Budget(), keep_outputs=True)
    assert result.mask.any()
    np.testing.assert_array_equal(restore_everywhere(result.network_outputs, volume, TINY_PLAN), result.mask)


def test_box_windows_hold_those_without_body():
    hu = np.full((96, 48, 40), -1000, np.int16)
    hu[4:40, 4:44, 4:36] = 40
    hu[40:92, 4:20, 4:36] = 40
    volume = volume_of(hu, np.diag([4.0, 4.0, 4.0, 1.0]))
    prepared = prepare(volume, TINY_PLAN, ScreeningSettings(), Budget())
    boxed = box_windows(prepared, TINY_PLAN)
    assert boxed.scan is prepared.scan
    assert len(boxed.windows) > len(plan_windows(prepared.scan, TINY_PLAN, TINY_PLAN.overlap))


def test_summary():
    found = [Change("a", "x", 1.0, 0.5, 0.5), Change("a", "y", 0.9, 0.5, 0.7), Change("b", "x", 0.0, 0.1, 0.2)]
    assert summarise(found)["a"] == {
        "cases": 2, "dice_mean": 0.95, "dice_lowest": 0.9, "dsc_before": 0.5, "dsc_after": 0.6
    }  # fmt: skip
    assert list(summarise(found)) == ["a", "b"]


@pytest.mark.parametrize("by_itself", ["bf16", "bf16+int8"])
def test_the_command(by_itself, tmp_path, monkeypatch):
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    hu, ball = paint((40, 36, 40), affine)
    for name, array in (("images/A_0000", hu.astype(np.int16)), ("labels/A", ball.astype(np.uint8))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    init_weights(tmp_path / "weights", TINY_PLAN, seed=0)

    def engine(*_: object, engine: str, precision: str, **__: object) -> FakeEngine:
        # In fp32 the network marks tissue as well, so that the change of precision is seen.
        if precision == "fp32":
            return FakeEngine(lambda _: 1.0, lambda patch: patch > 0.4)
        chosen = bright_engine()
        chosen.info = replace(chosen.info, precision=by_itself if precision == "auto" else precision)
        return chosen

    monkeypatch.setattr(optimisations, "load_engine", engine)
    args = ["--cases", str(tmp_path), "--weights", str(tmp_path / "weights"), "-o", str(tmp_path / "out")]
    assert main(["optimisations", *args]) == 0
    told = json.loads((tmp_path / "out" / "optimisations.json").read_text())
    assert [told["engines"][name]["precision"] for name in ("shipped", "half")] == [by_itself, "bf16"]
    found = told["optimisations"]
    assert set(found) == {"openvino", "bf16", "int8", "windows by body", "gate", "restore in boxes"}
    assert found["bf16"]["dice_mean"] < 0.5
    assert found["bf16"]["dsc_before"] < 0.5 < found["bf16"]["dsc_after"]
    assert [found[name]["dice_lowest"] for name in found if name != "bf16"] == [1.0] * 5
    assert main(["optimisations", *args[:1], str(tmp_path / "out"), *args[2:]]) == 2
