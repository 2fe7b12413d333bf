#!/bin/sh
# cc3d numbers the parts of one mask otherwise if the same array lies in Fortran order.
#
# Guess:     component 7 is component 7: numbers follow the indices of the array, as scipy.ndimage.label's do, and an
#            array of equal values, shape and indices gives equal labels.
# Behaviour: numbers follow the memory. The parts are the same, and as many, but np.asfortranarray(mask) has other
#            numbers than np.ascontiguousarray(mask). scipy's are equal for both.
# Versions:  connected-components-3d 4.1.1, scipy 1.17.1, numpy 2.4.6. Seen on 2026-11-28.
# Why:       a mask read by nibabel lies in Fortran order, the same mask from a network, a copy or SimpleITK in C order:
#            "lesion 3" of the table is another one than in the picture, and both come from the same file.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check connected-components-3d==4.1.1 scipy==1.17.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import cc3d
import numpy as np
from scipy import ndimage

mask = np.zeros((8, 8, 8), np.uint8)
mask[1:3, 1:3, 6] = 1  # first by the array's indices
mask[5:7, 5:7, 1] = 1  # first in Fortran order, where the last index changes slowest
rows, columns = np.ascontiguousarray(mask), np.asfortranarray(mask)
assert np.array_equal(rows, columns)
for name, label in (("cc3d", cc3d.connected_components), ("scipy", lambda m: ndimage.label(m)[0])):
    numbers = [int(label(order)[1, 1, 6]) for order in (rows, columns)]
    print(f"{name:5}: the part at (1, 1, 6) has number {numbers[0]} in C order, {numbers[1]} in Fortran order")
assert cc3d.connected_components(rows)[1, 1, 6] == 1
assert cc3d.connected_components(columns)[1, 1, 6] == 2, "it has changed"
assert np.array_equal(ndimage.label(rows)[0], ndimage.label(columns)[0])
assert cc3d.connected_components(rows).max() == cc3d.connected_components(columns).max() == 2
PYTHON
