"""The report: inputs, tables, charts, embedded volumes, and a page that says what was not measured."""

from __future__ import annotations

import base64
import gzip
import io
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from eval.charts import INK
from eval.report import embed, markup
from eval.report.cards import cards
from eval.report.cases import CaseFiles, choose_cases, load_case
from eval.report.challenge_tables import table2_lesions, table2_scans, table3, table4, table4_rows
from eval.report.figures import Chart, _how_found, lesion_sizes
from eval.report.inputs import Efficiency, read_efficiency, read_product_report, read_scores
from eval.report.montage import axial_slices, place_of_interest
from eval.report.screening import kept_share, stage_table, untrained
from eval.tables import Table, to_latex, to_markdown
from eval.tuning.gate_curve import GatePoint, at_gate, read_curve
from gfscreen.errors import UsageError
from gfscreen.results.preview.volumes import FILL_ALPHA

SHAPE = (40, 32, 20)
# Left, back, head: what most scanners write, and not the order in which the report shows.
AFFINE = np.array([[-8.0, 0, 0, 150], [0, -8.0, 0, 120], [0, 0, 10.0, -90], [0, 0, 0, 1]])


def write(path: Path, array, affine=AFFINE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, affine), path)
    return path


def body() -> np.ndarray:
    """A cylinder of soft tissue in air."""
    x, y, _ = np.ogrid[: SHAPE[0], : SHAPE[1], : SHAPE[2]]
    inside = ((x - 19.5) / 16) ** 2 + ((y - 15.5) / 12) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 12, SHAPE)
    return np.where(inside, 40 + noise, -1000).astype(np.int16)


