#!/bin/sh
# medeval takes the slices of a scan for classes: a lesion that was missed has a Dice of 0.95, one that is met exactly 0.93.
#
# Guess:     dice_score(mask, truth) of two masks (z, y, x), which its table of shapes names a single 3D volume, or of a batch
#            (batch, z, y, x), which the docstring allows, is the Dice of the lesion: as it is for (1, 1, z, y, x).
# Behaviour: slices are taken for the channels of classes. Of each line along z the number of its highest slice is kept, these
#            are compared class by class, and slices that neither has count as 1; a truth in whole numbers is not even turned so.
#            Of a lesion in 6 of 40 slices, in whole numbers: missed 0.951, met exactly 0.926, the whole scan marked 0.951, so
#            that the worst are above the best. In float32: missed 0.975, met 1.0, and one of its six slices found 1.0 as well.
#            jaccard_index has these last three in both, and compute_segmentation_metrics puts a Dice of 0.951 beside a recall
#            and a precision of 0. With (1, 1, z, y, x) all are right. Nothing is said.
# Versions:  medeval 0.1.7, torch 2.13.0 on the CPU, numpy 2.4.6. Seen on 2026-11-30.
# Why:       readers give CT masks as (z, y, x), its own load_nifti too. A Dice of 0.95 looks like a good network, and lesions that
#            are missed raise it. Put mask[None, None] in, and try a mask of zeros first.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check medeval==0.1.7 torch==2.13.0 numpy==2.4.6 scipy==1.17.1
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
import torch
from medeval.metrics.segmentation import compute_segmentation_metrics, dice_score, jaccard_index

torch.set_num_threads(1)
truth = np.zeros((40, 64, 64), np.uint8)
truth[18:24, 30:38, 30:38] = 1
slice_ = np.zeros_like(truth)
slice_[18] = truth[18]
masks = {"missed": np.zeros_like(truth), "met exactly": truth, "one slice of it": slice_, "whole scan marked": np.ones_like(truth)}
found = {}
for name, mask in masks.items():
    dice = 2 * float((mask & truth).sum()) / float(mask.sum() + truth.sum())
    whole = [torch.from_numpy(array) for array in (mask, truth)]
    parts = [array.float() for array in whole]
    found[name] = [dice_score(*whole).item(), dice_score(*parts).item(), jaccard_index(*parts).item(), jaccard_index(*whole).item()]
    batch = dice_score(*(array[None] for array in whole)).item()
    five = dice_score(*(array[None, None] for array in whole)).item()
    print(f"{name:17}: Dice {dice:.3f}; by medeval (1, 1, z, y, x) {five:.3f}, (1, z, y, x) {batch:.3f}, "
          f"(z, y, x) {found[name][0]:.3f}, in float32 {found[name][1]:.3f}; Jaccard {found[name][3]:.3f}, {found[name][2]:.3f}")
    assert abs(five - dice) < 1e-6, "with a batch and a channel the Dice is no longer right"
    assert abs(batch - found[name][0]) < 1e-6, "it has changed: a batch of volumes"
table = compute_segmentation_metrics(torch.from_numpy(masks["missed"]), torch.from_numpy(truth), spacing=(3.0, 1.0, 1.0))
print("missed, in one table:", ", ".join(f"{key} {table[key].item():.3f}" for key in ("dice", "jaccard", "precision", "recall")))
assert found["missed"][0] > 0.9 and found["missed"][1] > 0.9, "it has changed: a missed lesion has a low Dice"
assert found["met exactly"][0] < found["missed"][0], "it has changed: whole numbers that are equal"
assert found["one slice of it"][1:] == [1.0, 1.0, 1.0], "it has changed: one slice of the lesion"
assert table["dice"].item() > 0.9 and table["recall"].item() == 0, "it has changed: the table"
PYTHON
