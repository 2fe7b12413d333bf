"""Cells of a Glance on a trunk: where they lie, which pieces ask for them, and what is made of their suspicion."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from gfscreen.network_plan import CellGlanceConfig, FocusConfig, SecondFocusConfig
from gfscreen.networks.engines.base import NOMINAL_VOXELS, EngineInfo
from gfscreen.scan.grid import ModelScan, resample_model
from gfscreen.screening.budget import Budget, write_reserve_s
from gfscreen.screening.cells import (
    CELL_STRIDE,
    INPUT_MULTIPLE,
    MARGIN_SLICES,
    PIECE_SLICES,
    CellMap,
    Piece,
    TrunkInput,
    blank_cells,
    body_share,
    case_suspicion,
    probability,
    take_over,
)
from gfscreen.screening.screening import Screening, screen
from gfscreen.screening.screening_state import Glanced, ScreeningState
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Window
from tests.helpers.engines import TINY_PLAN, FakeClock, FakeEngine, bright_engine, constant_engine
from tests.helpers.scans import LESION_HU, TISSUE_HU, model_scan, volume_of

CONFIG = CellGlanceConfig(case_calibration=(1.0, 0.0))
# The grid of the networks: cells of 12 x 12 x 4 voxels.
SPACING_MM = (1.0, 1.0, 3.0)
PLAN = replace(TINY_PLAN, cells=CONFIG)
ISOTROPIC = np.diag([4.0, 4.0, 4.0, 1.0])


def scan_of(shape: tuple[int, int, int], chest: NDArray[np.bool_] | None = None, **options: Any) -> ModelScan:
    return model_scan(shape, chest=chest, spacing_mm=options.pop("spacing_mm", SPACING_MM), **options)


def place_code(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """What a trunk would answer, in its size: for cell (k, i, j) of a piece 1e6 region + 1e4 k + 100 i + j."""
    z, x, y = (n // stride for n, stride in zip(volume.shape, (4, 8, 8), strict=True))
    region, k, i, j = np.indices((2, z, x, y))
    return (1e6 * region + 1e4 * k + 100 * i + j).astype(np.float32)


class TestLattice:
    def test_a_cell_is_centred_on_a_voxel_of_the_trunks_grid(self):
        """What is bright at the centre of cell (i, j, k) is bright at (i, j, k) * stride once it is resampled."""
        cells = blank_cells(scan_of((49, 37, 13)), CONFIG)
        assert cells.cell_voxels == (12.0, 12.0, 4.0)
        # 48 / 12 + 1 along x; 36 / 12 + 1; 12 / 4 + 1.
        assert cells.logit.shape == (5, 4, 4)
        for i, j, k in [(0, 0, 0), (2, 1, 3), (4, 3, 0)]:
            hu = np.full((49, 37, 13), -1000.0, np.float32)
            centre = [round(cells.centres(axis)[n]) for axis, n in enumerate((i, j, k))]
            hu[tuple(slice(max(0, c - 1), c + 2) for c in centre)] = 1000.0
            trunk_grid = resample_model(hu, SPACING_MM, CONFIG.spacing_mm)
            assert trunk_grid[i * 8, j * 8, k * 4] == 1000.0
            found = np.array(np.nonzero(trunk_grid == 1000.0)).mean(axis=1)
            assert np.abs(found - np.array([i * 8, j * 8, k * 4])).max() < 1.0

    @given(st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(1, 60)))
    @settings(max_examples=60, deadline=None)
    def test_every_voxel_of_the_model_grid_has_a_cell_within_half_a_cell(self, shape):
        cells = blank_cells(scan_of(shape), CONFIG)
        for axis, size in enumerate(shape):
            index = cells.index_of(np.arange(size), axis)
            away = np.abs(np.arange(size) - cells.centres(axis)[index])
            assert away.max() <= cells.cell_voxels[axis] / 2
            assert set(index) == set(range(cells.logit.shape[axis]))  # and no cell is without a voxel

    @pytest.mark.parametrize(
        "spacing_mm", [(0.7, 0.7, 2.5), (0.8, 0.8, 1.25), (4.0, 4.0, 4.0), (1.3, 0.9, 5.0), (20.0, 3.0, 30.0)]
    )
    def test_on_other_model_grids(self, spacing_mm):
        scan = scan_of((40, 31, 27), spacing_mm=spacing_mm)
        cells = blank_cells(scan, CONFIG)
        assert np.isnan(cells.logit[1:-1, 1:-1, 1:-1]).all()
        for axis in range(3):
            assert cells.cell_voxels[axis] * spacing_mm[axis] == pytest.approx(12.0)

    def test_a_cell_with_hardly_any_body_is_none_to_look_at(self):
        # Cell (1, 1, 1) has voxels 6 to 17, 6 to 17 and 2 to 5: 576. A quarter are 144, as 12 x 12 x 1.
        body = np.zeros((25, 25, 9), bool)
        body[6:18, 6:18, 2] = True
        assert body_share(body, blank_cells(scan_of((25, 25, 9)), CONFIG))[1, 1, 1] == 0.25
        assert np.argwhere(np.isnan(blank_cells(scan_of((25, 25, 9), body=body), CONFIG).logit)).tolist() == [[1, 1, 1]]
        body[6, 6, 2] = False
        assert np.isneginf(blank_cells(scan_of((25, 25, 9), body=body), CONFIG).logit).all()

    @pytest.mark.parametrize("shape", [(1, 1, 1), (5, 3, 1), (6, 40, 2), (90, 90, 1)])
    def test_a_scan_thinner_than_a_cell_is_looked_at_all_the_same(self, shape):
        cells = blank_cells(scan_of(shape), CONFIG)
        assert np.isnan(cells.logit[: shape[0] // 12 + 1, : shape[1] // 12 + 1]).all()
        assert len(cells.pieces) == 1

    def test_without_body_there_is_nothing_to_ask(self):
        cells = blank_cells(scan_of((30, 30, 20), body=np.zeros((30, 30, 20), bool)), CONFIG)
        assert cells.pieces == []
        assert case_suspicion(cells, CONFIG) is None


def chests(slices: int) -> dict[str, NDArray[np.bool_]]:
    split = np.arange(slices) >= slices // 2
    return {"abdomen": np.zeros(slices, bool), "chest": np.ones(slices, bool), "split": split}


class TestPieces:
    @given(
        st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 400)),
        st.sampled_from(["abdomen", "chest", "split"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_each_cell_is_asked_for_once_in_its_own_region(self, shape, which):
        """By an answer of exactly the size that the trunk gives: its places tell which cell it was."""
        chest = chests(shape[2])[which]
        scan = scan_of(shape, chest)
        cells = blank_cells(scan, CONFIG)
        see = TrunkInput(scan, CONFIG)
        times = np.zeros(cells.logit.shape[2], int)
        for piece in list(cells.pieces):
            times[piece.first : piece.last] += 1
            assert piece.low % INPUT_MULTIPLE[2] == 0
            volume = see(piece, cells)
            assert volume.shape == tuple(see.shape(piece, cells)[axis] for axis in (2, 0, 1))
            assert all(n % m == 0 for n, m in zip(volume.shape, (8, 16, 16), strict=True))
            take_over(cells, piece, place_code(volume) + 1e4 * (piece.low // 4))
        asked = ~np.isneginf(cells.logit).all(axis=(0, 1))
        np.testing.assert_array_equal(times, asked)
        assert cells.pieces == []
        i, j, k = np.indices(cells.logit.shape)
        middle = np.minimum(np.rint(cells.centres(2)).astype(int), shape[2] - 1)
        expected = 1e6 * ~chest[middle] + 1e4 * k + 100 * i + j
        looked = ~np.isneginf(cells.logit)
        np.testing.assert_array_equal(cells.logit[looked], expected.astype(np.float32)[looked])

    def test_a_long_scan_is_read_in_pieces_with_a_margin(self):
        cells = blank_cells(scan_of((24, 24, 400)), CONFIG)
        # 399 / 4 + 1 layers, of at most 32 in a piece: four of 25 or 26.
        assert [(p.first, p.last) for p in cells.pieces] == [(0, 26), (26, 51), (51, 76), (76, 101)]
        for piece in cells.pieces:
            assert piece.high - piece.low <= PIECE_SLICES + 2 * MARGIN_SLICES + INPUT_MULTIPLE[2]
            assert piece.low == 0 or piece.first * 4 - piece.low >= MARGIN_SLICES
            assert piece.high in (400, (piece.last - 1) * 4 + MARGIN_SLICES + 1)

    def test_each_region_is_seen_through_its_own_window(self):
        """40 HU is 1040 / 1200 of the chest's window and 215 / 425 of the abdomen's."""
        scan = scan_of((24, 24, 40), chests(40)["split"])
        cells = blank_cells(scan, CONFIG)
        see = TrunkInput(scan, CONFIG)
        values = {piece.region: float(see(piece, cells)[0, 0, 0]) for piece in cells.pieces}
        assert values == {"chest": pytest.approx(1040 / 1200), "abdomen": pytest.approx(215 / 425)}

    def test_layers_that_do_not_follow_each_other_are_pieces_of_their_own(self):
        body = np.zeros((24, 24, 40), bool)
        body[:, :, :8] = body[:, :, 32:] = True
        cells = blank_cells(scan_of((24, 24, 40), body=body), CONFIG)
        assert [(p.first, p.last) for p in cells.pieces] == [(0, 3), (8, 11)]  # layer 2 has voxels 6 to 9

    def test_a_piece_holds_what_the_scan_has_there_and_nothing_beyond(self):
        hu = np.random.default_rng(0).uniform(-150, 200, (40, 33, 60)).astype(np.float32)
        scan = scan_of((40, 33, 60), hu=hu)
        cells = blank_cells(scan, CONFIG)
        see = TrunkInput(scan, CONFIG)
        piece = Piece("abdomen", 8, 40, 6, 8)
        volume = see(piece, cells)
        # Along x 39 / 1.5 + 1 = 27 voxels, filled up to 32; along y 32 / 1.5 + 1 = 22.
        expected = (resample_model(hu, SPACING_MM, CONFIG.spacing_mm)[:, :, 8:40] + 175) / 425
        np.testing.assert_allclose(volume[:32, :27, :22], expected.transpose(2, 0, 1), atol=1e-6)
        assert volume.shape == (32, 32, 32)
        assert not volume[:, 27:].any()
        assert not volume[:, :, 22:].any()

    def test_what_is_forgotten_is_made_again(self):
        scan = scan_of((24, 24, 20))
        cells = blank_cells(scan, CONFIG)
        see = TrunkInput(scan, CONFIG)
        before = see(cells.pieces[0], cells)
        see.forget()
        np.testing.assert_array_equal(see(cells.pieces[0], cells), before)

    def test_cells_without_body_keep_their_answer(self):
        body = np.ones((36, 24, 9), bool)
        body[:18] = False
        cells = blank_cells(scan_of((36, 24, 9), body=body), CONFIG)
        piece = cells.pieces[0]
        take_over(cells, piece, np.full((2, 4, 4, 4), 1.5, np.float32))
        assert np.isneginf(cells.logit[:2]).all()
        assert (cells.logit[2:] == 1.5).any()
        assert not np.isnan(cells.logit).any()


def cell_map(logit: NDArray[Any]) -> CellMap:
    return CellMap(logit.astype(np.float32), (12.0, 12.0, 4.0))


class TestSuspicion:
    def test_of_a_sub_volume_is_that_of_its_most_suspicious_cell(self):
        logit = np.full((9, 9, 17), -5.0)
        logit[3, 4, 6] = 2.0  # centred on voxel (36, 48, 24)
        cells = cell_map(logit)
        size = (32, 32, 32)
        assert cells.suspicion(Window((36, 48, 24), "abdomen"), size) == pytest.approx(1 / (1 + math.exp(-2.0)))
        assert cells.suspicion(Window((5, 17, 0), "abdomen"), size) == pytest.approx(1 / (1 + math.exp(-2.0)))
        # A window's end does not belong to it, nor does what lies before its start.
        assert cells.suspicion(Window((4, 17, 0), "abdomen"), size) == pytest.approx(1 / (1 + math.exp(5.0)))
        assert cells.suspicion(Window((37, 48, 24), "abdomen"), size) == pytest.approx(1 / (1 + math.exp(5.0)))

    def test_windows_that_leave_the_scan(self):
        cells = cell_map(np.full((2, 2, 2), 1.0))
        assert cells.suspicion(Window((-40, -40, -30), "abdomen"), (96, 96, 64)) == pytest.approx(probability(1.0))

    def test_unknown_while_some_of_its_cells_are(self):
        logit = np.full((9, 9, 9), 3.0)
        logit[0, 0, 0] = np.nan
        cells = cell_map(logit)
        assert math.isnan(cells.suspicion(Window((0, 0, 0), "abdomen"), (32, 32, 32)))
        assert cells.suspicion(Window((1, 0, 0), "abdomen"), (32, 32, 32)) == pytest.approx(probability(3.0))

    def test_none_without_body(self):
        cells = cell_map(np.full((9, 9, 9), -np.inf))
        assert cells.suspicion(Window((0, 0, 0), "abdomen"), (32, 32, 32)) == 0.0

    @pytest.mark.parametrize(
        ("logit", "expected"), [(0.0, 0.5), (-math.inf, 0.0), (math.inf, 1.0), (800.0, 1.0), (-800.0, 0.0)]
    )
    def test_the_logistic_function_at_its_ends(self, logit, expected):
        assert probability(logit) == expected
        assert math.isnan(probability(math.nan))

    def test_of_a_scan_is_calibrated(self):
        logit = np.full((3, 3, 3), -4.0)
        logit[1, 1, 1], logit[0, 0, 0], logit[2, 2, 2] = 2.0, -np.inf, np.nan
        config = CellGlanceConfig(case_calibration=(0.5, -3.0))
        # 0.5 * 2 - 3 = -2.
        assert case_suspicion(cell_map(logit), config) == pytest.approx(1 / (1 + math.exp(2.0)))

    def test_of_a_scan_without_calibration_is_not_told(self):
        assert case_suspicion(cell_map(np.full((2, 2, 2), 5.0)), CellGlanceConfig()) is None

    def test_of_a_scan_that_nobody_looked_at_is_unknown(self):
        assert case_suspicion(cell_map(np.full((2, 2, 2), np.nan)), CONFIG) is None


def block(shape: tuple[int, int, int], **marks: Any) -> NDArray[np.int16]:
    hu = np.full(shape, TISSUE_HU, np.int16)
    for part, value in marks.values():
        hu[part] = value
    return hu


def bright_cells(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logit 2 for a cell with a bright centre, else -2; the abdomen's window has 200 HU at 0.88 and tissue at 0.51."""
    logit = np.where(volume[::4, ::8, ::8] > 0.7, 2.0, -2.0).astype(np.float32)
    return np.stack([logit, logit])


