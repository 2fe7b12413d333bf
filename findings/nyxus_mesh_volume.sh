#!/bin/sh
# Nyxus gives a box of 500 voxels a mesh volume below zero, and a cube a sphericity of 2.
#
# Guess:     3MESH_VOLUME, the volume within the surface of a lesion, is a few per cent below 3VOXEL_VOLUME, its voxels; 3AREA
#            of a cube of 10 voxels is near 600; 3SPHERICITY is 1 for a ball and less for all else.
# Behaviour: a ball of 4,224 voxels has a mesh volume of 2,821, a cube of 1,000 one of 365 with an area of 243, and a box of
#            10 x 10 x 5 one of -11. The sphericity of the cube is 1.99, 3COMPACTNESS2, its cube, 7.9. 3VOXEL_VOLUME is right
#            for all. Nothing is said.
# Versions:  nyxus 0.11.0, nibabel 5.4.2, numpy 2.4.6. Seen on 2026-11-30.
# Why:       mesh volume, surface and sphericity are the first shape features of a lesion (IBSI), and growth is told by them.
#            Take 3VOXEL_VOLUME, and surfaces from elsewhere; a check for sphericities above 1 finds tables that are affected.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check nyxus==0.11.0 nibabel==5.4.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import nibabel
import numpy as np
from nyxus import Nyxus3D

FEATURES = ["3VOXEL_VOLUME", "3MESH_VOLUME", "3AREA", "3SPHERICITY", "3COMPACTNESS2"]
work = Path(sys.argv[1])


def shape_of(name, lesion):
    """The features of a lesion (x, y, z) of 150 HU in tissue of 100 HU; voxels of 1 mm."""
    hu = np.where(lesion, 150, 100).astype(np.int16)
    hu[::2] += 1
    for folder, voxels in (("ct", hu), ("mask", lesion.astype(np.uint8))):
        (work / name / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(voxels, np.eye(4)), work / name / folder / "case.nii.gz")
    row = Nyxus3D(FEATURES).featurize_directory(str(work / name / "ct"), str(work / name / "mask"), ".*").iloc[0]
    found = {feature: float(row[feature]) for feature in FEATURES}
    print(f"{name:14}: {int(lesion.sum())} voxels,", ", ".join(f"{key} {value:.2f}" for key, value in found.items()))
    assert abs(found["3VOXEL_VOLUME"] - lesion.sum()) < 1
    return found


def box(*sides):
    lesion = np.zeros((30, 30, 30), bool)
    lesion[tuple(slice(5, 5 + side) for side in sides)] = True
    return lesion


ball = shape_of("ball", (((np.indices((30, 30, 30)) - 14.5) ** 2).sum(axis=0) <= 100))
cube = shape_of("cube", box(10, 10, 10))
plate = shape_of("10 x 10 x 5", box(10, 10, 5))
assert ball["3MESH_VOLUME"] < 0.7 * ball["3VOXEL_VOLUME"], "it has changed: the ball's mesh"
assert cube["3MESH_VOLUME"] < 400 and cube["3AREA"] < 300, "it has changed: the cube's mesh"
assert cube["3SPHERICITY"] > 1.9, "it has changed: sphericity"
assert plate["3MESH_VOLUME"] < 0, "it has changed: the flat box's mesh"
PYTHON
