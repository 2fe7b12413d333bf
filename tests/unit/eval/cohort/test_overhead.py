"""The overhead of a cohort: how it is computed, and one small measurement."""

from __future__ import annotations

import json

import pytest

from eval.__main__ import main
from eval.cohort import overhead
from eval.cohort.overhead import ALONE, ON_RAY, PREDICT, Timing, summary
from eval.reliability.threshold_engine import write_threshold_weights
from tests.helpers.nifti_files import write_painted
from tests.helpers.ray_cluster import environment, need_ray


def test_overhead_is_that_of_the_medians():
    found = summary(
        {
            PREDICT: [Timing(100.0, 10.0, 200.0), Timing(200.0, 10.0, 0.0), Timing(90.0, 50.0, 300.0)],
            ALONE: [Timing(101.0, 10.1, 201.0), Timing(102.0, 10.2, 202.0), Timing(103.0, 10.3, 203.0)],
            ON_RAY: [Timing(110.0, 10.4, 206.0), Timing(1.0, 10.4, 206.0), Timing(400.0, 10.4, 206.0)],
        }
    )["overhead"]
    assert found == {
        "whole_run": 0.1,
        "whole_run_without_ray": 0.02,
        "per_case": 0.04,
        "per_case_without_ray": 0.02,
        "cpu": 0.03,
        "cpu_without_ray": 0.01,
        "cpu_s_of_ray": 4.0,
    }


def test_too_few_scans_are_refused(tmp_path, capsys):
    need_ray()
    weights = write_threshold_weights(tmp_path / "weights")
    (tmp_path / "in").mkdir()
    for name in "ab":
        write_painted(tmp_path / "in" / f"{name}_0000.nii.gz")
    command = ["cohort-overhead", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "o"), "--weights", str(weights)]
    assert main(command) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"cohort-overhead: {tmp_path / 'in'}: holds 2 scans; at least 3 are needed for a time per case"
    ]
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_three_scans(tmp_path, monkeypatch, capsys):
    need_ray()
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    weights = write_threshold_weights(tmp_path / "weights")
    (tmp_path / "in").mkdir()
    for name in "abc":
        write_painted(tmp_path / "in" / f"{name}_0000.nii.gz")
    command = ["cohort-overhead", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "o"), "--weights", str(weights)]
    assert main([*command, "--repeats", "1"]) == 1  # the start of Ray is more than everything else
    found = json.loads((tmp_path / "o" / overhead.RESULT_FILE).read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert found["cases"] == 3
    assert {kind: len(runs) for kind, runs in found["runs"].items()} == {PREDICT: 1, ALONE: 1, ON_RAY: 1}
    assert found["overhead"]["whole_run"] > overhead.MOST_OVERHEAD
    on_ray, alone = found["runs"][ON_RAY][0], found["runs"][ALONE][0]
    assert on_ray["seconds"] > alone["seconds"]
    # Ray's own processes are counted, those of the worker as well.
    assert on_ray["cpu_s"] > alone["cpu_s"] + 3.0
