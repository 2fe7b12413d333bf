"""The efficiency table: its sizes, its scans, its verdicts, and the Markdown and LaTeX it becomes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.efficiency import table4
from eval.efficiency.table4 import SIZES, Size, build_table, choose_sizes, find_real, table_row, verdict
from eval.tables import MISSING, Table, escape_latex, interval, number, spread, to_latex, to_markdown, write_table
from gfscreen.errors import UsageError

SMALL = (Size("0001", 4, (1.0, 1.0, 5.0), "chest", 31, 14044, in_plane=8), Size("0029", 6, (1.0, 1.0, 1.0), in_plane=8))


def scan(folder: Path, name: str, shape=(8, 8, 4)):
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(np.zeros(shape, np.int16), np.eye(4)), folder / f"{name}_0000.nii.gz")


def detail(status="ok", time_s=10.0, gpu_mb=None):
    gpu = None if gpu_mb is None else {"max_mb": gpu_mb, "organisers_area_mb_s": 5.0, "area_mb_s": 6.0}
    return {"status": status, "error": "", "time_s": time_s, "gpu": gpu, "own": {"max_ram_mb": 900.0}, "stages_s": None}


def test_the_eight_sizes_and_what_was_published():
    assert [(s.case, s.slices) for s in SIZES] == [
        ("0001", 55),
        ("0051", 100),
        ("0017", 150),
        ("0019", 215),
        ("0099", 334),
        ("0063", 448),
        ("0048", 499),
        ("0029", 554),
    ]
    assert {s.shape[:2] for s in SIZES} == {(512, 512)}
    assert [(s.published_s, s.published_mb) for s in SIZES[:3]] == [(31, 14044), (23, 14724), (None, None)]


def test_sizes_are_chosen_by_case_or_by_slices():
    assert choose_sizes(None) == list(SIZES)
    assert [s.case for s in choose_sizes("554, 0001")] == ["0001", "0029"]
    with pytest.raises(UsageError, match="unknown"):
        choose_sizes("56")
    with pytest.raises(UsageError):
        choose_sizes("")


def test_real_scans_are_found_by_the_case_id_in_their_names(tmp_path):
    for name in ("FLARE_0001", "FLARE_00510", "x0017"):
        scan(tmp_path, name)
    found = find_real(tmp_path, SIZES)
    assert {case: path.name for case, path in found.items()} == {
        "0001": "FLARE_0001_0000.nii.gz",
        "0017": "x0017_0000.nii.gz",  # 0051 is not 00510
    }
    scan(tmp_path, "other-0001")
    with pytest.raises(UsageError, match="2 scans for case 0001"):
        find_real(tmp_path, SIZES)
    with pytest.raises(UsageError, match="no scan"):
        find_real(tmp_path / "none", SIZES)


@pytest.mark.parametrize(
    ("value", "expected"), [(44.9, "held"), (45.0, "held"), (45.1, "broken"), (None, "not measured"), (0.0, "held")]
)
def test_verdict(value, expected):
    assert verdict(value, 45.0) == expected


def test_a_row_without_gpu_is_not_measured_and_never_zero():
    row = table_row(SIZES[0], None, detail())
    assert (row["time_limit"], row["gpu_limit"], row["max_gpu_mb"]) == ("held", "not measured", None)
    assert row["own_max_ram_mb"] == 900


def test_rows_that_broke_a_limit():
    assert table_row(SIZES[0], None, detail(time_s=46, gpu_mb=4097))["gpu_limit"] == "broken"
    assert table_row(SIZES[0], None, detail(gpu_mb=4096))["gpu_limit"] == "held"
    late = table_row(SIZES[0], None, detail("timeout", 60.0, 4000))
    assert (late["time_limit"], late["max_gpu_mb"]) == ("broken", None)


def test_a_failed_case_has_no_figures():
    row = table_row(SIZES[0], None, detail("failed", 1.0, 100))
    assert (row["time_s"], row["time_limit"], row["gpu_limit"]) == (None, "not measured", "not measured")
    assert table_row(SIZES[0], None, None)["status"] == "no scan"


def test_the_table_prints_marks_and_dashes():
    rows = [table_row(SIZES[0], None, detail(gpu_mb=3000)), table_row(SIZES[2], None, detail(time_s=50))]
    text = to_markdown(build_table(rows, "phantoms", {"cpus": 2, "ram_mb": 1000, "gpu": None}))
    assert "| 0001 | 512x512x55 | 10.0 | held | 3000 | held | 5 | 900 | 31 | 14044 |" in text
    assert "| 0017 | 512x512x150 | 50.0 | broken | - | not measured | - | 900 | - | - |" in text.replace(MISSING, "-")
    assert "45 s and 4096 MB" in text


def test_a_degraded_mask_is_noted():
    row = table_row(SIZES[0], None, {**detail(), "report": {"status": "degraded"}})
    assert row["product_status"] == "degraded"
    assert build_table([row], "phantoms", {}).notes[-1] == "0001: the product reports the status degraded."


# --- From the command line -------------------------------------------------------------------------------------------

LOOP = 'for f in "$1"/*; do cp "$f" "$2/$(basename "$f" _0000.nii.gz).nii.gz"; done'
COPY = f"sh -c 'sleep 0.2; {LOOP}' sh {{input}} {{output}}"


def run(*arguments):
    return main(["table4", *map(str, arguments), "--idle", "0"])


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(table4, "SIZES", SMALL)
    monkeypatch.setattr("eval.efficiency.measure.open_gpu", lambda index: None)


def test_on_real_scans(small, tmp_path, capsys):
    scan(tmp_path / "real", "case_0001")
    scan(tmp_path / "real", "case_0029", (8, 8, 7))  # not the size of the table: noted
    out = tmp_path / "out"
    assert run("-o", out, "--cases", tmp_path / "real", "--command", COPY) == 0
    shown = capsys.readouterr().out
    assert shown == (out / "table4.md").read_text()
    assert "0029: scan has [8, 8, 7] voxels" in shown
    result = json.loads((out / "table4.json").read_text())
    assert [row["time_limit"] for row in result["rows"]] == ["held", "held"]
    assert [row["gpu_limit"] for row in result["rows"]] == ["not measured"] * 2
    assert result["source"] == "real scans"
    assert "\\begin{tabular}{llrlrlrrrr}" in (out / "table4.tex").read_text()
    assert (out / "efficiency" / "command_Efficiency.csv").is_file()
    assert not (out / "cases").exists()


def test_a_missing_real_scan_is_said(small, tmp_path, capsys):
    scan(tmp_path / "real", "case_0001")
    assert run("-o", tmp_path / "out", "--cases", tmp_path / "real", "--command", COPY, "--json") == 1
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["status"] for row in rows] == ["ok", "no scan"]
    assert rows[1]["time_s"] is None


def test_on_phantoms_made_once_and_measured_again_only_when_asked(small, tmp_path, monkeypatch):
    made = []

    def fake(folder, name, size):
        made.append((name, size.shape))
        scan(folder / "images", name, size.shape)

    monkeypatch.setattr(table4, "_make_phantom", fake)
    arguments = ("-o", tmp_path, "--command", COPY)
    assert run(*arguments) == 0
    assert made == [("phantom_0001", (8, 8, 4)), ("phantom_0029", (8, 8, 6))]
    first = json.loads((tmp_path / "table4.json").read_text())["rows"]
    assert run(*arguments, "--resume") == 0
    assert len(made) == 2
    assert json.loads((tmp_path / "table4.json").read_text())["rows"] == first
    assert run("-o", tmp_path, "--resume", "--sizes", "4", "--command", COPY + " ") == 0  # another command: measured
    assert json.loads((tmp_path / "table4.json").read_text())["rows"][0]["time_s"] != first[0]["time_s"]
    assert len((tmp_path / "efficiency" / "command_Efficiency.csv").read_text().splitlines()) == 2


def test_wrong_sizes_are_exit_two(tmp_path, capsys):
    assert run("-o", tmp_path, "--sizes", "7", "--command", COPY) == 2
    assert "choose case IDs or slices" in capsys.readouterr().err


def test_a_phantom_comes_from_eval_cases(tmp_path):
    size = Size("0007", 24, (6.0, 6.0, 12.0), "chest", in_plane=64)
    found = table4.make_phantoms(tmp_path, [size])["0007"]
    image = nib.load(found)
    assert (found.name, image.shape) == ("phantom_0007_0000.nii.gz", (64, 64, 24))
    assert image.header.get_zooms() == pytest.approx((6, 6, 12))
    assert nib.load(tmp_path / "labels" / "phantom_0007.nii.gz").shape == (64, 64, 24)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images", "labels"]


# --- Tables ----------------------------------------------------------------------------------------------------------


def test_markdown_by_hand():
    table = Table("T", ("a", "b"), (("x|y", 1), ("z", None)), notes=("n",))
    assert to_markdown(table) == "**T**\n\n| a | b |\n| :-- | --: |\n| x\\|y | 1 |\n| z | \N{EN DASH} |\n\n- n\n"


def test_latex_by_hand():
    table = Table("50 % & more", ("a_b", "c"), (("x", "1 ± 2"), ("<5 mm", None)), label="tab:t", align="lc")
    text = to_latex(table)
    assert r"\caption{50 \% \& more}" in text
    assert r"\label{tab:t}" in text
    assert r"\begin{tabular}{lc}" in text
    assert r"a\_b & c \\" in text
    assert r"x & 1 $\pm$ 2 \\" in text
    assert r"\textless{}5 mm & -- \\" in text


def test_latex_has_no_character_left_that_it_would_interpret():
    escaped = escape_latex(r"\&%$#_{}~^<>|")
    plain = re.sub(r"\\textbackslash\{\}|\\text[a-z]+\{\}|\\[&%$#_{}]", "", escaped)
    assert plain == ""


def test_cells():
    assert (number(None), number(1.005, 1)) == (None, "1.0")
    assert (spread(None, None), spread(0.5, None), spread(0.5, 0.25, 1, 100)) == (None, "0.50", "50.0 ± 25.0")
    assert (interval(None, 1, 2), interval(0.5, None, None)) == (None, "0.50")
    assert interval(0.5, 0.4, 0.6, 1, 100) == "50.0 [40.0, 60.0]"


@pytest.mark.parametrize(("rows", "align"), [((("a",),), ""), ((("a", "b"),), "lx"), ((("a", "b"),), "l")])
def test_a_table_that_does_not_fit_is_refused(rows, align):
    with pytest.raises(ValueError, match="expected"):
        Table("T", ("a", "b"), rows, align=align)


def test_both_languages_are_written(tmp_path):
    markdown, latex = write_table(Table("T", ("a",), (("x",),)), tmp_path / "t", "table9")
    assert (markdown.name, latex.name) == ("table9.md", "table9.tex")
    assert "x" in markdown.read_text()
    assert "x" in latex.read_text()
