"""NIfTI in and out: every storage that occurs, a header that survives to the byte, and refusals before allocation."""

from __future__ import annotations

import gzip
import itertools
import re
import time
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray

from eval.reliability.torture.store import rotation
from gfscreen.errors import InputError, OutputError
from gfscreen.scan.volume import Geometry, read_volume, write_mask
from gfscreen.scan.volume.nifti import encode_mask, read_geometry
from tests.helpers.nifti_files import (
    assert_same_geometry,
    header_of,
    nifti_bytes,
    nifti_header,
    raw_content,
    read_mask,
    write_nifti,
)
from tests.helpers.refusals import error_of
from tests.helpers.scans import affine_of, volume_of

SHAPE = (4, 3, 5)
AFFINE = affine_of(np.diag([2.0, 3.0, 4.0]))
GIB = 2**30


def ramp(dtype: Any = np.int16, shape: tuple[int, ...] = SHAPE) -> NDArray[Any]:
    """-1000, -990, ... : every voxel different, so that a mistaken axis order shows."""
    return (np.arange(np.prod(shape)).reshape(shape) * 10 - 1000).astype(dtype)


class TestStoredValues:
    @pytest.mark.parametrize("endian", ["<", ">"])
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("dtype", ["int16", "int32", "int64", "float32", "float64"])
    def test_every_type_byte_order_and_version_gives_the_same_hu(self, tmp_path, dtype, version, endian):
        path = write_nifti(tmp_path / "a.nii.gz", ramp(dtype), version=version, endian=endian)
        volume = read_volume(path)
        assert volume.hu.dtype == np.int16
        assert volume.hu.dtype.isnative
        np.testing.assert_array_equal(volume.hu, ramp())

    @pytest.mark.parametrize(
        ("dtype", "slope", "intercept", "stored", "hu"),
        [
            ("uint16", 1.0, -1024.0, 24, -1000),  # 24 - 1024
            ("uint16", 1.0, -1024.0, 65535, 32767),  # 64511 is clipped to int16
            ("int16", 2.0, -100.0, 75, 50),  # 2 * 75 - 100
            ("float32", 0.5, 10.0, 81, 50),  # 40.5 + 10 = 50.5 rounds to even
            ("uint8", 4.0, -1000.0, 255, 20),  # 1020 - 1000
            ("int8", 8.0, 0.0, -125, -1000),
            ("int16", 0.0, 500.0, 40, 40),  # slope 0: no scaling at all, says NIfTI
            ("int16", float("nan"), 500.0, 40, 40),
        ],
    )
    def test_slope_and_intercept(self, tmp_path, dtype, slope, intercept, stored, hu):
        array = np.full(SHAPE, stored, dtype)
        array[0, 0, 0] = 1
        volume = read_volume(write_nifti(tmp_path / "a.nii", array, slope=slope, intercept=intercept))
        assert volume.hu[1, 1, 1] == hu

    def test_first_axis_runs_fastest(self, tmp_path):
        # The file's bytes written by hand: voxel (i, j, k) of a 2x2x2 scan is number i + 2 j + 4 k.
        header = nifti_header((2, 2, 2), sform=AFFINE)
        path = tmp_path / "a.nii"
        path.write_bytes(bytes(header.binaryblock) + bytes(4) + np.arange(8, dtype="<i2").tobytes())
        hu = read_volume(path).hu
        assert [hu[0, 0, 0], hu[1, 0, 0], hu[0, 1, 0], hu[0, 0, 1]] == [0, 1, 2, 4]

    def test_compression_is_told_by_content_and_not_by_name(self, tmp_path):
        content = nifti_bytes(nifti_header(SHAPE, sform=AFFINE), ramp())
        plain, packed = tmp_path / "plain.nii.gz", tmp_path / "packed.nii"
        plain.write_bytes(content)
        packed.write_bytes(gzip.compress(content))
        for path in (plain, packed):
            np.testing.assert_array_equal(read_volume(path).hu, ramp())

    def test_header_extensions_are_skipped(self, tmp_path):
        header = nifti_header(SHAPE, sform=AFFINE)
        extension = (32).to_bytes(4, "little") + (6).to_bytes(4, "little") + b"a comment of 24 bytes..."
        header["vox_offset"] = 348 + 4 + len(extension)
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(nifti_bytes(header, ramp(), extension)))
        np.testing.assert_array_equal(read_volume(path).hu, ramp())

    @pytest.mark.parametrize("shape", [(4, 3, 5, 1), (4, 3, 5, 1, 1)])
    def test_trailing_axes_of_one_are_no_time_axis(self, tmp_path, shape):
        path = write_nifti(tmp_path / "a.nii.gz", ramp(shape=shape))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu, ramp())
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), volume.geometry)
        assert_same_geometry(path, tmp_path / "m.nii.gz")

    def test_extra_bytes_behind_the_voxels_do_no_harm(self, tmp_path):
        path = tmp_path / "a.nii"
        path.write_bytes(nifti_bytes(nifti_header(SHAPE, sform=AFFINE), ramp()) + b"tail")
        np.testing.assert_array_equal(read_volume(path).hu, ramp())

    def test_voxels_equal_nibabels(self, tmp_path):
        stored = (ramp() + 1000).astype("uint16")
        stored[3, 2, 4] = 40000  # 78976 HU, clipped
        path = write_nifti(tmp_path / "a.nii.gz", stored, slope=2.0, intercept=-1024.0, endian=">")
        expected = np.clip(np.asarray(nib.load(path).dataobj), -32768, 32767)
        np.testing.assert_array_equal(read_volume(path).hu, expected)


