"""No slice is lost, and none is taken twice or from another acquisition, without a word."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset

from gfscreen.scan.volume import find_cases, read_volume
from tests.helpers.dicom_series import Series, ramp, write_dose_report
from tests.helpers.refusals import error_of


def bare(path) -> None:
    """The data set alone: implicit little endian, no preamble, no file meta group."""
    alone = Dataset()
    for element in pydicom.dcmread(path):
        alone.add(element)
    alone.save_as(path, implicit_vr=True, little_endian=True, enforce_file_format=False)


class TestFiles:
    @pytest.mark.parametrize("every", [1, 2])
    def test_without_preamble(self, tmp_path, every):
        folder = Series(ramp()).write(tmp_path / "ct")
        for path in sorted(folder.iterdir())[::every]:
            bare(path)
        np.testing.assert_array_equal(read_volume(folder).hu, ramp())
        assert [case.name for case in find_cases(folder)] == ["ct"]

    @pytest.mark.parametrize("name", ["1_900", "IM9.dcm", "1.2.840.99", "I9.IMA"])
    @pytest.mark.parametrize("content", [b"", bytes(300), b"\x07\x93" * 400])
    def test_empty_and_unreadable_files_are_counted_and_named(self, tmp_path, name, content):
        folder = Series(ramp()).write(tmp_path / "ct")
        for n in (name, name.replace("9", "7")):
            (folder / n).write_bytes(content)
        message = error_of(folder)
        assert name in message
        assert "may be slices that were lost (2 " in message

    @pytest.mark.parametrize(
        ("name", "content"),
        [
            ("README", b"made by a scanner\n"), ("a.json", b"{}"), ("x", b"\x89PNG\r\n\x1a\n" + bytes(100)),
            (".DS_Store", b"\0\1"), ("Thumbs.db", bytes(99)), ("report.pdf", b"%PDF-1.7"),
            ("._1_001", b"\0\5\x16\7"), ("empty.txt", b""), ("run.exe", bytes(9)),
        ],
    )  # fmt: skip
    def test_what_is_known_to_be_something_else_is_passed_over_and_counted(self, tmp_path, name, content):
        folder = Series(ramp()).write(tmp_path / "ct")
        (folder / name).write_bytes(content)
        write_dose_report(folder)
        volume = read_volume(folder)
        np.testing.assert_array_equal(volume.hu, ramp())
        assert "passed over: 1 dose report; 1 no DICOM" in volume.warnings

    def test_names_that_are_no_utf8(self, tmp_path):
        folder = Series(ramp()).write(tmp_path / "ct")
        min(folder.iterdir()).rename(folder / os.fsdecode(b"Sch\xe4del"))
        np.testing.assert_array_equal(read_volume(folder).hu, ramp())


class TestCopies:
    def test_are_the_same_position_and_pixels_and_counted(self, tmp_path):
        Series(ramp()).write(tmp_path / "study" / "a")
        again = Series(ramp(), change=lambda k, data: setattr(data, "SOPInstanceUID", f"{data.SOPInstanceUID}.9"))
        again.write(tmp_path / "study" / "b")
        volume = read_volume(tmp_path / "study")
        np.testing.assert_array_equal(volume.hu, ramp())
        assert "passed over: 8 copies of slices" in volume.warnings

    def test_other_pixels_at_the_same_position_are_none(self, tmp_path):
        Series(ramp()).write(tmp_path / "study" / "a")
        Series(ramp() + 1).write(tmp_path / "study" / "b")
        assert "expected one slice per position" in error_of(tmp_path / "study")

    def test_a_shared_uid_is_no_copy(self, tmp_path):
        def change(k, data):
            data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{k // 2 + 1}"

        volume = read_volume(Series(ramp(), change=change).write(tmp_path / "ct"))
        np.testing.assert_array_equal(volume.hu, ramp())
        assert any("4 slices have the SOP Instance UID of another slice" in warning for warning in volume.warnings)


class TestAcquisitions:
    """Two of them, the second half a spacing higher: together an even stack that alternates between both."""

    @pytest.mark.parametrize(
        ("keyword", "values", "said"),
        [
            ("AcquisitionNumber", ("1", "2"), "acquisition number 1 and 2"),
            ("ContrastBolusAgent", ("", "Iodine"), "contrast phase absent and Iodine"),
            ("TemporalPositionIdentifier", (1, 2), "temporal position (phase) 1 and 2"),
            ("KVP", ("80", "140"), "tube voltage 140 and 80"),
            ("AcquisitionTime", ("120000", "120040.5"), "time of acquisition 12:00:00 and 12:00:40"),
            ("AcquisitionDateTime", ("20260101120000", "20260101120100"), "time of acquisition 12:00:00 and 12:01:00"),
        ],
    )
    def test_interleaved(self, tmp_path, keyword, values, said):
        def change(k, data):
            setattr(data, keyword, values[k % 2])

        message = error_of(Series(ramp(), change=change).write(tmp_path / "ct"))
        assert f"expected one acquisition, slices of 2 overlap in one series ({said})" in message

    def test_interleaved_by_the_time_of_each_slice(self, tmp_path):
        """Half a second a slice, and back again 40 s later."""

        def change(k, data):
            data.AcquisitionTime = f"1200{(40 if k % 2 else 0) + 0.5 * (k // 2):04.1f}"

        assert "time of acquisition" in error_of(Series(ramp((6, 5, 24)), change=change).write(tmp_path / "ct"))

    @pytest.mark.parametrize("step", [1, 4])
    def test_steps_of_the_table_are_one_scan(self, tmp_path, step):
        def change(k, data):
            data.AcquisitionNumber, data.AcquisitionTime = k // step + 1, f"1200{k // step:02d}"

        np.testing.assert_array_equal(read_volume(Series(ramp(), change=change).write(tmp_path / "ct")).hu, ramp())


class TestTheSeriesThatIsChosen:
    def test_makes_a_volume(self, tmp_path, caplog):
        """A monitoring series, original, many slices at one place; and a derived one that is even."""
        Series(ramp((6, 5, 40)), number=1, positions_mm=[0.1 * (k % 2) for k in range(40)]).write(tmp_path / "ct")
        Series(ramp(), number=2, image_type=("DERIVED", "PRIMARY", "AXIAL")).write(tmp_path / "ct")
        volume = read_volume(tmp_path / "ct")
        np.testing.assert_array_equal(volume.hu, ramp())
        assert any("series 1" in line and "makes no volume (expected one slice" in line for line in volume.warnings)

    def test_one_slice_does_not_win_over_a_volume(self, tmp_path):
        Series(ramp((6, 5, 1)), number=1, slice_mm=10.0).write(tmp_path / "ct")
        Series(ramp(), number=2, image_type=("DERIVED", "PRIMARY", "AXIAL")).write(tmp_path / "ct")
        np.testing.assert_array_equal(read_volume(tmp_path / "ct").hu, ramp())

    def test_none_makes_a_volume(self, tmp_path):
        Series(ramp(), left_out=[3, 4]).write(tmp_path / "ct")
        assert "missing slices (2)" in error_of(tmp_path / "ct")

    def test_a_series_uid_for_every_slice(self, tmp_path):
        def change(k, data):
            data.SeriesInstanceUID = f"{data.SeriesInstanceUID}.{k + 1}"

        volume = read_volume(Series(ramp(), change=change).write(tmp_path / "ct"))
        np.testing.assert_array_equal(volume.hu, ramp())
        assert any("8 series of one slice each" in warning for warning in volume.warnings)

    def test_named_as_the_user_names_it(self, tmp_path, monkeypatch):
        folder = Series(ramp()).write(tmp_path / "store" / "DICOM")
        (tmp_path / "case01").symlink_to(folder)
        assert [case.name for case in find_cases(tmp_path / "case01")] == ["case01"]
        monkeypatch.chdir(folder)
        assert [case.name for case in find_cases(Path())] == ["DICOM"]
