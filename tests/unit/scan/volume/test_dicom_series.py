"""Which series of a study is screened: the rule, `--series`, and what is left out with its reason."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import InputError
from gfscreen.scan.volume import read_volume
from tests.helpers.dicom_series import SECONDARY_CAPTURE, Series, ramp, write_no_image


def number_of(study: Path, wanted: str | None = None) -> int:
    """Number of the series that was read: each series of `study` is filled with its own number."""
    return int(read_volume(study, wanted).hu[0, 0, 0])


def filled(number: int, slices: int = 8, **options: object) -> Series:
    return Series(np.full((6, 5, slices), number, np.int16), number=number, **options)  # type: ignore[arg-type]


def study_of(folder: Path, *series: Series) -> Path:
    for one in series:
        one.write(folder)
    return folder


class TestRule:
    def test_axial_before_a_longer_sagittal(self, tmp_path):
        assert number_of(study_of(tmp_path, filled(1, 40, orientation="sagittal"), filled(2))) == 2

    def test_original_before_a_longer_derived(self, tmp_path):
        # 39 x 2.5 = 97.5 mm against 19 x 2.5 = 47.5 mm is less than half, 20 x 2.5 = 50 mm is not.
        derived = filled(1, 40, image_type=("DERIVED", "SECONDARY", "AXIAL"))
        assert number_of(study_of(tmp_path / "half", derived, filled(2, 21))) == 2
        assert number_of(study_of(tmp_path / "less", derived, filled(2, 20))) == 1

    def test_the_longest_before_the_most_slices(self, tmp_path):
        # 19 x 1 mm against 11 x 5 mm.
        assert number_of(study_of(tmp_path, filled(1, 20, slice_mm=1.0), filled(2, 12, slice_mm=5.0))) == 2

    def test_of_equal_length_the_most_slices(self, tmp_path):
        # 12 x 5 = 60 mm against 60 x 1.02 = 61.2 mm: the same step of 10 mm.
        assert number_of(study_of(tmp_path, filled(1, 13, slice_mm=5.0), filled(2, 61, slice_mm=1.02))) == 2

    def test_then_the_lowest_number(self, tmp_path):
        assert number_of(study_of(tmp_path, filled(12), filled(3), filled(7))) == 3

    def test_without_an_axial_one_the_others_with_a_warning(self, tmp_path):
        volume = read_volume(study_of(tmp_path, filled(4, orientation="coronal")))
        assert any("no axial series was found" in warning for warning in volume.warnings)

    def test_the_choice_and_its_rule_are_in_the_report_and_the_others_in_the_log(self, tmp_path, caplog):
        study = study_of(tmp_path, filled(2), filled(3, 40))
        with caplog.at_level(logging.INFO, "gfscreen"):
            volume = read_volume(study)
        (line,) = [warning for warning in volume.warnings if "took" in warning]
        assert line.startswith("took series 3 'Abdomen 2.5': axial, 40 slices, 98 mm, original, UID 1.2.826")
        assert "of 2 CT series (rule: those that make a volume; axial before other planes" in line
        assert "series 2 'Abdomen 2.5': axial, 8 slices, 18 mm, original: left out, another series" in caplog.text

    def test_a_single_series_needs_no_word(self, tmp_path):
        assert not any("took" in warning for warning in read_volume(study_of(tmp_path, filled(1))).warnings)


class TestLeftOut:
    @pytest.mark.parametrize(
        ("series", "reason"),
        [
            (filled(1, 90, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")), "localizer"),
            (filled(1, 90, image_type=("DERIVED", "SECONDARY", "AXIAL", "MIP")), "projection (MIP)"),
            (filled(1, 90, modality="MR"), "modality MR, not CT"),
            (filled(1, 90, sop_class=SECONDARY_CAPTURE), "secondary capture"),
            (filled(1, 90, sop_class="1.2.840.10008.5.1.4.1.1.128"), "no CT image"),
        ],
        ids=["localizer", "projection", "MR", "secondary capture", "PET"],
    )
    def test_with_a_reason(self, tmp_path, caplog, series, reason):
        study = study_of(tmp_path, series, filled(2))
        with caplog.at_level(logging.INFO, "gfscreen"):
            assert number_of(study) == 2
        assert f"left out, {reason}" in caplog.text
        with pytest.raises(InputError, match="--series 1 cannot be screened"):
            read_volume(study, "1")

    @pytest.mark.parametrize(
        ("sop_class", "reason"),
        [
            ("1.2.840.10008.5.1.4.1.1.88.67", "dose report"),
            ("1.2.840.10008.5.1.4.1.1.88.33", "structured report"),
            ("1.2.840.10008.5.1.4.1.1.11.1", "presentation state"),
            ("1.2.840.10008.5.1.4.1.1.66.4", "segmentation or raw data"),
            ("1.2.840.10008.5.1.4.1.1.481.3", "radiotherapy object"),
            ("1.2.840.10008.5.1.4.1.1.104.1", "document"),
            ("1.2.840.10008.1.3.10", "DICOMDIR"),
            ("1.2.840.10008.5.1.4.1.1.999", "no image (SOP class 1.2.840.10008.5.1.4.1.1.999)"),
        ],
    )
    def test_objects_without_pixels(self, tmp_path, caplog, sop_class, reason):
        study = study_of(tmp_path, filled(2))
        write_no_image(study, sop_class, "other")
        with caplog.at_level(logging.INFO, "gfscreen"):
            assert number_of(study) == 2
        assert f"left out, {reason}: other\n" in caplog.text

    def test_a_localizer_within_the_series_of_the_slices(self, tmp_path):
        Series(
            ramp((9, 9, 1)),
            "coronal",
            image_type=("ORIGINAL", "PRIMARY", "LOCALIZER"),
            extra={"SOPInstanceUID": "1.2.3.4"},
        ).write(tmp_path / "scout")
        Series(ramp()).write(tmp_path / "ct")
        np.testing.assert_array_equal(read_volume(tmp_path).hu, ramp())

    def test_nothing_else_there(self, tmp_path):
        study = study_of(tmp_path, filled(5, modality="PT"), filled(6, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")))
        with pytest.raises(InputError, match=r"found none .*series 5 .*modality PT, not CT; series 6 .*localizer"):
            read_volume(study)


class TestByName:
    def test_number_and_uid(self, tmp_path):
        study = study_of(tmp_path, filled(2), filled(3, 40))
        assert number_of(study, "2") == 2
        assert number_of(study, filled(2).uid) == 2

    def test_not_there(self, tmp_path):
        with pytest.raises(InputError, match="--series 9 is not there; found 2, 3"):
            read_volume(study_of(tmp_path, filled(2), filled(3)), "9")

    def test_two_of_one_number(self, tmp_path):
        study = study_of(tmp_path, filled(2))
        filled(2, study="1.5").write(study / "other")
        with pytest.raises(InputError, match="--series 2 names 2 series; give one UID of"):
            read_volume(study, "2")

    def test_two_studies_are_not_guessed_between(self, tmp_path):
        study = study_of(tmp_path, filled(2), filled(3, study="2"))
        with pytest.raises(InputError, match="expected one study, found CT of 2"):
            read_volume(study)
        assert number_of(study, "3") == 3

    def test_only_within_dicom(self, tmp_path):
        (tmp_path / "a.nii.gz").write_bytes(b"x")
        with pytest.raises(InputError, match=r"a\.nii\.gz: --series chooses within a DICOM folder"):
            read_volume(tmp_path / "a.nii.gz", "1")
