"""Masks as DICOM SEG, read back by dcmqi (DCMTK) and by the definition of the frames: the same voxels."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray

from gfscreen.errors import InputError, UsageError
from gfscreen.scan.volume import read_volume, write_mask
from gfscreen.scan.volume.dicom.seg import read_mask_for_seg, write_seg
from gfscreen.scan.volume.geometry import Geometry
from tests.helpers.dicom_series import ORIENTATIONS, Series, ramp

SHAPE = (6, 5, 8)


def blob(shape: tuple[int, ...] = SHAPE, seed: int = 0) -> NDArray[np.uint8]:
    """Voxels at random in some of the slices: no symmetry hides a flip."""
    mask = (np.random.default_rng(seed).random(shape) < 0.4).astype(np.uint8)
    mask[:, :, [0, 3]] = 0
    return mask


def frames_in_patient(path: Path) -> tuple[Any, dict[tuple[float, ...], int]]:
    """Position (LPS, 0.01 mm) -> value of every voxel, from each frame's own position and the pixel module alone."""
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    between_rows, between_columns = (float(v) for v in shared.PixelMeasuresSequence[0].PixelSpacing)
    orientation = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    pixels = seg.pixel_array.reshape(seg.NumberOfFrames, seg.Rows, seg.Columns)
    values = {}
    for frame, functional in zip(pixels, seg.PerFrameFunctionalGroupsSequence, strict=True):
        corner = np.array(functional.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.ndindex(frame.shape):
            place = corner + orientation[:3] * between_columns * column + orientation[3:] * between_rows * row
            values[tuple(np.round(place, 2) + 0.0)] = int(frame[row, column])
    return seg, values


def in_patient(mask: NDArray[np.uint8], series: Series, decimals: int = 2) -> set[tuple[float, ...]]:
    """Where the lesion voxels of a mask (i, j, k) lie, LPS, by the series' own definition."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ series.affine_ras_mm
    return {tuple(np.round(lps[:3, :3] @ index + lps[:3, 3], decimals) + 0.0) for index in np.argwhere(mask)}


def voxels_by_dcmqi(path: Path, decimals: int = 2, segment: int = 1) -> set[tuple[float, ...]]:
    """Where the voxels of a segment of a SEG lie, LPS, as DCMTK reads it."""
    back = path.parent / "back"
    back.mkdir(exist_ok=True)
    # dcmqi's programs lie beside the interpreter, which need not be on PATH.
    program = Path(sys.executable).with_name("segimage2itkimage")
    command = [program, "--inputDICOM", path, "--outputDirectory", back, "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    image = sitk.ReadImage(str(back / f"{segment}.nrrd"))
    return {
        tuple(np.round(image.TransformIndexToPhysicalPoint([int(n) for n in index]), decimals) + 0.0)
        for index in np.argwhere(sitk.GetArrayFromImage(image).transpose(2, 1, 0))
    }


@pytest.mark.parametrize("orientation", ORIENTATIONS)
class TestRoundTrip:
    def test_by_hand(self, tmp_path, orientation):
        series = Series(ramp(), orientation)
        folder = series.write(tmp_path / "ct")
        write_seg(tmp_path / "a.seg.dcm", blob(), read_volume(folder).geometry, folder)
        _, values = frames_in_patient(tmp_path / "a.seg.dcm")
        assert {place for place, value in values.items() if value} == in_patient(blob(), series)

    def test_by_dcmqi(self, tmp_path, orientation):
        """DICOM -> mask -> SEG -> mask, where the way back is DCMTK's and not highdicom's."""
        series = Series(ramp(), orientation)
        folder = series.write(tmp_path / "ct")
        volume = read_volume(folder)
        write_mask(tmp_path / "a.nii.gz", blob(), volume.geometry)
        mask, geometry = read_mask_for_seg(tmp_path / "a.nii.gz")
        write_seg(tmp_path / "a.seg.dcm", mask, geometry, folder)
        assert voxels_by_dcmqi(tmp_path / "a.seg.dcm") == in_patient(blob(), series)


@pytest.mark.shared
def test_a_real_scan_and_its_label(tmp_path, shared_dir):
    """As a hospital would have it: the scan as DICOM, its lesion as SEG, and both as they were."""
    scan, label = (
        sitk.DICOMOrient(sitk.ReadImage(str(shared_dir / "data" / folder / name)), "LPS")
        for folder, name in (("images", "IBSI_pat_3_0000.nii.gz"), ("labels", "IBSI_pat_3.nii.gz"))
    )
    hu, mask = (sitk.GetArrayFromImage(image).transpose(2, 1, 0) for image in (scan, label))
    width, height, depth = scan.GetSpacing()
    series = Series(hu, pixel_mm=(height, width), slice_mm=depth, origin_lps_mm=scan.GetOrigin())
    folder = series.write(tmp_path / "ct")
    volume = read_volume(folder)
    np.testing.assert_array_equal(volume.hu, hu)
    write_seg(tmp_path / "a.seg.dcm", mask.astype(np.uint8), volume.geometry, folder)
    voxels = voxels_by_dcmqi(tmp_path / "a.seg.dcm", decimals=1)
    assert len(voxels) == mask.sum() > 0
    assert voxels == in_patient(mask, series, decimals=1)


class TestContent:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return Series(ramp(), number=3).write(tmp_path / "ct")

    def test_who_what_and_of_which_series(self, tmp_path, folder):
        write_seg(tmp_path / "a.seg.dcm", blob(), read_volume(folder).geometry, folder, weights_digest="ab" * 32)
        seg, _ = frames_in_patient(tmp_path / "a.seg.dcm")
        assert (seg.Modality, seg.SegmentationType, seg.SeriesNumber) == ("SEG", "BINARY", 1003)
        assert (seg.PatientID, seg.StudyInstanceUID) == ("P1", "1.2.826.0.1.3680043.2.1125.1")
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == Series(ramp(), number=3).uid
        (segment,) = seg.SegmentSequence
        assert (segment.SegmentLabel, segment.SegmentAlgorithmType) == ("Lesion 1", "AUTOMATIC")
        assert segment.SegmentedPropertyTypeCodeSequence[0].CodeMeaning == "Lesion"
        assert "ab" * 32 in segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
        # 8 slices, two of them without lesion.
        assert seg.NumberOfFrames == 6

    def test_an_empty_mask_has_all_frames(self, tmp_path, folder):
        write_seg(tmp_path / "a.seg.dcm", np.zeros(SHAPE, np.uint8), read_volume(folder).geometry, folder)
        seg, values = frames_in_patient(tmp_path / "a.seg.dcm")
        assert seg.NumberOfFrames == 8
        assert not any(values.values())

    def test_a_segment_per_lesion(self, tmp_path, folder):
        mask = np.zeros(SHAPE, np.uint8)
        mask[1:3, 1:3, 1:4], mask[5, 4, 3:6], mask[0, 4, 7] = 1, 2, 3
        write_seg(tmp_path / "a.seg.dcm", mask, read_volume(folder).geometry, folder)
        seg = pydicom.dcmread(tmp_path / "a.seg.dcm")
        assert [segment.SegmentLabel for segment in seg.SegmentSequence] == ["Lesion 1", "Lesion 2", "Lesion 3"]
        assert seg.NumberOfFrames == 3 + 3 + 1
        for number in (1, 2, 3):
            lesion = (mask == number).astype(np.uint8)
            assert voxels_by_dcmqi(tmp_path / "a.seg.dcm", segment=number) == in_patient(
                lesion, Series(ramp(), number=3)
            )

    def test_of_a_zip(self, tmp_path, folder):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            for path in folder.iterdir():
                archive.write(path, path.name)
        write_seg(tmp_path / "a.seg.dcm", blob(), read_volume(folder).geometry, tmp_path / "a.zip")
        _, values = frames_in_patient(tmp_path / "a.seg.dcm")
        assert {p for p, v in values.items() if v} == in_patient(blob(), Series(ramp(), number=3))

    @pytest.mark.parametrize("code", ["RAS", "LPI", "SAL", "ASR"])
    def test_a_mask_whose_axes_another_tool_has_turned(self, tmp_path, folder, code):
        write_mask(tmp_path / "m.nii.gz", blob(), read_volume(folder).geometry)
        turned = sitk.DICOMOrient(sitk.ReadImage(str(tmp_path / "m.nii.gz")), code)
        sitk.WriteImage(turned, str(tmp_path / "turned.nii.gz"))
        mask, geometry = read_mask_for_seg(tmp_path / "turned.nii.gz")
        write_seg(tmp_path / "a.seg.dcm", mask, geometry, folder)
        _, values = frames_in_patient(tmp_path / "a.seg.dcm")
        assert {p for p, v in values.items() if v} == in_patient(blob(), Series(ramp(), number=3))


class TestRefused:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return Series(ramp()).write(tmp_path / "ct")

    @pytest.mark.parametrize("change", ["shape", "shift", "spacing", "turn"])
    def test_a_mask_on_another_grid(self, tmp_path, folder, change):
        geometry = read_volume(folder).geometry
        affine, mask = geometry.affine_ras_mm.copy(), blob()
        if change == "shape":
            mask = mask[:, :, :-1]
        elif change == "shift":
            affine[0, 3] += 0.25
        elif change == "spacing":
            affine[:3, 0] *= 1.1
        else:
            c, s = np.cos(0.3), np.sin(0.3)
            affine[:2] = np.array([[c, -s], [s, c]]) @ affine[:2]
        with pytest.raises(InputError, match="ct: expected a mask on the grid of the series"):
            write_seg(tmp_path / "a.seg.dcm", mask, Geometry((*mask.shape,), affine), folder)
        assert not (tmp_path / "a.seg.dcm").exists()

    def test_labels_beyond_one(self, tmp_path, folder):
        write_mask(tmp_path / "m.nii.gz", blob() * np.uint8(2), read_volume(folder).geometry)
        with pytest.raises(InputError, match=r"expected a mask of 0 and 1, got values 0\.\.2"):
            read_mask_for_seg(tmp_path / "m.nii.gz")

    def test_without_highdicom(self, tmp_path, folder, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        with pytest.raises(UsageError, match=r"pip install 'gfscreen\[dicom\]'"):
            write_seg(tmp_path / "a.seg.dcm", blob(), Geometry(SHAPE, np.eye(4)), folder)
