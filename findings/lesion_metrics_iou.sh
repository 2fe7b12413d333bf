#!/bin/sh
# Half a scan that is marked overlaps a lesion perfectly by lesion-metrics: its IoU of a lesion sees the lesion's box alone.
#
# Guess:     iou_per_lesion(truth, mask) is the intersection of each lesion with what is marked, over their union.
# Behaviour: what is marked is cut to the bounding box of the lesion first. A lesion of 1,000 voxels in a mask of 90,000 has
#            an IoU of 1.0 instead of 0.011, for it is a box; a ball of 2,109 voxels in it has 0.43 instead of 0.023. ltpr
#            with iou_threshold=0.5 calls the first found. Seen from the mask (lfdr) the same pair has 0.011 and is a false
#            discovery, so all lesions are found and all findings are false. dice and jaccard see the whole scan.
# Versions:  lesion-metrics 0.1.12, scikit-image 0.26.0, scipy 1.17.1, numpy 2.4.6. Seen on 2026-11-30.
# Why:       a lesion is to count as found only if it is outlined; by this a network that marks the whole liver finds all of
#            its metastases. Take the components of the mask that touch the lesion, whole.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    lesion-metrics==0.1.12 scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6 pandas==3.1.1
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
from lesion_metrics.metrics import iou_per_lesion, jaccard, lfdr, ltpr

marked = np.zeros((60, 60, 40), bool)
marked[5:55, 5:55, 2:38] = True
box = np.zeros_like(marked)
box[20:30, 20:30, 10:20] = True
ball = ((np.indices(marked.shape).T - (30, 30, 20)) ** 2).sum(axis=-1).T <= 64
for name, lesion in (("box", box), ("ball", ball)):
    (seen,), (from_mask,) = iou_per_lesion(lesion, marked), iou_per_lesion(marked, lesion)
    found, false = ltpr(marked, lesion, iou_threshold=0.5), lfdr(marked, lesion, iou_threshold=0.5)
    print(f"{name} of {lesion.sum()} voxels in {marked.sum()} marked: IoU {seen:.3f}, from the mask {from_mask:.3f}, jaccard "
          f"{jaccard(marked, lesion):.3f}; at 0.5: found {found:.1f}, false discoveries {false:.1f}")
    assert abs(from_mask - jaccard(marked, lesion)) < 1e-6
    assert seen > 10 * jaccard(marked, lesion), "it has changed: the whole mask counts"
assert ltpr(marked, box, iou_threshold=0.5) == lfdr(marked, box, iou_threshold=0.5) == 1, "it has changed"
PYTHON
