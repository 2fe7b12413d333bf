#!/bin/sh
# dcmqi writes a file for each segment of a binary segmentation and one file for all of a label map, by the same command.
#
# Guess:     segimage2itkimage gives the same files for the same two lesions, whichever way the DICOM object holds them:
#            N.nii.gz is lesion N, above 0 where it lies.
# Behaviour: BINARY gives 1.nii.gz and 2.nii.gz, int16, in the second of which the lesion has the value 2. LABELMAP
#            (Supplement 243) gives 1.nii.gz alone, uint8, with both lesions in it. Nothing is said of either. Of a CT of
#            five slices both have the two with a lesion, from the first to the last of them.
# Versions:  dcmqi 1.5.7, highdicom 0.28.2, SimpleITK 2.5.7. Seen on 2026-11-29.
# Why:       a script that takes N.nii.gz > 0 for lesion N measures all lesions of a label map as the first one, and the sum
#            of their volumes as its volume; one that lays the file over the CT finds another number of slices. Take the
#            values from meta.json (`labelID`), and place the file by its origin.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check dcmqi==1.5.7 highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7
PATH="$work/env/bin:$PATH" "$work/env/bin/python" -W ignore - "$work" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import highdicom as hd
import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

work = Path(sys.argv[1])
study, series, frame = (generate_uid() for _ in range(3))
slices = []
for k in range(5):
    ct = Dataset()
    ct.file_meta = FileMetaDataset()
    ct.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ct.SOPClassUID, ct.SOPInstanceUID = CTImageStorage, generate_uid()
    ct.StudyInstanceUID, ct.SeriesInstanceUID, ct.FrameOfReferenceUID = study, series, frame
    ct.PatientID, ct.PatientName, ct.PatientBirthDate, ct.PatientSex = "1", "A^B", "", ""
    ct.StudyDate, ct.StudyTime, ct.StudyID, ct.AccessionNumber, ct.ReferringPhysicianName = "20260101", "000000", "1", "", ""
    ct.Modality, ct.Manufacturer, ct.SeriesNumber, ct.InstanceNumber = "CT", "M", 1, k + 1
    ct.ImagePositionPatient, ct.ImageOrientationPatient = [0, 0, 3 * k], [1, 0, 0, 0, 1, 0]
    ct.PixelSpacing, ct.SliceThickness, ct.PositionReferenceIndicator = [1, 1], 3, ""
    ct.Rows, ct.Columns = 8, 8
    slices.append(ct)

lesion = hd.sr.CodedConcept("49755003", "SCT", "Morphologically abnormal structure")
algorithm = hd.AlgorithmIdentificationSequence("screening", hd.sr.CodedConcept("123109", "DCM", "Manual Processing"), "1")
described = [
    hd.seg.SegmentDescription(n, f"lesion {n}", lesion, lesion, "AUTOMATIC", algorithm_identification=algorithm)
    for n in (1, 2)
]
label = np.zeros((5, 8, 8), np.uint8)
label[1:3, 2, 2:5], label[2, 5, 2:4] = 1, 2


def files_of(kind):
    """By name: slices, type, and voxels of each value of what segimage2itkimage makes of the label."""
    made = hd.seg.Segmentation(slices, label, kind, described, generate_uid(), 2, generate_uid(), 1, "M", "m", "1", "1")
    folder = work / kind
    folder.mkdir()
    made.save_as(folder / "seg.dcm")
    command = ["segimage2itkimage", "-t", "nii", "--inputDICOM", folder / "seg.dcm", "--outputDirectory", folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    found = {}
    for path in sorted(folder.glob("*.nii.gz")):
        array = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))
        values, counts = np.unique(array[array > 0], return_counts=True)
        found[path.name] = (len(array), str(array.dtype), dict(zip(values.tolist(), counts.tolist())))
    return found


binary, label_map = files_of("BINARY"), files_of("LABELMAP")
print("BINARY  ", binary)
print("LABELMAP", label_map)
assert {name: found[2] for name, found in binary.items()} == {"1.nii.gz": {1: 6}, "2.nii.gz": {2: 2}}, "changed: BINARY"
assert {name: found[2] for name, found in label_map.items()} == {"1.nii.gz": {1: 6, 2: 2}}, "changed: LABELMAP"
assert {found[0] for found in (*binary.values(), *label_map.values())} == {2}, "changed: slices"
print("two files for a binary segmentation, one for a label map")
PYTHON
