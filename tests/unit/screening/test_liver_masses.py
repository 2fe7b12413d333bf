"""Masses in a liver with contrast medium that Glance is sure of, and the liver that they are looked for in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.finding_plan import LiverMassRule
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.scan.grid import ModelScan
from gfscreen.screening import liver_masses
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import CellMap, probability
from gfscreen.screening.liver import Liver, find_liver
from gfscreen.screening.liver_masses import liver_masses_in, mark_liver_masses
from gfscreen.screening.screening import screen
from tests.helpers import masses as helpers
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.masses import STEP
from tests.helpers.scans import dice, model_scan, volume_of

SHAPE = (170, 120, 60)
WHOLE = np.s_[0:170, 0:120, 0:60]
PLAN = replace(TINY_PLAN, lesion_threshold=0.2, cells=CellGlanceConfig(), liver_masses=LiverMassRule())
MUSCLE_HU, LIVER_HU, MASS_HU, FLUID_HU, FAT_HU = 60.0, 110.0, 70.0, 12.0, -100.0


def ball(centre: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    return helpers.ball(SHAPE, centre, radius_mm)


PLACE = (110.0, 60.0, 30.0)
MASS = ball(PLACE, 12.0)

# 7 mm thick, along three faces of a block.
CRESCENT = np.zeros(SHAPE, bool)
CRESCENT[85:135, 40:47, 15:45] = CRESCENT[85:135, 40:80, 15:17] = CRESCENT[85:92, 40:80, 15:45] = True


def parenchyma(liver_hu: float = LIVER_HU) -> NDArray[np.float32]:
    """1,037 ml of liver in muscle, with noise, between 70 and 150 in x, 20 and 100 in y, 3 and 57 in z."""
    hu = np.full(SHAPE, MUSCLE_HU, np.float32)
    hu[70:150, 20:100, 3:57] = liver_hu
    return hu + np.random.default_rng(5).normal(0.0, 8.0, SHAPE).astype(np.float32)


LIVER = parenchyma()


def abdomen(mass: NDArray[np.bool_] = MASS, mass_hu: float = MASS_HU, hu: NDArray[np.float32] = LIVER) -> ModelScan:
    hu = hu.copy()
    hu[mass] = mass_hu
    return model_scan(SHAPE, hu, spacing_mm=(1.0, 1.0, 3.0))


def cells_at(centre: tuple[float, ...] = PLACE, logit: float = 4.0, reach_mm: float = 32.0) -> CellMap:
    return helpers.cells_at(SHAPE, centre, logit, reach_mm, fall_mm=8.0)


def marked(scan: ModelScan, cells: CellMap | None, plan: object = PLAN) -> NDArray[np.float32]:
    focus = np.zeros(SHAPE, np.float32)
    count = mark_liver_masses(focus, scan, cells, plan)  # type: ignore[arg-type]
    assert (count > 0) == bool(focus.any())
    return focus


class TestTheLiver:
    def test_where_it_lies_and_how_bright_it_is(self):
        liver = find_liver(abdomen())
        assert liver is not None
        assert abs(liver.hu - LIVER_HU) < 3.0
        truth = np.zeros(SHAPE, bool)
        truth[70:150, 20:100, 3:57] = True
        beside = liver.near(WHOLE, 1)
        assert dice(beside, truth & ~MASS) > 0.9
        assert not beside[ball(PLACE, 6.0)].any()
        assert liver.near(WHOLE, 5)[MASS].all()
        part = np.s_[60:100, 10:50, 0:20]
        np.testing.assert_array_equal(liver.near(part, 1), beside[part])

    def test_its_box(self):
        liver = find_liver(abdomen())
        assert liver is not None
        for side, (low, high) in zip(liver.box(), ((70, 150), (20, 100), (3, 57)), strict=True):
            assert abs(side.start - low) <= 3
            assert abs(side.stop - high) <= 3

    @pytest.mark.parametrize(
        "hu", [60.0, 200.0, -100.0, -850.0], ids=["without contrast", "as a kidney", "fat", "lung"]
    )
    def test_none_of_another_density(self, hu: float):
        assert find_liver(abdomen(mass_hu=hu, hu=parenchyma(hu))) is None

    def test_none_that_is_small_or_thin(self):
        small = np.full(SHAPE, MUSCLE_HU, np.float32)
        small[70:120, 20:70, 3:40] = LIVER_HU
        thin = np.full(SHAPE, MUSCLE_HU, np.float32)
        thin[::12] = LIVER_HU
        for hu in (small, thin):
            assert find_liver(model_scan(SHAPE, hu, spacing_mm=(1.0, 1.0, 3.0))) is None

    def test_none_outside_of_the_body(self):
        assert find_liver(replace(abdomen(), body=np.zeros(SHAPE, bool))) is None

    @pytest.mark.parametrize("shape", [(1, 1, 1), (2, 200, 3)])
    def test_a_scan_smaller_than_a_block_of_voxels(self, shape: tuple[int, int, int]):
        assert find_liver(model_scan(shape, np.full(shape, LIVER_HU), spacing_mm=(1.0, 1.0, 3.0))) is None


class TestWhichAreMarked:
    def test_a_metastasis_of_which_focus_says_nothing(self):
        focus = marked(abdomen(), cells_at())
        assert dice(focus > 0.2, MASS) > 0.85
        assert focus[focus > 0].min() >= 0.5
        assert 0.88 < focus.max() <= probability(4.0)

    @pytest.mark.parametrize(
        ("scan", "cells"),
        [
            (abdomen(mass_hu=FLUID_HU), cells_at()),
            (abdomen(mass_hu=LIVER_HU - 10.0), cells_at()),
            (abdomen(mass_hu=200.0), cells_at()),
            (abdomen(ball(PLACE, 5.0)), cells_at()),
            (abdomen(ball(PLACE, 12.0) & (np.arange(SHAPE[1])[:, None] % 14 < 4)), cells_at()),
            (abdomen(CRESCENT), cells_at(reach_mm=45.0, logit=6.0)),
            (abdomen(), cells_at(logit=1.8)),
            (abdomen(), cells_at((20.0, 60.0, 30.0))),
            (abdomen(ball((164.0, 60.0, 30.0), 14.0)), cells_at((164.0, 60.0, 30.0))),
            (abdomen(hu=parenchyma(MUSCLE_HU)), cells_at()),
            (abdomen(), CellMap(np.full_like(cells_at().logit, np.nan), STEP)),
            (abdomen(), CellMap(np.full_like(cells_at().logit, -np.inf), STEP)),
            (abdomen(), None),
        ],
        ids=[
            "fluid", "hardly darker", "brighter", "too small", "only strands", "a crescent", "nowhere sure enough",
            "in muscle", "beside the liver", "without contrast medium", "not looked at", "no body", "no cells",
        ],
    )  # fmt: skip
    def test_others_are_not(self, scan: ModelScan, cells: CellMap | None):
        assert not marked(scan, cells).any()

    def test_nor_without_the_rule(self):
        assert not marked(abdomen(), cells_at(), replace(PLAN, liver_masses=None)).any()

    @pytest.mark.parametrize("changed", [{"least_ml": 20.0}, {"peak": 0.999}, {"mark_from": 0.98, "peak": 0.98}])
    def test_the_rules_numbers_count(self, changed: dict[str, float]):
        assert not marked(abdomen(), cells_at(), replace(PLAN, liver_masses=LiverMassRule(**changed))).any()

    def test_two_apart_are_two(self):
        places = ((90.0, 60.0, 12.0), (125.0, 60.0, 48.0))
        cells = CellMap(np.maximum(cells_at(places[0]).logit, cells_at(places[1]).logit), STEP)
        both = ball(places[0], 12.0) | ball(places[1], 12.0)
        focus = np.zeros(SHAPE, np.float32)
        assert mark_liver_masses(focus, abdomen(both), cells, PLAN) == 2
        assert dice(focus > 0.2, both) > 0.85

    def test_what_is_large_need_not_be_round(self):
        """Three that have grown together."""
        grown = ball((94.0, 60.0, 30.0), 12.0) | ball((112.0, 60.0, 30.0), 12.0) | ball((130.0, 60.0, 30.0), 12.0)
        cells = cells_at((112.0, 60.0, 30.0), logit=8.0, reach_mm=50.0)
        assert dice(marked(abdomen(grown), cells) > 0.2, grown) > 0.85

    def test_where_the_scan_ends(self):
        """The last slice cuts a liver and its mass through."""
        centre = (110.0, 60.0, 59.0)
        hu = LIVER.copy()
        hu[70:150, 20:100, 57:] = LIVER_HU
        cut = ball(centre, 14.0)
        assert dice(marked(abdomen(cut, hu=hu), cells_at(centre)) > 0.2, cut) > 0.75

    def test_no_more_is_looked_at_than_there_is_time_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(liver_masses, "MOST_VOXELS", 1000)
        assert not marked(abdomen(), cells_at()).any()

    def test_what_focus_has_said_is_not_lowered(self):
        focus = np.full(SHAPE, 0.995, np.float32)
        assert mark_liver_masses(focus, abdomen(), cells_at(), PLAN) == 1
        assert (focus == np.float32(0.995)).all()


class TestHowFarTheyReach:
    def test_to_half_their_contrast(self):
        """Their rim is brighter than half way to the liver: it is none of them."""
        hu = LIVER.copy()
        hu[ball(PLACE, 14.0)] = LIVER_HU - 15.0
        focus = marked(abdomen(hu=hu), cells_at())
        assert dice(focus > 0.2, MASS) > 0.85

    def test_no_farther_than_ten_millimetres_from_their_middle(self):
        """Glance is sure of a part alone; the mass goes on."""
        liver = find_liver(abdomen())
        assert liver is not None
        logit = np.where(ball(PLACE, 8.0), 3.0, -1.0).astype(np.float32)
        mass, count = liver_masses_in(WHOLE, logit, abdomen(ball(PLACE, 25.0)), liver, LiverMassRule())
        assert count == 1
        reached = np.flatnonzero(mass[:, 60, 30])
        assert 16 <= np.abs(reached - 110).max() <= 19

    def test_not_where_a_cell_is_all_but_sure_that_there_is_none(self):
        liver = find_liver(abdomen())
        assert liver is not None
        logit = np.where(ball(PLACE, 8.0), 3.0, -4.0).astype(np.float32)
        mass, _ = liver_masses_in(WHOLE, logit, abdomen(), liver, LiverMassRule())
        assert mass.any()
        assert not mass[logit < -3.0].any()

    def test_of_a_liver_without_voxels_nearby_nothing(self):
        far = np.zeros((57, 40, 60), bool)
        far[0, 0, 0] = True
        logit = np.full(SHAPE, 4.0, np.float32)
        mass, count = liver_masses_in(WHOLE, logit, abdomen(), Liver(far, (3, 3, 1), LIVER_HU), LiverMassRule())
        assert (mass.any(), count) == (False, 0)


def test_a_scan_is_screened_with_them():
    """A metastasis that Focus does not see is in the mask of a scan with a liver, and not without the rule."""

    def judge(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        return helpers.trunk_answer(volume, PLACE)

    plan = replace(PLAN, spacing_mm=(1.0, 1.0, 3.0), foreground="hu_floor", gate=0.5)
    volume = volume_of(abdomen().hu, np.diag([1.0, 1.0, 3.0, 1.0]))
    masks = [
        screen(volume, asked, FakeEngine(lambda _: 0.9, lambda patch: np.zeros_like(patch), judge=judge), Budget()).mask
        for asked in (plan, replace(plan, liver_masses=None))
    ]
    assert dice(masks[0] > 0, MASS) > 0.8
    assert not masks[1].any()