def ball(centre, radius: float) -> np.ndarray:
    grid = np.indices(SHAPE)
    return (sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= radius**2).astype(np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Two cases: one found with a false positive beside it, one healthy; their scores; a product report."""
    root = tmp_path_factory.mktemp("report")
    truth, other = ball((14, 14, 8), 4), ball((26, 18, 14), 2)
    for name, label, mask in (
        ("MSD_Lung_1", truth, np.maximum(ball((15, 14, 8), 4), other)),
        ("MSD_Liver_2", truth * 0, truth * 0),
    ):
        write(root / "images" / f"{name}_0000.nii.gz", body())
        write(root / "labels" / f"{name}.nii.gz", label)
        write(root / "pred" / f"{name}.nii.gz", mask)
    scored = main(["score", "--pred", str(root / "pred"), "--gt", str(root / "labels"), "-o", str(root / "scores")])
    assert scored == 0
    seconds = {"read": 0.5, "preprocess": 1.0, "glance": 2.0, "focus": 4.0, "write": 0.5, "total": 8.0}
    product = {
        "plan": {"preset": "fast", "weights": "untrained", "gate": 0.9},
        "engine": {"name": "openvino", "device": "cpu", "precision": "fp32"},
        "cases": [
            {
                "name": "MSD_Lung_1_0000.nii.gz",
                "status": "ok",
                "windows_total": 60,
                "windows_kept": 12,
                "seconds": seconds,
            },
            {"name": "x", "status": "failed", "error": "x: <b>bad</b>", "windows_total": None, "windows_kept": None},
        ],
    }
    (root / "report.json").write_text(json.dumps(product))
    curve = [
        {"threshold": 0.9, "kept_share": 0.2, "sensitivity": 0.95, "specificity": 0.8},
        {"threshold": 0.5, "kept_share": 0.4, "sensitivity": 0.99, "specificity": None},
    ]
    (root / "curve.json").write_text(json.dumps(curve))
    write_efficiency(root / "efficiency")
    return root


def write_efficiency(folder: Path, gpu_mb: float | None = 3000.0) -> None:
    """One case with the fixed ID 0001 and one other, in the layout of `eval efficiency`."""
    details = []
    for name, time_s in (("FLARE_0001", 50.0), ("extra", 10.0)):
        gpu = None if gpu_mb is None else {"max_mb": gpu_mb, "organisers_area_mb_s": 7.0}
        series = {"time_s": [0.0, 5.0], "gpu_time_s": [0.0, 5.0], "gpu_mb": [gpu_mb] * 2, "own_ram_mb": [100.0, 900.0]}
        common = {"status": "ok", "error": "", "time_s": time_s, "gpu": gpu, "own": {"max_ram_mb": 900.0}}
        details.append(
            {"name": f"{name}_0000", "case": name, "stages_s": None, "report": None, **common, "series": series}
        )
    (folder / "detail").mkdir(parents=True)
    for detail in details:
        (folder / "detail" / f"{detail['name']}.json").write_text(json.dumps(detail))
    summary = {"cases": details, "environment": {"cpus": 2, "ram_mb": 24000, "gpu": None if gpu_mb is None else "T4"}}
    (folder / "detail" / "summary.json").write_text(json.dumps(summary))


def full_arguments(folder: Path, out: Path) -> list[str]:
    given = {"images": "images", "pred": "pred", "gt": "labels", "scores": "scores", "efficiency": "efficiency"}
    pairs = [f"--{option}={folder / name}" for option, name in given.items()]
    return ["report", "-o", str(out), *pairs, f"--report={folder / 'report.json'}", f"--curve={folder / 'curve.json'}"]


@pytest.fixture(scope="module")
def full(folder, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("out")
    assert main(full_arguments(folder, out)) == 0
    return out


# The whole command


def test_everything_given_makes_tables_figures_and_one_page(full):
    contents = json.loads((full / "contents.json").read_text())
    assert contents["not_measured"] == []
    assert contents["problems"] == []
    assert {entry["case"] for entry in contents["viewer"]} == {"MSD_Lung_1", "MSD_Liver_2"}
    stems = {Path(name).stem for name in contents["files"]}
    assert stems >= {"table2_scans", "table2_lesions", "table3", "table4", "dsc_distribution", "gate_curve"}
    assert stems >= {"lesion_sizes", "gpu_memory_time", "ram_time", "overlay_MSD_Lung_1", "overlay_MSD_Liver_2"}
    for name in contents["files"]:
        assert (full / name).stat().st_size > 0, name
    assert contents["page_bytes"] == (full / "index.html").stat().st_size
    page = (full / "index.html").read_text()
    assert "Untrained weights." in page
    assert "x: &lt;b&gt;bad&lt;/b&gt;" in page  # text of others is escaped
    assert "<b>bad</b>" not in page


def test_nothing_given_is_a_report_that_says_not_measured(tmp_path, capsys):
    assert main(["report", "-o", str(tmp_path), "--json"]) == 0
    contents = json.loads(capsys.readouterr().out)
    assert contents["viewer"] == []
    assert "DSC" in contents["not_measured"]
    assert "viewer" in contents["not_measured"]
    for stem in ("table2_scans", "table2_lesions", "table3", "table4"):
        for suffix in (".md", ".tex"):
            assert "not measured" in (tmp_path / "tables" / f"{stem}{suffix}").read_text().lower()
    page = (tmp_path / "index.html").read_text()
    assert page.count("not measured") == 1
    assert re.findall(r'<section id="(\w+)"', page) == ["summary"], "sections without data are left out"
    assert len(page) < 200_000  # no viewer without cases


def test_the_same_inputs_give_the_same_page(folder, full, tmp_path):
    assert main(full_arguments(folder, tmp_path)) == 0
    assert (tmp_path / "index.html").read_bytes() == (full / "index.html").read_bytes()


class _Loads(HTMLParser):
    """Everything that a browser would fetch because of an attribute."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        for key, value in attrs:
            if key in ("src", "srcset", "poster", "data") or (key.endswith("href") and tag != "a"):
                self.found.append(value or "")
            if key == "id":
                self.ids.append(value or "")


def test_the_page_loads_nothing_and_has_each_id_once(full):
    page = (full / "index.html").read_text()
    loads = _Loads()
    loads.feed(page)
    assert [url for url in loads.found if not url.startswith(("data:", "#"))] == []
    assert len(loads.ids) == len(set(loads.ids))
    assert "Content-Security-Policy" in page
    assert "default-src &#x27;none&#x27;" in page


def test_a_second_report_leaves_no_figure_of_the_first(folder, tmp_path):
    arguments = ["report", "-o", str(tmp_path), f"--images={folder / 'images'}", "--viewer-mb", "0", "--cases"]
    assert main([*arguments, "MSD_Lung_1"]) == 0
    assert main([*arguments, "MSD_Liver_2"]) == 0
    assert sorted(p.name for p in (tmp_path / "figures").glob("*.png")) == ["overlay_MSD_Liver_2.png"]


def test_a_bad_mask_costs_its_own_layer_and_exit_code_1(folder, tmp_path, capsys):
    write(tmp_path / "pred" / "MSD_Lung_1.nii.gz", np.ones((4, 4, 4), np.uint8))
    (tmp_path / "pred" / "MSD_Liver_2.nii.gz").write_bytes(b"no image")
    out = tmp_path / "out"
    arguments = ["report", "-o", str(out), f"--images={folder / 'images'}", f"--pred={tmp_path / 'pred'}"]
    assert main([*arguments, f"--gt={folder / 'labels'}"]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert "MSD_Lung_1.nii.gz: shape mismatch" in "".join(lines)
    assert "MSD_Liver_2.nii.gz: not a readable NIfTI file" in "".join(lines)
    contents = json.loads((out / "contents.json").read_text())
    assert [entry["layers"] for entry in contents["viewer"]] == [["image", "truth"]] * 2
    assert "Not everything could be shown" in (out / "index.html").read_text()


def test_a_broken_scan_is_named_and_the_others_are_shown(folder, tmp_path, capsys):
    (tmp_path / "a_0000.nii.gz").write_bytes(b"no image")
    write(tmp_path / "b_0000.nii.gz", body())
    assert main(["report", "-o", str(tmp_path / "out"), f"--images={tmp_path}"]) == 1
    assert "a_0000.nii.gz" in capsys.readouterr().err
    contents = json.loads((tmp_path / "out" / "contents.json").read_text())
    assert [entry["case"] for entry in contents["viewer"]] == ["b"]


def test_a_scan_of_air_is_shown_whole(tmp_path):
    """No body, no lungs, no mask: nothing to crop to and nothing to look at, but no failure either."""
    write(tmp_path / "air_0000.nii.gz", np.full((20, 16, 6), -1000, np.int16))
    assert main(["report", "-o", str(tmp_path / "out"), f"--images={tmp_path}"]) == 0
    contents = json.loads((tmp_path / "out" / "contents.json").read_text())
    assert contents["viewer"][0]["shape"] == [20, 16, 6]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scores", "{t}"], "no summary.json"),
        (["--efficiency", "{t}"], "expected table4.json"),
        (["--report", "{t}/none.json"], "no such file"),
        (["--report", "{f}/curve.json"], "list of cases"),
        (["--curve", "{f}/report.json"], "non-empty list"),
        (["--images", "{t}"], "no scan"),
        (["--images", "{f}/images", "--pred", "{t}/none"], "not a folder"),
        (["--pred", "{f}/pred"], "need --images"),
        (["--images", "{f}/images", "--cases", "nobody"], "there are MSD_Liver_2, MSD_Lung_1"),
        (["--max-cases", "-1"], "--max-cases must be 0 or more"),
        (["--viewer-mb", "nan"], "--viewer-mb must be 0 or more"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(folder, tmp_path, capsys, arguments, said):
    (tmp_path / "empty").mkdir()
    filled = [a.format(t=tmp_path / "empty", f=folder) for a in arguments]
    assert main(["report", "-o", str(tmp_path / "out"), *filled]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


# Tables


def test_table_3_in_percent_with_spread(folder):
    table = table3(read_scores(folder / "scores").summary, "public validation")
    first = dict(zip(table.columns, table.rows[0], strict=True))
    dsc = [float(row["Lesion_DSC"]) for row in read_scores(folder / "scores").rows.values()]
    mean, std = np.mean(dsc), np.std(dsc, ddof=1)
    assert first["n"] == 2
    assert first["DSC"] == f"{100 * mean:.1f} ± {100 * std:.1f}"
    assert [row[0] for row in table.rows] == [
        "Public validation, all", "with lesions", "healthy", "liver", "lung", "Online validation",
    ]  # fmt: skip
    assert table.rows[-1][2] == "not measured"
    healthy = dict(zip(table.columns, table.rows[2], strict=True))
    assert (healthy["DSC"], healthy["DSC 95 % CI"]) == ("100.0", None)  # one scan: no spread, nothing invented


def test_without_lesion_free_scans_nothing_flatters(folder):
    summary = read_scores(folder / "scores").summary
    names = {card.name for card in cards(summary, None, None)}
    assert {"F1 per scan", "FPR on lesion-free scans", "False positives per scan", "Lesion-level precision"} <= names
    detection = summary["detection"]
    detection["healthy"]["scans"] = detection["scan"]["fp"] = detection["scan"]["tn"] = 0
    names = {card.name for card in cards(summary, None, None)}
    assert "Lesion-level precision" in names
    assert not {"F1 per scan", "FPR on lesion-free scans"} & names
    row = dict(zip(table2_scans(summary).columns, table2_scans(summary).rows[0], strict=True))
    assert row["F1"] is None
    assert row["Sensitivity"] is not None


def test_the_page_says_what_the_weights_are_of_use_for(folder, tmp_path):
    product = json.loads((folder / "report.json").read_text())
    product["plan"]["weights"], product["notice"] = "trained", "Of <no> use."
    (tmp_path / "report.json").write_text(json.dumps(product))
    assert main(["report", "-o", str(tmp_path / "out"), f"--report={tmp_path / 'report.json'}"]) == 0
    page = (tmp_path / "out" / "index.html").read_text()
    assert re.search(r'class="banner warn"><b>[^<]*</b> Of &lt;no&gt; use\.', page)
    assert "Untrained weights." not in page


def test_table_2_counts_rates_and_undefined_cells(folder):
    summary = read_scores(folder / "scores").summary
    scans = table2_scans(summary)
    rows = {row[0]: dict(zip(scans.columns, row, strict=True)) for row in scans.rows}
    assert {key: rows["All"][key] for key in ("n", "TP", "FP", "FN", "TN")} == {
        "n": 2, "TP": 1, "FP": 0, "FN": 0, "TN": 1,
    }  # fmt: skip
    # One of one: Wilson's lower end is 1 / (1 + 1.96^2) = 0.2065.
    assert rows["All"]["Sensitivity"] == "100.0 [20.7, 100.0]"
    assert rows["lung"]["FPR"] is None
    lesions = table2_lesions(summary)
    rows = {row[0]: dict(zip(lesions.columns, row, strict=True)) for row in lesions.rows}
    assert (rows["All"]["n"], rows["All"]["Found"], rows["All"]["False"]) == (1, 1, 1)
    # One false component in two scans; the bootstrap over two scans runs from 0 to 1.
    assert rows["All"]["False per scan"] == "0.50 [0.00, 1.00]"
    assert rows["≥ 50 mm"]["Sensitivity"] == "100.0 [20.7, 100.0]"
    assert rows["< 10 mm"]["Sensitivity"] is None


def test_found_by_a_tenth_is_told_beside_one_voxel_and_a_dash_for_older_scores(folder):
    summary = json.loads((folder / "scores" / "summary.json").read_text())
    for table in (table2_scans(summary), table2_lesions(summary)):
        assert dict(zip(table.columns, table.rows[0], strict=True))["A tenth"] == "100.0 [20.7, 100.0]"
    del summary["detection"]["scan"]["sensitivity_a_tenth"]
    del summary["detection"]["lesion"]["sensitivity_a_tenth"]
    for table in (table2_scans(summary), table2_lesions(summary)):
        assert dict(zip(table.columns, table.rows[0], strict=True))["A tenth"] is None


def test_lesion_sizes_tell_a_tenth_from_less_where_the_scores_do(folder, tmp_path):
    scores = read_scores(folder / "scores")
    lines = [
        {"diameter_mm": "9", "detected": detected, "marked_share": share}
        for detected, share in (("0", "0.0"), ("1", "0.05"), ("1", "0.1"))
    ]
    assert [_how_found(line) for line in lines] == ["missed", "by less", "by a tenth"]
    assert "by a tenth" in lesion_sizes(tmp_path, replace(scores, lesions=lines)).caption
    older = [{key: value for key, value in line.items() if key != "marked_share"} for line in lines]
    assert [_how_found(line) for line in older] == ["missed", "found", "found"]
    assert "tenth" not in lesion_sizes(tmp_path, replace(scores, lesions=older)).caption


def test_table_4_matches_fixed_ids_keeps_the_others_and_marks_the_limits(folder):
    efficiency = read_efficiency(folder / "efficiency")
    rows = {row["case"]: row for row in table4_rows(efficiency)}
    assert (rows["0001"]["time_s"], rows["0001"]["time_limit"], rows["0001"]["gpu_limit"]) == (50.0, "broken", "held")
    assert (rows["0051"]["time_s"], rows["0051"]["time_limit"]) == (None, "not measured")
    assert (rows["extra"]["size"], rows["extra"]["time_limit"], rows["extra"]["published_time_s"]) == (
        None,
        "held",
        None,
    )
    table = table4(efficiency)
    assert len(table.rows) == 9
    assert any("0051, 0017" in note for note in table.notes)
    assert "broken" in to_markdown(table)
    assert "broken" in to_latex(table)


def test_table_4_from_the_organisers_csv_alone(tmp_path):
    head = "Name,Time,MaxGPU_Mem,AUC_GPU_Time,MaxCPU_Utilization,AUC_CPU_Time,MaxRAM,AUC_RAM_Time\n"
    lines = "a_0051_0000,12.5,5000,900,1,2,3,4\nb_0000,9,,,1,2,3,4\n"
    (tmp_path / "team_Efficiency.csv").write_text(head + lines)
    (tmp_path / "a_0051_0000.json").write_text(json.dumps({"gpu_memory": [100, 5000], "time": 12.5}))
    efficiency = read_efficiency(tmp_path)
    assert efficiency.details[0]["series"]["gpu_time_s"] == [0.0, 0.1]
    rows = {row["case"]: row for row in table4_rows(efficiency)}
    assert (rows["0051"]["max_gpu_mb"], rows["0051"]["gpu_limit"]) == (5000.0, "broken")
    assert (rows["b"]["max_gpu_mb"], rows["b"]["gpu_limit"]) == (None, "not measured")  # empty is not 0
    assert any("not recorded" in note for note in table4(efficiency).notes)


def test_table_4_takes_finished_rows_as_they_are(tmp_path):
    row = table4_rows(Efficiency([]))[0]
    (tmp_path / "table4.json").write_text(json.dumps({"rows": [row | {"time_s": 44.0}], "source": "real scans"}))
    efficiency = read_efficiency(tmp_path)
    assert [r["time_s"] for r in table4_rows(efficiency)] == [44.0]
    assert efficiency.source == "real scans"


def test_without_a_gpu_there_is_no_gpu_chart_and_no_zero(folder, tmp_path):
    write_efficiency(tmp_path / "e", gpu_mb=None)
    assert main(["report", "-o", str(tmp_path / "out"), f"--efficiency={tmp_path / 'e'}"]) == 0
    assert not (tmp_path / "out" / "figures" / "gpu_memory_time.png").exists()
    assert (tmp_path / "out" / "figures" / "ram_time.svg").exists()
    missing = json.loads((tmp_path / "out" / "contents.json").read_text())["not_measured"]
    assert "Peak GPU memory" in missing
    assert "gpu memory over time" in missing


# The product's report and the gate curve


def test_what_the_product_said(folder):
    product = read_product_report(folder / "report.json")
    assert kept_share(product) == pytest.approx(12 / 60)  # the failed case tells neither number
    assert kept_share(None) is None
    assert untrained(product)
    assert not untrained(None)
    table = stage_table(product)
    assert table is not None
    assert ("focus", 1, "4.00", "4.00") in table.rows
    assert any("1 ok, 0 degraded, 1 failed" in note for note in table.notes)


def test_the_curve_is_sorted_and_nothing_is_interpolated(folder):
    points = read_curve(folder / "curve.json")
    assert [p.threshold for p in points] == [0.5, 0.9]
    assert points[0].specificity is None
    assert at_gate(points, 0.9) == GatePoint(0.9, 0.2, 0.95, 0.8)
    assert at_gate(points, 0.7) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"threshold": 1.2}, "threshold must be a share"),
        ({"kept_share": None}, "kept_share must be a share"),
        ({"sensitivity": "0.9"}, "sensitivity must be a share"),
        ({"kept_share": True}, "kept_share must be a share"),
        ({"recall": 0.9}, "expected exactly the keys"),
    ],
)
def test_a_wrong_curve_names_file_entry_and_rule(tmp_path, change, said):
    entry = {"threshold": 0.9, "kept_share": 0.2, "sensitivity": 0.9, "specificity": 0.8} | change
    (tmp_path / "curve.json").write_text(json.dumps([entry]))
    with pytest.raises(UsageError, match=rf"curve\.json: entry 0: {said}"):
        read_curve(tmp_path / "curve.json")


