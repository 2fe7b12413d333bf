#!/bin/sh
# In polars a score of NaN lies above every threshold, first in a list that begins with the highest, and is not the maximum.
#
# Guess:     as in numpy, pandas and IEEE 754: NaN > 0.5 is false, NaN == NaN is false; or, if NaN is taken for the largest
#            number there is, it is the maximum, too.
# Behaviour: NaN > 0.95 is true and NaN == NaN is true, so filters keep it; sorted from the highest it comes first and
#            from the lowest last, where pandas puts it last in both. max() passes over it all the same: 0.9.
# Versions:  polars 2.1.0, pandas 3.1.1. Seen on 2026-11-28.
# Why:       a worklist of scans by suspicion: with pandas a case without a score is left out by the threshold, with polars
#            it is at the top, above all that were found, and the maximum beside the list says 0.9. Write null where
#            there is no number: both leave it out.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install --quiet --disable-pip-version-check polars==2.1.0 pandas==3.1.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import pandas as pd
import polars as pl

SCORES = {"case": ["found", "no score", "clear"], "score": [0.9, float("nan"), 0.1]}
ours, theirs = pl.DataFrame(SCORES), pd.DataFrame(SCORES)
kept = {
    "polars": ours.filter(pl.col("score") > 0.95)["case"].to_list(),
    "pandas": theirs[theirs.score > 0.95]["case"].tolist(),
}
first = {
    "polars": ours.sort("score", descending=True)["case"][0],
    "pandas": theirs.sort_values("score", ascending=False)["case"].iloc[0],
}
highest = {"polars": ours["score"].max(), "pandas": theirs.score.max()}
for name in kept:
    print(f"{name}: above 0.95 {kept[name]}, first {first[name]!r}, maximum {highest[name]}")
assert kept == {"polars": ["no score"], "pandas": []}, "it has changed"
assert first == {"polars": "no score", "pandas": "found"}, "it has changed"
assert highest == {"polars": 0.9, "pandas": 0.9}, "it has changed"
assert ours.filter(pl.col("score") == pl.col("score")).height == 3
nulls = ours.with_columns(pl.col("score").fill_nan(None))
assert nulls.filter(pl.col("score") > 0.95).is_empty()
PYTHON
