"""`eval gates`: one case under several gates, the curve, the choice of a threshold, and the table."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.tuning import gate_runs, gates
from eval.tuning.gate_curve import read_curve
from eval.tuning.gate_runs import GateCase, Variant, WindowRecord, find_gate_cases, load_variants, run_case
from gfscreen.config import Plan, read_plan
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.networks.models.manifest import change_plan, verify
from gfscreen.networks.models.weights import init_weights
from tests.helpers.engines import BRIGHT, TINY_PLAN, FakeEngine, bright_engine, constant_engine
from tests.helpers.scans import paint

SHAPE = (70, 60, 70)
# 32 voxels of 2 mm: most of the sub-volumes do not reach the ball.
FINE_PLAN = replace(TINY_PLAN, spacing_mm=(2.0, 2.0, 2.0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One painted body of 2 mm voxels with a bright ball, which counts as inserted."""
    folder = tmp_path_factory.mktemp("cases")
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = -np.asarray(SHAPE)
    hu, ball = paint(SHAPE, affine)
    for name, array in (("images/A_0000", hu), ("labels/A", ball), ("inserted/A", ball)):
        (folder / name).parent.mkdir(exist_ok=True)
        data = array.astype(np.int16 if name.startswith("images") else np.uint8)
        nib.save(nib.Nifti1Image(data, affine), folder / f"{name}.nii.gz")
    return folder


def variant(name, engine, gate=0.5):
    return Variant(name, None, engine, FINE_PLAN, gate)


class TestCases:
    def test_found(self, folder):
        (case,) = find_gate_cases(folder)
        assert (case.name, case.annotated) == ("A", True)
        assert case.inserted is not None

    def test_host_that_nobody_annotated(self, folder, tmp_path):
        for part in ("images", "labels"):
            (tmp_path / part).symlink_to(folder / part)
        (tmp_path / "lesions.json").write_text(json.dumps({"A": {"annotated": False, "lesions": []}}))
        (case,) = find_gate_cases(tmp_path)
        assert not case.annotated
        assert case.inserted is None

    def test_none(self, tmp_path):
        with pytest.raises(ValueError, match="no \\*_0000"):
            find_gate_cases(tmp_path)


class TestRun:
    def test_exact_gate_finds_the_lesion_and_reads_less(self, folder):
        (case,) = find_gate_cases(folder)
        dense, _ = run_case(case, variant("dense", bright_engine(), gate=0.0))
        gated, windows = run_case(case, variant("exact", bright_engine()))
        assert (gated.inserted, gated.inserted_found, gated.real) == (1, 1, 0)
        assert (gated.inserted_a_tenth, gated.real_a_tenth) == (1, 0)
        assert gated.dsc == pytest.approx(dense.dsc)
        assert gated.dsc > 0.8
        assert gated.windows_kept < dense.windows_kept == dense.windows_total
        # The Glance says 0.95 exactly where bright voxels are; the label's rim may reach a sub-volume without any.
        assert all(w.lesion for w in windows if w.kept)

    def test_closed_gate_loses_it(self, folder):
        (case,) = find_gate_cases(folder)
        run, windows = run_case(case, variant("closed", constant_engine(0.1, 1.0)))
        assert (run.dsc, run.inserted_found, run.windows_kept) == (0.0, 0, 0)
        assert not any(w.kept for w in windows)

    def test_a_corner_is_found_by_a_voxel_and_not_by_a_tenth(self, folder):
        (case,) = find_gate_cases(folder)

        def corner(patch):
            bright = patch > BRIGHT
            first = np.zeros_like(bright)
            first[: int(np.argmax(bright.any(axis=(1, 2)))) + 1] = True
            return (bright & first).astype(np.float32)

        run, _ = run_case(case, variant("corner", FakeEngine(lambda _: 1.0, corner)))
        assert run.inserted_found == 1
        assert run.inserted_a_tenth == 0

    def test_false_positives_have_a_volume(self, folder):
        (case,) = find_gate_cases(folder)
        far = FakeEngine(lambda _: 1.0, lambda patch: ((patch > 0.3) & (patch < BRIGHT)).astype(np.float32))
        run, _ = run_case(case, variant("body", far))
        assert run.inserted_found == 0 or run.false_positive_ml == 0
        assert run.dsc < 0.2

    def test_unknown_content(self, folder):
        (case,) = find_gate_cases(folder)
        unknown = GateCase(case.name, case.image, case.label, case.inserted, annotated=False)
        _, windows = run_case(unknown, variant("exact", bright_engine()), glance_only=True)
        assert {w.lesion for w in windows} == {True, None}


