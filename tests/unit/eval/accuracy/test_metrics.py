"""Reading, DSC, NSD and the organisers' rules, against hand-made cases and two independent implementations."""

from __future__ import annotations

import gzip
import tracemalloc
import warnings
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from eval.accuracy import masks, metrics
from eval.accuracy.masks import Mask, MaskError, geometry_problem, read_mask
from eval.accuracy.metrics import bounding_box, dice, score_pair, surface_dice

UNIT = (1.0, 1.0, 1.0)


def cube(shape, *starts, size=3):
    mask = np.zeros(shape, np.uint8)
    for x, y, z in starts:
        mask[x : x + size, y : y + size, z : z + size] = 1
    return mask


# --- The organisers' rules, one test each ---------------------------------------------------------------------------


def test_a_label_above_one_in_the_prediction_scores_zero():
    truth = cube((8, 8, 8), (1, 1, 1))
    prediction = truth.copy()
    prediction[7, 7, 7] = 2
    assert score_pair(truth, prediction, UNIT) == metrics.Score(0.0, 0.0, "labels_above_one")


def test_a_label_above_one_scores_zero_even_when_the_truth_is_empty():
    prediction = np.full((4, 4, 4), 3, np.uint8)
    assert score_pair(np.zeros((4, 4, 4), np.uint8), prediction, UNIT).rule == "labels_above_one"


def test_both_empty_scores_one():
    empty = np.zeros((4, 4, 4), np.uint8)
    assert score_pair(empty, empty, UNIT) == metrics.Score(1.0, 1.0, "both_empty")


@pytest.mark.parametrize("truth_is_empty", [True, False])
def test_one_empty_scores_zero(truth_is_empty):
    pair = [np.zeros((8, 8, 8), np.uint8), cube((8, 8, 8), (1, 1, 1))]
    truth, prediction = pair if truth_is_empty else pair[::-1]
    assert score_pair(truth, prediction, UNIT) == metrics.Score(0.0, 0.0, "one_empty")


def test_a_dice_below_a_fifth_makes_nsd_zero():
    # 27 voxels each, 1x1x2 = 2 in common: 4 / 54 = 0.074. Most of the surfaces lie within 2 mm.
    truth, prediction = cube((9, 9, 9), (1, 1, 1)), cube((9, 9, 9), (3, 3, 2))
    score = score_pair(truth, prediction, UNIT)
    assert score.dsc == pytest.approx(4 / 54)
    assert (score.nsd, score.rule) == (0.0, "low_dice")
    assert surface_dice(truth > 0, prediction > 0, UNIT) > 0.7


def test_a_dice_of_exactly_a_fifth_is_measured():
    # 5 voxels each, 1 in common: 2 / 10.
    truth, prediction = np.zeros((12, 3, 3), np.uint8), np.zeros((12, 3, 3), np.uint8)
    truth[0:5, 1, 1] = 1
    prediction[4:9, 1, 1] = 1
    score = score_pair(truth, prediction, UNIT)
    assert (score.dsc, score.rule) == (0.2, "measured")
    assert score.nsd > 0


def test_a_truth_with_labels_above_one_counts_as_lesion():
    truth = cube((8, 8, 8), (1, 1, 1))
    assert score_pair(truth * 5, truth, UNIT) == metrics.Score(1.0, 1.0, "measured")


def test_tolerance_is_two_mm_and_in_the_units_of_the_spacing():
    # Two slabs, 3 voxels apart along z: 1.5 mm at a spacing of 0.5; 3 mm at a spacing of 1, where only the sides agree.
    truth, prediction = np.zeros((30, 30, 12), np.uint8), np.zeros((30, 30, 12), np.uint8)
    truth[2:28, 2:28, 1:7] = 1
    prediction[2:28, 2:28, 4:10] = 1
    assert score_pair(truth, prediction, (1.0, 1.0, 0.5)).nsd == 1.0
    assert score_pair(truth, prediction, UNIT).nsd < 0.5


