"""`predict` of a folder of DICOM studies: one case each, whatever becomes of the others, and a table of the series."""

from __future__ import annotations

import csv
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import UsageError
from gfscreen.networks.models.manifest import write_manifest
from gfscreen.run.case_table import COLUMNS
from tests.helpers.dicom_series import Series
from tests.helpers.nifti_files import read_mask, write_painted
from tests.helpers.runs import Runner
from tests.helpers.scans import paint

SHAPE = (36, 34, 30)


def write_study(folder: Path, uid: str, number: int = 2) -> Series:
    series = Series(np.zeros(SHAPE, np.int16), study=uid, number=number, pixel_mm=(4.0, 4.0), slice_mm=5.0)
    series.hu = paint(SHAPE, series.affine_ras_mm)[0]
    series.write(folder)
    return series


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    """Two studies in folders, one in a zip, and a folder of no use."""
    runner = Runner(monkeypatch, tmp_path)
    write_manifest(runner.weights, ["plan.json"], {})
    write_study(runner.inputs / "anna" / "CT", "1")
    write_study(runner.inputs / "ben", "2", 7)
    write_study(tmp_path / "zipped", "3")
    with zipfile.ZipFile(runner.inputs / "carl.zip", "w") as archive:
        for path in (tmp_path / "zipped").iterdir():
            archive.write(path, path.name)
    shutil.rmtree(tmp_path / "zipped")
    (runner.inputs / "bad").mkdir()
    (runner.inputs / "bad" / "a.dcm").write_text("no DICOM")
    return runner


def table_of(run: Runner) -> list[dict[str, str]]:
    with (run.report.parent / "cases.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_every_study_is_a_case_and_a_bad_one_fails_alone(run, caplog):
    caplog.set_level("INFO", "gfscreen")
    result = run()
    assert (result.code, result.written) == (1, ["anna.nii.gz", "ben.nii.gz", "carl.nii.gz"])
    assert {name: case["status"] for name, case in result.cases.items()} == {
        "anna": "ok", "bad": "failed", "ben": "ok", "carl": "ok",
    }  # fmt: skip
    assert result.cases["bad"]["error"].startswith("bad: ")
    assert read_mask(result.output / "carl.nii.gz").any()
    uid = Series(np.zeros((1, 1, 1), np.int16), study="2", number=7).uid
    assert (result.cases["ben"]["source"], result.cases["ben"]["series_uid"]) == ("ben", uid)
    rows = table_of(run)
    assert tuple(rows[0]) == COLUMNS == ("case", "source", "series_uid", "mask", "status", "suspicion")
    assert [(row["case"], row["source"], row["mask"], row["status"]) for row in rows] == [
        ("anna", "anna", "anna.nii.gz", "ok"),
        ("bad", "bad", "", "failed"),
        ("ben", "ben", "ben.nii.gz", "ok"),
        ("carl", "carl.zip", "carl.nii.gz", "ok"),
    ]
    assert [row["series_uid"] for row in rows][1:3] == ["", uid]
    assert caplog.messages[-1].startswith("4 cases: 3 ok, 0 degraded, 1 failed; masks in ")


def test_resumed_the_table_is_the_same(run):
    run()
    before = table_of(run)
    result = run(resume=True)
    assert [case["resumed"] for case in result.report["cases"]] == [True, False, True, True]
    assert table_of(run) == before


def test_with_all_that_can_be_asked_for(run, tmp_path):
    pytest.importorskip("highdicom")
    pytest.importorskip("matplotlib")
    shutil.rmtree(run.inputs / "bad")
    inside = run.inputs / "segs"  # what the run writes is no case of it
    result = run(statistics=tmp_path / "s.json", preview=tmp_path / "see", dicom_seg=inside, series="2")
    assert {name: case["status"] for name, case in result.cases.items()} == {
        "anna": "ok",
        "ben": "failed",
        "carl": "ok",
    }
    assert "--series 2 is not there; found 7" in result.cases["ben"]["error"]
    assert sorted(path.name for path in inside.iterdir()) == ["anna.seg.dcm", "carl.seg.dcm"]
    assert [case["name"] for case in json.loads((tmp_path / "s.json").read_text())["cases"]] == ["anna", "ben", "carl"]
    assert {path.name for path in (tmp_path / "see").iterdir()} == {"anna.png", "carl.png", "index.html"}
    assert result.cases["anna"]["seconds"]["results"] > 0
    again = run(dicom_seg=inside)
    assert list(again.cases) == ["anna", "ben", "carl"]


def test_a_uid_for_several_studies_is_refused(run):
    with pytest.raises(UsageError, match=r"^--series 1\.2\.3: a UID names a series of one study, .* holds 4 cases"):
        run(series="1.2.3")
    assert not run.output.exists()


def test_a_file_of_somebody_elses_is_not_replaced(run):
    (run.report.parent / "cases.csv").write_text("patient,age\n")
    with pytest.raises(UsageError, match=r"cases\.csv: is there already and is no table of an earlier run"):
        run()
    assert (run.report.parent / "cases.csv").read_text() == "patient,age\n"
    assert not run.output.exists()


def test_other_runs_have_no_table(run, tmp_path):
    (tmp_path / "scans").mkdir()
    write_painted(tmp_path / "scans" / "a_0000.nii.gz")
    case = run(source=tmp_path / "scans").only
    assert (case["source"], case["series_uid"]) == ("a_0000.nii.gz", None)
    assert run(source=run.inputs / "anna").only["source"] == "anna"
    assert not (tmp_path / "cases.csv").exists()