# Cases


def test_cases_are_spread_evenly_over_the_dsc():
    cases = [CaseFiles(name, Path(name), None, None) for name in "abcde"]
    rows = {name: {"Lesion_DSC": str(dsc)} for name, dsc in zip("abcde", (0.5, 0.1, 0.9, 0.3, 0.7), strict=True)}
    chosen, said = choose_cases(cases, None, 3, rows)
    assert [case.name for case in chosen] == ["b", "a", "c"]  # 0.1, 0.5, 0.9
    assert said.startswith("3 of 5")
    assert [case.name for case in choose_cases(cases, "d, a", 1, rows)[0]] == ["d", "a"]
    assert [case.name for case in choose_cases(cases, None, 9, {})[0]] == list("abcde")
    assert choose_cases(cases, None, 0, rows)[0] == []


@pytest.fixture(scope="module")
def lung(folder):
    images, name = folder / "images", "MSD_Lung_1"
    files = (folder / kind / f"{name}.nii.gz" for kind in ("pred", "labels"))
    return load_case(CaseFiles(name, images / f"{name}_0000.nii.gz", *files))


def test_a_case_is_shown_in_ras_order_where_it_lies_in_the_patient(lung):
    # The label's centre (14, 14, 8) in the file lies at R 150 - 8 * 14 = 38, A 120 - 8 * 14 = 8, S 10 * 8 - 90 = -10.
    voxel, (low, high) = place_of_interest(lung.truth)
    assert voxel == (40 - 1 - 14, 32 - 1 - 14, 8)
    assert (lung.affine_ras_mm @ [*voxel, 1])[:3] == pytest.approx([38, 8, -10])
    assert (low, high) == (4, 12)
    assert np.diag(lung.affine_ras_mm)[:3] == pytest.approx([8, 8, 10])


