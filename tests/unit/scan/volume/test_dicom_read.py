"""DICOM series in: geometry by the standard's definition, and a clear line for what is no even, straight volume."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from pydicom.uid import JPEGLSLossless, RLELossless

from gfscreen.scan.volume import read_volume, write_mask
from tests.helpers.dicom_series import ENHANCED_CT, ORIENTATIONS, Series, ramp, write_dose_report
from tests.helpers.nifti_files import read_mask
from tests.helpers.refusals import error_of


class TestVoxelsAndFrame:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_by_the_definition_of_the_standard(self, tmp_path, orientation):
        series = Series(ramp(), orientation)
        volume = read_volume(series.write(tmp_path / "ct"))
        np.testing.assert_array_equal(volume.hu, ramp())
        assert volume.hu.flags.f_contiguous
        assert volume.hu.flags.owndata
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, series.affine_ras_mm, atol=1e-6)

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    def test_the_mask_lies_on_the_series_as_simpleitk_reads_it(self, tmp_path, orientation):
        folder = Series(ramp(), orientation).write(tmp_path / "ct")
        volume = read_volume(folder)
        mask = np.zeros(ramp().shape, np.uint8)
        mask[1, 2, 3] = 1
        write_mask(tmp_path / "m.nii.gz", mask, volume.geometry)
        np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz"), mask)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        image, written = reader.Execute(), sitk.ReadImage(str(tmp_path / "m.nii.gz"))
        where = written.TransformIndexToPhysicalPoint((1, 2, 3))
        assert image[image.TransformPhysicalPointToIndex(where)] == ramp()[1, 2, 3]

    def test_each_slice_is_rescaled_by_its_own_header(self, tmp_path):
        Series(ramp(), extra={"RescaleIntercept": -1000}).write(tmp_path / "ct")
        np.testing.assert_array_equal(read_volume(tmp_path / "ct").hu, ramp() + 24)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
    def test_compressed_slices(self, tmp_path, syntax):
        Series(ramp((16, 12, 4)), transfer_syntax=syntax).write(tmp_path / "ct")
        np.testing.assert_array_equal(read_volume(tmp_path / "ct").hu, ramp((16, 12, 4)))

    def test_files_in_folders_below_and_files_of_other_kinds(self, tmp_path):
        Series(ramp()).write(tmp_path / "study" / "a" / "b")
        (tmp_path / "study" / "notes.txt").write_text("x" * 200)
        (tmp_path / "study" / "empty.txt").touch()
        np.testing.assert_array_equal(read_volume(tmp_path / "study").hu, ramp())

    def test_the_same_files_twice(self, tmp_path):
        Series(ramp()).write(tmp_path / "study" / "a")
        Series(ramp()).write(tmp_path / "study" / "copy")
        np.testing.assert_array_equal(read_volume(tmp_path / "study").hu, ramp())

    def test_one_slice_takes_its_thickness(self, tmp_path):
        Series(ramp((4, 3, 1)), slice_mm=2.5).write(tmp_path / "ct")
        volume = read_volume(tmp_path / "ct")
        np.testing.assert_array_equal(volume.hu, ramp((4, 3, 1)))
        assert volume.geometry.spacing_mm == pytest.approx((0.5, 0.75, 2.5))


class TestNoEvenStraightVolume:
    def test_gantry_tilt_which_simpleitk_hides(self, tmp_path):
        """Slices 2.5 mm apart that shift by 0.7 mm: atan(0.7/2.5) = 15.6 degrees; 7 steps of 0.7 mm are 4.9 mm."""
        folder = Series(ramp(), tilt_mm=0.7).write(tmp_path / "ct")
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
        np.testing.assert_allclose(reader.Execute().GetDirection(), np.eye(3).ravel(), atol=1e-6)
        assert "gantry tilt of 15.6 degrees, the slices shift by 4.9 mm in all" in error_of(folder)

    def test_a_drift_below_half_a_pixel_is_rounding(self, tmp_path):
        # 7 steps of 0.03 mm are 0.21 mm; half a pixel is 0.25 mm.
        read_volume(Series(ramp(), tilt_mm=0.03).write(tmp_path / "ct"))

    def test_slices_shifted_at_random(self, tmp_path):
        folder = Series(ramp()).write(tmp_path / "ct")
        Series(ramp(), left_out=[k for k in range(8) if k != 4], origin_lps_mm=(-110.0, -110.0, 35.25)).write(folder)
        assert "shifted sideways by up to 10.0 mm" in error_of(folder)

    def test_a_missing_slice(self, tmp_path):
        message = error_of(Series(ramp(), left_out=(3, 4)).write(tmp_path / "ct"))
        assert "missing slices (2), a gap of 7.50 mm where 2.50 mm are usual" in message

    def test_uneven_spacing(self, tmp_path):
        positions = [0.0, 2.5, 5.0, 7.5, 11.0, 14.5, 18.0, 21.5]
        message = error_of(Series(ramp(), positions_mm=positions).write(tmp_path / "ct"))
        assert "expected evenly spaced slices, gaps run from 2.50 to 3.50 mm" in message

    def test_positions_rounded_to_a_tenth_are_even(self, tmp_path):
        """0.625 mm apart, stored with one decimal: gaps of 0.6 and 0.7 mm. The spacing is that of the whole stack."""
        positions = [round(k * 0.625, 1) for k in range(9)]
        volume = read_volume(Series(ramp((6, 5, 9)), positions_mm=positions).write(tmp_path / "ct"))
        assert volume.geometry.spacing_mm[2] == pytest.approx(0.625)

    def test_two_slices_at_one_position(self, tmp_path):
        message = error_of(Series(ramp((6, 5, 3)), positions_mm=[0.0, 2.5, 2.5]).write(tmp_path / "ct"))
        assert "expected one slice per position" in message

    def test_two_sizes_in_one_series(self, tmp_path):
        folder = Series(ramp((6, 5, 2))).write(tmp_path / "ct")
        Series(ramp((4, 5, 4)), left_out=(0, 1)).write(folder)
        assert "expected slices of one size" in error_of(folder)

    def test_two_orientations_in_one_series(self, tmp_path):
        folder = Series(ramp((6, 5, 2))).write(tmp_path / "ct")
        Series(ramp((6, 5, 4)), "sagittal", left_out=(0, 1)).write(folder)
        assert "expected slices of one orientation" in error_of(folder)

    @pytest.mark.parametrize("kept", [400, -40])
    def test_a_damaged_slice(self, tmp_path, kept):
        folder = Series(ramp()).write(tmp_path / "ct")
        path = sorted(folder.iterdir())[2]
        path.write_bytes(path.read_bytes()[:kept])
        message = error_of(folder)
        assert path.name in message
        assert "damaged CT slice" in message

    def test_a_slice_that_is_a_link_to_nothing(self, tmp_path):
        """Of the last slice its absence would not show in the spacing."""
        folder = Series(ramp()).write(tmp_path / "ct")
        (folder / "1_999").symlink_to(tmp_path / "gone")
        assert "1_999 cannot be read (No such file or directory); check permissions and links" in error_of(folder)

    def test_multi_frame_ct(self, tmp_path):
        folder = Series(ramp((4, 3, 1)), sop_class=ENHANCED_CT).write(tmp_path / "ct")
        assert "multi-frame CT, which is not read; convert it to NIfTI" in error_of(folder)

    def test_no_image_at_all(self, tmp_path):
        write_dose_report(tmp_path / "ct")
        assert "expected a CT series, found none that can be screened (no images)" in error_of(tmp_path / "ct")
