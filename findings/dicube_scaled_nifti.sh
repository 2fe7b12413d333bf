#!/bin/sh
# dicube reads a scaled NIfTI and casts the HU back to the type that they were stored in, where they wrap round.
#
# Guess:     load_from_nifti gives what nibabel gives: HU after scl_slope and scl_inter, whatever type they were stored in.
# Behaviour: the HU are computed and then cast to the stored type. Of a CT in uint16 with scl_inter -1024 air is at 64536 HU and fat at
#            65436; of one in uint8 with steps of 12 HU, values are modulo 256: air at 24, fat at 156, a bone of 704 HU at 192. In
#            int16 with steps of half a unit, halves are cut off. From 0 to 255 HU all is right, so that a picture in an
#            abdomen's window looks sound. Nothing is said of it.
# Versions:  dicube 0.3.0, nibabel 5.4.2, numpy 2.4.6. Seen on 2026-11-30.
# Why:       it is offered to store CT without loss, and stores what it has read: lungs, fat and bone are gone for good. Scans that are
#            stored without a sign or in 8 bits are ordinary. Compare with nibabel's get_fdata() before the original is deleted.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check dicube==0.3.0 nibabel==5.4.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
from dicube.core.io import DicomCubeImageIO

folder = Path(sys.argv[1])


def read_twice(dtype: type, slope: float, intercept: float, wanted_hu: list[float]) -> tuple[list[float], list[float]]:
    """HU along x of a scan that is stored so, by nibabel and by dicube."""
    stored = np.rint((np.array(wanted_hu) - intercept) / slope).astype(dtype)
    scan = nib.Nifti1Image(np.broadcast_to(stored[:, None, None], (stored.size, 4, 3)), np.diag([1.0, 1.0, 3.0, 1.0]))
    path = folder / f"{np.dtype(dtype).name}.nii"
    nib.save(scan, path)
    with path.open("r+b") as file:
        file.seek(112)  # scl_slope and scl_inter, which nibabel would choose itself
        file.write(np.array([slope, intercept], "<f4").tobytes())
    ours, theirs = nib.load(path).get_fdata(), DicomCubeImageIO.load_from_nifti(str(path)).get_fdata().transpose(2, 1, 0)
    assert ours.shape == theirs.shape
    print(f"{np.dtype(dtype).name}, slope {slope}, intercept {intercept}: HU {ours[:, 0, 0]}, by dicube {theirs[:, 0, 0]}")
    return ours[:, 0, 0].tolist(), theirs[:, 0, 0].tolist()


changed = "it has changed: what is scaled stays as it is"
ours, theirs = read_twice(np.int16, 1, -1024, [-1000, -100, 40, 700])
assert ours == theirs, "even this plain one differs"
_, theirs = read_twice(np.uint16, 1, -1024, [-1000, -100, 40, 700])
assert theirs == [64536, 65436, 40, 700], changed
_, theirs = read_twice(np.uint8, 12, -1024, [-1000, -100, 44, 704])
assert theirs == [24, 156, 44, 192], changed
_, theirs = read_twice(np.int16, 0.5, 0, [40.5, -7.5])
assert theirs == [40, -7], changed
PYTHON
