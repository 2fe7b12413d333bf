"""A folder of DICOM: one study in subfolders, or a cohort of studies, one case each."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from gfscreen.errors import UsageError
from gfscreen.scan.volume import find_cases
from gfscreen.scan.volume.dicom.cohort import study_of
from tests.helpers.dicom_series import Series, ramp


def study(folder: Path, uid: str, number: int = 1) -> Path:
    return Series(ramp(), study=uid, number=number).write(folder)


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    study(tmp_path / "in" / "ben", "2")
    study(tmp_path / "in" / "anna" / "CT" / "A", "1")
    return tmp_path / "in"


def names(folder: Path, *results: Path) -> list[str]:
    return [case.name for case in find_cases(folder, results)]


class TestCohort:
    def test_each_subfolder_and_zip_is_a_case(self, cohort):
        (cohort / "carl.zip").touch()
        (cohort / "notes.txt").write_text("about these")
        (cohort / ".hidden").mkdir()
        assert names(cohort) == ["anna", "ben", "carl"]

    def test_one_subfolder_and_a_zip(self, tmp_path):
        study(tmp_path / "anna", "1")
        (tmp_path / "ben.zip").touch()
        assert names(tmp_path) == ["anna", "ben"]

    def test_what_cannot_be_screened_is_a_case_that_will_fail(self, cohort):
        (cohort / "empty").mkdir()
        (cohort / "text").mkdir()
        (cohort / "text" / "a.dcm").write_text("no DICOM")
        assert names(cohort) == ["anna", "ben", "empty", "text"]

    def test_where_the_run_writes_is_no_case(self, cohort):
        (cohort / "masks").mkdir()
        assert names(cohort, cohort / "masks") == ["anna", "ben"]
        assert names(cohort) == ["anna", "ben", "masks"]

    def test_a_subfolder_and_a_zip_of_one_name(self, cohort):
        (cohort / "ben.zip").touch()
        problems = {case.path.name: case.problem for case in find_cases(cohort)}
        assert problems["ben"] is None
        assert problems["ben.zip"].startswith("ben.zip: its mask would be named ben.nii.gz, as that of ben")

    def test_links_to_studies(self, cohort, tmp_path):
        (tmp_path / "links").mkdir()
        for name in ("anna", "ben"):
            (tmp_path / "links" / f"to {name}").symlink_to(cohort / name)
        assert names(tmp_path / "links") == ["to anna", "to ben"]

    def test_the_same_study_twice_is_said(self, cohort, caplog):
        shutil.copytree(cohort / "ben", cohort / "ben again")
        assert names(cohort) == ["anna", "ben", "ben again"]
        assert "ben, ben again hold the same study" in caplog.text

    def test_a_dicomdir_is_no_loose_slice(self, cohort):
        shutil.copy(next((cohort / "ben").iterdir()), cohort / "DICOMDIR")
        assert names(cohort) == ["anna", "ben"]


class TestOneStudy:
    def test_its_series_in_subfolders(self, tmp_path):
        study(tmp_path / "in" / "2", "1", 2)
        study(tmp_path / "in" / "3", "1", 3)
        assert names(tmp_path / "in") == ["in"]

    def test_one_subfolder(self, tmp_path):
        study(tmp_path / "in" / "DICOM", "1")
        (tmp_path / "in" / "VIEWER").mkdir()
        assert names(tmp_path / "in") == ["in"]

    def test_loose_files_beside_subfolders(self, cohort):
        shutil.copy(next((cohort / "ben").iterdir()), cohort / "slice")
        assert names(cohort) == ["in"]


class TestOnlyZips:
    def test_a_folder_beside_them_is_left_out_with_a_warning(self, tmp_path, caplog):
        (tmp_path / "a.zip").touch()
        (tmp_path / "logs").mkdir()
        assert names(tmp_path) == ["a"]
        (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
        assert record.getMessage().startswith("logs is no study")


class TestVolumesWin:
    def test_over_dicom_folders(self, cohort, caplog):
        (cohort / "x_0000.nii.gz").touch()
        assert names(cohort) == ["x"]
        assert "2 folders and zips beside scans are left out (anna, ben)" in caplog.text


class TestStudyOf:
    def test_files_that_name_none_are_passed_over(self, tmp_path):
        study(tmp_path, "7")
        (tmp_path / "0 text").write_text("first")
        (tmp_path / "0 damaged").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
        assert str(study_of(tmp_path)).endswith(".7")

    def test_a_loop_of_links(self, tmp_path):
        (tmp_path / "a").symlink_to(tmp_path / "a")
        assert study_of(tmp_path) is None
        with pytest.raises(UsageError):
            find_cases(tmp_path)

    @pytest.mark.skipif(os.geteuid() == 0, reason="permissions do not stop root")
    def test_a_folder_that_cannot_be_read(self, cohort):
        (cohort / "ben").chmod(0)
        try:
            assert study_of(cohort / "ben") is None
        finally:
            (cohort / "ben").chmod(0o700)