OBLIQUE = affine_of(rotation(2, 20) @ rotation(0, 35) @ np.diag([2.0, 3.0, 4.0]))
SHEAR = np.diag([2.0, 3.0, 4.0])
SHEAR[1, 2] = 4.0 * np.tan(np.radians(15.0))
FORMS: dict[str, dict[str, Any]] = {
    "both": {"sform": AFFINE, "qform": AFFINE},
    "sform only": {"sform": OBLIQUE},
    "qform only": {"qform": OBLIQUE},
    "sform and qform disagree": {"sform": AFFINE, "qform": OBLIQUE},
    "neither": {"zooms": (2.0, 3.0, 4.0)},
    "codes of other spaces": {"sform": AFFINE, "qform": AFFINE, "sform_code": 4, "qform_code": 2},
    "left-handed": {
        "sform": affine_of(np.diag([2.0, 3.0, -4.0])),
        "qform": affine_of(np.diag([2.0, 3.0, -4.0])),
    },
    "gantry shear": {"sform": affine_of(SHEAR)},
    "cosines with few digits": {"sform": affine_of(np.round(OBLIQUE[:3, :3], 1))},
    "sform and pixdim disagree": {"sform": AFFINE, "zooms": (1.0, 1.0, 1.0)},
}


class TestGeometryToTheByte:
    @pytest.mark.parametrize("endian", ["<", ">"])
    @pytest.mark.parametrize("version", [1, 2])
    @pytest.mark.parametrize("forms", FORMS)
    def test_the_mask_carries_the_header_of_its_scan(self, tmp_path, forms, version, endian):
        scan = write_nifti(tmp_path / "s.nii.gz", ramp("float32"), version=version, endian=endian, **FORMS[forms])
        mask = np.zeros(SHAPE, np.uint8)
        mask[1, 2, 3] = 1
        write_mask(tmp_path / "m.nii.gz", mask, read_volume(scan).geometry)
        assert_same_geometry(scan, tmp_path / "m.nii.gz")
        np.testing.assert_array_equal(read_mask(tmp_path / "m.nii.gz"), mask)
        np.testing.assert_array_equal(nib.load(tmp_path / "m.nii.gz").affine, nib.load(scan).affine)

    @pytest.mark.parametrize("version", [1, 2])
    def test_units_slice_codes_and_free_text_survive(self, tmp_path, version):
        header = nifti_header(SHAPE, sform=AFFINE, qform=AFFINE, version=version, slope=3.0, intercept=-7.0)
        header["xyzt_units"] = 3 + 16  # micrometres and milliseconds: wrong for CT, but not ours to change
        header["descrip"], header["aux_file"], header["intent_name"] = b"scanner 7", b"notes", b"ct"
        header["slice_code"], header["slice_end"], header["slice_duration"] = 1, 4, 0.25
        header["cal_min"], header["cal_max"] = -100, 300
        scan = tmp_path / "s.nii"
        scan.write_bytes(nifti_bytes(header, ramp()))
        write_mask(tmp_path / "m.nii.gz", np.ones(SHAPE, np.uint8), read_volume(scan).geometry)
        assert_same_geometry(scan, tmp_path / "m.nii.gz")
        written = header_of(tmp_path / "m.nii.gz")
        # Those of the scan's values, which would show the mask all black in a viewer.
        assert (written["scl_slope"], written["scl_inter"], written["cal_min"], written["cal_max"]) == (1, 0, 0, 0)

    def test_header_alone_gives_the_same_geometry(self, tmp_path):
        scan = write_nifti(tmp_path / "s.nii.gz", ramp(), sform=OBLIQUE)
        alone, whole = read_geometry(scan), read_volume(scan).geometry
        assert (alone.shape, alone.nifti_header) == (whole.shape, whole.nifti_header)
        np.testing.assert_array_equal(alone.affine_ras_mm, whole.affine_ras_mm)


