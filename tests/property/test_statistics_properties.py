"""What must hold for the statistics of any mask, whatever way its file's axes run."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.reliability.torture.store import rotation
from gfscreen.results.statistics.lesions import MeasuredLesion, measure_lesions
from tests.helpers.scans import affine_of, volume_of

SHAPE = (7, 6, 5)
LOOSE = pytest.approx


@st.composite
def masks(draw: st.DrawFn) -> NDArray[np.uint8]:
    """A few boxes of random size and place."""
    mask = np.zeros(SHAPE, np.uint8)
    for _ in range(draw(st.integers(1, 4))):
        corner = [draw(st.integers(0, n - 1)) for n in SHAPE]
        size = [draw(st.integers(1, 3)) for _ in SHAPE]
        mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = 1
    return mask


spacings = st.tuples(*[st.sampled_from([0.5, 0.7, 1.0, 1.5, 3.0])] * 3)
tilts = st.tuples(st.floats(-15, 15), st.floats(-15, 15), st.floats(-15, 15))


def frame(spacing_mm: tuple[float, ...], tilt: tuple[float, ...]) -> NDArray[np.float64]:
    turn = rotation(0, tilt[0]) @ rotation(1, tilt[1]) @ rotation(2, tilt[2])
    return affine_of(turn @ np.diag(spacing_mm))


def reoriented(
    array: NDArray[Any], affine: NDArray[np.float64], order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """The same voxels in the same place of the patient, in a file whose axes run otherwise."""
    moved = array.transpose(order)
    to_old = np.zeros((4, 4))
    to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        to_old[old, new] = -1 if flip else 1
        to_old[old, 3] = array.shape[old] - 1 if flip else 0
    return moved[tuple(slice(None, None, -1 if flip else 1) for flip in flips)], affine @ to_old


def of_the_patient(lesion: MeasuredLesion) -> dict[str, Any]:
    """All that must not depend on the file's axes."""
    index = {"axes_slice", "centroid_voxel", "inside_voxel", "slices"}
    return {key: value for key, value in vars(lesion).items() if key not in index}


@settings(deadline=None, max_examples=60)
@given(masks(), spacings, tilts, st.permutations(range(3)), st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_the_order_and_direction_of_the_files_axes_change_no_number(mask, spacing_mm, tilt, order, flips):
    affine = frame(spacing_mm, tilt)
    hu = np.random.default_rng(int(mask.sum())).integers(-100, 200, SHAPE)
    one = measure_lesions(volume_of(hu, affine), mask)
    other_hu, other_affine = reoriented(hu, affine, tuple(order), flips)
    other_mask, _ = reoriented(mask, affine, tuple(order), flips)
    other = measure_lesions(volume_of(other_hu, other_affine), other_mask)
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for key, value in of_the_patient(a).items():
            found = of_the_patient(b)[key]
            if value is None or isinstance(value, bool):
                assert found is value, key
            else:
                np.testing.assert_allclose(found, value, atol=2e-3, err_msg=key)
        # Indices differ, but they name the same places.
        for volume_affine, lesion in ((affine, a), (other_affine, b)):
            ras = volume_affine @ [*lesion.centroid_voxel, 1]
            # Three decimals of a voxel of 3 mm along each axis.
            assert lesion.centroid_mm == LOOSE((-ras[0], -ras[1], ras[2]), abs=6e-3)
        assert (other_affine @ [*b.inside_voxel, 1])[:3] == LOOSE((affine @ [*a.inside_voxel, 1])[:3], abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(masks(), spacings, tilts)
def test_lesions_share_out_the_mask(mask, spacing_mm, tilt):
    lesions = measure_lesions(volume_of(mask, frame(spacing_mm, tilt)), mask)
    voxel_mm3 = float(np.prod(spacing_mm))
    assert sum(lesion.voxels for lesion in lesions) == mask.sum()
    assert sum(lesion.volume_mm3 for lesion in lesions) == LOOSE(mask.sum() * voxel_mm3, abs=0.01)
    assert [lesion.id for lesion in lesions] == list(range(1, len(lesions) + 1))
    assert all(a.voxels >= b.voxels for a, b in itertools.pairwise(lesions))
    for lesion in lesions:
        assert 0 < lesion.short_axis_mm <= lesion.long_axis_mm + 1e-3
        assert mask[lesion.inside_voxel]
        assert lesion.slices[0] <= lesion.axes_slice <= lesion.slices[1]


@settings(deadline=None, max_examples=40)
@given(masks(), spacings, tilts)
def test_a_longer_lesion_never_has_a_shorter_long_axis(mask, spacing_mm, tilt):
    affine = frame(spacing_mm, tilt)
    whole = np.ones(SHAPE, np.uint8)
    part = max(lesion.long_axis_mm for lesion in measure_lesions(volume_of(mask, affine), mask))
    assert part <= measure_lesions(volume_of(whole, affine), whole)[0].long_axis_mm + 1e-3
