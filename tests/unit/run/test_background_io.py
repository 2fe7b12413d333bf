"""Reading, computing and writing at the same time: what overlaps, what is bounded, and whose error it is."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gfscreen.errors import InputError, ScanTooLargeError, UsageError
from gfscreen.run.background_io import Background, ReadAhead
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.scan.volume import memory
from gfscreen.screening.budget import Budget
from tests.helpers.engines import FakeClock, bright_engine, constant_engine
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import TISSUE_HU

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
PATIENCE_S = 20.0


def scan(folder: Path, name: str) -> None:
    write_nifti(folder / f"{name}_0000.nii.gz", np.full((32, 30, 20), TISSUE_HU, np.int16), AFFINE)


class TestReadAhead:
    def test_one_is_read_while_the_one_before_is_worked_on_and_no_more(self):
        begun: list[int] = []
        with Background() as background:
            ahead = ReadAhead(background, [0, 1, 2, 3], lambda n: begun.append(n) or n)
            for n in range(4):
                assert ahead.take().result == n
                ahead.begin()
                ahead.begin()
                deadline = time.monotonic() + PATIENCE_S
                while len(begun) < min(n + 2, 4) and time.monotonic() < deadline:
                    time.sleep(0.001)
                assert begun == list(range(min(n + 2, 4)))

    def test_an_error_is_that_of_its_item(self):
        def read(n: int) -> int:
            if n == 1:
                raise InputError("one: damaged")
            return n

        with Background() as background:
            ahead = ReadAhead(background, [0, 1, 2], read)
            assert ahead.take().result == 0
            with pytest.raises(InputError, match="one"):
                ahead.take()
            assert ahead.take().result == 2

    def test_too_large_beside_another_is_read_again_alone(self):
        busy = threading.Event()

        def read(n: int) -> int:
            if busy.is_set():
                raise ScanTooLargeError("large: does not fit")
            return n

        with Background() as background:
            ahead = ReadAhead(background, [0, 1], read)
            ahead.take()
            busy.set()
            ahead.begin()
            while not ahead._running.done():
                time.sleep(0.001)
            busy.clear()
            assert ahead.take().result == 1

    def test_what_runs_is_finished_when_the_block_ends_with_an_error(self):
        done: list[int] = []

        def slow() -> None:
            started.set()
            time.sleep(0.1)
            done.append(1)

        started = threading.Event()

        def interrupted() -> None:
            with Background() as background:
                background.start("write", slow)
                background.start("write", lambda: done.append(2))
                started.wait(PATIENCE_S)
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert done == [1]


class TestMemory:
    def test_what_is_promised_is_not_available_to_others(self, monkeypatch):
        monkeypatch.setattr(memory, "available_bytes", lambda: 100 * 2**20)
        arguments = ("a", (200, 200, 100), (1.0, 1.0, 3.0), 2)
        needed = memory.needed_bytes(*arguments[1:])
        assert needed < 95 * 2**20
        memory.check_memory(*arguments)
        with memory.promised(100 * 2**20 - needed + 1), pytest.raises(ScanTooLargeError, match="a: 200x200x100"):
            memory.check_memory(*arguments)
        memory.check_memory(*arguments)


class TestRuns:
    def test_the_next_scan_is_read_while_this_one_is_computed_on(self, run, monkeypatch):
        from gfscreen.scan.volume import read_volume

        reading_b = threading.Event()

        def read(path: Path, series: str | None) -> Any:
            if path.name.startswith("b"):
                reading_b.set()
            return read_volume(path, series)

        monkeypatch.setattr("gfscreen.run.case_run.read_volume", read)
        for name in "ab":
            scan(run.inputs, name)
        seen: list[bool] = []
        engine = constant_engine(0.0, 0.0)
        engine.suspicion = lambda _: seen.append(reading_b.wait(PATIENCE_S)) or 0.0
        assert run(engine=engine).code == 0
        assert seen[0], "b is being read while a is glanced at"

    def test_a_mask_is_written_while_the_next_case_is_computed_on(self, run, monkeypatch):
        from gfscreen.scan.volume import write_mask

        computing_b = threading.Event()
        waited: list[bool] = []

        def write(path: Path, *arguments: Any) -> None:
            if path.name == "a.nii.gz":
                waited.append(computing_b.wait(PATIENCE_S))
            write_mask(path, *arguments)

        monkeypatch.setattr("gfscreen.run.case_run.write_mask", write)
        for name in "ab":
            scan(run.inputs, name)
        calls: list[int] = []

        def suspicion(_: Any) -> float:
            calls.append(1)
            if len(calls) > 1:
                computing_b.set()
            return 0.0

        engine = constant_engine(0.0, 0.0)
        engine.suspicion = suspicion
        result = run(engine=engine, overlap=0.0)
        assert (result.code, waited) == (0, [True])
        assert result.written == ["a.nii.gz", "b.nii.gz"]

    def test_errors_of_all_stages_stay_with_their_case_and_in_order(self, run, monkeypatch):
        from gfscreen.scan.volume import write_mask

        for name in "abcde":
            scan(run.inputs, name)
        (run.inputs / "b_0000.nii.gz").write_bytes(b"no scan")

        def write(path: Path, *arguments: Any) -> None:
            if path.name == "c.nii.gz":
                raise RuntimeError("writer at fault")
            write_mask(path, *arguments)

        count: list[int] = []

        def suspicion(_: Any) -> float:
            count.append(1)
            if len(count) == 3:  # one sub-volume a case: a, c, d
                raise RuntimeError("engine at fault")
            return 0.0

        engine = bright_engine()
        engine.suspicion = suspicion
        monkeypatch.setattr("gfscreen.run.case_run.write_mask", write)
        result = run(engine=engine)
        assert [case["name"] for case in result.report["cases"]] == list("abcde")
        assert [case["status"] for case in result.report["cases"]] == ["ok", "failed", "failed", "failed", "ok"]
        assert "b_0000.nii.gz" in result.cases["b"]["error"]
        assert "writer at fault" in result.cases["c"]["error"]
        assert "engine at fault" in result.cases["d"]["error"]
        assert (result.code, result.written) == (1, ["a.nii.gz", "e.nii.gz"])

    def test_wrong_usage_found_while_loading_touches_nothing(self, run, monkeypatch):
        scan(run.inputs, "a")
        (run.inputs / "b_0000.nii.gz").write_bytes(b"no scan")
        run.output.mkdir()
        for name in "ab":
            (run.output / f"{name}.nii.gz").write_bytes(b"of an earlier run")

        def refuse(*_: Any, **__: Any) -> None:
            time.sleep(0.2)
            raise UsageError("--precision bf16: this CPU does not")

        monkeypatch.setattr("gfscreen.run.predict.load_engine", refuse)
        for name in "ab":
            with pytest.raises(UsageError, match="bf16"):
                predict(Options(run.inputs / f"{name}_0000.nii.gz", run.output, run.weights))
            assert (run.output / f"{name}.nii.gz").read_bytes() == b"of an earlier run"


class TestDeadlineOfARun:
    """Reading, loading and writing by a clock that moves when told to; 1.5 s are kept for writing."""

    @pytest.fixture
    def clock(self, monkeypatch: pytest.MonkeyPatch) -> FakeClock:
        clock = FakeClock()
        monkeypatch.setattr("gfscreen.run.predict.Budget", lambda limit, spent: Budget(limit, spent, clock))
        return clock

    def slow(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock, name: str, seconds: float) -> None:
        import gfscreen.run.case_run as module

        work = getattr(module, name)

        def slower(*arguments: Any) -> Any:
            clock.now_s += seconds
            return work(*arguments)

        monkeypatch.setattr(module, name, slower)

    def test_a_slow_read_leaves_less_for_the_stages(self, run, monkeypatch, clock):
        write_nifti(run.inputs / "a_0000.nii.gz", np.full((96, 30, 20), TISSUE_HU, np.int16), AFFINE)
        self.slow(monkeypatch, clock, "read_volume", 6.0)
        engine = constant_engine(0.9, 1.0, clock=clock, glance_s=0.1, focus_s=1.0)
        case = run(engine=engine, time_limit_s=10.0).only
        # Of 10 - 6 - 1.5 = 2.5 s all four are glanced at, 0.4 s, and two are read.
        assert (case["windows_total"], case["windows_kept"], case["windows_done"]) == (4, 4, 2)
        assert case["seconds"]["total"] == pytest.approx(8.4)
        assert case["status"] == "degraded"

    def test_a_read_that_alone_overruns_leaves_an_empty_mask(self, run, monkeypatch, clock):
        scan(run.inputs, "a")
        self.slow(monkeypatch, clock, "read_volume", 50.0)
        engine = constant_engine(0.9, 1.0, clock=clock, glance_s=0.1, focus_s=1.0)
        result = run(engine=engine, time_limit_s=45.0)
        assert (result.code, result.only["status"], engine.glanced) == (0, "degraded", 0)
        assert result.only["windows_unglanced"] == result.only["windows_total"] > 0
        assert not read_mask(result.output / "a.nii.gz").any()

    def test_a_slow_write_within_its_reserve_keeps_the_limit(self, run, monkeypatch, clock):
        write_nifti(run.inputs / "a_0000.nii.gz", np.full((96, 30, 20), TISSUE_HU, np.int16), AFFINE)
        self.slow(monkeypatch, clock, "write_mask", 1.5)
        engine = constant_engine(0.9, 1.0, clock=clock, glance_s=0.1, focus_s=2.0)
        case = run(engine=engine, time_limit_s=7.0).only
        assert 0 < case["windows_done"] < case["windows_kept"]
        assert case["seconds"]["total"] <= 7.0

    def test_networks_that_do_not_load_in_time(self, run, monkeypatch):
        """The mask is written at the deadline, empty and marked; the next case has its own time, and the networks."""
        loaded = threading.Event()
        engine = bright_engine()
        for name in "ab":
            scan(run.inputs, name)
        from gfscreen.scan.volume import write_mask

        def write(path: Path, *arguments: Any) -> None:
            write_mask(path, *arguments)
            loaded.set()

        def load(*_: Any, **__: Any) -> Any:
            assert loaded.wait(PATIENCE_S), "the first mask has to be written without the networks"
            return engine

        options = Options(run.inputs, run.output, run.weights, report=run.report, time_limit_s=1.6)
        monkeypatch.setattr("gfscreen.run.predict.load_engine", load)
        monkeypatch.setattr("gfscreen.run.case_run.write_mask", write)
        monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
        monkeypatch.setattr(
            "gfscreen.run.predict.Budget", lambda limit, spent: Budget(limit if engine else None, spent)
        )
        assert predict(options) == 0
        first = json.loads(run.report.read_text())["cases"][0]
        assert (first["status"], first["windows_total"], first["error"]) == ("degraded", None, None)
        assert "not loaded in time" in first["warnings"][-1]
        assert not read_mask(run.output / "a.nii.gz").any()
        assert sorted(path.name for path in run.output.iterdir()) == ["a.nii.gz", "b.nii.gz"]

    def test_each_case_counts_from_when_computing_turns_to_it(self, run, monkeypatch, clock):
        for name in "abc":
            scan(run.inputs, name)
        engine = constant_engine(0.0, 0.0, clock=clock, glance_s=2.0)
        totals = [case["seconds"]["total"] for case in run(engine=engine, time_limit_s=9.0).report["cases"]]
        # One sub-volume each, 2 s; a mask that is written while the next case is glanced at may see its 2 s pass.
        assert all(2.0 <= total <= 4.0 for total in totals)
