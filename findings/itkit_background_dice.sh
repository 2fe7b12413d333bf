#!/bin/sh
# The Dice of a scan by itkit's itk_evaluate averages in the background: a lesion that was missed altogether has 0.5.
#
# Guess:     in per_sample_class_avg, the table with one Dice a scan, a mask of 0 and 1 has the Dice of its lesion.
# Behaviour: 0 counts as a class like any other, with a Dice near 1, so a scan's value is half of that plus half of the lesion's: nothing
#            found is 0.4988, half of the lesion found 0.833 instead of 0.667, and a false finding in a healthy scan 0.4999. A
#            healthy scan in which nothing is marked has no value at all and drops out of the mean, for of its classes one is missing.
#            Only per_class_sample_avg keeps them apart; its class_1 leaves the healthy scan out as well.
# Versions:  itkit 4.0.0, SimpleITK 2.5.7, scikit-learn 1.9.1, pandas 3.0.0, pydantic 2.12.5, numpy 2.4.6. Seen on 2026-11-30.
# Why:       a network that marks nothing reaches a mean Dice of 0.5 in tumours, and one that is right about the healthy gains nothing by
#            it (FLARE counts such a scan as 1). Take the lesion's column of per_sample_per_class, and count healthy scans yourself.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
pip="$work/env/bin/pip --disable-pip-version-check"
# Without its other requirements, which bring torch and Jupyter and take no part in this.
$pip install --quiet --no-deps itkit==4.0.0
$pip install --quiet SimpleITK==2.5.7 scikit-learn==1.9.1 pandas==3.0.0 pydantic==2.12.5 numpy==2.4.6 tqdm==4.67.1 2>&1 | grep -v -E "requires|resolver" || true
"$work/env/bin/python" - "$work" <<'PYTHON'
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import SimpleITK as sitk

folder = Path(sys.argv[1])
none = np.zeros((20, 64, 64), np.uint8)
lesion = none.copy()
lesion[8:12, 20:30, 20:30] = 1
half = lesion.copy()
half[8:10] = 0
elsewhere = none.copy()
elsewhere[2:4, 2:6, 2:6] = 1
pairs = {
    "missed": (lesion, none), "half": (lesion, half), "healthy": (none, none), "healthy_marked": (none, elsewhere),
}
for name, masks in pairs.items():
    for side, mask in zip(("truth", "marked"), masks):
        (folder / side).mkdir(exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(mask), folder / side / f"{name}.nii.gz")
command = [sys.executable, "-m", "itkit.process.itk_evaluate", "truth", "marked", "tables", "--format", "csv"]
subprocess.run(command, cwd=folder, check=True, capture_output=True)
table = pd.read_csv(folder / "tables/per_sample_class_avg.csv")
dice = {name.removesuffix(".nii"): value for name, value in zip(table["sample"], table["dice"])}
for name, (truth, marked) in pairs.items():
    own = 2 * (truth & marked).sum() / (truth.sum() + marked.sum()) if (truth | marked).any() else float("nan")
    print(f"{name}: Dice of the lesion {own:.3f}, of the scan by itk_evaluate {dice[name]:.4f}")
changed = "it has changed: the background no longer counts"
assert 0.49 < dice["missed"] < 0.5, changed
assert 0.49 < dice["healthy_marked"] < 0.5, changed
assert 0.82 < dice["half"] < 0.84, changed
assert np.isnan(dice["healthy"]), "it has changed: a healthy scan with nothing marked has a value"
PYTHON
