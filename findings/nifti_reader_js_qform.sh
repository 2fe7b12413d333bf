#!/bin/sh
# nifti-reader-js gives two affines of one file: for a coronal or sagittal stack header.affine is turned by 0.02 degrees.
#
# Guess:     header.affine and header.getQformMat() of a file with a qform alone are the same matrix.
# Behaviour: header.affine takes the quaternion's first part as the root of 1 - b*b - c*c - d*d without the rule of the
#            NIfTI standard's own code, by which a rest below 1e-7 is zero. b, c, d are stored with 7 digits, so turns
#            by 180 degrees about a diagonal, which is what exchanged axes are, come out with a first part of about
#            0.0003: entries that should be 0 are up to 0.0008 mm a voxel, 0.4 mm over 512. getQformMat() has zeros.
# Versions:  nifti-reader-js 0.8.0, Node 20; the file is written by nibabel 5.4.2. Seen on 2026-11-28.
# Why:       viewers in the browser place scans and masks by header.affine. A mask with an sform and its scan with the
#            qform alone, the same to every other reader, lie half a millimetre apart at one side of the picture.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv env
env/bin/pip install --quiet --disable-pip-version-check nibabel==5.4.2 numpy==2.4.6
npm install --silent --no-audit --no-fund nifti-reader-js@0.8.0 >/dev/null
env/bin/python - <<'PYTHON'
import nibabel as nib
import numpy as np

affine = np.array([[0, -0.8, 0, 10], [-0.7, 0, 0, 20], [0, 0, -3.0, 30], [0, 0, 0, 1]])
image = nib.Nifti1Image(np.zeros((4, 3, 2), np.int16), affine)
image.set_sform(None, 0)
image.set_qform(affine, 1)
nib.save(image, "scan.nii")
read = nib.load("scan.nii").affine
print("nibabel        ", read.round(7).tolist())
assert np.abs(read - affine).max() < 1e-6
PYTHON
cat >read.mjs <<'NODE'
import fs from "fs";
import * as nifti from "nifti-reader-js";

const file = fs.readFileSync("scan.nii");
const header = nifti.readHeader(file.buffer.slice(file.byteOffset, file.byteOffset + file.length));
const truth = [[0, -0.8, 0], [-0.7, 0, 0], [0, 0, -3]];
const off = (matrix) => Math.max(...truth.flatMap((row, i) => row.map((value, j) => Math.abs(matrix[i][j] - value))));
console.log("header.affine  ", JSON.stringify(header.affine));
console.log("getQformMat()  ", JSON.stringify(header.getQformMat()));
console.log("off by mm a voxel:", off(header.affine), off(header.getQformMat()));
if (off(header.getQformMat()) > 1e-6 || off(header.affine) < 1e-4) throw new Error("it has changed");
NODE
node read.mjs
