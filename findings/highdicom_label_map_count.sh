#!/bin/sh
# highdicom counts one segment too few in a DICOM label map: number_of_segments is 1 of two lesions, and 0 of one.
#
# Guess:     `number_of_segments` is the number of lesions, whatever the encoding: it is documented as the number of segments
#            that are not background, and `segment_numbers` lists as many.
# Behaviour: of the same two lesions stored as BINARY it is 2, stored as LABELMAP (DICOM Supplement 243) it is 1, of one it
#            is 0, of five 4, while `segment_numbers` has all of them. Background is taken off twice: it is not among the
#            numbers any more when one is subtracted for it. Pixels are right.
# Versions:  highdicom 0.28.2, pydicom 3.0.2. Seen on 2026-11-29.
# Why:       a label map takes one frame per slice for all lesions, so archives turn to it. A report or a worklist that asks
#            how many lesions a segmentation holds says none of a CT with one, and a loop over range(1, n + 1) leaves out
#            the last. Count `segment_numbers`.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check highdicom==0.28.2 pydicom==3.0.2
"$work/env/bin/python" -W ignore - <<'PYTHON'
import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

study, series, frame = (generate_uid() for _ in range(3))
slices = []
for k in range(3):
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


def counted(lesions, kind):
    """Number of segments, and their numbers, of so many lesions of a row of four voxels each."""
    label = np.zeros((3, 8, 8), np.uint8)
    for number in range(1, lesions + 1):
        label[1, number, 2:6] = number
    described = [
        hd.seg.SegmentDescription(
            number, f"lesion {number}", lesion, lesion, "AUTOMATIC", algorithm_identification=algorithm
        )
        for number in range(1, lesions + 1)
    ]
    made = hd.seg.Segmentation(
        slices, label, kind, described, generate_uid(), 2, generate_uid(), 1, "M", "m", "1", "1"
    )
    pixels = made.get_volume(combine_segments=True).array
    assert np.bincount(pixels.ravel(), minlength=lesions + 1)[1:].tolist() == [4] * lesions
    return made.number_of_segments, list(made.segment_numbers)


for lesions in (1, 2, 5):
    binary, label_map = counted(lesions, "BINARY"), counted(lesions, "LABELMAP")
    print(f"{lesions} lesions: BINARY {binary}, LABELMAP {label_map}")
    numbers = list(range(1, lesions + 1))
    assert binary == (lesions, numbers), "changed: BINARY"
    assert label_map == (lesions - 1, numbers), "changed: LABELMAP"
print("number_of_segments of a label map is one too few")
PYTHON
