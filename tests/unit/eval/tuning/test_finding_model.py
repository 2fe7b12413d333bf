"""`eval findings`: what teaches the regression, what it has not seen, and the choice."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("monai")

from eval.__main__ import main
from eval.tuning import finding_model
from eval.tuning.finding_cases import CaseFindings, findings_of
from eval.tuning.finding_model import as_it_is, choose, effect_of_cut, evaluate, fitted, held_out
from eval.tuning.finding_thresholds import Effect, Findings
from eval.tuning.gate_runs import find_gate_cases
from gfscreen.config import OperatingPoint, read_plan
from gfscreen.errors import UsageError
from gfscreen.finding_plan import MEASURES, FindingMeasure, FindingModel
from gfscreen.networks.models.manifest import verify
from gfscreen.networks.models.weights import init_weights
from gfscreen.screening.false_positive_reduction import lesion_likelihood
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.scans import paint

VOLUME = MEASURES.index("log10_ml")
# The values of these findings are no real ones: peaks as well are drawn about 0.
PEAK = 1e-4


def case(host: str, lesion: list[bool], seed: int, *, annotated: bool = True, told_by: int = VOLUME) -> CaseFindings:
    """Findings of 10 voxels, of which all or none are lesion; lesions have larger values of one measure."""
    rng = np.random.default_rng(seed)
    is_lesion = np.array(lesion)
    values = rng.normal(0.0, 1.0, (len(lesion), len(MEASURES)))
    values[:, told_by] += 4.0 * is_lesion
    voxels = np.full(len(lesion), 10)
    which = np.flatnonzero(is_lesion)
    overlaps = np.stack([which, np.arange(len(which))], axis=1)
    found = Findings(
        np.zeros(len(lesion)), voxels, 10 * is_lesion, overlaps, np.full(len(which), 10), np.full(len(which), 10)
    )
    return CaseFindings(host, annotated, values, found, len(which), 10 * len(which), 0.1)


def cases(hosts: int = 6, **values) -> list[CaseFindings]:
    return [case(f"host{number}", [True] * 20 + [False] * 60, number, **values) for number in range(hosts)]


class TestCase:
    def test_lesion_from_a_fifth_on(self):
        one = case("A", [False] * 4, 0)
        shared = np.array([0, 1, 2, 10])
        one = replace(one, found=replace(one.found, shared=shared))
        assert one.lesion.tolist() == [False, False, True, True]
        assert not one.unknown.any()
        assert replace(one, annotated=False).unknown.tolist() == [True, False, False, False]


class TestFit:
    def test_learns_what_tells(self):
        model = fitted(cases(), PEAK)
        weights = {measure.name: measure.weight for measure in model.measures}
        assert list(weights) == list(MEASURES)
        assert max(weights, key=lambda name: abs(weights[name])) == "log10_ml"
        new = case("new", [True] * 50 + [False] * 50, 99)
        likely = lesion_likelihood(new.values, model)
        assert likely[:50].mean() > likely[50:].mean() + 0.35

    def test_nothing_to_tell_apart(self):
        assert fitted([case("A", [True] * 5, 0)], PEAK) is None
        assert fitted([case("A", [False] * 5, 0)], PEAK) is None

    def test_likely_ones_of_hosts_that_nobody_annotated_teach_nothing(self):
        """In such a host a tenth of what is said to be none looks like lesion: it must not be taken for none."""
        hidden = case("new", [False] * 100, 7, annotated=False)
        hidden.values[:10, VOLUME] += 4.0
        model, mistaken = fitted([*cases(), hidden], PEAK), fitted([*cases(), replace(hidden, annotated=True)], PEAK)
        lesions = case("test", [True] * 50, 8).values
        assert lesion_likelihood(lesions, model).mean() > lesion_likelihood(lesions, mistaken).mean() + 0.05


class TestHeldOut:
    def test_no_case_of_a_host_is_judged_by_what_it_taught(self):
        """Every host's lesions differ in a measure of their own: who has not seen the host cannot tell them."""
        own = [case(f"host{n}", [True] * 40 + [False] * 40, n, told_by=n) for n in range(5)]
        seen = [lesion_likelihood(one.values, fitted(own, PEAK)) for one in own]
        unseen = held_out(own, own, PEAK)
        gap = [likely[:40].mean() - likely[40:].mean() for likely in seen]
        blind = [likely[:40].mean() - likely[40:].mean() for likely in unseen]
        assert min(gap) > 0.25
        assert np.mean(gap) > 3 * np.mean(np.abs(blind))

    def test_others_of_these_hosts_are_judged_as_well(self):
        for likely in held_out(cases(3), cases(), PEAK):
            assert likely[:20].mean() > likely[20:].mean() + 0.4

    def test_too_few_to_leave_one_out(self):
        with pytest.raises(UsageError, match="too few cases: without host0 nothing is left to tell lesions by"):
            held_out(cases(1), cases(1), PEAK)


