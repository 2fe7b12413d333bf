"""MetaImage and NRRD: the frame is what SimpleITK says of the same files."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the field's usual name
from numpy.typing import NDArray

from eval.reliability.torture.store import rotation
from gfscreen.scan.volume import read_volume, write_mask
from tests.helpers.nifti_files import read_mask
from tests.helpers.refusals import error_of

SHAPE = (4, 3, 5)
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
DIRECTIONS = {
    "axial": np.eye(3),
    "flipped": np.diag([-1.0, 1.0, -1.0]),
    "permuted": np.eye(3)[[2, 0, 1]],
    "oblique": rotation(2, 25) @ rotation(0, -40),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
}


def ramp(shape: tuple[int, ...] = SHAPE) -> NDArray[np.int16]:
    """(i, j, k), every voxel different."""
    return (np.arange(np.prod(shape)).reshape(shape) * 10 - 1000).astype(np.int16)


def image_of(hu: NDArray[Any], direction: NDArray[np.float64] = DIRECTIONS["axial"]) -> Any:
    image = sitk.GetImageFromArray(hu.transpose(2, 1, 0))
    image.SetSpacing((2.0, 3.0, 4.0))
    image.SetOrigin((-60.0, 55.0, -70.5))
    image.SetDirection(direction.ravel().tolist())
    return image


def ras_affine_of(image: Any) -> NDArray[np.float64]:
    """RAS affine from SimpleITK's own answer about three voxels: no formula shared with the code under test."""
    corner = np.array(image.TransformIndexToPhysicalPoint((0, 0, 0)))
    lps = np.eye(4)
    lps[:3, 3] = corner
    for axis in range(3):
        step = [0, 0, 0]
        step[axis] = 1
        lps[:3, axis] = np.array(image.TransformContinuousIndexToPhysicalPoint([float(n) for n in step])) - corner
    return LPS_TO_RAS @ lps


def assert_mask_lies_like(path: Path, source: Any, shape: tuple[int, ...]) -> None:
    """The scan's mask, written as NIfTI and read by SimpleITK, has the frame of the source and the same voxels."""
    volume = read_volume(path)
    mask = np.zeros(shape, np.uint8)
    mask[1, 2, 3] = 1
    target = path.parent / "mask.nii.gz"
    write_mask(target, mask, volume.geometry)
    np.testing.assert_array_equal(read_mask(target), mask)
    written = sitk.ReadImage(str(target))
    assert written.GetPixelID() == sitk.sitkUInt8
    assert written.GetSize() == source.GetSize()
    np.testing.assert_allclose(written.GetSpacing(), source.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(written.GetOrigin(), source.GetOrigin(), atol=1e-3)
    np.testing.assert_allclose(written.GetDirection(), source.GetDirection(), atol=1e-5)


class TestMetaImageAndNrrd:
    @pytest.mark.parametrize("direction", DIRECTIONS)
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_voxels_and_frame(self, tmp_path, suffix, compressed, direction):
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(image_of(ramp(), DIRECTIONS[direction]), str(path), compressed)
        source = sitk.ReadImage(str(path))
        volume = read_volume(path)
        np.testing.assert_array_equal(volume.hu, ramp())
        assert volume.hu.flags.f_contiguous
        assert volume.hu.flags.owndata
        np.testing.assert_allclose(volume.geometry.affine_ras_mm, ras_affine_of(source), atol=1e-6)
        assert_mask_lies_like(path, source, SHAPE)

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32", "float64"])
    def test_types(self, tmp_path, dtype):
        stored = (ramp() + 1000).astype(dtype)[:, :, :1].repeat(5, axis=2)  # 0..550, in uint8 modulo 256
        sitk.WriteImage(image_of(stored), str(tmp_path / "a.mha"))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").hu, stored.astype(np.int16))

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    # 20 bytes are the 8 of gzip's checksum and some voxels.
    @pytest.mark.parametrize("kept", [10, 0.6, -20])
    @pytest.mark.parametrize("compressed", [False, True])
    def test_truncated(self, tmp_path, suffix, kept, compressed):
        path = tmp_path / f"cut{suffix}"
        noise = np.random.default_rng(0).integers(-1000, 1000, (8, 8, 8)).astype(np.int16)
        sitk.WriteImage(image_of(noise), str(path), compressed)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept) if isinstance(kept, float) else kept])
        assert error_of(path)

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    @pytest.mark.parametrize(
        "content", [b"", b"hello\n" * 100, b"\x1f\x8b" + bytes(300)], ids=["empty", "text", "gzip"]
    )
    def test_not_an_image(self, tmp_path, suffix, content):
        path = tmp_path / f"x{suffix}"
        path.write_bytes(content)
        assert error_of(path)

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_2d_4d_and_colours(self, tmp_path, suffix):
        flat, series, colours = (tmp_path / f"{name}{suffix}" for name in ("flat", "series", "colours"))
        sitk.WriteImage(image_of(ramp())[:, :, 0], str(flat))
        sitk.WriteImage(sitk.JoinSeries([image_of(ramp()), image_of(ramp())]), str(series))
        grey = sitk.Cast(image_of(ramp()), sitk.sitkUInt8)
        sitk.WriteImage(sitk.Compose(grey, grey, grey), str(colours))
        assert "3D volume, got shape (4, 3); stack" in error_of(flat)
        assert "got shape (4, 3, 5, 2); split the time axis" in error_of(series)
        assert "got 3" in error_of(colours)

    def test_data_in_another_file_are_not_followed(self, tmp_path):
        sitk.WriteImage(image_of(ramp()), str(tmp_path / "a.mhd"))
        header = (tmp_path / "a.mhd").rename(tmp_path / "a.mha")
        assert "another file" in error_of(header)
        sitk.WriteImage(image_of(ramp()), str(tmp_path / "b.nhdr"))
        header = (tmp_path / "b.nhdr").rename(tmp_path / "b.nrrd")
        assert "another file" in error_of(header)

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd"])
    def test_dimensions_beyond_memory_are_refused_by_the_header(self, tmp_path, suffix):
        path = tmp_path / f"huge{suffix}"
        sitk.WriteImage(image_of(ramp()), str(path))
        for name in (b"DimSize = ", b"sizes: "):
            path.write_bytes(path.read_bytes().replace(name + b"4 3 5", name + b"32767 32767 32767"))
        assert "32767x32767x32767 voxels need about" in error_of(path)

    def test_every_voxel_nan(self, tmp_path):
        sitk.WriteImage(image_of(np.full(SHAPE, np.nan, np.float32)), str(tmp_path / "nan.mha"))
        assert "NaN" in error_of(tmp_path / "nan.mha")

    def test_frame_without_volume(self, tmp_path):
        path = tmp_path / "flat.mha"
        sitk.WriteImage(image_of(ramp()), str(path))
        path.write_bytes(path.read_bytes().replace(b"ElementSpacing = 2 3 4", b"ElementSpacing = 2 3 0"))
        assert error_of(path)


