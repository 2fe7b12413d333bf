"""How likely a scan is to hold a lesion: the same number wherever a run tells it, and null where nobody knows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from eval.accuracy.froc.sources import read_statistics, read_suspicions
from gfscreen.errors import UsageError
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.run.case_table import case_table, case_table_path
from gfscreen.run.report import CaseReport
from gfscreen.scan.volume import InputCase
from gfscreen.screening.cells import probability
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.nifti_files import write_painted
from tests.helpers.runs import Runner

# Half the logit of the most suspicious cell, less one.
PLAN = replace(TINY_PLAN, cells=CellGlanceConfig(case_calibration=(0.5, -1.0)))


def bright_cells(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    logit = np.where(volume[::4, ::8, ::8] > 0.7, 3.0, -3.0).astype(np.float32)
    return np.stack([logit, logit])


def engine() -> FakeEngine:
    return FakeEngine(lambda _: 0.0, bright_engine().outline, judge=bright_cells)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    runner = Runner(monkeypatch, tmp_path, PLAN)
    write_painted(runner.inputs / "a_0000.nii.gz")
    return runner


EXPECTED = round(probability(0.5), 6)


def test_report_statistics_log_and_page_say_the_same(run, tmp_path, caplog):
    pytest.importorskip("matplotlib")
    caplog.set_level("INFO", "gfscreen")
    statistics, preview = tmp_path / "s" / "s.json", tmp_path / "p"
    result = run(engine=engine(), statistics=statistics, preview=preview)
    assert result.only["suspicion"] == EXPECTED
    assert json.loads(statistics.read_text())["cases"][0]["suspicion"] == EXPECTED
    with statistics.with_suffix(".csv").open(newline="") as stream:
        told = [row["suspicion"] for row in csv.DictReader(stream) if row["row"] == "scan"]
    assert told == [str(EXPECTED)]
    assert any(message.startswith("a: ok, ") and ", suspicion 0.62, " in message for message in caplog.messages)
    assert caplog.messages[-1].startswith("1 case: 1 ok, 0 degraded, 0 failed; suspicion 0.62; masks in ")
    page = (preview / "index.html").read_text()
    assert ">Suspicion</th>" in page
    assert '<td class="right">0.62</td>' in page
    assert "a: findings by volume; suspicion of the scan 0.62</figcaption>" in page


def test_it_is_where_the_curves_look_for_it(run, tmp_path):
    statistics = tmp_path / "s" / "s.json"
    run(engine=engine(), statistics=statistics)
    assert read_statistics(statistics).cases["a"]["suspicion"] == EXPECTED
    assert read_suspicions(run.report) == {"a": EXPECTED}


def test_the_summary_tells_the_lowest_and_the_highest(run, caplog):
    caplog.set_level("INFO", "gfscreen")
    write_painted(run.inputs / "b_0000.nii.gz")
    calls: list[int] = []

    def first_only(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(1)
        return bright_cells(volume) if len(calls) == 1 else bright_cells(volume) * 0 - 3

    run(engine=FakeEngine(lambda _: 0.0, bright_engine().outline, judge=first_only))
    # 0.5 * -3 - 1 = -2.5: 0.08.
    assert caplog.messages[-1].startswith("2 cases: 2 ok, 0 degraded, 0 failed; suspicion 0.08 to 0.62; masks in ")


@pytest.mark.parametrize("asked", [{"gate": 0.0}, {"time_limit_s": 0.01}])
def test_null_where_glance_was_not_asked_or_had_no_time(run, asked):
    result = run(engine=engine(), **asked)
    assert result.only["suspicion"] is None


def test_null_for_weights_without_cells(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", "gfscreen")
    runner = Runner(monkeypatch, tmp_path)
    write_painted(runner.inputs / "a_0000.nii.gz")
    statistics = tmp_path / "s" / "s.json"
    assert runner(statistics=statistics).only["suspicion"] is None
    assert json.loads(statistics.read_text())["cases"][0]["suspicion"] is None
    assert not any("suspicion" in message for message in caplog.messages)


class TestCaseTable:
    """`cases.csv` of a DICOM cohort."""

    def test_it_has_a_column(self):
        cases = [CaseReport("a", "ok", suspicion=0.25), CaseReport("b", "ok")]
        rows = list(csv.DictReader(case_table(cases).splitlines()))
        assert [row["suspicion"] for row in rows] == ["0.25", ""]

    def test_a_table_of_an_earlier_version_is_replaced(self, tmp_path):
        cases = [InputCase("a", tmp_path / "in" / "a")]
        (tmp_path / "cases.csv").write_text("case,source,series_uid,mask,status\na,a,,a.nii.gz,ok\n")
        assert case_table_path(tmp_path / "report.json", cases, tmp_path / "in") == tmp_path / "cases.csv"
        (tmp_path / "cases.csv").write_text("case,source,series_uid,mask\n")
        with pytest.raises(UsageError, match="no table of an earlier run"):
            case_table_path(tmp_path / "report.json", cases, tmp_path / "in")