class TestEffects:
    def test_are_those_of_the_likelihood(self):
        judged = [case("A", [True] * 4 + [False] * 12, 0)]
        likely = [np.where(judged[0].lesion, 0.9, np.linspace(0.0, 0.55, 16))]
        every, some, sure = (effect_of_cut(judged, likely, 0.2, cut) for cut in (-0.1, 0.4, 0.6))
        assert (every.sensitivity, every.sensitivity_a_tenth, every.false_positives) == (1.0, 1.0, 12.0)
        assert (sure.sensitivity, sure.false_positives, sure.dsc) == (1.0, 0.0, 1.0)
        assert some.dsc == pytest.approx(2 * 40 / (40 + 40 + 10 * some.false_positives))

    def test_the_plan_as_it_is(self):
        """Its peak, and its model where it has one."""
        one = case("A", [True] * 4 + [False] * 12, 0)
        one = replace(one, found=replace(one.found, peaks=np.linspace(0.5, 0.99, 16)))
        plan = replace(TINY_PLAN, finding_peak=0.75)
        assert as_it_is([one], plan).false_positives == (one.found.peaks > 0.75).sum()
        assert as_it_is([one], plan).sensitivity == 0.0
        by_peak = FindingModel(-np.log(9.0), (FindingMeasure("peak_logit", 0.0, 1.0, 1.0, (0.0,)),), PEAK)
        one.values[:, MEASURES.index("peak_logit")] = np.linspace(-1.0, 4.0, 16)
        judged = as_it_is([one], replace(plan, finding_peak=0.5, finding_model=by_peak, finding_from=0.5))
        assert judged.false_positives == (np.linspace(-1.0, 4.0, 16) > np.log(9.0)).sum()

    @pytest.mark.parametrize(("least", "least_tenth", "chosen"), [(0.5, 0.4, 0.3), (0.6, 0.4, 0.2), (0.5, 0.5, 0.2)])
    def test_the_best_that_finds_no_fewer(self, least, least_tenth, chosen):
        rows = ((0.1, 0.20, 0.7, 0.6), (0.2, 0.25, 0.6, 0.5), (0.3, 0.30, 0.5, 0.4), (0.4, 0.35, 0.4, 0.4))
        found = [Effect(0.2, cut, dsc, one, 1.0, 1.0, tenth) for cut, dsc, one, tenth in rows]
        assert choose(found, Effect(0.2, 0.5, 0.2, least, 9.0, 9.0, least_tenth)).peak == chosen

    def test_else_that_which_finds_most(self):
        found = [Effect(0.2, cut, 0.3, one, 1.0, 1.0, one) for cut, one in ((0.0, 0.4), (0.1, 0.5), (0.2, 0.5))]
        assert choose(found, Effect(0.2, 0.5, 0.2, 0.9, 9.0, 9.0, 0.9)).peak == 0.1