class TestIntensityFunction:
    """HU = stored * ElementToIntensityFunctionSlope + ElementToIntensityFunctionOffset, which ITK does not apply."""

    @staticmethod
    def write(path: Path, stored: NDArray[Any], *lines: str, compressed: bool = False) -> Path:
        sitk.WriteImage(image_of(stored), str(path), compressed)
        said = "".join(f"{line}\n" for line in lines).encode()
        path.write_bytes(path.read_bytes().replace(b"ElementDataFile", said + b"ElementDataFile", 1))
        return path

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize(
        ("dtype", "lines", "stored", "hu"),
        [
            ("uint16", ["ElementToIntensityFunctionSlope = 1", "ElementToIntensityFunctionOffset = -1024"], 24, -1000),
            ("int16", ["ElementToIntensityFunctionOffset = -1024"], 24, -1000),
            ("int16", ["ElementToIntensityFunctionSlope = 2.5"], 17, 42),  # 42.5 to the nearest even
            ("int16", ["ElementToIntensityFunctionSlope=0.3"], 12, 4),  # 3.6: rounded, not cut
            ("int16", ["ElementToIntensityFunctionSlope = -2e0", "ElementToIntensityFunctionOffset = 0.5"], 7, -14),
            (
                "float32",
                ["ElementToIntensityFunctionSlope = 1000", "ElementToIntensityFunctionOffset = -1000"],
                1.04,
                40,
            ),
            ("uint8", ["elementtointensityfunctionslope = 4", "ElementToIntensityFunctionOffset = -1000"], 255, 20),
        ],
    )
    def test_is_applied_and_rounded(self, tmp_path, dtype, lines, stored, hu, compressed):
        array = np.full(SHAPE, stored, dtype)
        array[0, 0, 0] = 0
        volume = read_volume(self.write(tmp_path / "a.mha", array, *lines, compressed=compressed))
        assert volume.hu[1, 1, 1] == hu
        assert volume.hu.flags.f_contiguous

    def test_a_comment_about_it_is_none(self, tmp_path):
        path = self.write(tmp_path / "a.mha", ramp(), "Comment = ElementToIntensityFunctionSlope = 2")
        np.testing.assert_array_equal(read_volume(path).hu, ramp())

    @pytest.mark.parametrize("value", ["0", "0.0", "nan", "inf", "-inf", "1e999", "", "2,5", "two"])
    def test_a_slope_that_is_none_is_refused(self, tmp_path, value):
        path = self.write(tmp_path / "a.mha", ramp(), f"ElementToIntensityFunctionSlope = {value}")
        assert f"ElementToIntensityFunctionSlope must be a number other than 0, got '{value}'" in error_of(path)

    @pytest.mark.parametrize("value", ["nan", "-inf", "-1024 HU"])
    def test_an_offset_that_is_none_is_refused(self, tmp_path, value):
        path = self.write(tmp_path / "a.mha", ramp(), f"ElementToIntensityFunctionOffset = {value}")
        assert "ElementToIntensityFunctionOffset must be a number, got" in error_of(path)

    def test_nrrd_has_no_such_thing(self, tmp_path):
        path = tmp_path / "a.nrrd"
        sitk.WriteImage(image_of(ramp()), str(path))
        line = b"ElementToIntensityFunctionSlope:=2\n"
        path.write_bytes(path.read_bytes().replace(b"encoding:", line + b"encoding:", 1))
        np.testing.assert_array_equal(read_volume(path).hu, ramp())


