"""Which scans an input names, and what their masks are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from gfscreen.errors import UsageError
from gfscreen.scan.volume import InputCase, find_cases
from gfscreen.scan.volume.inputs import case_name


def folder_with(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).write_bytes(b"x")
    return folder


def dicom_file(path: Path) -> None:
    path.write_bytes(bytes(128) + b"DICM" + bytes(8))


class TestNames:
    @pytest.mark.parametrize(
        ("file", "mask"),
        [
            ("FLARE_0001_0000.nii.gz", "FLARE_0001.nii.gz"),
            ("scan.nii", "scan.nii.gz"),
            ("scan_0000.mha", "scan.nii.gz"),
            ("scan.nrrd", "scan.nii.gz"),
            ("a_0000_0000.nii.gz", "a_0000.nii.gz"),  # only the channel is cut
            ("a_0001.nii.gz", "a_0001.nii.gz"),  # a case number, not the first channel
            ("_0000.nii.gz", "_0000.nii.gz"),  # nothing would be left
            ("UPPER_0000.NII.GZ", "UPPER.nii.gz"),
            ("with space.v1.2_0000.nii.gz", "with space.v1.2.nii.gz"),
            ("ärztin_0000.nii.gz", "ärztin.nii.gz"),
        ],
    )
    def test_mask_of_a_file(self, file, mask):
        assert InputCase(case_name(Path(file)), Path(file)).mask_name == mask


class TestFolders:
    def test_scans_of_all_kinds_sorted_by_name(self, tmp_path):
        folder_with(tmp_path, "c_0000.nii.gz", "a.nii", "d.mha", "b.nrrd", "E_0000.NII.GZ")
        assert [case.name for case in find_cases(tmp_path)] == ["E", "a", "b", "c", "d"]

    def test_other_and_hidden_files_are_left_out(self, tmp_path):
        folder_with(tmp_path, "a.nii.gz", ".b.nii.gz", "._a.nii.gz", "notes.txt", "a.json", "a.nii.gz.part")
        (tmp_path / "sub").mkdir()
        assert [case.name for case in find_cases(tmp_path)] == ["a"]

    def test_two_scans_that_would_share_a_mask(self, tmp_path):
        folder_with(tmp_path, "a.nii", "a.nii.gz", "b.nii.gz")
        first, second, other = find_cases(tmp_path)
        assert first.problem is None
        assert other.problem is None
        assert second.problem is not None
        assert second.problem.startswith("a.nii.gz: its mask would be named a.nii.gz, as that of a.nii")

    def test_beside_its_scan_a_mask_is_no_scan(self, tmp_path, caplog):
        folder_with(
            tmp_path, "a.nii.gz", "a_0000.nii.gz", "b.nii", "b_0000.mha", "c.nii.gz", "d_0001.nii.gz", "d.nii.gz"
        )
        cases = find_cases(tmp_path)
        assert [case.path.name for case in cases] == [
            "a_0000.nii.gz", "b_0000.mha", "c.nii.gz", "d.nii.gz", "d_0001.nii.gz",
        ]  # fmt: skip
        assert not any(case.problem for case in cases)
        (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said.startswith("2 without _0000 beside a scan of that name")
        assert "(a.nii.gz, b.nii)" in said

    def test_folders_and_zips_beside_scans_are_left_out_with_a_warning(self, tmp_path, caplog):
        folder_with(tmp_path, "a.nii.gz", "b.zip", "notes.txt")
        (tmp_path / "study").mkdir()
        assert [case.name for case in find_cases(tmp_path)] == ["a"]
        (said,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
        assert said.startswith("2 folders and zips beside scans are left out (b.zip, study)")

    def test_where_the_run_writes_is_no_input(self, tmp_path, caplog):
        folder_with(tmp_path, "a.nii.gz")
        (tmp_path / "masks").mkdir()
        find_cases(tmp_path, [tmp_path / "sub" / ".." / "masks"])
        assert "beside scans" not in caplog.text

    def test_a_folder_named_like_a_scan_is_a_case_that_will_fail(self, tmp_path):
        (tmp_path / "a.nii.gz").mkdir()
        assert [case.name for case in find_cases(tmp_path)] == ["a"]

    def test_a_link_to_nothing_is_a_case_that_will_fail(self, tmp_path):
        (tmp_path / "a.nii.gz").symlink_to(tmp_path / "gone")
        assert [case.name for case in find_cases(tmp_path)] == ["a"]

    def test_dicom_folder_is_one_case_named_after_the_folder(self, tmp_path):
        series = tmp_path / "patient 7"
        series.mkdir()
        dicom_file(series / "IM0001")
        (case,) = find_cases(series)
        assert (case.name, case.path) == ("patient 7", series)

    def test_volumes_win_over_dicom_files_beside_them(self, tmp_path):
        dicom_file(tmp_path / "IM0001")
        folder_with(tmp_path, "a.nii.gz")
        assert [case.name for case in find_cases(tmp_path)] == ["a"]

    def test_one_file(self, tmp_path):
        folder_with(tmp_path, "a_0000.nii.gz", "b.nii.gz")
        assert [case.name for case in find_cases(tmp_path / "a_0000.nii.gz")] == ["a"]


class TestNothingToScreen:
    def test_empty_folder(self, tmp_path):
        with pytest.raises(UsageError, match=r"expected scans .* found nothing"):
            find_cases(tmp_path)

    def test_folder_without_scans(self, tmp_path):
        folder_with(tmp_path, "notes.txt", "more.txt")
        with pytest.raises(UsageError, match="found 2 other entries"):
            find_cases(tmp_path)

    def test_folder_with_a_link_to_nothing(self, tmp_path):
        (tmp_path / "slice").symlink_to(tmp_path / "gone")
        with pytest.raises(UsageError, match="slice cannot be read"):
            find_cases(tmp_path)

    def test_no_such_path(self, tmp_path):
        with pytest.raises(UsageError, match="no such file or folder"):
            find_cases(tmp_path / "gone")

    @pytest.mark.parametrize("name", ["IM0001", "IM0001.DCM"])
    def test_one_slice(self, tmp_path, name):
        (tmp_path / "ct").mkdir()
        dicom_file(tmp_path / "ct" / name)
        with pytest.raises(UsageError, match=rf"{name}: is one DICOM file, a slice .* give its folder: {tmp_path}/ct$"):
            find_cases(tmp_path / "ct" / name)

    def test_a_file_of_another_kind(self, tmp_path):
        folder_with(tmp_path, "a.png")
        with pytest.raises(UsageError, match=r"a.png: expected one of \.nii\.gz"):
            find_cases(tmp_path / "a.png")