class TestAffine:
    def test_sform_wins_over_qform(self, tmp_path):
        path = write_nifti(tmp_path / "a.nii", ramp(), sform=AFFINE, qform=OBLIQUE)
        np.testing.assert_allclose(read_volume(path).geometry.affine_ras_mm, AFFINE, atol=1e-4)

    @pytest.mark.parametrize("columns", [np.diag([2.0, 3.0, 4.0]), np.diag([-2.0, 3.0, 4.0]), OBLIQUE[:3, :3]])
    def test_qform_alone_with_both_signs_of_qfac(self, tmp_path, columns):
        path = write_nifti(tmp_path / "a.nii", ramp(), qform=affine_of(columns))
        np.testing.assert_allclose(read_volume(path).geometry.affine_ras_mm, affine_of(columns), atol=1e-4)

    def test_neither_is_read_as_nibabel_does_and_warned_about(self, tmp_path):
        path = write_nifti(tmp_path / "a.nii", ramp(), zooms=(2.0, 3.0, 4.0))
        volume = read_volume(path)
        # Axes from right to left, back to front, feet to head, as Analyze had them: so do nibabel and with it MONAI.
        np.testing.assert_allclose(volume.geometry.affine_ras_mm[:3, :3], np.diag([-2.0, 3.0, 4.0]))
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, nib.load(path).affine)
        assert any("neither sform nor qform" in warning for warning in volume.warnings)

    def test_non_orthonormal_cosines_are_warned_about_and_proper_ones_are_not(self, tmp_path):
        sheared = read_volume(write_nifti(tmp_path / "s.nii", ramp(), sform=affine_of(SHEAR)))
        assert any("not orthonormal" in warning for warning in sheared.warnings)
        proper = read_volume(write_nifti(tmp_path / "p.nii", ramp(), sform=OBLIQUE))
        assert not any("orthonormal" in warning for warning in proper.warnings)

    def test_itk_refuses_what_is_repaired_here(self, tmp_path):
        path = write_nifti(tmp_path / "s.nii", ramp(), sform=affine_of(SHEAR))
        with pytest.raises(RuntimeError):
            sitk.ReadImage(str(path))
        assert read_volume(path).hu.shape == SHAPE


def packed(path: Path, content: bytes) -> Path:
    path.write_bytes(gzip.compress(content, 1))
    return path


def header_with(path: Path, **fields: Any) -> Path:
    """A plain file whose header has these fields set to these values, followed by the voxels of the ramp."""
    header = nifti_header(SHAPE, sform=AFFINE)
    for name, value in fields.items():
        header[name] = value
    path.write_bytes(nifti_bytes(header, ramp()))
    return path


