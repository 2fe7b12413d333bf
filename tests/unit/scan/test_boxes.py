"""Boxes hold all lesions, and are merged until whatever hangs together lies within one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfscreen.scan.boxes import apart, lesion_boxes


def box(*sides: tuple[int, int]) -> tuple[slice, slice, slice]:
    x, y, z = (slice(*side) for side in sides)
    return x, y, z


@pytest.mark.parametrize(
    ("second", "merged"),
    [
        (((4, 6), (0, 4), (0, 4)), True),  # by a face
        (((4, 6), (4, 6), (4, 6)), True),  # by a corner
        (((2, 6), (2, 6), (2, 6)), True),  # overlapping
        (((5, 6), (0, 4), (0, 4)), False),  # a voxel lies between
    ],
)
def test_what_touches_is_merged(second, merged):
    first = ((0, 4), (0, 4), (0, 4))
    found = apart([box(*first), box(*second)])
    assert len(found) == (1 if merged else 2)
    if merged:
        assert found == [box(*((min(a, c), max(b, d)) for (a, b), (c, d) in zip(first, second, strict=True)))]


def test_a_merged_box_may_reach_others():
    # The last joins the first two, and only their common box touches the third.
    boxes = [box((0, 2), (0, 2), (0, 2)), box((10, 12), (0, 4), (0, 2)), box((5, 7), (4, 6), (0, 2))]
    assert len(apart(boxes)) == 3
    boxes.append(box((1, 11), (2, 3), (0, 2)))
    assert apart(boxes) == [box((0, 12), (0, 6), (0, 2))]
    assert apart([]) == []


def test_at_random_none_touch_and_all_are_held():
    rng = np.random.default_rng(1)
    for _ in range(30):
        lows = rng.integers(0, 40, (12, 3))
        boxes = [
            box(*((int(a), int(a) + int(n)) for a, n in zip(low, rng.integers(1, 6, 3), strict=True))) for low in lows
        ]
        found = apart(boxes)
        for one in boxes:
            assert any(
                all(o.start <= s.start and s.stop <= o.stop for s, o in zip(one, other, strict=True)) for other in found
            )
        for n, one in enumerate(found):
            for other in found[:n]:
                assert any(a.stop < b.start or b.stop < a.start for a, b in zip(one, other, strict=True))


class TestLesionBoxes:
    def test_none(self):
        assert lesion_boxes(np.zeros((20, 30, 40), bool)) == []

    def test_far_apart_are_two_and_one_voxel_larger(self):
        lesion = np.zeros((64, 64, 64), bool)
        lesion[3:5, 10, 20:24] = True
        lesion[60:, 60:, 0] = True
        assert lesion_boxes(lesion) == [((2, 6), (9, 12), (19, 25)), ((59, 64), (59, 64), (0, 2))]

    def test_neighbours_share_one(self):
        lesion = np.zeros((32, 32, 32), bool)
        lesion[7, 7, 7] = lesion[8, 8, 8] = True
        assert lesion_boxes(lesion) == [((6, 10), (6, 10), (6, 10))]

    @given(
        shape=st.tuples(*3 * [st.integers(1, 33)]),
        order=st.permutations(range(3)),
        backwards=st.tuples(*3 * [st.sampled_from([1, -1])]),
        data=st.data(),
    )
    def test_however_it_lies_in_memory_the_boxes_are_the_same(self, shape, order, backwards, data):
        """Masks are views of files, whose axes run either way and in any order."""
        places = data.draw(st.lists(st.tuples(*(st.integers(0, n - 1) for n in shape)), max_size=4))
        plain = np.zeros(shape, bool)
        for place in places:
            plain[place] = True
        turned = tuple(slice(None, None, step) for step in backwards)
        view = np.ascontiguousarray(plain[turned].transpose(order)).transpose(np.argsort(order))[turned]
        boxes = lesion_boxes(view)
        assert boxes == lesion_boxes(plain)
        held = np.zeros(shape, bool)
        for box in boxes:
            held[tuple(slice(*side) for side in box)] = True
        assert (held | ~plain).all()
