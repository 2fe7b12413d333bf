"""Whatever lies in the input folder: one clear error per bad scan, a mask for each other one, nothing else written."""

from __future__ import annotations

import gzip
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name

from gfscreen.errors import OutputError, UsageError, WeightsError
from gfscreen.networks.models.manifest import write_manifest
from gfscreen.run.options import Options
from gfscreen.run.predict import predict
from gfscreen.screening.budget import Budget
from tests.helpers.engines import FakeClock, FakeEngine, bright_engine, constant_engine
from tests.helpers.nifti_files import (
    assert_same_geometry,
    nifti_bytes,
    nifti_header,
    read_mask,
    write_nifti,
    write_painted,
)
from tests.helpers.runs import Run, Runner
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, TISSUE_HU, paint


def ct(shape: tuple[int, ...] = PAINTED_SHAPE) -> np.ndarray:
    return np.random.default_rng(0).integers(-1000, 400, shape).astype(np.int16)


def packed(path: Path, header: Any, stored: np.ndarray) -> None:
    path.write_bytes(gzip.compress(nifti_bytes(header, stored), 1))


def truncated_gzip(path: Path) -> None:
    write_nifti(path, ct())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rgb(path: Path) -> None:
    header = nifti_header(PAINTED_SHAPE, sform=PAINTED_AFFINE)
    header["datatype"], header["bitpix"] = 128, 24
    packed(path, header, np.zeros((3 * PAINTED_SHAPE[0], *PAINTED_SHAPE[1:]), np.uint8))


def beyond_the_file(path: Path) -> None:
    header = nifti_header(PAINTED_SHAPE, sform=PAINTED_AFFINE)
    header["dim"][3] = 30000
    path.write_bytes(gzip.compress(nifti_bytes(header, ct()), 1))


def largest_header(path: Path) -> None:
    path.write_bytes(gzip.compress(bytes(nifti_header((32767,) * 3, sform=PAINTED_AFFINE).binaryblock) + bytes(4)))


def no_permission(path: Path) -> None:
    path.symlink_to(path)  # a link to itself: not even root can open it


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated gzip": (truncated_gzip, "truncated or damaged"),
    "not an image": (lambda path: path.write_bytes(b"Please find attached the scan." * 20), "expected a NIfTI file"),
    "packed text": (lambda path: path.write_bytes(gzip.compress(b"<html>" * 100)), "expected a NIfTI file"),
    "empty file": (lambda path: path.touch(), "the file is empty"),
    "2D": (lambda path: write_nifti(path, ct((40, 30))), "expected a 3D volume, got shape (40, 30)"),
    "4D": (lambda path: write_nifti(path, ct((8, 8, 8, 2))), "expected a 3D volume, got shape (8, 8, 8, 2)"),
    "RGB": (rgb, "expected grey values, got RGB colours"),
    "NaN only": (lambda path: write_nifti(path, np.full(PAINTED_SHAPE, np.nan, np.float32)), "every voxel is NaN"),
    "dimensions beyond the file": (beyond_the_file, "the file of"),
    "dimensions beyond everything": (largest_header, "(32767, 32767, 32767)"),
    "a folder": (lambda path: path.mkdir(), "expected a file, found a folder"),
    "a link to nothing": (lambda path: path.symlink_to("nowhere"), "no such file"),
    "a link to itself": (no_permission, "b_0000.nii.gz: "),
}


