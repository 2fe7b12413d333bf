#!/bin/sh
# The largest diameter in a slice by numpyradiomics is that of the lesion's shadow on one: of 10 mm a slice become 30.
#
# Guess:     Maximum2DDiameterSlice is the longest distance within one axial slice, as in pyradiomics, with whose definitions it
#            is said to be fully compatible: both ends have the same z.
# Behaviour: z is left out, so the ends may lie in any two slices. A rod 10 mm wide that leans by a pixel of 1 mm in each of 20
#            slices of 3 mm has 30 mm, by two pixels 49 mm, upright 11 mm (pixels are counted whole); between ends of the same z
#            it is 10 to 12 mm in all three. Two nodules of 4 mm under one label, fifteen slices apart, have 76 mm.
#            Maximum2DDiameterColumn leaves out y likewise: 61 mm for the rod that leans along y, where ends of the same y are 33 mm
#            apart at most. Maximum3DDiameter is right. Nothing is said.
# Versions:  numpyradiomics 0.0.5, scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6. Seen on 2026-11-30.
# Why:       the long diameter in an axial slice is what RECIST measures, and 10 mm is where a target lesion begins. Only
#            lesions that lean, bend or lie in parts are wrong, and the more the longer they are; a round one looks sound in a test.
#            Take the maximum of the slices' own.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    numpyradiomics==0.0.5 scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
from numpyradiomics import shape
from scipy.spatial.distance import pdist
from skimage.measure import marching_cubes

SPACING = (3.0, 1.0, 1.0)
z, y, x = np.indices((30, 80, 80))


def diameters(name, lesion):
    """Its largest diameter within a slice, and within a plane of the same y: on the surface, and by numpyradiomics."""
    centres = max(pdist(np.argwhere(plane) * SPACING[1:]).max() for plane in lesion if plane.any())
    surface = marching_cubes(np.pad(lesion, 1).astype(float), 0.5, spacing=SPACING)[0]
    within = []
    for axis in (0, 1):
        levels = [surface[surface[:, axis] == level] for level in np.unique(surface[:, axis])]
        within.append(max(pdist(level).max() for level in levels if len(level) > 1))
    found = shape(lesion.astype(np.uint8), SPACING)
    assert abs(found["Maximum3DDiameter"] - pdist(surface).max()) < 1e-3
    print(f"{name:13}: in a slice {centres:.1f} mm from centre to centre, {within[0]:.1f} mm on the surface; by numpyradiomics "
          f"{found['Maximum2DDiameterSlice']:.1f} mm. Same y: {within[1]:.1f} mm, {found['Maximum2DDiameterColumn']:.1f} mm")
    return within, (float(found["Maximum2DDiameterSlice"]), float(found["Maximum2DDiameterColumn"]))


rods = [((y - 20 - lean * (z - 5)) ** 2 + (x - 40) ** 2 <= 25) & (z >= 5) & (z < 25) for lean in range(3)]
for lean, rod in enumerate(rods):
    (in_slice, same_y), (found, column) = diameters(f"rod, lean {lean}", rod)
    if lean == 0:
        assert abs(found - in_slice) < 0.01 and abs(column - same_y) < 0.01, "an upright rod is no longer right"
    else:
        assert found > 2.5 * in_slice, "it has changed: both ends lie in one slice"
        assert column > 1.5 * same_y, "it has changed: both ends have the same y"
pair = np.zeros(z.shape, bool)
pair[5:8, 10:14, 10:14] = pair[20:23, 60:64, 60:64] = True
(in_slice, _), (found, _) = diameters("two nodules", pair)
assert in_slice < 6 and found > 70, "it has changed: both ends lie in one slice"
PYTHON
