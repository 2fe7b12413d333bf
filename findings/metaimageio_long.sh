#!/bin/sh
# A mask that metaimageio writes from 64-bit integers is another one in SimpleITK: half of the voxels, spread over the scan.
#
# Guess:     a .mha that one library writes from a NumPy array, another reads with the same values, or refuses.
# Behaviour: metaimageio writes int64 (NumPy's default, and what argmax, label and torch give) as ElementType MET_LONG with
#            eight bytes a voxel, and reads it back so. SimpleITK takes MET_LONG for four bytes: it reads the low and high
#            halves of the first half of the scan as voxels of their own, compressed or not, without a word. A lesion on
#            slices 4 and 5 of 20 lies, in stripes, on 8 and 10, and one on 14 and 15 is gone. uint64 (MET_ULONG) alike.
#            The other way round is refused: SimpleITK's own MET_LONG_LONG is not supported.
# Versions:  metaimageio 1.3.2, SimpleITK 2.5.7, numpy 2.4.6, Linux on x86-64. Seen on 2026-11-29.
# Why:       scans and masks of challenges and of registration (elastix) are .mha. Shape, spacing and label values of such
#            a mask are right, so a check of these passes; DSC and volume are not. Write masks as uint8, scans as int16.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check metaimageio==1.3.2 SimpleITK==2.5.7 numpy==2.4.6
cat >"$work/check.py" <<'PYTHON'
import sys
from pathlib import Path

import metaimageio
import numpy as np
import SimpleITK

work = Path(sys.argv[1])
SPACING_MM = (0.7, 0.7, 5.0)


def read_by_simpleitk(mask, **how):
    """The mask as SimpleITK reads what metaimageio wrote; metaimageio itself reads it as it was."""
    path = str(work / "mask.mha")
    metaimageio.write(path, mask, ElementSpacing=SPACING_MM, **how)
    again, _ = metaimageio.read(path)
    assert np.array_equal(again, mask), "metaimageio reads its own file otherwise"
    image = SimpleITK.ReadImage(path)
    assert image.GetSpacing() == SPACING_MM, image.GetSpacing()
    return SimpleITK.GetArrayFromImage(image)


early, late = (np.zeros((20, 32, 32), np.int64) for _ in range(2))  # slices first
early[4:6, 10:16, 10:16] = 1
late[14:16, 10:16, 10:16] = 1
for dtype in (np.int64, np.uint64):
    for how in ({}, {"CompressedData": True}):
        first, second = (read_by_simpleitk(mask.astype(dtype), **how) for mask in (early, late))
        name = f"{np.dtype(dtype)}{', compressed' if how else ''}"
        slices = np.flatnonzero(first.any(axis=(1, 2))).tolist()
        print(f"{name}: 72 voxels on slices 4 and 5 are {first.sum()} on {slices}; 72 on slices 14 and 15 are {second.sum()}")
        assert first.shape == early.shape, first.shape
        assert (first.sum(), slices, second.sum()) == (72, [8, 10], 0), "metaimageio or SimpleITK behave otherwise now"
assert np.array_equal(read_by_simpleitk(early.astype(np.int32)), early), "32 bits differ as well"
SimpleITK.WriteImage(SimpleITK.GetImageFromArray(early), str(work / "back.mha"))
try:
    metaimageio.read(str(work / "back.mha"))
except ValueError as error:
    print(f"the other way round: {error}")
else:
    sys.exit("metaimageio reads MET_LONG_LONG now")
PYTHON
"$work/env/bin/python" "$work/check.py" "$work"