# --- Hand-made surfaces ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axis", "spacing", "step", "tolerance", "expected"),
    [
        # One voxel has 8 corners of equal area, at 0 and 1 along each axis; the other's are at `step` and `step` + 1.
        (0, UNIT, 1, 0.0, 8 / 16),  # the 4 corners in between are shared
        (0, UNIT, 1, 1.0, 16 / 16),
        (0, UNIT, 2, 0.0, 0 / 16),
        (0, UNIT, 2, 1.0, 8 / 16),  # 1 to 2 is 1 mm away, 0 to 2 is not
        (0, UNIT, 2, 2.0, 16 / 16),  # exactly the tolerance counts
        (2, (1.0, 1.0, 3.0), 1, 2.0, 8 / 16),  # 3 mm along z: only the shared corners
        (2, (1.0, 1.0, 3.0), 1, 3.0, 16 / 16),
        (0, (1.0, 1.0, 3.0), 1, 2.0, 16 / 16),
        (1, (1.0, 2.5, 1.0), 1, 2.0, 8 / 16),
    ],
)
def test_two_single_voxels(axis, spacing, step, tolerance, expected):
    a, b = np.zeros((5, 5, 5), bool), np.zeros((5, 5, 5), bool)
    a[1, 1, 1] = True
    place = [1, 1, 1]
    place[axis] += step
    b[tuple(place)] = True
    assert surface_dice(a, b, spacing, tolerance) == pytest.approx(expected)


def test_dice_of_overlapping_cubes():
    # 27 + 27 voxels, 2x3x3 = 18 in common.
    a, b = cube((9, 9, 9), (1, 1, 1)) > 0, cube((9, 9, 9), (2, 1, 1)) > 0
    assert dice(a, b) == 36 / 54


def test_empty_rules_of_the_parts():
    full, empty = np.ones((3, 3, 3), bool), np.zeros((3, 3, 3), bool)
    assert (dice(empty, empty), surface_dice(empty, empty, UNIT)) == (1.0, 1.0)
    assert (dice(full, empty), surface_dice(full, empty, UNIT), surface_dice(empty, full, UNIT)) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("shape", "spacing", "tolerance"), [((3, 3, 4), UNIT, 1.0), ((3, 3, 3), (1, 0, 1), 1.0), ((3, 3, 3), UNIT, -1.0)]
)
def test_wrong_arguments_are_refused(shape, spacing, tolerance):
    with pytest.raises(ValueError, match="expected"):
        surface_dice(np.ones((3, 3, 3), bool), np.ones(shape, bool), spacing, tolerance)


# --- Two other implementations --------------------------------------------------------------------------------------


def library_nsd(a, b, spacing, tolerance):
    from surface_distance import metrics as library

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        distances = library.compute_surface_distances(a, b, spacing)
    return library.compute_surface_dice_at_tolerance(distances, tolerance)


