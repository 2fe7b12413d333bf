"""A whole scan with several lesions: what is counted is what is there."""

from __future__ import annotations

import numpy as np
import pytest

from gfscreen.training.cells.inserted import REAL, Bank, as_it_is, crowded, populate
from gfscreen.training.data.cache import Scan
from gfscreen.training.synthesis.lesion_bank import Nodule, Shape
from gfscreen.training.synthesis.tissue import LUNG, SOFT

GRID_MM = (1.0, 1.0, 3.0)
SHAPE = (130, 130, 60)
VOXEL_ML = 0.003


def ball(shape, radius_mm, spacing):
    index = np.moveaxis(np.indices(shape), 0, -1) - (np.array(shape) - 1) / 2
    return ((index * spacing) ** 2).sum(axis=-1) <= radius_mm**2


@pytest.fixture
def bank():
    inside, outline = (ball((30, 30, 10), radius, (0.8, 0.8, 2.0)) for radius in (5.0, 6.5))
    nodule = Nodule("P1_R_1", "P1", np.where(inside, 20, -860).astype(np.int16), outline, (0.8, 0.8, 2.0))
    mask = ball((25, 25, 13), 8.0, (1.0, 1.0, 2.0))
    shapes = [Shape(name, name, name, mask, (1.0, 1.0, 2.0)) for name in ("uls23_LiTS", "uls23_NIH_LN_ABD")]
    return Bank([nodule], shapes)


@pytest.fixture
def scan():
    """Lung above, soft tissue below, each 1.5 l; two lesions of its own that touch by a corner alone, and a third."""
    rng = np.random.default_rng(0)
    chest = np.arange(SHAPE[2]) >= 30
    hu = np.where(chest, rng.normal(-850, 10, SHAPE), rng.normal(60, 8, SHAPE)).astype(np.int16)
    tissue = np.broadcast_to(np.where(chest, LUNG, SOFT), SHAPE).astype(np.uint8)
    label = np.zeros(SHAPE, np.uint8)
    label[10:14, 10:14, 5:7] = label[14:16, 14:16, 7:8] = label[60:64, 60:64, 10:12] = 1
    places = np.argwhere(label == 1).astype(np.int16)
    return Scan("A", "A", True, hu, label, tissue, np.ones(SHAPE, bool), chest, None, places)


def test_a_scan_as_it_is_has_its_own_lesions_alone(scan):
    found = as_it_is(scan, GRID_MM)
    assert found.kinds == (REAL, REAL)
    assert sorted(found.ml) == pytest.approx([32 * VOXEL_ML, 36 * VOXEL_ML])
    assert ((found.lesions > 0) == (scan.label == 1)).all()


def test_every_lesion_is_numbered_where_it_is_and_measured(scan, bank):
    before = scan.hu.copy(), scan.label.copy()
    found = populate(np.random.default_rng(3), scan, GRID_MM, bank)
    assert {REAL, "nodules", "masses", "soft"} <= set(found.kinds)
    assert found.kinds.count(REAL) == 2
    assert found.lesions.max() == len(found.kinds) == len(found.ml)
    for number, ml in enumerate(found.ml, start=1):
        assert np.count_nonzero(found.lesions == number) * VOXEL_ML == pytest.approx(ml)
    assert ((found.lesions > 0) == (found.label == 1)).all()
    changed = (found.hu != scan.hu)[..., :25]
    assert changed.any()
    assert (scan.hu == before[0]).all()
    assert (scan.label == before[1]).all()


def test_a_seed_gives_the_same_again_and_another_something_else(scan, bank):
    first, again, other = (populate(np.random.default_rng(seed), scan, GRID_MM, bank) for seed in (1, 1, 2))
    assert (first.hu == again.hu).all()
    assert (first.lesions == again.lesions).all()
    assert (first.hu != other.hu).any()


def test_kinds_that_the_bank_or_the_scan_cannot_give_are_left_out(scan, bank):
    assert populate(np.random.default_rng(0), scan, GRID_MM, Bank()).kinds == (REAL, REAL)
    nodules = populate(np.random.default_rng(0), scan, GRID_MM, Bank(bank.nodules)).kinds
    assert set(nodules) == {REAL, "nodules"}
    scan.tissue[...] = SOFT
    assert "nodules" not in populate(np.random.default_rng(0), scan, GRID_MM, bank).kinds


def test_crowded_tells_what_was_inserted_and_where(scan, bank):
    found = populate(np.random.default_rng(3), scan, GRID_MM, bank)
    filled = crowded(np.random.default_rng(3), scan, GRID_MM, (bank.nodules, bank.shapes))
    np.testing.assert_array_equal(filled.hu, found.hu)
    np.testing.assert_array_equal(filled.label, found.label)
    assert [one["kind"] for one in filled.inserted] == [kind for kind in found.kinds if kind != REAL]
    assert len(filled.inserted) > 2
    for number, one in enumerate(filled.inserted, start=3):
        places = np.argwhere(found.lesions == number)
        assert one["centre_voxel"] == pytest.approx((places.min(axis=0) + places.max(axis=0)) / 2)
        assert one["volume_ml"] == pytest.approx(len(places) * VOXEL_ML)