class TestCurve:
    # Two sub-volumes with lesion at 0.9 and 0.6, two without at 0.7 and 0.1, one unknown at 0.8.
    WINDOWS = tuple(
        WindowRecord("A", p, False, lesion)
        for p, lesion in ((0.9, True), (0.6, True), (0.7, False), (0.1, False), (0.8, None))
    )

    def test_by_hand(self):
        points = gates.curve(self.WINDOWS)
        at_half = next(p for p in points if p.threshold == pytest.approx(0.5, abs=1e-5))
        # Above 0.5: 0.9, 0.6, 0.7, 0.8 of five; both lesions; one of the two without is dropped.
        assert (at_half.kept_share, at_half.sensitivity, at_half.specificity) == (0.8, 1.0, 0.5)
        assert [p.threshold for p in points] == sorted(p.threshold for p in points)

    def test_choice(self):
        points = gates.curve(self.WINDOWS)
        # All lesions: just below 0.6. Half of them: just below 0.9.
        assert gates.choose(points, 1.0).threshold == pytest.approx(0.6, abs=1e-5)
        assert gates.choose(points, 1.0).sensitivity == 1.0
        assert gates.choose(points, 0.5).threshold == pytest.approx(0.9, abs=1e-5)

    def test_nothing_to_choose_by(self):
        with pytest.raises(ValueError, match="no sub-volume with a lesion"):
            gates.choose(gates.curve([WindowRecord("A", 0.5, False, False)]), 0.9)


class TestByLesion:
    # Case A: lesion 1 well seen at 0.2 and 0.7, lesion 2 at 0.4; of lesion 2 a corner at 0.9. Case B: lesion 1 at 0.1.
    WINDOWS = (
        WindowRecord("A", 0.2, True, True, (1,)),
        WindowRecord("A", 0.7, True, True, (1,)),
        WindowRecord("A", 0.4, True, True, (2,)),
        WindowRecord("A", 0.9, True, True, ()),
        WindowRecord("B", 0.1, False, True, (1,)),
    )

    def test_by_hand(self):
        assert sorted(gates.lesion_views(self.WINDOWS)) == [0.1, 0.4, 0.7]
        # All three: just below 0.1. Two of three: just below 0.4; a little more than that asks for all again.
        assert gates.choose_by_lesion(self.WINDOWS, 1.0) == pytest.approx(0.1, abs=1e-5)
        assert gates.choose_by_lesion(self.WINDOWS, 2 / 3) == pytest.approx(0.4, abs=1e-5)
        assert gates.choose_by_lesion(self.WINDOWS, 0.7) == pytest.approx(0.1, abs=1e-5)

    @settings(max_examples=100)
    @given(
        st.lists(st.floats(0.001, 1), min_size=1, max_size=60),
        st.floats(0.05, 1.0),
    )
    def test_keeps_the_share_and_no_higher_gate_does(self, best, share):
        windows = [WindowRecord("A", p, True, True, (n,)) for n, p in enumerate(best, start=1)]
        gate, values = gates.choose_by_lesion(windows, share), np.array(best)
        assert (values > gate).mean() >= share - 1e-6
        assert (values > gate + 2e-6).mean() < share or gate + 2e-6 >= values.max()

    def test_only_what_was_found(self):
        """A lesion that Focus does not find pulls the gate down by lesion, not by found."""
        windows = [WindowRecord("A", 0.3, True, True, (1, 2), (2,)), WindowRecord("A", 0.8, True, True, (2,), (2,))]
        assert sorted(gates.lesion_views(windows)) == [0.3, 0.8]
        assert gates.choose_by_lesion(windows, 1.0) == pytest.approx(0.3, abs=1e-5)
        assert gates.choose_by_lesion(windows, 1.0, found=True) == pytest.approx(0.8, abs=1e-5)
        with pytest.raises(ValueError, match="no lesion"):
            gates.choose_by_lesion([replace(w, found=()) for w in windows], 1.0, found=True)

    def test_found_is_what_the_mask_touches(self, folder):
        (case,) = find_gate_cases(folder)
        _, seen = run_case(case, variant("exact", bright_engine()))
        _, blind = run_case(case, variant("blind", constant_engine(0.9, 0.0)))
        assert {w.found for w in seen if w.views} == {(1,)}
        assert [w.views for w in blind] == [w.views for w in seen]
        assert not any(w.found for w in blind)

    @pytest.mark.parametrize(("told", "found"), [(True, ()), (False, (1,))])
    def test_the_hosts_own_lesion_does_not_count(self, folder, tmp_path, told, found):
        """Where the case tells what was inserted, a lesion that was not is none of the found; else all are."""
        (case,) = find_gate_cases(folder)
        nothing = tmp_path / "A.nii.gz"
        nib.save(nib.Nifti1Image(np.zeros(SHAPE, np.uint8), nib.load(case.label).affine), nothing)
        own = replace(case, inserted=nothing if told else None)
        run, windows = run_case(own, variant("exact", bright_engine()))
        assert (run.real, run.real_found) == (1, 1)
        assert {w.found for w in windows if w.views} == {found}

    def test_nothing_to_choose_by(self):
        with pytest.raises(ValueError, match="no lesion"):
            gates.choose_by_lesion([WindowRecord("A", 0.5, False, False)], 0.9)

    def test_who_has_a_fair_view(self, folder, monkeypatch):
        """Half of the lesion or 2 ml of it; a single voxel would be every sub-volume with lesion."""
        (case,) = find_gate_cases(folder)

        def with_view(share, ml):
            monkeypatch.setattr(gate_runs, "FAIR_VIEW_SHARE", share)
            monkeypatch.setattr(gate_runs, "FAIR_VIEW_ML", ml)
            _, windows = run_case(case, variant("exact", bright_engine()), glance_only=True)
            assert all(w.lesion for w in windows if w.views)
            return sum(w.views == (1,) for w in windows), sum(w.lesion is True for w in windows)

        any_voxel, with_lesion = with_view(1e-9, 1e-9)
        half, whole = with_view(0.5, 1e9)[0], with_view(1.0, 1e9)[0]
        assert any_voxel == with_lesion
        assert 1 <= whole < half < any_voxel
        assert half < with_view(0.5, 0.1)[0] <= any_voxel


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    plan = Plan(
        spacing_mm=(4.0, 4.0, 4.0),
        sub_volume_voxels=(32, 32, 64),
        glance=GlanceConfig("resnet10", (4, 4, 8, 8), (2, 2, 2)),
        focus=FocusConfig(12, (1, 1, 1, 1), (1, 1, 1, 1)),
    )
    root = tmp_path_factory.mktemp("weights")
    for seed in (0, 1):
        init_weights(root / f"seed{seed}", plan, seed)
    return root


