"""Scans that others read otherwise: docs/reference/pitfalls.md, "Reading scans".

Each test shows the library's habit first and ours beside it. If a habit goes, its row in the page is to go with it.
"""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name

from gfscreen.scan.volume import read_volume, write_mask
from gfscreen.scan.volume.dicom.seg import read_mask_for_seg, write_seg
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.nifti_files import header_of, write_nifti
from tests.helpers.scans import paint

SHAPE = (12, 10, 8)
pytestmark = pytest.mark.filterwarnings("ignore")


def by_itk(folder):
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    return sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)


def by_highdicom(folder):
    highdicom = pytest.importorskip("highdicom")
    return highdicom.get_volume_from_series([pydicom.dcmread(path) for path in folder.iterdir()])


class TestMonochrome1:
    @pytest.fixture
    def folder(self, tmp_path):
        def change(_, data):
            data.PhotometricInterpretation = "MONOCHROME1"

        return Series(ramp(SHAPE), change=change).write(tmp_path / "ct")

    def test_ours_are_the_hu_that_were_written(self, folder):
        np.testing.assert_array_equal(read_volume(folder).hu, ramp(SHAPE))

    def test_pydicom_has_them_too(self, folder):
        # pydicom 3.0.2, pixels/processing.py: apply_rescale leaves the photometric interpretation alone.
        slices = sorted((pydicom.dcmread(path) for path in folder.iterdir()), key=lambda s: s.ImagePositionPatient[2])
        hu = np.stack([pydicom.pixels.apply_rescale(s.pixel_array, s).T for s in slices], axis=2)
        np.testing.assert_array_equal(hu, ramp(SHAPE))

    def test_simpleitk_inverts_them(self, folder):
        # SimpleITK 2.5.7: GDCMImageIO hands out 2**16 - 1 - stored, rescaled: 63487 - HU.
        np.testing.assert_array_equal(by_itk(folder), 63487 - ramp(SHAPE).astype(np.int32))

    def test_highdicom_inverts_them(self, folder):
        # highdicom 0.28.2, image.py: apply_presentation_lut=True is the default, and inverts behind the rescale.
        hu = by_highdicom(folder).array.transpose(2, 1, 0)[:, :, ::-1]
        assert (hu != ramp(SHAPE)).all()
        assert (np.diff(hu[:, 0, 0]) < 0).all()


class TestOrderOfSlices:
    """One series, two arrays: who sends a mask from one to the other by its index alone turns it upside down."""

    def test_ours_begins_at_the_bottom_and_highdicoms_at_the_top(self, tmp_path):
        # highdicom 0.28.2, volume.py: slices go against the normal of rows x columns.
        folder = Series(ramp(SHAPE)).write(tmp_path / "ct")
        ours, theirs = read_volume(folder), by_highdicom(folder)
        np.testing.assert_array_equal(ours.hu, ramp(SHAPE))
        np.testing.assert_array_equal(theirs.array.transpose(2, 1, 0), ramp(SHAPE)[:, :, ::-1])
        assert ours.geometry.affine_ras_mm[2, 2] > 0 > theirs.affine[2, 0]
        # Both say where they are: the same voxel lies at the same place.
        assert theirs.affine[2, 3] == pytest.approx(ours.geometry.affine_ras_mm[2, 3] + 7 * 2.5)

    @pytest.mark.parametrize("upside_down", [False, True])
    def test_a_mask_in_either_order_is_written_where_its_affine_says(self, tmp_path, upside_down):
        folder = Series(ramp(SHAPE)).write(tmp_path / "ct")
        geometry = read_volume(folder).geometry
        mask = np.zeros(SHAPE, np.uint8)
        mask[2:5, 3:6, 1] = 1
        affine = geometry.affine_ras_mm.copy()
        stored = mask
        if upside_down:
            affine[:3, 3] += 7 * affine[:3, 2]
            affine[:3, 2] *= -1
            stored = mask[:, :, ::-1]
        nib.save(nib.Nifti1Image(stored, affine), tmp_path / "mask.nii.gz")
        write_seg(tmp_path / "a.seg.dcm", *read_mask_for_seg(tmp_path / "mask.nii.gz"), folder)
        seg = pydicom.dcmread(tmp_path / "a.seg.dcm")
        (frame,) = seg.PerFrameFunctionalGroupsSequence
        assert frame.PlanePositionSequence[0].ImagePositionPatient[2] == pytest.approx(35.25 + 2.5)
        np.testing.assert_array_equal(seg.pixel_array.reshape(SHAPE[1], SHAPE[0]).T, mask[:, :, 1])


