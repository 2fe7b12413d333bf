"""Axes, cosines and their repair; and the whole way of a lesion that must come out where it went in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray

from eval.reliability.torture.store import rotation
from gfscreen.errors import InputError
from gfscreen.scan.volume.geometry import Geometry, check_affine
from gfscreen.scan.volume.ras import ras_spacing, ras_view
from tests.helpers.nifti_files import assert_same_geometry, nifti_header, raw_content, read_mask, write_nifti
from tests.helpers.runs import Runner
from tests.helpers.scans import BALL_OFFSET_MM, ORIENTATIONS, affine_of, axes_affine, dice, paint, volume_of, world_mm

# Along R, A, S, whatever the order of the file's axes.
PATIENT_MM = (4.0, 4.0, 5.0)
PATIENT_VOXELS = (36, 34, 30)


def geometry(columns: NDArray[np.float64]) -> Geometry:
    return Geometry((4, 5, 6), affine_of(columns))


class TestAxes:
    @pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
    def test_view_in_ras_order(self, order, signs):
        affine = axes_affine(order, signs, tuple(PATIENT_MM[o] for o in order), (0, 0, 0))
        # Each voxel holds the number of its RAS position, so that a right view is just 0, 1, 2, ...
        shape = tuple((2, 3, 4)[o] for o in order)
        ranks = np.zeros(shape, np.int16)
        for index in np.ndindex(*shape):
            ras = np.zeros(3, int)
            for axis, (o, sign) in enumerate(zip(order, signs, strict=True)):
                ras[o] = index[axis] if sign > 0 else shape[axis] - 1 - index[axis]
            ranks[index] = np.ravel_multi_index(tuple(ras), (2, 3, 4))
        volume = volume_of(ranks, affine)
        np.testing.assert_array_equal(ras_view(volume.hu, volume), np.arange(24).reshape(2, 3, 4))
        assert ras_spacing(volume) == PATIENT_MM

    @pytest.mark.parametrize("degrees", [-44, -20, 20, 44])
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_a_tilt_below_45_degrees_changes_no_axis(self, axis, degrees):
        assert geometry(rotation(axis, degrees)).ras_axes == ((0, 1, 2), (False, False, False))

    def test_a_tilt_above_45_degrees_swaps_two(self):
        # Rotating by 80 degrees about S turns file axis 0 (R) almost to A and file axis 1 (A) almost to L.
        assert geometry(rotation(2, 80)).ras_axes == ((1, 0, 2), (True, False, False))

    @pytest.mark.parametrize("degrees", [45, 135, 225, 315])
    def test_a_tie_is_settled_and_stays_one_to_one(self, degrees):
        axes, _ = geometry(rotation(2, degrees)).ras_axes
        assert sorted(axes) == [0, 1, 2]

    def test_two_file_axes_closest_to_the_same_direction_are_told_apart(self):
        # Sheared so that file axes 0 and 1 both lean towards R: each direction still gets its own axis.
        columns = np.array([[1.0, 0.8, 0.0], [0.0, 0.6, 0.0], [0.0, 0.0, 1.0]])
        assert geometry(columns).ras_axes[0] == (0, 1, 2)


class TestRepair:
    def test_spacing_is_the_length_of_the_columns(self):
        assert geometry(rotation(0, 30) @ np.diag([0.7, 0.8, 5.0])).spacing_mm == pytest.approx((0.7, 0.8, 5.0))

    @pytest.mark.parametrize("hand", [1.0, -1.0])
    def test_proper_cosines_are_left_alone(self, hand):
        cosines = rotation(1, 33) @ np.diag([1.0, 1.0, hand])
        repaired = geometry(cosines @ np.diag([2.0, 3.0, 4.0])).direction_ras
        np.testing.assert_allclose(repaired, cosines, atol=1e-12)

    def test_a_shear_becomes_the_nearest_rotation(self):
        shear = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
        repaired = geometry(shear).direction_ras
        np.testing.assert_allclose(repaired.T @ repaired, np.eye(3), atol=1e-12)
        # Two unit columns 90 - 16.70 degrees apart (atan 0.3 = 16.70): each gives way by half of it.
        expected = rotation(0, -np.degrees(np.arctan(0.3)) / 2)
        np.testing.assert_allclose(repaired, expected, atol=1e-12)

    def test_deviation_is_zero_for_a_rotation_and_the_cosine_for_a_shear(self):
        assert geometry(rotation(2, 12)).cosines_deviation < 1e-12
        # Columns (0, 1, 0) and (0, 0.3, 1)/sqrt(1.09): their product is 0.3/1.04403.
        shear = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.3], [0.0, 0.0, 1.0]])
        assert geometry(shear).cosines_deviation == pytest.approx(0.3 / np.sqrt(1.09))

    def test_float32_cosines_are_not_warned_about(self):
        cosines = (rotation(0, 17) @ rotation(2, 40)).astype(np.float32).astype(np.float64)
        assert check_affine(affine_of(np.round(cosines, 4)), Path("a")) == []

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            (np.diag([1.0, 1.0, 0.0]), "three independent axes"),
            (np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 1.0]]), "three independent axes"),
            (np.diag([1.0, 1.0, 1000.0]), "at most 100 mm"),
            (np.diag([1.0, np.inf, 1.0]), "finite geometry"),
        ],
    )
    def test_no_volume(self, columns, said):
        with pytest.raises(InputError, match=rf"^a.nii: .*{said}"):
            check_affine(affine_of(columns), Path("a.nii"))


def assert_found(run: Runner, path: Path, truth: NDArray[np.bool_], *, at_least: float = 0.8) -> NDArray[np.uint8]:
    """Screen one scan with the engine that finds bright voxels; the mask lies on the ball, in the scan's own frame."""
    result = run(path)
    assert result.code == 0, result.only["error"]
    target = run.output / result.written[0]
    mask = read_mask(target)
    assert dice(mask, truth) > at_least
    assert_same_geometry(path, target)
    return mask