class TestVariants:
    def test_other_focus_is_refused(self, weights):
        with pytest.raises(ValueError, match="different Focus"):
            load_variants([f"a={weights}/seed0", f"b={weights}/seed1"], "torch", "fp32", dense=True)

    @pytest.mark.parametrize("named", ["seed0", "=x", "dense=x"])
    def test_names(self, named):
        with pytest.raises(ValueError, match="NAME=WEIGHTS"):
            load_variants([named], "torch", "fp32", dense=True)

    def test_gate_of_the_plan_or_the_command(self, weights):
        found = load_variants([f"a={weights}/seed0", f"b={weights}/seed0@0.25"], "torch", "fp32", dense=True)
        assert [(v.name, v.gate) for v in found] == [("dense", 0.0), ("a", 0.9), ("b", 0.25)]


def test_change_plan_keeps_the_rest(weights):
    before, manifest = read_plan(weights / "seed1"), verify(weights / "seed1")
    change_plan(weights / "seed1", gate=0.125)
    after = verify(weights / "seed1")
    assert read_plan(weights / "seed1").gate == 0.125
    assert read_plan(weights / "seed1").focus == before.focus
    assert after.info == manifest.info
    assert after.digest != manifest.digest


def test_command(folder, weights, tmp_path, monkeypatch):
    """The whole command with engines that are exact: files, table, and the chosen gate in the plan."""
    engines = {"exact": bright_engine(), "open": constant_engine(0.99, 0.0)}
    variants = [
        Variant("dense", weights / "seed0", engines["open"], FINE_PLAN, 0.0),
        Variant("exact", weights / "seed0", engines["exact"], FINE_PLAN, 0.5),
    ]
    monkeypatch.setattr(gates, "load_variants", lambda *_, **__: variants)
    parser = gates.argparse.ArgumentParser()
    gates.configure(parser)
    arguments = ["--cases", str(folder), "--gate", "exact=x", "-o", str(tmp_path), "--choose", "exact"]
    assert gates.run(parser.parse_args(arguments)) == 0
    with (tmp_path / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(r["variant"], r["inserted_found"]) for r in rows] == [("dense", "0"), ("exact", "1")]
    assert read_curve(tmp_path / "curve_exact.json")
    assert "| DSC |" in (tmp_path / "gates.md").read_text()
    summary = json.loads((tmp_path / "gates.json").read_text())["variants"]["exact"]
    assert summary["inserted_lesions"]["value"] == summary["inserted_lesions_a_tenth"]["value"] == 1.0
    assert summary["real_lesions"]["value"] is summary["real_lesions_a_tenth"]["value"] is None
    # Every sub-volume with bright voxels has 0.95, all others 0.05.
    assert 0.05 <= read_plan(weights / "seed0").gate < 0.95
    assert summary["lesions_kept"]["value"] == 1.0
    assert gates.run(parser.parse_args([*arguments, "--by", "lesion", "--glance-only"])) == 0
    assert read_plan(weights / "seed0").gate == pytest.approx(0.95, abs=1e-5)
    change_plan(weights / "seed0", gate=0.5)
    assert gates.run(parser.parse_args([*arguments, "--by", "found", "--glance-only"])) == 2
    assert read_plan(weights / "seed0").gate == 0.5
    assert gates.run(parser.parse_args([*arguments, "--by", "found", "--no-dense"])) == 0
    assert read_plan(weights / "seed0").gate == pytest.approx(0.95, abs=1e-5)
    assert gates.run(parser.parse_args(["--cases", str(tmp_path), "--gate", "a=x", "-o", str(tmp_path)])) == 2
    assert gate_runs.DENSE == "dense"
