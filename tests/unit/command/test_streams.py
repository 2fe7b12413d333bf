"""Streams that are closed or lead nowhere, and users that the system does not know, neither end a run nor spoil it."""

from __future__ import annotations

import io
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gfscreen
from gfscreen.command import cli
from gfscreen.command.progress import TerminalHandler, flush_standard_streams, terminal_progress
from gfscreen.screening.progress import no_progress
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import LESION_HU

STRANGER = "54321"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(gfscreen.__file__).parents[1])}


def started(redirections: str, *arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    """`python -m gfscreen` as a shell starts it with these redirections."""
    command = [sys.executable, "-m", "gfscreen", *map(str, arguments)]
    options = {"env": ENVIRONMENT, "capture_output": True, "text": True, "timeout": 120, **options}
    return subprocess.run(["sh", "-c", f'exec "$@" {redirections}', "sh", *command], check=False, **options)


@pytest.fixture
def into_nobody() -> Any:
    """The writing end of a pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


class Screened:
    """A scan, weights of one operation, and what a run must leave of them."""

    def __init__(self, folder: Path) -> None:
        from eval.reliability.threshold_engine import write_threshold_weights

        self.folder = folder
        self.hu = np.full((36, 32, 30), 40, np.int16)
        self.hu[10:20, 10:20, 10:20] = LESION_HU
        (folder / "in").mkdir()
        write_nifti(folder / "in" / "a_0000.nii.gz", self.hu, np.diag([4.0, 4.0, 4.0, 1.0]))
        self.weights = write_threshold_weights(folder / "weights")

    @property
    def arguments(self) -> list[object]:
        names = ("-i", "in", "-o", "out", "--report", "r.json", "--statistics", "s.json")
        places = [name if name.startswith("-") else self.folder / name for name in names]
        return ["predict", *places, "--weights", self.weights, "--device", "cpu"]

    def check(self) -> None:
        np.testing.assert_array_equal(read_mask(self.folder / "out" / "a.nii.gz"), self.hu == LESION_HU)
        for name in ("r.json", "s.json"):
            assert [case["status"] for case in json.loads((self.folder / name).read_text())["cases"]] == ["ok"]


@pytest.fixture
def screened(tmp_path: Path) -> Screened:
    pytest.importorskip("openvino")
    return Screened(tmp_path)


class TestRun:
    @pytest.mark.parametrize(
        "redirections",
        [">&-", "2>&-", "<&- >&-", "<&- >&- 2>&-", ">/dev/full 2>/dev/full", "1</dev/null 2</dev/null"],
    )
    def test_streams_that_are_closed_or_take_nothing(self, screened, redirections):
        done = started(redirections, *screened.arguments)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        screened.check()

    def test_pipes_that_nobody_reads(self, screened, into_nobody):
        options = {"capture_output": False, "stdout": into_nobody, "stderr": into_nobody}
        assert started("", "-v", *screened.arguments, **options).returncode == 0
        screened.check()

    @pytest.mark.parametrize("redirections", ["<&- >&- 2>&-", "<&-"])
    def test_a_scan_that_another_process_reads(self, screened, redirections):
        """Its pipes, and the file that the voxels come through, must not take the places of the streams."""
        sitk = pytest.importorskip("SimpleITK")
        image = sitk.ReadImage(str(screened.folder / "in" / "a_0000.nii.gz"))
        (screened.folder / "in" / "a_0000.nii.gz").unlink()
        sitk.WriteImage(image, str(screened.folder / "in" / "a_0000.nrrd"))
        done = started(redirections, *screened.arguments)
        assert done.returncode == 0, done.stderr
        screened.check()

    @pytest.mark.parametrize("redirections", ["2>&-", ">&- 2>/dev/full"])
    def test_a_failure_keeps_its_exit_code(self, tmp_path, redirections):
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a_0000.nii.gz").write_bytes(b"no image")
        assert started(redirections, "predict", "-i", tmp_path / "in", "-o", tmp_path / "out").returncode == 1
        assert started(redirections, "predict", "-i", tmp_path / "none", "-o", tmp_path / "out").returncode in (1, 2)
        assert started(redirections, "predict").returncode == 2

    @pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root and setpriv")
    @pytest.mark.parametrize("home", [None, "/nonexistent", "/root"])
    def test_a_user_that_the_system_does_not_know(self, screened, home):
        """As `docker run --user 54321`. The capability lets it read a checkout that lies in a private folder."""
        capability = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
        become = ["setpriv", "--reuid", STRANGER, "--regid", STRANGER, "--clear-groups", *capability]
        environment = {key: ENVIRONMENT[key] for key in ("PATH", "PYTHONPATH")} | ({"HOME": home} if home else {})
        environment["TMPDIR"] = str(screened.folder / "tmp")
        for folder in (screened.folder, screened.folder / "tmp"):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o777)
        command = [*become, sys.executable, "-m", "gfscreen", *map(str, screened.arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        screened.check()


class TestShown:
    """Commands whose results go to the standard output."""

    @pytest.mark.parametrize("command", ["info", "completion bash"], ids=["little", "more than a buffer"])
    def test_the_reader_leaves(self, into_nobody, command):
        """`gfscreen completion bash | head -1`."""
        if command.startswith("completion"):
            pytest.importorskip("shtab")
        done = started("", *command.split(), capture_output=False, stdout=into_nobody, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (0, "")

    def test_help_that_nobody_reads(self, into_nobody):
        done = started("", "--help", capture_output=False, stdout=into_nobody, stderr=subprocess.PIPE)
        assert (done.returncode, done.stderr) == (0, "")

    def test_a_full_disk_is_an_error(self):
        done = started(">/dev/full", "info")
        assert done.returncode == 1
        assert done.stderr == "ERROR: [Errno 28] No space left on device: 'standard output'\n"

    def test_closed(self):
        done = started("<&- >&-", "info")
        assert (done.returncode, done.stderr) == (0, "")


class TestDescriptors:
    CODE = """
import os, subprocess, sys
from gfscreen.command.progress import open_standard_streams
open_standard_streams()
open_standard_streams()
print("lost"); sys.stderr.write("lost")
with open(sys.argv[1], "w") as stream:
    child = subprocess.run([sys.executable, "-c", "import os; [os.fstat(n) for n in range(3)]"])
    stream.write(f"{stream.fileno() > 2} {child.returncode} {[os.readlink(f'/proc/self/fd/{n}') for n in range(3)]}")
"""

    @pytest.mark.parametrize(
        ("redirections", "closed"), [("<&-", [0]), (">&- 2>&-", [1, 2]), ("<&- >&- 2>&-", [0, 1, 2])]
    )
    def test_are_taken_before_a_file_gets_them(self, tmp_path, redirections, closed):
        command = [sys.executable, "-c", self.CODE, str(tmp_path / "seen")]
        subprocess.run(
            ["sh", "-c", f'exec "$@" {redirections}', "sh", *command], check=True, env=ENVIRONMENT, capture_output=True
        )
        above, child, places = (tmp_path / "seen").read_text().split(" ", 2)
        assert (above, child) == ("True", "0"), "a child process has all three as well"
        assert all(json.loads(places.replace("'", '"'))[number] == "/dev/null" for number in closed)


class Gone(io.StringIO):
    """A terminal that was there once."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def isatty(self) -> bool:
        return True

    def write(self, _: str) -> int:
        raise self.error

    def flush(self) -> None:
        raise self.error


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "Broken pipe"), OSError(5, "Input/output error"), OSError(28, "No space left on device")],
    ids=lambda error: type(error).__name__ + str(error.errno),
)
class TestGone:
    def test_progress(self, monkeypatch, error):
        monkeypatch.setattr("sys.stderr", io.StringIO())
        monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
        show = terminal_progress()
        monkeypatch.setattr("sys.stderr", Gone(error))
        show("glance", 1, 2)

    def test_log(self, monkeypatch, error, capsys):
        handler = TerminalHandler(Gone(error))
        handler.emit(logging.makeLogRecord({"msg": "said"}))
        assert capsys.readouterr().err == "", "nobody is there to be told"

    def test_flush(self, monkeypatch, error):
        monkeypatch.setattr("sys.stdout", Gone(error))
        monkeypatch.setattr("sys.stderr", Gone(error))
        flush_standard_streams()


