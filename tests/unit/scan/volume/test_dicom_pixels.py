"""Stored values to HU, slice by slice, by the standard and not by a library's convenience."""

from __future__ import annotations

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import JPEG2000Lossless, JPEGLosslessSV1, JPEGLSLossless, RLELossless

from gfscreen.scan.volume import read_volume
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.refusals import error_of

SHAPE = (16, 12, 4)


def set_stored(data: Dataset, stored: np.ndarray, *, signed: bool = False) -> None:
    data.PixelRepresentation = int(signed)
    data.PixelData = np.ascontiguousarray(stored.astype("<i2" if signed else "<u2")).tobytes()


def hu_of(folder, **options) -> np.ndarray:
    return read_volume(Series(**{"hu": ramp(SHAPE), **options}).write(folder / "ct")).hu


class TestRescale:
    @pytest.mark.parametrize("syntax", [None, RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
    def test_monochrome1_is_about_display(self, tmp_path, syntax):
        def change(_, data):
            data.PhotometricInterpretation = "MONOCHROME1"

        np.testing.assert_array_equal(hu_of(tmp_path, change=change, transfer_syntax=syntax), ramp(SHAPE))

    @pytest.mark.parametrize("syntax", [None, JPEGLSLossless, JPEG2000Lossless, JPEGLosslessSV1])
    def test_intercept_and_slope_of_each_slice(self, tmp_path, syntax):
        """Stored (hu - intercept) / slope with intercepts 0, -1024, -2000, -3024 and slopes 1, 2, 1, 2."""
        hu = (ramp(SHAPE) // 2) * 2
        hu[:, :, 0] = np.maximum(hu[:, :, 0], 0)

        def change(k, data):
            data.RescaleIntercept, data.RescaleSlope = (0, -1024, -2000, -3024)[k], (1, 2, 1, 2)[k]
            set_stored(data, ((hu[:, :, k].T.astype(int) - int(data.RescaleIntercept)) // int(data.RescaleSlope)))

        np.testing.assert_array_equal(hu_of(tmp_path, change=change, transfer_syntax=syntax), hu)

    def test_fractions_are_rounded(self, tmp_path):
        """Stored 0, 1, 2, 3 by slope 0.75 and intercept -1000.3: -1000.3, -999.55, -998.8, -998.05."""

        def change(_, data):
            data.RescaleSlope, data.RescaleIntercept = 0.75, -1000.3
            set_stored(data, np.arange(12 * 16).reshape(12, 16) % 4)

        assert sorted(set(hu_of(tmp_path, change=change).ravel().tolist())) == [-1000, -999, -998]
        assert hu_of(tmp_path / "2", change=change)[:4, 0, 0].tolist() == [-1000, -1000, -999, -998]

    def test_unused_bits_and_the_sign_of_twelve_bits(self, tmp_path):
        """-1000..-433 in twelve bits, signed, with ones in the four bits above that mean nothing."""
        hu = ramp(SHAPE) // 4

        def change(k, data):
            data.BitsStored, data.HighBit, data.RescaleIntercept = 12, 11, 0
            bits = (hu[:, :, k].T.astype(np.int16).view(np.uint16) & 0x0FFF) | 0x5000
            set_stored(data, bits)
            data.PixelRepresentation = 1

        np.testing.assert_array_equal(hu_of(tmp_path, change=change), hu)

    @pytest.mark.parametrize(("slope", "said"), [(0, "Rescale Slope is 0"), ("nan", "RescaleSlope is")])
    def test_no_slope(self, tmp_path, slope, said):
        def change(_, data):
            data.add_new("RescaleSlope", "DS", slope)

        assert said in error_of(Series(ramp(SHAPE), change=change).write(tmp_path / "ct"))


class TestPadding:
    def test_minus_two_thousand_written_as_unsigned(self, tmp_path):
        def change(_, data):
            stored = np.frombuffer(data.PixelData, "<u2").reshape(12, 16).copy()
            stored[:3] = 63536
            set_stored(data, stored)
            data.add_new("PixelPaddingValue", "US", 63536)

        hu = hu_of(tmp_path, change=change)
        assert (hu[:, :3] == -1024).all()
        np.testing.assert_array_equal(hu[:, 3:], ramp(SHAPE)[:, 3:])

    def test_a_range(self, tmp_path):
        """From -2048 to -2000 in signed values of intercept 0."""

        def change(k, data):
            data.RescaleIntercept = 0
            stored = ramp(SHAPE)[:, :, k].T.astype(np.int16).copy()
            stored[0], stored[1] = -2048, -2010
            set_stored(data, stored, signed=True)
            data.add_new("PixelPaddingValue", "SS", -2000)
            data.add_new("PixelPaddingRangeLimit", "SS", -2048)

        hu = hu_of(tmp_path, change=change)
        assert (hu[:, :2] == -1024).all()
        np.testing.assert_array_equal(hu[:, 2:], ramp(SHAPE)[:, 2:])

    def test_a_value_of_tissue_is_padding_at_the_edge_alone(self, tmp_path):
        """Padding 0 of intercept 0, which water has as well: the border is air, a voxel in the middle stays water."""

        def change(_, data):
            data.RescaleIntercept = 0
            stored = np.full((12, 16), 40, np.int16)
            stored[:2], stored[6, 8] = 0, 0
            set_stored(data, stored, signed=True)
            data.add_new("PixelPaddingValue", "SS", 0)

        hu = hu_of(tmp_path, change=change)
        assert (hu[:, :2] == -1024).all()
        assert (hu[8, 6] == 0).all()
        assert (hu[:, 2:] == 40).sum() == 16 * 10 * 4 - 4


class TestNotHounsfield:
    @pytest.mark.parametrize("kind", ["MGML", "ED", "Z_EFF", "PCT"])
    def test_is_never_chosen_and_named(self, tmp_path, kind):
        def change(_, data):
            data.RescaleType = kind

        Series(ramp(SHAPE), number=3, change=change).write(tmp_path / "ct")
        assert f"Rescale Type {kind}, not HU" in error_of(tmp_path / "ct")
        Series(ramp(SHAPE), number=4).write(tmp_path / "ct")
        np.testing.assert_array_equal(read_volume(tmp_path / "ct").hu, ramp(SHAPE))
        assert f"cannot be screened: Rescale Type {kind}" in error_of(tmp_path / "ct", "3")

    @pytest.mark.parametrize("kind", ["HU", "US", "hu "])
    def test_hounsfield_units(self, tmp_path, kind):
        def change(_, data):
            data.RescaleType = kind

        np.testing.assert_array_equal(hu_of(tmp_path, change=change), ramp(SHAPE))

    @pytest.mark.parametrize(
        ("uid", "said"),
        [
            ("1.2.840.10008.1.2.4.110", "JPEG XL Lossless (1.2.840.10008.1.2.4.110)"),
            ("1.2.840.10008.1.2.8.1", "Deflated Image Frame Compression (1.2.840.10008.1.2.8.1)"),
            ("1.2.840.10008.1.2.4.100", "MPEG2"),
        ],
    )
    def test_a_compression_that_is_not_read_is_named(self, tmp_path, uid, said):
        folder = Series(ramp(SHAPE), transfer_syntax=JPEG2000Lossless).write(tmp_path / "ct")
        old = b"UI" + (22).to_bytes(2, "little") + b"1.2.840.10008.1.2.4.90"
        for path in folder.iterdir():
            content = path.read_bytes()
            new = uid.encode() + bytes(len(uid) % 2)
            length = int.from_bytes(content[140:144], "little") + len(new) - 22
            content = content[:140] + length.to_bytes(4, "little") + content[144:]
            assert content.count(old) == 1
            path.write_bytes(content.replace(old, b"UI" + len(new).to_bytes(2, "little") + new))
        message = error_of(folder)
        assert f"transfer syntax {said}" in message
        assert "which is not read; export it uncompressed or as JPEG 2000" in message
        assert "damaged" not in message