class TestALesionStaysWhereItIs:
    @pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
    def test_in_all_48_orientations(self, run, order, signs):
        shape = (PATIENT_VOXELS[order[0]], PATIENT_VOXELS[order[1]], PATIENT_VOXELS[order[2]])
        affine = axes_affine(order, signs, tuple(PATIENT_MM[o] for o in order), (-70.0, 31.0, 1200.0))
        hu, ball = paint(shape, affine)
        path = write_nifti(run.inputs / "a_0000.nii.gz", hu, affine)
        mask = assert_found(run, path, ball)
        # The centre of the mask in the patient, against where the ball was painted: a millimetre or two of voxels.
        centre = affine[:3, :3] @ ((np.array(shape) - 1) / 2) + affine[:3, 3] + BALL_OFFSET_MM
        np.testing.assert_allclose(world_mm(shape, affine)[mask == 1].mean(axis=0), centre, atol=2.0)

    SHEAR = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, np.tan(np.radians(12.0))], [0.0, 0.0, 1.0]])
    FRAMES: dict[str, dict[str, Any]] = {  # noqa: RUF012 - pytest reads it, nobody writes it
        "oblique": {"affine": affine_of(rotation(2, 25) @ rotation(0, -30) @ np.diag(PATIENT_MM))},
        "oblique and left-handed": {"affine": affine_of(rotation(1, 20) @ np.diag([-4.0, 4.0, 5.0]))},
        "sform only": {"sform": affine_of(np.diag([-4.0, -4.0, 5.0]))},
        "qform only": {"qform": affine_of(rotation(0, 15) @ np.diag([4.0, -4.0, 5.0]))},
        "sform and qform disagree": {
            "sform": affine_of(np.diag([4.0, -4.0, 5.0])),
            "qform": affine_of(np.diag([-4.0, 4.0, 5.0])),
        },
        "gantry shear": {"sform": affine_of(SHEAR @ np.diag(PATIENT_MM))},
        "cosines with few digits": {"sform": affine_of(np.round(rotation(2, 27) @ rotation(1, 13), 2) * PATIENT_MM)},
        "big-endian": {"affine": affine_of(np.diag([-4.0, 4.0, 5.0])), "endian": ">"},
        "NIfTI-2": {"affine": affine_of(np.diag([4.0, -4.0, 5.0])), "version": 2},
        "NIfTI-2, big-endian": {"affine": affine_of(np.diag([4.0, 4.0, -5.0])), "version": 2, "endian": ">"},
    }

    @pytest.mark.parametrize("frame", FRAMES)
    def test_in_odd_frames(self, run, frame):
        header = dict(self.FRAMES[frame])
        affine = next(header[key] for key in ("affine", "sform", "qform") if key in header)
        hu, ball = paint(PATIENT_VOXELS, affine)
        assert_found(run, write_nifti(run.inputs / "a_0000.nii.gz", hu, **header), ball)

    def test_without_any_frame(self, run):
        # nibabel's reading: the first axis runs from right to left.
        hu, ball = paint(PATIENT_VOXELS, affine_of(np.diag([-4.0, 4.0, 5.0])))
        assert_found(run, write_nifti(run.inputs / "a.nii.gz", hu, zooms=PATIENT_MM), ball)

    @pytest.mark.parametrize(
        ("dtype", "slope", "intercept"),
        [
            ("uint16", 1.0, -1024.0),
            ("uint16", 0.5, -1000.0),
            ("int32", 1.0, 0.0),
            ("float64", 2.0, 0.0),
            ("float32", 1.0, 0.0),
        ],
    )
    def test_in_other_storage(self, run, dtype, slope, intercept):
        affine = affine_of(np.diag([-4.0, 4.0, 5.0]))
        hu, ball = paint(PATIENT_VOXELS, affine)
        stored = ((hu - intercept) / slope).astype(dtype)
        assert_found(run, write_nifti(run.inputs / "a.nii", stored, affine, slope=slope, intercept=intercept), ball)

    @pytest.mark.parametrize("spacing", [(1.5, 2.0, 10.0), (4.0, 4.0, 1.5), (8.0, 6.0, 3.0), (3.3, 3.7, 4.9)])
    def test_at_other_spacings(self, run, spacing):
        shape = tuple(int(140 / s) for s in spacing)
        affine = affine_of(np.diag(spacing))
        hu, ball = paint((shape[0], shape[1], shape[2]), affine)
        assert_found(run, write_nifti(run.inputs / "a.nii", hu, affine), ball)

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_from_other_files(self, run, suffix):
        hu, ball = paint(PATIENT_VOXELS, affine_of(rotation(2, 20) @ np.diag(PATIENT_MM)))
        image = sitk.GetImageFromArray(hu.transpose(2, 1, 0))
        image.SetSpacing(PATIENT_MM)
        # The same rotation seen from LPS: both in-plane axes change sign.
        image.SetDirection((np.diag([-1.0, -1.0, 1.0]) @ rotation(2, 20)).ravel().tolist())
        sitk.WriteImage(image, str(run.inputs / f"a{suffix}"))
        result = run()
        assert result.written == ["a.nii.gz"]
        written = sitk.ReadImage(str(run.output / "a.nii.gz"))
        assert dice(sitk.GetArrayFromImage(written).transpose(2, 1, 0), ball) > 0.8
        np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-5)
        np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), atol=1e-4)

    def test_simpleitk_and_nibabel_place_the_mask_like_the_scan(self, run):
        affine = affine_of(rotation(2, 25) @ np.diag([-4.0, 4.0, 5.0]))
        hu, _ = paint(PATIENT_VOXELS, affine)
        path = write_nifti(run.inputs / "a_0000.nii.gz", hu, affine)
        run()
        scan, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(run.output / "a.nii.gz"))
        for what in ("GetSize", "GetSpacing", "GetOrigin", "GetDirection"):
            assert getattr(mask, what)() == getattr(scan, what)()


def test_the_check_of_geometry_would_notice_one_changed_byte(tmp_path):
    """A test of the tests: header bytes are compared, not what a library makes of them."""
    scan = write_nifti(tmp_path / "a.nii", np.zeros((2, 2, 2), np.uint8))
    for field, value in {"qform_code": 2, "quatern_b": 1e-7, "xyzt_units": 0}.items():
        header = nifti_header((2, 2, 2), np.uint8, sform=np.diag([4.0, 4, 5, 1]), qform=np.diag([4.0, 4, 5, 1]))
        header[field] = value
        (tmp_path / "b.nii").write_bytes(bytes(header.binaryblock) + raw_content(scan)[348:])
        with pytest.raises(AssertionError):
            assert_same_geometry(scan, tmp_path / "b.nii")