def test_evaluate_tells_and_chooses():
    model, result = evaluate(cases(), cases(), replace(TINY_PLAN, finding_peak=0.9), PEAK)
    assert result["model"] == asdict(model)
    assert result["findings"] == {"lesion": 120, "none": 360, "unknown": 0}
    assert result["auc_held_out"]["value"] > 0.9
    assert result["as_it_is"]["sensitivity"] == 0.0
    by_value = {effect["finding_from"]: effect["dsc"] for effect in result["effects"]}
    assert by_value[result["finding_from"]] == max(by_value.values()) > by_value[0.0]


@pytest.fixture
def folder(tmp_path):
    """Four painted bodies of two hosts, each with a bright ball, the lesion, and a small one, which is none."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    record = {}
    for number in range(4):
        hu, ball = paint((40, 36, 40), affine)
        hu[14 + number % 2 : 17, 22:25, 14:16] = 200
        for name, array in (
            (f"images/{number}_0000", hu.astype(np.int16)),
            (f"labels/{number}", ball.astype(np.uint8)),
        ):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), tmp_path / f"{name}.nii.gz")
        record[str(number)] = {"host": "AB"[number % 2], "annotated": True, "lesions": []}
    (tmp_path / "lesions.json").write_text(json.dumps(record))
    return tmp_path


def two_balls() -> FakeEngine:
    return FakeEngine(lambda _: 1.0, lambda patch: np.where(patch > 0.7, 0.9, 0.0).astype(np.float32))


def test_a_case_is_measured_as_it_is_screened(folder):
    found = findings_of(find_gate_cases(folder)[0], TINY_PLAN, two_balls())
    assert sorted(found.lesion.tolist()) == [False, True]
    ball = int(np.flatnonzero(found.lesion)[0])
    assert found.values[ball, VOLUME] == pytest.approx(np.log10(found.found.voxels[ball] * 0.064))
    assert found.found.overlaps.tolist() == [[ball, 0]]
    assert found.lesions == 1
    assert found.host == "A"
    assert {case.name: case.host for case in find_gate_cases(folder)} == {"0": "A", "1": "B", "2": "A", "3": "B"}
    (folder / "lesions.json").unlink()
    assert [case.host for case in find_gate_cases(folder)] == ["0", "1", "2", "3"]


def test_the_command_writes_the_model(folder, tmp_path, monkeypatch):
    weights, out = tmp_path / "weights", tmp_path / "out" / "model.json"
    points = (OperatingPoint("balanced", 0.5, 0.0, 0.5, 0.7), OperatingPoint("sensitive", 0.2, 0.0, 0.5, 0.5))
    init_weights(weights, replace(TINY_PLAN, finding_peak=0.7, operating_points=points), seed=0)
    monkeypatch.setattr(finding_model, "load_engine", lambda *_args, **_settings: two_balls())
    args = ["findings", "--cases", str(folder), "--choose", str(folder), "--weights", str(weights), "-o", str(out)]
    assert main(args) == 0
    assert read_plan(weights).finding_model is None
    assert main([*args, "--write"]) == 0
    plan, told = read_plan(weights), json.loads(out.read_text())
    assert plan.finding_from == told["finding_from"] > 0
    assert plan.finding_peak == plan.finding_model.least_peak == 0.5
    assert [measure.name for measure in plan.finding_model.measures] == list(MEASURES)
    balanced, sensitive = plan.operating_points
    assert (balanced.finding_peak, balanced.finding_from) == (0.5, plan.finding_from)
    assert sensitive == points[1]
    verify(weights)


def test_what_cannot_be_used(folder, tmp_path, monkeypatch, capsys):
    weights = tmp_path / "weights"
    init_weights(weights, TINY_PLAN, seed=0)
    monkeypatch.setattr(finding_model, "load_engine", lambda *_args, **_settings: two_balls())
    base = ["findings", "--weights", str(weights), "-o", str(tmp_path / "out.json"), "--cases"]
    assert main([*base, str(tmp_path / "nothing")]) == 2
    assert "no *_0000" in capsys.readouterr().err
    (folder / "lesions.json").write_text(json.dumps({str(n): {"host": "A", "lesions": []} for n in range(4)}))
    assert main([*base, str(folder)]) == 2
    assert "of two hosts or more" in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()
