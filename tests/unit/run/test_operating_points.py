"""Operating points: values of the plan that a run names, what goes over them, and where the run tells of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.config import OperatingPoint, Plan
from gfscreen.errors import UsageError
from gfscreen.finding_plan import FindingMeasure, FindingModel
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.run.api import Screener
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.nifti_files import read_mask, write_painted
from tests.helpers.runs import Runner, write_plan
from tests.helpers.scans import LESION_HU

SENSITIVE = OperatingPoint("sensitive", 0.2, 0.1, 0.3, 0.35)
SPECIFIC = OperatingPoint("specific", 0.8, 0.4, 0.6, 0.9)
MODEL = FindingModel(0.0, (FindingMeasure("chest", 0.0, 1.0, 0.0, (0.0,)),), 0.5)
PLAN = replace(TINY_PLAN, cells=CellGlanceConfig(), operating_points=(SENSITIVE, SPECIFIC))
# Without cells, for runs with an engine that judges sub-volumes.
PLAIN = replace(TINY_PLAN, operating_points=(replace(SENSITIVE, mark_from=0.0),))


def faint() -> FakeEngine:
    """Finds the painted lesion, is nowhere surer of it than 0.4, and suspects its sub-volume by 0.3."""
    bright = bright_engine()
    return FakeEngine(lambda _: 0.3, lambda patch: np.float32(0.4) * bright.outline(patch))


def values(plan: Plan) -> tuple[float, float, float, float]:
    return plan.gate, plan.mark_from, plan.lesion_threshold, plan.finding_peak


class TestOverThePlan:
    def test_its_values_take_the_place_of_the_plans(self):
        assert values(ScreeningSettings(operating_point="sensitive").over(PLAN)) == (0.2, 0.1, 0.3, 0.35)
        assert values(ScreeningSettings(operating_point="specific").over(PLAN)) == (0.8, 0.4, 0.6, 0.9)
        assert values(ScreeningSettings().over(PLAN)) == (0.5, 0.0, 0.5, 0.5)

    def test_what_is_asked_for_beside_it_goes_over_it(self):
        asked = ScreeningSettings(operating_point="specific", gate=0.1, finding_peak=0.7)
        assert values(asked.over(PLAN)) == (0.1, 0.4, 0.6, 0.7)
        assert ScreeningSettings(operating_point="specific", gate=0.0).over(PLAN).gate == 0.0

    def test_an_unknown_one_is_told_which_there_are(self):
        with pytest.raises(UsageError) as caught:
            ScreeningSettings(operating_point="balanced").over(PLAN)
        assert str(caught.value) == (
            "operating point balanced: these weights have sensitive, specific; name one of them, or leave out "
            "--operating-point for the plan's own values"
        )
        with pytest.raises(UsageError, match=r"^operating point balanced: these weights have none; leave out"):
            ScreeningSettings(operating_point="balanced").over(TINY_PLAN)

    def test_how_likely_a_finding_must_be(self):
        judged = replace(
            PLAN, finding_model=MODEL, finding_from=0.3, operating_points=(replace(SPECIFIC, finding_from=0.6),)
        )
        assert ScreeningSettings().over(judged).finding_from == 0.3
        assert ScreeningSettings(operating_point="specific").over(judged).finding_from == 0.6
        assert ScreeningSettings(operating_point="specific", finding_from=0.0).over(judged).finding_from == 0.0
        assert ScreeningSettings(finding_from=0.0).over(PLAN).finding_from == 0.0
        with pytest.raises(
            UsageError, match=r"^--finding-from 0.4: these weights have no finding_model, which would say"
        ):
            ScreeningSettings(finding_from=0.4).over(PLAN)

    def test_what_does_not_go_with_it(self):
        with pytest.raises(
            UsageError, match=r"finding peak 0.5 lies below lesion threshold 0.6 \(the operating point's, specific\)"
        ):
            ScreeningSettings(operating_point="specific", finding_peak=0.5).over(PLAN)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    runner = Runner(monkeypatch, tmp_path, PLAIN)
    write_painted(runner.inputs / "a_0000.nii.gz")
    return runner


class TestRun:
    def test_it_decides_on_gate_and_marks(self, run):
        assert not read_mask(run(engine=faint()).output / "a.nii.gz").any()
        result = run(engine=faint(), operating_point="sensitive")
        assert read_mask(result.output / "a.nii.gz").any()
        assert result.only["windows_kept"] == result.only["windows_total"]
        assert run(engine=faint(), operating_point="sensitive", gate=0.31).only["windows_kept"] == 0

    def test_report_statistics_and_page_name_it(self, run, tmp_path):
        statistics, preview = tmp_path / "s" / "s.json", tmp_path / "p"
        pytest.importorskip("matplotlib")
        result = run(engine=faint(), operating_point="sensitive", statistics=statistics, preview=preview)
        assert result.report["settings"]["operating_point"] == "sensitive"
        assert [point["name"] for point in result.report["plan"]["operating_points"]] == ["sensitive"]
        assert json.loads(statistics.read_text())["operating_point"] == "sensitive"
        assert "<dt>operating point</dt><dd>sensitive</dd>" in (preview / "index.html").read_text()

    def test_without_one_none_is_named(self, run, tmp_path):
        statistics = tmp_path / "s" / "s.json"
        assert run(statistics=statistics).report["settings"]["operating_point"] is None
        assert json.loads(statistics.read_text())["operating_point"] is None

    def test_an_unknown_one_is_wrong_usage_before_any_work(self, run):
        with pytest.raises(UsageError, match="these weights have sensitive; name one of them"):
            run(operating_point="specific")
        assert list(run.output.iterdir()) == []

    def test_on_the_command_line(self, run, capsys):
        command = ["predict", "-i", str(run.inputs), "-o", str(run.output), "--weights", str(run.weights)]
        assert main([*command, "--operating-point", "specific"]) == 2
        assert "ERROR: operating point specific: these weights have sensitive; " in capsys.readouterr().err
        with pytest.raises(SystemExit) as caught:
            main([*command, "--operating-point", "best"])
        assert caught.value.code == 2
        assert "invalid choice: 'best'" in capsys.readouterr().err


def test_from_python(tmp_path, monkeypatch):
    monkeypatch.setattr("gfscreen.run.api.load_engine", lambda *_, **__: faint())
    folder = write_plan(tmp_path / "w", PLAIN)
    hu, affine = np.full((48, 48, 40), LESION_HU, np.int16), np.diag([4.0, 4.0, 5.0, 1.0])
    assert not Screener(folder).screen_array(hu, affine).mask.any()
    assert Screener(folder, operating_point="sensitive").screen_array(hu, affine).mask.any()
    with pytest.raises(UsageError, match="operating point specific: these weights have sensitive"):
        Screener(folder, operating_point="specific")
