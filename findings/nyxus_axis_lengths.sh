#!/bin/sh
# The longest axis of a lesion is Nyxus's least axis length, and the middle one its major.
#
# Guess:     3MAJOR_AXIS_LEN >= 3MINOR_AXIS_LEN >= 3LEAST_AXIS_LEN, as in pyradiomics and IBSI.
# Behaviour: the lengths are right, the names go round by one: a box of 20 x 10 x 5 voxels has a least axis of 23.1, a major
#            one of 11.5 and a minor one of 5.7, in all six positions. 3FLATNESS, a ratio of them that is at most 1, is 2.0.
#            Nothing is said.
# Versions:  nyxus 0.11.0, nibabel 5.4.2, numpy 2.4.6. Seen on 2026-11-30.
# Why:       the major axis stands in for the long diameter of a lesion, by which its growth is told: here it is half of that.
#            Sort the three lengths.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check nyxus==0.11.0 nibabel==5.4.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import itertools
import sys
from pathlib import Path

import nibabel
import numpy as np
from nyxus import Nyxus3D

AXES = ["3MAJOR_AXIS_LEN", "3MINOR_AXIS_LEN", "3LEAST_AXIS_LEN"]
work = Path(sys.argv[1])
named = {}
for sides in itertools.permutations((20, 10, 5)):
    lesion = np.zeros((30, 30, 30), np.uint8)
    lesion[tuple(slice(5, 5 + side) for side in sides)] = 1
    hu = (100 + 50 * lesion + np.indices(lesion.shape)[0] % 2).astype(np.int16)
    name = "x".join(map(str, sides))
    for folder, voxels in (("ct", hu), ("mask", lesion)):
        (work / name / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), work / name / folder / "case.nii.gz")
    features = Nyxus3D([*AXES, "3ELONGATION", "3FLATNESS"])
    row = features.featurize_directory(str(work / name / "ct"), str(work / name / "mask"), ".*").iloc[0]
    named[sides] = [round(float(row[axis]), 1) for axis in AXES]
    print(f"{name:8}: major, minor, least {named[sides]}, elongation {row['3ELONGATION']:.2f}, flatness {row['3FLATNESS']:.2f}")
assert all(lengths == [11.5, 5.7, 23.1] for lengths in named.values()), "it has changed"
PYTHON
