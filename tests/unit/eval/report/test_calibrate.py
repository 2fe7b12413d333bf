"""`eval calibrate`: the curve, what it is worth held out, and that a worthless one is not written."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

from eval.__main__ import main
from eval.report import calibrate
from eval.tuning.calibration import Curve, JudgedScan, calibration_of, fit, held_out
from gfscreen.config import read_plan
from gfscreen.errors import UsageError
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.models.manifest import verify
from gfscreen.networks.models.weights import init_weights
from gfscreen.screening.cells import case_suspicion
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.scans import paint

SHAPE = (40, 32, 32)
AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])


def scans(with_lesion: list[float], without: list[float]) -> list[JudgedScan]:
    named = [(value, True) for value in with_lesion] + [(value, False) for value in without]
    return [JudgedScan(f"s{index}", value, lesion) for index, (value, lesion) in enumerate(named)]


def told_apart() -> list[JudgedScan]:
    rng = np.random.default_rng(1)
    return scans(list(rng.normal(3, 1, 20)), list(rng.normal(-1, 1, 20)))


class TestCurve:
    def test_the_share_of_scans_where_the_logit_says_nothing(self):
        curve = fit(np.zeros(30), np.arange(30) < 20)
        assert curve.of(np.zeros(1))[0] == pytest.approx(20 / 30, abs=0.02)

    def test_what_was_drawn_from_a_curve_gives_it_back(self):
        rng = np.random.default_rng(2)
        logits = rng.normal(0, 3, 4000)
        lesion = rng.random(4000) < Curve(0.8, -1.0).of(logits)
        found = fit(logits, lesion)
        assert found.slope == pytest.approx(0.8, abs=0.08)
        assert found.offset == pytest.approx(-1.0, abs=0.12)

    def test_scans_told_apart_without_error_leave_it_finite(self):
        found = fit(np.array([1.0, 2.0, -1.0, -2.0]), np.array([True, True, False, False]))
        assert 0 < found.slope < 10
        # Platt's targets: never surer than (2 + 1) / (2 + 2) on the whole.
        assert found.of(np.array([1.5]))[0] == pytest.approx(0.75, abs=0.06)

    def test_another_share_moves_the_offset(self):
        curve = Curve(1.0, 0.0)
        assert curve.at_share(0.5, 0.5) == curve
        rare = curve.at_share(0.01, 0.5)
        assert rare.slope == 1.0
        assert rare.of(np.zeros(1))[0] == pytest.approx(0.01)

    def test_the_product_makes_the_same_of_it(self):
        """A curve in the plan is what `predict` tells of the most suspicious cell."""
        from gfscreen.screening.cells import CellMap

        cells = CellMap(np.array([[[-np.inf, 1.5, np.nan, 0.2]]], np.float32), (3.0, 3.0, 3.0))
        curve = Curve(0.7, -0.4)
        told = case_suspicion(cells, CellGlanceConfig(case_calibration=(curve.slope, curve.offset)))
        assert told == pytest.approx(float(curve.of(np.array([1.5]))[0]), abs=1e-6)


class TestWorth:
    def test_held_out_is_by_the_others(self):
        found = told_apart()
        logits, lesion = np.array([s.logit for s in found]), np.array([s.lesion for s in found])
        suspicion = held_out(logits, lesion)
        first = fit(logits[1:], lesion[1:])
        assert suspicion[0] == pytest.approx(first.of(logits[:1])[0])

    def test_scans_that_are_told_apart_are_worth_it(self):
        found = calibration_of(told_apart())
        assert found["worth_it"]
        assert found["reason"] is None
        assert found["reliability"]["brier"]["value"] < found["reliability"]["brier_of_share"]

    def test_an_auc_that_may_be_chance_is_not(self):
        """As many scans as the project has: seven with lesion, two without."""
        found = calibration_of(scans([5.0, 5.3, 8.1, 1.4, 3.5, 8.5, 5.2], [4.5, 4.6]))
        assert not found["worth_it"]
        assert found["reason"].startswith("the AUC of 0.71 [")

    def test_one_that_points_the_wrong_way_is_not(self):
        assert not calibration_of(scans([-3.0, -2.0, -2.5], [3.0, 2.0, 2.5]))["worth_it"]

    @pytest.mark.parametrize(("n_with", "n_without"), [(0, 5), (5, 1), (0, 0)])
    def test_too_few_of_a_kind(self, n_with, n_without):
        with pytest.raises(UsageError, match=f"two without, got {n_with} and {n_without}; add cases"):
            calibration_of(scans([1.0] * n_with, [0.0] * n_without))


def bright_cells(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """As suspicious as the brightest voxel of a cell's corner block."""
    z, x, y = (n // step for n, step in zip(volume.shape, (4, 8, 8), strict=True))
    brightest = volume.reshape(z, 4, x, 8, y, 8).max(axis=(1, 3, 5))
    return np.stack([4 * brightest - 2] * 2).astype(np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six scans with a bright ball and its label, six without."""
    for sub in ("images", "labels"):
        (tmp_path / sub).mkdir()
    for index in range(12):
        hu, ball = paint(SHAPE, AFFINE)
        if index % 2:
            hu, ball = np.where(ball, 40, hu).astype(np.int16), np.zeros_like(ball)
        nib.save(nib.Nifti1Image(hu, AFFINE), tmp_path / "images" / f"c{index:02d}_0000.nii.gz")
        nib.save(nib.Nifti1Image(ball.astype(np.uint8), AFFINE), tmp_path / "labels" / f"c{index:02d}.nii.gz")
    return tmp_path


@pytest.fixture
def arguments(folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    weights = folder / "weights"
    init_weights(weights, replace(TINY_PLAN, cells=CellGlanceConfig()), 0)
    engine = FakeEngine(lambda _: 0.0, bright_engine().outline, judge=bright_cells)
    monkeypatch.setattr(calibrate, "load_engine", lambda *_, **__: engine)
    return ["calibrate", "--cases", str(folder), "--weights", str(weights), "-o", str(folder / "out")]


def test_the_command_writes_a_curve_that_is_worth_it(folder, arguments, caplog):
    pytest.importorskip("matplotlib")
    caplog.set_level("INFO")
    weights = folder / "weights"
    assert main(arguments) == 0
    assert read_plan(weights).cells == CellGlanceConfig()
    assert caplog.messages[-1].endswith("not written")
    assert main([*arguments, "--write", "--share", "0.1"]) == 0
    verify(weights)
    told = json.loads((folder / "out" / "calibration.json").read_text())
    cells = read_plan(weights).cells
    assert cells is not None
    assert list(cells.case_calibration or ()) == told["case_calibration"]
    assert (told["share"], told["worth_it"], told["auc"]["value"]) == (0.1, True, 1.0)
    with (folder / "out" / "scans.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["lesion"] for row in rows] == ["1", "0"] * 6
    assert all((float(row["held_out_suspicion"]) > 0.5) == (row["lesion"] == "1") for row in rows)
    assert (folder / "out" / "reliability.png").is_file()


def test_a_worthless_one_is_refused(folder, arguments, monkeypatch, caplog):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(calibrate, "judge", lambda *_: iter(scans([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])))
    assert main([*arguments, "--write"]) == 1
    assert "it tells nothing: the AUC of 0.50 [" in caplog.text
    assert read_plan(folder / "weights").cells == CellGlanceConfig()
    assert main(arguments) == 0


def test_what_cannot_be_judged_is_left_out_with_its_reason(folder, arguments, caplog):
    pytest.importorskip("matplotlib")
    (folder / "labels" / "c00.nii.gz").write_bytes(b"none")
    empty = np.full(SHAPE, -1024, np.int16)
    nib.save(nib.Nifti1Image(empty, AFFINE), folder / "images" / "c01_0000.nii.gz")
    unsure = np.zeros(SHAPE, np.uint8)
    unsure[20, 16, 16] = 2
    nib.save(nib.Nifti1Image(unsure, AFFINE), folder / "labels" / "c03.nii.gz")
    assert main(arguments) == 0
    for name, why in (("c00", "not a readable NIfTI"), ("c01", "no cell with body"), ("c03", "readers did not agree")):
        assert any(m.startswith(f"{name}: left out (") and why in m for m in caplog.messages)
    told = json.loads((folder / "out" / "calibration.json").read_text())
    assert (told["auc"]["with_lesion"], told["auc"]["without_lesion"]) == (5, 4)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (("--share", "1"), "--share must be between 0 and 1, got 1"),
        (("--cases", "nowhere"), "nowhere/images: no *_0000.nii.gz"),
    ],
)
def test_wrong_usage_is_one_line(arguments, more, said, capsys):
    assert main([*arguments, *more]) == 2
    assert said in capsys.readouterr().err


def test_weights_without_cells(arguments, tmp_path, capsys):
    init_weights(tmp_path / "plain", TINY_PLAN, 0)
    assert main([*arguments, "--weights", str(tmp_path / "plain")]) == 2
    assert "its Glance judges no cells; name weights that train-cells made" in capsys.readouterr().err
