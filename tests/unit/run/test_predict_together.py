"""Reading ahead, writing behind, resuming, stopping and the last resort, all in one run."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen.errors import EngineError, UsageError
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.scan.volume import finished_mask, read_volume, write_mask
from gfscreen.stopping import Stopped, stop_on_signals, stop_requested, unstoppable
from tests.helpers.engines import bright_engine, constant_engine
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.runs import Runner
from tests.helpers.scans import paint

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
PATIENCE_S = 20.0


def scans(run: Runner, names: str) -> None:
    for name in names:
        write_nifti(run.inputs / f"{name}_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)


def cases_of(run: Runner) -> list[dict[str, Any]]:
    cases: list[dict[str, Any]] = json.loads(run.report.read_text())["cases"]
    return cases


class TestResume:
    def test_a_finished_case_is_neither_read_nor_written(self, run, monkeypatch):
        scans(run, "abc")
        assert run().code == 0
        (run.output / "b.nii.gz").unlink()
        before = {name: (run.output / name).stat().st_mtime_ns for name in ("a.nii.gz", "c.nii.gz")}
        read: list[str] = []
        monkeypatch.setattr(
            "gfscreen.run.case_run.read_volume",
            lambda path, series: read.append(path.name) or read_volume(path, series),
        )
        result = run(resume=True)
        assert result.code == 0
        assert read == ["b_0000.nii.gz"]
        assert {name: (run.output / name).stat().st_mtime_ns for name in before} == before
        assert [case["resumed"] for case in result.report["cases"]] == [True, False, True]

    def test_statistics_of_what_is_not_read_are_refused(self, run, tmp_path):
        scans(run, "a")
        with pytest.raises(UsageError, match="gfscreen stats"):
            run(resume=True, statistics=tmp_path / "s.json")
        assert not run.output.exists()

    def test_what_the_networks_came_too_late_for_is_not_finished(self, run, monkeypatch):
        """The empty mask is marked: a run that resumes looks at the scan."""
        scans(run, "a")
        written = threading.Event()

        def load(*_: Any, **__: Any) -> Any:
            assert written.wait(PATIENCE_S), "the mask has to be written without the networks"
            return bright_engine()

        from gfscreen.scan.volume import write_empty_mask

        def write(path: Path, *arguments: Any) -> None:
            write_empty_mask(path, *arguments)
            written.set()

        monkeypatch.setattr("gfscreen.run.predict.load_engine", load)
        monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
        monkeypatch.setattr("gfscreen.run.case_run.write_empty_mask", write)
        assert predict(Options(run.inputs, run.output, run.weights, report=run.report, time_limit_s=1.6)) == 0
        (case,) = cases_of(run)
        assert (case["status"], case["empty_mask"], case["error"]) == ("degraded", True, None)
        mask = run.output / "a.nii.gz"
        assert not read_mask(mask).any()
        assert finished_mask(mask, run.inputs / "a_0000.nii.gz") is None
        assert run(resume=True).only["resumed"] is False
        assert read_mask(mask).any()


class TestEngine:
    @pytest.mark.parametrize("error", [EngineError("w: cannot be loaded"), RuntimeError("driver at fault")])
    def test_one_that_cannot_be_loaded_fails_all_cases_for_that_reason(self, run, monkeypatch, error):
        scans(run, "ac")
        (run.inputs / "b_0000.nii.gz").write_bytes(b"no scan")

        def refuse(*_: Any, **__: Any) -> None:
            raise error

        monkeypatch.setattr("gfscreen.run.predict.load_engine", refuse)
        options = Options(run.inputs, run.output, run.weights, report=run.report, empty_mask_on_failure=True)
        assert predict(options) == 1
        cases = cases_of(run)
        assert all(str(error) in case["error"] for case in cases)
        assert [case["empty_mask"] for case in cases] == [True, False, True]
        assert sorted(path.name for path in run.output.iterdir()) == ["a.nii.gz", "c.nii.gz"]

    def test_a_fault_of_preparing_is_reported_and_leaves_the_last_resort(self, run, monkeypatch):
        scans(run, "ab")
        run.output.mkdir()
        (run.output / "a.nii.gz").write_bytes(b"of an earlier run")

        def broken(*_: Any) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr("gfscreen.screening.screening.to_model", broken)
        result = run(empty_mask_on_failure=True)
        assert (result.code, result.written) == (1, ["a.nii.gz", "b.nii.gz"])
        assert all("internal error, ZeroDivisionError: a bug" in case["error"] for case in result.report["cases"])
        assert not read_mask(run.output / "a.nii.gz").any()


class TestStop:
    def test_a_section_of_another_thread_neither_delays_nor_takes_the_stop(self):
        inside, leave = threading.Event(), threading.Event()
        raised: list[BaseException] = []

        def work() -> None:
            try:
                with unstoppable():
                    inside.set()
                    leave.wait(PATIENCE_S)
            except BaseException as error:
                raised.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        assert inside.wait(PATIENCE_S)

        def told_to_stop() -> None:
            os.kill(os.getpid(), signal.SIGTERM)
            leave.wait(PATIENCE_S)

        with pytest.raises(Stopped), stop_on_signals():
            told_to_stop()
        leave.set()
        thread.join()
        assert raised == []
        assert not stop_requested(), "forgotten with the run"

    def test_a_mask_that_is_being_written_is_finished_and_reported(self, run, monkeypatch):
        """SIGTERM while a is written and b is screened: a is whole and `ok`, b is nothing, c was not begun."""
        scans(run, "abc")
        screening_b = threading.Event()

        def slow(path: Path, *arguments: Any) -> None:
            assert screening_b.wait(PATIENCE_S)
            write_mask(path, *arguments)

        monkeypatch.setattr("gfscreen.run.case_run.write_mask", slow)
        engine = bright_engine()
        suspicion: Callable[[Any], float] = engine.suspicion
        scans_seen: list[int] = []

        def told_to_stop(patch: Any) -> float:
            scans_seen.append(1)
            if len(scans_seen) == 2:
                # Set first: the stop may be raised here, and then waits for the writer.
                screening_b.set()
                os.kill(os.getpid(), signal.SIGTERM)
            return suspicion(patch)

        engine.suspicion = told_to_stop
        with pytest.raises(Stopped) as stopped, stop_on_signals():
            run(engine=engine, overlap=0.0, empty_mask_on_failure=True)
        assert stopped.value.exit_code == 143
        assert [path.name for path in run.output.iterdir()] == ["a.nii.gz"]
        assert read_mask(run.output / "a.nii.gz").any()
        cases = cases_of(run)
        assert [case["status"] for case in cases] == ["ok", "failed", "failed"]
        assert [case["error"] for case in cases[1:]] == [
            "not screened: stopped by SIGTERM; run again with --resume"
        ] * 2

    def test_told_to_stop_while_the_last_resorts_are_written(self, run, monkeypatch):
        scans(run, "ab")

        def refuse(*_: Any, **__: Any) -> None:
            raise EngineError("w: cannot be loaded")

        def read(path: Path, series: str | None) -> Any:
            if threading.current_thread() is threading.main_thread():
                os.kill(os.getpid(), signal.SIGTERM)
            return read_volume(path, series)

        monkeypatch.setattr("gfscreen.run.predict.load_engine", refuse)
        monkeypatch.setattr("gfscreen.run.case_run.read_volume", read)
        options = Options(run.inputs, run.output, run.weights, report=run.report, empty_mask_on_failure=True)
        with pytest.raises(Stopped), stop_on_signals():
            predict(options)
        assert [case["status"] for case in cases_of(run)] == ["failed", "failed"]


def test_statistics_come_between_two_cases(run, tmp_path):
    scans(run, "abc")
    result = run(engine=bright_engine(), statistics=tmp_path / "s.json")
    assert result.code == 0
    measured = json.loads((tmp_path / "s.json").read_text())["cases"]
    assert [case["name"] for case in measured] == list("abc")
    assert run(engine=constant_engine(0.0, 0.0)).code == 0
