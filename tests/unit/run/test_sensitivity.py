"""Sensitivity of one run: threshold, peak and smallest volume in place of the plan's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gfscreen.config import read_plan
from gfscreen.errors import UsageError
from gfscreen.run.api import Screener
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.nifti_files import read_mask, write_painted
from tests.helpers.runs import Runner, write_plan
from tests.helpers.scans import LESION_HU


@pytest.fixture
def run(monkeypatch, tmp_path):
    runner = Runner(monkeypatch, tmp_path)
    write_painted(runner.inputs / "a_0000.nii.gz")
    return runner


def faint() -> FakeEngine:
    """Finds the painted lesion, and is nowhere surer of it than 0.4."""
    bright = bright_engine()
    return FakeEngine(lambda _: 1.0, lambda patch: np.float32(0.4) * bright.outline(patch))


def voxels(result) -> int:
    return int(read_mask(result.output / "a.nii.gz").sum())


class TestRun:
    def test_a_lower_threshold_finds_more(self, run):
        assert voxels(run(engine=faint())) == 0
        result = run(engine=faint(), lesion_threshold=0.3, finding_peak=0.3)
        assert voxels(result) > 0
        assert result.report["plan"]["lesion_threshold"] == TINY_PLAN.lesion_threshold, "the plan stays what it is"
        asked = {key: result.report["settings"][key] for key in ("lesion_threshold", "finding_peak", "min_volume_ml")}
        assert asked == {"lesion_threshold": 0.3, "finding_peak": 0.3, "min_volume_ml": None}

    def test_the_peak(self, run):
        assert voxels(run(engine=faint(), lesion_threshold=0.3, finding_peak=0.39)) > 0
        result = run(engine=faint(), lesion_threshold=0.3, finding_peak=0.41)
        assert (voxels(result), result.only["findings_dropped"]) == (0, 1)

    def test_the_smallest_volume(self, run):
        whole = run()
        assert voxels(whole) > 0
        volume_ml = whole.only["lesion_volume_ml"]
        assert voxels(run(min_volume_ml=volume_ml / 2)) == voxels(whole)
        result = run(min_volume_ml=volume_ml * 2)
        assert (voxels(result), result.only["findings_dropped"]) == (0, 1)

    @pytest.mark.parametrize(
        ("asked", "says"),
        [
            (
                {"lesion_threshold": 0.6, "finding_peak": 0.55},
                "^finding peak 0.55 lies below lesion threshold 0.6; raise",
            ),
            ({"lesion_threshold": 0.9}, r"^finding peak 0.5 \(the plan's\) lies below lesion threshold 0.9; raise"),
            ({"finding_peak": 0.1}, r"^finding peak 0.1 lies below lesion threshold 0.5 \(the plan's\); raise"),
        ],
    )
    def test_a_peak_below_the_threshold_is_wrong_usage(self, run, asked, says):
        with pytest.raises(UsageError, match=says):
            run(**asked)
        assert list(run.output.iterdir()) == []


def test_over_the_plan():
    plan = replace(TINY_PLAN, min_finding_ml=0.5)
    assert ScreeningSettings().over(plan) == plan
    assert ScreeningSettings(min_volume_ml=0.0).over(plan) == TINY_PLAN
    asked = ScreeningSettings(lesion_threshold=0.2, finding_peak=0.7).over(plan)
    assert (asked.lesion_threshold, asked.finding_peak, asked.min_finding_ml) == (0.2, 0.7, 0.5)


def test_the_plan_has_the_smallest_volume(tmp_path):
    folder = write_plan(tmp_path / "w", replace(TINY_PLAN, min_finding_ml=0.25))
    assert read_plan(folder).min_finding_ml == 0.25
    with pytest.raises(ValueError, match="min_finding_ml must be a volume from 0 to 1000 ml, got -1"):
        replace(TINY_PLAN, min_finding_ml=-1.0)


class TestPython:
    def test_the_same_from_python(self, tmp_path, monkeypatch):
        monkeypatch.setattr("gfscreen.run.api.load_engine", lambda *_, **__: faint())
        folder = write_plan(tmp_path / "w")
        hu, affine = np.full((48, 48, 40), LESION_HU, np.int16), np.diag([4.0, 4.0, 5.0, 1.0])
        assert not Screener(folder).screen_array(hu, affine).mask.any()
        assert Screener(folder, lesion_threshold=0.3, finding_peak=0.3).screen_array(hu, affine).mask.any()
        with pytest.raises(UsageError, match="finding peak"):
            Screener(folder, lesion_threshold=0.9)