class TestRefusals:
    @pytest.mark.parametrize("kept", [5, 200, 348, 360, -9, -1])
    def test_truncated_gzip(self, tmp_path, kept):
        noise = np.random.default_rng(0).integers(-1000, 1000, (8, 8, 8)).astype(np.int16)
        path = write_nifti(tmp_path / "cut.nii.gz", noise)
        path.write_bytes(path.read_bytes()[:kept])
        assert "truncated" in error_of(path)

    @pytest.mark.parametrize("kept", [2, 100, 348, 352 + 119])
    def test_truncated_plain_file(self, tmp_path, kept):
        # 4 x 3 x 5 voxels of 2 bytes are 120 bytes from 352 on.
        path = tmp_path / "cut.nii"
        path.write_bytes(nifti_bytes(nifti_header(SHAPE, sform=AFFINE), ramp())[:kept])
        assert "truncated" in error_of(path)

    @pytest.mark.parametrize("side", [4, 120])  # the checksum of the large one comes in a later piece than its voxels
    def test_gzip_with_a_wrong_checksum(self, tmp_path, side):
        noise = np.random.default_rng(0).integers(-1000, 1000, (side, side, side)).astype(np.int16)
        path = write_nifti(tmp_path / "crc.nii.gz", noise)
        data = bytearray(path.read_bytes())
        data[-8] ^= 0xFF  # the last eight bytes are CRC-32 and size
        path.write_bytes(bytes(data))
        assert "damaged" in error_of(path)

    @pytest.mark.parametrize(
        ("content", "said"),
        [
            (b"", "empty"),
            (b"Dear colleague, please find attached the scan.\n" * 20, "expected a NIfTI file"),
            (gzip.compress(b"<html>404 Not Found</html>" * 40, mtime=0), "expected a NIfTI file"),
            (bytes(1000), "expected a NIfTI file"),
            (b"\x1f\x8b" + bytes(400), "damaged"),
        ],
        ids=["empty", "text", "packed html", "zeros", "not really gzip"],
    )
    def test_not_an_image(self, tmp_path, content, said):
        path = tmp_path / "x.nii.gz"
        path.write_bytes(content)
        assert said in error_of(path)

    @pytest.mark.parametrize(
        ("shape", "said"),
        [
            ((40, 30), r"3D volume, got shape \(40, 30\); stack"),
            ((4, 3, 5, 2), r"got shape \(4, 3, 5, 2\); split the time"),
        ],
    )
    def test_2d_and_4d(self, tmp_path, shape, said):
        assert re.search(said, error_of(write_nifti(tmp_path / "d.nii.gz", ramp(shape=shape))))

    @pytest.mark.parametrize(
        ("code", "bits", "said"), [(128, 24, "RGB"), (2304, 32, "RGBA"), (32, 64, "32"), (0, 0, "0")]
    )
    def test_colours_complex_and_unknown_types(self, tmp_path, code, bits, said):
        assert said in error_of(header_with(tmp_path / "c.nii", datatype=code, bitpix=bits))

    def test_header_file_of_a_pair(self, tmp_path):
        assert "single-file NIfTI" in error_of(header_with(tmp_path / "pair.nii", magic=b"ni1"))

    @pytest.mark.parametrize(
        ("dim", "said"),
        [
            ([3, 0, 3, 5, 1, 1, 1, 1], "positive dimensions"),
            ([3, 4, -3, 5, 1, 1, 1, 1], "positive dimensions"),
            ([0, 4, 3, 5, 1, 1, 1, 1], "3 dimensions"),
            ([9, 4, 3, 5, 1, 1, 1, 1], "3 dimensions"),
        ],
    )
    def test_impossible_dimensions(self, tmp_path, dim, said):
        assert said in error_of(header_with(tmp_path / "d.nii", dim=dim))

    @pytest.mark.parametrize(
        ("fields", "said"),
        [
            ({"srow_x": [np.nan, 0, 0, 0]}, "finite geometry"),
            ({"srow_z": [0, 0, 0, 0]}, "independent axes"),
            ({"srow_z": [0, 3, 0, 0]}, "independent axes"),
            ({"srow_x": [2000, 0, 0, 0]}, "at most 100 mm"),
            ({"sform_code": 0, "pixdim": [1, 0, 3, 4, 0, 0, 0, 0]}, "positive spacing"),
            ({"sform_code": 0, "pixdim": [1, np.nan, 3, 4, 0, 0, 0, 0]}, "positive spacing"),
            ({"sform_code": 0, "qform_code": 1, "quatern_b": 0.9, "quatern_c": 0.9}, "readable orientation"),
        ],
    )
    def test_geometry_that_places_no_volume(self, tmp_path, fields, said):
        assert said in error_of(header_with(tmp_path / "g.nii", **fields))

    @pytest.mark.parametrize("offset", [np.nan, np.inf, -np.inf, 1e30])
    def test_voxel_offset_that_is_no_offset(self, tmp_path, offset):
        assert error_of(header_with(tmp_path / "o.nii", vox_offset=offset))

    @pytest.mark.parametrize("offset", [0, -4, 100])
    def test_voxel_offset_inside_the_header_means_right_behind_it(self, tmp_path, offset):
        path = tmp_path / "o.nii"
        header = nifti_header(SHAPE, sform=AFFINE)
        header["vox_offset"] = offset
        path.write_bytes(bytes(header.binaryblock) + ramp().astype("<i2").tobytes(order="F"))
        np.testing.assert_array_equal(read_volume(path).hu, ramp())

    def test_every_voxel_nan(self, tmp_path):
        path = write_nifti(tmp_path / "nan.nii.gz", np.full(SHAPE, np.nan, np.float32))
        assert "NaN" in error_of(path)

    def test_missing_file_and_folder_of_that_name(self, tmp_path):
        assert "no such file" in error_of(tmp_path / "gone.nii.gz")
        (tmp_path / "folder.nii.gz").mkdir()
        assert "found a folder" in error_of(tmp_path / "folder.nii.gz")
        (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nowhere")
        assert "no such file" in error_of(tmp_path / "link.nii.gz")


class TestRefusedBeforeAllocation:
    @pytest.fixture(autouse=True)
    def nothing_is_allocated(self, monkeypatch):
        def fail(*_: Any) -> None:
            pytest.fail("the voxels were allocated")

        monkeypatch.setattr("gfscreen.scan.volume.nifti._read_array", fail)

    @pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
    def test_the_largest_header_there_is(self, tmp_path, suffix):
        # 32767^3 int16 are 64 TiB; the file has 352 bytes, and even gzip cannot expand that to more than 355 KiB.
        content = bytes(nifti_header((32767, 32767, 32767), sform=AFFINE).binaryblock) + bytes(4)
        path = tmp_path / f"huge{suffix}"
        path.write_bytes(gzip.compress(content) if suffix == ".nii.gz" else content)
        start = time.monotonic()
        assert "(32767, 32767, 32767)" in error_of(path)
        assert time.monotonic() - start < 20.0

    def test_dimensions_whose_product_overflows_64_bits(self, tmp_path):
        # NIfTI-2 counts in 64 bits: 2^31 x 2^31 x 4 x 2 bytes = 2^65, which is 0 modulo 2^64.
        header = nifti_header(SHAPE, sform=AFFINE, version=2)
        header["dim"][1:4] = 2**31, 2**31, 4
        path = tmp_path / "wraps.nii"
        path.write_bytes(nifti_bytes(header, ramp()))
        assert "truncated" in error_of(path)

    def test_dimensions_beyond_the_file(self, tmp_path):
        message = error_of(header_with(tmp_path / "beyond.nii", dim=[3, 4, 3, 6, 1, 1, 1, 1]))
        assert "= 144 bytes at 352, the file of 472 bytes" in message  # 4 * 3 * 6 * 2; 352 + 120

    def test_a_file_that_holds_more_than_memory(self, tmp_path, monkeypatch):
        # A sparse file really holds 400 x 400 x 300 voxels: only memory can refuse it.
        path = tmp_path / "big.nii"
        path.write_bytes(bytes(nifti_header((400, 400, 300), sform=np.diag([1.0, 1.0, 1.0, 1.0])).binaryblock))
        with path.open("r+b") as stream:
            stream.truncate(352 + 400 * 400 * 300 * 2)
        monkeypatch.setattr("gfscreen.scan.volume.memory.available_bytes", lambda: GIB // 4)
        # 48e6 voxels: 7 bytes each, and 16 bytes for each of 16e6 model voxels of 3 mm3: 592e6 bytes.
        message = error_of(path)
        assert "400x400x300 voxels need about 0.6 GiB, 0.2 GiB are available" in message
        assert "give more memory or split the scan" in message

    def test_a_file_beyond_the_memory_of_this_machine(self, tmp_path):
        shape = (32767, 32767, 600)
        path = tmp_path / "terabyte.nii"
        path.write_bytes(bytes(nifti_header(shape, sform=np.diag([0.1, 0.1, 0.1, 1.0])).binaryblock))
        try:
            with path.open("r+b") as stream:
                stream.truncate(352 + int(np.prod(shape, dtype=np.int64)) * 2)
        except OSError:
            pytest.skip("this file system has no sparse files of 1.3 TB")
        assert "voxels need about" in error_of(path)


class TestMask:
    GEOMETRY = Geometry(SHAPE, AFFINE)

    def test_the_same_mask_gives_the_same_bytes(self):
        mask = np.zeros(SHAPE, np.uint8)
        first = encode_mask(mask, self.GEOMETRY)
        time.sleep(0.01)
        assert (
            encode_mask(mask.copy(order="C"), self.GEOMETRY)
            == first
            == encode_mask(np.asfortranarray(mask), self.GEOMETRY)
        )

    @pytest.mark.parametrize("mask", [np.zeros((4, 3, 6), np.uint8), np.zeros(SHAPE, np.int16), np.zeros(SHAPE, bool)])
    def test_a_mask_that_does_not_fit_is_not_written(self, mask, tmp_path):
        with pytest.raises(OutputError, match="mask must be uint8"):
            write_mask(tmp_path / "m.nii.gz", mask, self.GEOMETRY)
        assert list(tmp_path.iterdir()) == []

    def test_without_a_nifti_scan_the_header_is_made_from_the_affine(self, tmp_path):
        volume = volume_of(ramp(), OBLIQUE)
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), volume.geometry)
        header = header_of(tmp_path / "m.nii.gz")
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(header.get_sform(), OBLIQUE, atol=1e-4)
        np.testing.assert_allclose(header.get_qform(), OBLIQUE, atol=1e-4)
        assert header.get_xyzt_units()[0] == "mm"
        assert len(raw_content(tmp_path / "m.nii.gz")) == 352 + 60

    def test_a_folder_that_is_none(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(OutputError, match="cannot be written"):
            write_mask(tmp_path / "file" / "m.nii.gz", np.zeros(SHAPE, np.uint8), self.GEOMETRY)

    def test_a_disk_that_fills_up_leaves_nothing_behind(self, tmp_path, monkeypatch):
        target = tmp_path / "m.nii.gz"
        target.write_bytes(b"before")

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("gfscreen.files.os.fsync", full)
        with pytest.raises(OutputError, match="No space left"):
            write_mask(target, np.zeros(SHAPE, np.uint8), self.GEOMETRY)
        assert [path.name for path in tmp_path.iterdir()] == ["m.nii.gz"]
        assert target.read_bytes() == b"before"

    def test_others_may_read_it(self, tmp_path):
        write_mask(tmp_path / "m.nii.gz", np.zeros(SHAPE, np.uint8), self.GEOMETRY)
        assert (tmp_path / "m.nii.gz").stat().st_mode & 0o777 == 0o644


class TestOddHeaders:
    """What the fuzzer and the torture set found."""

    AFFINE = np.array([[-4.0, 0, 0, 22], [0, 4, 0, -20], [0, 0, 5, -18], [0, 0, 0, 1]])

    def read(self, tmp_path: Path, **options: Any) -> Any:
        forms = {"sform": None, "qform": self.AFFINE, **options.pop("forms", {})}
        head = nifti_header((6, 5, 4), np.int16, **forms)
        for name, value in options.items():
            if isinstance(value, dict):
                for index, item in value.items():
                    head[name][index] = item
            else:
                head[name] = value
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(nifti_bytes(head, np.arange(120).reshape(6, 5, 4).astype(np.int16) * 10 - 900)))
        return read_volume(path)

    @pytest.mark.parametrize("qfac", [0.0, 5.0, -0.5, float("nan"), float("inf")])
    def test_a_qfac_that_is_none_counts_as_1(self, tmp_path, qfac):
        """As the definition of NIfTI says of 0; nibabel refuses the header with an error of its own."""
        volume = self.read(tmp_path, pixdim={0: qfac})
        right = self.AFFINE.copy()
        # The same axes with qfac 1: nibabel wrote -1 for this left-handed frame.
        right[2, 2] = -5
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, right, atol=1e-5)
        assert any("qfac" in warning for warning in volume.warnings) == (qfac != 0.0)

    def test_forms_that_disagree_are_said(self, tmp_path):
        moved = self.AFFINE.copy()
        moved[:3, 3] += (30.0, 0.0, -40.0)
        volume = self.read(tmp_path, forms={"sform": moved})
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, moved, atol=1e-5)
        assert any("50 mm apart" in warning for warning in volume.warnings)

    def test_forms_that_agree_are_not(self, tmp_path):
        assert self.read(tmp_path, forms={"sform": self.AFFINE}).warnings == ()

    def test_a_qform_that_cannot_be_read_does_not_matter_beside_an_sform(self, tmp_path):
        volume = self.read(tmp_path, forms={"sform": self.AFFINE}, quatern_b=3.0, quatern_c=4.0)
        assert any("the sform is used" in warning for warning in volume.warnings)

    def test_negative_codes_are_no_forms(self, tmp_path):
        volume = self.read(tmp_path, qform_code=-1)
        assert any("neither sform nor qform" in warning for warning in volume.warnings)

    @pytest.mark.parametrize("offset", [1e9, 3e38, float("inf"), float("nan")])
    def test_an_offset_that_would_have_the_reader_unpack_for_minutes(self, tmp_path, offset):
        with pytest.raises(InputError, match=r"^a.nii.gz: .*repair vox_offset"):
            self.read(tmp_path, vox_offset=offset)

    def test_metres_for_millimetres(self, tmp_path):
        with pytest.raises(InputError, match=r"at least 0.01 and at most 100 mm.*check the units"):
            self.read(tmp_path, forms={"qform": np.diag([0.001, 0.001, 0.005, 1.0])})


