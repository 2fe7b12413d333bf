"""Maps of instances and probabilities beside the masks; they, the statistics and the SEG speak of the same findings."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import pytest

from gfscreen.command.cli import main
from gfscreen.errors import OutputError, UsageError
from gfscreen.results.statistics import parts
from gfscreen.scan.volume import read_volume, write_mask
from gfscreen.scan.volume.dicom import seg as dicom_seg
from gfscreen.scan.volume.dicom.seg import write_seg
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.nifti_files import assert_same_geometry, read_mask, write_nifti
from tests.helpers.runs import write_plan
from tests.helpers.scans import LESION_HU, PAINTED_AFFINE, PAINTED_SHAPE, paint

# A voxel amid the ball.
BALL = tuple(np.argwhere(paint(PAINTED_SHAPE, PAINTED_AFFINE)[1]).mean(axis=0).round().astype(int))


def scan() -> np.ndarray:
    """A body with a bright ball, a bright block and a bright voxel."""
    hu = paint(PAINTED_SHAPE, PAINTED_AFFINE)[0]
    hu[10:13, 18:20, 8:10] = LESION_HU
    hu[14, 9, 20] = LESION_HU
    return hu


def voxels_in(path: Path) -> dict[int, int]:
    """Voxels of each number of an instance map, background left out."""
    image: Any = nib.load(path)
    assert (image.get_data_dtype().kind, image.get_data_dtype().itemsize) == ("u", 2)
    assert (image.dataobj.slope, image.dataobj.inter) == (1.0, 0.0)
    numbers, counts = np.unique(np.asarray(image.dataobj), return_counts=True)
    return {int(number): int(count) for number, count in zip(numbers, counts, strict=True) if number}


def voxels_in_table(path: Path) -> dict[int, int]:
    with path.open(encoding="utf-8") as stream:
        return {int(row["lesion_id"]): int(row["voxels"]) for row in csv.DictReader(stream) if row["row"] == "lesion"}


class TestInstances:
    def test_numbers_are_those_of_the_table(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        done = run(instances=tmp_path / "maps", statistics=tmp_path / "s.json")
        assert (done.code, done.written) == (0, ["a.nii.gz"])
        found = voxels_in(tmp_path / "maps" / "a.nii.gz")
        assert len(found) == 3
        assert found == voxels_in_table(tmp_path / "s.csv")
        instances = np.asarray(nib.load(tmp_path / "maps" / "a.nii.gz").dataobj)
        np.testing.assert_array_equal(instances > 0, read_mask(run.output / "a.nii.gz") > 0)
        assert (instances[11, 19, 9], instances[14, 9, 20]) == (2, 3)
        assert_same_geometry(run.inputs / "a_0000.nii.gz", tmp_path / "maps" / "a.nii.gz")

    @pytest.mark.parametrize("header", [{"endian": ">"}, {"version": 2}])
    def test_in_the_byte_order_of_the_scan(self, tmp_path, run, header):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE, **header)
        run(instances=tmp_path / "maps", statistics=tmp_path / "s.json")
        assert voxels_in(tmp_path / "maps" / "a.nii.gz") == voxels_in_table(tmp_path / "s.csv")
        assert_same_geometry(run.inputs / "a_0000.nii.gz", tmp_path / "maps" / "a.nii.gz")

    def test_without_a_finding_the_map_is_empty(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", np.minimum(scan(), 40).astype(np.int16), PAINTED_AFFINE)
        assert run(instances=tmp_path / "maps").code == 0
        assert voxels_in(tmp_path / "maps" / "a.nii.gz") == {}

    def test_too_many_findings_cost_no_mask(self, tmp_path, run, monkeypatch, caplog):
        monkeypatch.setattr(parts, "MOST_LESIONS", 2)
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        done = run(instances=tmp_path / "maps")
        assert (done.code, done.only["status"], done.written) == (1, "ok", ["a.nii.gz"])
        assert not (tmp_path / "maps" / "a.nii.gz").exists()
        assert f"{tmp_path}/maps/a.nii.gz: cannot be written, the mask has 3 lesions" in caplog.text


class TestDicom:
    @pytest.fixture
    def study(self, tmp_path, monkeypatch) -> Path:
        monkeypatch.setattr("gfscreen.run.dicom_seg_output.read_manifest", lambda _: SimpleNamespace(digest="ab" * 32))
        return Series(scan(), pixel_mm=(4.0, 4.0), slice_mm=5.0).write(tmp_path / "study")

    def test_table_map_and_segments_agree(self, tmp_path, run, study):
        done = run(study, instances=tmp_path / "maps", statistics=tmp_path / "s.json", dicom_seg=tmp_path / "segs")
        assert done.code == 0
        instances = np.asarray(nib.load(tmp_path / "maps" / "study.nii.gz").dataobj)
        expected = voxels_in(tmp_path / "maps" / "study.nii.gz")
        assert list(expected) == [1, 2, 3]
        assert expected == voxels_in_table(tmp_path / "s.csv")
        seg = pydicom.dcmread(tmp_path / "segs" / "study.seg.dcm")
        segments = [(int(segment.SegmentNumber), segment.SegmentLabel) for segment in seg.SegmentSequence]
        assert segments == [(1, "Lesion 1"), (2, "Lesion 2"), (3, "Lesion 3")]
        assert len({segment.TrackingUID for segment in seg.SegmentSequence}) == 3
        # Every frame against the map: slices of a Series advance with the third axis of the volume.
        found = dict.fromkeys(expected, 0)
        frames = seg.pixel_array.reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
        for frame, about in zip(frames, seg.PerFrameFunctionalGroupsSequence, strict=True):
            number = int(about.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            k = round((float(about.PlanePositionSequence[0].ImagePositionPatient[2]) - 35.25) / 5.0)
            np.testing.assert_array_equal(frame.T > 0, instances[:, :, k] == number)
            found[number] += int(frame.sum())
        assert found == expected

    def test_seg_of_a_mask_has_the_same_segments(self, tmp_path, run, study):
        run(study, instances=tmp_path / "maps")
        target = tmp_path / "again.seg.dcm"
        assert main(["-q", "seg", "-i", f"{study}", "--mask", f"{run.output}/study.nii.gz", "-o", f"{target}"]) == 0
        seg = pydicom.dcmread(target)
        numbers = [
            int(about.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
            for about in seg.PerFrameFunctionalGroupsSequence
        ]
        frames = seg.pixel_array.reshape(seg.NumberOfFrames, -1).sum(axis=1)
        found = {number: int(frames[np.array(numbers) == number].sum()) for number in set(numbers)}
        assert found == voxels_in(tmp_path / "maps" / "study.nii.gz")

    def test_pixels_beyond_32_bits_are_refused(self, tmp_path, monkeypatch):
        folder = Series(ramp()).write(tmp_path / "ct")
        mask = np.zeros((6, 5, 8), np.uint8)
        mask[1, 1, 2:4], mask[4, 4, 3] = 1, 2  # three frames of 30 pixels, 4 bytes each
        geometry = read_volume(folder).geometry
        monkeypatch.setattr(dicom_seg, "_MOST_BYTES", 12)
        write_seg(tmp_path / "a.seg.dcm", mask, geometry, folder)
        monkeypatch.setattr(dicom_seg, "_MOST_BYTES", 11)
        with pytest.raises(
            OutputError, match="ct: a SEG of 2 lesions in 3 frames would hold 12 bytes of pixels, at most"
        ):
            write_seg(tmp_path / "b.seg.dcm", mask, geometry, folder)
        assert not (tmp_path / "b.seg.dcm").exists()


class TestProbabilities:
    def engine(self) -> FakeEngine:
        return FakeEngine(lambda patch: 1.0, lambda patch: np.where(patch > 0.7, 0.8, 0.1).astype(np.float32))

    def test_readers_see_0_to_1_on_the_scans_grid(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        done = run(engine=self.engine(), probabilities=tmp_path / "maps")
        assert (done.code, done.written) == (0, ["a.nii.gz"])
        image: Any = nib.load(tmp_path / "maps" / "a.nii.gz")
        assert image.get_data_dtype() == np.uint8
        values = image.get_fdata()
        assert (values.min(), values.max()) == (0.0, pytest.approx(0.8, abs=0.5 / 255))
        assert values[BALL] == pytest.approx(0.8, abs=0.5 / 255)
        assert values[0, 0, 0] == 0.0  # a corner far from the body
        mask = read_mask(run.output / "a.nii.gz") > 0
        assert values[mask].min() > 0.5 - 1 / 255
        assert values[~mask].max() <= 0.5 + 1 / 255
        assert_same_geometry(run.inputs / "a_0000.nii.gz", tmp_path / "maps" / "a.nii.gz")

    def test_what_focus_did_not_read_is_0(self, tmp_path, run):
        """Glance lets only sub-volumes with something bright through."""
        hu = np.full((80, 40, 40), 40, np.int16)
        hu[8:12, 8:12, 8:12] = LESION_HU
        write_nifti(run.inputs / "a_0000.nii.gz", hu, np.diag([4.0, 4.0, 4.0, 1.0]))
        engine = FakeEngine(bright_engine().suspicion, lambda patch: np.full_like(patch, 0.3))
        run(engine=engine, probabilities=tmp_path / "maps")
        values = nib.load(tmp_path / "maps" / "a.nii.gz").get_fdata()
        assert values[20, 10, 10] == pytest.approx(0.3, abs=0.5 / 255)
        assert values[50:].max() == 0.0

    def test_a_dropped_finding_is_still_in_it(self, tmp_path, run):
        write_plan(run.weights, replace(TINY_PLAN, finding_peak=0.9))
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        done = run(engine=self.engine(), probabilities=tmp_path / "maps", instances=tmp_path / "ids")
        assert done.only["findings_dropped"] == 3
        assert not read_mask(run.output / "a.nii.gz").any()
        assert voxels_in(tmp_path / "ids" / "a.nii.gz") == {}
        assert nib.load(tmp_path / "maps" / "a.nii.gz").get_fdata()[BALL] == pytest.approx(0.8, abs=0.5 / 255)


class TestPlaces:
    @pytest.mark.parametrize("option", ["instances", "probabilities"])
    def test_nothing_but_masks_in_the_output_folder(self, run, option):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        with pytest.raises(UsageError, match=f"--{option} .*: lies in the output folder, where only masks may be"):
            run(**{option: run.output / "maps"})
        assert not run.output.exists()

    def test_where_names_would_clash_is_refused(self, tmp_path, run):
        scan_file = write_nifti(run.inputs / "a.nii.gz", scan(), PAINTED_AFFINE)
        before = scan_file.read_bytes()
        for source in (run.inputs, scan_file):
            with pytest.raises(UsageError, match=r"--instances .*inputs: is where the scans or masks are"):
                run(source, instances=run.inputs)
        with pytest.raises(UsageError, match=r"--probabilities .*: is the folder of the other maps"):
            run(instances=tmp_path / "maps", probabilities=tmp_path / "maps")
        with pytest.raises(UsageError, match=r"--instances .*a\.nii\.gz: is a file; name a folder"):
            run(instances=scan_file)
        assert scan_file.read_bytes() == before

    def test_a_map_that_cannot_be_written_costs_neither_the_mask_nor_the_other(self, tmp_path, run, caplog):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        (tmp_path / "ids" / "a.nii.gz").mkdir(parents=True)
        done = run(instances=tmp_path / "ids", probabilities=tmp_path / "maps", statistics=tmp_path / "s.json")
        assert (done.code, done.only["status"], done.written) == (1, "ok", ["a.nii.gz"])
        assert (tmp_path / "maps" / "a.nii.gz").is_file()
        assert len(voxels_in_table(tmp_path / "s.csv")) == 3
        assert f"{tmp_path}/ids/a.nii.gz: cannot be written" in caplog.text
        assert [path.name for path in (tmp_path / "ids").iterdir()] == ["a.nii.gz"]

    def test_an_earlier_runs_maps_do_not_pass_for_those_of_a_case_that_fails(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        folders = {"instances": tmp_path / "ids", "probabilities": tmp_path / "maps"}
        assert run(**folders).code == 0
        (run.inputs / "a_0000.nii.gz").write_bytes(b"no scan")
        assert run(**folders).code == 1
        assert [list(folder.iterdir()) for folder in folders.values()] == [[], []]

    def test_finished_is_what_has_all_maps(self, tmp_path, run):
        write_nifti(run.inputs / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        run()
        assert not run(resume=True, instances=tmp_path / "ids").only["resumed"]
        assert (tmp_path / "ids" / "a.nii.gz").is_file()
        done = run(resume=True, instances=tmp_path / "ids")
        assert (done.code, done.only["resumed"]) == (0, True)
        assert (tmp_path / "ids" / "a.nii.gz").is_file()


class TestExistingMasks:
    @pytest.fixture
    def folder(self, tmp_path) -> Path:
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir()
        image = write_nifti(tmp_path / "images" / "a_0000.nii.gz", scan(), PAINTED_AFFINE)
        mask = (scan() == LESION_HU).astype(np.uint8)
        write_mask(tmp_path / "masks" / "a.nii.gz", mask, read_volume(image).geometry)
        return tmp_path

    def stats(self, folder: Path, instances: str) -> int:
        files = ["--image", f"{folder}/images", "--mask", f"{folder}/masks", "-o", f"{folder}/s.json"]
        return main(["-q", "stats", *files, "--instances", f"{folder}/{instances}"])

    def test_numbers_are_those_of_the_table(self, folder):
        assert self.stats(folder, "ids") == 0
        found = voxels_in(folder / "ids" / "a.nii.gz")
        assert len(found) == 3
        assert found == voxels_in_table(folder / "s.csv")
        assert_same_geometry(folder / "images" / "a_0000.nii.gz", folder / "ids" / "a.nii.gz")

    @pytest.mark.parametrize("place", ["masks", "images", "ids/../masks"])
    def test_no_mask_is_overwritten(self, folder, capsys, place):
        (folder / "ids").mkdir()
        before = (folder / "masks" / "a.nii.gz").read_bytes()
        assert self.stats(folder, place) == 2
        assert "is where the scans or masks are" in capsys.readouterr().err
        assert (folder / "masks" / "a.nii.gz").read_bytes() == before

    def test_a_pair_that_fails_leaves_no_older_map(self, folder):
        assert self.stats(folder, "ids") == 0
        (folder / "masks" / "a.nii.gz").write_bytes(b"no mask")
        assert self.stats(folder, "ids") == 1
        assert list((folder / "ids").iterdir()) == []

    def test_a_map_that_cannot_be_written_is_exit_code_1(self, folder, capsys):
        (folder / "ids" / "a.nii.gz").mkdir(parents=True)
        assert self.stats(folder, "ids") == 1
        assert len(voxels_in_table(folder / "s.csv")) == 3
        assert "cannot be" in capsys.readouterr().err