class TestBadScans:
    @pytest.mark.parametrize("kind", BAD)
    def test_one_error_that_names_the_file_and_the_others_are_written(self, run, kind, caplog):
        make, said = BAD[kind]
        first, last = write_painted(run.inputs / "a_0000.nii.gz"), write_painted(run.inputs / "c_0000.nii.gz")
        make(run.inputs / "b_0000.nii.gz")
        with caplog.at_level(logging.INFO, "gfscreen"):
            result = run()
        assert result.code == 1
        # Nothing but the two masks: no mask for the bad scan, no temporary files.
        assert result.written == ["a.nii.gz", "c.nii.gz"]
        for scan, mask in ((first, "a.nii.gz"), (last, "c.nii.gz")):
            assert_same_geometry(scan, result.output / mask)
            assert read_mask(result.output / mask).any()
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(errors) == 1
        message = errors[0].getMessage()
        assert message.startswith("b_0000.nii.gz: ")
        assert said in message
        assert "\n" not in message
        assert errors[0].exc_info is None, "no traceback"
        assert "internal error" not in message
        case = result.cases["b"]
        assert (case["status"], case["error"]) == ("failed", message)
        # Nothing is invented about a scan that was not screened.
        assert case["lesion_volume_ml"] is None
        assert case["windows_total"] is None
        assert case["region"] is None
        assert case["seconds"]["glance"] is None
        assert [result.cases[name]["status"] for name in "ac"] == ["ok", "ok"]

    def test_beyond_memory_is_refused_before_allocation(self, run, monkeypatch):
        write_painted(run.inputs / "a_0000.nii.gz")
        path = run.inputs / "b_0000.nii"
        path.write_bytes(bytes(nifti_header((500, 500, 300), sform=PAINTED_AFFINE).binaryblock))
        with path.open("r+b") as stream:
            stream.truncate(352 + 500 * 500 * 300 * 2)  # sparse: the file really is as long as its header says
        monkeypatch.setattr("gfscreen.scan.volume.memory.available_bytes", lambda: 400 * 2**20)
        start = time.monotonic()
        result = run()
        assert time.monotonic() - start < 20.0
        assert result.code == 1
        assert result.written == ["a.nii.gz"]
        assert "b_0000.nii: 500x500x300 voxels need about" in result.cases["b"]["error"]
        assert "0.4 GiB are available" in result.cases["b"]["error"]

    def test_memory_that_runs_out_all_the_same(self, run, monkeypatch):
        def exhausted(*_: Any) -> None:
            raise MemoryError

        write_painted(run.inputs / "a.nii.gz")
        monkeypatch.setattr("gfscreen.scan.volume.nifti._read_array", exhausted)
        assert "a.nii.gz: does not fit into memory" in run().only["error"]

    def test_damaged_files_of_other_kinds(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        (run.inputs / "b.mha").write_bytes(b"NDims = 3\nDimSize = 4 4 4\nElementDataFile = LOCAL\n")
        (run.inputs / "c.nrrd").write_bytes(b"NRRD0004\ntype: short\ndimension: 3\nsizes: 9 9 9\nencoding: raw\n\n\0\0")
        result = run()
        assert (result.code, result.written) == (1, ["a.nii.gz"])
        for name, file in (("b", "b.mha: "), ("c", "c.nrrd: ")):
            assert result.cases[name]["error"].startswith(file)
            assert "\n" not in result.cases[name]["error"]

    def test_two_scans_with_the_same_mask(self, run):
        write_painted(run.inputs / "a.nii")
        write_painted(run.inputs / "a.nii.gz")
        result = run()
        assert (result.code, result.written) == (1, ["a.nii.gz"])
        assert [case["status"] for case in result.report["cases"]] == ["ok", "failed"]
        assert result.report["cases"][1]["error"].startswith("a.nii.gz: its mask would be named a.nii.gz")

    def test_a_mask_is_never_written_over_its_scan(self, run):
        path = write_painted(run.inputs / "a.nii.gz")
        before = path.read_bytes()
        result = run(source=path, output=run.inputs)
        assert path.read_bytes() == before
        assert result.code == 1
        assert result.cases["a"]["error"].startswith("a.nii.gz: its mask would overwrite the scan itself")
        assert result.written == ["a.nii.gz"]

    @pytest.mark.parametrize("link", [False, True])
    def test_the_input_folder_takes_no_masks(self, run, tmp_path, link):
        write_painted(run.inputs / "a_0000.nii.gz")
        output = run.inputs
        if link:
            output = tmp_path / "link"
            output.symlink_to(run.inputs)
        with pytest.raises(UsageError, match=r"^-o .*: is the input folder; masks need a folder of their own"):
            run(output=output)
        assert [path.name for path in run.inputs.iterdir()] == ["a_0000.nii.gz"]

    def test_a_fault_of_ours_stops_one_case_only(self, run, caplog):
        def broken(patch: np.ndarray) -> float:
            raise ZeroDivisionError("a bug")

        write_painted(run.inputs / "a_0000.nii.gz")
        with caplog.at_level(logging.ERROR, "gfscreen"):
            result = run(engine=FakeEngine(broken, lambda patch: patch))
        assert result.code == 1
        assert result.written == []
        assert result.only["error"] == "a_0000.nii.gz: internal error, ZeroDivisionError: a bug"
        assert caplog.records[0].exc_info, "the trace is not lost"


class TestNotHounsfield:
    @pytest.mark.parametrize(
        ("stored", "said"),
        [
            (lambda hu: (hu + 1024).astype(np.uint16) + np.uint16(900), "0..4095 values and not HU"),
            (lambda hu: (hu + 1024).astype(np.float32) / 4095, "0..1, which is not HU"),
            (lambda hu: np.clip((hu + 1024) // 8, 0, 255).astype(np.uint8), "not HU of a whole CT"),
        ],
    )
    def test_is_screened_and_warned_about_in_the_report(self, run, stored, said, caplog):
        write_painted(run.inputs / "a_0000.nii.gz")
        scan = write_nifti(
            run.inputs / "b_0000.nii.gz", stored(paint(PAINTED_SHAPE, PAINTED_AFFINE)[0]), PAINTED_AFFINE
        )
        with caplog.at_level(logging.WARNING, "gfscreen"):
            result = run()
        assert result.code == 0
        assert result.written == ["a.nii.gz", "b.nii.gz"]
        assert any(said in warning for warning in result.cases["b"]["warnings"])
        assert result.cases["a"]["warnings"] == []
        assert any(
            "b_0000.nii.gz: " in record.getMessage() and said in record.getMessage() for record in caplog.records
        )
        assert_same_geometry(scan, result.output / "b.nii.gz")

    def test_a_constant_shift_of_stored_values(self, run):
        """0..4095 with its intercept in the header is a CT: no warning."""
        hu, ball = paint(PAINTED_SHAPE, PAINTED_AFFINE)
        stored = (hu + 1024).astype(np.uint16)
        write_nifti(run.inputs / "a.nii.gz", stored, PAINTED_AFFINE, slope=1.0, intercept=-1024.0)
        result = run()
        assert result.only["warnings"] == []
        assert (read_mask(result.output / "a.nii.gz") & ball).any()


def islands(shape: tuple[int, int, int]) -> np.ndarray:
    hu = paint(shape, PAINTED_AFFINE)[0].astype(np.float32)
    hu[4:9, 5:11, 3:9] = np.nan
    hu[0], hu[-1] = np.nan, -np.inf
    return hu


ODD: dict[str, np.ndarray] = {
    "one slice": np.where(paint(PAINTED_SHAPE, PAINTED_AFFINE)[0][:, :, 15:16] > 0, TISSUE_HU, -1000).astype(np.int16),
    "one slice, whole image": np.full((64, 64, 1), TISSUE_HU, np.int16),
    "one column": np.full((1, 40, 30), TISSUE_HU, np.int16),
    "one voxel": np.full((1, 1, 1), TISSUE_HU, np.int16),
    "constant tissue": np.full(PAINTED_SHAPE, TISSUE_HU, np.int16),
    "constant air": np.full(PAINTED_SHAPE, -1024, np.int16),
    "constant zero": np.zeros(PAINTED_SHAPE, np.int16),
    "extremes of int16": np.where(ct() > 0, 32767, -32768).astype(np.int16),
    "islands of NaN": islands(PAINTED_SHAPE),
    "smaller than a sub-volume": paint((30, 26, 25), PAINTED_AFFINE)[0],
    "much smaller": np.full((5, 6, 7), TISSUE_HU, np.int16),
    "noise": ct(),
    "one axis long": np.full((8, 8, 400), TISSUE_HU, np.int16),
}


class TestOddScans:
    @pytest.mark.parametrize("kind", ODD)
    @pytest.mark.parametrize("engine", ["finds what is bright", "finds everything"])
    def test_gives_a_valid_mask(self, run, kind, engine):
        scan = write_nifti(run.inputs / "a_0000.nii.gz", ODD[kind], PAINTED_AFFINE)
        result = run(engine=bright_engine() if engine == "finds what is bright" else constant_engine(1.0, 1.0))
        assert result.code == 0, result.only["error"]
        assert result.written == ["a.nii.gz"]
        assert read_mask(result.output / "a.nii.gz").shape == ODD[kind].shape
        assert_same_geometry(scan, result.output / "a.nii.gz")
        assert result.only["status"] == "ok"

    def test_without_body_the_report_says_so(self, run):
        write_nifti(run.inputs / "a.nii.gz", ODD["constant air"], PAINTED_AFFINE)
        case = run(engine=constant_engine(1.0, 1.0)).only
        assert (case["windows_total"], case["lesion_volume_ml"]) == (0, 0.0)
        assert "no body found in the scan: the mask is empty" in case["warnings"]

    def test_islands_of_nan_do_not_hide_the_lesion(self, run):
        write_nifti(run.inputs / "a.nii.gz", ODD["islands of NaN"], PAINTED_AFFINE)
        ball = paint(PAINTED_SHAPE, PAINTED_AFFINE)[1]
        result = run()
        mask = read_mask(result.output / "a.nii.gz")
        assert (mask.astype(bool) & ball).sum() > 0.8 * ball.sum()
        assert any("NaN" in warning for warning in result.only["warnings"])


class TestFolders:
    def test_an_empty_input_folder_is_wrong_usage(self, run):
        with pytest.raises(UsageError, match="found nothing"):
            run()
        assert not run.output.exists()

    def test_no_input_folder(self, run):
        with pytest.raises(UsageError, match="no such file or folder"):
            run(run.inputs / "gone")

    @pytest.mark.parametrize("place", ["below a file", "a file", "a kernel's folder"])
    def test_an_output_folder_that_cannot_be_written(self, run, tmp_path, place, caplog):
        # Tests may run as root, whom permissions do not stop: these places stop root as well.
        (tmp_path / "file").touch()
        output = {
            "below a file": tmp_path / "file" / "out",
            "a file": tmp_path / "file",
            "a kernel's folder": "/proc/out",
        }
        write_painted(run.inputs / "a_0000.nii.gz")
        write_painted(run.inputs / "b_0000.nii.gz")
        engine = bright_engine()
        with caplog.at_level(logging.ERROR, "gfscreen"):
            result = run(engine=engine, output=Path(output[place]))
        assert result.code == 1
        assert engine.glanced == 0, "found out before the work is done"
        assert len(caplog.records) == 1
        message = caplog.records[0].getMessage()
        assert message.startswith(f"{output[place]}: the output folder cannot be written")
        assert [case["error"] for case in result.report["cases"]] == [message, message]

    @pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
    def test_an_output_folder_without_permission(self, run):
        run.output.mkdir(mode=0o555)
        write_painted(run.inputs / "a_0000.nii.gz")
        assert "Permission denied" in run().only["error"]

    def test_a_read_only_file_system(self, run, monkeypatch):
        """As a container's read-only mount answers, between the check and the writing."""

        def read_only(path: Path, data: bytes) -> None:
            raise OSError(30, "Read-only file system")

        write_painted(run.inputs / "a_0000.nii.gz")
        monkeypatch.setattr("gfscreen.scan.volume.files.write_atomically", read_only)
        result = run()
        assert (result.code, result.written) == (1, [])
        assert "a.nii.gz: cannot be written (Read-only file system)" in result.only["error"]

    def test_leftovers_of_a_killed_run_are_cleared(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        run.output.mkdir()
        (run.output / ".gfscreen-x1y2.tmp").write_bytes(b"half a mask")
        assert run().written == ["a.nii.gz"]

    def test_a_mask_of_an_earlier_run_does_not_pass_for_that_of_a_failed_case(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        truncated_gzip(run.inputs / "b_0000.nii.gz")
        run.output.mkdir()
        (run.output / "b.nii.gz").write_bytes(b"old")
        assert run().written == ["a.nii.gz"]

    def test_an_existing_mask_is_replaced(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        run.output.mkdir()
        (run.output / "a.nii.gz").write_bytes(b"old")
        run()
        assert read_mask(run.output / "a.nii.gz").any()

    def test_a_report_that_cannot_be_written_does_not_cost_the_masks(self, run, tmp_path):
        write_painted(run.inputs / "a_0000.nii.gz")
        (tmp_path / "file").touch()
        run.report = tmp_path / "file" / "report.json"
        with pytest.raises(OutputError, match=r"report.json: cannot be written"):
            run()
        assert [path.name for path in run.output.iterdir()] == ["a.nii.gz"]

    def test_the_input_folder_is_not_touched(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        write_painted(run.inputs / "b.nii.gz")
        before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.inputs.iterdir()}
        run()
        assert {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in run.inputs.iterdir()} == before


class TestWeights:
    """Without weights nothing can be screened: one error for all, and every case in the report."""

    def options(self, run: Runner, weights: Path) -> Options:
        write_painted(run.inputs / "a_0000.nii.gz")
        write_painted(run.inputs / "b_0000.nii.gz")
        return Options(run.inputs, run.output, weights, device="cpu", engine="torch", report=run.report)

    def failed(self, run: Runner, weights: Path, caplog: pytest.LogCaptureFixture) -> str:
        with caplog.at_level(logging.ERROR, "gfscreen"):
            code = predict(self.options(run, weights))
        result = Run(code, json.loads(run.report.read_text()), run.output)
        assert (result.code, result.written) == (1, [])
        (record,) = caplog.records
        assert [case["error"] for case in result.report["cases"]] == [record.getMessage()] * 2
        assert [case["status"] for case in result.report["cases"]] == ["failed"] * 2
        assert "\n" not in record.getMessage()
        return str(record.getMessage())

    @pytest.fixture
    def weights(self, run: Runner) -> Path:
        for name in ("glance.safetensors", "focus.safetensors"):
            (run.weights / name).write_bytes(bytes(1000))
        write_manifest(run.weights, ["plan.json", "glance.safetensors", "focus.safetensors"], {})
        return run.weights

    def test_no_folder(self, run, tmp_path, caplog):
        assert "gone/plan.json: no weights found; name a weights folder" in self.failed(run, tmp_path / "gone", caplog)

    def test_no_manifest(self, run, weights, caplog):
        (weights / "manifest.json").unlink()
        assert "manifest.json: no weights found" in self.failed(run, weights, caplog)

    def test_a_changed_byte(self, run, weights, caplog):
        (weights / "focus.safetensors").write_bytes(bytes(999) + b"x")
        assert "focus.safetensors: damaged, the manifest says sha256" in self.failed(run, weights, caplog)

    def test_a_truncated_file(self, run, weights, caplog):
        (weights / "glance.safetensors").write_bytes(bytes(500))
        message = self.failed(run, weights, caplog)
        assert "glance.safetensors: damaged, the manifest says 1000 bytes, found 500; restore the file" in message

    def test_a_missing_file(self, run, weights, caplog):
        (weights / "glance.safetensors").unlink()
        assert "glance.safetensors: listed in the manifest but missing" in self.failed(run, weights, caplog)

    def test_an_unknown_key_of_the_plan(self, run, weights, caplog):
        plan = json.loads((weights / "plan.json").read_text())
        (weights / "plan.json").write_text(json.dumps({**plan, "overlapp": 0.5}))
        assert "plan.json: plan: unknown key 'overlapp'" in self.failed(run, weights, caplog)

    def test_a_plan_that_is_not_the_one_of_the_manifest(self, run, weights, caplog):
        plan = json.loads((weights / "plan.json").read_text())
        (weights / "plan.json").write_text(json.dumps({**plan, "gate": 0.123}))
        assert "plan.json: damaged" in self.failed(run, weights, caplog)

    def test_a_wrong_device_is_wrong_usage(self, run, weights):
        write_painted(run.inputs / "a.nii.gz")
        with pytest.raises(UsageError, match="--device gpu"):
            predict(Options(run.inputs, run.output, weights, device="gpu"))

    def test_weights_are_looked_at_once_and_not_per_case(self, run, monkeypatch):
        calls: list[int] = []

        def refuse(*_: Any, **__: Any) -> None:
            calls.append(1)
            raise WeightsError("w: damaged")

        options = self.options(run, run.weights)
        monkeypatch.setattr("gfscreen.run.predict.load_engine", refuse)
        assert predict(options) == 1
        assert calls == [1]


class TestReport:
    def test_of_a_good_case(self, run):
        scan = write_painted(run.inputs / "a_0000.nii.gz")
        result = run(overlap=0.5)
        case = result.only
        # The ball has a radius of 18 mm: 4/3 pi 18^3 mm3 = 24.4 ml.
        assert case["lesion_volume_ml"] == pytest.approx(24.4, rel=0.1)
        assert case["lesion_volume_ml"] == pytest.approx(read_mask(result.output / "a.nii.gz").sum() * 80 / 1000)
        assert (case["status"], case["error"], case["region"]) == ("ok", None, "abdomen")
        assert 0 < case["windows_kept"] == case["windows_done"] <= case["windows_total"]
        assert set(case["seconds"]) == {"read", "preprocess", "glance", "focus", "write", "total"}
        assert all(value >= 0 for value in case["seconds"].values())
        assert case["seconds"]["total"] >= sum(v for k, v in case["seconds"].items() if k != "total") - 0.01
        assert case["peak_rss_mb"] > 10
        assert case["peak_gpu_mb"] is None, "not measured is null and not 0"
        expected = {"name": "fake", "device": "cpu", "precision": "fp32", "reason": "for a test"}
        assert result.report["engine"] == {
            **expected,
            "glance_s": None,
            "focus_s": None,
            "cells_s": None,
            "second_focus_s": None,
        }
        assert result.report["settings"]["overlap"] == 0.5
        assert result.report["plan"]["preset"] == "tiny"
        assert scan.exists()

    def test_is_strict_json(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        write_nifti(run.inputs / "b_0000.nii.gz", np.full(PAINTED_SHAPE, -1000, np.int16), PAINTED_AFFINE)
        run()

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        json.loads(run.report.read_text(), parse_constant=refuse)

    def test_degraded_when_time_runs_out(self, run, monkeypatch, caplog):
        clock = FakeClock()
        monkeypatch.setattr("gfscreen.run.predict.Budget", lambda limit, spent: Budget(limit, spent, clock))
        # 96 voxels of 4 mm: windows at 0, 24, 48, 64 along x.
        write_nifti(run.inputs / "a_0000.nii.gz", np.full((96, 30, 20), TISSUE_HU, np.int16), PAINTED_AFFINE)
        engine = constant_engine(0.9, 1.0, clock=clock, glance_s=0.1, focus_s=2.0)
        with caplog.at_level(logging.WARNING, "gfscreen"):
            result = run(engine=engine, time_limit_s=6.0)
        case = result.only
        assert (result.code, case["status"], case["error"]) == (0, "degraded", None)
        assert case["windows_done"] == len(engine.focused) < case["windows_kept"]
        assert case["skipped_probability"] == pytest.approx(0.9)
        assert read_mask(result.output / "a.nii.gz").any(), "what was read is in the mask"
        assert any("time ran out" in record.getMessage() for record in caplog.records)

    def test_each_case_has_its_own_deadline(self, run, monkeypatch):
        """Only the first case pays for the start of the process."""
        spent: list[float] = []

        def watch(limit: float | None, already: float) -> Budget:
            spent.append(already)
            return Budget(limit, already)

        for name in ("a.nii.gz", "b.nii.gz"):
            write_painted(run.inputs / name)
        monkeypatch.setattr("gfscreen.run.predict.Budget", watch)
        run(time_limit_s=60.0)
        assert spent == [0.0, 0.0]
        monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 7.0)
        predict(Options(run.inputs, run.output, run.weights, time_limit_s=60.0))
        assert spent[2:] == [7.0, 0.0]

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_cases_of_other_kinds(self, run, suffix):
        hu, ball = paint(PAINTED_SHAPE, PAINTED_AFFINE)
        image = sitk.GetImageFromArray(hu.transpose(2, 1, 0))
        image.SetSpacing((4.0, 4.0, 5.0))
        image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
        sitk.WriteImage(image, str(run.inputs / f"a_0000{suffix}"))
        result = run()
        assert (result.code, result.written) == (0, ["a.nii.gz"])
        assert (read_mask(result.output / "a.nii.gz").astype(bool) & ball).sum() > 0.8 * ball.sum()


@pytest.mark.skipif(sys.platform != "linux", reason="needs address space limits")
def test_the_largest_header_needs_no_memory(tmp_path):
    """In a process that may use little more than it already does."""
    largest_header(tmp_path / "huge.nii.gz")
    code = (
        "import resource, sys; from pathlib import Path; from gfscreen.scan.volume import read_volume; "
        "from gfscreen.errors import InputError; "
        "used = int(open('/proc/self/statm').read().split()[0]) * 4096; "
        "resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20),) * 2)\n"
        "try: read_volume(Path(sys.argv[1]))\n"
        "except InputError as error: print(error)"
    )
    found = subprocess.run([sys.executable, "-c", code, str(tmp_path / "huge.nii.gz")], capture_output=True, text=True)
    assert "huge.nii.gz: truncated, the header says (32767, 32767, 32767)" in found.stdout, found.stderr
