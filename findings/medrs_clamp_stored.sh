#!/bin/sh
# medrs windows the stored numbers of a scaled NIfTI, not its HU: clamp(-160, 240) sets liver, lesion and bone alike to -784 HU.
#
# Guess:     clamp(-160, 240) keeps what to_numpy() shows, which is HU, between these bounds, as the same clamp does in a
#            TransformPipeline or after a resample.
# Behaviour: the bounds are set against the stored numbers, and scl_slope and scl_inter are applied afterwards. Of a CT stored with
#            scl_inter -1024 all above -784 HU becomes -784; of one in uint8 with steps of 12 HU nothing below 1880 HU is clamped;
#            with steps of half a unit the window is -80 to 120. Without a scale, and after with_dtype("f32"), it is right.
#            The same step in a pipeline is right as well, unless that is made not to be lazy. Nothing is said.
# Versions:  medrs 0.2.0, nibabel 5.4.2, numpy 2.4.6. Seen on 2026-12-01.
# Why:       clamp and rescale to 0..1 is how a CT gets its soft-tissue window before a network. Fat, liver and bone are then 1.0
#            alike in the files of one converter and right in those of another. Clamp after with_dtype("f32").
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check medrs==0.2.0 nibabel==5.4.2 numpy==2.4.6
"$work/env/bin/python" - "$work" <<'PYTHON'
import sys
from pathlib import Path

import medrs
import nibabel as nib
import numpy as np

WINDOW = (-160, 240)
folder = Path(sys.argv[1])
changed = "it has changed: clamp no longer takes stored numbers"


def read(image):
    """HU along x."""
    return image.to_numpy()[:, 0, 0].tolist()


def clamped(dtype, slope, intercept, wanted_hu):
    """HU of a scan that is stored so, after clamp; every other way to the same window is checked to give the window."""
    stored = np.rint((np.array(wanted_hu) - intercept) / slope).astype(dtype)
    scan = nib.Nifti1Image(np.broadcast_to(stored[:, None, None], (stored.size, 4, 3)), np.diag([0.7, 0.7, 3.0, 1.0]))
    scan.header.set_slope_inter(slope, intercept)
    path = str(folder / f"{stored.dtype}_{slope}_{intercept}.nii.gz")
    nib.save(scan, path)
    hu = nib.load(path).get_fdata()[:, 0, 0]
    window = np.clip(hu, *WINDOW).tolist()
    image = medrs.load(path)
    assert read(image) == hu.tolist() == wanted_hu, "medrs reads other HU than nibabel"
    assert read(image.with_dtype("f32").clamp(*WINDOW)) == window, "not even float32 is right"
    assert read(medrs.TransformPipeline().clamp(*WINDOW).apply(image)) == window, "a pipeline is no longer right"
    assert np.allclose(read(image.resample([0.7, 0.7, 1.5]).clamp(*WINDOW)), window), "after a resample it is no longer right"
    found = read(image.clamp(*WINDOW))
    assert read(medrs.TransformPipeline(lazy=False).clamp(*WINDOW).apply(image)) == found, "an eager pipeline differs from clamp"
    print(f"{stored.dtype}, slope {slope}, intercept {intercept}: HU {hu.tolist()}, window {window}, by medrs {found}")
    return found, window, read(image.clamp(*WINDOW).rescale(0, 1))


found, window, _ = clamped(np.int16, 1, 0, [-1000, -100, 40, 60, 700])
assert found == window, "even what is stored as HU differs"
found, _, scaled = clamped(np.uint16, 1, -1024, [-1000, -100, 40, 60, 700])
assert found == [-1000, -784, -784, -784, -784], changed
assert np.allclose(scaled, [0, 1, 1, 1, 1]), scaled
found, *_ = clamped(np.uint8, 12, -1000, [-1000, -100, 44, 56, 704])
assert found == [-1000, -100, 44, 56, 704], changed
found, *_ = clamped(np.int16, 0.5, 0, [-1000, -100, 40, 60, 700])
assert found == [-80, -80, 40, 60, 120], changed
PYTHON