class TestSpacingSaidTwice:
    """pixdim against the sform: one warning with both values; the sform is used."""

    SPACING = (0.9765625, 0.9765625, 3.0)
    SFORM = affine_of(np.diag(SPACING))

    @staticmethod
    def read(tmp_path: Path, *, pixdim: tuple[float, ...] | None = None, **forms: Any) -> Any:
        header = nifti_header(SHAPE, **forms)
        if pixdim is not None:
            header["pixdim"][1:4] = pixdim
        path = tmp_path / "a.nii"
        path.write_bytes(nifti_bytes(header, ramp()))
        return read_volume(path)

    def about(self, volume: Any) -> list[str]:
        return [warning for warning in volume.warnings if "pixdim" in warning]

    @pytest.mark.parametrize(
        ("pixdim", "said"),
        [
            ((1, 1, 1), "1 x 1 x 1"),
            ((0.98, 0.9765625, 3), "0.98 x 0.976562 x 3"),  # 0.35 %
            ((0.9765625, 0.9765625, 3.006), "0.976562 x 0.976562 x 3.006"),  # 0.2 %
            ((3, 0.9765625, 0.9765625), "3 x 0.976562 x 0.976562"),  # by another order of axes
            ((0, 0, 0), "0 x 0 x 0"),
            ((-0.9765625, 0.9765625, 3), "-0.976562 x 0.976562 x 3"),
            ((np.nan, 0.9765625, 3), "nan x 0.976562 x 3"),
            ((np.inf, 1e38, 3), "inf x 1e+38 x 3"),
            ((976.5625, 976.5625, 3000), "976.562 x 976.562 x 3000"),  # micrometres
            ((0.0009765625, 0.0009765625, 0.003), "0.000976562 x 0.000976562 x 0.003"),  # metres
        ],
    )
    @pytest.mark.parametrize("qform", [False, True])
    def test_is_told_once_with_both_values(self, tmp_path, pixdim, said, qform):
        forms = {"sform": self.SFORM, "qform": self.SFORM} if qform else {"sform": self.SFORM}
        volume = self.read(tmp_path, pixdim=pixdim, **forms)
        (warning,) = volume.warnings
        assert f"pixdim says a spacing of {said} mm, the sform 0.976562 x 0.976562 x 3 mm" in warning
        assert "the sform is used" in warning
        assert volume.geometry.spacing_mm == self.SPACING

    @pytest.mark.parametrize(
        "pixdim",
        [(0.9765625, 0.9765625, 3), (0.977, 0.977, 3.0), (0.9766, 0.9766, 3), (0.9765624, 0.97656256, 3.0000002)],
    )
    def test_rounding_is_no_contradiction(self, tmp_path, pixdim):
        # 0.977 for 0.9765625 is 0.045 %, within the 0.1 % that are allowed.
        assert self.read(tmp_path, pixdim=pixdim, sform=self.SFORM).warnings == ()

    @pytest.mark.parametrize(
        "columns", [np.eye(3)[[2, 0, 1]], rotation(2, 20) @ rotation(0, 35), np.diag([-1.0, 1, -1])]
    )
    def test_is_compared_along_the_axes_of_the_file(self, tmp_path, columns):
        frame = affine_of(columns @ np.diag([0.7, 0.8, 5.0]))
        assert self.read(tmp_path, pixdim=(0.7, 0.8, 5.0), sform=frame).warnings == ()
        assert self.read(tmp_path, pixdim=(0.7, 0.8, 5.0), sform=frame, qform=frame).warnings == ()
        assert len(self.about(self.read(tmp_path, pixdim=(0.8, 0.7, 5.0), sform=frame))) == 1

    def test_the_qform_alone_has_no_other_spacing_than_pixdim(self, tmp_path):
        volume = self.read(tmp_path, pixdim=(1, 1, 1), qform=self.SFORM)
        assert volume.warnings == ()
        assert volume.geometry.spacing_mm == (1, 1, 1)

    def test_without_forms_pixdim_is_used(self, tmp_path):
        volume = self.read(tmp_path, pixdim=(0.8, 0.8, 2.5))
        assert self.about(volume) == []
        np.testing.assert_allclose(volume.geometry.spacing_mm, (0.8, 0.8, 2.5), rtol=1e-6)

    def test_a_qform_elsewhere_as_well_is_in_the_same_warning(self, tmp_path):
        moved = self.SFORM.copy()
        moved[:3, 3] += (30.0, 0.0, -40.0)
        volume = self.read(tmp_path, pixdim=(1, 1, 1), sform=self.SFORM, qform=moved)
        (warning,) = volume.warnings
        # By its axes and origin alone: 50 mm, whatever the spacing.
        assert "pixdim says" in warning
        assert "50 mm apart" in warning

    @pytest.mark.parametrize(("unit", "factor"), [(1, 0.001), (3, 1000.0)])
    def test_metres_and_micrometres_are_refused_alike(self, tmp_path, unit, factor):
        header = nifti_header(SHAPE, sform=affine_of(np.diag(np.multiply(self.SPACING, factor))))
        header["xyzt_units"] = unit
        path = tmp_path / "a.nii"
        path.write_bytes(nifti_bytes(header, ramp()))
        assert re.search(r"at least 0.01 and at most 100 mm, got .* check the units", error_of(path))


