#!/bin/sh
# grand-challenge-metrics never draws the last patient in its bootstrap: an AUC of 0.95 gets an interval from 1.00 to 1.00.
#
# Guess:     each patient is drawn as likely as any other: the interval holds the AUC, and a cancer with a low score widens it
#            wherever it stands in the list.
# Behaviour: numbers are drawn up to the last but one. A missed cancer among 40 patients costs the AUC 0.05: first in the
#            list, the interval is 0.86 to 1.00; last, it is 1.00 to 1.00, and the mean curve is that of a faultless detector.
#            Whatever score the last patient has, curves and intervals are the same to the last bit. So are the points and
#            errors of get_bootstrapped_ci_point_error. More resamples do not help. Nothing is said.
# Versions:  grand-challenge-metrics 0.6.0, numpy 2.4.6, scipy 1.17.1, scikit-learn 1.9.1. Seen on 2026-11-29.
# Why:       in a small test set one patient matters, and it is always the same one that is left out: two teams with the same
#            scores in another order have other intervals, one of them that of a flawless network. Append any patient once
#            more at the end: only that copy is then left out.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check \
    grand-challenge-metrics==0.6.0 numpy==2.4.6 scipy==1.17.1 scikit-learn==1.9.1
"$work/env/bin/python" - <<'PYTHON'
import numpy as np
from grand_challenge_metrics.roc import get_bootstrapped_ci_point_error, get_bootstrapped_roc_ci_curves
from sklearn.metrics import roc_auc_score

truth = np.repeat([0, 1], 20)
score = np.where(truth == 1, 0.9, 0.1)
score[-1] = 0.05  # a cancer that is missed


def shown(name, scores, cancers, **more):
    curves = get_bootstrapped_roc_ci_curves(scores, cancers, **more)
    print(f"{name:34}: AUC {roc_auc_score(cancers, scores):.2f}, interval {curves.low_az_val:.2f} to "
          f"{curves.high_az_val:.2f}, mean sensitivity at 10 % false alarms {curves.mean_tpr_vals[10]:.3f}")
    return curves


def same(one, other):
    return all(np.array_equal(*pair) for pair in zip(one, other))


first = shown("the missed cancer is first", score[::-1], truth[::-1])
last = shown("the missed cancer is last", score, truth)
many = shown("last, 5000 resamples", score, truth, num_bootstraps=5000)
found = shown("it is found after all", np.append(score[:-1], 0.9), truth)
again = shown("last, a patient appended once more", np.append(score, score[0]), np.append(truth, truth[0]))
assert first.low_az_val < 0.9 and again.low_az_val < 0.9
assert last.low_az_val == many.low_az_val == 1 > roc_auc_score(truth, score), "it has changed: the interval"
assert same(last, found), "it has changed: the curves depend on the last patient"
assert not same(first, last)

grades = np.tile([1, 2, 3, 4], 10)
grades = np.where(truth == 1, grades, 5 - grades)
low, high = (get_bootstrapped_ci_point_error(np.append(grades[:-1], grade), truth) for grade in (1, 4))
print("sensitivity of the points with a last grade of 1 and of 4:", low.mean_tprs.round(4), high.mean_tprs.round(4))
assert same(low, high), "it has changed: the points depend on the last patient"
PYTHON
