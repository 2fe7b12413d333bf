"""--resume keeps what is finished and nothing else; --empty-mask-on-failure loses no case and hides no failure."""

from __future__ import annotations

import gzip
import itertools
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name

from gfscreen.errors import EngineError
from gfscreen.scan.volume import finished_mask, read_volume, write_empty_mask, write_mask
from tests.helpers.engines import FakeEngine, bright_engine
from tests.helpers.nifti_files import assert_same_geometry, read_mask, write_painted
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint


def failing_engine() -> FakeEngine:
    def fail(_: np.ndarray) -> float:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    return FakeEngine(fail, lambda patch: patch)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Path]:
    """(scan, its finished mask of three voxels)."""
    scan = write_painted(tmp_path / "a_0000.nii.gz")
    mask = np.zeros(PAINTED_SHAPE, np.uint8)
    mask[3, 4, 5:8] = 1
    write_mask(tmp_path / "a.nii.gz", mask, read_volume(scan).geometry)
    return scan, tmp_path / "a.nii.gz"


def rewritten(change: Callable[[bytearray], None]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        data = bytearray(gzip.decompress(path.read_bytes()))
        change(data)
        # In the very form in which masks are packed, so that only the content differs.
        packed = bytearray(gzip.compress(bytes(data), 1, mtime=0))
        packed[:10] = path.read_bytes()[:10]
        path.write_bytes(bytes(packed))

    return damage


def put(data: bytearray, index: int, value: int) -> None:
    data[index] = value


UNFINISHED: dict[str, Callable[[Path], object]] = {
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-9]),
    "without its checksum": lambda path: path.write_bytes(path.read_bytes()[:-8]),
    "a wrong checksum": lambda path: path.write_bytes(path.read_bytes()[:-8] + bytes(8)),
    "empty": lambda path: path.write_bytes(b""),
    "of text": lambda path: path.write_bytes(b"mask"),
    "of another place": rewritten(lambda data: put(data, 283, data[283] ^ 1)),
    "with a voxel of 2": rewritten(lambda data: put(data, 352, 2)),
    "of one voxel too few": rewritten(lambda data: data.pop()),
    "of one voxel too many": rewritten(lambda data: data.append(0)),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
    "a link to a good one": lambda path: (path.rename(path.parent / "kept.nii.gz"), path.symlink_to("kept.nii.gz")),
}


class TestFinished:
    def test_is_recognised_with_its_volume(self, finished):
        # 3 voxels of 4 x 4 x 5 mm are 0.24 ml.
        assert finished_mask(finished[1], finished[0]).lesion_ml == pytest.approx(0.24)

    @pytest.mark.parametrize("kind", UNFINISHED)
    def test_is_not(self, finished, kind):
        UNFINISHED[kind](finished[1])
        assert finished_mask(finished[1], finished[0]) is None

    def test_an_empty_mask_of_a_failed_case_is_not(self, finished):
        write_empty_mask(finished[1], read_volume(finished[0]).geometry)
        assert finished_mask(finished[1], finished[0]) is None

    def test_nothing_is_for_a_scan_that_cannot_be_read(self, finished):
        finished[0].write_bytes(b"damaged")
        assert finished_mask(finished[1], finished[0]) is None

    def test_that_of_a_scan_that_is_not_nifti(self, tmp_path):
        image = sitk.GetImageFromArray(paint(PAINTED_SHAPE, PAINTED_AFFINE)[0].transpose(2, 1, 0))
        sitk.WriteImage(image, str(tmp_path / "a.mha"))
        geometry = read_volume(tmp_path / "a.mha").geometry
        write_mask(tmp_path / "a.nii.gz", np.ones(PAINTED_SHAPE, np.uint8), geometry)
        assert finished_mask(tmp_path / "a.nii.gz", tmp_path / "a.mha").lesion_ml == pytest.approx(
            np.prod(PAINTED_SHAPE) / 1000
        )


