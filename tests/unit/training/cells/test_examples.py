"""Which cells are lesion, which are not and which are neither: counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from gfscreen.network_plan import CellGlanceConfig
from gfscreen.screening.cells import blank_cells, body_share
from gfscreen.training.cells.examples import (
    NEGATIVE,
    NONE,
    POSITIVE,
    RING,
    UNKNOWN,
    WEAK,
    CellKinds,
    cell_kinds,
    choose,
    region_of_layers,
)
from tests.helpers.scans import model_scan

# 1 x 1 x 3 mm: cells of 12 x 12 x 4 voxels, centred on multiples of that; 6 x 6 x 6 of them, those at 0 half outside.
SHAPE, SPACING_MM = (66, 66, 22), (1.0, 1.0, 3.0)
CELL_VOXELS = 12 * 12 * 4


def cells_of(chest=None):
    return blank_cells(model_scan(SHAPE, chest=chest, spacing_mm=SPACING_MM), CellGlanceConfig())


def kinds_of(lesions, label=None, **settings):
    label = (lesions > 0).astype(np.uint8) if label is None else label
    return cell_kinds(lesions, label, cells_of(), **settings)


def lesion_in(*boxes):
    lesions = np.zeros(SHAPE, np.int32)
    for number, box in enumerate(boxes, start=1):
        lesions[box] = number
    return lesions


def test_a_quarter_of_the_cell_makes_it_positive_and_less_does_not():
    # Cell (2, 2, 2) has x 18..29, y 18..29, z 6..9; cell (3, 2, 2) follows at x 30. Each slab of x is 48 voxels.
    lesions = lesion_in(np.s_[27:42, 18:30, 6:10])
    kinds = kinds_of(lesions)
    assert kinds.kind[2, 2, 2] == POSITIVE  # 3 of 12 slabs: just a quarter, but a fifth of the lesion
    assert kinds.kind[3, 2, 2] == POSITIVE  # all of it
    assert kinds_of(lesion_in(np.s_[28:42, 18:30, 6:10])).kind[2, 2, 2] == NONE  # 2 of 12, of 14
    assert kinds.lesion[2, 2, 2] == kinds.lesion[3, 2, 2] == 1
    assert np.count_nonzero(kinds.lesion) == np.count_nonzero(kinds.kind == POSITIVE) == 2


def test_a_small_lesion_has_the_cells_that_hold_thirty_percent_of_it():
    # Ten voxels along x across the border at x 30: three of them are enough, two are not.
    assert kinds_of(lesion_in(np.s_[27:37, 20, 7])).kind[2, 2, 2] == POSITIVE
    assert kinds_of(lesion_in(np.s_[28:38, 20, 7])).kind[2, 2, 2] == NONE
    assert kinds_of(lesion_in(np.s_[28:38, 20, 7])).kind[3, 2, 2] == POSITIVE


def test_of_two_lesions_a_cell_belongs_to_the_larger_part():
    kinds = kinds_of(lesion_in(np.s_[19, 19, 7], np.s_[22:28, 20:26, 7]))
    assert kinds.lesion[2, 2, 2] == 2
    kinds = kinds_of(lesion_in(np.s_[22:28, 20:26, 7], np.s_[19, 19, 7]))
    assert kinds.lesion[2, 2, 2] == 1


def test_neighbours_of_a_lesion_are_its_ring_and_all_else_is_negative():
    kinds = kinds_of(lesion_in(np.s_[20:28, 20:28, 7:9]))
    ring = np.argwhere(kinds.kind == RING)
    assert len(ring) == 26
    assert np.abs(ring - [2, 2, 2]).max() == 1
    assert np.count_nonzero(kinds.kind == NEGATIVE) == kinds.kind.size - 27 - np.count_nonzero(kinds.kind == NONE)
    assert kinds.kind[4, 4, 4] == NEGATIVE


def test_a_cell_with_unknown_voxels_is_neither():
    lesions = np.zeros(SHAPE, np.int32)
    label = np.zeros(SHAPE, np.uint8)
    label[50, 50, 15] = 255
    kinds = kinds_of(lesions, label)
    assert kinds.kind[4, 4, 4] == NONE
    assert kinds.kind[4, 4, 3] == NEGATIVE
    assert POSITIVE not in kinds.kind


def test_an_unannotated_scan_gives_no_negatives_unless_its_maker_vouches_for_it():
    lesions = lesion_in(np.s_[20:28, 20:28, 7:9])
    label = np.where(lesions > 0, 1, 255).astype(np.uint8)
    assert set(np.unique(kinds_of(lesions, label).kind)) == {NONE, POSITIVE}
    kinds = kinds_of(lesions, label, lesion_free=True)
    assert kinds.kind[2, 2, 2] == POSITIVE
    assert np.count_nonzero(kinds.kind == RING) == 26
    assert kinds.kind[5, 5, 4] == WEAK
    assert NEGATIVE not in kinds.kind


def test_of_a_scan_that_nobody_annotated_all_body_is_unknown():
    body = np.zeros(SHAPE, bool)
    body[:33] = True
    cells = blank_cells(model_scan(SHAPE, body=body, spacing_mm=SPACING_MM), CellGlanceConfig())
    nothing, unknown = np.zeros(SHAPE, np.int32), np.full(SHAPE, 255, np.uint8)
    kinds = cell_kinds(nothing, unknown, cells, unannotated=True)
    has_body = body_share(body, cells) >= 0.25
    assert 0 < np.count_nonzero(has_body) < has_body.size
    assert (kinds.kind[has_body] == UNKNOWN).all()
    assert (kinds.kind[~has_body] == NONE).all()


def test_cells_without_body_are_no_examples():
    body = np.zeros(SHAPE, bool)
    body[:33] = True
    scan = model_scan(SHAPE, body=body, spacing_mm=SPACING_MM)
    cells = blank_cells(scan, CellGlanceConfig())
    lesions = lesion_in(np.s_[43:53, 20:28, 7:9])
    kinds = cell_kinds(lesions, (lesions > 0).astype(np.uint8), cells)
    assert (kinds.kind[body_share(body, cells) < 0.25] == NONE).all()
    assert POSITIVE not in kinds.kind


def test_choosing_keeps_all_lesions_and_limits_the_others_in_each_region():
    kind = np.full((4, 4, 4), NEGATIVE, np.int8)
    kind[0, 0] = POSITIVE
    kind[1, :, :] = RING
    kind[2, :, :] = UNKNOWN
    region = np.array([1, 1, 0, 0], np.int8)
    chosen = choose(np.random.default_rng(0), CellKinds(kind, np.zeros(kind.shape, np.int32)), region, 5, 3)
    assert chosen[kind == POSITIVE].all()
    for layers in (slice(0, 2), slice(2, 4)):
        part, of = chosen[..., layers], kind[..., layers]
        assert np.count_nonzero(part & (of == NEGATIVE)) == 5
        assert np.count_nonzero(part & (of == RING)) == 3
        assert np.count_nonzero(part & (of == UNKNOWN)) == 5


@pytest.mark.parametrize("first_chest", [0, 12, 22])
def test_every_layer_belongs_to_the_region_of_its_middle(first_chest):
    chest = np.arange(SHAPE[2]) >= first_chest
    region = region_of_layers(cells_of(chest))
    assert region.tolist() == [0 if 4 * layer >= first_chest else 1 for layer in range(len(region))]
