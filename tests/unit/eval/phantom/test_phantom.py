"""The digital patients: shapes, lesions, anatomy, sampling."""

from __future__ import annotations

import functools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eval.phantom import Scan, abdomen, make_phantom, thorax
from eval.phantom.canvas import Canvas, Part
from eval.phantom.lesion_shape import LesionShape
from eval.phantom.lesions import UPRIGHT, PhantomLesion, paint_lesions
from eval.phantom.shapes import Above, Capsule, Drum, Ellipsoid, Inset, Union, rotation_from_axis
from eval.phantom.subject import draw_subject
from eval.phantom.texture import Noise
from eval.phantom.torso import Torso
from eval.phantom.trees import grow

COARSE = {"shape": (48, 40, 20), "spacing_mm": (8.0, 8.0, 5.0)}  # 100 mm of the body


@functools.cache
def phantom_4mm(kind):
    return make_phantom(kind, 2, spacing_mm=(4, 4, 5))


@pytest.fixture(scope="module")
def healthy():
    """A healthy scan: subject, envelope, HU (z, y, x), and the voxels' places in atlas mm."""
    scan = Scan("chest-abdomen", 5, spacing_mm=(3, 3, 5), healthy=True)
    hu = np.concatenate([slab.image for slab in scan.slabs()])
    axes = [axis / size for axis, size in zip(scan.grid.axes_mm(), scan.subject.scale, strict=True)]
    x, y, z = (axis.astype(np.float32) for axis in axes)
    return scan, Torso(scan.subject), hu, (x[None, None, :], y[None, :, None], z[:, None, None])


def points(*rows):
    return (np.array(column, np.float32) for column in zip(*rows, strict=True))


def canvas_1mm(half):
    axis = np.arange(-half, half + 1, dtype=np.float32)
    return Canvas(-axis, -axis, axis, edge_mm=1.0)


class TestShapes:
    def test_sphere_depth_is_the_distance_to_its_surface(self):
        sphere = Ellipsoid((1, 2, 3), (10, 10, 10))
        # 4 mm from the centre: 6 inside; on the surface: 0; 13 away: 3 outside.
        np.testing.assert_allclose(sphere.depth(*points((5, 2, 3), (1, 12, 3), (1, 2, 16))), [6, 0, -3], atol=1e-4)

    def test_capsule_tapers(self):
        cone = Capsule((0, 0, 0), (10, 0, 0), 4, 2)
        # Half-way the radius is 3, at the end 2; beyond the round end 12 - 10 - 2 = 0.
        np.testing.assert_allclose(cone.depth(*points((5, 1, 0), (10, 0, 0), (12, 0, 0))), [2, 2, 0], atol=1e-5)

    def test_drum_narrows_to_its_waist(self):
        drum = Drum((0, 0, 0), (10, 10), 8, waist=0.8)
        # Middle: radius 8; at half height: 8 + 2 * 0.25 = 8.5; the flat end at z = 8.
        np.testing.assert_allclose(drum.depth(*points((8, 0, 0), (8.5, 0, 4), (0, 0, 8))), [0, 0, 0], atol=1e-5)

    def test_gas_lies_in_front(self):
        gas = Above(Ellipsoid((0, 0, 0), (10, 10, 10)), level_y_mm=5)
        assert gas.depth(*points((0, 7, 0), (0, 3, 0))).tolist() == pytest.approx([2, -2])

    @pytest.mark.parametrize(
        "shape",
        [
            Ellipsoid((3, -2, 5), (20, 6, 9), rotation_from_axis((1, 2, -1))),
            Capsule((-5, 0, 3), (9, 12, -7), 3, 6),
            Drum((1, 1, 1), (12, 7), 5, 0.7),
            Inset(Capsule((0, 0, 0), (8, 0, 0), 3, 3), -4),
            Above(Ellipsoid((0, 0, 0), (9, 9, 9)), -2),
            Union(Ellipsoid((0, 0, 0), (9, 5, 5)), Capsule((4, 4, 0), (14, 9, 3), 5, 3), 8),
            LesionShape((1, 2, 3), (9, 7, 6), UPRIGHT, ((0.1, 1.0, 2.0, -1.0, 0.3),), ((0.5, 0.6, 0.8, 0.0),)),
        ],
        ids=lambda shape: type(shape).__name__,
    )
    def test_nothing_is_inside_beyond_the_bounds(self, shape):
        samples = np.random.default_rng(0).uniform(-35, 35, (20000, 3)).astype(np.float32)
        outside = ((samples < shape.bounds.low_mm) | (samples > shape.bounds.high_mm)).any(axis=1)
        depth = shape.depth(*samples.T)
        assert outside.any()
        assert depth[outside].max() <= 0
        assert depth.max() > 0


