"""The report of scans whose names are no UTF-8, or would break a line, a page or a formula."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from eval.__main__ import main
from eval.report.build import show_cases
from eval.report.cases import list_cases
from eval.report.challenge_tables import table4_rows
from eval.report.figures import memory_curves
from eval.report.inputs import Efficiency
from eval.report.screening import cases_by_name
from gfscreen.text import visible
from tests.helpers.nifti_files import write_nifti

AFFINE = np.diag([4.0, 4.0, 4.0, 1.0])
# Scored under the first name, whose scans then get the second: as `eval score` writes it, with escapes.
NAMES = {"caf_latin": os.fsdecode(b"caf\xe9"), "caf_lines": "<i>\n$x^{$", "caf_plain": "caf_plain"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    hu = np.full((20, 20, 12), -1000, np.int16)
    hu[3:17, 3:17] = 0
    hu[8:12, 8:12, 4:8] = 300
    mask = (hu == 300).astype(np.uint8)
    for name in NAMES:
        for kind, suffix, array in (("in", "_0000", hu), ("gt", "", mask), ("pred", "", mask)):
            (tmp_path / kind).mkdir(exist_ok=True)
            write_nifti(tmp_path / kind / f"{name}{suffix}.nii.gz", array, AFFINE)
    assert main(["score", "--pred", "pred", "--gt", "gt", "-o", "scores", "--jobs", "1"]) == 0
    for name, odd in NAMES.items():
        for kind in ("in", "gt", "pred"):
            for path in (tmp_path / kind).glob(f"{name}*"):
                path.rename(path.with_name(path.name.replace(name, odd)))
        written = tmp_path / "scores" / "per_case.csv"
        text = written.read_text().replace(f"{name}.nii.gz", f'"{odd}.nii.gz"')
        written.write_text(text, errors="backslashreplace")
    return tmp_path


def test_every_case_is_shown_with_its_scores(folder, capsys):
    arguments = ["--images", "in", "--pred", "pred", "--gt", "gt", "--scores", "scores", "--report", "r.json"]
    cases = [{"name": odd, "status": "ok", "windows_kept": 1, "windows_total": 2} for odd in NAMES.values()]
    (folder / "r.json").write_text(json.dumps({"cases": cases}))
    assert main(["report", *arguments, "-o", "report"]) == 0
    contents = json.loads((folder / "report" / "contents.json").read_text())
    assert {case["case"] for case in contents["viewer"]} == set(NAMES.values())
    for odd in NAMES.values():
        assert (folder / "report" / "figures" / f"overlay_{odd}.png").is_file()
    page = (folder / "report" / "index.html").read_text(encoding="utf-8")
    # One row per case, with what both inputs say of it.
    assert page.count("1 / 2</td>") == len(NAMES)
    assert r"caf\udce9" in page
    assert r"&lt;i&gt;\n$x^{$" in page
    assert "<i>" not in page
    assert "Traceback" not in capsys.readouterr().err


def test_a_case_that_cannot_be_drawn_costs_no_other(folder, monkeypatch):
    from eval.report import build
    from eval.report.build import Inputs

    real = build.draw_montage

    def fault(place, case, scores):
        if case.name == NAMES["caf_latin"]:
            raise RuntimeError("no ink")
        return real(place, case, scores)

    monkeypatch.setattr(build, "draw_montage", fault)
    cases = list_cases(folder / "in", None, None)
    shown = show_cases(Inputs(None, None, None, [], cases, ""), folder / "figures", 1e9)
    assert shown.problems == [f"{NAMES['caf_latin']}: not drawn (RuntimeError: no ink)"]
    assert (len(shown.montages), len(shown.embedded)) == (2, 3)


def test_memory_and_table_4(tmp_path):
    series = {"time_s": [0, 1], "gpu_time_s": [0, 1], "gpu_mb": [10, 20], "own_ram_mb": [10, 20]}
    detail = {"status": "ok", "error": "", "time_s": 1.0, "gpu": None, "own": None, "stages_s": None, "report": None}
    efficiency = Efficiency([detail | {"name": odd, "case": odd, "series": series} for odd in NAMES.values()])
    chart = memory_curves(tmp_path, efficiency, "gpu")
    assert chart is not None
    chart.svg.encode("utf-8")
    cases = [row["case"] for row in table4_rows(efficiency)]
    assert [visible(odd) for odd in NAMES.values()] == cases[-3:]


def test_the_products_cases_are_found_by_the_scores_names():
    assert list(cases_by_name({"cases": [{"name": NAMES["caf_latin"]}]})) == [r"caf\udce9"]
