"""What is measured of a finding: on shapes whose values are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from gfscreen.finding_plan import MEASURES
from gfscreen.screening import finding_measures
from gfscreen.screening.cells import CellMap
from gfscreen.screening.finding_measures import FindingPart, cells_of_voxels, measures_of, part_around

GRID_MM = (1.0, 1.0, 3.0)
SHAPE = (48, 48, 24)


def ellipsoid(*half_axes_mm: float, shape: tuple[int, ...] = SHAPE) -> NDArray[np.bool_]:
    index = np.moveaxis(np.indices(shape), 0, -1) - np.array(shape) // 2
    return np.asarray(((index * GRID_MM / half_axes_mm) ** 2).sum(axis=-1) <= 1.0)


def part(finding: NDArray[np.bool_], inside_hu: float = 60.0, around_hu: float = 20.0, **values: Any) -> FindingPart:
    found = FindingPart(
        finding=finding,
        any_finding=finding,
        probability=np.where(finding, 0.8, 0.1).astype(np.float32),
        hu=np.where(finding, inside_hu, around_hu).astype(np.float32),
        spacing_mm=GRID_MM,
        cell_logit=np.array([1.0, 3.0], np.float32),
        chest=0.0,
    )
    return replace(found, **values)


def measured(given: FindingPart) -> dict[str, float]:
    return dict(zip(MEASURES, measures_of(given).tolist(), strict=True))


class TestShape:
    def test_a_ball(self):
        found = measured(part(ellipsoid(9.0, 9.0, 9.0)))
        assert found["log10_ml"] == pytest.approx(np.log10(4 / 3 * np.pi * 0.729), abs=0.03)
        assert found["length"] == pytest.approx(0.0, abs=0.05)
        assert found["flatness"] == pytest.approx(0.0, abs=0.08)
        assert found["compactness"] == pytest.approx(0.0, abs=0.1)

    def test_a_vessel_is_long_and_a_sheet_flat(self):
        vessel, sheet = measured(part(ellipsoid(20.0, 4.0, 4.0))), measured(part(ellipsoid(20.0, 20.0, 5.0)))
        assert vessel["length"] == pytest.approx(np.log(5.0), abs=0.2)
        assert vessel["flatness"] == pytest.approx(np.log(5.0), abs=0.3)
        assert sheet["length"] == pytest.approx(0.0, abs=0.05)
        assert sheet["flatness"] == pytest.approx(np.log(4.0), abs=0.3)

    def test_a_branching_one_fills_less_of_its_ellipsoid(self):
        cross = ellipsoid(20.0, 3.0, 4.0) | ellipsoid(3.0, 20.0, 4.0)
        assert measured(part(cross))["compactness"] < measured(part(ellipsoid(20.0, 20.0, 4.0)))["compactness"] - 0.5

    def test_a_single_voxel(self):
        one = np.zeros((5, 5, 5), bool)
        one[2, 2, 2] = True
        found = measured(part(one))
        assert (found["length"], found["flatness"]) == (0.0, 0.0)
        assert found["log10_ml"] == pytest.approx(np.log10(0.003))

    def test_nothing_to_measure(self):
        with pytest.raises(ValueError, match="no voxel of a finding to measure"):
            measures_of(part(np.zeros((4, 4, 4), bool)))


class TestBorder:
    def test_contrast_and_edge(self):
        found = measured(part(ellipsoid(9.0, 9.0, 9.0)))
        assert found["contrast_hu"] == pytest.approx(40.0)
        assert found["mean_hu"] == pytest.approx(60.0)
        assert found["log_hu_spread"] == pytest.approx(np.log(5.0))
        assert found["log_edge_hu_per_mm"] > np.log(3.0 + 5.0)

    def test_a_piece_of_something_larger_is_alike_around(self):
        """40 HU of difference are none beside 80; a nodule in lung is like nothing around it."""
        assert measured(part(ellipsoid(9.0, 9.0, 9.0)))["alike_around"] == 1.0
        nodule = measured(part(ellipsoid(9.0, 9.0, 9.0), 20.0, -850.0))
        assert (nodule["alike_around"], nodule["air_around"]) == (0.0, 1.0)

    def test_half_in_lung(self):
        finding = ellipsoid(9.0, 9.0, 9.0)
        hu = np.where(np.arange(SHAPE[0]) < SHAPE[0] // 2, -850.0, 40.0).astype(np.float32)[:, None, None]
        found = measured(part(finding, hu=np.where(finding, np.float32(40.0), hu)))
        assert found["air_around"] == pytest.approx(0.5, abs=0.05)
        assert found["alike_around"] == pytest.approx(0.5, abs=0.05)

    def test_what_belongs_to_another_finding_is_not_around_it(self):
        finding, other = ellipsoid(6.0, 6.0, 6.0), np.zeros(SHAPE, bool)
        other[32:] = True
        alone = part(finding, hu=np.where(other, np.float32(900.0), np.float32(20.0)))
        assert measured(alone)["alike_around"] < 1.0
        assert measured(replace(alone, any_finding=finding | other))["alike_around"] == 1.0

    def test_without_anything_around_it(self):
        everything = part(np.ones((6, 6, 6), bool))
        found = measured(everything)
        assert (found["contrast_hu"], found["probability_around"], found["air_around"]) == (0.0, 0.0, 0.0)


class TestNetworks:
    def test_how_sure_focus_is(self):
        finding = ellipsoid(9.0, 9.0, 9.0)
        probability = np.where(finding, 0.3, 0.1).astype(np.float32)
        probability[24, 24, 12] = 0.9
        found = measured(part(finding, probability=probability))
        assert found["peak_logit"] == pytest.approx(np.log(9.0), abs=1e-5)
        assert found["mean_logit"] == pytest.approx(np.log(3 / 7), abs=0.01)
        assert found["sure_share"] == pytest.approx(1 / finding.sum())
        assert found["probability_around"] == pytest.approx(0.1)
        assert measured(part(finding, probability=np.ones(SHAPE, np.float32)))["peak_logit"] == pytest.approx(
            np.log(999.0)
        )

    @pytest.mark.parametrize(
        ("logits", "highest", "mean"),
        [
            ([1.0, 3.0], 3.0, 2.0),
            ([-np.inf, 2.0], 2.0, -5.0),
            ([np.nan], 0.0, 0.0),
            ([40.0], 12.0, 12.0),
            ([], 0.0, 0.0),
        ],
    )
    def test_cells(self, logits, highest, mean):
        found = measured(part(ellipsoid(6.0, 6.0, 6.0), cell_logit=np.array(logits, np.float32)))
        assert (found["cell_logit"], found["mean_cell_logit"]) == (highest, mean)

    def test_cells_of_voxels(self):
        cells = CellMap(np.arange(8, dtype=np.float32).reshape(2, 2, 2), (12.0, 12.0, 4.0))
        places = np.array([[0, 0, 0], [5, 5, 1], [7, 0, 0], [20, 20, 8]], np.intp)
        assert cells_of_voxels(cells, places).tolist() == [0.0, 0.0, 4.0, 7.0]
        assert cells_of_voxels(None, places).size == 0

    def test_the_region(self):
        assert measured(part(ellipsoid(6.0, 6.0, 6.0), chest=0.25))["chest"] == 0.25


def test_room_for_the_shell_as_far_as_the_scan_goes():
    assert part_around(np.s_[2:9, 10:12, 1:2], GRID_MM) == np.s_[0:14, 5:17, 0:4]


def test_a_large_one_is_thinned_and_measures_about_the_same(monkeypatch):
    rng = np.random.default_rng(0)
    given = part(ellipsoid(20.0, 14.0, 24.0), hu=rng.normal(40, 10, SHAPE).astype(np.float32))
    before = measured(given)
    monkeypatch.setattr(finding_measures, "MOST_VOXELS", given.finding.size // 8)
    assert given.thinned().finding.size == given.finding.size // 8
    after = measured(given)
    assert after["log10_ml"] == before["log10_ml"]
    for name in ("length", "flatness", "compactness", "alike_around", "mean_hu"):
        assert after[name] == pytest.approx(before[name], abs=0.7 if name == "mean_hu" else 0.15), name


def test_a_thin_one_that_thinning_would_lose_stays(monkeypatch):
    finding = np.zeros((20, 20, 20), bool)
    finding[3, 3, 3] = True
    monkeypatch.setattr(finding_measures, "MOST_VOXELS", 100)
    assert part(finding).thinned().finding.shape == finding.shape


@given(
    finding=arrays(bool, st.tuples(*(st.integers(1, 7),) * 3)),
    seed=st.integers(0, 99),
    axis=st.sampled_from([0, 1, 2]),
)
@settings(max_examples=60, deadline=None)
def test_finite_whatever_the_shape_and_the_same_from_the_other_side(finding, seed, axis):
    finding.flat[0] = True
    rng = np.random.default_rng(seed)
    hu = rng.normal(0, 300, finding.shape).astype(np.float32)
    probability = rng.random(finding.shape, dtype=np.float32)
    found = measures_of(part(finding, hu=hu, probability=probability))
    assert found.shape == (len(MEASURES),)
    assert np.isfinite(found).all()
    turned = [np.flip(array, axis) for array in (finding, hu, probability)]
    np.testing.assert_allclose(
        measures_of(part(turned[0], hu=turned[1], probability=turned[2])), found, rtol=1e-4, atol=1e-4
    )
