"""`python -m eval score` over folders: what is scored, what is missing, what is wrong, and the files it leaves."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.accuracy import parallel_scoring as scoring
from eval.accuracy.parallel_scoring import CaseScore, Job, default_jobs, score_all, score_case
from gfscreen.scan.volume import Geometry

SHAPE = (16, 14, 12)


def box(*starts, size=4, shape=SHAPE):
    mask = np.zeros(shape, np.uint8)
    for x, y, z in starts:
        mask[x : x + size, y : y + size, z : z + size] = 1
    return mask


def save(folder: Path, name: str, voxels, affine=None):
    folder.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, np.eye(4) if affine is None else affine), folder / name)


@pytest.fixture
def folders(tmp_path):
    """Ten cases that end in every status there is; `good` alone would be scored by the organisers without trouble."""
    truth, pred = tmp_path / "gt", tmp_path / "pred"
    lesion, empty = box((2, 2, 2)), np.zeros(SHAPE, np.uint8)
    for name in ("above", "good", "gone", "grid", "shape", "torn"):
        save(truth, f"MSD_Lung_{name}.nii.gz", lesion)
    save(truth, "healthy_1.nii.gz", empty)
    save(truth, "healthy_2.nii.gz", empty)
    save(truth, "two.nii.gz", box((1, 1, 1), (9, 8, 7)))
    save(pred, "MSD_Lung_above.nii.gz", lesion * 2)
    save(pred, "MSD_Lung_good.nii.gz", box((3, 2, 2)))
    save(pred, "MSD_Lung_grid.nii.gz", lesion, np.diag([1.0, 1.0, 2.0, 1.0]))
    save(pred, "MSD_Lung_shape.nii.gz", box((2, 2, 2), shape=(16, 14, 13)))
    save(pred, "healthy_1.nii.gz", empty)
    save(pred, "healthy_2.nii.gz", box((0, 0, 0), size=1))
    save(pred, "two.nii.gz", box((1, 1, 1)))
    save(pred, "surplus.nii.gz", lesion)
    (pred / "MSD_Lung_torn.nii.gz").write_bytes((pred / "MSD_Lung_good.nii.gz").read_bytes()[:60])
    return truth, pred


def run(truth, pred, out, *more):
    return main(["score", "--gt", str(truth), "--pred", str(pred), "-o", str(out), *more])


def read(out: Path):
    with (out / "per_case.csv").open(newline="") as stream:
        rows = {row["Name"].removesuffix(".nii.gz"): row for row in csv.DictReader(stream)}
    return rows, json.loads((out / "summary.json").read_text())


@pytest.fixture
def scored(folders, tmp_path, capsys):
    code = run(*folders, tmp_path / "out", "--jobs", "1")
    rows, summary = read(tmp_path / "out")
    return code, rows, summary, capsys.readouterr()


def test_every_case_gets_a_line_and_the_rest_goes_on(scored):
    code, rows, _, _ = scored
    assert code == 1
    assert {name: row["status"] for name, row in rows.items()} == {
        "MSD_Lung_above": "labels_above_one",
        "MSD_Lung_good": "ok",
        "MSD_Lung_gone": "missing",
        "MSD_Lung_grid": "mismatch",
        "MSD_Lung_shape": "mismatch",
        "MSD_Lung_torn": "unreadable",
        "healthy_1": "ok",
        "healthy_2": "ok",
        "two": "ok",
    }


def test_scores(scored):
    _, rows, _, _ = scored
    # good: 64 + 64 voxels, 48 in common; the surfaces lie 1 mm apart.
    assert (rows["MSD_Lung_good"]["Lesion_DSC"], rows["MSD_Lung_good"]["Lesion_NSD"]) == ("0.75", "1.0")
    assert (rows["healthy_1"]["Lesion_DSC"], rows["healthy_1"]["Lesion_NSD"]) == ("1.0", "1.0")
    assert (rows["healthy_2"]["Lesion_DSC"], rows["healthy_2"]["Lesion_NSD"]) == ("0.0", "0.0")
    # two: one lesion of two found, 2 * 64 / (128 + 64) = 0.6667 to four decimals.
    assert rows["two"]["Lesion_DSC"] == "0.6667"
    for name in ("above", "gone", "grid", "shape", "torn"):
        assert (rows[f"MSD_Lung_{name}"]["Lesion_DSC"], rows[f"MSD_Lung_{name}"]["Lesion_NSD"]) == ("0.0", "0.0")


def test_the_first_columns_are_the_organisers(folders, tmp_path):
    run(*folders, tmp_path / "out", "--jobs", "1")
    assert (tmp_path / "out" / "per_case.csv").read_text().startswith("Name,Lesion_DSC,Lesion_NSD,")


def test_errors_name_the_case_and_the_rule(scored):
    _, rows, summary, shown = scored
    assert "shape mismatch, expected (16, 14, 12)" in summary["errors"]["MSD_Lung_shape.nii.gz"]
    assert "geometry mismatch" in summary["errors"]["MSD_Lung_grid.nii.gz"]
    assert "MSD_Lung_torn.nii.gz" in summary["errors"]["MSD_Lung_torn.nii.gz"]
    assert "got up to 2" in rows["MSD_Lung_above"]["error"]
    assert "mismatch: MSD_Lung_grid.nii.gz" in shown.err
    assert len(summary["errors"]) == 3


def test_missing_and_extra_are_listed(scored):
    _, _, summary, shown = scored
    assert summary["missing"] == ["MSD_Lung_gone.nii.gz"]
    assert summary["extra"] == ["surplus.nii.gz"]
    assert summary["labels_above_one"] == ["MSD_Lung_above.nii.gz"]
    assert "extra: surplus.nii.gz" in shown.err


def test_means_count_the_missing_case_unlike_the_organisers(scored):
    _, _, summary, _ = scored
    # DSC: 0.75 + 1 + 0.6667 over 9 cases; their loop sees 8 files.
    assert summary["Lesion_DSC"]["mean"] == pytest.approx((0.75 + 1 + 0.6667) / 9)
    assert summary["organisers_view"]["Lesion_DSC"]["mean"] == pytest.approx((0.75 + 1 + 0.6667) / 8)
    assert summary["healthy_scans"]["Lesion_DSC"]["mean"] == 0.5
    assert summary["lesion_scans"]["Lesion_DSC"]["n"] == 7


def test_detection_tables(scored):
    _, rows, summary, _ = scored
    scan = summary["detection"]["scan"]
    # TP: good, two. FN: above, gone, grid, shape, torn. FP: healthy_2. TN: healthy_1.
    assert [scan[k] for k in ("tp", "fn", "fp", "tn", "unanswered")] == [2, 5, 1, 1, 5]
    assert scan["fpr"]["value"] == 0.5
    assert (rows["two"]["lesions"], rows["two"]["lesions_detected"]) == ("2", "1")
    assert (rows["two"]["lesions_a_tenth"], rows["MSD_Lung_gone"]["lesions_a_tenth"]) == ("1", "0")
    assert rows["MSD_Lung_gone"]["predicted_volume_ml"] == ""
    assert rows["MSD_Lung_good"]["type"] == "lung"
    assert summary["by_type"]["healthy"]["Lesion_DSC"]["n"] == 2


def test_lesions_have_a_table_of_their_own(folders, tmp_path):
    run(*folders, tmp_path / "out", "--jobs", "1")
    with (tmp_path / "out" / "per_lesion.csv").open(newline="") as stream:
        lesions = [row for row in csv.DictReader(stream) if row["Name"] == "two.nii.gz"]
    # 64 voxels of 1 mm3; the sphere of 64 mm3 has a diameter of 4.96 mm.
    assert [row["volume_ml"] for row in lesions] == ["0.064", "0.064"]
    assert {row["size_class"] for row in lesions} == {"<10 mm"}
    assert {row["diameter_mm"] for row in lesions} == {"4.96"}
    assert sorted(row["detected"] for row in lesions) == ["0", "1"]


def test_processes_give_what_one_process_gives(folders, tmp_path):
    codes = [run(*folders, tmp_path / str(n), "--jobs", str(n)) for n in (1, 3)]
    assert codes == [1, 1]
    first, second = ((tmp_path / str(n) / "per_case.csv").read_text() for n in (1, 3))
    assert first == second


def test_a_truth_that_cannot_be_read_is_named_and_left_out_of_detection(folders, tmp_path):
    truth, pred = folders
    (truth / "two.nii.gz").write_bytes(b"nothing")
    assert run(truth, pred, tmp_path / "out", "--jobs", "1") == 1
    rows, summary = read(tmp_path / "out")
    assert "ground truth two.nii.gz: not a readable NIfTI file" in summary["errors"]["two.nii.gz"]
    assert rows["two"]["scan_detection"] == ""
    assert summary["detection"]["scan"]["scans"] == 8


def test_all_scored_is_exit_zero_and_json_goes_to_stdout(tmp_path, capsys):
    save(tmp_path / "gt", "a_1.nii.gz", box((2, 2, 2)) * 3)
    save(tmp_path / "pred", "a_1.nii.gz", box((2, 2, 2)))
    assert run(tmp_path / "gt", tmp_path / "pred", tmp_path / "out", "--json") == 0
    shown = capsys.readouterr()
    summary = json.loads(shown.out)
    assert summary == json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["truth_labels_above_one"] == ["a_1.nii.gz"]
    assert summary["detection"]["scan"]["fpr"]["value"] is None
    assert shown.err == ""


def test_the_tolerance_is_an_option(tmp_path):
    save(tmp_path / "gt", "a.nii.gz", box((2, 2, 2)))
    save(tmp_path / "pred", "a.nii.gz", box((3, 2, 2)))
    for tolerance, expected in (("1", 1.0), ("0", None)):
        run(tmp_path / "gt", tmp_path / "pred", tmp_path / "out", "--tolerance-mm", tolerance)
        rows, summary = read(tmp_path / "out")
        nsd = float(rows["a"]["Lesion_NSD"])
        assert nsd == expected if expected is not None else nsd < 1
        assert summary["tolerance_mm"] == float(tolerance)


def test_types_from_a_file(folders, tmp_path):
    mapping = tmp_path / "types.json"
    mapping.write_text('{"MSD_*": "A", "*": "B"}')
    run(*folders, tmp_path / "out", "--types", str(mapping), "--jobs", "1")
    _, summary = read(tmp_path / "out")
    assert sorted(summary["detection"]["scan_by_type"]) == ["A", "B"]


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--jobs", "0"], "--jobs must be 1 or more"),
        (["--tolerance-mm", "-1"], "--tolerance-mm must be 0 or more"),
        (["--types", "nowhere.json"], "nowhere.json"),
        (["--pred", "nowhere"], "nowhere: not a folder"),
    ],
)
def test_wrong_usage_is_exit_two(folders, tmp_path, capsys, more, message):
    assert run(*folders, tmp_path / "out", *more) == 2
    assert message in capsys.readouterr().err


def test_a_truth_folder_without_masks_is_exit_two(tmp_path, capsys):
    (tmp_path / "gt").mkdir()
    (tmp_path / "pred").mkdir()
    assert run(tmp_path / "gt", tmp_path / "pred", tmp_path / "out") == 2
    assert "no *.nii.gz" in capsys.readouterr().err


def die_on_bad(job: Job) -> CaseScore:
    if job.name == "bad":
        os._exit(137)
    return CaseScore(job.name, 1.0, 1.0, "ok")


def test_a_killed_worker_costs_its_own_case_only(monkeypatch):
    monkeypatch.setattr(scoring, "score_case", die_on_bad)
    jobs = [Job(name, Path(name), None, 2.0) for name in ("a", "bad", "c", "d")]
    results = score_all(jobs, workers=2)
    assert [(r.name, r.status) for r in results] == [("a", "ok"), ("bad", "failed"), ("c", "ok"), ("d", "ok")]
    assert "killed" in results[1].error


def test_an_unforeseen_error_is_a_failed_case(monkeypatch, tmp_path):
    monkeypatch.setattr(scoring, "read_mask", lambda path: 1 / 0)
    result = score_case(Job("a.nii.gz", tmp_path, None, 2.0))
    assert (result.status, result.dsc, result.nsd) == ("failed", 0.0, 0.0)
    assert "ZeroDivisionError" in result.error


def test_at_least_one_worker():
    assert default_jobs() >= 1


SFORM = np.diag([0.9765625, 0.9765625, 3.0, 1.0])


def with_header(path: Path, **fields):
    """Change fields of a written mask's header: name -> (offset, type, values)."""
    places = {"pixdim": (80, "<f4"), "scl_slope": (112, "<f4"), "sform_code": (254, "<i2")}
    raw = bytearray(gzip.decompress(path.read_bytes()))
    for name, values in fields.items():
        start, kind = places[name]
        data = np.array(values, kind).tobytes()
        raw[start : start + len(data)] = data
    path.write_bytes(gzip.compress(bytes(raw)))


