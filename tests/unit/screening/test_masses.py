"""Masses at the lung that Glance is sure of: which are marked, how far they reach, and what stays as it was."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.finding_plan import FindingMeasure, FindingModel, MassRule
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.scan.grid import ModelScan
from gfscreen.screening import masses
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import CellMap, logit_between, logit_of, probability
from gfscreen.screening.masses import mark_masses, masses_in
from gfscreen.screening.screening import screen
from tests.helpers import masses as helpers
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.masses import STEP
from tests.helpers.scans import dice, model_scan, volume_of

SHAPE = (170, 80, 30)
WHOLE = np.s_[0:170, 0:80, 0:30]
LUNG_HU, TISSUE_HU, FAT_HU = -850.0, 40.0, -100.0
PLAN = replace(TINY_PLAN, lesion_threshold=0.2, cells=CellGlanceConfig(), masses=MassRule())


def ball(centre: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    return helpers.ball(SHAPE, centre, radius_mm)


# 14 ml in one of two lungs, 2 mm from its outer wall.
AT_WALL = (37.0, 40.0, 15.0)
MASS = ball(AT_WALL, 15.0)


def chest(mass: NDArray[np.bool_] = MASS, mass_hu: float = TISSUE_HU) -> ModelScan:
    """Two lungs from 20 to 100 in x with 10 mm of mediastinum between them, tissue around."""
    hu = np.full(SHAPE, TISSUE_HU, np.float32)
    lungs = np.zeros(SHAPE, bool)
    lungs[20:55, 10:70], lungs[65:100, 10:70] = True, True
    hu[lungs] = LUNG_HU
    hu[mass] = mass_hu
    scan = model_scan(SHAPE, hu, chest=np.ones(SHAPE[2], bool), spacing_mm=(1.0, 1.0, 3.0))
    return replace(scan, anatomy=replace(scan.anatomy, lungs=lungs & ~mass))


def cells_at(centre: tuple[float, ...] = AT_WALL, logit: float = 4.0, reach_mm: float = 32.0) -> CellMap:
    return helpers.cells_at(SHAPE, centre, logit, reach_mm, fall_mm=6.0)


def marked(scan: ModelScan, cells: CellMap | None, plan: Any = PLAN) -> NDArray[np.float32]:
    focus = np.zeros(SHAPE, np.float32)
    count = mark_masses(focus, scan, cells, plan)
    assert (count > 0) == bool(focus.any())
    return focus


class TestWhichAreMarked:
    def test_a_mass_at_the_lung_of_which_focus_says_nothing(self):
        focus = marked(chest(), cells_at())
        assert dice(focus > 0.2, MASS) > 0.85
        assert focus.max() == pytest.approx(probability(float(logit_between(cells_at(), WHOLE).max())), abs=0.01)
        assert focus[focus > 0].min() > 0.5

    @pytest.mark.parametrize(
        ("scan", "cells"),
        [
            (chest(mass_hu=FAT_HU), cells_at()),
            (chest(mass_hu=300.0), cells_at()),
            (chest(mass_hu=LUNG_HU), cells_at()),
            (chest(ball(AT_WALL, 8.0)), cells_at()),
            (chest(), cells_at(logit=1.9)),
            (chest(), cells_at((148.0, 40.0, 15.0))),
            (chest(), CellMap(np.full_like(cells_at().logit, np.nan), STEP)),
            (chest(), CellMap(np.full_like(cells_at().logit, -np.inf), STEP)),
            (chest(), None),
        ],
        ids=[
            "fat", "contrast medium", "lung", "too small", "nowhere sure enough", "in the chest wall",
            "not looked at", "no body", "no cells",
        ],
    )  # fmt: skip
    def test_others_are_not(self, scan: ModelScan, cells: CellMap | None):
        assert not marked(scan, cells).any()

    def test_nor_without_the_rule(self):
        assert not marked(chest(), cells_at(), replace(PLAN, masses=None)).any()

    def test_nor_in_a_scan_without_lungs(self):
        scan = chest()
        none = replace(scan, anatomy=replace(scan.anatomy, lungs=np.zeros(SHAPE, bool)))
        assert not marked(none, cells_at()).any()

    @pytest.mark.parametrize("changed", [{"least_ml": 20.0}, {"peak": 0.999}, {"mark_from": 0.98, "peak": 0.98}])
    def test_the_rules_numbers_count(self, changed: dict[str, float]):
        assert not marked(chest(), cells_at(), replace(PLAN, masses=MassRule(**changed))).any()

    def test_two_apart_are_two(self):
        other = (83.0, 40.0, 15.0)
        cells = CellMap(np.maximum(cells_at().logit, cells_at(other).logit), STEP)
        focus = np.zeros(SHAPE, np.float32)
        assert mark_masses(focus, chest(MASS | ball(other, 15.0)), cells, PLAN) == 2
        assert focus[37, 40, 15] > 0.5
        assert focus[83, 40, 15] > 0.5

    def test_at_the_edge_of_the_scan(self):
        """A mass that the scan cuts off."""
        centre = (37.0, 40.0, 29.0)
        cut = ball(centre, 17.0)
        assert dice(marked(chest(cut), cells_at(centre)) > 0.2, cut) > 0.75

    def test_no_more_is_looked_at_than_there_is_time_for(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(masses, "MOST_VOXELS", 1000)
        assert not marked(chest(), cells_at()).any()


class TestHowFarTheyReach:
    def test_to_the_lung_and_no_farther_than_glance_suspects(self):
        """In the wall behind a mass only Glance tells where it ends."""
        focus = marked(chest(), cells_at(reach_mm=24.0))
        assert not focus[chest().hu < -300].any()
        outside = logit_between(cells_at(reach_mm=24.0), WHOLE) <= 0
        assert not focus[outside].any()

    def test_no_farther_than_six_millimetres_from_its_middle(self):
        """All around is tissue, and suspicious enough to grow into; only a ball is to begin with."""
        hu = np.full(SHAPE, TISSUE_HU, np.float32)
        hu[:, :20] = LUNG_HU
        scan = model_scan(SHAPE, hu, spacing_mm=(1.0, 1.0, 3.0))
        scan = replace(scan, anatomy=replace(scan.anatomy, lungs=hu == LUNG_HU))
        logit = np.where(ball((30.0, 36.0, 15.0), 16.0), 3.0, 0.5).astype(np.float32)
        mass, count = masses_in(WHOLE, logit, scan, MassRule())
        assert count == 1
        assert mass[30 + 20, 36, 15]
        assert not mass[30 + 23, 36, 15]
        assert mass[30, 36, 15 + 6]
        assert not mass[30, 36, 15 + 8]

    def test_what_focus_has_said_is_not_lowered(self):
        focus = np.full(SHAPE, 0.995, np.float32)
        mark_masses(focus, chest(), cells_at(), PLAN)
        assert (focus == np.float32(0.995)).all()


def test_a_scan_is_screened_with_them():
    """A mass that Focus does not see is in the mask; how likely it is nobody says, or with a `finding_model` Glance."""
    hu = chest().hu

    def judge(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        return helpers.trunk_answer(volume, AT_WALL)

    plan = replace(
        PLAN, spacing_mm=(1.0, 1.0, 3.0), foreground="hu_floor", cells=CellGlanceConfig(), gate=0.5,
    )  # fmt: skip
    likely = FindingModel(0.0, (FindingMeasure("chest", 0.0, 1.0, 1.0, (0.0,)),), 0.5)
    volume = volume_of(hu, np.diag([1.0, 1.0, 3.0, 1.0]))
    results = [
        screen(
            volume, asked, FakeEngine(lambda _: 0.9, lambda patch: np.zeros_like(patch), judge=judge), Budget(),
            keep_outputs=True,
        )
        for asked in (plan, replace(plan, masses=None), replace(plan, finding_model=likely, finding_from=0.4))
    ]  # fmt: skip
    assert dice(results[0].mask > 0, MASS) > 0.8
    assert not results[1].mask.any()
    (lesion,) = measure_lesions(volume, results[0].mask, results[0].network_outputs)
    assert lesion.lesion_likelihood is None
    (judged,) = measure_lesions(volume, results[2].mask, results[2].network_outputs)
    np.testing.assert_array_equal(results[2].mask, results[0].mask)
    assert judged.lesion_likelihood is not None
    assert 0.88 < judged.lesion_likelihood < probability(4.0)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"mark_from": 0.4}, "mark_from must be a probability from 0.5 on"),
        ({"mark_from": 0.9}, "peak one from it to below 1, got 0.9 and 0.88"),
        ({"peak": 1.0}, "peak one from it to below 1"),
        ({"mark_from": float("nan")}, "mark_from must be a probability"),
        ({"least_ml": 0.0}, "least_ml must be a volume above 0, up to 1000 ml, got 0"),
        ({"least_ml": float("nan")}, "least_ml must be a volume"),
    ],
)
def test_a_rule_that_means_nothing_is_refused(numbers: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        MassRule(**numbers)


def test_logits_between_centres():
    cells = CellMap(np.array([[[0.0]], [[2.0]], [[np.nan]], [[np.inf]]], np.float32), (4.0, 4.0, 4.0))
    along = logit_between(cells, np.s_[2:13, 0:1, 0:1])[:, 0, 0]
    np.testing.assert_allclose(along, [1.0, 1.5, 2.0, -1.0, -4.0, -7.0, -10.0, -5.0, 0.0, 5.0, 10.0], atol=1e-5)
    assert logit_of(0.5) == 0.0
