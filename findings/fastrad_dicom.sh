#!/bin/sh
# fastrad's own DICOM reader gives stored numbers instead of HU, and the thickness of a slice as the distance to the next.
#
# Guess:     MedicalImage.from_dicom of a CT has HU, as pyradiomics has by its readers, and the spacing of the slices' positions.
# Behaviour: RescaleSlope and RescaleIntercept are left aside: a lesion of 40 HU, stored with the usual -1024, has a mean of 1064.
#            Without SpacingBetweenSlices the spacing along z is SliceThickness: slices of 5 mm every 2.5 mm, a common
#            reconstruction, are stretched to twice their volume, shape:voxel_volume and the diameters with them. Slices
#            are in the order of InstanceNumber, wherever they lie. Nothing is said of it.
# Versions:  fastrad 1.0.0, pydicom 3.0.2, torch 2.13.0, numpy 2.4.6. Seen on 2026-11-30.
# Why:       it is offered as a drop-in for pyradiomics. Means move by 1024 between scanners that store otherwise, and
#            overlapping slices double a tumour. Read by another library and hand the voxels over with (z, y, x) spacing.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check fastrad==1.0.0 pydicom==3.0.2 torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import torch
from fastrad import FeatureExtractor, FeatureSettings, Mask, MedicalImage
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

folder = Path(sys.argv[1]) / "ct"
folder.mkdir()
study, series, frame = (generate_uid() for _ in range(3))
rng = np.random.default_rng(0)
lesion = np.zeros((8, 32, 32), bool)
lesion[2:6, 10:20, 10:20] = True
hu = np.where(lesion, 40, -100) + rng.integers(-5, 6, lesion.shape)
for number, plane in enumerate(hu):
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.SOPClassUID, slice_.SOPInstanceUID, slice_.Modality = CTImageStorage, generate_uid(), "CT"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.FrameOfReferenceUID = study, series, frame
    slice_.PatientID, slice_.PatientName, slice_.InstanceNumber = "P", "P", number + 1
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 2.5 * number], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.SliceThickness = [1, 1], 5
    slice_.Rows, slice_.Columns = plane.shape
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit, slice_.PixelRepresentation = 16, 12, 11, 0
    slice_.RescaleIntercept, slice_.RescaleSlope, slice_.RescaleType = -1024, 1, "HU"
    slice_.PixelData = (plane + 1024).astype(np.uint16).tobytes()
    slice_.save_as(folder / f"{number}.dcm", enforce_file_format=True)
image = MedicalImage.from_dicom(folder)
mask = Mask(torch.from_numpy(lesion.astype(np.float32)), image.spacing)
extractor = FeatureExtractor(FeatureSettings(feature_classes=["firstorder", "shape"], device="cpu"))
found = extractor.extract(image, mask)
mean = next(value for name, value in found.items() if name.split(":")[-1].lower() == "mean")
print(f"the lesion has {hu[lesion].mean():.1f} HU and {2.5 * lesion.sum():.0f} mm3; by fastrad a mean of {mean:.1f} and "
      f"{found['shape:voxel_volume']:.0f} mm3, spacing (z, y, x) {image.spacing}")
assert abs(mean - hu[lesion].mean() - 1024) < 0.1, "it has changed: what is stored is rescaled"
assert image.spacing == (5.0, 1.0, 1.0), "it has changed: the spacing is that of the positions"
assert found["shape:voxel_volume"] == 5 * lesion.sum()
PYTHON
