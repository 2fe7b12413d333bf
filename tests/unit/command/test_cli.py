"""The command line: options that reach the run, exit codes, and one line per error on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen import __version__
from gfscreen.command.cli import command_of, main
from gfscreen.command.progress import terminal_progress
from gfscreen.run.options import Options, default_weights
from gfscreen.screening.progress import no_progress
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.runs import write_plan
from tests.helpers.scans import paint

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `in`, `weights` and a fake engine."""
    (tmp_path / "in").mkdir()
    write_plan(tmp_path / "weights")
    monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: bright_engine())
    monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scan(folder: Path, name: str = "a_0000.nii.gz") -> None:
    write_nifti(folder / "in" / name, paint((36, 34, 30), AFFINE)[0], AFFINE)


def usage(arguments: list[str]) -> int:
    """Exit code, whether argparse raised it or main returned it."""
    try:
        return main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)


PREDICT = ["predict", "-i", "in", "-o", "out"]


class TestPredict:
    def test_all_written(self, place, capsys):
        scan(place)
        scan(place, "b.nii")
        assert main([*PREDICT, "--report", "report.json"]) == 0
        assert sorted(path.name for path in (place / "out").iterdir()) == ["a.nii.gz", "b.nii.gz"]
        assert read_mask(place / "out" / "a.nii.gz").any()
        assert [case["status"] for case in json.loads((place / "report.json").read_text())["cases"]] == ["ok", "ok"]
        out, err = capsys.readouterr()
        assert out == "", "results are files; stdout stays free"
        assert "INFO: a: ok, abdomen" in err

    def test_some_case_failed(self, place, capsys):
        scan(place)
        (place / "in" / "b_0000.nii.gz").write_bytes(b"no image")
        assert main(PREDICT) == 1
        assert [path.name for path in (place / "out").iterdir()] == ["a.nii.gz"]
        errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("ERROR")]
        assert len(errors) == 1
        assert errors[0].startswith("ERROR: b_0000.nii.gz: expected a NIfTI file")

    def test_quiet_says_only_errors(self, place, capsys):
        scan(place)
        assert main(["-q", *PREDICT]) == 0
        assert capsys.readouterr().err == ""
        (place / "in" / "b.nii.gz").write_bytes(b"no image")
        assert main(["-q", *PREDICT]) == 1
        assert len(capsys.readouterr().err.splitlines()) == 1

    @pytest.mark.parametrize("arguments", [["-v", *PREDICT], [*PREDICT, "--verbose"]])
    def test_verbose_says_why_and_how_long(self, place, capsys, arguments):
        scan(place)
        assert main(arguments) == 0
        err = capsys.readouterr().err
        assert "DEBUG: a: region: " in err
        assert "DEBUG: a: seconds: {'read': " in err

    def test_options_reach_the_run(self, place, monkeypatch):
        got: list[Options] = []
        monkeypatch.setattr("gfscreen.run.predict.predict", lambda options, _: got.append(options) or 0)
        arguments = "--weights w --device cuda:1 --engine torch --precision fp32 --region chest --overlap 0.75 --gate 0"
        limits = "--time-limit 45 --gpu-memory-limit 4000 --report r.json --statistics s.json --preview see"
        assert main([*PREDICT, *arguments.split(), *limits.split()]) == 0
        assert got == [
            Options(
                Path("in"),
                Path("out"),
                Path("w"),
                "cuda:1",
                "torch",
                "fp32",
                ScreeningSettings("chest", 0.75, 0.0),
                45.0,
                4000.0,
                Path("r.json"),
                statistics=Path("s.json"),
                preview=Path("see"),
            )
        ]

    def test_resume_and_last_resort_reach_the_run(self, place, monkeypatch):
        got: list[Options] = []
        monkeypatch.setattr("gfscreen.run.predict.predict", lambda options, _: got.append(options) or 0)
        main(PREDICT)
        main([*PREDICT, "--resume", "--empty-mask-on-failure"])
        assert [(options.resume, options.empty_mask_on_failure) for options in got] == [(False, False), (True, True)]

    def test_no_file_name_breaks_a_line_or_colours_a_terminal(self, place, capsys):
        (place / "in" / "two\nlines\x1b[31m_0000.nii.gz").write_bytes(b"no image")
        assert main(PREDICT) == 1
        err = capsys.readouterr().err
        assert "\x1b" not in err
        assert err.splitlines()[-2].startswith(r"ERROR: two\nlines\x1b[31m_0000.nii.gz: expected a NIfTI file")

    def test_defaults_are_the_plans(self, place, monkeypatch):
        got: list[Options] = []
        monkeypatch.setattr("gfscreen.run.predict.predict", lambda options, _: got.append(options) or 0)
        main(PREDICT)
        assert got[0].settings == ScreeningSettings("auto", None, None)
        assert (got[0].device, got[0].time_limit_s, got[0].gpu_memory_limit_mb, got[0].report) == (
            "auto",
            None,
            None,
            None,
        )


