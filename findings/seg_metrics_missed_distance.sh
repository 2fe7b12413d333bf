#!/bin/sh
# A lesion that was missed has a Hausdorff distance of 0 mm by seg-metrics, as one that is met exactly.
#
# Guess:     where the network marked nothing there is no distance to the lesion: infinite, not a number, the scan's diagonal or an
#            error, and never less than that of a mask that is a slice off.
# Behaviour: hd, hd95, msd, mdsd and stdsd are all 0: the distances to an empty mask are taken as 0. A mask that is one slice of 5 mm
#            off has an hd95 of 5 mm, the exact one 0 up to rounding. Something marked in a healthy scan has 0 as well. The
#            log tells how precision, recall and the rates are set in such cases, and is silent on the distances.
# Versions:  seg-metrics 1.2.8, SimpleITK 2.5.7, numpy 2.4.6. Seen on 2026-12-01.
# Why:       a mean hd95 over the scans falls with every lesion that is missed and every false alarm: of two networks the one
#            that never marks anything wins, with 0 mm. Where either mask is empty, set the distance yourself before they are averaged.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    SimpleITK==2.5.7 numpy==2.4.6 pandas==3.1.1 matplotlib==3.11.2 tqdm==4.70.1 pingouin==0.7.0
# Apart and without what they require, since nothing here needs their windows and tests.
"$work/env/bin/pip" install --quiet --disable-pip-version-check --no-deps seg-metrics==1.2.8 medutils==0.1.21
cat >"$work/check.py" <<'PYTHON'
import io
import logging

import numpy as np
import SimpleITK
from seg_metrics import seg_metrics

log = io.StringIO()
logging.basicConfig(level=logging.WARNING, stream=log)
DISTANCES = ("hd", "hd95", "msd", "mdsd", "stdsd")


def scan(first_slice=None):
    """A mask of 40 slices of 5 mm: empty, or with a lesion of four slices."""
    mask = np.zeros((40, 64, 64), np.uint8)
    if first_slice is not None:
        mask[first_slice : first_slice + 4, 20:30, 20:30] = 1
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing((0.7, 0.7, 5.0))
    return image


def measured(name, truth, marked):
    (row,) = seg_metrics.write_metrics(labels=[1], gdth_img=truth, pred_img=marked)
    row = {key: float(row[key][0]) for key in ("dice", *DISTANCES)}
    print(f"{name:12}: " + ", ".join(f"{key} {value:.6f}" for key, value in row.items()))
    return row


exact = measured("exact", scan(10), scan(10))
off = measured("a slice off", scan(10), scan(11))
missed = measured("missed", scan(10), scan())
alarm = measured("false alarm", scan(), scan(10))
assert (exact["dice"], missed["dice"], alarm["dice"]) == (1, 0, 0), "the Dice coefficients are others"
assert off["dice"] == 0.75 and abs(off["hd95"] - 5) < 1e-3, "a mask that is a slice off is measured otherwise"
for empty in (missed, alarm):
    assert all(empty[key] == 0 for key in DISTANCES), "it has changed: an empty mask has a distance"
assert all(exact[key] < 1e-3 for key in DISTANCES), "an exact mask has a distance"
said = log.getvalue().lower()
assert "precision" in said and "distance" not in said and "hausdorff" not in said, "the log tells of it now"
PYTHON
"$work/env/bin/python" "$work/check.py"
