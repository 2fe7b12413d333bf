"""SEGs of series with odd or incomplete headers: mended and valid, or refused before any work, all in one line."""

from __future__ import annotations

import logging
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.config import strict_reading
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from gfscreen.command.cli import main
from gfscreen.errors import OutputError
from gfscreen.run.dicom_seg_output import check_seg_output
from gfscreen.scan.volume import InputCase, read_volume
from gfscreen.scan.volume.dicom.seg import check_series, write_seg
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.engines import bright_engine
from tests.helpers.runs import write_plan
from tests.unit.run.test_dicom_seg_output import blob, in_patient, voxels_by_dcmqi

# What highdicom asks of source images and many exporters leave out.
INCOMPLETE = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
    *("FrameOfReferenceUID", "PositionReferenceIndicator"),
)


def rewrite(folder: Path, values: Mapping[str, bytes | None], every: int = 1) -> Path:
    """Give elements of every n-th file the bytes as they are, whatever pydicom thinks of them; None removes them."""
    for path in sorted(folder.iterdir())[::every]:
        dataset = pydicom.dcmread(path)
        for keyword, value in values.items():
            tag = Tag(tag_for_keyword(keyword))
            if value is None:
                del dataset[tag]
                continue
            padded = value + b" " * (len(value) % 2)
            dataset[tag] = RawDataElement(tag, dictionary_VR(tag), len(padded), padded, 0, False, True)
        # Else pydicom would encode the text anew for another character set.
        dataset.set_original_encoding(False, True, dataset._character_set)
        dataset.save_as(path)
    return folder


def seg_of(folder: Path, strict: bool = True) -> Any:
    """The SEG of a series: as pydicom reads it with all values validated, and read by highdicom and DCMTK, too."""
    target = folder.parent / "a.seg.dcm"
    check_series(folder)
    write_seg(target, blob(), read_volume(folder).geometry, folder)
    hd.seg.segread(target)
    assert voxels_by_dcmqi(target) == in_patient(blob(), Series(ramp()))
    if not strict:
        return pydicom.dcmread(target)
    with strict_reading():
        seg = pydicom.dcmread(target)
        for element in seg.iterall():
            _ = element.value
    return seg


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Series(ramp()).write(tmp_path / "ct")