def scored_pair(tmp_path, capsys, truth=None, prediction=None, *, affine=None, change=None):
    """Score one case `a`; what was said on stderr, its row, the summary."""
    save(tmp_path / "gt", "a.nii.gz", box((2, 2, 2)) if truth is None else truth, affine)
    save(tmp_path / "pred", "a.nii.gz", box((2, 2, 2)) if prediction is None else prediction, affine)
    if change is not None:
        change(tmp_path / "gt" / "a.nii.gz", tmp_path / "pred" / "a.nii.gz")
    assert run(tmp_path / "gt", tmp_path / "pred", tmp_path / "out") == 0
    rows, summary = read(tmp_path / "out")
    return capsys.readouterr().err.splitlines(), rows["a"], summary


class TestSpacingSaidTwice:
    def test_nsd_goes_by_pixdim_volumes_by_the_affine_and_it_is_said_once(self, tmp_path, capsys):
        def change(truth, prediction):
            for path in (truth, prediction):
                with_header(path, pixdim=(1, 1, 1))

        shifted = box((2, 2, 3))
        said, row, summary = scored_pair(tmp_path, capsys, prediction=shifted, affine=SFORM, change=change)
        (line,) = said
        assert line.startswith("note: ground truth a.nii.gz: pixdim says a spacing of 1 x 1 x 1 mm")
        assert "the affine 0.976562 x 0.976562 x 3 mm" in line
        assert summary["notes"] == [line.removeprefix("note: ")]
        # A slice apart: 1 mm by pixdim, within the 2 mm; by the affine 3 mm, and NSD would be less than 1.
        assert row["Lesion_NSD"] == "1.0"
        # 64 voxels of 0.9765625 x 0.9765625 x 3 mm = 2.861 mm3: 0.1831 ml, as the product's statistics say.
        assert (row["lesion_volume_ml"], row["predicted_volume_ml"]) == ("0.1831", "0.1831")
        assert Geometry(SHAPE, SFORM).volume_ml(64) == 0.1831

    def test_a_sheared_grid_has_the_volume_of_the_product(self, tmp_path, capsys):
        sheared = np.diag([1.0, 1.0, 4.0, 1.0])
        sheared[1, 2] = 3.0  # the determinant stays 4, the column becomes 5 mm long
        said, row, _ = scored_pair(tmp_path, capsys, affine=sheared)
        assert row["lesion_volume_ml"] == str(Geometry(SHAPE, sheared).volume_ml(64)) == "0.256"
        assert said == []

    def test_pixdim_of_a_prediction_is_used_by_nobody(self, tmp_path, capsys):
        for number, pixdim in enumerate([(1, 1, 1), (0, 0, 0), (np.nan, 1, 1)]):
            said, row, summary = scored_pair(
                tmp_path / str(number), capsys, affine=SFORM, change=lambda _, p, to=pixdim: with_header(p, pixdim=to)
            )
            assert (row["status"], row["Lesion_DSC"], row["Lesion_NSD"]) == ("ok", "1.0", "1.0")
            assert summary["notes"] == []
            assert not any("note" in line for line in said)

    @pytest.mark.parametrize("pixdim", [(0.9765625, 0.9765625, 3), (0.977, 0.977, 3)])
    def test_rounding_is_no_news(self, tmp_path, capsys, pixdim):
        said, _, summary = scored_pair(
            tmp_path, capsys, affine=SFORM, change=lambda t, _: with_header(t, pixdim=pixdim)
        )
        assert (said, summary["notes"]) == ([], [])

    def test_a_grid_elsewhere_is_judged_by_the_affine(self, tmp_path):
        """With pixdim 100 a shift of 5 mm was less than a tenth of a voxel."""
        moved = SFORM.copy()
        moved[0, 3] = 5.0
        save(tmp_path / "gt", "a.nii.gz", box((2, 2, 2)), SFORM)
        with_header(tmp_path / "gt" / "a.nii.gz", pixdim=(100, 100, 100))
        save(tmp_path / "pred", "a.nii.gz", box((2, 2, 2)), moved)
        assert run(tmp_path / "gt", tmp_path / "pred", tmp_path / "out") == 1
        assert read(tmp_path / "out")[0]["a"]["status"] == "mismatch"


