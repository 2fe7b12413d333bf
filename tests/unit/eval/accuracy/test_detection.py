"""Detection per scan and per lesion, by hand and against SciPy's component labelling."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from eval.accuracy import detection
from eval.accuracy.detection import ScanDetection, TrueLesion, detect, lesion_level, scan_level, summarise
from eval.accuracy.lesion_types import TypeMap, dataset_name

UNIT = (1.0, 1.0, 1.0)
FOUND, LOST = TrueLesion(1.0, True), TrueLesion(1.0, False)


def scan(*lesions, predicted_ml=0.0, false=0, answered=True):
    return ScanDetection(tuple(lesions), predicted_ml, false, float(false), answered)


TP, FN = scan(FOUND, LOST, predicted_ml=1.0), scan(LOST, predicted_ml=2.0, false=1)
FP, TN = scan(predicted_ml=3.0, false=2), scan()


def test_outcomes_of_a_scan():
    assert [s.outcome for s in (TP, FN, FP, TN)] == ["TP", "FN", "FP", "TN"]


def test_an_unanswered_scan_counts_against_the_method():
    assert scan(LOST, answered=False).outcome == "FN"
    assert scan(answered=False).outcome == "FP"


def test_scan_level_by_hand():
    # 3 TP, 1 FN, 1 FP, 2 TN: F1 = 6 / (6 + 1 + 1), sensitivity 3/4, specificity 2/3, FPR 1/3, precision 3/4.
    result = scan_level([TP, TP, TP, FN, FP, TN, TN])
    assert [result[k] for k in ("tp", "fp", "fn", "tn")] == [3, 1, 1, 2]
    assert result["f1"]["value"] == 6 / 8
    assert result["sensitivity"]["value"] == 3 / 4
    assert result["specificity"]["value"] == pytest.approx(2 / 3)
    assert result["fpr"]["value"] == pytest.approx(1 / 3)
    assert result["precision"]["value"] == 3 / 4
    assert 0 <= result["fpr"]["low"] <= 1 / 3 <= result["fpr"]["high"] <= 1


def test_lesion_level_by_hand():
    # Lesions: 2 (1 found), 1 (0 found); false components 0, 1, 2: TP 1, FN 2, FP 3, F1 = 2 / (2 + 2 + 3).
    result = lesion_level([TP, FN, FP])
    assert [result[k] for k in ("lesions", "tp", "fn", "fp")] == [3, 1, 2, 3]
    assert result["f1"]["value"] == pytest.approx(2 / 7)
    assert result["sensitivity"]["value"] == pytest.approx(1 / 3)
    assert result["precision"]["value"] == 1 / 4
    assert result["false_positives_per_scan"]["value"] == 1.0


def test_a_scan_is_found_by_a_tenth_if_one_of_its_lesions_is():
    tenth, less = TrueLesion(1.0, True, 0.1), TrueLesion(1.0, True, 0.09)
    result = scan_level([scan(LOST, tenth), scan(less), TN])
    assert (result["sensitivity"]["value"], result["sensitivity_a_tenth"]["value"]) == (1.0, 0.5)
    assert result["sensitivity_a_tenth"]["n"] == 2  # scans with lesion
    assert scan_level([TN])["sensitivity_a_tenth"]["value"] is None


def test_undefined_rates_are_null_not_zero():
    only_healthy = summarise([TN, TN], ["a", "a"])
    assert only_healthy["scan"]["sensitivity"]["value"] is None
    assert only_healthy["scan"]["f1"]["value"] is None
    assert only_healthy["scan"]["fpr"]["value"] == 0.0
    assert only_healthy["lesion"]["sensitivity"]["value"] is None
    only_lesions = summarise([TP], ["a"])
    assert only_lesions["scan"]["specificity"]["value"] is None
    assert only_lesions["healthy"]["fpr"]["value"] is None
    nothing = summarise([], [])
    assert nothing["scan"]["f1"] == {"value": None, "low": None, "high": None, "n": 0}
    assert nothing["healthy"]["false_positive_ml"]["mean"] is None


def test_healthy_scans():
    result = summarise([TP, FP, TN, TN, scan(answered=False)], ["a"] * 5)["healthy"]
    assert (result["scans"], result["fpr"]["value"]) == (4, 0.5)
    assert result["false_positive_ml"]["mean"] == 1.0  # 3, 0, 0: the unanswered scan has no volume


def test_by_type():
    result = summarise([TP, FN, TN], ["lung", "liver", "lung"])
    assert result["scan_by_type"]["lung"]["sensitivity"]["value"] == 1.0
    assert result["scan_by_type"]["liver"]["sensitivity"]["value"] == 0.0
    assert result["scan_by_type"]["liver"]["specificity"]["value"] is None
    assert result["lesion_by_type"]["lung"]["lesions"] == 2


@pytest.mark.parametrize(
    ("diameter_mm", "expected"),
    [(9.99, "<10 mm"), (10.01, "10-20 mm"), (19.9, "10-20 mm"), (20.1, "20-50 mm"), (50.1, ">=50 mm")],
)
def test_size_classes(diameter_mm, expected):
    lesion = TrueLesion(math.pi * diameter_mm**3 / 6 / 1000, True)
    assert lesion.diameter_mm == pytest.approx(diameter_mm)
    assert lesion.size_class == expected


def test_by_size():
    small, large = TrueLesion(0.1, False), TrueLesion(10.0, True)  # 5.8 mm and 26.7 mm
    result = summarise([scan(small, large), scan(large)], ["a", "a"])["lesion_by_size"]
    assert (result["<10 mm"]["lesions"], result["<10 mm"]["sensitivity"]["value"]) == (1, 0.0)
    assert (result["20-50 mm"]["lesions"], result["20-50 mm"]["sensitivity"]["value"]) == (2, 1.0)
    assert result[">=50 mm"]["sensitivity"]["value"] is None


def test_diagonal_voxels_are_one_lesion():
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[0, 0, 0] = truth[1, 1, 1] = 1  # share a corner only: one under 26 neighbours
    truth[3, 3, 3] = 1
    prediction = np.zeros_like(truth)
    prediction[1, 1, 1] = prediction[0, 3, 0] = 1
    found = detect(truth, prediction, (1.0, 2.0, 5.0))
    assert sorted((round(lesion.volume_ml, 6), lesion.detected) for lesion in found.lesions) == [
        (0.01, False),
        (0.02, True),
    ]
    assert (found.false_components, found.false_components_ml) == (1, pytest.approx(0.01))
    assert found.predicted_ml == pytest.approx(0.02)


@pytest.mark.parametrize("shape", [(3, 1, 1), (1, 3, 1), (1, 1, 3), (5, 1, 3), (3, 3, 3), (7, 5, 3)])
def test_single_voxels_at_every_second_place(shape):
    # The most components that fit: cc3d stops at some of these shapes when it is given them as they are.
    truth = np.zeros(shape, np.uint8)
    truth[::2, ::2, ::2] = 1
    assert len(detect(truth, None, UNIT).lesions) == truth.sum()


def test_no_prediction_still_counts_the_lesions():
    truth = np.zeros((4, 4, 4), np.uint8)
    truth[1, 1, 1] = 1
    found = detect(truth, None, UNIT)
    assert (len(found.lesions), found.answered, found.outcome) == (1, False, "FN")


@settings(max_examples=60, deadline=None)
@given(hnp.arrays(np.uint8, (6, 5, 7)), hnp.arrays(np.uint8, (6, 5, 7)))
def test_components_agree_with_scipy(truth, prediction):
    truth, prediction = (truth > 190).astype(np.uint8), (prediction > 190).astype(np.uint8)
    found = detect(truth, prediction, UNIT)
    cube = np.ones((3, 3, 3))
    labels, count = ndimage.label(truth, cube)
    expected = [(int((labels == i).sum()), bool(prediction[labels == i].any())) for i in range(1, count + 1)]
    assert sorted((round(lesion.volume_ml * 1000), lesion.detected) for lesion in found.lesions) == sorted(expected)
    other, other_count = ndimage.label(prediction, cube)
    assert found.false_components == sum(not truth[other == i].any() for i in range(1, other_count + 1))
    touched = (truth * prediction).any()
    want = ("TP" if touched else "FN") if truth.any() else ("FP" if prediction.any() else "TN")
    assert found.outcome == want


def test_slabs_do_not_change_the_counts(monkeypatch):
    rng = np.random.default_rng(1)
    truth, prediction = (rng.random((9, 9, 30)) < 0.15 for _ in range(2))
    whole = detect(truth, prediction, UNIT)
    monkeypatch.setattr(detection, "_SLAB_VOXELS", 200)
    assert detect(truth, prediction, UNIT) == whole


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MSD_Lung_0012.nii.gz", "MSD_Lung"),
        ("LIDC-IDRI-0314.nii.gz", "LIDC-IDRI"),
        ("FLARE23Ts_0001.nii.gz", "FLARE23Ts"),
        ("kits23_00007", "kits23"),
        ("NSCLC_LUNG1-001", "NSCLC_LUNG1"),
        ("0001.nii.gz", "unknown"),
    ],
)
def test_data_set_from_the_name(name, expected):
    assert dataset_name(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("MSD_Lung_0012.nii.gz", "lung"),
        ("LIDC-IDRI-0314.nii.gz", "lung"),
        ("kits23_00007.nii.gz", "kidney"),
        ("IRCADb_1.1.nii.gz", "liver"),
        ("uls23_MDSC_Task07_Pancreas_1.nii.gz", "pancreas"),
        ("tests_1.nii.gz", "tests"),  # holds "sts", which is no word of it
        ("FLARE23Ts_0001.nii.gz", "FLARE23Ts"),
    ],
)
def test_lesion_type_from_the_name(name, expected):
    assert TypeMap().lesion_type(name) == expected


def test_a_mapping_comes_before_the_name(tmp_path):
    path = tmp_path / "types.json"
    path.write_text('{"MSD_Lung_*": "thorax", "MSD_Lung_0012": "special"}')
    types = TypeMap.read(path)
    assert types.lesion_type("MSD_Lung_0012.nii.gz") == "special"
    assert types.lesion_type("MSD_Lung_0013.nii.gz") == "thorax"
    assert types.lesion_type("kits23_1.nii.gz") == "kidney"


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "{"])
def test_a_wrong_mapping_is_named(tmp_path, text):
    path = tmp_path / "types.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"types\.json"):
        TypeMap.read(path)


def test_a_tenth_is_told_apart_from_one_voxel():
    truth = np.zeros((40, 20, 20), np.uint8)
    truth[2:12, 2:7, 2:4] = 1  # 100 voxels, 10 of them marked
    truth[20:30, 2:7, 2:4] = 1  # 100 voxels, 9 of them marked
    truth[2:12, 12:17, 12:14] = 1  # none
    marked = np.zeros_like(truth)
    marked[2:12, 2, 2] = marked[20:29, 2, 2] = 1
    scan = detect(truth, marked, (1.0, 1.0, 1.0))
    assert sorted(lesion.marked_share for lesion in scan.lesions) == [0.0, 0.09, 0.1]
    assert sorted((lesion.detected, lesion.a_tenth) for lesion in scan.lesions) == [
        (False, False), (True, False), (True, True),
    ]  # fmt: skip
    level = lesion_level([scan])
    assert level["sensitivity"]["value"] == pytest.approx(2 / 3)
    assert level["sensitivity_a_tenth"]["value"] == pytest.approx(1 / 3)
    assert all(lesion.marked_share == 0.0 for lesion in detect(truth, None, (1.0, 1.0, 1.0)).lesions)