class TestMended:
    def test_what_is_missing_is_empty_or_made(self, folder):
        seg = seg_of(rewrite(folder, dict.fromkeys(INCOMPLETE)))
        assert [str(seg[keyword].value or "") for keyword in INCOMPLETE[:9]] == [""] * 9
        assert seg.FrameOfReferenceUID.startswith("2.25.")

    def test_a_made_frame_of_reference_is_that_of_every_seg_of_the_series(self, folder):
        rewrite(folder, {"FrameOfReferenceUID": None})
        first, second = (seg_of(folder), (folder.parent / "back").rename(folder.parent / "first") and seg_of(folder))
        assert first.FrameOfReferenceUID == second.FrameOfReferenceUID
        assert first.SOPInstanceUID != second.SOPInstanceUID

    def test_what_some_slices_tell_is_taken_from_them(self, folder):
        kept = pydicom.dcmread(sorted(folder.iterdir())[1]).FrameOfReferenceUID
        seg = seg_of(rewrite(folder, dict.fromkeys(INCOMPLETE), every=2))
        assert (str(seg.PatientName), seg.PatientID) == ("Phantom^Digital", "P1")
        assert seg.FrameOfReferenceUID == kept

    @pytest.mark.parametrize(
        ("terms", "stored", "name"),
        [
            (
                b"\\ISO 2022 IR 87",
                b"Murakami^Haruki=\x1b$BB<>e\x1b(B^\x1b$B=U<y\x1b(B",
                "Murakami^Haruki=村上^春樹",
            ),
            (
                b"ISO 2022 IR 13\\ISO 2022 IR 87",
                b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
                "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
            ),
            (b"\\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7", "Hong^Gildong=洪^吉洞"),
            (b"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
            (b"ISO_IR 100", b"M\xfcller^J\xfcrgen", "Müller^Jürgen"),
            (b"ISO_IR 192", "Müller^Jürgen=山田".encode(), "Müller^Jürgen=山田"),
            (b"ISO-IR 100", b"M\xfcller^J\xfcrgen", "Müller^Jürgen"),
            (b"ISO_IR 999", b"M\xfcller^J\xfcrgen", "Müller^Jürgen"),
            (b"", b"Bono", "Bono"),
        ],
    )
    def test_the_name_reads_the_same(self, folder, terms, stored, name):
        rewrite(folder, {"SpecificCharacterSet": terms, "PatientName": stored, "ReferringPhysicianName": stored})
        seg = seg_of(folder)
        assert str(seg.PatientName) == str(seg.ReferringPhysicianName) == name
        assert seg.get("SpecificCharacterSet") == (None if name.isascii() else "ISO_IR 192")

    def test_odd_values_are_mended_or_left_empty(self, folder, caplog):
        odd = {
            "PatientWeight": b"72,5",
            "PatientSize": b"1.7000000000000001234",
            "PatientAge": b"45Y",
            "PatientSex": b"male",
            "PatientBirthDate": b"19703512",
            "PatientName": b"N" * 90 + b"^M=b=c=d",
            "PatientID": b"X" * 80,
            "StudyDate": b"2020.01.01",
            "StudyTime": b"12:34:56",
            "StudyID": b"12345678901234567890",
            "AccessionNumber": b"A\x01B",
            "SliceThickness": b"",
            "SeriesNumber": b"3.0",
            "InstanceNumber": b"1.0",
            "LossyImageCompression": b"01",
            "LossyImageCompressionRatio": b"12,5",
            "LossyImageCompressionMethod": b"",
            "FrameOfReferenceUID": b"1.2.3.4\0\0\0",
        }
        seg = seg_of(rewrite(folder, odd))
        assert (seg.PatientWeight, seg.PatientSize, seg.PatientAge, seg.PatientSex) == (72.5, 1.7, "045Y", "M")
        assert (seg.PatientBirthDate or "", str(seg.PatientName), seg.PatientID) == ("", "N" * 64 + "=b=c", "X" * 64)
        assert (seg.StudyDate, seg.StudyTime, seg.StudyID) == ("20200101", "123456", "1234567890123456")
        assert (seg.AccessionNumber, seg.SeriesNumber, seg.FrameOfReferenceUID) == ("AB", 1003, "1.2.3.4")
        assert seg.LossyImageCompressionRatio == 12.5
        (line,) = [r.getMessage() for r in caplog.records if "mended" in r.getMessage()]
        assert "StudyDate" in line
        assert "PatientName" in line
        assert "X" * 10 not in line  # of a patient, no value belongs into a log

    @pytest.mark.parametrize("number", [b"-9999", b"2147483647", b""])
    def test_a_series_number_beyond_use(self, folder, number):
        assert seg_of(rewrite(folder, {"SeriesNumber": number})).SeriesNumber == 1000

    def test_a_uid_stays_what_the_series_is_known_by(self, folder):
        """Zeros that lead are not allowed, but under another UID nobody would find the series."""
        rewrite(folder, {"StudyInstanceUID": b"1.02.003", "SeriesInstanceUID": b"1.2.0840.7 "})
        seg = seg_of(folder, strict=False)
        assert seg.StudyInstanceUID == "1.02.003"
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.0840.7"

    def test_a_frame_of_reference_per_slice_and_cosines_that_differ(self, folder):
        for number, path in enumerate(sorted(folder.iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.FrameOfReferenceUID += f".{number + 1}"
            dataset.ImageOrientationPatient = [1, 0.0001 * number, 0, 0, 1, 0]
            dataset.save_as(path)
        assert seg_of(folder).FrameOfReferenceUID.rpartition(".")[0] == f"{Series(ramp()).uid.rpartition('.')[0]}.99"

    def test_each_slice_is_named_under_its_own_series(self, folder):
        """An anonymiser that gives every slice a series of its own; the reader takes them as one."""
        for number, path in enumerate(sorted(folder.iterdir())):
            dataset = pydicom.dcmread(path)
            dataset.SeriesInstanceUID += f".{number + 1}"
            dataset.save_as(path)
        series = seg_of(folder).ReferencedSeriesSequence
        assert len({one.SeriesInstanceUID for one in series}) == 8
        assert len({one.ReferencedInstanceSequence[0].ReferencedSOPInstanceUID for one in series}) == 8

    def test_sequences_keep_their_text(self, folder):
        for path in folder.iterdir():
            dataset, item = pydicom.dcmread(path), Dataset()
            item.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
            item.PatientID, item.TypeOfPatientID = "山田", "TEXT"
            item.add_new(0x00091001, "LO", "private")
            dataset.OtherPatientIDsSequence = [item]
            dataset.PatientComments = "two\r\nlines"
            dataset.save_as(path)
        seg = seg_of(folder)
        (item,) = seg.OtherPatientIDsSequence
        assert (item.PatientID, item.TypeOfPatientID, len(item)) == ("山田", "TEXT", 2)
        assert seg.PatientComments == "two\r\nlines"

    def test_proper_headers_are_taken_over_without_a_word(self, folder, caplog):
        source = pydicom.dcmread(sorted(folder.iterdir())[0])
        with caplog.at_level(logging.WARNING, "gfscreen"), warnings.catch_warnings():
            warnings.simplefilter("error")
            seg = seg_of(folder)
        assert not caplog.records
        for keyword in INCOMPLETE:
            assert seg.get(keyword) == source.get(keyword), keyword
        position = seg.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence[0].ImagePositionPatient
        assert list(map(str, position)) in [
            list(map(str, pydicom.dcmread(path).ImagePositionPatient)) for path in folder.iterdir()
        ]


def test_pydicoms_settings_stay_as_they_were(folder):
    before = vars(pydicom.config.settings).copy(), logging.getLogger("pydicom").level, warnings.filters[:]
    seg_of(folder)
    assert (vars(pydicom.config.settings), logging.getLogger("pydicom").level, warnings.filters) == before


class TestRefused:
    def test_all_that_is_missing_in_one_line(self, folder):
        rewrite(folder, {"SOPInstanceUID": None, "StudyInstanceUID": b""}, every=4)
        with pytest.raises(OutputError) as refused:
            write_seg(folder.parent / "a.seg.dcm", blob(), read_volume(folder).geometry, folder)
        line = str(refused.value)
        assert line.startswith("ct: no SEG can be made of series 1: SOPInstanceUID is missing in 2 files (1_")
        assert "; StudyInstanceUID is missing in 2 files (1_" in line
        assert line.endswith("; repair these headers, or go without SEG")
        assert "\n" not in line
        assert not (folder.parent / "a.seg.dcm").exists()

    def test_slices_that_cannot_be_told_apart(self, folder):
        rewrite(folder, {"SOPInstanceUID": b"1.2.3"}, every=2)
        with pytest.raises(OutputError, match=r"SOPInstanceUID is shared by 4 files \(1_.*\.\.\.\)"):
            check_series(folder)


class TestBeforeScreening:
    @pytest.fixture
    def cases(self, tmp_path: Path) -> list[InputCase]:
        """Zips of three series: a good one, and two without UIDs."""
        found = []
        for name, missing in (("a", None), ("b", "SOPInstanceUID"), ("c", "SeriesInstanceUID")):
            folder = Series(ramp()).write(tmp_path / name)
            if missing is not None:
                rewrite(folder, {missing: b""})
            with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
                for path in folder.iterdir():
                    archive.write(path, path.name)
            found.append(InputCase(name, tmp_path / f"{name}.zip"))
        return found

    def test_every_case_is_told_at_once(self, cases, tmp_path):
        with pytest.raises(OutputError) as refused:
            check_seg_output(cases, tmp_path / "segs")
        line = str(refused.value)
        assert "b.zip: no SEG can be made of series 1: SOPInstanceUID is missing in 8 files" in line
        assert " | c.zip: no SEG can be made of series 1: SeriesInstanceUID is missing in 8 files" in line
        assert "a.zip" not in line
        assert "\n" not in line

    def test_good_ones_pass(self, cases, tmp_path):
        check_seg_output(cases[:1], tmp_path / "segs")
        assert not list((tmp_path / "segs").iterdir())

    def test_it_is_the_chosen_series_that_counts(self, tmp_path):
        Series(ramp(), number=1).write(tmp_path / "ct" / "1")
        short = Series(ramp((6, 5, 4)), number=2).write(tmp_path / "ct" / "2")
        rewrite(short, {"SOPInstanceUID": b"1.2.3"})
        case = InputCase("ct", tmp_path / "ct")
        check_seg_output([case], tmp_path / "segs")
        with pytest.raises(OutputError, match="series 2: SOPInstanceUID is shared by 4 files"):
            check_seg_output([case], tmp_path / "segs", "2")

    def test_a_case_that_cannot_be_read_is_left_to_its_reading(self, tmp_path):
        (tmp_path / "broken.zip").write_bytes(b"no zip")
        check_seg_output([InputCase("broken", tmp_path / "broken.zip")], tmp_path / "segs")

    @pytest.mark.parametrize(
        ("name", "rule"), [("n" * 250, "File name too long"), ("taken", r"taken\.seg\.dcm: cannot be written")]
    )
    def test_a_place_that_cannot_be_written(self, folder, tmp_path, name, rule):
        (tmp_path / "segs" / "taken.seg.dcm").mkdir(parents=True)
        with pytest.raises(OutputError, match=rule):
            check_seg_output([InputCase(name, folder)], tmp_path / "segs")


def test_an_empty_mask_of_odd_headers(folder):
    rewrite(folder, dict.fromkeys(INCOMPLETE))
    write_seg(folder.parent / "a.seg.dcm", np.zeros((6, 5, 8), np.uint8), read_volume(folder).geometry, folder)
    assert pydicom.dcmread(folder.parent / "a.seg.dcm").NumberOfFrames == 8


def test_predict_tells_before_it_screens(folder, tmp_path, monkeypatch, capsys):
    engine = bright_engine()
    monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: engine)
    write_plan(tmp_path / "weights")
    rewrite(folder, {"SOPInstanceUID": None, "StudyInstanceUID": b""})
    places = ["-o", str(tmp_path / "masks"), "--dicom-seg", str(tmp_path / "segs")]
    assert main(["-q", "predict", "-i", str(folder), "--weights", str(tmp_path / "weights"), *places]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("ERROR: ct: no SEG can be made of series 1: SOPInstanceUID is missing in 8 files")
    assert "StudyInstanceUID is missing" in line
    assert engine.glanced == 0
    assert not (tmp_path / "masks").exists()
