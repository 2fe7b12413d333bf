#!/bin/sh
# picai_eval gives a detector that finds every lesion a lesion sensitivity of 0, and one that misses a lesion its due.
#
# Guess:     three lesions of three found, nothing else found: the sensitivity of the FROC curve (lesion_TPR) ends at 1.0.
# Behaviour: the last point of the curve is always put to an infinite number of false positives, with the hits of the point
#            before it. That suits the confidence 0 of missed lesions. Where none was missed the least sure candidates fall
#            out instead: 2 of 3 are found for three hits of three confidences. With one confidence (masks of 0 and 1) there
#            is no point before it, and 0 of 3 are found, with or without a false positive. Four lesions with one missed have
#            0.75, as they should. The average precision and the AUROC come from elsewhere: 1.0 for the same three. Nothing
#            is said.
# Versions:  picai-eval 1.4.13, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1. Seen on 2026-11-29.
# Why:       in small test sets, folds and subgroups all lesions may well be found, and a segmentation without confidences
#            is common: the best network has the worst FROC. lesion_TPR_at_FPR has it too.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    picai-eval==1.4.13 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
from picai_eval import evaluate


def volumes(confidences, false_alarm):
    """A detection map and a mask: a lesion for each confidence, which is 0 where it is missed."""
    mask, found = np.zeros((6, 8, 20), np.int32), np.zeros((6, 8, 20), np.float32)
    for number, confidence in enumerate(confidences):
        place = np.s_[2:4, 1:3, 1 + 4 * number : 3 + 4 * number]
        mask[place], found[place] = 1, confidence
    found[2:4, 5:7, 1:3] = false_alarm
    return found, mask


def sensitivity(name, cases, false_alarm=0.0):
    """Where the curve of these patients ends; the last patient has no lesion."""
    maps, masks = zip(*[volumes(case, 0) for case in cases], volumes([], false_alarm))
    result = evaluate(maps, masks, num_parallel_calls=1)
    print(f"{name:36}: {result.num_lesions} lesions, hits {result.lesion_TP.tolist()} at false positives "
          f"{result.lesion_FP.tolist()}, sensitivity {result.lesion_TPR.max():.2f}, at 1 false positive "
          f"{result.lesion_TPR_at_FPR(1):.2f}, AP {result.AP:.2f}, AUROC {result.auroc:.2f}")
    assert np.isinf(result.lesion_FP[-1]), "it has changed: the last point"
    return result


all_ones = sensitivity("all found, confidence 1", [[1, 1], [1]])
alarm = sensitivity("the same, with a false positive", [[1, 1], [1]], false_alarm=1)
three = sensitivity("all found, confidences .9, .8 and .7", [[0.9, 0.8], [0.7]])
missed = sensitivity("three found and one missed", [[1, 1], [1, 0]])
assert all_ones.AP == all_ones.auroc == three.AP == 1
assert all_ones.lesion_TPR.max() == all_ones.lesion_TPR_at_FPR(1) == 0, "it has changed: one confidence"
assert alarm.lesion_TPR.max() == 0, "it has changed: one confidence and a false positive"
assert np.isclose(three.lesion_TPR.max(), 2 / 3), "it has changed: three confidences"
assert np.isclose(missed.lesion_TPR.max(), 3 / 4)
PYTHON