@pytest.mark.parametrize("slope", [0.0, float("nan")])
def test_an_intercept_without_a_slope_does_not_count(tmp_path, slope):
    # SimpleITK 2.5.7: ITK's NiftiImageIO takes such a slope for 1 and still adds scl_inter. nifti1.h: where scl_slope
    # is 0 the data are not scaled; nibabel, FSL and we keep to that.
    path = write_nifti(tmp_path / "scan.nii", ramp(SHAPE), slope=slope, intercept=100.0)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T, ramp(SHAPE) + 100)
    np.testing.assert_array_equal(read_volume(path).hu, ramp(SHAPE))


class TestSheared:
    """A hundredth of a degree, as rounding or a registration leaves it."""

    @staticmethod
    def affine():
        affine = np.diag([1.0, 1.0, 3.0, 1.0])
        affine[1, 2] = 3.0 * np.tan(np.radians(0.01))
        return affine

    def test_simpleitk_refuses_the_sform(self, tmp_path):
        # SimpleITK 2.5.7 (ITK 5.4, itkNiftiImageIO.cxx): from 0.007 to 0.008 degrees on, by the axis.
        path = write_nifti(tmp_path / "scan.nii", ramp(SHAPE), sform=self.affine())
        with pytest.raises(RuntimeError, match="orthonormal"):
            sitk.ReadImage(str(path))
        np.testing.assert_allclose(read_volume(path).geometry.affine_ras_mm, self.affine(), atol=1e-6)

    def test_or_takes_the_qform_without_a_word(self, tmp_path):
        # The same version; here the qform lies 20 mm apart, and nothing tells which of both was taken.
        moved = np.diag([1.0, 1.0, 3.0, 1.0])
        moved[:3, 3] = 0.0, 0.0, 20.0
        path = write_nifti(tmp_path / "scan.nii", ramp(SHAPE), sform=self.affine(), qform=moved)
        assert sitk.ReadImage(str(path)).GetOrigin()[2] == pytest.approx(20.0)
        volume = read_volume(path)
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, self.affine(), atol=1e-6)
        write_mask(tmp_path / "mask.nii.gz", np.zeros(SHAPE, np.uint8), volume.geometry)
        for form in ("srow_x", "srow_y", "srow_z", "qoffset_z", "sform_code", "qform_code"):
            np.testing.assert_array_equal(header_of(tmp_path / "mask.nii.gz")[form], header_of(path)[form])


def test_a_seg_with_two_lesions_is_no_volume_to_simpleitk(tmp_path):
    """A SEG holds the slices that have a lesion, segment by segment. We write such files; how-to/dicom.md says so."""
    # SimpleITK 2.5.7: GDCMImageIO stacks the frames in the order of the file; its spacing along z is 1.
    folder = Series(ramp(SHAPE)).write(tmp_path / "ct")
    numbers = np.zeros(SHAPE, np.uint16)
    numbers[2:4, 2:4, 1] = 1
    numbers[6:8, 6:8, 5:7] = 2
    write_seg(tmp_path / "a.seg.dcm", numbers, read_volume(folder).geometry, folder)
    image = sitk.ReadImage(str(tmp_path / "a.seg.dcm"))
    assert image.GetSize()[2] == 3, "slices 1, 5 and 6 of eight, without the gap"
    assert image.GetSpacing()[2] != 2.5
    # Each frame says itself where it lies, which is what dcmqi, Slicer and OHIF go by.
    seg = pydicom.dcmread(tmp_path / "a.seg.dcm")
    positions_mm = [
        float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) for frame in seg.PerFrameFunctionalGroupsSequence
    ]
    assert sorted(positions_mm) == pytest.approx([35.25 + k * 2.5 for k in (1, 5, 6)])


@pytest.mark.parametrize("spacing_mm", [4.0, 5.0])
def test_one_voxel_without_a_number_does_not_empty_the_mask(run, spacing_mm):
    # nnU-Net 2.8.1, preprocessing/resampling: a spline through NaN is NaN for the whole volume where it resamples
    # (5 mm here, on a plan of 4), and NaN > 0.5 is no lesion: an empty mask, status ok.
    affine = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    shape = (36, 32, 30) if spacing_mm == 4.0 else (30, 26, 28)
    stored = paint(shape, affine)[0].astype(np.float32)
    stored[0, 0, 0] = np.nan
    write_nifti(run.inputs / "a_0000.nii.gz", stored, affine)
    case = run().only
    assert case["status"] == "ok"
    assert case["lesion_volume_ml"] > 1
    assert any("NaN" in warning for warning in case["warnings"])
