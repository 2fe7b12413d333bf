"""The benchmark: what is run, how repeats become medians, and that the page says no more than was measured."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import nibabel as nib
import numpy as np
import pytest

from eval import charts
from eval.__main__ import main
from eval.efficiency import benchmark, benchmark_chart
from eval.efficiency.benchmark import median, pairs, row
from eval.efficiency.benchmark_page import page
from eval.efficiency.launch import CommandLaunch
from eval.efficiency.table4 import Size
from eval.efficiency.throughput import measure_folder
from gfscreen.errors import UsageError

SMALL = (Size("0001", 4, (1.0, 1.0, 5.0), in_plane=8), Size("0019", 6, (1.0, 1.0, 5.0), in_plane=8))
# A program that gives every scan of its input folder an empty file as mask.
COPY = (
    "import pathlib, sys; "
    "[(pathlib.Path(sys.argv[2]) / p.name.replace('_0000', '')).touch() for p in pathlib.Path(sys.argv[1]).iterdir()]"
)


def scan(folder: Path, name: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}_0000.nii.gz"
    nib.save(nib.Nifti1Image(np.zeros((8, 8, 4), np.int16), np.eye(4)), path)
    return path


def detail(time_s: float, glance_s: float, status: str = "ok", name: str = "phantom_0001_0000") -> dict[str, Any]:
    seconds = {"read": 0.5, "preprocess": 0.25, "glance": glance_s, "focus": 2.0, "write": 0.25, "total": time_s - 0.5}
    report = {"status": "ok", "seconds": seconds, "peak_rss_mb": 800.0, "windows_total": 40, "windows_kept": 8}
    report |= {"windows_done": 8, "windows_unglanced": 0, "second_looks_done": 3}
    return {
        "name": name,
        "status": status,
        "error": "" if status == "ok" else "it broke",
        "time_s": time_s,
        "own": {"max_ram_mb": 900.0},
        "report": report if status == "ok" else None,
    }


class TestMedians:
    def test_of_what_was_measured(self):
        assert median([3.0, None, 1.0, 2.0]) == 2.0
        assert median([None]) is None

    def test_a_row(self):
        details = [detail(10.0, 1.0), detail(50.0, 3.0), detail(12.0, 2.0), detail(99.0, 9.0, name="other_0000")]
        found = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), details)
        assert (found["runs"], found["time_s"], found["time_range_s"], found["over_limit"]) == (
            3,
            12.0,
            [10.0, 50.0],
            1,
        )
        assert (found["stages_s"]["glance"], found["peak_rss_mb"], found["windows_kept"]) == (2.0, 800.0, 8.0)
        assert found["failed"] == []

    def test_failed_runs_are_named_and_not_counted(self):
        found = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), [detail(10.0, 1.0), detail(1.0, 1.0, "failed")])
        assert (found["time_s"], found["failed"]) == (10.0, ["it broke"])
        nothing = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), [])
        assert (nothing["time_s"], nothing["time_range_s"], nothing["stages_s"]["focus"]) == (None, None, None)


class TestPairs:
    def test_names(self):
        assert pairs(["a=x:latest", "b=python -m p -i {input}=y"], "--product") == {
            "a": "x:latest",
            "b": "python -m p -i {input}=y",
        }

    @pytest.mark.parametrize("items", [["a"], ["=x"], ["a="], ["a=x", "a=y"]])
    def test_refused(self, items):
        with pytest.raises(UsageError, match="--product: expected NAME=VALUE"):
            pairs(items, "--product")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """No product is run: (folder, image, command, docker arguments) of each call, and 10, 11, 12 ... s per case."""
    calls: list[Any] = []

    def pretend(paths: list[Path], out: Path, args: Any, earlier: Any = ()) -> dict[str, Any]:
        calls.append((out.relative_to(tmp_path), args.image, args.local_command, args.docker_args))
        names = [path.name.removesuffix(".nii.gz") for path in paths]
        return {"cases": [detail(10.0 + len(calls), 1.0, name=name) for name in names]}

    monkeypatch.setattr(benchmark, "measure_cases", pretend)
    monkeypatch.setattr(benchmark, "make_launch", lambda args, _: args)
    monkeypatch.setattr(benchmark, "body_litres", lambda scan: 4.5)
    monkeypatch.setattr(benchmark, "measure_folder", lambda launch, scans, out: folder(scans))
    monkeypatch.setattr(benchmark, "choose_sizes", lambda text: list(SMALL) if text != "215" else [SMALL[1]])

    def make(_: Path, sizes: Any) -> dict[str, Path]:
        return {size.case: scan(tmp_path / "cases", f"phantom_{size.case}") for size in sizes}

    monkeypatch.setattr(benchmark, "make_phantoms", make)
    return calls


def folder(scans: list[Path]) -> dict[str, Any]:
    return {"cases": [path.name for path in scans], "exit_code": 0, "time_s": 20.0, "cases_per_hour": 360.0}


ARGUMENTS = ["--product", "fast=x:latest", "--product", "paper=y:latest", "--keep-share", "paper=0.2", "--cpus", "2"]


class TestRun:
    def test_one_command_measures_everything_and_writes_the_page(self, measured, tmp_path):
        written = tmp_path / "docs" / "benchmarks.md"
        code = main(
            ["benchmark", "-o", str(tmp_path), *ARGUMENTS, "--repeats", "2", "--peer", "fast=w", "--page", str(written)]
        )
        assert code == 0
        # Products alternate.
        assert [str(call[0]) for call in measured] == [
            "fast/run0",
            "paper/run0",
            "fast/run1",
            "paper/run1",
            "peer-fast",
        ]
        assert [call[1] for call in measured] == ["x:latest", "y:latest", "x:latest", "y:latest", None]
        assert [call[3] for call in measured][:2] == ["", "-e GFSCREEN_KEEP_SHARE=0.2"]
        assert "eval dense-peer" in measured[-1][2]
        assert "--weights w --cpus 2" in measured[-1][2]
        result = json.loads((tmp_path / "benchmark.json").read_text())
        # Calls 1 and 3 are fast's: 11 and 13 s; call 5 is the peer's: 15 s.
        assert [case["time_s"] for case in result["products"][0]["rows"]] == [12.0, 12.0]
        assert result["peers"][0]["rows"][0]["time_s"] == 15.0
        text = written.read_text()
        assert "Untrained weights; Focus is made to read 20 % of the sub-volumes." in text
        assert "| fast | 0019 | 8x8x6 | 40 | 15.0 | 800 | 12.0 | 1.2 |" in text
        assert "| fast | 2 | 20.0 | 360 |" in text
        assert "doing other work" not in text
        assert "earlier images" not in text
        assert "![Seconds of a whole run against body volume](benchmarks.png)" in text
        assert written.with_suffix(".png").read_bytes()[1:4] == b"PNG"

    def test_an_earlier_image_beside_it(self, measured, tmp_path):
        written = tmp_path / "page.md"
        compared = ["--before", "fast=paper", "--repeats", "1", "--whole-body", "--page", str(written)]
        assert main(["benchmark", "-o", str(tmp_path), *ARGUMENTS, *compared]) == 0
        # Calls 1 and 2 are of the table's sizes, 11 and 12 s; 3 and 4 of the whole body, 13 and 14 s.
        text = written.read_text()
        assert "## Against earlier images" in text
        assert "| fast | 0001 | 8x8x4 | 12.0 | 11.0 | 0.92 | 800 | 800 | 1.00 |" in text
        assert "| fast | 9999 | 512x512x1200 | 14.0 | 13.0 | 0.93 | 800 | 800 | 1.00 |" in text
        assert "| fast | all of the table | median | 12.0 | 11.0 | 0.92 | \u2013 | \u2013 | \u2013 |" in text
        assert "- fast: before is paper." in text

    def test_a_loaded_machine_is_said(self, measured, tmp_path):
        written = tmp_path / "page.md"
        assert main(["benchmark", "-o", str(tmp_path), *ARGUMENTS, "--loaded", "--page", str(written)]) == 0
        assert "only ratios mean something" in written.read_text()

    def test_a_local_command_gets_the_share_as_an_option(self, measured, tmp_path):
        command = "p -i {input} -o {output}"
        arguments = ["--product", f"a={command}", "--keep-share", "a=0.3", "--repeats", "1"]
        assert main(["benchmark", "-o", str(tmp_path), *arguments]) == 0
        assert measured[0][1:3] == (None, f"{command} --keep-share 0.3")

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ([], "nothing to measure"),
            (["--product", "a=x", "--keep-share", "b=0.2"], "--keep-share b: no such product"),
            (["--product", "a=x", "--before", "a=b"], "--before b: no such product"),
            (["--product", "a=x", "--before", "b=a"], "--before b: no such product"),
        ],
    )
    def test_wrong_usage(self, tmp_path, capsys, arguments, words):
        assert main(["benchmark", "-o", str(tmp_path), *arguments]) == 2
        assert words in capsys.readouterr().err


class TestNNUNet:
    """Its predictor beside ours; a program stands in for a Python that has nnU-Net."""

    SAYS: ClassVar = {"patches_total": 200, "patches_timed": 12, "seconds": {"total": 600.4}, "peak_rss_mb": 3000.0}

    def stand_in(self, folder: Path, code: str) -> str:
        """A program that runs `code` with `words`, its arguments, when it is asked for more than what it can import."""
        program = folder / "python"
        program.write_text(
            f"#!{sys.executable}\nimport json, sys\nwords = sys.argv[1:]\nif words[0] == '-c': sys.exit()\n{code}\n"
        )
        program.chmod(0o755)
        return str(program)

    def test_its_seconds_and_the_ratio_are_on_the_page(self, measured, tmp_path):
        report = {"cases": [self.SAYS]}
        code = f"open(words[words.index('--report') + 1], 'w').write(json.dumps({report!r}))\n"
        code += f"open({str(tmp_path / 'words')!r}, 'w').write(json.dumps(words))"
        page_path = tmp_path / "page.md"
        words = ["benchmark", "-o", str(tmp_path), *ARGUMENTS, "--repeats", "1", "--page", str(page_path)]
        assert main([*words, "--nnunet", self.stand_in(tmp_path, code)]) == 0
        text = page_path.read_text()
        # Calls 1 and 2 are ours: 11 s of fast and 12 s of paper.
        assert "| fast | 0019 | 8x8x6 | 12 of 200 | 600 | 3000 | 11.0 | 54.6 |" in text
        assert "| paper | 0019 | 8x8x6 | 12 of 200 | 600 | 3000 | 12.0 | 50.0 |" in text
        asked = json.loads((tmp_path / "words").read_text())
        assert asked[:3] == ["-m", "eval", "nnunet-peer"]
        assert asked[-4:] == ["--patches", "12", "--cpus", "2"]
        assert (tmp_path / "nnunet" / "model" / "fold_0" / "checkpoint_final.pth").is_file()

    @pytest.mark.parametrize(
        ("code", "says"), [("sys.exit('no memory')", "exit code 1: no memory"), (None, "cannot be run")]
    )
    def test_what_cannot_be_timed_is_an_error(self, measured, tmp_path, capsys, code, says):
        program = str(tmp_path / "none") if code is None else self.stand_in(tmp_path, code)
        assert main(["benchmark", "-o", str(tmp_path), *ARGUMENTS, "--repeats", "1", "--nnunet", program]) == 2
        assert f"--nnunet {program}: {says}" in capsys.readouterr().err

    def test_a_python_without_it_is_refused_before_anything_is_measured(self, measured, tmp_path, capsys):
        program = tmp_path / "python"
        program.write_text("#!/bin/sh\necho \"No module named 'nnunetv2'\" >&2\nexit 1\n")
        program.chmod(0o755)
        assert main(["benchmark", "-o", str(tmp_path), *ARGUMENTS, "--nnunet", str(program)]) == 2
        assert f"--nnunet {program}: exit code 1: No module named 'nnunetv2'" in capsys.readouterr().err
        assert not measured


class TestChart:
    RESULT: ClassVar = {
        "products": [
            {"name": "a", "rows": [{"body_l": 9.0, "time_s": 20.0}, {"body_l": 4.0, "time_s": 10.0}]},
            {"name": "b", "rows": [{"body_l": None, "time_s": 30.0}, {"body_l": 5.0, "time_s": None}]},
        ],
        "peers": [{"name": "a", "rows": [{"body_l": 9.0, "time_s": 200.0}]}],
    }

    def test_products_and_peers(self, tmp_path, monkeypatch):
        """Lines by rising volume; a product of which nothing is known has none."""
        figure, (axes,) = charts.new_figure(7.0, 4.2)
        monkeypatch.setattr(benchmark_chart, "new_figure", lambda *_: (figure, [axes]))
        assert benchmark_chart.draw(self.RESULT, tmp_path / "page.png")
        shown = [(line.get_label(), [*line.get_xdata()], [*line.get_ydata()]) for line in axes.lines]
        assert shown == [("a", [4.0, 9.0], [10.0, 20.0]), ("a, dense peer", [9.0], [200.0])]
        assert axes.lines[0].get_color() == axes.lines[1].get_color()
        assert (tmp_path / "page.png").is_file()

    def test_nothing_known_nothing_drawn(self, tmp_path):
        assert not benchmark_chart.draw({"products": [self.RESULT["products"][1]], "peers": []}, tmp_path / "page.png")
        assert not (tmp_path / "page.png").exists()

    def test_litres_are_those_of_the_body(self, tmp_path):
        affine = np.diag([4.0, 4.0, 4.0, 1.0])
        hu = np.full((60, 60, 40), -1000, np.int16)
        hu[10:50, 10:50] = 40
        nib.save(nib.Nifti1Image(hu, affine), tmp_path / "X_0000.nii.gz")
        # 160 x 160 x 160 mm.
        assert benchmark.body_litres(tmp_path / "X_0000.nii.gz") == pytest.approx(4.096, rel=0.05)


class TestPage:
    def test_what_was_not_measured_is_a_dash(self):
        nothing = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), [detail(1.0, 1.0, "failed")])
        environment = {"cpus": 2, "ram_mb": 1000, "cpu": None, "instructions": None, "limit_cpus": None}
        result = {
            "date": "2026-01-01",
            "environment": environment,
            "loaded": False,
            "source": "phantoms",
            "repeats": 1,
            "products": [{"name": "a", "what": "x", "keep_share": None, "rows": [nothing]}],
            "peers": [],
            "folders": [],
        }
        text = page(result)
        assert "unknown CPU (unknown instructions), 2 cores given" in text
        assert "![" not in text
        assert "- Failed: it broke" in text
        assert "| 0001 | 8x8x4 | \u2013 | \u2013 |" in text
        text = page({**result, "compared": {"a": "a"}})
        assert "| a | 0001 | 8x8x4 |" + 6 * " \u2013 |" in text

    def test_the_whole_body_is_no_size_of_the_table(self):
        from eval.efficiency.benchmark_page import _said_of

        table = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), [detail(12.0, 2.0)])
        body = row(
            benchmark.WHOLE_BODY, Path("phantom_9999_0000.nii.gz"), [detail(60.0, 2.0, name="phantom_9999_0000")]
        )
        (said,) = _said_of({"what": "x", "keep_share": None, "rows": [table, body]})
        assert said == "`x`. Median over the 1 sizes of the table: 12.0 s; 1 runs above 45 s."

    def test_start_and_end_are_what_no_stage_covers(self):
        # 12 s in all; the stages take 0.5 + 0.25 + 2 + 2 + 0.25 = 5 s.
        case = row(SMALL[0], Path("phantom_0001_0000.nii.gz"), [detail(12.0, 2.0)])
        from eval.efficiency.benchmark_page import _stage_seconds

        assert _stage_seconds(case)["start and end"] == pytest.approx(7.0)


class TestThroughput:
    def launch(self, code: str) -> CommandLaunch:
        return CommandLaunch(f'{sys.executable} -c "{code}" {{input}} {{output}}')

    def test_all_cases_in_one_run(self, tmp_path):
        scans = [scan(tmp_path / "cases", name) for name in "abc"]
        found = measure_folder(self.launch(COPY), scans, tmp_path / "out")
        assert (found["exit_code"], len(found["cases"])) == (0, 3)
        # The time is told to a hundredth of a second, and copying takes two or three of them.
        low, high = (3 * 3600 / max(found["time_s"] + error_s, 1e-3) for error_s in (0.006, -0.006))
        assert low <= found["cases_per_hour"] <= high
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["folder.log"]

    @pytest.mark.parametrize("code", ["import sys; sys.exit(1)", "pass"])
    def test_no_figure_without_all_masks(self, tmp_path, code):
        found = measure_folder(self.launch(code), [scan(tmp_path / "cases", "a")], tmp_path / "out")
        assert (found["time_s"], found["cases_per_hour"]) == (None, None)


@pytest.mark.parametrize("hu_channels", ["region", "both"])
def test_the_peer_is_the_dense_window(tmp_path, monkeypatch, hu_channels):
    """The peer's mask is that of our own dense mode with the same network in torch."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("monai")
    # Networks this small only wait for each other's threads.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("torch.set_num_threads", lambda _: None)
    monkeypatch.setattr("gfscreen.networks.engines.torch.keep_large_buffers", lambda: None)
    from gfscreen.config import Plan
    from gfscreen.network_plan import FocusConfig, GlanceConfig
    from gfscreen.networks.models.weights import init_weights

    plan = Plan(
        spacing_mm=(4.0, 4.0, 4.0),
        sub_volume_voxels=(64, 32, 32),
        glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
        focus=FocusConfig(12, (1, 1, 1, 1), (1, 1, 2, 2), window_size=4, hu_channels=hu_channels),
    )
    init_weights(tmp_path / "weights", plan, 5)
    rng = np.random.default_rng(2)
    hu = rng.normal(40, 60, (70, 36, 34)).astype(np.int16)
    folder = tmp_path / "in"
    folder.mkdir()
    nib.save(nib.Nifti1Image(hu, np.diag([4.0, 4.0, 4.0, 1.0])), folder / "a_0000.nii.gz")
    arguments = ["-i", str(folder), "--weights", str(tmp_path / "weights")]
    report = tmp_path / "report.json"
    assert main(["dense-peer", *arguments, "-o", str(tmp_path / "peer"), "--report", str(report)]) == 0
    from gfscreen.command.cli import main as gfscreen

    options = ["--gate", "0", "--engine", "torch", "--device", "cpu", "--precision", "fp32"]
    assert gfscreen(["-q", "predict", *arguments, "-o", str(tmp_path / "ours"), *options]) == 0
    (case,) = json.loads(report.read_text())["cases"]
    assert (case["name"], case["windows_total"]) == ("a", 8)
    assert set(case["seconds"]) == {"import", "load", "read", "preprocess", "focus", "write", "total"}
    assert main(["ab", str(tmp_path / "peer"), str(tmp_path / "ours")]) == 0
    monkeypatch.undo()
    torch.set_num_threads(threads)
