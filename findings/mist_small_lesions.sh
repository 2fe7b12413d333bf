#!/bin/sh
# MIST counts a small lesion that is found as a false positive: a mask equal to the truth can have a lesion-wise Dice of 0.
#
# Guess:     lesions below min_lesion_volume (10 mm3 by default) are excluded: whether they are found or missed, a prediction
#            equal to the truth is 1.0 by lesion_wise_dice and lesion_wise_f1.
# Behaviour: they are taken from the truth only. The prediction keeps them, has nothing left to match them with, and each
#            counts as a false alarm. Truth and prediction with a large and a small lesion: Dice 0.5 and F1 0.67, and 1.0
#            for the prediction that misses the small one. With small lesions only, all found: 0.0, as for an empty one. The
#            plain Dice is 1.0. Nothing is said. The code of BraTS 2023, whose protocol it follows, matches first and then
#            leaves the small pairs out; a remark beside MIST's default of 10 mm3 says the same.
# Versions:  mist-medical 2.3.0, torch 2.13.0, monai 1.6.1, SimpleITK 2.5.7, numpy 2.4.6. Seen on 2026-11-29.
# Why:       who sets the volume to leave out nodules under 6 mm (113 mm3) ranks the network that finds them below the one
#            that is blind to them; mist_rank ranks by these tables. Take the small lesions out of the prediction as well,
#            where they touch one of the truth, or set min_lesion_volume to 0.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check mist-medical==2.3.0 torch==2.13.0 monai==1.6.1 \
    SimpleITK==2.5.7 numpy==2.4.6 scipy==1.17.1 pandas==3.1.1
cat >"$work/make.py" <<'PYTHON'
import json
import sys
from pathlib import Path

import numpy as np
import pandas
import SimpleITK

work = Path(sys.argv[1])
SIDES_MM = (0.7, 0.7, 1.25)
LARGE, SMALL = np.s_[4:10, 10:20, 10:20], np.s_[20:23, 40:42, 40:42]  # slices first: 367 and 7 mm3


def file_of(name, lesions):
    mask = np.zeros((32, 64, 64), np.uint8)
    for place in lesions:
        mask[place] = 1
    image = SimpleITK.GetImageFromArray(mask)
    image.SetSpacing(SIDES_MM)
    SimpleITK.WriteImage(image, work / f"{name}.nii.gz")
    return str(work / f"{name}.nii.gz")


large, small, both, none = (
    file_of(*mask) for mask in (("large", [LARGE]), ("small", [SMALL]), ("both", [LARGE, SMALL]), ("none", []))
)
pandas.DataFrame(
    [
        ("both, the large one found", both, large),
        ("both, both found", both, both),
        ("a small one, missed", small, none),
        ("a small one, found", small, small),
    ],
    columns=["id", "mask", "prediction"],
).to_csv(work / "cases.csv", index=False)
every = {"min_lesion_volume": 0}
(work / "metrics.json").write_text(json.dumps({
    "default": {"labels": [1], "metrics": {"dice": {}, "lesion_wise_dice": {}, "lesion_wise_f1": {}}},
    "all_sizes": {"labels": [1], "metrics": {"lesion_wise_dice": every, "lesion_wise_f1": every}},
}))
PYTHON
cat >"$work/look.py" <<'PYTHON'
import sys

import pandas

table = pandas.read_csv(sys.argv[1], index_col="id")
for case in ("both, the large one found", "both, both found", "a small one, missed", "a small one, found"):
    row = table.loc[case].round(2)
    print(f"{case:26}: plain Dice {row.default_dice:.2f}, lesion-wise Dice {row.default_lesion_wise_dice:.2f} and F1 "
          f"{row.default_lesion_wise_f1:.2f}; with min_lesion_volume 0 {row.all_sizes_lesion_wise_dice:.2f} and "
          f"{row.all_sizes_lesion_wise_f1:.2f}")
lesion_wise = table.filter(like="lesion_wise").round(2)
assert (table.loc[["both, both found", "a small one, found"], "default_dice"] == 1).all()
assert lesion_wise.loc["both, the large one found"].tolist() == [1, 1, 0.5, 0.67]
assert lesion_wise.loc["both, both found"].tolist() == [0.5, 0.67, 1, 1], "it has changed: both found"
assert lesion_wise.loc["a small one, missed"].tolist() == [0, 0, 0, 0]
assert lesion_wise.loc["a small one, found"].tolist() == [0, 0, 1, 1], "it has changed: a small one"
PYTHON
"$work/env/bin/python" "$work/make.py" "$work"
"$work/env/bin/mist_evaluate" --config "$work/metrics.json" --paths-csv "$work/cases.csv" --output-csv "$work/table.csv"
"$work/env/bin/python" "$work/look.py" "$work/table.csv"
