"""CT series and what lies beside them in an exported study, made with pydicom slice by slice."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless, JPEGLosslessSV1

ROOT = "1.2.826.0.1.3680043.2.1125."
CT, ENHANCED_CT, SECONDARY_CAPTURE, DOSE_REPORT = (
    "1.2.840.10008.5.1.4.1.1.2",
    "1.2.840.10008.5.1.4.1.1.2.1",
    "1.2.840.10008.5.1.4.1.1.7",
    "1.2.840.10008.5.1.4.1.1.88.67",
)
# Row direction, then column direction, LPS: how the rows and columns of a slice run in the patient.
ORIENTATIONS: dict[str, tuple[tuple[int, int, int], tuple[int, int, int]]] = {
    "axial, head first supine": ((1, 0, 0), (0, 1, 0)),
    "axial, feet first supine": ((-1, 0, 0), (0, 1, 0)),
    "axial, head first prone": ((-1, 0, 0), (0, -1, 0)),
    "sagittal": ((0, 1, 0), (0, 0, -1)),
    "coronal": ((1, 0, 0), (0, 0, -1)),
}


@dataclass
class Series:
    """A series to write: `hu` int16 (i, j, k) = (column, row, slice); slices advance along row x column direction."""

    hu: NDArray[np.int16]
    orientation: str = "axial, head first supine"
    number: int = 1
    study: str = "1"
    pixel_mm: tuple[float, float] = (0.75, 0.5)  # between rows, between columns
    slice_mm: float = 2.5
    origin_lps_mm: tuple[float, float, float] = (-120.0, -110.0, 35.25)
    image_type: Sequence[str] = ("ORIGINAL", "PRIMARY", "AXIAL")
    modality: str = "CT"
    sop_class: str = CT
    description: str = "Abdomen 2.5"
    left_out: Sequence[int] = ()
    # mm that each slice is moved beyond its neighbour within its own plane, along columns: a tilted gantry.
    tilt_mm: float = 0.0
    # Position along the normal per slice, mm; None for k x slice_mm.
    positions_mm: Sequence[float] | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)
    left_out_tags: Sequence[str] = ()
    # Compression of the pixels; None stores them plainly.
    transfer_syntax: str | None = None
    # Changes the data set of slice k, the last before it is compressed and written.
    change: Callable[[int, Dataset], None] | None = None

    @property
    def uid(self) -> str:
        return f"{ROOT}{self.study}.{self.number}"

    @property
    def affine_ras_mm(self) -> NDArray[np.float64]:
        """Voxel index -> RAS mm, from the definition of Image Position and Image Orientation (Patient)."""
        row, column = (np.array(v, float) for v in ORIENTATIONS[self.orientation])
        lps = np.eye(4)
        lps[:3, 0] = row * self.pixel_mm[1]
        lps[:3, 1] = column * self.pixel_mm[0]
        lps[:3, 2] = np.cross(row, column) * self.slice_mm
        lps[:3, 3] = self.origin_lps_mm
        return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps

    def write(self, folder: Path) -> Path:
        """One file per slice; names in no order of the slices."""
        folder.mkdir(parents=True, exist_ok=True)
        row, column = (np.array(v, float) for v in ORIENTATIONS[self.orientation])
        slices = self.hu.shape[2]
        for k in set(range(slices)) - set(self.left_out):
            along = self.positions_mm[k] if self.positions_mm is not None else k * self.slice_mm
            position = np.array(self.origin_lps_mm) + np.cross(row, column) * along + column * self.tilt_mm * k
            data = self._header(k)
            data.ImageOrientationPatient = [float(n) for n in (*row, *column)]
            data.ImagePositionPatient = [round(float(n), 6) for n in position]
            data.PixelSpacing = list(self.pixel_mm)
            data.SliceThickness = self.slice_mm
            stored = (self.hu[:, :, k].astype(np.int32) + 1024).astype(np.uint16).T
            data.Rows, data.Columns = stored.shape
            data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
            data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
            data.RescaleIntercept, data.RescaleSlope, data.RescaleType = -1024, 1, "HU"
            data.PixelData = np.ascontiguousarray(stored).tobytes()
            for key, value in self.extra.items():
                setattr(data, key, value)
            for key in self.left_out_tags:
                delattr(data, key)
            if self.change is not None:
                self.change(k, data)
            if self.transfer_syntax in _BY_GDCM:
                compress_by_gdcm(data, self.transfer_syntax)
            elif self.transfer_syntax is not None:
                data.compress(self.transfer_syntax, generate_instance_uid=False)
            # 7 and the number of slices have no common factor unless it is a multiple of 7.
            data.save_as(
                folder / f"{self.number}_{(k * 7) % slices if slices % 7 else k:03d}", enforce_file_format=True
            )
        return folder

    def _header(self, k: int) -> Dataset:
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.SOPClassUID, data.SOPInstanceUID = self.sop_class, f"{self.uid}.{k + 1}"
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
        data.PatientName, data.PatientID, data.PatientBirthDate, data.PatientSex = "Phantom^Digital", "P1", "", "O"
        data.StudyInstanceUID, data.SeriesInstanceUID = f"{ROOT}{self.study}", self.uid
        data.FrameOfReferenceUID = f"{ROOT}{self.study}.99"
        data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = "20260101", "120000", "1", ""
        data.SeriesNumber, data.InstanceNumber, data.SeriesDescription = self.number, k + 1, self.description
        data.Modality, data.ImageType, data.Manufacturer = self.modality, list(self.image_type), "gfscreen tests"
        data.ReferringPhysicianName, data.PositionReferenceIndicator = "", ""
        return data


# Compressors of GDCM's that pydicom has no encoder for here.
_BY_GDCM = {JPEG2000Lossless: "JPEG2000", JPEGLosslessSV1: "JPEG"}


def compress_by_gdcm(data: Dataset, syntax: str) -> None:
    """Compress the pixels of a slice without loss; the header stays."""
    kind = np.int16 if data.PixelRepresentation else np.uint16
    stored = np.frombuffer(data.PixelData, kind).reshape(1, data.Rows, data.Columns)
    with tempfile.TemporaryDirectory() as folder:
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(f"{folder}/x.dcm")
        writer.SetUseCompression(True)
        writer.SetCompressor(_BY_GDCM[syntax])
        writer.Execute(sitk.GetImageFromArray(stored))
        written = pydicom.dcmread(f"{folder}/x.dcm")
    assert written.file_meta.TransferSyntaxUID == syntax
    data.PixelData = encapsulate([get_frame(written.PixelData, 0, number_of_frames=1)])
    data["PixelData"].VR = "OB"
    data.file_meta.TransferSyntaxUID = syntax


def write_no_image(folder: Path, sop_class: str, name: str) -> Path:
    """An object of the same study without pixels: a report, a structure set, a DICOMDIR."""
    dataset = Series(np.zeros((1, 1, 1), np.int16), number=900, sop_class=sop_class, modality="OT")._header(0)
    del dataset.ImageType
    folder.mkdir(parents=True, exist_ok=True)
    dataset.save_as(folder / name, enforce_file_format=True)
    return folder / name


def write_dose_report(folder: Path) -> Path:
    """A dose report: a structured report without pixels."""
    return write_no_image(folder, DOSE_REPORT, "900_dose")


def ramp(shape: tuple[int, int, int] = (6, 5, 8)) -> NDArray[np.int16]:
    """(i, j, k), every voxel different."""
    return (np.arange(np.prod(shape)).reshape(shape) * 3 - 1000).astype(np.int16)
