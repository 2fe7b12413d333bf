"""The FROC curve by hand, and what holds for every curve."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.accuracy.froc.curve import RATES, SweptScan, froc
from eval.accuracy.froc.matching import FALSE, HIT, IGNORED, MEANINGS, SweptFinding, SweptLesion
from eval.accuracy.statistics import resample_counts


def lesion(one_voxel: float | None, a_tenth: float | None = None, volume_ml: float = 1.0) -> SweptLesion:
    return SweptLesion(1, volume_ml, one_voxel, a_tenth)


def finding(score: float, verdict: str = FALSE) -> SweptFinding:
    return SweptFinding(1, 1, 0.001, score, verdict)


# Two scans, three lesions, false positives at 0.8, 0.5 and 0.4, one that is ignored.
FIRST = SweptScan((lesion(0.9, 0.6), lesion(None)), (finding(0.9, HIT), finding(0.8), finding(0.95, IGNORED)))
SECOND = SweptScan((lesion(0.5, 0.5),), (finding(0.5), finding(0.4)))


def test_the_points_by_hand():
    found = froc([FIRST, SECOND])
    assert (found["scans"], found["lesions"], found["false_positives"]) == (2, 3, 3)
    rows = [tuple(point.values()) for point in found["points"]]
    third = pytest.approx(1 / 3)
    assert rows == [
        (0.9, 0.0, third, 0.0),
        (0.8, 0.5, third, 0.0),
        (0.6, 0.5, third, third),
        (0.5, 1.0, pytest.approx(2 / 3), pytest.approx(2 / 3)),
        (0.4, 1.5, pytest.approx(2 / 3), pytest.approx(2 / 3)),
    ]
    assert found["end"] == found["points"][-1]


def test_a_rate_has_the_lowest_score_that_keeps_to_it_and_none_beyond_the_end():
    at = froc([FIRST, SECOND])["sensitivity_at"]
    assert [at["one_voxel"][rate]["value"] for rate in ("0.5", "1")] == [pytest.approx(1 / 3), pytest.approx(2 / 3)]
    assert at["a_tenth"]["0.5"]["value"] == pytest.approx(1 / 3)  # at 0.6, not at 0.8
    assert at["one_voxel"]["0.5"]["reason"] is None
    beyond = at["one_voxel"]["2"]
    assert (beyond["value"], beyond["low"], beyond["wilson"]) == (None, None, None)
    assert beyond["reason"] == "not reached: the curve ends at 1.5 false positives per scan"


def test_where_the_first_score_has_too_many_nothing_is_found():
    scans = [SweptScan((lesion(0.9, 0.9),), (finding(0.9), finding(0.9)))]
    at = froc(scans)["sensitivity_at"]["one_voxel"]
    assert [at[rate]["value"] for rate in ("0.5", "1", "2", "4")] == [0.0, 0.0, 1.0, None]


def test_lesions_of_a_kind_with_the_false_positives_of_all():
    scans = [
        SweptScan((lesion(0.9, 0.9, 0.05),), ()),
        SweptScan((lesion(None, None, 5.0),), (finding(0.5), finding(0.5))),
    ]
    small = froc(scans, lambda x: x.size == "<0.1 ml")
    assert (small["lesions"], small["sensitivity_at"]["one_voxel"]["1"]["value"]) == (1, 1.0)
    assert small["sensitivity_at"]["one_voxel"]["1"]["low"] is None  # one scan carries the lesions
    none = froc(scans, lambda x: False)
    assert (none["points"], none["end"]) == ([], None)
    assert none["sensitivity_at"]["a_tenth"]["1"]["reason"] == "no lesion"


def test_an_unanswered_scan_misses_its_lesions_and_is_no_scan_of_the_rate():
    missing = SweptScan((lesion(None),), (), answered=False)
    found = froc([SweptScan((lesion(0.9, 0.9),), (finding(0.5),)), missing])
    assert (found["scans"], found["end"]["false_positives_per_scan"], found["end"]["one_voxel"]) == (1, 1.0, 0.5)
    assert froc([missing])["sensitivity_at"]["one_voxel"]["1"]["reason"] == "no scan with a usable prediction"


def test_nothing_at_all():
    assert froc([])["points"] == []


def test_the_interval_is_that_of_curves_of_drawn_scans():
    """Against a bootstrap that draws each curve for itself."""
    rng = np.random.default_rng(3)
    scans = []
    for _ in range(6):
        scores = [float(s) for s in rng.random(3).round(1)]
        scans.append(SweptScan((lesion(scores[0], scores[0]),), (finding(scores[1]), finding(scores[2]))))
    found = froc(scans, seed=7)["sensitivity_at"]["one_voxel"]["1"]
    drawn = []
    for counts in resample_counts(len(scans), 7):
        again = [scan for scan, times in zip(scans, counts, strict=True) for _ in range(int(times))]
        thresholds = sorted({f.score for s in again for f in s.findings} | {s.lesions[0].one_voxel for s in again})
        best = 0.0
        for cut in thresholds:
            if sum(f.score >= cut for s in again for f in s.findings) <= len(again):
                best = max(best, sum(s.lesions[0].one_voxel >= cut for s in again) / len(again))
        drawn.append(best)
    assert [found["low"], found["high"]] == pytest.approx(np.quantile(drawn, [0.025, 0.975]).tolist())
    assert found["low"] < found["value"] < found["high"]


SCORES = st.integers(0, 10).map(lambda n: n / 10)
SCANS = st.lists(
    st.tuples(st.lists(st.none() | SCORES, max_size=3), st.lists(SCORES, max_size=4)), min_size=1, max_size=5
)


@settings(max_examples=40, deadline=None)
@given(SCANS)
def test_a_curve_never_falls_and_a_rates_value_lies_on_it(described):
    scans = [
        SweptScan(tuple(lesion(s, s if s is None else s / 2) for s in own), tuple(finding(s) for s in false))
        for own, false in described
    ]
    found = froc(scans)
    for key in ("false_positives_per_scan", *MEANINGS):
        assert all(np.diff([point[key] for point in found["points"]]) >= 0)
    assert all(point["one_voxel"] >= point["a_tenth"] for point in found["points"])
    for meaning in MEANINGS:
        for rate in RATES:
            at = found["sensitivity_at"][meaning][f"{rate:g}"]
            assert (at["value"] is None) == (at["reason"] is not None)
            if at["value"] is not None:
                kept = [p[meaning] for p in found["points"] if p["false_positives_per_scan"] <= rate + 1e-9]
                assert at["value"] == pytest.approx(max(kept, default=0.0))
                if at["low"] is not None:
                    assert 0 <= at["low"] <= at["high"] <= 1
