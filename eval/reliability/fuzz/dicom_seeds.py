"""Valid CT slices in the encodings that Python reads, from which mutations of DICOM start, and their neighbours.

Frames that GDCM decompresses are left out: in the product that happens in a process of its own, which may crash.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from eval.reliability.fuzz.seeds import Seed
from eval.reliability.threshold_engine import LESION_HU, TISSUE_HU

DICOM_SUFFIX = ".dcm"
SLICES, SLICE_MM = 3, 5.0


def dicom_slice(k: int, syntax: str = ExplicitVRLittleEndian, *, bare: bool = False) -> bytes:
    """Slice k of a block of tissue with a bright corner in air. bare: without preamble and file meta group."""
    hu = np.full((12, 10), -1000, np.int16)
    hu[2:10, 2:8] = TISSUE_HU
    hu[4:7, 4:7] = LESION_HU
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian if syntax == RLELossless else syntax
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = CTImageStorage
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = f"2.25.{k + 1}"
    data.StudyInstanceUID, data.SeriesInstanceUID, data.FrameOfReferenceUID = "2.25.91", "2.25.92", "2.25.93"
    data.Modality, data.ImageType, data.SeriesNumber = "CT", ["ORIGINAL", "PRIMARY", "AXIAL"], 2
    data.AcquisitionNumber, data.AcquisitionTime, data.KVP = 1, f"12000{k}", "120"
    data.ImageOrientationPatient, data.PixelSpacing = [1, 0, 0, 0, 1, 0], [4.0, 4.0]
    data.ImagePositionPatient, data.SliceThickness = [-20.0, -24.0, k * SLICE_MM], SLICE_MM
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 12, 10, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.RescaleIntercept, data.RescaleSlope, data.RescaleType = -1024, 1, "HU"
    data.add_new("PixelPaddingValue", "US", 63536)
    data.PixelData = (hu.astype(np.int32) + 1024).astype("<u2").tobytes()
    data["PixelData"].VR = "OW"
    if syntax == RLELossless:
        data.compress(RLELossless, generate_instance_uid=False)
    stream = io.BytesIO()
    if bare:
        alone = Dataset()
        for element in data:
            alone.add(element)
        alone.save_as(stream, implicit_vr=True, little_endian=True, enforce_file_format=False)
    else:
        data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def make_dicom_seeds() -> list[Seed]:
    """The middle slice in every encoding, always the same."""
    syntaxes = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless)
    seeds = [Seed(DICOM_SUFFIX, dicom_slice(1, syntax)) for syntax in syntaxes]
    return [*seeds, Seed(DICOM_SUFFIX, dicom_slice(1, bare=True))]


def write_neighbours(folder: Path) -> None:
    """The slices on either side, which are whole."""
    for k in (0, 2):
        (folder / f"IM{k}{DICOM_SUFFIX}").write_bytes(dicom_slice(k))