class TestResume:
    def test_finished_cases_are_left_and_the_others_screened(self, run):
        for name in "abc":
            write_painted(run.inputs / f"{name}_0000.nii.gz")
        run()
        before = {path.name: path.stat().st_ino for path in run.output.iterdir()}
        (run.output / "b.nii.gz").unlink()
        (run.output / "c.nii.gz").write_bytes(b"half")
        engine = bright_engine()
        result = run(engine=engine, resume=True)
        assert (result.code, result.written) == (0, ["a.nii.gz", "b.nii.gz", "c.nii.gz"])
        assert (run.output / "a.nii.gz").stat().st_ino == before["a.nii.gz"]
        assert read_mask(run.output / "c.nii.gz").any()
        assert [case["resumed"] for case in result.report["cases"]] == [True, False, False]
        kept = result.cases["a"]
        assert (kept["status"], kept["error"]) == ("ok", None)
        assert kept["lesion_volume_ml"] == pytest.approx(result.cases["b"]["lesion_volume_ml"])
        assert kept["windows_total"] is None, "nothing is invented about what was not screened"

    def test_without_it_everything_is_screened_again(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        run()
        result = run(engine=FakeEngine(lambda _: 0.0, lambda patch: patch))
        assert not result.only["resumed"]
        assert not read_mask(run.output / "a.nii.gz").any()

    def test_a_scan_that_is_damaged_by_now_fails_and_its_mask_goes(self, run):
        scan = write_painted(run.inputs / "a_0000.nii.gz")
        run()
        scan.write_bytes(b"damaged")
        result = run(resume=True)
        assert (result.code, result.written) == (1, [])

    def test_two_scans_with_one_mask_are_still_an_error(self, run):
        write_painted(run.inputs / "a.nii")
        write_painted(run.inputs / "a.nii.gz")
        run()
        result = run(resume=True)
        assert [case["status"] for case in result.report["cases"]] == ["ok", "failed"]


class TestLastResort:
    def test_empty_mask_status_failed_exit_code_1(self, run, caplog):
        scan = write_painted(run.inputs / "a_0000.nii.gz")
        with caplog.at_level(logging.WARNING, "gfscreen"):
            result = run(engine=failing_engine(), empty_mask_on_failure=True)
        assert (result.code, result.written) == (1, ["a.nii.gz"])
        assert_same_geometry(scan, run.output / "a.nii.gz")
        assert not read_mask(run.output / "a.nii.gz").any()
        case = result.only
        assert (case["status"], case["empty_mask"]) == ("failed", True)
        assert "illegal memory access" in case["error"]
        assert case["lesion_volume_ml"] is None, "nothing was measured"
        assert any("last resort" in warning for warning in case["warnings"])
        assert any("an empty mask was written as a last resort" in r.getMessage() for r in caplog.records)

    def test_not_without_the_option(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        result = run(engine=failing_engine())
        assert (result.code, result.written) == (1, [])
        assert not result.only["empty_mask"]

    def test_not_for_what_could_not_be_read(self, run):
        (run.inputs / "a_0000.nii.gz").write_bytes(b"no image")
        result = run(empty_mask_on_failure=True)
        assert (result.code, result.written, result.only["empty_mask"]) == (1, [], False)

    def test_a_restart_screens_it(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        run(engine=failing_engine(), empty_mask_on_failure=True)
        result = run(resume=True)
        assert (result.code, result.only["resumed"]) == (0, False)
        assert read_mask(run.output / "a.nii.gz").any()

    def test_an_honestly_empty_mask_is_kept(self, run):
        write_painted(run.inputs / "a_0000.nii.gz")
        run(engine=FakeEngine(lambda _: 0.0, lambda patch: patch))
        assert run(resume=True).only["resumed"]

    @pytest.mark.parametrize("reader", ["nibabel", "SimpleITK"])
    def test_other_readers_read_it(self, run, reader):
        write_painted(run.inputs / "a_0000.nii.gz")
        run(engine=failing_engine(), empty_mask_on_failure=True)
        path = run.output / "a.nii.gz"
        if reader == "nibabel":
            values = np.asanyarray(nib.load(path).dataobj)
        else:
            values = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
        assert (values.shape, int(values.max())) == (PAINTED_SHAPE, 0)

    def test_also_where_no_engine_can_be_loaded(self, run, monkeypatch, tmp_path):
        from gfscreen.run.options import Options
        from gfscreen.run.predict import predict

        write_painted(run.inputs / "a_0000.nii.gz")
        (run.inputs / "b_0000.nii.gz").write_bytes(b"no image")

        def refuse(*_: object, **__: object) -> None:
            raise EngineError("no engine")

        monkeypatch.setattr("gfscreen.run.predict.load_engine", refuse)
        options = Options(run.inputs, run.output, run.weights, empty_mask_on_failure=True)
        assert predict(options) == 1
        assert [path.name for path in run.output.iterdir()] == ["a.nii.gz"]

    def test_memory_that_runs_out_is_said_in_words(self, run):
        def exhausted(_: np.ndarray) -> float:
            raise MemoryError

        write_painted(run.inputs / "a_0000.nii.gz")
        result = run(engine=FakeEngine(exhausted, lambda patch: patch), empty_mask_on_failure=True)
        assert result.only["error"].startswith("a_0000.nii.gz: memory ran out while it was screened; give more memory")
        assert result.only["empty_mask"]


def test_an_output_folder_that_vanishes_is_made_again(run, caplog):
    write_painted(run.inputs / "a_0000.nii.gz")
    alone = bright_engine()
    assert run(engine=alone).code == 0
    write_painted(run.inputs / "b_0000.nii.gz")
    engine = bright_engine()
    suspicion = engine.suspicion
    asked = itertools.count()

    def vanishing(patch: np.ndarray) -> float:
        if next(asked) == alone.glanced:
            # The first question about b, while a may still be being written.
            for _ in range(2000):
                if (run.output / "a.nii.gz").exists():
                    break
                time.sleep(0.01)
            shutil.rmtree(run.output)
        return suspicion(patch)

    engine.suspicion = vanishing
    with caplog.at_level(logging.WARNING, "gfscreen"):
        result = run(engine=engine)
    assert (result.code, result.written) == (0, ["b.nii.gz"])
    assert any("has vanished and is made again" in record.getMessage() for record in caplog.records)
    assert run(resume=True).written == ["a.nii.gz", "b.nii.gz"]
