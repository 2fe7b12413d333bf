"""Signals end a run in order: what is being written is finished, the report is written, the exit code says which."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.files import write_atomically
from gfscreen.stopping import Stopped, stop_on_signals, unstoppable
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.runs import write_plan
from tests.helpers.scans import paint

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
CODES = [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]


@pytest.fixture(autouse=True)
def handled():
    """Where the tests were started in the background, SIGINT and SIGHUP may be ignored."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number, _ in CODES}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def send(number: int) -> None:
    os.kill(os.getpid(), number)


def wait_for(path: Path) -> None:
    end_s = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end_s:
        time.sleep(0.01)


class TestSignals:
    @pytest.mark.parametrize(("number", "code"), CODES)
    def test_the_first_raises_with_its_exit_code(self, number, code):
        with pytest.raises(Stopped) as caught, stop_on_signals():
            send(number)
        assert caught.value.exit_code == code
        assert str(caught.value) == f"stopped by {number.name}"

    def test_it_is_not_swallowed_with_a_failed_case(self):
        assert not issubclass(Stopped, Exception)

    def test_a_second_one_does_not_break_the_clean_up(self):
        cleaned = []

        def work() -> None:
            try:
                send(signal.SIGTERM)
            finally:
                send(signal.SIGINT)
                cleaned.append(1)

        with pytest.raises(Stopped, match="SIGTERM"), stop_on_signals():
            work()
        assert cleaned == [1]

    def test_what_must_be_finished_is(self):
        done = []

        def work() -> None:
            with unstoppable():
                with unstoppable():
                    send(signal.SIGTERM)
                done.append("the inner section is over, the outer is not")
            done.append("never")

        with pytest.raises(Stopped), stop_on_signals():
            work()
        assert done == ["the inner section is over, the outer is not"]

    def test_handlers_are_given_back(self):
        before = signal.getsignal(signal.SIGTERM)
        with stop_on_signals():
            assert signal.getsignal(signal.SIGTERM) != before
        assert signal.getsignal(signal.SIGTERM) == before

    def test_what_was_ignored_stays_ignored(self):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        with stop_on_signals():
            send(signal.SIGINT)

    def test_a_file_is_finished_first(self, tmp_path, monkeypatch):
        synced = os.fsync

        def stopped_meanwhile(descriptor: int) -> None:
            send(signal.SIGTERM)
            synced(descriptor)

        monkeypatch.setattr("gfscreen.files.os.fsync", stopped_meanwhile)
        with pytest.raises(Stopped), stop_on_signals():
            write_atomically(tmp_path / "a", b"whole")
        assert (tmp_path / "a").read_bytes() == b"whole"
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


class TestRun:
    def test_report_and_exit_code(self, tmp_path, monkeypatch, capsys):
        """Stopped in the second of three cases."""
        (tmp_path / "in").mkdir()
        for name in "abc":
            write_nifti(tmp_path / "in" / f"{name}_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        engine = bright_engine()
        outline = engine.outline
        glanced = []

        def stopping(patch: np.ndarray) -> np.ndarray:
            glanced.append(engine.glanced)
            if engine.glanced > glanced[0]:  # in the second case; the first is written meanwhile
                wait_for(tmp_path / "out" / "a.nii.gz")
                send(signal.SIGTERM)
            return outline(patch)

        engine.outline = stopping
        monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: engine)
        weights, report = write_plan(tmp_path / "w"), tmp_path / "report.json"
        arguments = ["predict", "-i", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--weights", str(weights)]
        assert main([*arguments, "--report", str(report)]) == 143
        assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.nii.gz"]
        assert read_mask(tmp_path / "out" / "a.nii.gz").any()
        cases = json.loads(report.read_text())["cases"]
        assert [case["status"] for case in cases] == ["ok", "failed", "failed"]
        assert cases[1]["error"] == cases[2]["error"] == "not screened: stopped by SIGTERM; run again with --resume"
        err = capsys.readouterr().err
        assert "ERROR: stopped by SIGTERM" in err
        assert "Traceback" not in err

    def test_no_empty_mask_for_what_was_not_screened(self, tmp_path, run):
        write_nifti(run.inputs / "a.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        engine = bright_engine()
        engine.suspicion = lambda _: send(signal.SIGTERM) or 0.0
        with pytest.raises(Stopped), stop_on_signals():
            run(engine=engine, empty_mask_on_failure=True)
        assert list(Path(run.output).iterdir()) == []
