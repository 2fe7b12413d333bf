"""`eval peak`: what each candidate does to the same findings, and the choice."""

from __future__ import annotations

import csv
from dataclasses import replace
from itertools import product

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage

from eval.accuracy.detection import detect
from eval.accuracy.metrics import dice
from eval.tuning import finding_thresholds as peak
from eval.tuning.finding_thresholds import (
    Effect,
    choose,
    effect_of,
    effects,
    findings_above,
    marked_by_a_tenth,
)
from eval.tuning.gate_runs import find_gate_cases, label_lesions
from gfscreen.config import read_plan
from gfscreen.networks.models.manifest import verify
from gfscreen.networks.models.weights import init_weights
from gfscreen.screening.findings import drop_unlikely
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.scans import paint

HALF_ML = 0.5


@pytest.fixture
def probability():
    """A sure finding of 8 voxels on a lesion of 8, one less sure beside any, and nothing on a second lesion."""
    values = np.full((12, 12, 12), 0.1, np.float32)
    values[2:4, 2:4, 2:4] = 0.9
    values[8:10, 8:10, 8:10] = 0.7
    return values


@pytest.fixture
def lesion():
    mask = np.zeros((12, 12, 12), bool)
    mask[2:4, 2:4, 2:4] = True
    mask[2:4, 8:10, 8:10] = True
    return mask


def effect_on(probability, lesion, threshold, peak):
    lesions, _ = label_lesions(lesion)
    return effect_of(findings_above(probability, lesions, threshold), peak, int(lesion.sum()), HALF_ML)


class TestOneCase:
    def test_every_finding(self, probability, lesion):
        # 8 shared of 16 found and 16 of lesion.
        assert effect_on(probability, lesion, 0.5, 0.5) == (0.5, 1, 1, 4.0)

    def test_only_the_sure_one(self, probability, lesion):
        assert effect_on(probability, lesion, 0.5, 0.8) == (pytest.approx(2 * 8 / 24), 1, 0, 0.0)

    def test_none(self, probability, lesion):
        assert effect_on(probability, lesion, 0.5, 0.95) == (0.0, 0, 0, 0.0)
        assert effect_on(probability, np.zeros_like(lesion), 0.5, 0.95) == (1.0, 0, 0, 0.0)
        assert effect_on(np.zeros_like(probability), lesion, 0.5, 0.5) == (0.0, 0, 0, 0.0)

    def test_a_lower_threshold_widens_what_stands_and_brings_in_nothing_else(self, probability, lesion):
        probability[1, 2:4, 2:4] = 0.3  # beside the sure one
        probability[8:10, 2:4, 2:4] = 0.3  # alone
        assert effect_on(probability, lesion, 0.2, 0.8) == (pytest.approx(2 * 8 / 28), 1, 0, 0.0)

    def test_two_findings_on_one_lesion_touch_one(self, probability, lesion):
        lesion[4:9, 3, 3] = lesion[8, 3, 3:9] = lesion[8, 3:9, 8] = True
        assert effect_on(probability, lesion, 0.5, 0.5)[1:] == (1, 0, 0.0)

    @pytest.mark.parametrize("threshold", [0.2, 0.5])
    @pytest.mark.parametrize("peak", [0.5, 0.8, 0.9])
    def test_equals_what_screening_and_the_harness_make_of_it(self, threshold, peak):
        """The same by the code that makes the mask, and by the one that scores it."""
        rng = np.random.default_rng(7)
        probability = ndimage.gaussian_filter(rng.random((40, 30, 20)), 1.2).astype(np.float32)
        probability = (probability - probability.min()) / np.ptp(probability)
        lesion = ndimage.gaussian_filter(rng.random((40, 30, 20)), 1.5) > 0.55
        measured = effect_on(probability, lesion, threshold, peak)
        tenths = marked_by_a_tenth(findings_above(probability, label_lesions(lesion)[0], threshold), peak)
        drop_unlikely(probability, None, threshold=threshold, peak=peak)
        mask = probability > threshold
        detected = detect(lesion, mask, (10.0, 10.0, 5.0))
        touched = sum(one.detected for one in detected.lesions)
        assert measured[:3] == (pytest.approx(dice(mask, lesion)), touched, detected.false_components)
        assert measured[3] == pytest.approx(detected.false_components_ml)
        assert tenths == sum(one.a_tenth for one in detected.lesions)

    def test_a_tenth_is_what_findings_mark_together(self):
        """A lesion of 20 voxels: two findings of 1 voxel each mark a tenth, the surer one alone half of that."""
        lesion = np.zeros((24, 3, 3), bool)
        lesion[2:22, 1, 1] = True
        probability = np.zeros(lesion.shape, np.float32)
        probability[4, 1, 1], probability[12, 1, 1] = 0.9, 0.7
        found = findings_above(probability, label_lesions(lesion)[0], 0.5)
        assert [marked_by_a_tenth(found, peak) for peak in (0.5, 0.8, 0.95)] == [1, 0, 0]


