"""Which findings stand by how likely they are lesion."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.finding_plan import MEASURES, FindingMeasure, FindingModel
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.scan.grid import ModelScan
from gfscreen.screening import false_positive_reduction
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import CellMap
from gfscreen.screening.false_positive_reduction import (
    drop_false_positives,
    judged_findings,
    lesion_likelihood,
    measured_findings,
)
from gfscreen.screening.screening import screen
from tests.helpers.engines import TINY_PLAN, bright_engine
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, model_scan, paint, volume_of

SHAPE = (60, 50, 30)
LARGE, SMALL, FAINT = np.s_[10:20, 10:20, 8:12], np.s_[40:42, 30:32, 20:21], np.s_[30:40, 5:15, 20:24]


def model(offset: float = 0.0, **weights: float) -> FindingModel:
    """Of measures as they are, neither moved nor scaled."""
    measures = [
        FindingMeasure(name, 0.0, 1.0, value, (0.0,) * (len(weights) - number))
        for number, (name, value) in enumerate(weights.items())
    ]
    return FindingModel(offset, tuple(measures), 0.01)


def plan(found: FindingModel | None, finding_from: float = 0.5) -> Plan:
    return replace(TINY_PLAN, lesion_threshold=0.2, finding_model=found, finding_from=finding_from)


# 1.2 ml and 0.012 ml lie on both sides of 0.1 ml.
BY_VOLUME = model(3.0, log10_ml=3.0)


@pytest.fixture
def probability() -> NDArray[np.float32]:
    values = np.full(SHAPE, 0.1, np.float32)
    values[LARGE], values[SMALL], values[FAINT] = 0.9, 0.8, 0.25
    return values


@pytest.fixture
def scan():
    return model_scan(SHAPE, np.full(SHAPE, 40, np.float32), spacing_mm=(1.0, 1.0, 3.0))


def drop(probability: NDArray[np.float32], scan: ModelScan, asked: Plan) -> int:
    return drop_false_positives(probability, judged_findings(probability, scan, None, asked), asked.finding_from)


class TestDrop:
    def test_the_unlikely_goes_whole_and_the_rest_stays_as_it_is(self, probability, scan):
        before = probability.copy()
        assert drop(probability, scan, plan(BY_VOLUME)) == 1
        assert (probability[SMALL] == 0.0).all()
        before[SMALL] = 0.0
        np.testing.assert_array_equal(probability, before)

    @pytest.mark.parametrize(("finding_from", "dropped"), [(0.01, 0), (0.2, 1), (0.97, 3)])
    def test_by_how_likely_it_must_be(self, probability, scan, finding_from, dropped):
        assert drop(probability, scan, plan(BY_VOLUME, finding_from)) == dropped

    def test_the_value_itself_is_too_little(self, probability, scan):
        """Without weights every finding is as likely as the offset says: 0.5."""
        assert drop(probability.copy(), scan, plan(model(chest=0.0), 0.5)) == 3
        assert drop(probability.copy(), scan, plan(model(chest=0.0), 0.4999)) == 0

    def test_as_published_nothing_is_done(self, probability, scan):
        before = probability.copy()
        assert drop(probability, scan, plan(None, 0.0)) == 0
        assert drop(probability, scan, plan(model(-9.0, chest=0.0), 0.0)) == 0
        np.testing.assert_array_equal(probability, before)

    def test_nothing_found(self, scan):
        nothing = np.zeros(SHAPE, np.float32)
        assert drop(nothing, scan, plan(BY_VOLUME)) == 0
        assert measured_findings(nothing, scan, None, 0.2).values.shape == (0, len(MEASURES))

    def test_of_too_many_those_that_focus_is_least_sure_of_go(self, probability, scan, monkeypatch):
        monkeypatch.setattr(false_positive_reduction, "MOST_FINDINGS", 2)
        assert drop(probability, scan, plan(model(9.0, chest=0.0))) == 1
        assert (probability[FAINT] == 0.0).all()
        assert (probability[SMALL] == np.float32(0.8)).all()


class TestMeasured:
    def test_by_falling_peak_each_with_its_own_values(self, probability, scan):
        found = measured_findings(probability, scan, None, 0.2)
        ml = 10 ** found.values[:, MEASURES.index("log10_ml")]
        np.testing.assert_allclose(ml, [1.2, 0.012, 1.2])
        peaks = found.values[:, MEASURES.index("peak_logit")]
        np.testing.assert_allclose(peaks, np.log([9.0, 4.0, 1 / 3]), rtol=1e-5)
        inside = np.zeros(SHAPE, np.int32)
        inside[found.part] = found.numbers
        assert [int(inside[where].min()) for where in (LARGE, SMALL, FAINT)] == found.measured.tolist()

    def test_cells_are_those_of_the_scan_and_not_of_the_part(self, probability, scan):
        """Cells of 10 x 10 x 10 voxels; only that in the middle of SMALL is suspicious."""
        logit = np.full((6, 5, 3), -6.0, np.float32)
        logit[4, 3, 2] = 5.0
        found = measured_findings(probability, scan, CellMap(logit, (10.0, 10.0, 10.0)), 0.2)
        assert found.values[:, MEASURES.index("cell_logit")].tolist() == [-6.0, 5.0, -6.0]

    def test_chest_is_told_by_slice(self, probability, scan):
        chest = np.arange(SHAPE[2]) >= 21
        found = measured_findings(probability, replace(scan, chest=chest), None, 0.2)
        assert found.values[:, MEASURES.index("chest")].tolist() == [0.0, 0.0, 0.75]

    def test_hu_around_at_the_edge_of_all_findings(self, probability, scan):
        """The part that holds all of them has room for the shell."""
        hu = np.full(SHAPE, 40, np.float32)
        hu[:10] = -900
        found = measured_findings(probability, replace(scan, hu=hu), None, 0.2)
        assert found.values[0, MEASURES.index("air_around")] > 0.1


class TestJudged:
    def test_at_places_the_highest_of_what_they_belong_to(self, probability, scan):
        judged = judged_findings(probability, scan, None, plan(BY_VOLUME))
        large, small = (1 / (1 + np.exp(-3 - 3 * np.log10(ml))) for ml in (1.2, 0.012))
        assert judged.at(np.array([[11, 11, 9]])) == pytest.approx(large)
        assert judged.at(np.array([[0, 0, 0], [41, 31, 20], [59, 49, 29]])) == pytest.approx(small)
        assert judged.at(np.array([[41, 31, 20], [11, 11, 9]])) == pytest.approx(large)
        assert judged.at(np.array([[0, 0, 0], [25, 25, 15]])) == 0.0
        assert judged.at(np.zeros((0, 3), np.intp)) == 0.0

    def test_nobody_judges_without_a_model(self, probability, scan):
        assert judged_findings(probability, scan, None, plan(None, 0.0)) is None


class TestLikelihood:
    def test_is_the_logistic_regression(self):
        """Standardised, length is 0 and 1, chest -1 and 2."""
        values = np.zeros((2, len(MEASURES)))
        values[:, MEASURES.index("length")] = [1.0, 3.0]
        values[:, MEASURES.index("chest")] = [0.0, 0.75]
        found = FindingModel(
            0.5,
            (FindingMeasure("length", 1.0, 2.0, -0.7, (0.2, 0.4)), FindingMeasure("chest", 0.25, 0.25, 3.0, (0.1,))),
            0.01,
        )
        logit = np.array([0.5 - 3.0 + 0.1, 0.5 - 0.7 + 3.0 * 2.0 + 0.2 + 0.4 * 1.0 * 2.0 + 0.1 * 4.0])
        np.testing.assert_allclose(lesion_likelihood(values, found), 1 / (1 + np.exp(-logit)))
        assert lesion_likelihood(values[:0], found).shape == (0,)

    def test_what_focus_is_less_sure_of_than_of_all_that_was_learnt_from_is_held_for_none(self, probability, scan):
        surer = replace(model(2.0, chest=0.0), least_peak=0.3)
        judged = judged_findings(probability, scan, None, plan(surer))
        assert judged.at(np.array([[41, 31, 20]])) == pytest.approx(1 / (1 + np.exp(-2.0)))
        assert judged.at(np.array([[31, 6, 21]])) == 0.0
        assert drop(probability, scan, plan(surer, 0.01)) == 1

    def test_what_lies_far_out_counts_no_more_than_four_standard_deviations(self):
        values = np.zeros((3, len(MEASURES)))
        values[:, MEASURES.index("log10_ml")] = [4.0, 7.0, 1e6]
        likely = lesion_likelihood(values, model(log10_ml=1.0))
        np.testing.assert_allclose(likely, 1 / (1 + np.exp(-4.0)))


def test_a_scan_is_screened_with_it_and_tells_how_many_went():
    volume = volume_of(paint(PAINTED_SHAPE, PAINTED_AFFINE)[0])
    sure = replace(TINY_PLAN, finding_model=model(chest=0.0))
    kept = screen(volume, replace(sure, finding_from=0.4), bright_engine(), Budget(None))
    dropped = screen(volume, replace(sure, finding_from=0.6), bright_engine(), Budget(None))
    assert kept.mask.any()
    assert kept.findings_dropped == 0
    assert not dropped.mask.any()
    assert dropped.findings_dropped == 1


def test_statistics_tell_how_likely_a_finding_is():
    volume = volume_of(paint(PAINTED_SHAPE, PAINTED_AFFINE)[0])
    likely = replace(TINY_PLAN, finding_model=model(1.0, chest=0.0))
    result = screen(volume, likely, bright_engine(), Budget(None), keep_outputs=True)
    (lesion,) = measure_lesions(volume, result.mask, result.network_outputs)
    assert lesion.lesion_likelihood == pytest.approx(1 / (1 + np.exp(-1.0)), abs=1e-4)
    plain = screen(volume, TINY_PLAN, bright_engine(), Budget(None), keep_outputs=True)
    assert measure_lesions(volume, plain.mask, plain.network_outputs)[0].lesion_likelihood is None
    assert measure_lesions(volume, plain.mask)[0].lesion_likelihood is None