def monai_nsd(a, b, spacing, tolerance):
    import torch
    from monai.metrics import compute_surface_dice

    pair = [torch.from_numpy(np.stack([~m, m])[None].astype(np.float32)) for m in (b, a)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return float(compute_surface_dice(*pair, [tolerance], spacing=spacing, use_subvoxels=True))


@pytest.mark.parametrize("spacing", [UNIT, (0.78, 0.78, 5.0), (1.5, 0.7, 0.9)])
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_surface_distance_and_monai(seed, spacing):
    rng = np.random.default_rng(seed)
    smooth = ndimage.gaussian_filter(rng.random((24, 20, 18)), 2)
    a = smooth > np.quantile(smooth, 0.7)
    b = ndimage.gaussian_filter(smooth + rng.normal(0, 0.02, smooth.shape), 1) > np.quantile(smooth, 0.65)
    for tolerance in (0.0, 1.0, 2.0):
        ours = surface_dice(a, b, spacing, tolerance)
        assert ours == pytest.approx(library_nsd(a, b, spacing, tolerance), abs=1e-9)
        # MONAI works in float32 and needs background around the mask.
        padded = [np.pad(m, 2) for m in (a, b)]
        assert ours == pytest.approx(monai_nsd(*padded, spacing, tolerance), abs=2e-5)


def test_blocks_do_not_change_the_result(monkeypatch):
    rng = np.random.default_rng(5)
    a, b = rng.random((12, 11, 40)) < 0.1, rng.random((12, 11, 40)) < 0.1
    for spacing, tolerance in ((UNIT, 2.0), ((1.0, 1.0, 0.4), 2.0), ((1.0, 1.0, 5.0), 2.0)):
        whole = library_nsd(a, b, spacing, tolerance)
        for block in (1, 700, 10_000):
            monkeypatch.setattr(metrics, "_BLOCK_VOXELS", block)
            assert surface_dice(a, b, spacing, tolerance) == pytest.approx(whole, abs=1e-12)


def test_memory_stays_near_the_masks_when_lesions_lie_far_apart():
    # The box spans the scan: a distance transform over it would take about 50 bytes per voxel.
    shape = (160, 160, 320)
    truth = np.zeros(shape, np.uint8, order="F")
    prediction = np.zeros(shape, np.uint8, order="F")
    for start in ((2, 2, 2), (150, 150, 310)):
        for mask, shift in ((truth, 0), (prediction, 1)):
            mask[start[0] + shift : start[0] + 8, start[1] : start[1] + 8, start[2] : start[2] + 8] = 1
    tracemalloc.start()
    try:
        score = score_pair(truth, prediction, UNIT)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert score.rule == "measured"
    assert peak < 8 * truth.size


# --- Properties -----------------------------------------------------------------------------------------------------

small_masks = hnp.arrays(np.bool_, (6, 5, 4))
spacings = st.tuples(*[st.floats(0.3, 5.0)] * 3)


@settings(max_examples=60, deadline=None)
@given(small_masks, small_masks, spacings, st.lists(st.floats(0, 8), min_size=2, max_size=4))
def test_nsd_never_falls_with_tolerance(a, b, spacing, tolerances):
    values = [surface_dice(a, b, spacing, t) for t in sorted(tolerances)]
    assert values == sorted(values)
    assert all(0 <= v <= 1 + 1e-12 for v in values)


@settings(max_examples=60, deadline=None)
@given(small_masks, small_masks, spacings)
def test_both_metrics_are_symmetric(a, b, spacing):
    assert dice(a, b) == dice(b, a)
    assert surface_dice(a, b, spacing) == pytest.approx(surface_dice(b, a, spacing), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(small_masks, spacings)
def test_a_mask_agrees_fully_with_itself(a, spacing):
    assert (dice(a, a), surface_dice(a, a, spacing, 0.0)) == (1.0, 1.0)


@settings(max_examples=40, deadline=None)
@given(small_masks, small_masks, spacings, st.integers(0, 3))
def test_background_around_the_masks_changes_nothing(a, b, spacing, margin):
    pair, padded = (a.astype(np.uint8), b.astype(np.uint8)), [np.pad(m.astype(np.uint8), margin) for m in (a, b)]
    first, second = score_pair(*pair, spacing), score_pair(*padded, spacing)
    assert (first.dsc, first.rule) == (second.dsc, second.rule)
    assert first.nsd == pytest.approx(second.nsd, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (5, 4, 3), elements=st.integers(0, 1)))
def test_bounding_box_holds_everything_and_nothing_more(mask):
    box = bounding_box(mask)
    where = np.argwhere(mask)
    if box is None:
        assert where.size == 0
    else:
        assert [(s.start, s.stop) for s in box] == [(c.min(), c.max() + 1) for c in where.T]


# --- Reading --------------------------------------------------------------------------------------------------------


def save(path: Path, voxels, spacing=UNIT, slope=None, inter=None):
    image = nib.Nifti1Image(voxels, np.diag([*spacing, 1.0]))
    image.header.set_slope_inter(slope, inter)
    nib.save(image, path)
    return path


@pytest.mark.parametrize(
    ("values", "slope", "inter"),
    [
        (np.array([0, 1, 2, 255], np.uint8), None, None),
        (np.array([0, 1, 0, 1], np.uint8), 0.999, 0.0),  # 0.999 becomes 0
        (np.array([0, 1, 2, 3], np.int16), 1.0, 0.0),
        (np.array([-1, 256, 300, 1], np.int16), None, None),
        (np.array([0, 2, 4, 6], np.int16), 0.5, 0.25),
        (np.array([0.0, 0.999, 1.0, 1.999], np.float32), None, None),
        (np.array([0.999999999, 1.0, -0.5, 200.7], np.float64), None, None),
        (np.array([np.nan, np.inf, 1.0, 0.0], np.float32), None, None),
        (np.array([0, 1, 2, 3], ">i2"), None, None),
    ],
)
def test_voxels_are_cast_as_the_organisers_cast_them(tmp_path, monkeypatch, values, slope, inter):
    monkeypatch.setattr(masks, "_BLOCK_VOXELS", 17)
    voxels = np.resize(values, (5, 4, 3)).astype(values.dtype)
    path = tmp_path / "m.nii.gz"
    image = nib.Nifti1Image(voxels, np.eye(4))
    image.header.set_data_dtype(values.dtype)
    image.to_filename(path)
    if slope is not None:  # stored values as they are, scaling only in the header
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[112:120] = np.array([slope, inter], "<f4").tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))
    with np.errstate(invalid="ignore"):
        expected = np.uint8(nib.load(path).get_fdata())
    np.testing.assert_array_equal(read_mask(path).voxels, expected)


