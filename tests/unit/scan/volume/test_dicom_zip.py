"""A zip of a DICOM series: read like the folder, and refused where a zip could do harm."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest

from gfscreen.scan.volume import find_cases, read_volume
from gfscreen.scan.volume.dicom import source
from gfscreen.scan.volume.dicom.read import read_dicom
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.refusals import error_of


def zipped(target: Path, folder: Path, rename: str = "{}") -> Path:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, rename.format(path.name))
    return target


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that zips are unpacked below."""
    folder = tmp_path / "scratch" / "deep"
    folder.mkdir(parents=True)
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def test_as_the_folder(tmp_path, scratch):
    series = Series(ramp(), "sagittal")
    path = zipped(tmp_path / "P7.zip", series.write(tmp_path / "ct"), "export/DICOM/{}")
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.hu, ramp())
    np.testing.assert_allclose(volume.geometry.affine_ras_mm, series.affine_ras_mm, atol=1e-6)
    assert not list(scratch.iterdir()), "nothing is left behind"


@pytest.mark.parametrize("name", ["../../{}", "/{}", "..\\..\\{}", "a/../../../{}"])
def test_names_that_lead_elsewhere_lead_nowhere(tmp_path, scratch, name):
    path = zipped(tmp_path / "a.zip", Series(ramp()).write(tmp_path / "ct"), name)
    before = set(tmp_path.rglob("*"))
    np.testing.assert_array_equal(read_volume(path).hu, ramp())
    assert set(tmp_path.rglob("*")) == before


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path, scratch, monkeypatch):
    with zipfile.ZipFile(tmp_path / "bomb.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(128) + b"DICM" + bytes(50_000_000))
    monkeypatch.setattr("gfscreen.scan.volume.dicom.source.HARMLESS_BYTES", 40_000_000)
    monkeypatch.setattr(zipfile.ZipFile, "open", lambda *_, **__: pytest.fail("opened a member"))
    assert "more than 200 times, which no CT does" in error_of(tmp_path / "bomb.zip", read=read_dicom)


def test_a_member_that_understates_its_size_yields_no_more(tmp_path, scratch):
    """The directory says 300 bytes, the stream holds 50 MB: reading stops at what was declared."""
    path = tmp_path / "liar.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", bytes(128) + b"DICM" + bytes(50_000_000))
    path.write_bytes(path.read_bytes().replace((50_000_132).to_bytes(4, "little"), (300).to_bytes(4, "little")))
    with pytest.raises(zipfile.BadZipFile, match="CRC"):
        source.unpack(path, scratch)
    assert sum(p.stat().st_size for p in scratch.iterdir()) <= 300
    assert "damaged" in error_of(path, read=read_dicom)


def test_too_many_files(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(source, "MAX_FILES", 5)
    path = zipped(tmp_path / "a.zip", Series(ramp()).write(tmp_path / "ct"))
    assert "holds 8 files, at most 5 are read" in error_of(path, read=read_dicom)


def test_more_than_the_disk_holds(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(source, "MAX_BYTES", 1000)
    assert "MiB unpacked" in error_of(
        zipped(tmp_path / "a.zip", Series(ramp()).write(tmp_path / "ct")), read=read_dicom
    )


def test_encrypted(tmp_path, scratch):
    path = zipped(tmp_path / "a.zip", Series(ramp()).write(tmp_path / "ct"))
    data = bytearray(path.read_bytes())
    start = 0
    while (start := data.find(b"PK\x01\x02", start)) >= 0:  # flag bits of every entry of the central directory
        data[start + 8] |= 1
        start += 4
    path.write_bytes(bytes(data))
    assert "is encrypted" in error_of(path, read=read_dicom)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"hello"])
def test_no_zip(tmp_path, scratch, content):
    (tmp_path / "a.zip").write_bytes(content)
    assert error_of(tmp_path / "a.zip", read=read_dicom)


def test_a_damaged_member(tmp_path, scratch):
    path = zipped(tmp_path / "a.zip", Series(ramp()).write(tmp_path / "ct"))
    data = bytearray(path.read_bytes())
    data[60:90] = bytes(30)
    path.write_bytes(bytes(data))
    assert "damaged" in error_of(path, read=read_dicom)


def test_without_dicom(tmp_path, scratch):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "x")
    assert "expected a zip of DICOM files, found none" in error_of(tmp_path / "a.zip", read=read_dicom)


class TestCases:
    def test_one_zip_and_a_folder_of_them(self, tmp_path):
        (tmp_path / "P7.zip").touch()
        (tmp_path / "P8.ZIP").touch()
        assert [case.mask_name for case in find_cases(tmp_path)] == ["P7.nii.gz", "P8.nii.gz"]
        assert [case.name for case in find_cases(tmp_path / "P7.zip")] == ["P7"]

    def test_beside_volumes_zips_are_left_out(self, tmp_path):
        (tmp_path / "a.nii.gz").touch()
        (tmp_path / "b.zip").touch()
        assert [case.name for case in find_cases(tmp_path)] == ["a"]

    def test_a_study_with_its_files_in_folders_below(self, tmp_path):
        Series(ramp()).write(tmp_path / "study" / "DICOM" / "A")
        assert [case.name for case in find_cases(tmp_path / "study")] == ["study"]