class TestTheCastIsSaid:
    """np.uint8(get_fdata()) cuts: what is not quite 1 becomes 0. The score stays, but not the silence."""

    def test_a_float_mask_saved_as_int16_with_a_slope_is_emptied(self, tmp_path, capsys):
        def change(_, prediction):
            # 32767 x 0.0000305 = 0.9994, as a writer leaves that fits the range of a float mask into int16.
            save(prediction.parent, prediction.name, (box((2, 2, 2)) * np.int16(32767)).astype(np.int16))
            with_header(prediction, scl_slope=[3.05e-5])

        said, row, summary = scored_pair(tmp_path, capsys, change=change)
        assert (row["status"], row["Lesion_DSC"]) == ("ok", "0.0")
        (line,) = said
        assert line.startswith(
            "note: prediction a.nii.gz: the organisers' cast np.uint8(get_fdata()) changes 64 voxels"
        )
        assert "becomes 0), none is left" in line
        assert summary["notes"] == [line.removeprefix("note: ")]

    def test_also_of_a_ground_truth(self, tmp_path, capsys):
        said, row, summary = scored_pair(tmp_path, capsys, truth=box((2, 2, 2)) * np.float32(0.99999))
        assert "ground truth a.nii.gz: the organisers' cast" in summary["notes"][0]
        assert row["lesions"] == "0"
        assert len(said) == 1

    def test_both_files_have_a_line_each(self, tmp_path, capsys):
        almost = box((2, 2, 2)) * np.float64(1 - 1e-12)
        said, _, _ = scored_pair(tmp_path, capsys, truth=almost, prediction=almost)
        assert [line.split(":")[1] for line in said] == [" ground truth a.nii.gz", " prediction a.nii.gz"]
        assert all("(0.999999999999 becomes 0)" in line for line in said)

    def test_some_voxels_of_many(self, tmp_path, capsys):
        prediction = box((2, 2, 2)).astype(np.float32)
        prediction[2, 2, 2:4] = 0.75
        (line,), row, _ = scored_pair(tmp_path, capsys, prediction=prediction)
        assert "changes 2 voxels (0.75 becomes 0): scored" in line
        assert float(row["Lesion_DSC"]) == round(2 * 62 / 126, 4)

    @pytest.mark.parametrize(("value", "kind", "became"), [(256, "int16", 0), (257, "int32", 1)])
    def test_what_wraps_around(self, tmp_path, capsys, value, kind, became):
        said, _, _ = scored_pair(tmp_path, capsys, prediction=box((2, 2, 2)).astype(kind) * np.dtype(kind).type(value))
        assert f"changes 64 voxels ({value} becomes {became})" in said[0]

    @pytest.mark.parametrize("kind", ["uint8", "int16", "uint16", "float32", "float64"])
    def test_whole_numbers_are_no_news(self, tmp_path, capsys, kind):
        said, row, summary = scored_pair(tmp_path, capsys, prediction=box((2, 2, 2)).astype(kind))
        assert (said, summary["notes"], row["Lesion_DSC"]) == ([], [], "1.0")

    def test_neither_is_what_is_cut_to_the_nearest(self, tmp_path, capsys):
        prediction = box((2, 2, 2)).astype(np.float32) * np.float32(1.0001)
        prediction[0, 0, 0], prediction[0, 0, 1] = 0.3, np.nan
        said, row, _ = scored_pair(tmp_path, capsys, prediction=prediction)
        assert (said, row["Lesion_DSC"]) == ([], "1.0")


