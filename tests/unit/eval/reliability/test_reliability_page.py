"""docs/reliability.md is what its command makes of the results beside it, and these hold what they must."""

from __future__ import annotations

import json
import shutil
from typing import Any

import pytest

from eval.__main__ import main
from eval.reliability.page import FILES
from tests.helpers.places import DOCS

RESULTS = DOCS / "reliability"


def result(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def test_the_page_is_made_from_the_results(tmp_path):
    assert main(["reliability", "-i", str(RESULTS), "-o", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == (DOCS / "reliability.md").read_text()


@pytest.mark.parametrize("name", FILES)
def test_a_missing_result_is_named(tmp_path, capsys, name):
    shutil.copytree(RESULTS, tmp_path / "results")
    (tmp_path / "results" / name).unlink()
    assert main(["reliability", "-i", str(tmp_path / "results"), "-o", str(tmp_path / "page.md")]) == 2
    assert name in capsys.readouterr().err
    assert not (tmp_path / "page.md").exists()


def test_the_results_hold_what_was_asked_for():
    torture, fuzz = result("torture.json"), result("fuzz.json")
    assert len(torture["cases"]) >= 80
    assert not [case for case in torture["cases"] if case["wrong"]]
    assert torture["problems"] == []
    assert max(run["executions"] for run in fuzz["runs"]) >= 100_000
    assert not [run for run in fuzz["runs"] if run["findings"]]
    faults = {fault["title"]: fault for fault in result("faults.json")["faults"]}
    assert faults["kill -9 at random moments"]["survived"] >= 200
    assert all(fault["not_run"] or fault["survived"] == fault["times"] for fault in faults.values())
    soak = result("soak.json")
    assert soak["cases"] == soak["ended"] >= 300
    assert soak["slope_mb_per_case"] < 1.0