def engine_of(judge: Any = bright_cells, **options: Any) -> FakeEngine:
    return FakeEngine(
        lambda _: pytest.fail("sub-volumes are not glanced at one by one"),
        lambda patch: (patch > 0.7).astype(np.float32),
        judge=judge,
        **options,
    )


def screened(
    hu: NDArray[np.int16], engine: FakeEngine, budget: Budget | None = None, plan: Any = PLAN, **asked: Any
) -> Screening:
    return screen(
        volume_of(hu, ISOTROPIC), plan, engine, budget or Budget(), ScreeningSettings(**asked), keep_outputs=True
    )


class TestScreening:
    """4 mm model grid, sub-volumes of 32 voxels; cells of 3 voxels."""

    LESION = np.s_[44:50, 14:20, 14:20], LESION_HU

    def test_focus_reads_where_a_cell_is_suspicious(self):
        engine = engine_of()
        result = screened(block((96, 32, 32), lesion=self.LESION), engine, overlap=0.0)
        assert len(engine.pieces) == 1
        counts = (result.windows_total, result.windows_kept, result.windows_done, result.windows_unglanced)
        assert counts == (3, 1, 1, 0)
        assert result.complete
        assert (np.argwhere(result.mask).min(axis=0) == (44, 14, 14)).all()
        assert (np.argwhere(result.mask).max(axis=0) == (49, 19, 19)).all()
        assert result.suspicion == pytest.approx(probability(2.0))

    def test_an_ordinary_scan(self):
        result = screened(block((96, 32, 32)), engine_of())
        assert (result.windows_kept, result.complete) == (0, True)
        assert not result.mask.any()
        assert result.suspicion == pytest.approx(probability(-2.0))

    def test_marks_away_from_suspicious_cells_are_cleared(self):
        """Two bright places in one sub-volume, of which Glance suspects one."""
        hu = block(
            (32, 32, 32), lesion=(np.s_[3:9, 3:9, 3:9], LESION_HU), other=(np.s_[22:28, 22:28, 22:28], LESION_HU)
        )

        def first_only(volume: NDArray[np.float32]) -> NDArray[np.float32]:
            logit = np.maximum(bright_cells(volume), -1.0)  # nearly as suspicious where it is dark
            logit[:, 5:] = -2.0
            return logit

        both = screened(hu, engine_of(first_only)).mask
        one = screened(hu, engine_of(first_only), plan=replace(PLAN, mark_from=0.5)).mask
        assert both[3:9, 3:9, 3:9].all()
        assert both[22:28, 22:28, 22:28].all()
        assert one[3:9, 3:9, 3:9].all()
        assert not one[22:].any()

    def test_gate_0_asks_no_glance(self):
        engine = engine_of(lambda _: pytest.fail("asked"))
        result = screened(
            block((96, 32, 32), lesion=self.LESION), engine, plan=replace(PLAN, mark_from=0.5), gate=0.0, overlap=0.0
        )
        assert (result.windows_done, result.suspicion) == (3, None)
        assert result.mask.sum() == 6**3
        assert result.network_outputs is not None
        assert result.network_outputs.cells is None

    def test_weights_without_cells_have_no_suspicion(self):
        engine = FakeEngine(lambda _: 0.9, lambda patch: np.zeros_like(patch))
        assert screened(block((40, 32, 32)), engine, plan=TINY_PLAN).suspicion is None

    def test_glance_at_a_place_is_that_of_its_cell(self):
        outputs = screened(block((96, 32, 32), lesion=self.LESION), engine_of()).network_outputs
        assert outputs is not None
        assert outputs.glance_at(np.array([48.0, 18.0, 18.0])) == pytest.approx(probability(2.0))
        assert outputs.glance_at(np.array([5.0, 18.0, 18.0])) == pytest.approx(probability(-2.0))

    def test_progress_counts_pieces(self):
        said: list[tuple[str, int, int]] = []
        hu = block((32, 32, 400))
        screen(volume_of(hu, ISOTROPIC), PLAN, engine_of(), Budget(), progress=lambda *args: said.append(args))
        # 399 voxels of 4 mm are 532 slices of 3 mm: 134 layers, five pieces.
        assert said == [("glance", done, 5) for done in range(1, 6)]