def test_a_slope_below_one_empties_a_mask(tmp_path):
    path = save(tmp_path / "m.nii.gz", np.ones((3, 3, 3), np.uint8), slope=0.999, inter=0)
    if nib.load(path).dataobj.slope == 1:  # nibabel rescales on writing: patch the header instead
        raw = bytearray(gzip.decompress(path.read_bytes()))
        raw[112:116] = np.array([0.999], "<f4").tobytes()
        path.write_bytes(gzip.compress(bytes(raw)))
    assert nib.load(path).get_fdata().max() == pytest.approx(0.999)
    assert read_mask(path).voxels.max() == 0


def test_spacing_comes_from_the_header(tmp_path):
    mask = read_mask(save(tmp_path / "m.nii.gz", np.zeros((3, 4, 5), np.uint8), (0.75, 0.5, 3.0)))
    assert mask.spacing_mm == (0.75, 0.5, 3.0)
    assert mask.voxels.shape == (3, 4, 5)


def test_an_uncompressed_file_is_read(tmp_path):
    path = save(tmp_path / "m.nii", cube((6, 6, 6), (1, 1, 1)))
    assert read_mask(path).voxels.sum() == 27


@pytest.mark.parametrize("damage", ["short", "garbage", "header", "empty", "missing"])
def test_a_broken_file_is_an_error_that_names_it(tmp_path, damage):
    path = save(tmp_path / "m.nii.gz", np.random.default_rng(0).integers(0, 2, (20, 20, 20), np.uint8))
    data = gzip.decompress(path.read_bytes())
    if damage == "short":
        path.write_bytes(gzip.compress(data[:-100]))
    elif damage == "garbage":
        path.write_bytes(path.read_bytes()[:300])
    elif damage == "header":
        path.write_bytes(gzip.compress(b"x" * 400))
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(MaskError, match=r"^m\.nii\.gz: "):
        read_mask(path)


def test_four_dimensions_are_refused(tmp_path):
    path = save(tmp_path / "m.nii.gz", np.zeros((3, 3, 3, 2), np.uint8))
    with pytest.raises(MaskError, match=r"expected a 3D mask, got shape \(3, 3, 3, 2\)"):
        read_mask(path)


def grid(shape=(10, 10, 10), affine=None, spacing=UNIT):
    return Mask(np.zeros(shape, np.uint8), spacing, np.diag([*spacing, 1.0]) if affine is None else affine)


def test_the_same_grid_is_no_problem():
    noisy = np.diag([0.78, 0.78, 5.0, 1.0]) + 1e-7
    assert geometry_problem(grid(spacing=(0.78, 0.78, 5.0)), grid(affine=noisy), "c") is None


@pytest.mark.parametrize(
    "affine",
    [
        np.array([[1, 0, 0, 0.5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]),  # shifted by half a voxel
        np.diag([-1.0, 1, 1, 1]),  # flipped
        np.diag([1.0, 1, 1.2, 1]),  # other slice distance
        np.full((4, 4), np.nan),
    ],
)
def test_another_geometry_is_named(affine):
    problem = geometry_problem(grid(), grid(affine=affine), "case_1.nii.gz")
    assert problem is not None
    assert problem.startswith("case_1.nii.gz: geometry mismatch")


def test_another_shape_is_named():
    problem = geometry_problem(grid(), grid((10, 10, 11)), "case_1.nii.gz")
    assert problem is not None
    assert "shape mismatch, expected (10, 10, 10) as the ground truth, got (10, 10, 11)" in problem
