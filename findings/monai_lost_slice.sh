#!/bin/sh
# MONAI's PydicomReader reads a series that lacks a slice, or has one twice, at even spacing, without a word.
#
# Guess:     slices at 0, 3, 6, 12, 15 mm are refused or warned of, as by dicom2nifti, dicom-numpy and SimpleITK; or the
#            gap is filled.
# Behaviour: five slices of 3.75 mm: the extent, divided by their number less one. A slice that lies there twice is kept
#            twice and the spacing becomes 2.25 mm. No warning, no log line above debug.
# Versions:  MONAI 1.6.1, pydicom 3.0.2, torch 2.13.0 on the CPU. Seen on 2026-11-28.
# Why:       what lies beside the gap is stretched by a quarter, volumes and distances with it, and a mask that another
#            program made of the same folder lies on other slices.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 monai==1.6.1 pydicom==3.0.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import logging
import sys
import warnings
from pathlib import Path

import numpy as np
from monai.transforms import LoadImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


def read(name, places_mm):
    folder = Path(sys.argv[1], name)
    folder.mkdir()
    for k, place_mm in enumerate(places_mm):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = f"2.25.1{k}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = "2.25.1", "2.25.2", "2.25.3"
        slice_.Modality, slice_.InstanceNumber, slice_.SeriesNumber = "CT", k + 1, 1
        slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, place_mm], [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.SliceThickness, slice_.Rows, slice_.Columns = [1, 1], 3, 6, 8
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        slice_.RescaleSlope, slice_.RescaleIntercept = 1, -1024
        slice_.PixelData = np.full((6, 8), 1024 + k, "<u2").tobytes()
        slice_.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    said = []
    logging.captureWarnings(False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        image = LoadImage(reader="PydicomReader", image_only=True)(str(folder))
    said = [str(w.message) for w in caught if "slice" in str(w.message).lower() or "spacing" in str(w.message).lower()]
    print(f"{name}: {image.shape[2]} slices of {float(image.affine[2, 2]):g} mm, warnings about it: {said}")
    return image.shape[2], float(image.affine[2, 2]), said


assert read("whole", [0, 3, 6, 9, 12]) == (5, 3.0, [])
assert read("lost", [0, 3, 6, 12, 15]) == (5, 3.75, []), "it has changed"
assert read("twice", [0, 3, 3, 6, 9]) == (5, 2.25, []), "it has changed"
PYTHON