def test_axial_slices_run_from_top_to_bottom_and_grow_where_thin():
    assert axial_slices(4, 13, 20) == [13, 10, 7, 4]
    assert axial_slices(5, 5, 20) == [7, 6, 4, 3]  # grown to 3..7, five slices of which four are shown
    assert axial_slices(0, 0, 2) == [1, 0]


# Volumes inside the page


def decode(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_stream(io.BytesIO(gzip.decompress(base64.b64decode(text))))


def test_an_embedded_case_holds_the_scan_and_both_masks(lung):
    case = embed.embed_case(lung, 1e9)
    assert case is not None
    assert case.factors == (1, 1, 1)
    image, truth = decode(case.layers["image"]), decode(case.layers["truth"])
    assert image.shape == truth.shape == case.shape
    assert np.allclose(image.affine, truth.affine)
    world = np.linalg.inv(image.affine) @ [38, 8, -10, 1]
    assert tuple(np.rint(world[:3]).astype(int)) == case.start
    assert abs(int(np.asarray(image.dataobj)[case.start]) - 40) < 80
    painted = np.asarray(truth.dataobj)
    assert int((painted["A"] > 0).sum()) == int(lung.truth.sum())
    assert painted["A"][case.start] == FILL_ALPHA
    assert painted["A"].max() == 255
    assert [f.label for f in case.findings] == ["lesion 1: found", "false positive 1"]


def test_the_budget_is_kept_or_the_case_left_out(lung):
    whole = embed.embed_case(lung, 1e9)
    half = embed.embed_case(lung, whole.size / 2)
    assert half is None or half.size <= whole.size / 2
    assert embed.embed_case(lung, 100) is None


def test_findings_without_truth_or_prediction():
    mask = np.zeros((6, 6, 6), np.uint8)
    mask[1, 1, 1] = 1
    mask[4:6, 4, 4] = 1
    assert [f.label for f in embed.findings(None, mask)] == ["marked 1", "marked 2"]
    assert [f.label for f in embed.findings(mask, None)] == ["lesion 1", "lesion 2"]
    assert [f.label for f in embed.findings(mask, mask * 0)] == ["lesion 1: missed", "lesion 2: missed"]
    assert embed.findings(mask, None)[1].voxel == (1, 1, 1)  # the largest comes first
    assert embed.findings(None, None) == ()


# Markup


def test_cells_are_escaped_and_verdicts_coloured():
    table = Table("a < b", ("x", "y"), (("<i>", "broken"), (None, "held")), notes=("n & m",))
    html = markup.table_html(table)
    assert "<i>" not in html
    assert "&lt;i&gt;" in html
    assert 'class="pill bad">broken' in html
    assert 'title="not measured"' in html
    assert "n &amp; m" in html


def test_a_chart_takes_the_colour_of_the_page_and_keeps_its_ids_to_itself():
    drawn = f'<path id="a" fill="{INK}"/><use href="#a"/>'
    svg = f'<?xml version="1.0"?><svg width="10pt" height="5pt" viewBox="0 0 10 5">{drawn}</svg>'
    html = markup.inline_svg(Chart("one", "said", svg, ()))
    assert html.startswith('<svg viewBox="0 0 10 5" role="img" aria-label="said">')
    assert 'id="one-a"' in html
    assert 'href="#one-a"' in html
    assert INK not in html
