"""Resizing axis by axis against SciPy's spline of the whole volume, which is what nnU-Net calls."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gfscreen.nnunet_plan import Resampling
from gfscreen.scan.resizing import along, resized_shape, resizing_matrix, separate_axis

DEFAULT = Resampling(3, 0, None)


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize(("before", "after"), [((9, 12, 7), (5, 20, 7)), ((4, 3, 30), (9, 1, 13))])
def test_the_product_of_matrices_is_scipys_spline(order, before, after):
    volume = np.random.default_rng(0).normal(size=before).astype(np.float32)
    zoom = [b / a for a, b in zip(before, after, strict=True)]
    expected = ndimage.zoom(volume.astype(float), zoom, order=order, mode="nearest", grid_mode=True)
    result = volume
    for axis in range(3):
        result = along(result, resizing_matrix(before[axis], after[axis], order), axis)
    assert result.shape == after
    assert np.abs(result - expected).max() < 1e-5


def test_a_constant_stays_what_it_is():
    for order in (0, 1, 3):
        assert np.allclose(resizing_matrix(17, 40, order).sum(axis=1), 1.0, atol=1e-6)


def test_the_same_size_changes_nothing():
    assert np.array_equal(resizing_matrix(5, 5, 3), np.eye(5, dtype=np.float32))


@pytest.mark.parametrize(
    ("spacing_mm", "wanted_mm", "how", "axis"),
    [
        ((1.0, 1.0, 1.0), (2.0, 2.0, 2.0), DEFAULT, None),
        ((5.0, 0.8, 0.8), (3.0, 2.0, 2.0), DEFAULT, 0),
        ((0.8, 0.8, 5.0), (3.0, 2.0, 2.0), DEFAULT, 2),
        ((2.0, 1.0, 1.0), (6.1, 2.0, 2.0), DEFAULT, 0),
        # Three times is not more than three times.
        ((3.0, 1.0, 1.0), (2.0, 2.0, 2.0), DEFAULT, None),
        # Two thick axes: none is apart.
        ((5.0, 5.0, 1.0), (2.0, 2.0, 2.0), DEFAULT, None),
        ((5.0, 0.8, 0.8), (3.0, 2.0, 2.0), Resampling(3, 0, False), None),
        ((1.5, 1.0, 1.0), (2.0, 2.0, 2.0), Resampling(3, 0, True), 0),
        ((1.0, 1.0, 1.0), (2.0, 2.0, 9.0), Resampling(3, 0, True), None),
    ],
)
def test_which_axis_is_resized_apart(spacing_mm, wanted_mm, how, axis):
    assert separate_axis(spacing_mm, wanted_mm, how) == axis


def test_sizes_are_rounded_half_to_even_as_pythons():
    assert resized_shape((62, 61, 1), (2.5, 2.5, 0.5), (2.0, 2.0, 3.0)) == (78, 76, 1)
