"""`eval froc`: the product's files in, curve, tables and charts out; what is said of files that do not go together."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.report.froc_figures import draw_froc, read_froc
from gfscreen.errors import UsageError
from gfscreen.results.statistics.documents import measure_case, to_json
from gfscreen.scan.volume import Geometry, Volume

SHAPE = (12, 10, 8)
# Left, back, head, as most scanners write; a voxel has 0.1 ml.
AFFINE = np.array([[-5.0, 0, 0, 30], [0, -5.0, 0, 25], [0, 0, 4.0, -16], [0, 0, 0, 1]])
# Of the findings by number: A has two of equal size, of which the one further left in the patient is number 1.
SCORES = {"Lung_A": (0.6, 0.9), "Lung_B": (0.7,), "Liver_C": ()}


def boxes(*places: tuple[slice, slice, slice], value: int = 1) -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint8)
    for place in places:
        mask[place] = value
    return mask


LESION, LARGE = np.s_[1:3, 1:3, 1:3], np.s_[0:6, 5:9, 3:5]
OTHER, SPECK = np.s_[9:11, 1:3, 1:3], np.s_[9:11, 6:8, 6:7]
# A: a small lesion met exactly, a false positive beside; B: one voxel of a large lesion; C: none of either.
TRUTHS = {"Lung_A": boxes(LESION), "Lung_B": boxes(LARGE), "Liver_C": boxes()}
MASKS = {"Lung_A": boxes(LESION, OTHER), "Lung_B": boxes(np.s_[0:1, 5:6, 3:4]), "Liver_C": boxes()}


def write(path: Path, voxels: np.ndarray, affine: np.ndarray = AFFINE, slope: float = 1.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(voxels, affine)
    image.header.set_slope_inter(slope, 0)
    nib.save(image, path)


def statistics(**changes: dict) -> str:
    """As `predict --statistics` writes them, with Focus's probabilities put in. changes: more keys of a case."""
    cases = []
    for name in SCORES:
        volume = Volume(np.zeros(SHAPE, np.int16), Geometry(SHAPE, AFFINE), Path(name))
        cases.append(measure_case(name, "ok", volume, MASKS[name]))
    document = json.loads(to_json(cases))
    for case in document["cases"]:
        for lesion, score in zip(case["lesions"], SCORES[case["name"]], strict=True):
            lesion["focus_probability"] = score
        case.update(changes.get(case["name"], {}))
    return json.dumps(document)


@pytest.fixture
def drawn() -> None:
    """For a test that looks at the charts of the command itself."""