class TestLesionShape:
    def test_plain_ellipsoid_has_the_volume_and_axis_of_the_formula(self):
        shape = LesionShape((0, 0, 0), (12, 9, 7), UPRIGHT)
        assert shape.volume_ml == pytest.approx(4 / 3 * math.pi * 12 * 9 * 7 / 1000, rel=1e-6)
        assert shape.long_axis_mm == pytest.approx(24, rel=0.01)
        assert shape.reach_mm == pytest.approx(12, rel=0.01)

    def test_label_has_the_volume_of_the_ellipsoid(self):
        shape = LesionShape((0.3, -0.2, 0.4), (12, 9, 7), rotation_from_axis((1, 1, 0.5)))
        share = paint_lesions(canvas_1mm(20), (PhantomLesion("x", "solid", shape.centre_mm, 24, 3, 40, 0, 40, shape),))
        # 4/3 pi 12 * 9 * 7 = 3166.7 voxels of 1 mm3.
        assert np.count_nonzero(share > 0.5) == pytest.approx(3166.7, rel=0.01)

    @given(st.integers(0, 10_000))
    @settings(max_examples=10, deadline=None)
    def test_volume_integral_agrees_with_counting(self, seed):
        rng = np.random.default_rng(seed)
        waves = tuple((0.1, *map(float, rng.normal(size=3) * 2), 1.0) for _ in range(3))
        spikes = ((0.5, 0.6, 0.0, 0.8), (0.4, -0.8, 0.6, 0.0))
        shape = LesionShape((0, 0, 0), (11, 8, 9), rotation_from_axis(rng.normal(size=3)), waves, spikes)
        inside = shape.depth(*canvas_1mm(22).coordinates()) > 0
        assert np.count_nonzero(inside) / 1000 == pytest.approx(shape.volume_ml, rel=0.03)


class TestCanvas:
    def test_only_voxels_near_a_shape_are_touched(self):
        canvas = canvas_1mm(10)
        canvas.paint([Part("ball", Ellipsoid((4, 0, 0), (3, 3, 3)), 50.0)])
        x, y, z = canvas.coordinates()
        distance = np.sqrt((x - 4) ** 2 + y**2 + z**2)
        assert np.all(canvas.hu[distance < 2.4] == 50)
        assert np.all(canvas.hu[distance > 3.6] == -1000)
        # On the surface half the voxel is inside: -1000 + 1050 / 2.
        assert canvas.hu[10, 10, 10 - 7] == pytest.approx(-475, abs=1)

    @pytest.mark.parametrize("radius", [0.5, 0.8, 1.4])
    def test_a_vessel_weighs_the_same_in_coarse_and_fine_voxels(self, radius):
        for step in (0.5, 4.0):
            axis = np.arange(-20, 20, step, dtype=np.float32)
            weights = []
            # Mean over where in its voxel the vessel lies.
            for off in np.linspace(0, step, 5, endpoint=False).tolist():
                canvas = Canvas(axis, axis, axis[:1] * 0, step, np.zeros((1, len(axis), len(axis)), np.float32))
                canvas.paint([Part("vessel", Capsule((off, off / 2, -30), (off, off / 2, 30), radius, radius), 1.0)])
                weights.append(canvas.hu.sum() * step**2)
            assert np.mean(weights) == pytest.approx(math.pi * radius**2, rel=0.2), step


class TestTrees:
    def test_every_point_is_the_end_of_one_twig(self):
        targets = np.random.default_rng(1).normal(size=(8, 3)) * 20
        twigs = grow((0.0, 0.0, 0.0), targets, tip_mm=1, stem_mm=5)
        assert len(twigs) == 2 * 8 - 1
        tips = sorted(twig.capsule.end_mm for twig in twigs if twig.order == 3)
        np.testing.assert_allclose(tips, sorted(map(tuple, targets)))

    def test_no_points_no_tree(self):
        assert grow((0.0, 0.0, 0.0), np.empty((0, 3)), 1, 5) == []


class TestNoise:
    def test_standard_deviation_and_independence_of_slices(self):
        noise = Noise(draw_subject(0, 0), 10.0, (128, 127), (1.0, 1.0), 2.5, (64.0, 64.0))
        first, second = noise.slice(0), noise.slice(1)
        # 10 * (0.45 + 0.6 exp(-r^2)) with r up to 0.6: from 7.9 at the corners to 10.5 in the middle.
        assert 8.5 < first.std() < 10.5
        assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.05
        # Neighbours are alike: the picture is blotchy, not like sand.
        assert np.corrcoef(first[:, :-1].ravel(), first[:, 1:].ravel())[0, 1] > 0.2
        np.testing.assert_array_equal(first, noise.slice(0))


