"""Files: damaged anywhere they are refused in one line; whole they keep their header to the byte."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eval.reliability.torture.store import rotation
from gfscreen.errors import InputError
from gfscreen.scan.volume import read_volume, write_mask
from gfscreen.scan.volume.geometry import Geometry
from gfscreen.scan.volume.hounsfield import to_hounsfield
from gfscreen.scan.volume.ras import ras_view
from tests.helpers.nifti_files import assert_same_geometry, nifti_bytes, nifti_header, read_mask, write_nifti
from tests.helpers.scans import affine_of, volume_of

SHAPE = (5, 4, 3)
RAMP = (np.arange(60).reshape(SHAPE) * 30 - 1000).astype(np.int16)
CONTENT = nifti_bytes(nifti_header(SHAPE, sform=np.diag([2.0, 3, 4, 1]), qform=np.diag([2.0, 3, 4, 1])), RAMP)


# tmp_path is one folder for all examples of a test: every example writes its own content to the same file.
def examples(count: int) -> settings:
    return settings(max_examples=count, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


angles = st.floats(-180, 180)
spacings = st.floats(0.3, 12.0)
columns = st.builds(
    lambda a, b, c, sx, sy, sz, hand: rotation(0, a) @ rotation(1, b) @ rotation(2, c) @ np.diag([sx, sy, sz * hand]),
    angles, angles, angles, spacings, spacings, spacings, st.sampled_from([1.0, -1.0]),
)  # fmt: skip


def read_or_refuse(path: Path) -> bool:
    """Read a file of which nobody knows what is in it: a volume, or an InputError of one line that names it."""
    message, volume = None, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            volume = read_volume(path)
    except InputError as error:
        message = str(error)
    if volume is None:
        assert message is not None
        assert message.startswith(f"{path.name}: ")
        assert "\n" not in message
        return False
    assert volume.hu.dtype == np.int16
    assert volume.hu.shape == volume.geometry.shape
    return True


class TestDamage:
    @examples(100)
    @given(kept=st.integers(0, len(CONTENT) - 1))
    def test_cut_anywhere_it_is_refused(self, tmp_path, kept):
        path = tmp_path / "a.nii"
        path.write_bytes(CONTENT[:kept])
        assert not read_or_refuse(path)

    @examples(100)
    @given(data=st.data())
    def test_packed_and_cut_anywhere_it_is_refused(self, tmp_path, data):
        packed = gzip.compress(CONTENT, mtime=0)
        path = tmp_path / "a.nii.gz"
        path.write_bytes(packed[: data.draw(st.integers(0, len(packed) - 1))])
        assert not read_or_refuse(path)

    @examples(300)
    @given(changes=st.lists(st.tuples(st.integers(0, 351), st.integers(0, 255)), min_size=1, max_size=6))
    def test_changed_bytes_in_the_header_are_read_or_refused(self, tmp_path, changes):
        content = bytearray(CONTENT)
        for place, value in changes:
            content[place] = value
        path = tmp_path / "a.nii"
        path.write_bytes(bytes(content))
        read_or_refuse(path)

    @examples(100)
    @given(content=st.binary(max_size=800))
    def test_any_bytes_at_all(self, tmp_path, content):
        for name in ("a.nii.gz", "a.nii"):
            path = tmp_path / name
            path.write_bytes(content)
            assert not read_or_refuse(path)

    @examples(60)
    @given(places=st.lists(st.integers(0, 10_000), min_size=1, max_size=4), value=st.integers(0, 255))
    def test_changed_bytes_in_a_packed_file(self, tmp_path, places, value):
        packed = bytearray(gzip.compress(CONTENT, mtime=0))
        for place in places:
            packed[place % len(packed)] = value
        path = tmp_path / "a.nii.gz"
        path.write_bytes(bytes(packed))
        read_or_refuse(path)


class TestGeometry:
    @examples(60)
    @given(
        sform=st.none() | columns,
        qform=st.none() | columns,
        origin=st.tuples(*[st.floats(-2000, 2000)] * 3),
        codes=st.tuples(st.integers(1, 5), st.integers(1, 5)),
        version=st.sampled_from([1, 2]),
        endian=st.sampled_from("<>"),
        units=st.integers(0, 40),
        text=st.binary(max_size=79),
    )
    def test_survives_to_the_byte(self, tmp_path, sform, qform, origin, codes, version, endian, units, text):
        forms = {
            "sform": None if sform is None else affine_of(sform, origin),
            "qform": None if qform is None else affine_of(qform, origin),
        }
        header = nifti_header(SHAPE, sform_code=codes[0], qform_code=codes[1], version=version, endian=endian, **forms)
        header["xyzt_units"], header["descrip"] = units, text
        scan = tmp_path / "s.nii"
        scan.write_bytes(nifti_bytes(header, RAMP))
        volume = read_volume(scan)
        mask = (RAMP > 0).astype(np.uint8)
        write_mask(tmp_path / "m.nii.gz", mask, volume.geometry)
        assert_same_geometry(scan, tmp_path / "m.nii.gz")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz"), mask)

    @examples(100)
    @given(columns=columns)
    def test_ras_axes_are_one_to_one_and_the_repair_is_orthonormal(self, columns):
        geometry = Geometry(SHAPE, affine_of(columns))
        axes, flips = geometry.ras_axes
        assert sorted(axes) == [0, 1, 2]
        direction = geometry.direction_ras
        np.testing.assert_allclose(direction.T @ direction, np.eye(3), atol=1e-9)
        # A proper frame is its own repair, and no other assignment follows the axes more closely by a clear margin.
        np.testing.assert_allclose(direction * geometry.spacing_mm, columns, atol=1e-9)
        largest = int(np.abs(direction).argmax())
        assert axes[largest // 3] == largest % 3
        assert flips[largest // 3] == (direction[largest // 3, largest % 3] < 0)

    @examples(100)
    @given(columns=columns, shear=st.floats(-0.3, 0.3), place=st.sampled_from([(0, 1), (1, 2), (0, 2), (2, 1)]))
    def test_no_orthogonal_frame_is_closer_than_the_repair(self, columns, shear, place):
        sheared = np.eye(3)
        sheared[place] = shear
        geometry = Geometry(SHAPE, affine_of(sheared @ columns))
        cosines = geometry.affine_ras_mm[:3, :3] / np.array(geometry.spacing_mm)
        best = np.linalg.norm(cosines - geometry.direction_ras)
        for axis in range(3):
            for degrees in (-2.0, 0.5, 3.0):
                turned = rotation(axis, degrees) @ geometry.direction_ras
                assert np.linalg.norm(cosines - turned) >= best - 1e-9

    @examples(100)
    @given(columns=columns, shape=st.tuples(*[st.integers(1, 6)] * 3))
    def test_the_ras_view_is_the_array_and_no_copy(self, columns, shape):
        array = np.zeros(shape, np.int16)
        view = ras_view(array, volume_of(array, affine_of(columns)))
        assert sorted(view.shape) == sorted(shape)
        view[...] = 1
        assert array.all()


class TestHounsfield:
    @examples(100)
    @given(
        values=st.lists(st.integers(-30000, 30000), min_size=8, max_size=8),
        dtype=st.sampled_from(["int16", "int32", "float32", "float64"]),
        slope=st.sampled_from([1.0, 0.5, -1.0, 2.0, 10.0]),
        intercept=st.sampled_from([0.0, -1024.0, 0.25]),
    )
    def test_equals_the_formula(self, values, dtype, slope, intercept):
        stored = np.array(values, dtype).reshape(2, 2, 2)
        expected = np.rint(np.clip(stored.astype(np.float64) * slope + intercept, -32768, 32767))
        np.testing.assert_array_equal(to_hounsfield(stored, slope, intercept, "a")[0], expected)

    @examples(40)
    @given(nans=st.lists(st.integers(0, 59), min_size=1, max_size=59, unique=True))
    def test_islands_of_nan_anywhere_leave_the_rest_alone(self, tmp_path, nans):
        stored = RAMP.astype(np.float32)
        stored.ravel()[nans] = np.nan
        hu = read_volume(write_nifti(tmp_path / "a.nii", stored)).hu
        gone = np.zeros(60, bool)
        gone[nans] = True
        np.testing.assert_array_equal(hu.ravel(order="C")[~gone], RAMP.ravel()[~gone])
        assert (hu.ravel(order="C")[gone] == -1024).all()

    def test_all_nan_is_refused(self, tmp_path):
        with pytest.raises(InputError):
            read_volume(write_nifti(tmp_path / "a.nii", np.full(SHAPE, np.nan, np.float32)))
