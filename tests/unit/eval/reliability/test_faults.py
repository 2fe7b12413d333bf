"""A short version of the fault injection in every run; and that it can say no."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eval.reliability.faults import kills, surroundings
from eval.reliability.faults.place import Place, make_place
from eval.reliability.faults.result import Result
from tests.helpers.places import ROOT

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return make_place(tmp_path_factory.mktemp("faults"))


def survived(result: Result) -> None:
    if result.not_run:
        pytest.skip(result.not_run)
    assert result.failures == []
    assert result.survived == result.times


def test_memory_exhausted_by_one_case(tmp_path):
    """In a small process of its own: a fork of this one could fill what the tests before have freed."""
    command = [sys.executable, "-m", "eval", "faults", "--only", "short_memory", "-o", str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (result,) = json.loads((tmp_path / "faults.json").read_text())["faults"]
    assert (result["times"], result["survived"]) == (1, 1)


def test_killed_at_random_moments(place):
    survived(kills.killed(place, 5, seed=7))


def test_told_to_stop_at_random_moments(place):
    survived(kills.terminated(place, 4, seed=7))


def test_killed_at_every_step_of_writing(place):
    survived(kills.killed_while_writing(place))


@pytest.mark.parametrize(
    "fault",
    [
        surroundings.full_disk,
        surroundings.file_too_large,
        surroundings.vanishing_folder,
        surroundings.last_resort,
        surroundings.clock_jumps,
        surroundings.leftovers,
    ],
    ids=lambda fault: fault.__name__,
)
def test_surroundings(place, fault):
    survived(fault(place))


class TestItCanSayNo:
    def test_of_a_mask_that_is_not_whole(self, place):
        place.fresh()
        (place.outputs / "case0.nii.gz").write_bytes(place.reference["case0.nii.gz"][:-5])
        assert place.problems() == ["case0.nii.gz is not the mask of an undisturbed run"]

    def test_of_a_stray_file_and_of_leftovers(self, place):
        place.fresh()
        (place.outputs / "core").touch()
        (place.scratch / "tmp1").touch()
        assert place.problems() == ["stray file core", "left in the temporary folder: tmp1"]

    def test_of_a_restart_that_makes_finished_masks_again(self, place, monkeypatch):
        place.fresh()
        assert place.run() == 0
        run = place.run

        def without_resume(*arguments: str) -> int:
            return run(*[argument for argument in arguments if argument != "--resume"])

        monkeypatch.setattr(type(place), "run", lambda self, *arguments: without_resume(*arguments))
        assert any("made finished masks again" in problem for problem in place.resume())

    def test_of_a_writer_that_is_not_atomic(self, place):
        """The oldest way to write a file, killed in the middle: found at once."""
        import gfscreen.scan.volume.files

        def careless(path: Path, data: bytes) -> None:
            with path.open("wb") as stream:
                stream.write(data[: len(data) // 2])
                stream.flush()
                os.kill(os.getpid(), signal.SIGKILL)

        place.fresh()
        prepare = lambda: setattr(gfscreen.scan.volume.files, "write_atomically", careless)  # noqa: E731
        assert place.run(prepare=prepare) == -signal.SIGKILL
        assert place.problems() == ["case0.nii.gz is not the mask of an undisturbed run"]
        assert place.resume() == [], "and --resume does not take it for finished"