@pytest.mark.parametrize("tail", [b"garbage!" * 64, bytes(512), gzip.compress(b"notes", mtime=0)])
def test_bytes_behind_the_gzip_stream_cost_no_score_and_are_said(tmp_path, capsys, tail):
    """The organisers' reader does not see them."""

    def change(_, prediction):
        prediction.write_bytes(prediction.read_bytes() + tail)

    said, row, summary = scored_pair(tmp_path, capsys, change=change)
    assert (row["status"], row["Lesion_DSC"]) == ("ok", "1.0")
    assert said == [f"note: prediction a.nii.gz: {len(tail)} bytes behind the gzip stream were ignored"]
    assert summary["notes"] == [said[0].removeprefix("note: ")]
    np.testing.assert_array_equal(np.uint8(nib.load(tmp_path / "pred" / "a.nii.gz").get_fdata()), box((2, 2, 2)))


def test_what_is_printed_does_not_flatter(tmp_path, capsys, scored):
    """F1 only where some scan is free of lesions; false positives beside the sensitivity."""
    assert "\nscan f1 0." in scored[3].out
    assert "\nlesion sensitivity_a_tenth 0." in scored[3].out
    assert "\nlesion false_positives_per_scan " in scored[3].out
    for name in ("gt", "pred"):
        save(tmp_path / "b" / name, "a.nii.gz", box((2, 2, 2)))
    assert run(tmp_path / "b" / "gt", tmp_path / "b" / "pred", tmp_path / "again", "--jobs", "1") == 0
    assert "\nscan f1 -\n" in capsys.readouterr().out
