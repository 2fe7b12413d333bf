"""Long and short axis against shapes that can be measured by hand; the arithmetic is in the comments.

The outline goes through the middle of pixel sides, so a block of n pixels is n pixels wide, and its diagonal runs from
the middle of one side to the middle of the opposite one, one pixel further along the other side.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from gfscreen.results.statistics.axes import (
    convex_hull,
    longest_piece,
    measure_section,
    outline_points,
    plane_metric,
)

UNIT = np.eye(2)


def block(width: int, height: int, size: tuple[int, int] = (14, 14), at: tuple[int, int] = (3, 3)) -> np.ndarray:
    section = np.zeros(size, bool)
    section[at[0] : at[0] + width, at[1] : at[1] + height] = True
    return section


def lengths(section: np.ndarray, metric: np.ndarray = UNIT) -> tuple[float, float]:
    axes = measure_section(section, metric)
    return axes.long_mm, axes.short_mm


class TestHandMeasured:
    def test_one_pixel_is_one_pixel_long_and_wide(self):
        assert lengths(block(1, 1)) == pytest.approx((1, 1))

    def test_one_pixel_of_unequal_sides(self):
        # A diamond with the diagonals 2 and 0.5.
        assert lengths(block(1, 1), np.diag([2.0, 0.5])) == pytest.approx((2, 0.5))

    def test_a_row(self):
        # From the left side of the first pixel to the right side of the last: 5. Across: one pixel.
        assert lengths(block(5, 1)) == pytest.approx((5, 1))

    def test_a_row_of_long_pixels(self):
        # 5 pixels of 3 mm; 0.7 mm across.
        assert lengths(block(5, 1), np.diag([3.0, 0.7])) == pytest.approx((15, 0.7))

    def test_a_row_of_thick_pixels(self):
        # 5 pixels of 0.7 x 3 mm: 3.5 from side to side, but (.35, 0) to (3.15, 3) is longer: sqrt(2.8^2 + 3^2).
        # Across, direction (3, -2.8): from (.35, 3) it meets the side from (3.15, 0) to (3.5, 1.5), which is
        # (3.15 + .35 s, 1.5 s): 3 - 2.8 t = 1.5 s and .35 + 3 t = 3.15 + .35 s give t (3 + .35 * 2.8 / 1.5) = 3.5.
        long_mm = np.sqrt(2.8**2 + 3**2)
        short_mm = 3.5 / (3 + 0.35 * 2.8 / 1.5) * long_mm
        assert lengths(block(5, 1), np.diag([0.7, 3.0])) == pytest.approx((long_mm, short_mm))

    def test_a_block_of_three_by_two(self):
        # Corners of the hull: side middles (0, .5), (0, 1.5), (.5, 0), (2.5, 0), (3, .5), (3, 1.5), (2.5, 2), (.5, 2).
        # Longest: (0, .5) to (3, 1.5), or its mirror image: sqrt(9 + 1).
        # Across, direction (-1, 3) / sqrt(10): the line through (.5, 2) meets the lower side, y = 0, at
        # x = .5 + 2/3 = 7/6: chord sqrt((2/3)^2 + 2^2) = sqrt(40)/3, as all between the two straight sides.
        assert lengths(block(3, 2)) == pytest.approx((np.sqrt(10), np.sqrt(40) / 3))

    def test_anisotropic_pixels_turn_the_long_axis(self):
        # Two columns of three pixels, 1 x 4 mm. Side middles: (0, 2), (0, 10), (2, 2), (2, 10), (.5, 0), (.5, 12),
        # (1.5, 0), (1.5, 12). Longest: (.5, 0) to (1.5, 12): sqrt(1 + 144).
        # Across, direction (12, -1): through (0, 10): meets x = 2 at y = 10 - 2/12: chord sqrt(4 + 1/36).
        found = lengths(block(2, 3), np.diag([1.0, 4.0]))
        assert found == pytest.approx((np.sqrt(145), np.sqrt(4 + 1 / 36)))

    def test_an_l_shape_is_bridged_as_a_calliper_bridges_it(self):
        # Pixels (0, 0), (1, 0), (2, 0), (0, 1), (0, 2): arms of three. The hull's far corners: (3, .5) and (.5, 3)
        # are 2.5 * sqrt(2) apart; (2.5, 0)-(0, 2.5) likewise; (3, .5)-(0, 2.5): sqrt(9 + 4) is longer: sqrt(13),
        # and so is its mirror image (2.5, 0)-(.5, 3).
        section = block(3, 1) | block(1, 3)
        long_mm, short_mm = lengths(section)
        assert long_mm == pytest.approx(np.sqrt(13))
        # (0, 2.5) to (3, .5): direction (3, -2), across it (2, 3). Below it lie (0, .5), (.5, 0), (2.5, 0); above it
        # (.5, 3). Through (.5, 3): (.5, 3) - t (2, 3) meets y = 0 at t = 1, x = -1.5, and before that x = 0 at
        # t = .25, y = 2.25: chord .25 * sqrt(13). Through (.5, 0), the deepest corner but for (0, .5):
        # (.5, 0) + t (2, 3) meets the hull's side from (.5, 3) to (3, .5), x + y = 3.5: .5 + 5 t = 3.5, t = .6:
        # chord .6 * sqrt(13). Through (0, .5): .5 + 5 t = 3.5, also t = .6.
        assert short_mm == pytest.approx(0.6 * np.sqrt(13))

    def test_sheared_pixels(self):
        # Columns (1, 0, 0) and (1, 1, 0): pixel (x, y) lies at (x + y, y). 4 pixels along y are 4 sqrt(2) long.
        # The middles of the other sides lie half a pixel, (.5, 0), to both sides of that line: on y = x - .5 and
        # y = x + .5, which are 1 / sqrt(2) apart.
        metric = plane_metric(np.array([[1.0, 1.0], [0.0, 1.0], [0.0, 0.0]]))
        assert lengths(block(1, 4), metric) == pytest.approx((4 * np.sqrt(2), 1 / np.sqrt(2)))

    def test_oblique_planes_keep_lengths(self):
        # The same pixels, 0.8 x 1.5 mm, in a plane that is turned in space: nothing may change.
        angle = np.radians(35)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        tilt = np.array([[np.cos(0.4), 0, np.sin(0.4)], [0, 1, 0], [-np.sin(0.4), 0, np.cos(0.4)]])
        columns = turn @ tilt @ np.array([[0.8, 0], [0, 1.5], [0, 0]])
        section = block(5, 3)
        # 5 x 3 pixels: 4.0 x 4.5 mm. Side middles: (0, .75) to (4, 3.75): 5; longer is (.4, 0) to (3.6, 4.5):
        # sqrt(10.24 + 20.25).
        assert lengths(section, plane_metric(columns))[0] == pytest.approx(np.sqrt(30.49))
        assert lengths(section, plane_metric(columns)) == pytest.approx(lengths(section, np.diag([0.8, 1.5])))

    @pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 1.0), (0.7, 0.9)])
    def test_an_ellipse_has_its_own_axes(self, spacing):
        # Semi-axes 30 and 18 mm: 60 and 36, to within a pixel.
        x, y = np.indices((160, 160)) - 79.5
        inside = (x * spacing[0] / 30) ** 2 + (y * spacing[1] / 18) ** 2 <= 1
        assert lengths(inside, np.diag(spacing)) == pytest.approx((60, 36), abs=max(spacing))


class TestOneOutline:
    def test_no_axis_runs_from_island_to_island(self):
        # A row of 6 and one of 3 pixels, 4 apart: 6 x 1. Over both it would be 13.
        section = block(6, 1, at=(0, 2)) | block(3, 1, at=(10, 2))
        found = longest_piece(section, UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.axes.short_mm, found.pieces) == pytest.approx((6, 1, 2))
        assert sorted(map(tuple, found.axes.long_ends.tolist())) == [(-0.5, 2), (5.5, 2)]
        assert {tuple(pixel) for pixel in found.pixels.tolist()} == {(x, 2) for x in range(6)}

    def test_the_short_axis_is_that_of_the_same_island(self):
        # 7 x 1 is longer than 4 x 4, whose short axis is wider.
        found = longest_piece(block(7, 1, at=(0, 0)) | block(4, 4, at=(0, 5)), UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.axes.short_mm, found.pieces) == pytest.approx((7, 1, 2))

    def test_pixels_that_touch_by_a_corner_are_one_outline(self):
        # From the left side of (0, 0) to the right side of (1, 1): sqrt(2^2 + 1^2).
        found = longest_piece(np.eye(2, dtype=bool), UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.pieces) == pytest.approx((np.sqrt(5), 1))

    def test_which_island_is_longest_depends_on_the_spacing(self):
        section = block(4, 1, at=(0, 0)) | block(1, 5, at=(8, 5))
        for spacing, longest, other in (((1.0, 1.0), 5.0, 1.0), ((3.0, 0.7), 12.0, 0.7)):
            found = longest_piece(section, np.diag(spacing))
            assert found is not None
            assert (found.axes.long_mm, found.axes.short_mm) == pytest.approx((longest, other))

    def test_in_oblique_planes_too(self):
        angle = np.radians(35)
        turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
        metric = plane_metric(turn @ np.array([[0.8, 0.3], [0.0, 1.5], [0.0, 0.0]]))
        section = block(5, 3, at=(0, 0)) | block(2, 6, at=(8, 7))
        found = longest_piece(section, metric)
        assert found is not None
        assert (found.axes.long_mm, found.axes.short_mm) == pytest.approx(lengths(block(2, 6), metric))

    def test_of_a_ring_the_outer_outline_counts(self):
        ring = block(9, 9) & ~block(5, 5, at=(5, 5))
        assert lengths(ring) == pytest.approx(lengths(block(9, 9)))
        found = longest_piece(ring, UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.pieces) == pytest.approx((lengths(block(9, 9))[0], 1))

    def test_an_island_in_a_ring_is_a_piece_of_its_own(self):
        ring = block(9, 9) & ~block(5, 5, at=(5, 5))
        found = longest_piece(ring | block(1, 1, at=(7, 7)), UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.pieces) == pytest.approx((lengths(block(9, 9))[0], 2))
        assert [7, 7] not in found.pixels.tolist()

    def test_a_horseshoe_is_bridged_from_arm_to_arm(self):
        # Arms of 4 x 1 pixels at y = 0 and y = 8, joined by a column: from the tip of one arm to the far corner of the
        # other. Side middles (3.5, 0) and (0, 8.5): sqrt(12.25 + 72.25); tips (3, -.5) and (3, 8.5) are 9 apart;
        # (3, -.5) to (0, 8.5): sqrt(9 + 81) is longest.
        horseshoe = block(4, 1, at=(0, 0)) | block(4, 1, at=(0, 8)) | block(1, 9, at=(0, 0))
        found = longest_piece(horseshoe, UNIT)
        assert found is not None
        assert (found.axes.long_mm, found.pieces) == pytest.approx((np.sqrt(90), 1))

    def test_what_cannot_reach_the_longest_so_far_is_left_out(self):
        # The box of a row of 3 has a diagonal of sqrt(10).
        assert longest_piece(block(3, 1), UNIT, at_least_mm=3.2) is None
        assert longest_piece(block(3, 1), UNIT, at_least_mm=3.0) is not None


def test_the_longest_piece_is_found_whatever_is_left_out():
    """Against every piece measured; pieces of random sections, oblique pixels."""
    rng = np.random.default_rng(5)
    metric = plane_metric(np.array([[0.9, 0.4], [0.1, 1.4], [0.3, 0.2]]))
    for _ in range(30):
        section = rng.random((14, 12)) > 0.72
        labels, count = ndimage.label(section, np.ones((3, 3)))
        every = [measure_section(labels == number, metric) for number in range(1, count + 1)]
        found = longest_piece(section, metric)
        assert found is not None
        assert found.pieces == count
        assert found.axes.long_mm == pytest.approx(max(axes.long_mm for axes in every))


def test_ends_lie_on_the_outline_at_a_right_angle():
    rng = np.random.default_rng(3)
    metric = plane_metric(np.array([[0.9, 0.2], [0.1, 1.4], [0.3, 0.0]]))
    for _ in range(20):
        section = rng.random((9, 7)) > 0.6
        axes = measure_section(section, metric)
        long_mm = metric @ (axes.long_ends[1] - axes.long_ends[0])
        short_mm = metric @ (axes.short_ends[1] - axes.short_ends[0])
        assert np.linalg.norm(long_mm) == pytest.approx(axes.long_mm)
        assert np.linalg.norm(short_mm) == pytest.approx(axes.short_mm)
        assert long_mm @ short_mm == pytest.approx(0, abs=1e-9)
        assert axes.short_mm <= axes.long_mm + 1e-9


def test_the_long_axis_is_the_longest_of_all_distances():
    """Against every pair of side middles, found without the hull."""
    rng = np.random.default_rng(4)
    metric = np.array([[0.8, 0.3], [0.0, 1.1]])
    for _ in range(20):
        section = rng.random((8, 8)) > 0.7
        section[4, 4] = True
        padded = np.pad(section, 1)
        sides = [
            (x + 0.5 * dx - 1, y + 0.5 * dy - 1)
            for x, y in np.argwhere(padded)
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
            if not padded[x + dx, y + dy]
        ]
        placed = np.array(sides) @ metric.T
        longest = np.linalg.norm(placed[:, None] - placed[None], axis=2).max()
        assert measure_section(section, metric).long_mm == pytest.approx(longest)


def test_of_equally_long_pairs_the_one_with_the_longer_short_axis_counts():
    section = np.array([[0, 1, 0, 1], [0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 0]], bool)
    # Two pairs are sqrt(9 + 16) = 5 apart: (-.5, 3) to (3.5, 0), and (0, 3.5) to (3, -.5). Across the second, direction
    # (4, 3): from (0, .5) to the hull's side from (1, 3.5) to (3, 2.5): .5 + 3 t = 4 - 2 t, t = .7: 3.5. Across the
    # first it is 3.18.
    for turned in (section, section[::-1], section[:, ::-1], section.T):
        assert lengths(turned) == pytest.approx((5, 3.5))


def test_hull_and_outline():
    square = np.array([[0, 0], [2, 0], [1, 1], [2, 2], [0, 2], [1, 0]], float)
    assert convex_hull(square).tolist() == [[0, 0], [2, 0], [2, 2], [0, 2]]
    assert sorted(map(tuple, outline_points(block(1, 1, (1, 1), (0, 0))))) == [(-0.5, 0), (0, -0.5), (0, 0.5), (0.5, 0)]
    with pytest.raises(ValueError, match="empty section"):
        outline_points(np.zeros((3, 3), bool))
