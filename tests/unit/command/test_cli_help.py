"""What the command line says of itself: help, mistakes, verbosity, completion."""

from __future__ import annotations

import builtins
import logging
import shlex
import subprocess

import pytest

from gfscreen.command.arguments import MAIN_EXAMPLES, PREDICT_EXAMPLES, leaves
from gfscreen.command.cli import build_parser, main
from gfscreen.command.progress import CLEAR_LINE, TerminalHandler

COMMANDS = (
    "predict",
    "series",
    "seg",
    "stats",
    "pacs",
    "info",
    "train",
    "train-cells",
    "convert",
    "export",
    "init",
    "completion",
)


def code_of(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(exit_.value.code or 0)


class TestHelp:
    @pytest.mark.parametrize("command", COMMANDS)
    def test_of_every_command(self, command, capsys):
        assert code_of([command, "--help"]) == 0
        assert "messages:" in capsys.readouterr().out

    def test_lists_every_command(self, capsys):
        code_of(["--help"])
        out = capsys.readouterr().out
        for command in COMMANDS:
            assert f"\n    {command} " in out

    def test_options_of_predict_are_grouped(self, capsys):
        code_of(["predict", "--help"])
        out = capsys.readouterr().out
        for group in ("files:", "DICOM:", "method (default", "machine and limits:", "messages:", "examples:"):
            assert f"\n{group}" in out

    @pytest.mark.parametrize(
        "example",
        [
            line.strip().split("   ")[0].partition(" > ")[0]
            for line in (PREDICT_EXAMPLES + "\n" + MAIN_EXAMPLES).splitlines()
            if line.startswith("  gfscreen")
        ],
    )
    def test_examples_are_commands_that_parse(self, example):
        words = shlex.split(example)[1:]
        build_parser().parse_args(words)


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["predict", "-i", "in"], "the following arguments are required: -o/--output; see gfscreen predict --help"),
            (["predict", "--gate", "2"], "expected a probability from 0 to 1, got 2; see gfscreen predict --help"),
            (["xyz"], "no command 'xyz'; there are predict, stats, series"),
            (["predcit", "-i", "in"], "no command 'predcit'; did you mean predict?; see gfscreen --help"),
            (
                ["predict", "--treshold", "0.3"],
                "no option --treshold; did you mean --lesion-threshold?; see gfscreen pre",
            ),
            (
                ["predict", "--min-volum=1"],
                "the following arguments are required",
            ),  # the beginning of an option will do
            (["predict", "--reprot=r.json"], "no option --reprot; did you mean --report?"),
            (["predict", "-o", "out", "--qqq", "1"], "no option --qqq; see gfscreen predict --help"),
            (["--quite", "info"], "no option --quite; did you mean --quiet?"),
            (["predict", "--lesion-threshold", "1"], "expected a probability above 0 and below 1, got 1"),
            (["predict", "--finding-peak", "0"], "expected a probability above 0 and below 1, got 0"),
            (["predict", "--min-volume-ml", "-1"], "--min-volume-ml"),
            ([], "the following arguments are required: COMMAND; see gfscreen --help"),
        ],
    )
    def test_are_one_line_with_a_remedy(self, arguments, message, capsys):
        assert code_of(arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("ERROR: ")
        assert message in err
        assert err.count("\n") == 1

    def test_a_missing_package_names_its_extra(self, capsys, monkeypatch):
        real = builtins.__import__

        def without_torch(name: str, *args: object, **kwargs: object) -> object:
            if name == "gfscreen.networks.models.weights":
                raise ModuleNotFoundError("No module named 'torch'", name="torch")
            return real(name, *args, **kwargs)  # type: ignore[arg-type]

        monkeypatch.setattr(builtins, "__import__", without_torch)
        assert main(["init", "--preset", "fast", "-o", "w"]) == 2
        err = capsys.readouterr().err
        assert err == "ERROR: init needs torch, which is not installed; pip install 'gfscreen[gpu]'\n"


class TestVerbosity:
    @pytest.mark.parametrize("arguments", [["-q", "info"], ["info", "-q"], ["info", "--quiet"]])
    def test_quiet_before_and_after_the_command(self, arguments):
        args = build_parser().parse_args(arguments)
        assert (args.quiet, args.verbose) == (True, False)

    def test_neither(self):
        args = build_parser().parse_args(["info"])
        assert (args.quiet, args.verbose) == (False, False)

    @pytest.mark.parametrize("quiet", [True, False])
    def test_quiet_silences_progress(self, quiet, monkeypatch):
        from gfscreen.screening.progress import no_progress

        got: list[object] = []
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        monkeypatch.setattr("gfscreen.run.predict.predict", lambda _, progress: got.append(progress) or 0)
        main([*(["-q"] if quiet else []), "predict", "-i", "in", "-o", "out"])
        assert (got[0] is no_progress) == quiet

    @pytest.mark.parametrize("terminal", [True, False])
    def test_a_log_line_takes_the_place_of_the_progress_line(self, terminal, monkeypatch, capsys):
        import sys

        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
        TerminalHandler(sys.stderr).emit(logging.makeLogRecord({"msg": "said"}))
        assert capsys.readouterr().err == (CLEAR_LINE if terminal else "") + "said\n"


class TestCompletion:
    @pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
    def test_knows_commands_and_options(self, shell, capsys):
        assert main(["completion", shell]) == 0
        out = capsys.readouterr().out
        for word in ("predict", "dicom-seg", "max-minutes"):
            assert word in out

    def test_bash_completes(self, capsys, tmp_path):
        main(["completion", "bash"])
        (tmp_path / "complete.sh").write_text(capsys.readouterr().out)
        ask = (
            "source ./complete.sh; COMP_WORDS=(gfscreen predict --dic); COMP_CWORD=2; "
            '_shtab_gfscreen gfscreen --dic predict; echo "${COMPREPLY[@]}"'
        )
        done = subprocess.run(["bash", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "--dicom-seg"

    def test_without_shtab(self, capsys, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "shtab", None)
        assert main(["completion", "bash"]) == 2
        assert "pip install 'gfscreen[completion]'" in capsys.readouterr().err


def test_every_option_has_help():
    for command in leaves(build_parser()):
        for action in command._actions:
            assert action.help, f"{command.prog} {action.option_strings or action.dest}"


@pytest.mark.parametrize("command", ["run", "report"])
def test_commands_of_a_command(command, capsys):
    assert code_of(["cohort", command, "--help"]) == 0
    assert "messages:" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["cohort", command, "--outptu"])
    assert f"see gfscreen cohort {command} --help" in capsys.readouterr().err