@pytest.fixture(autouse=True)
def undrawn(request, monkeypatch):
    """Charts take most of the time of a run."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr("eval.report.froc.draw_froc", lambda out, summary: {})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in TRUTHS:
        write(tmp_path / "gt" / f"{name}.nii.gz", TRUTHS[name])
        write(tmp_path / "pred" / f"{name}.nii.gz", MASKS[name])
        probability = np.full(SHAPE, 25, np.uint8)
        for place, step in ((LESION, 204), (OTHER, 153), (LARGE, 102)):
            probability[place] = step
        probability[1, 1, 1] = 230  # one voxel is enough for the highest
        write(tmp_path / "maps" / f"{name}.nii.gz", probability, slope=1 / 255)
    (tmp_path / "stats.json").write_text(statistics())
    return tmp_path


def froc(folder: Path, *options: str, stats: str | None = "stats.json") -> int:
    given = [] if stats is None else ["--stats", str(folder / stats)]
    paths = ["--gt", str(folder / "gt"), "--pred", str(folder / "pred"), "-o", str(folder / "out")]
    return main(["froc", *paths, *given, *options])


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def result(folder: Path) -> dict:
    return json.loads((folder / "out" / "froc.json").read_text())


def test_statistics_give_the_curve(folder, capsys):
    """B's lesion at 0.7 by a voxel of 48, A's at 0.6 or 0.9, as its side of the patient is numbered."""
    assert froc(folder) == 0
    found = result(folder)
    (a,) = (r for r in rows_of(folder / "out" / "lesions.csv") if r["Name"].startswith("Lung_A"))
    # x runs to the patient's left: the lesion at low x lies to the right and is the second of equal size.
    assert (a["score_one_voxel"], a["score_a_tenth"], a["size"], a["type"]) == ("0.9", "0.9", "0.5-2 ml", "lung")
    whole = found["all"]
    assert [tuple(round(v, 3) for v in point.values()) for point in whole["points"]] == [
        (0.9, 0.0, 0.5, 0.5),
        (0.7, 0.0, 1.0, 0.5),
        (0.6, 0.333, 1.0, 0.5),
    ]
    assert whole["sensitivity_at"]["one_voxel"]["0.5"]["value"] is None  # ends at a third
    assert found["by_size"]["2-10 ml"]["end"]["one_voxel"] == 1.0
    assert found["by_size"]["2-10 ml"]["end"]["a_tenth"] == 0.0
    assert found["by_kind"]["liver"]["lesions"] == 0
    assert (found["score"], found["ignore_values"], found["errors"]) == ("focus_probability", [2], {})
    level = found["case_level"]
    assert (level["highest_score"]["auc"]["value"], level["suspicion"]) == (1.0, None)
    assert level["highest_score"]["auc"]["reason"] == "one scan without lesion: no interval"
    said = capsys.readouterr().out
    assert "3 cases, 0 failed; 3 scans, 2 lesions, 1 false positives" in said
    assert "one scan without lesion: no interval" in said
    verdicts = [(r["Name"], r["verdict"]) for r in rows_of(folder / "out" / "findings.csv")]
    assert sorted(v for n, v in verdicts if n.startswith("Lung_A")) == ["false", "hit"]


def test_maps_give_the_highest_probability(folder):
    assert froc(folder, "--probabilities", str(folder / "maps"), stats=None) == 0
    rows = rows_of(folder / "out" / "findings.csv")
    scores = {(r["Name"], r["verdict"]): float(r["score"]) for r in rows}
    assert scores["Lung_A.nii.gz", "hit"] == pytest.approx(230 / 255, abs=1e-4)
    assert scores["Lung_A.nii.gz", "false"] == pytest.approx(153 / 255, abs=1e-4)
    assert result(folder)["score"] == "focus_peak"


def test_any_number_of_the_statistics_ranks(folder):
    assert froc(folder, "--score", "volume_mm3") == 0
    assert result(folder)["all"]["points"][0]["score"] == 800.0


def test_an_ignored_value_is_neither_lesion_nor_false_positive(folder):
    label = TRUTHS["Lung_A"].copy()
    label[OTHER] = 2
    write(folder / "gt" / "Lung_A.nii.gz", label)
    assert froc(folder) == 0
    found = result(folder)
    assert (found["all"]["lesions"], found["all"]["false_positives"], found["ignored_findings"]) == (2, 0, 1)


def test_a_value_that_nobody_listed_fails_the_case(folder, capsys):
    write(folder / "gt" / "Lung_A.nii.gz", TRUTHS["Lung_A"] * 3)
    assert froc(folder) == 1
    line = "failed: ground truth Lung_A.nii.gz: expected the values 0, 1, 2, got 3; list it in --ignore-values\n"
    assert capsys.readouterr().err.endswith(line)
    assert result(folder)["all"]["lesions"] == 1
    assert froc(folder, "--ignore-values", "3,2") == 0


def test_suspicion_and_reliability(folder, drawn):
    said = {"Lung_A": {"suspicion": 0.9}, "Lung_B": {"suspicion": 0.2}, "Liver_C": {"suspicion": 0.3}}
    (folder / "stats.json").write_text(statistics(**said))
    assert froc(folder) == 0
    level = result(folder)["case_level"]["suspicion"]
    assert level["auc"]["value"] == 0.5  # B's is below C's
    assert level["reliability"]["brier"]["value"] == pytest.approx((0.1**2 + 0.8**2 + 0.3**2) / 3)
    for name in ("froc.png", "froc.svg", "reliability.png", "reliability.svg"):
        assert (folder / "out" / name).stat().st_size > 0


def test_suspicion_of_a_folder_of_statistics_and_of_the_report(folder):
    document = json.loads(statistics(Lung_A={"suspicion": 0.75}))
    (folder / "many").mkdir()
    for index, case in enumerate(document["cases"]):
        (folder / "many" / f"{index}.json").write_text(json.dumps(document | {"cases": [case]}))
    report = {"cases": [{"name": "Liver_C_0000.nii.gz", "suspicion": 0.125}, {"name": "Lung_B"}]}
    (folder / "many" / "report.json").write_text(json.dumps(report))
    assert froc(folder, "--report", str(folder / "many" / "report.json"), stats="many") == 0
    level = result(folder)["case_level"]["suspicion"]
    assert level["reliability"]["scans"] == 2
    assert level["reliability"]["brier"]["value"] == pytest.approx((0.25**2 + 0.125**2) / 2)


@pytest.mark.parametrize("wrong", [1.5, "high", True])
def test_a_suspicion_that_is_none_fails_the_case(folder, capsys, wrong):
    (folder / "stats.json").write_text(statistics(Lung_B={"suspicion": wrong}))
    assert froc(folder) == 1
    assert f"suspicion must be in [0, 1], got {wrong!r}" in capsys.readouterr().err


def break_prediction(folder: Path) -> None:
    (folder / "pred" / "Lung_A.nii.gz").unlink()


def other_shape(folder: Path) -> None:
    write(folder / "pred" / "Lung_A.nii.gz", MASKS["Lung_A"][1:])


def shifted(folder: Path) -> None:
    affine = AFFINE.copy()
    affine[0, 3] += 5
    write(folder / "pred" / "Lung_A.nii.gz", MASKS["Lung_A"], affine)


def instance_numbers(folder: Path) -> None:
    write(folder / "pred" / "Lung_A.nii.gz", MASKS["Lung_A"] + boxes(OTHER))


def fractions(folder: Path) -> None:
    write(folder / "pred" / "Lung_A.nii.gz", MASKS["Lung_A"] * np.float32(0.9))


def damaged(folder: Path) -> None:
    (folder / "pred" / "Lung_A.nii.gz").write_bytes(b"no image")


def of_another_mask(folder: Path) -> None:
    write(folder / "pred" / "Lung_A.nii.gz", boxes(LESION))


def no_statistics_of_it(folder: Path) -> None:
    document = json.loads(statistics())
    document["cases"] = [case for case in document["cases"] if case["name"] != "Lung_A"]
    (folder / "stats.json").write_text(json.dumps(document))


def no_probability(folder: Path) -> None:
    document = json.loads(statistics())
    document["cases"][0]["lesions"][1]["focus_probability"] = None
    (folder / "stats.json").write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (break_prediction, "Lung_A.nii.gz: no prediction of this name; its lesions count as missed"),
        (other_shape, "shape mismatch, expected (12, 10, 8) as the ground truth, got (11, 10, 8)"),
        (shifted, "geometry mismatch, a corner lies 5 mm from the ground truth's"),
        (instance_numbers, "expected the values 0, 1, got 2; give masks of 0 and 1, not instance maps"),
        (fractions, "expected whole numbers from 0 to 255, got 0.9; store uint8 labels"),
        (damaged, "not a readable NIfTI file"),
        (
            of_another_mask,
            "expected the mask's 1 findings with 8 voxels, got 2 with 16; name the statistics of this mask",
        ),
        (no_statistics_of_it, "Lung_A: no statistics of this case"),
        (no_probability, "Lung_A: finding 2 has no number as focus_probability, got None; name another key"),
    ],
)
def test_a_case_that_cannot_be_used_is_one_line_and_misses_its_lesions(folder, capsys, harm, says):
    harm(folder)
    assert froc(folder) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    found = result(folder)
    assert (found["all"]["scans"], found["all"]["lesions"]) == (2, 2)
    assert found["all"]["end"]["one_voxel"] == 0.5
    assert found["unanswered"] == list(found["errors"]) == ["Lung_A.nii.gz"]
    assert found["case_level"]["scans"] == 2


@pytest.mark.parametrize(
    ("voxels", "slope", "says"),
    [
        (None, 1.0, "no probability map of this case"),
        (np.zeros((3, 3, 3), np.uint8), 1.0, "shape mismatch"),
        (np.full(SHAPE, 200, np.uint8), 1.0, "expected probabilities in [0, 1], got 200 to 200"),
        (np.full(SHAPE, np.nan, np.float32), 1.0, "expected probabilities in [0, 1], got nan to nan"),
    ],
)
def test_maps_that_cannot_be_used(folder, capsys, voxels, slope, says):
    (folder / "maps" / "Lung_A.nii.gz").unlink()
    if voxels is not None:
        write(folder / "maps" / "Lung_A.nii.gz", voxels, slope=slope)
    assert froc(folder, "--probabilities", str(folder / "maps"), stats=None) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


def test_a_label_that_cannot_be_read_counts_nowhere(folder, capsys):
    (folder / "gt" / "Lung_A.nii.gz").write_bytes(b"no image")
    assert froc(folder) == 1
    assert result(folder)["all"]["lesions"] == 1
    assert capsys.readouterr().err.startswith("failed: ground truth Lung_A.nii.gz: not a readable NIfTI file")


def test_no_case_at_all_writes_nothing(folder, capsys):
    for mask in (folder / "pred").iterdir():
        mask.unlink()
    assert froc(folder) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith("no case could be used; nothing is written")
    assert not (folder / "out").exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "a curve needs scores of findings; give --stats or --probabilities"),
        (["--score", "focus_peak"], "--score focus_peak: needs --probabilities; add it"),
        (["--score", "glance_probability"], "--score glance_probability: needs --stats; add it"),
        (["--probabilities", "nowhere"], "nowhere: not a folder; --probabilities takes a folder of files X.nii.gz"),
        (["--stats", "nowhere.json"], "nowhere.json: no such file"),
        (["--stats", "empty"], "empty: no statistics with a case; --stats takes what `predict --statistics` wrote"),
        (["--stats", "report.json"], "report.json: expected the schema gfscreen-statistics"),
        (["--stats", "old.json"], "old.json: expected schema_version 2, got 1; measure again with this version"),
        (["--stats", "twice"], "case A comes twice"),
        (["--stats", "nameless.json"], "nameless.json: expected a list of cases with a name each"),
        (["--stats", "stats.json", "--report", "old.json"], "old.json: expected a list of cases"),
        (["--stats", "stats.json", "--ignore-values", "1"], "--ignore-values must be whole numbers from 2 to 255"),
        (["--stats", "stats.json", "--gt", "empty"], "empty: no *.nii.gz file to measure against"),
        (["--stats", "stats.json", "--gt", "nowhere"], "nowhere: not a folder; --gt takes a folder"),
        (["--stats", "stats.json", "--types", "report.json"], "report.json: expected an object"),
    ],
)
def test_wrong_usage_is_one_line(folder, capsys, monkeypatch, options, says):
    monkeypatch.chdir(folder)
    head = {"schema": "gfscreen-statistics", "schema_version": 2}
    for name, document in (
        ("report.json", {"cases": []}),
        ("old.json", head | {"schema_version": 1}),
        ("nameless.json", head | {"cases": [{}]}),
        ("twice/a.json", head | {"cases": [{"name": "A"}]}),
        ("twice/b.json", head | {"cases": [{"name": "A_0000.nii.gz"}]}),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(document))
    (folder / "empty").mkdir()
    assert main(["froc", "--gt", "gt", "--pred", "pred", "-o", "out", *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line
    assert not (folder / "out").exists()


def test_the_report_shows_it(folder):
    (folder / "stats.json").write_text(statistics(Lung_A={"suspicion": 0.9}, Liver_C={"suspicion": 0.1}))
    assert froc(folder) == 0
    page = folder / "page"
    assert main(["report", "-o", str(page), "--froc", str(folder / "out" / "froc.json")]) == 0
    contents = json.loads((page / "contents.json").read_text())
    stems = {Path(name).stem for name in contents["files"]}
    assert {"froc", "reliability"} <= stems
    assert "Free-response ROC" in (page / "index.html").read_text()
    table = (page / "tables" / "froc.md").read_text()
    assert "| 2-10 ml | 1 | a tenth of the volume |" in table
    assert (
        "AUC per scan, suspicion: 1.000 (scans with lesion: 1, without: 1; one scan with lesion: no interval)" in table
    )
    assert not {"reliability", "suspicion against scans with lesion"} & set(contents["not_measured"])


def test_the_report_names_a_reliability_that_was_not_measured(folder):
    assert froc(folder) == 0
    assert main(["report", "-o", str(folder / "page"), "--froc", str(folder / "out" / "froc.json")]) == 0
    contents = json.loads((folder / "page" / "contents.json").read_text())
    assert "suspicion against scans with lesion" in contents["not_measured"]


def test_no_lesion_draws_no_curve(folder, tmp_path):
    for name in TRUTHS:
        write(folder / "gt" / f"{name}.nii.gz", boxes())
    assert froc(folder) == 0
    found = result(folder)
    assert found["case_level"]["highest_score"]["auc"]["reason"] == "no scan with lesion"
    assert draw_froc(tmp_path / "charts", found) == {"froc": None, "reliability": None}


def test_another_json_is_refused(tmp_path):
    (tmp_path / "x.json").write_text(json.dumps({"all": {}}))
    with pytest.raises(UsageError, match=r"takes the froc\.json"):
        read_froc(tmp_path / "x.json")
