"""Findings that are nothing but fluid are dropped; tumours that are as dark, but uneven, are not. 1 x 1 x 3 mm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gfscreen.finding_plan import FluidRule
from gfscreen.screening.budget import Budget
from gfscreen.screening.fluid import drop_fluid
from gfscreen.screening.screening import screen
from tests.helpers import masses as helpers
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.scans import model_scan, volume_of

SHAPE = (90, 70, 30)
PLAN = replace(TINY_PLAN, lesion_threshold=0.2, fluid=FluidRule())
LIVER_HU, NOISE_HU = 100.0, 12.0
LEFT = helpers.ball(SHAPE, (25.0, 35.0, 15.0), 13.0)
RIGHT = helpers.ball(SHAPE, (65.0, 35.0, 15.0), 13.0)


def abdomen(noise_hu: float = NOISE_HU, **density: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Liver with noise; each of `density`, by its HU as a name (`hu_10`), in place of it."""
    hu = np.full(SHAPE, LIVER_HU, np.float32)
    for name, where in density.items():
        hu[where] = float(name.removeprefix("hu_").replace("minus_", "-"))
    return hu + np.random.default_rng(3).normal(0.0, noise_hu, SHAPE).astype(np.float32)


def kept(hu: NDArray[np.float32], *findings: NDArray[np.bool_], plan: object = PLAN) -> list[bool]:
    """Which of the findings are left; what else is marked, and by how much, stays as it is."""
    marks = np.full(SHAPE, 0.1, np.float32)
    for finding in findings:
        marks[finding] = 0.9
    before = marks.copy()
    count = drop_fluid(marks, model_scan(SHAPE, hu, spacing_mm=(1.0, 1.0, 3.0)), plan)  # type: ignore[arg-type]
    left = [bool(marks[finding].all()) for finding in findings]
    assert count == left.count(False)
    for finding, stays in zip(findings, left, strict=True):
        before[finding] *= stays
    np.testing.assert_array_equal(marks, before)
    return left


def uneven(where: NDArray[np.bool_], by_hu: float) -> NDArray[np.float32]:
    """Fluid with parts of 8 mm in it that are so much denser: a tumour with necrosis."""
    x, y, z = np.indices(SHAPE)
    parts = where & ((x // 8 + y // 8 + z // 3) % 3 == 0)
    hu = abdomen(hu_10=where)
    hu[parts] += by_hu
    return hu


class TestWhatIsDropped:
    def test_a_gallbladder_and_not_a_metastasis_beside_it(self):
        assert kept(abdomen(hu_10=LEFT, hu_60=RIGHT), LEFT, RIGHT) == [False, True]

    def test_the_middle_is_asked_where_the_rim_is_of_the_liver_around(self):
        wider = helpers.ball(SHAPE, (25.0, 35.0, 15.0), 15.0)
        assert kept(abdomen(hu_10=LEFT), wider) == [False]

    def test_a_tumour_that_is_as_dark_on_the_whole_stays(self):
        hu = uneven(LEFT, 60.0)
        assert FluidRule.lowest_hu < float(np.median(hu[LEFT])) < FluidRule.highest_hu
        assert kept(hu, LEFT) == [True]

    @pytest.mark.parametrize(("hu", "stays"), [("minus_60", True), ("minus_5", False), ("20", False), ("35", True)])
    def test_by_density(self, hu: str, stays: bool):
        assert kept(abdomen(**{f"hu_{hu}": LEFT}), LEFT) == [stays]

    def test_noise_alone_does_not_make_it_uneven_but_much_of_it_keeps_it(self):
        assert kept(abdomen(25.0, hu_10=LEFT), LEFT) == [False]
        assert kept(abdomen(120.0, hu_10=LEFT), LEFT) == [True]

    def test_small_ones_are_not_asked(self):
        small = helpers.ball(SHAPE, (25.0, 35.0, 15.0), 5.0)
        assert kept(abdomen(hu_10=small), small) == [True]
        assert kept(abdomen(hu_10=small), small, plan=replace(PLAN, fluid=FluidRule(least_ml=0.2))) == [False]

    def test_one_that_is_a_voxel_thin(self):
        sheet = np.zeros(SHAPE, bool)
        sheet[10:60, 10:60, 15] = True
        assert kept(abdomen(hu_10=sheet), sheet) == [False]

    def test_nothing_without_the_rule_or_without_a_finding(self):
        hu = abdomen(hu_10=LEFT)
        assert kept(hu, LEFT, plan=replace(PLAN, fluid=None)) == [True]
        assert kept(hu) == []

    @given(st.floats(-15.0, 25.0), st.floats(1.0, 4.0))
    def test_even_and_within_the_bounds_always_falls(self, hu: float, spread_hu: float):
        rule = FluidRule(spread_hu=spread_hu)
        exactly = np.full(SHAPE, LIVER_HU, np.float32)
        exactly[LEFT] = hu = float(np.clip(hu, -14.9, 24.9))
        assert kept(exactly, LEFT, plan=replace(PLAN, fluid=rule)) == [False]


def test_a_scan_is_screened_with_it():
    """Focus marks both balls; the one that is fluid is not in the mask, and counts as dropped."""
    volume = volume_of(abdomen(4.0, hu_10=LEFT, hu_60=RIGHT), np.diag([1.0, 1.0, 3.0, 1.0]))
    plan = replace(PLAN, spacing_mm=(1.0, 1.0, 3.0), foreground="hu_floor", gate=0.0)
    found = [
        screen(volume, asked, FakeEngine(lambda _: 0.9, lambda patch: (patch < 0.6).astype(np.float32)), Budget())
        for asked in (plan, replace(plan, fluid=None))
    ]
    assert [bool(screening.mask[LEFT].mean() > 0.5) for screening in found] == [False, True]
    assert [bool(screening.mask[RIGHT].mean() > 0.5) for screening in found] == [True, True]
    assert found[0].findings_dropped > found[1].findings_dropped