def test_a_fault_of_ours_in_a_log_line_is_told(capsys):
    TerminalHandler(io.StringIO()).emit(logging.makeLogRecord({"msg": "%d", "args": ("x",)}))
    assert "Logging error" in capsys.readouterr().err


def closed_stream() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("stream", [lambda: None, closed_stream], ids=["none", "closed"])
def test_no_standard_error(monkeypatch, stream: Callable[[], object]):
    monkeypatch.setattr("sys.stderr", stream())
    assert terminal_progress() is no_progress
    TerminalHandler(sys.stderr).emit(logging.makeLogRecord({"msg": "said"}))
    flush_standard_streams()


class TestEnvironment:
    @pytest.fixture(autouse=True)
    def _environment(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "environ", dict(os.environ))
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def test_of_a_user_that_the_system_knows_is_left_alone(self, monkeypatch, tmp_path):
        monkeypatch.setenv("USER", "someone")
        monkeypatch.setenv("HOME", str(tmp_path))
        before = dict(os.environ)
        cli._complete_environment("predict")
        assert os.environ == before

    def test_a_name_and_a_home_for_one_that_it_does_not(self, monkeypatch, tmp_path):
        def unknown(*_: object) -> str:
            raise KeyError("getpwuid(): uid not found: 54321")

        def homeless(*_: object) -> Path:
            raise RuntimeError("Could not determine home directory.")

        monkeypatch.setattr("getpass.getuser", unknown)
        monkeypatch.setattr("gfscreen.command.cli.Path.home", homeless)
        cli._complete_environment("info")
        assert os.environ["USER"] == f"uid-{os.getuid()}"
        assert os.environ["HOME"] == str(tmp_path / f"gfscreen-{os.getuid()}")

    def test_a_place_for_exports(self, monkeypatch, tmp_path):
        monkeypatch.setenv("HOME", "/dev/null")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.delenv("GFSCREEN_CACHE", raising=False)
        cli._complete_environment("info")
        assert "GFSCREEN_CACHE" not in os.environ
        cli._complete_environment("predict")
        assert os.environ["GFSCREEN_CACHE"] == str(tmp_path / f"gfscreen-{os.getuid()}" / "exports")