class TestBehindTheGzipStream:
    """What a copy, a tape or a second member left there is counted and not read."""

    CONTENT = nifti_bytes(nifti_header(SHAPE, sform=AFFINE), ramp())

    @pytest.mark.parametrize(
        "tail",
        [
            bytes(1),
            bytes(512),
            b"garbage!" * 64,
            b"\x1f\x8b",
            b"\x1f\x8b\x08 looks like another one",
            gzip.compress(b"notes" * 1000, mtime=0),
            gzip.compress(CONTENT, mtime=0),
            gzip.compress(b"", mtime=0),
            bytes(40) + gzip.compress(b"x", mtime=0)[:-3],
            bytes(3_000_000),
        ],
    )
    def test_is_ignored_with_one_warning_that_says_how_much(self, tmp_path, tail):
        path = packed(tmp_path / "a.nii.gz", self.CONTENT)
        path.write_bytes(path.read_bytes() + tail)
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu, ramp())
        assert volume.warnings == (f"{len(tail)} bytes behind the gzip stream of the scan were ignored",)

    @pytest.mark.parametrize("cuts", [(352,), (100,), (348, 360), (4, 300, 352, 400, 401), tuple(range(1, 472, 7))])
    @pytest.mark.parametrize("between", [b"", bytes(7), bytes(5000)])
    def test_members_in_a_row_are_one_stream(self, tmp_path, cuts, between):
        places = [0, *cuts, len(self.CONTENT)]
        pieces = [self.CONTENT[a:b] for a, b in itertools.pairwise(places)]
        path = tmp_path / "a.nii.gz"
        path.write_bytes(between.join(gzip.compress(piece, mtime=0) for piece in pieces))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu, ramp())
        assert volume.warnings == ()

    def test_the_end_mark_of_bgzip_is_no_news(self, tmp_path):
        mark = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")
        assert gzip.decompress(mark) == b""
        path = packed(tmp_path / "a.nii.gz", self.CONTENT)
        path.write_bytes(path.read_bytes() + mark)
        assert read_volume(path).warnings == ()

    @pytest.mark.parametrize("tail", [b"", bytes(512), b"garbage"])
    def test_a_stream_that_ends_too_early_is_an_error_whatever_follows(self, tmp_path, tail):
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(self.CONTENT[:-5]) + tail)
        assert "truncated" in error_of(path)

    def test_a_second_member_that_is_needed_and_damaged_is_an_error(self, tmp_path):
        second = bytearray(gzip.compress(self.CONTENT[360:]))
        second[-7] ^= 0xFF
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(self.CONTENT[:360]) + second)
        assert "damaged" in error_of(path)

    def test_the_checksum_is_verified_also_with_a_tail(self, tmp_path):
        data = bytearray(gzip.compress(self.CONTENT))
        data[-7] ^= 0xFF
        path = tmp_path / "a.nii.gz"
        path.write_bytes(bytes(data) + b"garbage")
        assert "damaged" in error_of(path)

    def test_members_without_content_do_not_keep_the_reader_busy(self, tmp_path):
        path = tmp_path / "a.nii.gz"
        path.write_bytes(gzip.compress(self.CONTENT[:360]) + gzip.compress(b"") * 2_000_000)
        start = time.monotonic()
        assert "without content" in error_of(path)
        assert time.monotonic() - start < 5.0


class TestMaskBytes:
    def test_are_gzip_for_everyone_and_always_the_same(self, tmp_path):
        from gfscreen.scan.volume.nifti import encode_mask

        scan = write_nifti(tmp_path / "a.nii.gz", np.zeros((7, 6, 5), np.int16))
        geometry = read_volume(scan).geometry
        mask = (np.arange(210).reshape(7, 6, 5) % 3 == 0).astype(np.uint8)
        plain, noted = encode_mask(mask, geometry), encode_mask(mask, geometry, b"a note")
        assert plain == encode_mask(np.asfortranarray(mask), geometry)
        assert gzip.decompress(plain) == gzip.decompress(noted)
        assert plain != noted
        assert gzip.decompress(plain)[352:] == mask.tobytes(order="F")
