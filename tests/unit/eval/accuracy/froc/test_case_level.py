"""AUC and reliability per scan, by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.accuracy.froc.case_level import auc, reliability


def test_auc_by_hand():
    # With lesion: 0.9, 0.4; without: 0.4, 0.2. Pairs: 1, 1, 1/2, 1 of 4.
    found = auc([0.9, 0.4, 0.4, 0.2], [True, True, False, False])
    assert found["value"] == 3.5 / 4
    assert (found["with_lesion"], found["without_lesion"], found["n"], found["reason"]) == (2, 2, 4, None)
    assert 0 <= found["low"] <= 3.5 / 4 <= found["high"] <= 1


def test_no_finding_is_below_every_score():
    assert auc([0.0, None], [True, False])["value"] == 1.0
    assert auc([None, None], [True, False])["value"] == 0.5


@pytest.mark.parametrize(
    ("lesion", "value", "reason"),
    [
        ([True, True], None, "no scan without lesion"),
        ([False, False], None, "no scan with lesion"),
        ([], None, "no scan with lesion"),
        ([True, False, False], 1.0, "one scan with lesion: no interval"),
        ([True, True, False], 0.0, "one scan without lesion: no interval"),
    ],
)
def test_where_it_is_undefined_it_says_so(lesion, value, reason):
    scores = [0.9, 0.2, 0.95][: len(lesion)] if lesion != [True, False, False] else [0.9, 0.2, 0.1]
    found = auc(scores, lesion)
    assert (found["value"], found["low"], found["high"], found["reason"]) == (value, None, None, reason)


def test_one_score_for_each_scan():
    with pytest.raises(ValueError, match="one score per scan"):
        auc([0.1], [True, False])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=12))
def test_turned_round_it_is_the_rest_to_one(scans):
    lesion = [sick for _, sick in scans]
    if len(set(lesion)) < 2:
        return
    scores = [float(score) for score, _ in scans]
    there, back = auc(scores, lesion)["value"], auc([-score for score in scores], lesion)["value"]
    assert there + back == pytest.approx(1.0)


def test_reliability_by_hand():
    # Bins 0.3-0.4: 0.3, 0.35, of which one has a lesion; 0.9-1: 1.0, with lesion.
    found = reliability([0.3, 0.35, 1.0], [False, True, True])
    assert [b["scans"] for b in found["bins"]] == [0, 0, 0, 2, 0, 0, 0, 0, 0, 1]
    third, last, empty = found["bins"][3], found["bins"][9], found["bins"][0]
    assert (third["low"], third["high"], third["predicted"], third["observed"]) == (0.3, 0.4, pytest.approx(0.325), 0.5)
    assert (last["predicted"], last["observed"]) == (1.0, 1.0)
    assert last["wilson"][0] < 0.3  # one scan says little
    assert (empty["predicted"], empty["observed"], empty["wilson"]) == (None, None, None)
    assert found["brier"]["value"] == pytest.approx((0.3**2 + 0.65**2 + 0) / 3)
    assert found["brier_of_share"] == pytest.approx(2 / 9)
    assert found["expected_calibration_error"] == pytest.approx(2 * 0.175 / 3)


def test_every_bin_holds_its_lower_limit():
    found = reliability([index / 10 for index in range(11)], [True] * 11)
    assert [b["scans"] for b in found["bins"]] == [1] * 9 + [2]


def test_no_scan_is_null():
    found = reliability([], [])
    assert (found["scans"], found["brier"]["value"], found["expected_calibration_error"]) == (0, None, None)


@pytest.mark.parametrize("wrong", [1.1, -0.1, np.nan])
def test_a_suspicion_lies_between_0_and_1(wrong):
    with pytest.raises(ValueError, match="one suspicion in"):
        reliability([wrong], [True])
