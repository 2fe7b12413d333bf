"""Weights of small lesions in the loss of the Focus."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfscreen.training.learning.lesion_weights import small_lesion_weight
from gfscreen.training.objectives import IGNORE

VOXEL_ML = 0.003


def label_of(*volumes: int) -> np.ndarray:
    """Lesions of so many voxels each, side by side and apart."""
    label = np.zeros((2 * len(volumes), max(volumes, default=1), 1), np.uint8)
    for row, volume in enumerate(volumes):
        label[2 * row, :volume] = 1
    return label


def test_small_lesions_weigh_more_each_by_its_own_volume():
    weight = small_lesion_weight(label_of(8, 64), VOXEL_ML, 64 * VOXEL_ML)
    assert weight[0, 0, 0] == pytest.approx(4.0)  # an eighth of the volume: half the diameter, four times the weight
    assert weight[2, 0, 0] == 1
    assert weight[1].max() == weight[0, 8:].max() == 1


def test_no_more_than_tenfold():
    assert small_lesion_weight(label_of(1), VOXEL_ML, 1000.0).max() == 10


def test_corners_join():
    label = np.zeros((2, 2, 2), np.uint8)
    label[0, 0, 0] = label[1, 1, 1] = 1
    assert small_lesion_weight(label, VOXEL_ML, 2 * VOXEL_ML).max() == 1


@given(arrays.arrays(np.uint8, (4, 3, 3), elements=st.sampled_from([0, 1, IGNORE])), st.floats(0.001, 10))
def test_only_lesions_have_other_weights(label, small_ml):
    weight = small_lesion_weight(label, VOXEL_ML, small_ml)
    assert weight.dtype == np.float16
    assert (weight[label != 1] == 1).all()
    assert ((weight >= 1) & (weight <= 10)).all()