class TestWrongUsage:
    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["unknown"],
            ["predict"],
            ["predict", "-i", "in"],
            [*PREDICT, "--overlap", "1"],
            [*PREDICT, "--overlap", "-0.1"],
            [*PREDICT, "--overlap", "much"],
            [*PREDICT, "--gate", "1.1"],
            [*PREDICT, "--gate", "nan"],
            [*PREDICT, "--time-limit", "0"],
            [*PREDICT, "--time-limit", "inf"],
            [*PREDICT, "--gpu-memory-limit", "-1"],
            [*PREDICT, "--region", "head"],
            [*PREDICT, "--engine", "onnx"],
            [*PREDICT, "--unknown"],
        ],
    )
    def test_of_options(self, place, arguments, capsys):
        scan(place)
        assert usage(arguments) == 2
        assert capsys.readouterr().err
        assert not (place / "out").exists()

    def test_an_empty_input_folder(self, place, capsys):
        assert main(PREDICT) == 2
        err = capsys.readouterr().err
        assert err.startswith("ERROR: in: expected scans")
        assert len(err.splitlines()) == 1

    def test_an_input_that_does_not_exist(self, place, capsys):
        assert main(["predict", "-i", "gone", "-o", "out"]) == 2
        assert "ERROR: gone: no such file or folder" in capsys.readouterr().err

    def test_an_unknown_device(self, place, capsys, monkeypatch):
        from gfscreen.networks.engines.select import load_engine

        monkeypatch.setattr("gfscreen.run.predict.load_engine", load_engine)
        scan(place)
        assert main([*PREDICT, "--device", "gpu"]) == 2
        assert "ERROR: --device gpu: expected auto, cpu, cuda or cuda:N" in capsys.readouterr().err

    @pytest.mark.parametrize("option", ["--help", "--version"])
    def test_questions_are_no_errors(self, option, capsys):
        assert usage([option]) == 0
        assert capsys.readouterr().out


