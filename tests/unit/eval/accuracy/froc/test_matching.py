"""From which score a lesion is found, by hand; and the same counts as detection makes of the whole mask."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from eval.accuracy.detection import detect
from eval.accuracy.froc.matching import FALSE, HIT, IGNORED, SIZES, SweptLesion, overlaps, sweep
from gfscreen.results.statistics.parts import instance_map
from gfscreen.scan.volume import Geometry


def row(*values: int) -> np.ndarray:
    """A scan of one row of voxels."""
    return np.array(values, np.uint16).reshape(-1, 1, 1)


def nothing(like: np.ndarray) -> np.ndarray:
    return np.zeros(like.shape, bool)


def test_overlaps_by_hand():
    lesion = row(1, 1, 1, 0, 0, 1, 0, 0, 0, 0) > 0
    ignored = row(0, 0, 0, 0, 0, 0, 0, 1, 1, 0) > 0
    found = overlaps(lesion, ignored, row(0, 0, 1, 1, 0, 2, 0, 0, 3, 3))
    assert found.finding_voxels.tolist() == [2, 1, 2]
    assert found.ignored_voxels.tolist() == [0, 0, 1]
    assert found.lesion_voxels.tolist() == [3, 1]
    assert found.shared.tolist() == [[1, 0], [0, 1], [0, 0]]


def test_no_lesion_and_no_finding_have_no_entries():
    empty = row(0, 0)
    found = overlaps(empty > 0, nothing(empty), empty)
    assert (found.shared.shape, found.lesion_voxels.size, found.finding_voxels.size) == ((0, 0), 0, 0)
    assert sweep(found, [], 1.0) == ([], [])


def test_a_lesion_is_found_first_by_a_voxel_and_later_by_a_tenth():
    """A lesion of 20 voxels. The surest finding marks 1 of them (a twentieth), the next 1 more: a tenth together."""
    lesion = row(*[1] * 20, 0, 0, 0) > 0
    findings = row(1, 0, 2, *[0] * 18, 3, 3)
    (lesion_found,), finds = sweep(overlaps(lesion, nothing(lesion), findings), [0.9, 0.6, 0.7], 0.1)
    assert (lesion_found.one_voxel, lesion_found.a_tenth) == (0.9, 0.6)
    assert lesion_found.volume_ml == pytest.approx(2.0)
    assert [(f.number, f.voxels, f.verdict) for f in finds] == [(1, 1, HIT), (2, 1, HIT), (3, 2, FALSE)]


def test_less_than_a_tenth_is_found_by_a_voxel_alone():
    lesion = row(*[1] * 11) > 0
    (found,), _ = sweep(overlaps(lesion, nothing(lesion), row(1, *[0] * 10)), [0.5], 1.0)
    assert (found.one_voxel, found.a_tenth) == (0.5, None)


def test_equal_scores_count_together():
    lesion = row(*[1] * 20) > 0
    (found,), _ = sweep(overlaps(lesion, nothing(lesion), row(1, 0, 2, *[0] * 17)), [0.5, 0.5], 1.0)
    assert (found.one_voxel, found.a_tenth) == (0.5, 0.5)


@pytest.mark.parametrize(("inside", "verdict"), [(0, FALSE), (2, FALSE), (3, IGNORED), (4, IGNORED)])
def test_a_finding_that_lies_mostly_on_an_ignore_value_is_not_counted(inside, verdict):
    ignored = row(*[1] * inside, *[0] * (4 - inside)) > 0
    _, (finding,) = sweep(overlaps(nothing(ignored), ignored, row(1, 1, 1, 1)), [0.5], 1.0)
    assert finding.verdict == verdict


def test_a_finding_that_meets_a_lesion_is_a_hit_wherever_else_it_lies():
    _, (finding,) = sweep(overlaps(row(1, 0, 0) > 0, row(0, 1, 1) > 0, row(1, 1, 1)), [0.5], 1.0)
    assert finding.verdict == HIT


@pytest.mark.parametrize(
    ("volume_ml", "size"), [(0.09, 0), (0.1, 1), (0.49, 1), (0.5, 2), (1.9, 2), (2.0, 3), (9.9, 3), (10.0, 4)]
)
def test_sizes_hold_their_lower_limit(volume_ml, size):
    assert SweptLesion(1, volume_ml, None, None).size == SIZES[size]


@pytest.mark.parametrize("scores", [[], [0.1, 0.2], [float("nan")]])
def test_one_finite_score_for_each_finding(scores):
    one = row(1)
    with pytest.raises(ValueError, match="expected 1 finite scores"):
        sweep(overlaps(one > 0, nothing(one), one), scores, 1.0)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.uint8, (6, 5, 7)),
    hnp.arrays(np.uint8, (6, 5, 7)),
    hnp.arrays(np.float64, 210, elements={"min_value": 0, "max_value": 1}),
)
def test_a_cut_at_a_score_is_the_detection_of_the_mask_that_is_left(truth, mask, chances):
    """At any score: the findings above it as one mask, scored by `eval score`'s own code, without ignore values."""
    truth, mask = (truth > 190).astype(np.uint8), (mask > 190).astype(np.uint8)
    findings = instance_map(mask, Geometry(mask.shape, np.eye(4)), Path("x"))
    count = int(findings.max())
    scores = np.round(chances[:count], 1)
    lesions, finds = sweep(overlaps(truth > 0, np.zeros(truth.shape, bool), findings), scores, 0.001)
    for cut in (0.0, 0.3, 0.5, 1.0):
        left = np.isin(findings, 1 + np.flatnonzero(scores >= cut)) & (findings > 0)
        expected = detect(truth, left, (1.0, 1.0, 1.0))
        assert sum(x.one_voxel is not None and x.one_voxel >= cut for x in lesions) == sum(
            x.detected for x in expected.lesions
        )
        assert sum(x.a_tenth is not None and x.a_tenth >= cut for x in lesions) == sum(
            x.a_tenth for x in expected.lesions
        )
        assert sum(f.verdict == FALSE and f.score >= cut for f in finds) == expected.false_components
    assert all(x.a_tenth is None or (x.one_voxel or 0) >= x.a_tenth for x in lesions)