class TestCloseReads:
    """With the plan's `second_focus.reads` the second Focus reads what its small sub-volumes hold."""

    CLOSE = (64, 64, 32)
    PLAN = replace(
        PLAN, sub_volume_voxels=(96, 64, 32), second_focus=SecondFocusConfig(FocusConfig(), CLOSE, reads=True)
    )
    SPOT = np.s_[20:26, 14:20, 14:20], LESION_HU
    # The middle of a wide sub-volume holds 77 voxels along x, that of a close one, which takes as long, 51.
    LARGE = np.s_[100:166, 20:44, 8:24], LESION_HU

    @staticmethod
    def engine(**options: Any) -> FakeEngine:
        return engine_of(second_outline=lambda patch: 0.9 * (patch > 0.7).astype(np.float32), **options)

    def test_a_small_place_is_read_by_the_second_focus_alone(self):
        engine, hu = self.engine(), block((96, 64, 32), spot=self.SPOT)
        result = screened(hu, engine, plan=self.PLAN)
        assert (len(engine.focused), [patch.shape for patch in engine.looked_closely]) == (0, [self.CLOSE])
        assert (result.windows_kept, result.windows_done, result.complete) == (1, 1, True)
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)
        outputs = result.network_outputs
        assert outputs is not None
        np.testing.assert_array_equal(outputs.sizes, [self.CLOSE])
        assert outputs.focus_probability.max() == np.float32(0.9)
        np.testing.assert_array_equal(
            screened(hu, engine_of(), plan=replace(self.PLAN, second_focus=None)).mask, result.mask
        )

    def test_a_large_one_by_focus_and_the_close_ones_come_first(self):
        said: list[tuple[str, int, int]] = []
        engine, hu = self.engine(), block((192, 64, 32), spot=self.SPOT, large=self.LARGE)
        result = screen(volume_of(hu, ISOTROPIC), self.PLAN, engine, Budget(), progress=lambda *args: said.append(args))
        assert {patch.shape for patch in engine.focused} == {(96, 64, 32)}
        assert len(engine.looked_closely) == 1
        assert result.windows_done == result.windows_kept == 1 + len(engine.focused)
        np.testing.assert_array_equal(result.mask, hu == LESION_HU)
        of_focus = [(done, total) for stage, done, total in said if stage == "focus"]
        assert of_focus == [(done, result.windows_kept) for done in range(1, result.windows_kept + 1)]

    @pytest.mark.parametrize(("left_s", "close", "wide"), [(0.05, 0, 0), (0.6, 0, 0), (1.1, 0, 1), (1.6, 1, 1)])
    def test_a_deadline_takes_the_least_suspicious(self, left_s, close, wide):
        """The large place is more suspicious here; where time may not do for all, its turn comes first."""

        def judge(volume: NDArray[np.float32]) -> NDArray[np.float32]:
            logit = bright_cells(volume)
            logit[:, :, : logit.shape[2] // 3] = np.minimum(logit[:, :, : logit.shape[2] // 3], 1.0)
            return logit

        clock = FakeClock()
        info = EngineInfo("fake", "cpu", "fp32", "for a test", 0.0, 1.0, None, 0.25)
        engine = self.engine(clock=clock, focus_s=1.0, second_focus_s=0.25, info=info)
        engine.judge = judge
        hu = block((192, 64, 32), spot=self.SPOT, large=self.LARGE)
        budget = Budget(left_s + write_reserve_s(hu.size), clock=clock)
        result = screened(hu, engine, budget, plan=self.PLAN)
        assert (len(engine.looked_closely), len(engine.focused)) == (close, wide)
        assert result.complete == (left_s > 1.5)
        assert budget.remaining_s() >= 0.0

    def test_second_looks_are_a_share_of_the_time_that_reading_took(self):
        """Eight close reads are two wide ones: a quarter of that is one, or four close looks."""
        spots = {f"spot{n}": (np.s_[8 + 40 * n : 14 + 40 * n, 14:20, 14:20], LESION_HU) for n in range(8)}
        hu = block((320, 64, 32), **spots)
        second = SecondFocusConfig(FocusConfig(), (32, 32, 32), reads=True)
        plan = replace(self.PLAN, sub_volume_voxels=(64, 64, 32), second_focus=second)
        for share, looks in ((0.0, 0), (0.25, 4), (0.5, 4), (1.0, 8)):
            result = screened(hu, self.engine(), plan=replace(plan, second_look=share))
            assert (result.windows_kept, result.windows_done, result.second_looks) == (2, 2, looks)


class TestBesideAGlance:
    """A Glance judges the sub-volumes; cells say where in these Focus reads, and where it may mark."""

    PLAN = replace(PLAN, mark_from=0.5, cells=replace(CONFIG, role="marks"))
    LEFT, RIGHT = (np.s_[6:12, 14:20, 14:20], LESION_HU), (np.s_[84:90, 14:20, 14:20], LESION_HU)

    @staticmethod
    def nearly(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        """Where it is dark, nearly as suspicious as to be marked."""
        return np.maximum(bright_cells(volume), -1.0)

    def engine(self, judge: Any = nearly, **options: Any) -> FakeEngine:
        return bright_engine(judge=judge, **options)

    def test_marks_stay_where_both_are_suspicious(self):
        def right_only(volume: NDArray[np.float32]) -> NDArray[np.float32]:
            logit = self.nearly(volume)
            logit[:, :, : logit.shape[2] // 2] = -2.0
            return logit

        engine = self.engine(right_only)
        result = screened(block((96, 32, 32), left=self.LEFT, right=self.RIGHT), engine, plan=self.PLAN, overlap=0.0)
        assert (engine.glanced, len(engine.pieces), len(engine.focused)) == (3, 1, 1)
        assert (result.windows_total, result.windows_kept, result.complete) == (3, 1, True)
        assert result.mask[84:90, 14:20, 14:20].all()
        assert not result.mask[:84].any()
        assert result.suspicion == pytest.approx(probability(2.0))
        outputs = result.network_outputs
        assert outputs is not None
        assert outputs.glance_at(np.array([86.0, 16.0, 16.0])) == pytest.approx(probability(2.0))
        np.testing.assert_allclose(outputs.glance_probability, [0.95])
        np.testing.assert_allclose(outputs.grid_probability, [0.95, 0.05, 0.95])

    def test_a_sub_volume_below_the_gate_is_not_read_however_suspicious_its_cells(self):
        engine = constant_engine(0.3, 1.0, judge=lambda v: bright_cells(v) + 9.0)
        result = screened(block((96, 32, 32), left=self.LEFT), engine, plan=self.PLAN)
        assert (len(engine.focused), result.windows_kept, result.complete) == (0, 0, True)

    def test_gate_0_asks_neither(self):
        engine = self.engine(lambda _: pytest.fail("asked"))
        result = screened(block((96, 32, 32), left=self.LEFT), engine, plan=self.PLAN, gate=0.0, overlap=0.0)
        assert (engine.glanced, result.windows_done, result.suspicion) == (0, 3, None)
        assert result.mask.sum() == 6**3

    def test_a_forced_share_reads_the_grid(self):
        engine = self.engine()
        result = screened(block((96, 32, 32), left=self.LEFT), engine, plan=self.PLAN, overlap=0.0, keep_share=0.5)
        assert (result.windows_kept, result.windows_done) == (2, 2)
        assert result.mask.sum() == 6**3

    def test_cells_that_time_did_not_allow_forbid_nothing(self):
        """What is not known of a place speaks neither for nor against it."""
        clock = FakeClock()
        info = EngineInfo("fake", "cpu", "fp32", "for a test", 0.1, 0.1, 50.0)
        engine = self.engine(lambda _: pytest.fail("asked"), clock=clock, glance_s=0.1, focus_s=0.1, info=info)
        budget = Budget(20.0, clock=clock)
        result = screened(block((96, 32, 32), left=self.LEFT), engine, budget, plan=self.PLAN, overlap=0.0)
        assert (result.windows_unglanced, result.windows_kept, result.windows_done) == (0, 1, 1)
        assert result.mask[6:12, 14:20, 14:20].all()
        assert result.suspicion is None

    @pytest.mark.parametrize("limit_s", [0.5, 1.6, 3.0, 5.0, 9.0, 14.0])
    @pytest.mark.parametrize("glance_s", [0.02, 0.3])
    def test_it_ends_in_time_whatever_fits(self, limit_s, glance_s):
        clock = FakeClock()
        engine = self.engine(clock=clock, glance_s=glance_s, focus_s=0.1)
        budget = Budget(limit_s, clock=clock)
        result = screened(block((64, 32, 400), left=self.LEFT), engine, budget, plan=self.PLAN)
        assert budget.elapsed_s() <= limit_s + 3 * glance_s  # the first step of each kind cannot be foreseen
        assert result.windows_done <= result.windows_kept


class TestDeadline:
    """A scan of 400 slices: five pieces of glance_s each."""

    def run(
        self, limit_s: float, glance_s: float, focus_s: float = 0.1, **options: Any
    ) -> tuple[Screening, FakeEngine, float]:
        clock = FakeClock()
        engine = engine_of(lambda v: np.full((2, v.shape[0] // 4, v.shape[1] // 8, v.shape[2] // 8), 1.0, np.float32),
                           clock=clock, glance_s=glance_s, focus_s=focus_s, **options)  # fmt: skip
        budget = Budget(limit_s, clock=clock)
        return screened(block((32, 32, 400)), engine, budget), engine, budget.elapsed_s()

    def test_enough_time(self):
        result, engine, _ = self.run(60.0, 0.5)
        assert (len(engine.pieces), result.windows_unglanced, result.complete) == (5, 0, True)

    @pytest.mark.parametrize("limit_s", [0.5, 1.6, 3.0, 5.0, 9.0, 14.0])
    @pytest.mark.parametrize("glance_s", [0.3, 1.0, 2.5])
    def test_it_ends_in_time_whatever_fits(self, limit_s, glance_s):
        result, engine, elapsed_s = self.run(limit_s, glance_s)
        assert elapsed_s <= limit_s + glance_s  # the first step of all cannot be foreseen
        assert result.windows_done <= result.windows_kept
        assert result.complete == (len(engine.pieces) == 5 and result.windows_done == result.windows_kept)

    def test_what_was_not_looked_at_stays_unglanced(self):
        # 7 s less 1.5 for writing: a piece, and with it the first sub-volumes; what they take; another; and so on.
        result, engine, _ = self.run(7.0, 1.5)
        assert 0 < len(engine.pieces) < 5
        assert 0 < result.windows_unglanced < result.windows_total
        assert not result.complete
        assert result.suspicion == pytest.approx(probability(1.0))

    def test_no_time_at_all(self):
        result, engine, _ = self.run(1.0, 0.5)
        assert (engine.pieces, result.windows_unglanced, result.windows_done) == ([], result.windows_total, 0)
        assert result.suspicion is None
        assert not result.mask.any()

    def test_the_first_piece_is_taken_only_if_all_of_it_is_expected_to_fit(self):
        """A piece is as large as so many sub-volumes, each of which is expected to take 1 s."""
        clock = FakeClock()
        volumes: list[tuple[int, ...]] = []

        def judge(volume: NDArray[np.float32]) -> NDArray[np.float32]:
            volumes.append(volume.shape)
            return np.zeros((2, volume.shape[0] // 4, volume.shape[1] // 8, volume.shape[2] // 8), np.float32)

        info = EngineInfo("fake", "cpu", "fp32", "for a test", 1.0, 0.1)
        for limit_s in (60.0, 6.0):
            screened(block((32, 32, 400)), engine_of(judge, clock=clock, info=info), Budget(limit_s, clock=clock))
        # The first has 128 x 96 x 96 voxels, 4.5 of them, and counts for 5 s; of 6 s 1.5 are kept for writing.
        assert math.ceil(math.prod(volumes[0]) / NOMINAL_VOXELS) == 5
        assert len(volumes) == 5


class TestState:
    """What ends the search: a round in which nothing new was seen and nothing read."""

    WINDOWS = [Window((n, 0, 0), "abdomen") for n in range(3)]  # noqa: RUF012

    def test_what_was_known_before_is_no_news(self):
        state = ScreeningState(self.WINDOWS, 0.5)
        told = Glanced(self.WINDOWS, np.array([0.1, np.nan, np.nan]))
        state.saw(told)
        state.did_read([])
        assert state.goes_on
        state.saw(told)
        state.did_read([])
        assert not state.goes_on

    def test_a_piece_by_which_no_sub_volume_is_known_yet_is(self):
        state = ScreeningState(self.WINDOWS, 0.5)
        state.saw(Glanced(self.WINDOWS, np.full(3, np.nan)), looked=True)
        state.did_read([])
        assert state.goes_on


def test_a_cell_is_about_as_large_as_is_said():
    assert [s * mm for s, mm in zip(CELL_STRIDE, CONFIG.spacing_mm, strict=True)] == [12.0, 12.0, 12.0]
