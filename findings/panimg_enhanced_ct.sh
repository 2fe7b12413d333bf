#!/bin/sh
# panimg, which converts uploads for Grand Challenge, leaves an Enhanced CT in stored numbers: air is 24, not -1000.
#
# Guess:     one CT gives one .mha in HU, whether its slices come as a file each or as the frames of a single file.
# Behaviour: slices in files of their own come out in HU, as float32. Of an Enhanced CT positions, orientation and pixel size
#            are taken from the functional groups, but slope and intercept are looked for at the top of the file only, where
#            this kind of file has none: stored numbers come out, as uint16. Air is 24 instead of -1000, soft tissue 1064
#            instead of 40. Size, spacing and origin are right. Nothing is said. SimpleITK reads HU from the same file.
# Versions:  panimg 0.18.2, pydicom 3.0.2, SimpleITK 2.5.7, numpy 2.4.6. Seen on 2026-11-29.
# Why:       a network that clips to a window of HU sees soft tissue as bone and air as tissue, a threshold on HU finds no
#            lung, and by shape and geometry the file looks as it should. Look for negative numbers after conversion.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check panimg==0.18.2 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6 \
    imagecodecs==2026.3.6 pyvips-binary==8.18.7 openslide-bin==4.0.1.2
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import SimpleITK
from panimg import convert
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

work = Path(sys.argv[1])
HU = np.full((4, 6, 5), -1000)
HU[1:3, 2:4, 2:4] = 40
RESCALE = {"RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "HU"}
STORED = (HU - RESCALE["RescaleIntercept"]).astype("<u2")
PIXEL = {"PixelSpacing": [0.7, 0.7], "SliceThickness": 2}
AXIAL = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]}
SERIES = {
    "PatientName": "", "PatientID": "1", "PatientBirthDate": "", "PatientSex": "", "StudyInstanceUID": generate_uid(),
    "StudyDate": "20200101", "StudyTime": "120000", "StudyID": "", "AccessionNumber": "", "ReferringPhysicianName": "",
    "SeriesInstanceUID": generate_uid(), "SeriesNumber": 1, "Modality": "CT", "PatientPosition": "HFS",
    "FrameOfReferenceUID": generate_uid(), "PositionReferenceIndicator": "", "Manufacturer": "None",
    "ManufacturerModelName": "None", "DeviceSerialNumber": "0", "SoftwareVersions": "0", "Rows": HU.shape[1],
    "Columns": HU.shape[2], "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "BitsAllocated": 16,
    "BitsStored": 12, "HighBit": 11, "PixelRepresentation": 0,
}


def filled(dataset, attributes):
    for name, value in attributes.items():
        setattr(dataset, name, value)
    return dataset


def items(*many):
    """A sequence with an item for each of these groups of attributes."""
    return [filled(Dataset(), attributes) for attributes in many]


def save(path, sop_class, stored, **attributes):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    own = {"file_meta": meta, "SOPClassUID": sop_class, "SOPInstanceUID": meta.MediaStorageSOPInstanceUID}
    path.parent.mkdir(exist_ok=True)
    filled(Dataset(), {**SERIES, **own, **attributes, "PixelData": stored.tobytes()}).save_as(path, enforce_file_format=True)


for z, stored in enumerate(STORED):
    save(
        work / "a file for each slice" / f"{z}.dcm", CTImageStorage, stored, InstanceNumber=z + 1, AcquisitionNumber=1,
        ImageType=["DERIVED", "PRIMARY", "AXIAL"], KVP="", Laterality="",
        ImagePositionPatient=[0, 0, 2 * z], **PIXEL, **AXIAL, **RESCALE,
    )

kind = {"PixelPresentation": "MONOCHROME", "VolumetricProperties": "VOLUME", "VolumeBasedCalculationTechnique": "NONE"}
shared = {
    "PixelMeasuresSequence": items(PIXEL), "PlaneOrientationSequence": items(AXIAL),
    "PixelValueTransformationSequence": items(RESCALE),
    "CTImageFrameTypeSequence": items({"FrameType": ["DERIVED", "PRIMARY", "VOLUME", "NONE"], **kind}),
    "IrradiationEventIdentificationSequence": items({"IrradiationEventUID": generate_uid()}),
    "FrameAnatomySequence": items({"FrameLaterality": "U", "AnatomicRegionSequence": items(
        {"CodeValue": "51185008", "CodingSchemeDesignator": "SCT", "CodeMeaning": "Chest"})}),
}
frames = [{
    "FrameContentSequence": items({"StackID": "1", "InStackPositionNumber": z + 1, "DimensionIndexValues": [1, z + 1]}),
    "PlanePositionSequence": items({"ImagePositionPatient": [0, 0, 2 * z]}),
} for z in range(len(HU))]
stacks = {"DimensionOrganizationUID": generate_uid()}
pointers = [{**stacks, "DimensionIndexPointer": pointer, "FunctionalGroupPointer": 0x00209111}
            for pointer in (0x00209056, 0x00209057)]  # stack and position in it, of the frame's content
save(
    work / "Enhanced CT" / "all.dcm", EnhancedCTImageStorage, STORED, InstanceNumber=1, NumberOfFrames=len(HU), **kind,
    ImageType=["DERIVED", "PRIMARY", "VOLUME", "NONE"], ContentDate="20200101", ContentTime="120000",
    AcquisitionDateTime="20200101120000", AcquisitionContextSequence=[], BurnedInAnnotation="NO",
    LossyImageCompression="00", PresentationLUTShape="IDENTITY", ContentQualification="RESEARCH",
    DimensionOrganizationSequence=items(stacks), DimensionIndexSequence=items(*pointers),
    SharedFunctionalGroupsSequence=items(shared), PerFrameFunctionalGroupsSequence=items(*frames),
)


def shown(name, path):
    image = SimpleITK.ReadImage(path)
    assert image.GetSize() == HU.shape[::-1] and np.allclose(image.GetSpacing(), (0.7, 0.7, 2))
    assert image.GetOrigin() == (0, 0, 0)
    numbers = SimpleITK.GetArrayFromImage(image)
    print(f"{name:31}: {image.GetPixelIDTypeAsString():23} air {np.unique(numbers[HU == -1000]).tolist()}, "
          f"tissue {np.unique(numbers[HU == 40]).tolist()}")
    return numbers


def converted(folder):
    (made,) = convert(input_directory=work / folder, output_directory=work / f"{folder}, .mha").new_image_files
    return shown(f"{folder}, panimg", made.file)


assert np.array_equal(converted("a file for each slice"), HU)
assert np.array_equal(shown("Enhanced CT, SimpleITK", work / "Enhanced CT" / "all.dcm"), HU)
assert np.array_equal(converted("Enhanced CT"), STORED), "it has changed"
PYTHON