class TestFailures:
    def test_missing_weights(self, place, capsys):
        scan(place)
        assert main([*PREDICT, "--weights", "none", "--report", "r.json"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("ERROR: none/plan.json: no weights found; name a weights folder (--weights")
        assert err.splitlines()[1:] == ["INFO: 1 case: 0 ok, 0 degraded, 1 failed; masks in out, report r.json"]
        assert json.loads((place / "r.json").read_text())["cases"][0]["status"] == "failed"

    def test_an_output_that_cannot_be_a_folder(self, place, capsys):
        scan(place)
        (place / "file").touch()
        assert main(["predict", "-i", "in", "-o", "file/out"]) == 1
        assert "ERROR: file/out: the output folder cannot be written" in capsys.readouterr().err

    def test_a_report_that_cannot_be_written(self, place, capsys):
        scan(place)
        (place / "file").touch()
        assert main([*PREDICT, "--report", "file/r.json"]) == 1
        assert "file/r.json: cannot be written" in capsys.readouterr().err
        assert (place / "out" / "a.nii.gz").exists()

    @pytest.mark.parametrize("content", [None, b"no checkpoint"])
    def test_a_checkpoint_that_cannot_be_converted(self, place, capsys, content):
        pytest.importorskip("torch")
        if content is not None:
            (place / "m.pt").write_bytes(content)
        assert main(["convert", "m.pt", "-o", "w"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("ERROR: m.pt: ")
        assert len(err.splitlines()) == 1
        assert not (place / "w").exists()

    @pytest.mark.parametrize("command", [["init", "--preset", "fast"], ["convert", "m.pt"]])
    def test_an_output_folder_that_cannot_be_made(self, place, capsys, command, monkeypatch):
        def refuse(*_: Any, **__: Any) -> None:
            (place / "file" / "w").mkdir(parents=True)

        for name in (
            "gfscreen.networks.models.weights.init_weights",
            "gfscreen.networks.models.published.convert_checkpoint",
        ):
            monkeypatch.setattr(name, refuse)
        (place / "file").touch()
        assert main([*command, "-o", "file/w"]) == 1
        err = capsys.readouterr().err
        assert err.startswith("ERROR: ")
        assert "file" in err
        assert len(err.splitlines()) == 1


class TestInfo:
    def shown(self, capsys: Any, *arguments: str, code: int = 0) -> dict[str, Any]:
        """What is on stdout, which is JSON whatever the exit code."""
        assert main(["info", "--json", "--weights", "weights", *arguments]) == code
        data: dict[str, Any] = json.loads(capsys.readouterr().out)
        return data

    def test_json(self, place, capsys):
        from gfscreen.networks.models.manifest import write_manifest

        write_manifest(place / "weights", ["plan.json"], {})
        data = self.shown(capsys)
        assert data["gfscreen"] == __version__
        assert set(data["presets"]) == {"paper", "fast"}
        assert data["presets"]["paper"]["focus"]["feature_size"] == 48
        assert ".nii.gz" in data["inputs"]
        assert data["limits"]["cpus"] >= 1

    def test_without_weights_it_says_so_and_fails(self, place, capsys):
        assert "no weights found" in self.shown(capsys, "--weights", "none", code=1)["weights"]["error"]
        assert main(["info", "--weights", "none"]) == 1
        out, err = capsys.readouterr()
        assert "weights  none that can be used\n" in out
        assert err.startswith("ERROR: none/manifest.json: no weights found")
        assert len(err.splitlines()) == 1

    def test_damaged_weights(self, place, capsys):
        from gfscreen.networks.models.manifest import write_manifest

        write_manifest(place / "weights", ["plan.json"], {})
        path = place / "weights" / "plan.json"
        path.write_bytes(path.read_bytes().replace(b"tiny", b"tinY"))
        weights = self.shown(capsys, code=1)["weights"]
        assert set(weights) == {"folder", "error"}
        assert "plan.json: damaged, the manifest says sha256" in weights["error"]

    def test_beside_a_current_export_the_networks_may_be_left_out(self, place, capsys):
        from gfscreen.networks.models.manifest import write_manifest

        network = place / "weights" / "glance.safetensors"
        network.write_bytes(b"a network")
        made = write_manifest(place / "weights", ["plan.json", network.name], {})
        export = place / "weights" / "openvino"
        export.mkdir()
        write_manifest(export, [], {"weights_digest": made.digest})
        network.unlink()
        assert self.shown(capsys)["weights"]["export"] == "current"
        write_manifest(export, [], {"weights_digest": "0" * 64})
        assert (
            "glance.safetensors: listed in the manifest but missing" in self.shown(capsys, code=1)["weights"]["error"]
        )

    @pytest.mark.parametrize(
        ("digest", "spoilt", "shown"), [(None, False, "current"), ("0" * 64, False, "outdated"), (None, True, None)]
    )
    def test_the_export(self, place, capsys, digest, spoilt, shown):
        from gfscreen.networks.models.manifest import write_manifest

        made = write_manifest(place / "weights", ["plan.json"], {})
        export = place / "weights" / "openvino"
        export.mkdir()
        (export / "focus.bin").write_bytes(b"as exported")
        write_manifest(export, ["focus.bin"], {"weights_digest": digest or made.digest})
        if spoilt:
            (export / "focus.bin").write_bytes(b"no longer!!")
            assert "focus.bin: damaged" in self.shown(capsys, code=1)["weights"]["error"]
        else:
            weights = self.shown(capsys)["weights"]
            assert (weights["export"], weights["openvino_export"]) == (shown, True)

    def test_with_weights(self, place, capsys):
        from gfscreen.networks.models.manifest import write_manifest

        write_manifest(place / "weights", ["plan.json"], {"seed": 0})
        weights = self.shown(capsys, "--weights", "weights")["weights"]
        assert (weights["plan"]["preset"], weights["info"], weights["openvino_export"]) == ("tiny", {"seed": 0}, False)
        assert len(weights["digest"]) == 64
        main(["info", "--weights", "weights"])
        assert "weights: preset tiny, trained" in capsys.readouterr().out

    def test_as_a_module(self, tmp_path):
        done = subprocess.run(
            [sys.executable, "-m", "gfscreen", "--version"], capture_output=True, text=True, cwd=tmp_path
        )
        assert (done.returncode, done.stdout.strip()) == (0, f"gfscreen {__version__}")


class TestDefaultWeights:
    def test_the_environment_wins(self, monkeypatch, tmp_path):
        monkeypatch.setenv("GFSCREEN_WEIGHTS", str(tmp_path / "w"))
        assert default_weights() == tmp_path / "w"

    def test_then_the_current_folder(self, monkeypatch, tmp_path):
        monkeypatch.delenv("GFSCREEN_WEIGHTS", raising=False)
        (tmp_path / "weights").mkdir()
        monkeypatch.chdir(tmp_path)
        assert default_weights() == Path("weights")

    def test_then_the_checkout(self, monkeypatch, tmp_path):
        monkeypatch.delenv("GFSCREEN_WEIGHTS", raising=False)
        monkeypatch.chdir(tmp_path)
        assert default_weights().name == "weights"


class TestProgress:
    def test_silent_where_stderr_is_no_terminal(self, monkeypatch):
        monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
        assert terminal_progress() is no_progress

    def test_one_line_on_a_terminal_that_is_cleared_at_the_end(self, monkeypatch, capsys):
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        show = terminal_progress()
        show("glance", 1, 2)
        show("glance", 2, 2)
        assert capsys.readouterr().err == "\rglance 1/2\x1b[K\rglance 2/2\x1b[K\r\x1b[K"


class TestLeaving:
    def test_what_is_not_needed_any_more_is_not_waited_for(self, tmp_path):
        """A thread of the engine that would go on for a minute does not keep the program; its output is complete."""
        good = tmp_path / "in" / "a_0000.nii.gz"
        good.parent.mkdir()
        write_nifti(good, paint((32, 30, 20), np.diag([4.0, 4.0, 5.0, 1.0]))[0])
        write_plan(tmp_path / "weights")
        code = f"""
import runpy, sys, threading, time
import gfscreen.run.predict
from tests.helpers.engines import bright_engine
def load(*_, **__):
    threading.Thread(target=time.sleep, args=(60,)).start()
    return bright_engine()
gfscreen.run.predict.load_engine = load
sys.argv = ["gfscreen", "predict", "-i", {str(good)!r}, "-o", {str(tmp_path / "out")!r},
            "--weights", {str(tmp_path / "weights")!r}]
runpy.run_module("gfscreen", run_name="__main__")
"""
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50, check=False)
        assert done.returncode == 0, done.stderr
        assert "a: ok" in done.stderr
        assert read_mask(tmp_path / "out" / "a.nii.gz").any()

    @pytest.mark.parametrize(
        ("arguments", "command"), [(["-q", "predict", "-i", "x"], "predict"), (["--version"], None), ([], None)]
    )
    def test_command_of(self, arguments, command):
        assert command_of(arguments) == command
