"""Lesions judged by heads that have not seen their scan, and what bias and marks become by them."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gfscreen.training.cells.examples import NEGATIVE, POSITIVE  # noqa: E402
from gfscreen.training.cells.gathering import ScanCells  # noqa: E402
from gfscreen.training.cells.head import Regression  # noqa: E402
from gfscreen.training.cells.held_out import (  # noqa: E402
    HeldOutLesions,
    best_cells,
    bias_move,
    held_out,
    joined,
    mark_logit,
)


def scan_of(*lesions: tuple[str, int, float, tuple[float, ...]], others: int = 3) -> ScanCells:
    """Cells with one feature. lesions: kind, channel of the region, ml and the feature of each of its cells."""
    value, region, number = [0.0] * others, [0] * others, [0] * others
    for n, (_, channel, _, cells) in enumerate(lesions, start=1):
        value += cells
        region += [channel] * len(cells)
        number += [n] * len(cells)
    lesion = np.array(number, np.int32)
    return ScanCells(
        features=np.array(value, np.float16)[:, None],
        region=np.array(region, np.int8),
        kind=np.where(lesion > 0, POSITIVE, NEGATIVE).astype(np.int8),
        lesion=lesion,
        lesion_kind=np.array([kind for kind, *_ in lesions], np.str_),
        lesion_ml=np.array([ml for _, _, ml, _ in lesions], np.float32),
    )


def head(bias: float = 0.0) -> Regression:
    """Logit = feature + bias."""
    return Regression(torch.zeros(1), torch.ones(1), torch.ones(1), bias)


def test_a_lesion_counts_by_its_most_suspicious_cell():
    scan = scan_of(("real", 0, 2.0, (-1.0, 3.0, 0.5)), ("soft", 1, 0.25, (1.0, -2.0)))
    found = best_cells(scan, {0: head(), 1: head(10.0)})
    assert found.logit.tolist() == [3.0, 11.0]
    assert found.region.tolist() == [0, 1]
    assert found.ml.tolist() == [2.0, 0.25]


def test_a_region_without_a_head_has_no_lesions():
    scan = scan_of(("real", 0, 2.0, (1.0,)), ("real", 1, 2.0, (2.0,)))
    assert best_cells(scan, {1: head()}).logit.tolist() == [2.0]
    assert best_cells(scan, {}).logit.size == 0
    assert best_cells(scan_of(), {0: head()}).logit.size == 0


def test_no_version_of_a_scan_teaches_the_head_that_judges_it():
    """A lesion's feature is minus its scan's number; a head's bias is the sum of 2 ** (number + 3) of its scans."""
    scans = [(name, scan_of(("real", 0, 1.0, (-float(n % 5),)))) for n, name in enumerate("ABCDEABCDE")]
    number = {id(scan): "ABCDE".index(name) for name, scan in scans}

    def fit(rest, channel):
        return head(float(sum({2 ** (number[id(scan)] + 3) for scan in rest})))

    found, others = held_out(scans, (0,), fit)
    assert len(found.logit) == 10
    # 4 folds of five names: A is judged with E, the others alone.
    everyone = sum(2 ** (n + 3) for n in range(5))
    without = {0: 2**3 + 2**7, 1: 2**4, 2: 2**5, 3: 2**6, 4: 2**3 + 2**7}
    assert sorted(found.logit.tolist()) == sorted(2 * [everyone - gone - n for n, gone in without.items()])
    # Three other cells of feature 0 in each version.
    assert sorted(others[0].tolist()) == sorted(6 * [everyone - gone for gone in without.values()])


def test_nothing_is_held_out_of_a_single_scan():
    scan = scan_of(("real", 0, 1.0, (1.0,)))
    found, others = held_out([("A", scan), ("A", scan)], (0, 1), lambda rest, channel: pytest.fail("asked"))
    assert found.logit.size == others[0].size == others[1].size == 0


def test_a_fold_that_teaches_nothing_leaves_its_lesions_out():
    scans = [(name, scan_of(("real", 0, 1.0, (1.0,)))) for name in "AB"]
    found, others = held_out(scans, (0,), lambda rest, channel: None)
    assert found.logit.size == others[0].size == 0


def lesions(*logits: float, ml: float = 1.0, channel: int = 1) -> HeldOutLesions:
    n = len(logits)
    return HeldOutLesions(np.array(logits, np.float32), np.full(n, channel, np.int8), np.full(n, ml, np.float32))


def test_one_other_cell_of_fifty_is_likely_after_the_move():
    logits = np.linspace(-9.0, 1.0, 1001).astype(np.float32)
    move = bias_move(logits)
    assert move == pytest.approx(-0.8, abs=0.011)
    assert np.mean(logits + move > 0) == pytest.approx(0.02, abs=0.001)
    assert bias_move(logits - 20.0) == pytest.approx(move + 20.0, abs=1e-4)
    assert bias_move(np.zeros(0, np.float32)) == 0.0


class TestMarkLogit:
    def test_four_of_five_lesions_reach_it(self):
        found = lesions(2.0, 1.0, -0.5, -1.5, -4.0)
        assert mark_logit(found.logit, found) == -1.5
        assert mark_logit(found.logit + 1.0, found) == -0.5

    def test_small_ones_do_not_count(self):
        found = joined([lesions(1.0), lesions(-3.0, ml=0.4)])
        assert mark_logit(found.logit, found) == 1.0

    def test_none(self):
        assert mark_logit(np.zeros(0, np.float32), joined([])) is None
