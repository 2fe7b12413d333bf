"""Intervals, permutation test and ranks, against hand-made values and SciPy."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from eval.__main__ import main
from eval.accuracy.compare import compare_runs
from eval.accuracy.statistics import bootstrap_ratio, case_ranks, describe, paired_permutation, resample_counts, wilson

HEAD = "Name,Lesion_DSC,Lesion_NSD,scan_detection\n"


def test_describe_by_hand():
    # 1, 2, 3, 6: mean 3, squares 4 + 1 + 0 + 9 = 14 over 3; quartiles 1.75, 2.5, 3.75 (linear).
    found = describe([1, 2, 3, 6])
    assert (found.n, found.mean, found.median, found.q1, found.q3) == (4, 3.0, 2.5, 1.75, 3.75)
    assert found.std == pytest.approx((14 / 3) ** 0.5)
    assert found.ci95 is not None
    assert found.ci95[0] < 3 < found.ci95[1]


def test_nothing_gives_null_and_one_value_gives_no_spread():
    empty = describe([]).as_dict()
    assert empty.pop("n") == 0
    assert set(empty.values()) == {None}
    one = describe([0.5])
    assert (one.mean, one.std, one.ci95) == (0.5, None, None)


def test_a_ratio_without_denominator_is_null():
    assert bootstrap_ratio([0, 0], [0, 0]).as_dict() == {"value": None, "low": None, "high": None, "n": 0}
    assert bootstrap_ratio([], []).value is None


def test_a_ratio_of_one_row_has_no_interval():
    estimate = bootstrap_ratio([1, 0], [2, 0])
    assert (estimate.value, estimate.low, estimate.high, estimate.n) == (0.5, None, None, 1)


def test_the_bootstrap_is_seeded():
    values = np.arange(10.0)
    assert bootstrap_ratio(values, np.ones(10), seed=1) == bootstrap_ratio(values, np.ones(10), seed=1)
    assert bootstrap_ratio(values, np.ones(10), seed=1) != bootstrap_ratio(values, np.ones(10), seed=2)
    counts = resample_counts(7, seed=3, resamples=50)
    assert counts.shape == (50, 7)
    assert set(counts.sum(axis=1)) == {7.0}


def test_the_mean_interval_agrees_with_scipy():
    values = np.random.default_rng(0).normal(5, 2, 40)
    ours = bootstrap_ratio(values, np.ones(40), resamples=5000)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=5000, method="percentile", rng=1).confidence_interval
    assert ours.low == pytest.approx(theirs.low, abs=0.08)
    assert ours.high == pytest.approx(theirs.high, abs=0.08)


def test_a_ratio_interval_agrees_with_a_plain_loop():
    top, bottom = np.array([1, 0, 3, 2, 0, 1.0]), np.array([2, 1, 3, 4, 0, 1.0])
    rng = np.random.default_rng(9)
    drawn = []
    for _ in range(4000):
        rows = rng.integers(0, 6, 6)
        if bottom[rows].sum() > 0:
            drawn.append(top[rows].sum() / bottom[rows].sum())
    ours = bootstrap_ratio(top, bottom, resamples=4000)
    assert ours.value == 7 / 11
    assert (ours.low, ours.high) == pytest.approx(np.quantile(drawn, [0.025, 0.975]), abs=0.04)


def test_unequal_vectors_are_refused():
    with pytest.raises(ValueError, match="equal length"):
        bootstrap_ratio([1, 2], [1])


@pytest.mark.parametrize(("k", "n"), [(0, 10), (3, 10), (10, 10), (1, 1), (55, 172)])
def test_wilson_agrees_with_scipy(k, n):
    expected = stats.binomtest(k, n).proportion_ci(method="wilson")
    assert wilson(k, n) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_wilson_of_nothing_is_null():
    assert wilson(0, 0) is None


def test_permutation_by_hand():
    # Differences 1, 2, 3: sums over the 8 sign patterns are +-6, +-4, +-2, 0, 0; two of them reach 6.
    assert paired_permutation([1, 2, 3]) == 2 / 8
    # 1, -1: sums +-2, 0, 0; the observed 0 is reached by all.
    assert paired_permutation([1, -1]) == 1.0
    assert paired_permutation([0, 0, 0]) == 1.0
    assert paired_permutation([]) is None


@pytest.mark.parametrize("n", [6, 16])
def test_exact_permutation_agrees_with_scipy(n):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0, 1, n), rng.normal(0.4, 1, n)
    expected = stats.permutation_test(
        (a, b),
        lambda x, y, axis: np.mean(x - y, axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**n,
    ).pvalue
    assert paired_permutation(b - a) == pytest.approx(expected, abs=1e-9)


def test_drawn_permutation_is_near_the_exact_one_and_never_zero(monkeypatch):
    rng = np.random.default_rng(4)
    differences = rng.normal(0.3, 1, 15)
    exact = paired_permutation(differences)
    monkeypatch.setattr("eval.accuracy.statistics.EXACT_UP_TO", 0)
    assert paired_permutation(differences) == pytest.approx(exact, abs=0.02)
    assert paired_permutation(np.full(40, 1.0), permutations=500) == 1 / 501


@settings(max_examples=40, deadline=None)
@given(st.lists(st.floats(-1, 1).map(lambda v: round(v, 3)), min_size=1, max_size=9), st.randoms())
def test_permutation_ignores_sign_and_order(differences, random):
    p = paired_permutation(differences)
    shuffled = differences.copy()
    random.shuffle(shuffled)
    assert 0 < p <= 1
    assert paired_permutation([-d for d in shuffled]) == pytest.approx(p)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=6))
def test_ranks_agree_with_scipy(rows):
    values = np.array(rows, dtype=float)
    np.testing.assert_allclose(case_ranks(values), stats.rankdata(-values, axis=1))
    np.testing.assert_allclose(case_ranks(values, higher_is_better=False), stats.rankdata(values, axis=1))


# --- Comparison of two runs ------------------------------------------------------------------------------------------


def rows(**scores):
    return {
        name: {"Name": name, "Lesion_DSC": str(dsc), "Lesion_NSD": str(dsc / 2), "scan_detection": state}
        for name, (dsc, state) in scores.items()
    }


def test_compare_by_hand():
    first = rows(a=(0.5, "TP"), b=(0.2, "FN"), c=(1.0, "TN"), only=(0.0, "FP"))
    second = rows(a=(0.7, "TP"), b=(0.6, "TP"), c=(1.0, "TN"), other=(0.0, "FP"))
    result = compare_runs(first, second)
    assert (result["pairs"], result["only_in_first"], result["only_in_second"]) == (3, ["only"], ["other"])
    dsc = result["metrics"]["Lesion_DSC"]
    assert dsc["difference"] == pytest.approx(0.2)
    assert (dsc["better"], dsc["worse"], dsc["equal"]) == (2, 0, 1)
    assert dsc["p_value"] == 0.5  # two moving pairs: 2 of 4 sign patterns
    assert dsc["mean_rank"] == pytest.approx([(2 + 2 + 1.5) / 3, (1 + 1 + 1.5) / 3])
    assert dsc["ci95"][0] <= 0.2 <= dsc["ci95"][1]
    assert result["metrics"]["scan_decision_correct"]["difference"] == pytest.approx(1 / 3)


def test_compare_without_pairs_is_null():
    metric = compare_runs(rows(a=(1.0, "TP")), rows(b=(1.0, "TP")))["metrics"]["Lesion_DSC"]
    assert (metric["n"], metric["difference"], metric["p_value"], metric["ci95"]) == (0, None, None, None)


def test_compare_from_the_command_line(tmp_path, capsys):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text(HEAD + "a,0.5,0.5,TP\nb,0.2,0.1,FN\n")
    second.write_text(HEAD + "a,0.6,0.5,TP\nc,0.2,0.1,FN\n")
    assert main(["compare", str(first), str(second), "--json", "-o", str(tmp_path / "out" / "c.json")]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["pairs"] == 1
    assert json.loads((tmp_path / "out" / "c.json").read_text())["metrics"]["Lesion_DSC"]["ci95"] is None
    assert "only in" in shown.err
    assert main(["compare", str(first), str(second)]) == 0
    assert "Lesion_DSC: 0.5000 -> 0.6000" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text", ["Name,Lesion_DSC\na,1\n", HEAD + "a,x,1,TP\n", HEAD + "a,nan,1,TP\n", HEAD + "a,1,1,TP\na,1,1,TP\n"]
)
def test_compare_refuses_other_files(tmp_path, capsys, text):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text(HEAD + "a,1,1,TP\n")
    bad.write_text(text)
    assert main(["compare", str(good), str(bad)]) == 2
    assert "bad.csv" in capsys.readouterr().err


def test_compare_of_disjoint_runs_says_so(tmp_path, capsys):
    first, second = tmp_path / "a.csv", tmp_path / "b.csv"
    first.write_text(HEAD + "a,1,1,TP\n")
    second.write_text(HEAD + "b,1,1,TP\n")
    assert main(["compare", str(first), str(second)]) == 1
    assert "no pair" in capsys.readouterr().out