class TestChoice:
    def test_of_the_best_that_which_touches_most(self):
        rows = ((0.5, 0.359, 0.9), (0.6, 0.361, 0.8), (0.7, 0.4, 0.7), (0.8, 0.3, 1.0))
        assert choose([Effect(0.5, peak, dsc, touched, 1.0, 1.0, 0.0) for peak, dsc, touched in rows]).peak == 0.6

    def test_by_dsc_the_best(self):
        rows = ((0.5, 0.359, 0.9), (0.6, 0.361, 0.8), (0.7, 0.4, 0.7), (0.8, 0.3, 1.0))
        found = [Effect(0.5, peak, dsc, touched, 1.0, 1.0, 0.0) for peak, dsc, touched in rows]
        assert choose(found, "dsc").peak == 0.7

    def test_then_that_with_the_fewest_false_findings(self):
        rows = ((0.2, 0.6, 3.0), (0.3, 0.7, 1.0), (0.5, 0.5, 2.0))
        best = choose([Effect(threshold, peak, 0.4, 0.5, false, 1.0, 0.5) for threshold, peak, false in rows])
        assert (best.threshold, best.peak) == (0.3, 0.7)


SHAPE = (40, 36, 40)


@pytest.fixture
def folder(tmp_path):
    """A painted body with a bright ball, which is the lesion, and a darker one, which is none."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    hu, ball = paint(SHAPE, affine)
    hu[14:17, 22:25, 14:17] = 130
    for name, array in (("images/A_0000", hu.astype(np.int16)), ("labels/A", ball.astype(np.uint8))):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
    return tmp_path


def two_balls():
    """Focus gives the bright one 0.9 and the darker one 0.65."""
    return FakeEngine(
        lambda patch: 1.0,
        lambda patch: np.where(patch > 0.8, 0.9, np.where(patch > 0.6, 0.65, 0.0)).astype(np.float32),
    )


def test_a_scan(folder):
    found = effects(find_gate_cases(folder), TINY_PLAN, two_balls())
    by_peak = {round(effect.peak, 2): effect for effect in found if effect.threshold == 0.5}
    assert by_peak[0.6].false_positives == 1
    assert by_peak[0.7].false_positives == 0
    assert by_peak[0.7].dsc > by_peak[0.6].dsc
    assert (by_peak[0.7].sensitivity, by_peak[0.95].sensitivity) == (1.0, 0.0)
    assert (by_peak[0.7].sensitivity_a_tenth, by_peak[0.95].sensitivity_a_tenth) == (1.0, 0.0)
    assert (choose(found).threshold, choose(found).peak) == (0.5, 0.65)


def test_gated_is_what_the_plan_would_read(folder):
    """A Glance that finds nothing suspicious: densely all is read, by the plan's gate nothing."""
    blind = replace(two_balls(), suspicion=lambda patch: 0.0)
    cases = find_gate_cases(folder)
    assert effects(cases, TINY_PLAN, blind) == effects(cases, TINY_PLAN, two_balls())
    gated = effects(cases, TINY_PLAN, blind, gated=True)
    assert {(effect.sensitivity, effect.false_positives) for effect in gated} == {(0.0, 0.0)}
    assert effects(cases, TINY_PLAN, two_balls(), gated=True) == effects(cases, TINY_PLAN, two_balls())


def test_the_command_writes_the_choice(folder, tmp_path, monkeypatch):
    weights = tmp_path / "weights"
    init_weights(weights, TINY_PLAN, seed=0)
    monkeypatch.setattr(peak, "load_engine", lambda *_args, **_settings: two_balls())
    args = ["--cases", str(folder), "--weights", str(weights), "-o", str(tmp_path / "out")]
    from eval.__main__ import main

    assert main(["peak", *args]) == 0
    assert read_plan(weights).finding_peak == 0.5
    assert main(["peak", *args, "--write"]) == 0
    assert (read_plan(weights).lesion_threshold, read_plan(weights).finding_peak) == (0.5, 0.65)
    verify(weights)
    with (tmp_path / "out" / "peak.csv").open(encoding="utf-8") as stream:
        pairs = [(float(row["threshold"]), float(row["peak"])) for row in csv.DictReader(stream)]
    assert pairs == list(product(peak.THRESHOLDS, peak.PEAKS))


def test_no_cases(tmp_path, caplog):
    from eval.__main__ import main

    assert main(["peak", "--cases", str(tmp_path), "--weights", "w", "-o", str(tmp_path / "out")]) == 2
    assert "no *_0000" in caplog.text