class TestFractionsAndWrappedValues:
    @pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
    def test_fractions_are_rounded(self, tmp_path, suffix):
        stored = ramp().astype(np.float32)
        stored[1, 1, 1], stored[2, 1, 1] = 39.6, -99.6
        sitk.WriteImage(image_of(stored), str(tmp_path / f"a{suffix}"))
        hu = read_volume(tmp_path / f"a{suffix}").hu
        assert (hu[1, 1, 1], hu[2, 1, 1]) == (40, -100)

    @pytest.mark.parametrize("suffix", [".mha", ".nrrd", ".nii.gz"])
    @pytest.mark.parametrize("dtype", ["uint16", "uint32"])
    def test_wrapped_negative_values_are_refused(self, tmp_path, suffix, dtype):
        path = tmp_path / f"a{suffix}"
        sitk.WriteImage(image_of(ramp().astype(dtype)), str(path))
        message = error_of(path)
        assert f"negative HU have wrapped around in {dtype}" in message
        # -1000, -990, ... -410: 60 voxels, all of them below 0.
        assert "100.0% of the voxels" in message
        assert "int16" in message


class TestLongsOfEightBytes:
    """ElementType MET_LONG has four bytes to ITK; some writers put eight, of which ITK would read the first half."""

    def write(self, path: Path, dtype: str, *, compressed: bool, kind: str = "MET_LONG") -> Path:
        values = np.zeros((5, 40, 30), dtype)
        values[2, 10:20, 10:20] = -70
        data = values.tobytes()
        lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False"]
        if compressed:
            data = zlib.compress(data)
            lines += ["CompressedData = True", f"CompressedDataSize = {len(data)}"]
        lines += ["ElementSpacing = 2 2 5", "DimSize = 30 40 5", f"ElementType = {kind}", "ElementDataFile = LOCAL"]
        path.write_bytes(("\n".join(lines) + "\n").encode() + data)
        return path

    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("kind", ["MET_LONG", "MET_ULONG"])
    def test_refused(self, tmp_path: Path, compressed: bool, kind: str):
        path = self.write(tmp_path / "a.mha", "<i8", compressed=compressed, kind=kind)
        message = error_of(path)
        for part in ("a.mha", kind, "4 bytes for each of 6000 voxels", "save it with 16-bit integers"):
            assert part in message

    @pytest.mark.parametrize("compressed", [False, True])
    def test_those_of_four_bytes_are_read(self, tmp_path: Path, compressed: bool):
        volume = read_volume(self.write(tmp_path / "a.mha", "<i4", compressed=compressed))
        assert volume.hu.shape == (30, 40, 5)
        assert np.argwhere(volume.hu == -70).min(axis=0).tolist() == [10, 10, 2]
        assert (volume.hu == -70).sum() == 100

    def test_damaged_compression_is_told_as_such(self, tmp_path: Path):
        path = self.write(tmp_path / "a.mha", "<i4", compressed=True)
        before, mark, data = path.read_bytes().partition(b"LOCAL\n")
        path.write_bytes(before + mark + bytes(2) + data[2:])
        assert "damaged" in error_of(path)
