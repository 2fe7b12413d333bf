"""The lesions of a mask, numbered: the same for all that speaks of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import OutputError
from gfscreen.results.statistics import parts
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.results.statistics.parts import instance_map, parts_of
from tests.helpers.scans import ORIENTATIONS, axes_affine, volume_of

SHAPE = (9, 8, 7)
TARGET = Path("a.nii.gz")


def specks() -> np.ndarray:
    """Of 3, 2 and twice 1 voxel; two of them by a corner."""
    mask = np.zeros(SHAPE, np.uint8)
    mask[7, 6, 2:4] = 1
    mask[1, 1, 1] = mask[2, 2, 2] = mask[3, 3, 3] = 1
    mask[8, 0, 6] = mask[0, 7, 0] = 1
    return mask


def test_the_largest_is_number_one_and_equal_ones_go_from_left_to_right():
    geometry = volume_of(specks(), np.eye(4)).geometry
    found = instance_map(specks(), geometry, TARGET)
    assert (found.dtype, found.shape) == (np.uint16, SHAPE)
    assert (found[1, 1, 1], found[2, 2, 2], found[3, 3, 3]) == (1, 1, 1)
    assert (found[7, 6, 2], found[0, 7, 0], found[8, 0, 6]) == (2, 3, 4)
    np.testing.assert_array_equal(found > 0, specks() > 0)
    assert [(part.id, int(part.inside.sum())) for part in parts_of(specks(), geometry)] == [
        (1, 3),
        (2, 2),
        (3, 1),
        (4, 1),
    ]


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_map_and_statistics_agree_whatever_way_the_files_axes_run(order, signs):
    mask = (np.random.default_rng(3).random(SHAPE) > 0.93).astype(np.uint8)
    volume = volume_of(mask, axes_affine(order, signs, (1.0, 2.0, 3.0), (0.0, 0.0, 0.0)))
    found = instance_map(mask, volume.geometry, TARGET)
    lesions = measure_lesions(volume, mask)
    assert len(lesions) > 5
    assert np.bincount(found.ravel())[1:].tolist() == [lesion.voxels for lesion in lesions]
    assert [found[lesion.inside_voxel] for lesion in lesions] == [lesion.id for lesion in lesions]


def test_an_empty_mask_gives_an_empty_map():
    empty = np.zeros(SHAPE, np.uint8)
    geometry = volume_of(empty).geometry
    assert not instance_map(empty, geometry, TARGET).any()
    assert list(parts_of(empty, geometry)) == []


def test_more_lesions_than_uint16_holds_are_refused(monkeypatch):
    monkeypatch.setattr(parts, "MOST_LESIONS", 3)
    with pytest.raises(
        OutputError,
        match=r"^a.nii.gz: cannot be written, the mask has 4 lesions, .* at most 3; raise the plan's min_finding_ml",
    ):
        instance_map(specks(), volume_of(specks()).geometry, TARGET)
