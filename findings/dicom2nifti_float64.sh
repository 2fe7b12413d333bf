#!/bin/sh
# dicom2nifti writes a CT of whole HU as float64: four times the bytes, with slope 1 and every value an integer.
#
# Guess:     a CT with Rescale Slope 1 and Intercept -1024 becomes int16, or keeps its stored values beside scl_slope and
#            scl_inter.
# Behaviour: the file's data type is float64, scl_slope and scl_inter are unset, values are whole numbers; also where the
#            intercept is 0 and the rescale changes nothing. Only without Rescale Slope and Intercept, which a CT must
#            have, the data type of the pixels is kept.
# Versions:  dicom2nifti 2.6.2 with pydicom 3.0.2, nibabel 5.4.2. Seen on 2026-11-28.
# Why:       512 x 512 x 500 is 1.05 GB instead of 262 MB once it is unpacked. Limits on memory and on unpacked size that
#            are set by the voxels of a CT are met four times earlier, and packing takes longer.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check dicom2nifti==2.6.2 pydicom==3.0.2 nibabel==5.4.2 numpy==2.4.6
"$work/env/bin/python" -W ignore - "$work" <<'PYTHON'
import sys
from pathlib import Path

import dicom2nifti
import nibabel as nib
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian


def converted(intercept):
    folder = Path(sys.argv[1], f"series{intercept}")
    folder.mkdir()
    for k in range(5):
        slice_ = Dataset()
        slice_.file_meta = FileMetaDataset()
        slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
        slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = f"2.25.1{k}"
        slice_.StudyInstanceUID, slice_.SeriesInstanceUID = "2.25.1", "2.25.2"
        slice_.Modality, slice_.InstanceNumber, slice_.SeriesNumber = "CT", k + 1, 1
        slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 3 * k], [1, 0, 0, 0, 1, 0]
        slice_.PixelSpacing, slice_.Rows, slice_.Columns = [1, 1], 8, 8
        slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
        slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 16, 15, 0
        if intercept is not None:
            slice_.RescaleSlope, slice_.RescaleIntercept, slice_.RescaleType = 1, intercept, "HU"
        slice_.PixelData = np.full((8, 8), 1024 + k, "<u2").tobytes()
        slice_.save_as(folder / f"{k}.dcm", enforce_file_format=True)
    target = folder.with_suffix(".nii.gz")
    dicom2nifti.dicom_series_to_nifti(str(folder), str(target), reorient_nifti=False)
    image = nib.load(target)
    print(f"intercept {intercept}: {image.get_data_dtype()}, slope {image.header['scl_slope']}, "
          f"values {np.unique(np.asanyarray(image.dataobj)).tolist()}")
    return image


image = converted(-1024)
assert image.get_data_dtype() == np.float64, "it has changed"
assert np.isnan(image.header["scl_slope"])
assert np.unique(np.asanyarray(image.dataobj)).tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
assert converted(0).get_data_dtype() == np.float64, "it has changed"
assert converted(None).get_data_dtype() == np.uint16, "it has changed"
PYTHON