class TestAnatomy:
    """HU where the shapes say that an organ is deep; 3 x 3 x 5 mm, healthy."""

    def test_lung_liver_kidney(self, healthy):
        scan, torso, hu, place = healthy
        right_kidney = abdomen.kidney_shapes(scan.subject)[0].depth(*place)
        spaces = {
            "lung": (thorax.lung_depth(torso, *place) > 10, -900, -800),
            "liver": (abdomen.liver_depth(torso, *place) > 14, 90, 125),
            "kidney": ((right_kidney > 2.5) & (right_kidney < 12), 130, 190),
        }
        for name, (mask, low, high) in spaces.items():
            assert mask.sum() > 500, name
            assert low < np.median(hu[mask]) < high, name

    def test_blood_in_the_aorta(self, healthy):
        scan, _, hu, place = healthy
        path, radii = thorax.aorta_path()
        z = np.array([point[2] for point in path])
        middle = int(np.argmin(np.abs(z - 60)))
        depth = Capsule(path[middle], path[middle + 1], radii[middle], radii[middle + 1]).depth(*place)
        assert np.median(hu[depth > 4]) == pytest.approx(scan.subject.tissue.blood, abs=8)

    def test_fat_muscle_bone_gas(self, healthy):
        _, torso, hu, place = healthy
        layers = torso.layers(*place)
        fat = hu[(layers.body > 5) & (layers.muscle < -3) & (np.abs(place[2] + 120) < 60)]
        assert np.median(fat) == pytest.approx(-102, abs=10)
        back = (layers.muscle > 8) & (layers.cavity < -8) & (layers.from_back_rad < 0.5) & (np.abs(place[2] + 150) < 30)
        assert 35 < np.median(hu[back]) < 75
        assert 300 < np.percentile(hu[(layers.cavity < 0) & (layers.cavity > -12) & (place[2] > 0)], 98) < 1000
        assert np.count_nonzero(hu[(layers.cavity > 5) & (place[2] < -90)] < -900) > 50  # stomach and bowel

    def test_air_and_couch_outside(self, healthy):
        _, torso, hu, place = healthy
        outside = torso.layers(*place).body < -25
        in_front = hu[outside & (place[1] > 0) & (place[2] < 150)]
        assert np.median(in_front) == pytest.approx(-1000, abs=5)
        below = hu[:, place[1][0, :, 0] < -120, :][20:40]
        column = below[:, :, below.shape[2] // 2].mean(axis=0)
        assert column.max() > -700  # the shell, at 3 mm blurred with the air and foam around it
        assert np.all(hu >= -1024)

    def test_lung_reaches_down_behind_the_liver(self, healthy):
        _, torso, _, _ = healthy
        # 45 mm below the dome: liver in the middle of the right side, lung behind it in the recess.
        line_y = np.arange(-86, 10, 0.5, dtype=np.float32)
        line = (np.full_like(line_y, 66), line_y, np.full_like(line_y, -45))
        lung, liver = thorax.lung_depth(torso, *line) > 0, abdomen.liver_depth(torso, *line) > 0
        assert lung.any()
        assert liver.any()
        assert line_y[lung].max() < line_y[liver].min()

    def test_region_boundary_is_where_lungs_give_way_to_the_liver(self, healthy):
        scan, torso, _, place = healthy
        lung = (thorax.lung_depth(torso, *place) > 0).sum(axis=(1, 2))
        liver = (abdomen.liver_depth(torso, *place) > 0).sum(axis=(1, 2))
        region = np.array(scan.region)
        assert np.all(lung[region == "chest"] >= 0.9 * liver[region == "chest"])
        first_chest = int(np.argmax(region == "chest"))
        assert liver[first_chest - 2] > lung[first_chest - 2]
        # One change only, from abdomen below to chest above.
        assert set(region[:first_chest]) == {"abdomen"}
        assert set(region[first_chest:]) == {"chest"}
        assert scan.grid.axes_mm()[2][first_chest] >= scan.boundary_z_mm


class TestPhantom:
    def test_same_arguments_same_voxels(self):
        first, second = make_phantom("chest", 3, **COARSE), make_phantom("chest", 3, **COARSE)
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.label, second.label)
        assert first.lesions == second.lesions
        other = next(Scan("chest", 4, **COARSE).slabs(threads=1)).image.transpose(2, 1, 0)
        assert not np.array_equal(first.image[:, :, : other.shape[2]], other)

    def test_threads_and_slabs_do_not_show(self, monkeypatch):
        whole = np.concatenate([slab.image for slab in Scan("abdomen", 1, **COARSE).slabs(threads=1)])
        monkeypatch.setattr("eval.phantom.assemble.SLAB_VOXELS", 48 * 40 * 2 * 3)
        thin = [slab.image for slab in Scan("abdomen", 1, **COARSE).slabs(threads=3)]
        assert len(thin) > 5
        np.testing.assert_array_equal(whole, np.concatenate(thin))

    @pytest.mark.parametrize("kind", ["chest", "abdomen", "chest-abdomen"])
    def test_geometry_and_lesions_agree(self, kind):
        phantom = phantom_4mm(kind)
        assert phantom.image.shape == phantom.label.shape
        assert phantom.image.dtype == np.int16
        assert phantom.label.dtype == np.uint8
        assert len(phantom.region) == phantom.image.shape[2]
        assert {"chest", "abdomen"} == set(phantom.region)
        np.testing.assert_array_equal(phantom.affine_ras[:3, :3], np.diag([-4, -4, 5]))
        assert len(phantom.lesions) >= 5
        for lesion in phantom.lesions:
            index = np.linalg.solve(phantom.affine_ras, [*lesion.centre_ras_mm, 1])[:3]
            assert phantom.label[tuple(np.rint(index).astype(int))] == 1, lesion
        # Fully inside: no lesion voxel on any face of the volume.
        inner = np.zeros_like(phantom.label)
        inner[1:-1, 1:-1, 1:-1] = phantom.label[1:-1, 1:-1, 1:-1]
        np.testing.assert_array_equal(inner, phantom.label)

    def test_lesions_do_not_depend_on_the_spacing(self):
        fine = make_phantom("abdomen", 2, spacing_mm=(2.5, 2.5, 4))
        coarse = phantom_4mm("abdomen")
        table = {lesion.kind + str(lesion.centre_ras_mm): lesion.volume_ml for lesion in fine.lesions}
        assert table == {lesion.kind + str(lesion.centre_ras_mm): lesion.volume_ml for lesion in coarse.lesions}
        fine_ml = fine.label.sum() * 2.5 * 2.5 * 4 / 1000
        coarse_ml = coarse.label.sum() * 4 * 4 * 5 / 1000
        assert fine_ml == pytest.approx(coarse_ml, rel=0.10)
        assert fine_ml == pytest.approx(sum(lesion.volume_ml for lesion in fine.lesions), rel=0.05)

    def test_lesions_show_their_contrast(self):
        phantom = phantom_4mm("chest")
        nodule = next(lesion for lesion in phantom.lesions if lesion.kind == "lung_nodule")
        index = np.rint(np.linalg.solve(phantom.affine_ras, [*nodule.centre_ras_mm, 1])[:3]).astype(int)
        core = phantom.image[tuple(slice(i - 1, i + 2) for i in index)]
        assert core.mean() == pytest.approx(nodule.hu, abs=25)
        assert nodule.contrast_hu > 800

    def test_healthy_has_an_empty_label(self, healthy):
        scan = healthy[0]
        assert scan.lesions == ()
        assert not next(scan.slabs(threads=1)).label.any()

    def test_field_of_view_follows_shape_and_spacing(self):
        scan = Scan("chest", 0, (100, 90, 40), (1.5, 2.0, 4.0), healthy=True)
        x, y, z = scan.grid.axes_mm()
        assert np.ptp(x) == pytest.approx(99 * 1.5, abs=1e-3)
        assert np.ptp(y) == pytest.approx(89 * 2.0, abs=1e-3)
        assert np.ptp(z) == pytest.approx(39 * 4.0, abs=1e-3)
        assert np.allclose([x.mean(), y.mean(), z.mean()], scan.grid.centre_ras_mm, atol=1e-3)
        assert x[0] > x[-1]  # index 0 is at the patient's right, as scanners write it

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"kind": "leg"}, "kind 'leg'"),
            ({"seed": -1}, "seed -1"),
            ({"shape": (0, 64, 64)}, r"shape \(0, 64, 64\)"),
            ({"spacing_mm": (1.0, float("nan"), 1.0)}, "nan"),
            ({"shape": (16, 16, 16), "spacing_mm": (0.5, 0.5, 0.5)}, "healthy"),
        ],
    )
    def test_wrong_values_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            make_phantom(**arguments)
