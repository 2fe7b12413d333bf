"""The three lines for notebooks: the same masks as the command line."""

from __future__ import annotations

import typing

import numpy as np
import pytest

import gfscreen
from gfscreen import Screener
from gfscreen.errors import EngineError, InputError, UsageError, WeightsError
from gfscreen.run.api import Result
from tests.helpers.dicom_series import Series
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import assert_same_geometry, read_mask, write_nifti
from tests.helpers.runs import Runner, write_plan
from tests.helpers.scans import paint

SHAPE = (36, 34, 30)
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])


@pytest.fixture
def screener(tmp_path, monkeypatch) -> Screener:
    monkeypatch.setattr("gfscreen.run.api.load_engine", lambda *_, **__: bright_engine())
    return Screener(write_plan(tmp_path / "weights"))


def test_three_lines(tmp_path, screener):
    hu, ball = paint(SHAPE, AFFINE)
    scan = write_nifti(tmp_path / "scan_0000.nii.gz", hu, AFFINE)
    result = screener(scan)
    np.testing.assert_array_equal(result.mask, ball)
    saved = result.save(tmp_path / "scan.nii.gz")
    np.testing.assert_array_equal(read_mask(saved), ball)
    assert_same_geometry(scan, saved)
    # 4 x 4 x 5 mm are 0.08 ml.
    assert result.lesion_volume_ml == pytest.approx(ball.sum() * 0.08)
    assert (result.region, result.complete) == ("abdomen", True)
    np.testing.assert_array_equal(result.affine_ras_mm, AFFINE)


def test_as_the_command_line(tmp_path, screener, monkeypatch):
    (tmp_path / "run").mkdir()
    runner = Runner(monkeypatch, tmp_path / "run")
    scan = write_nifti(runner.inputs / "a_0000.nii.gz", paint(SHAPE, AFFINE)[0], AFFINE)
    run = runner()
    result = screener(scan)
    screener(scan).save(tmp_path / "again.nii.gz")
    assert (tmp_path / "again.nii.gz").read_bytes() == (run.output / "a.nii.gz").read_bytes()
    assert result.lesion_volume_ml == run.only["lesion_volume_ml"]


def test_an_array(screener):
    hu, ball = paint(SHAPE, AFFINE)
    np.testing.assert_array_equal(screener.screen_array(np.ascontiguousarray(hu), AFFINE).mask, ball)


@pytest.mark.parametrize(
    ("hu", "affine", "message"),
    [
        (np.zeros((4, 4, 4), np.float32), AFFINE, "expected int16 HU"),
        (np.zeros((4, 4), np.int16), AFFINE, "expected int16 HU"),
        (np.zeros((0, 4, 4), np.int16), AFFINE, "expected int16 HU"),
        (np.zeros((4, 4, 4), np.int16), np.eye(3), "expected an affine"),
        (np.zeros((4, 4, 4), np.int16), np.zeros((4, 4)), "three independent axes"),
    ],
)
def test_an_array_that_is_no_scan(screener, hu, affine, message):
    with pytest.raises(InputError, match=message):
        screener.screen_array(hu, affine)


def test_dicom_with_its_series(tmp_path, screener):
    hu, ball = paint(SHAPE, AFFINE)
    for number in (1, 2):
        Series(hu if number == 2 else np.full_like(hu, 40), number=number, pixel_mm=(4, 4), slice_mm=5).write(
            tmp_path / "study"
        )
    assert screener(tmp_path / "study", series="2").mask.sum() == ball.sum()
    assert not screener(tmp_path / "study", series="1").mask.any()


def test_out_of_time(screener, tmp_path):
    result = screener(write_nifti(tmp_path / "a.nii.gz", paint(SHAPE, AFFINE)[0], AFFINE), time_limit_s=0.001)
    assert not result.complete


def test_errors(tmp_path, screener):
    with pytest.raises(InputError, match=r"gone\.nii\.gz: no such file"):
        screener(tmp_path / "gone.nii.gz")
    with pytest.raises(WeightsError):
        Screener(tmp_path / "none")


def test_an_unknown_device(tmp_path):
    with pytest.raises((UsageError, EngineError), match="--device gpu"):
        Screener(write_plan(tmp_path / "weights"), device="gpu")


def test_the_package_names_what_it_offers():
    assert gfscreen.Screener is Screener
    assert dir(gfscreen) == ["Result", "Screener", "__version__"]
    with pytest.raises(AttributeError, match="no attribute 'Scanner'"):
        _ = gfscreen.Scanner  # type: ignore[attr-defined]
    for function in (Screener.__init__, Screener.__call__, Screener.screen_array, Result.save):
        assert "return" in typing.get_type_hints(function)
