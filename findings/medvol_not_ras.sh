#!/bin/sh
# MedVol turns volumes to RAS+ by default, but 28 of the 48 axis orders come out as something else.
#
# Guess:     the array of MedVol(file), or at least get_array("RAS+"), is the same for one CT whichever way its axes lie in
#            the file and whichever reader is used: index 0 runs to the right, 1 to the front, 2 upwards.
# Behaviour: by either reader 20 of the 48 orders become RAS+. By nibabel, its default, all whose axes are not exchanged do;
#            coronal and sagittal stacks such as LSP, PSR and ASR come out as others. By backend="simpleitk" the plain axial
#            ones of CT, LPS and LAS, become LAI+: left and right, head and feet are exchanged. get_array("RAS+") has the same
#            array, and for LPS and LAS even the shape is the expected one. The affine fits the array that comes out, and
#            coordinate_system tells what it is. Nothing is said.
# Versions:  medvol 0.0.22, nibabel 5.4.2, SimpleITK 2.5.7, numpy 2.4.6. Seen on 2026-11-29.
# Why:       mask and CT read by two readers, or written with other axes, are compared or fed to a network voxel by voxel:
#            the lesion of the left lung lies in the right one. Check that coordinate_system is "RAS+" after each load.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check medvol==0.0.22 nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
"$work/env/bin/python" - "$work/ct.nii.gz" <<'PYTHON'
import itertools
import sys

import nibabel
import numpy as np
from medvol import MedVol

path = sys.argv[1]
volume = np.zeros((6, 5, 4), np.int16)
volume[1, 0, 3] = 7  # a lesion at the left (index 0 goes from left to right), back, and top
ras = nibabel.Nifti1Image(volume, np.diag([0.7, 0.8, 5, 1]))


def lesion(image):
    return tuple(np.argwhere(image == 7)[0].tolist())


became, right, fits = {}, {"nibabel": 0, "simpleitk": 0}, True
for axes in itertools.permutations(range(3)):
    for signs in itertools.product((1, -1), repeat=3):
        other = ras.as_reoriented(np.column_stack([axes, signs]).astype(float))
        order = "".join(nibabel.aff2axcodes(other.affine))
        nibabel.save(other, path)
        assert np.array_equal(nibabel.as_closest_canonical(nibabel.load(path)).dataobj, volume)
        for backend in right:
            read = MedVol(path, backend=backend)
            as_ras = read.get_array("RAS+")
            became[backend, order] = read.coordinate_system, lesion(read.array), lesion(as_ras), as_ras.shape
            right[backend] += np.array_equal(as_ras, volume)
            place_mm = (read.affine @ [*lesion(read.array), 1])[:3]
            fits &= np.allclose(place_mm, (ras.affine @ [1, 0, 3, 1])[:3], atol=1e-4)
            fits &= (read.coordinate_system == "RAS+") == np.array_equal(read.array, volume)

print("the lesion is at (1, 0, 3) of the (6, 5, 4) voxels in RAS+")
for backend, order in (("nibabel", "LPS"), ("simpleitk", "LPS"), ("simpleitk", "LAS"), ("nibabel", "LSP"), ("nibabel", "PSR"),
                       ("nibabel", "ASR")):
    system, own, asked, shape = became[backend, order]
    print(f"{order} by {backend:9}: {system}, lesion at {own} of array, {asked} of get_array('RAS+') {shape}")
print("axis orders of 48 that become RAS+:", right)
assert right == {"nibabel": 20, "simpleitk": 20}, "it has changed"
plain = ["".join(sides) for sides in itertools.product("RL", "AP", "SI")]
assert {became["nibabel", order][0] for order in plain} == {"RAS+"}
for order in ("LPS", "LAS"):
    assert became["simpleitk", order] == ("LAI+", (4, 0, 0), (4, 0, 0), (6, 5, 4)), f"it has changed: {order} by SimpleITK"
assert fits, "it has changed: the affine does not fit, or coordinate_system does not tell"
PYTHON
