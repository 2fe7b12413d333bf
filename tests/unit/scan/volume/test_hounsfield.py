"""Stored values to HU, and the words about values that cannot be HU."""

from __future__ import annotations

import numpy as np
import pytest

from gfscreen.errors import InputError
from gfscreen.scan.volume.hounsfield import (
    MOST_LABELS,
    refuse_fractions,
    refuse_mask,
    refuse_no_mask,
    to_hounsfield,
)

SHAPE = (3, 4, 5)


def filled(value: float, dtype: str = "float32", **voxels: float) -> np.ndarray:
    """All voxels `value`; `first`, `last` set the corners. Five slices: the words rest on every fourth."""
    array = np.full(SHAPE, value, dtype, order="F")
    array[0, 0, 0] = voxels.get("first", value)
    array[-1, -1, -1] = voxels.get("last", value)
    return array


class TestConversion:
    @pytest.mark.parametrize(
        ("value", "hu"), [(-1000.4, -1000), (40.5, 40), (41.5, 42), (-0.5, 0), (1e9, 32767), (-1e9, -32768)]
    )
    def test_rounds_to_the_nearest_and_clips(self, value, hu):
        result, _ = to_hounsfield(filled(-1000, "float64", last=value), 1.0, 0.0, "a")
        assert result.dtype == np.int16
        assert result[-1, -1, -1] == hu

    def test_clipping_is_counted(self):
        _, warnings = to_hounsfield(filled(-1000, "int32", first=40000, last=-40000), 1.0, 0.0, "a")
        assert "2 voxels beyond [-32768, 32767] HU were clipped" in warnings

    @pytest.mark.parametrize("dtype", ["<u2", ">u2"])
    def test_the_upper_half_of_uint16_is_not_negative_in_either_byte_order(self, dtype):
        hu, warnings = to_hounsfield(filled(0, dtype, first=40000, last=900), 1.0, 0.0, "a")
        assert (hu[0, 0, 0], hu[-1, -1, -1]) == (32767, 900)
        assert "1 voxels beyond [-32768, 32767] HU were clipped" in warnings

    @pytest.mark.parametrize("order", ["F", "C"])
    def test_memory_order_is_kept(self, order):
        stored = np.asarray(filled(-1000), order=order)
        result, _ = to_hounsfield(stored, 2.0, 0.0, "a")
        assert result.flags.f_contiguous == (order == "F")

    def test_int16_is_not_copied(self):
        stored = filled(-1000, "int16")
        assert np.shares_memory(to_hounsfield(stored, 1.0, 0.0, "a")[0], stored)

    @pytest.mark.parametrize(("slope", "intercept"), [(1.0, np.nan), (0.0, 7.0), (np.inf, 7.0), (np.nan, np.nan)])
    def test_scaling_that_is_none(self, slope, intercept):
        assert (to_hounsfield(filled(-1000), slope, intercept, "a")[0] == -1000).all()


class TestNotFinite:
    def test_islands_of_nan_become_air(self):
        stored = filled(40)
        stored[1, 1:3, 2] = np.nan
        result, warnings = to_hounsfield(stored, 1.0, 0.0, "a")
        assert result[1, 1:3, 2].tolist() == [-1024, -1024]
        assert (result == 40).sum() == stored.size - 2
        assert "2 voxels are NaN or infinite: NaN taken as air (-1024 HU)" in warnings

    def test_infinities_are_the_ends_of_the_scale(self):
        result, warnings = to_hounsfield(filled(40, first=np.inf, last=-np.inf), 1.0, 0.0, "a")
        assert (result[0, 0, 0], result[-1, -1, -1]) == (32767, -32768)
        assert any(warning.startswith("2 voxels are NaN or infinite") for warning in warnings)

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    @pytest.mark.parametrize("slope", [1.0, 2.0])
    def test_no_finite_voxel_at_all(self, value, slope):
        with pytest.raises(InputError, match=r"^a.nii: expected CT values, every voxel is NaN"):
            to_hounsfield(filled(value), slope, 0.0, "a.nii")


class TestNotHounsfield:
    @pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "float32", "float64"])
    def test_stored_values_without_intercept(self, dtype):
        _, warnings = to_hounsfield(filled(1000, dtype, first=0, last=4095), 1.0, 0.0, "a")
        assert len(warnings) == 1
        assert "0..4095 values and not HU" in warnings[0]
        assert "intercept" in warnings[0]

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_unit_range(self, dtype):
        _, warnings = to_hounsfield(filled(0.3, dtype, first=0, last=1), 1.0, 0.0, "a")
        assert len(warnings) == 1
        assert "0..1, which is not HU" in warnings[0]

    def test_unit_range_by_scaling(self):
        # 0..4095 with slope 1/4095.
        _, warnings = to_hounsfield(filled(1000, "int16", first=0, last=4095), 1 / 4095, 0.0, "a")
        assert any("0..1, which is not HU" in warning for warning in warnings)

    def test_a_mask_is_not_ct(self):
        _, warnings = to_hounsfield(filled(0, "uint8", first=1), 1.0, 0.0, "a")
        assert any("0..1, which is not HU" in warning for warning in warnings)

    def test_eight_bit_picture(self):
        _, warnings = to_hounsfield(filled(100, "uint8", first=0, last=255), 1.0, 0.0, "a")
        assert any("0..255, which is not HU" in warning for warning in warnings)

    def test_constant(self):
        _, warnings = to_hounsfield(filled(40), 1.0, 0.0, "a")
        assert warnings == ["every voxel is 40: nothing to screen"]

    def test_one_voxel_between_the_sampled_slices_is_enough_not_to_be_constant(self):
        stored = filled(-1000, "int16")
        stored[1, 1, 1] = 40
        assert to_hounsfield(stored, 1.0, 0.0, "a")[1] == []

    @pytest.mark.parametrize("dtype", ["int16", "float32"])
    def test_a_ct_is_not_warned_about(self, dtype):
        assert to_hounsfield(filled(40, dtype, first=-1024, last=3071), 1.0, 0.0, "a")[1] == []

    def test_stored_values_with_their_intercept_are_ct(self):
        assert to_hounsfield(filled(1000, "uint16", first=0, last=4095), 1.0, -1024.0, "a")[1] == []


class TestStoredValuesBesidePadding:
    """Values 0..4095 whose padding is negative: the lowest value alone does not give them away."""

    @staticmethod
    def stored(padding: int) -> np.ndarray:
        stored = np.full((40, 40, 8), 1064, np.int16)  # soft tissue
        stored[:, :12] = 20  # air
        stored[4:8, 30:34] = 2600  # bone
        stored[:, :4] = padding
        return stored

    @pytest.mark.parametrize("padding", [-1024, -2000, -2048, -3024, -32768])
    def test_are_warned_about(self, padding):
        warnings = to_hounsfield(self.stored(padding), 1.0, 0.0, "a")[1]
        assert len(warnings) == 1
        assert f"values are {padding} (padding) and 0..2600" in warnings[0]
        assert "stored 0..4095 values and not HU" in warnings[0]

    @pytest.mark.parametrize("padding", [-1024, -2000, -3024])
    def test_with_their_intercept_they_are_a_ct(self, padding):
        assert to_hounsfield((self.stored(padding) - 1024).astype(np.int16), 1.0, 0.0, "a")[1] == []

    def test_a_ct_without_air_but_with_padding_is_none(self):
        """A crop of soft tissue and bone: its soft tissue is at 40 and not at 1064."""
        crop = self.stored(-2048) - 1024
        crop[:, :12] = 40
        crop[:, :4] = -2048
        assert to_hounsfield(crop.astype(np.int16), 1.0, 0.0, "a")[1] == []


class TestWrongRescale:
    def test_a_slope_that_leaves_nothing(self):
        stored = np.linspace(-1000, 1000, 4096).astype(np.int16).reshape(16, 16, 16)
        assert "rescale slope" in to_hounsfield(stored, 0.001, 0.0, "a")[1][0]

    def test_an_intercept_applied_twice(self):
        noise = np.random.default_rng(0).integers(-12, 13, (16, 16, 16))
        stored = (noise - 984).astype(np.int16)
        stored[:8] -= 1040
        assert "applied twice" in to_hounsfield(stored, 1.0, 0.0, "a")[1][0]
        stored[:8] = -2048  # padding instead of noise
        assert not any("twice" in warning for warning in to_hounsfield(stored, 1.0, 0.0, "a")[1])

    def test_a_slope_beyond_all_numbers_is_no_noise_on_stderr(self, recwarn):
        stored = np.zeros((4, 4, 4))
        stored[0] = 1e300
        hu, warnings = to_hounsfield(stored, 1e300, 0.0, "a")
        assert (int(hu.min()), int(hu.max())) == (0, 32767)
        assert "16 voxels are NaN or infinite" in warnings[0]
        assert not [w for w in recwarn.list if issubclass(w.category, RuntimeWarning)]


class TestWrappedAround:
    """HU below 0 that were stored in a type without sign: -1000 became 64536."""

    @staticmethod
    def ct() -> np.ndarray:
        """A third air with noise, a third soft tissue with noise, some bone; 40 x 40 x 9 voxels."""
        rng = np.random.default_rng(0)
        hu = rng.normal(40, 12, (40, 40, 9))
        hu[:, :13] = rng.normal(-960, 20, (40, 13, 9))
        hu[30:34, 20:24] = 1200
        return np.clip(np.rint(hu), -1024, None).astype(np.int16)

    @pytest.mark.parametrize(("stored", "bits"), [("uint16", 16), (">u2", 16), ("uint32", 32), ("uint64", 64)])
    def test_is_refused_in_one_line_with_share_and_remedy(self, stored, bits):
        with pytest.raises(InputError) as caught:
            to_hounsfield(self.ct().astype(stored), 1.0, 0.0, "a.nii")
        message = str(caught.value)
        share = (self.ct() < 0).mean()
        assert message.startswith(f"a.nii: expected HU, negative HU have wrapped around in uint{bits}: {share:.1%} of")
        assert f"{2**bits - 4096}..{2**bits - 1}" in message
        assert f"store as int16 and subtract {2**bits} from values above {2 ** (bits - 1) - 1}" in message
        assert "\n" not in message

    @pytest.mark.parametrize("wider", ["int32", "int64", "uint32", "float32", "float64"])
    def test_also_after_a_conversion_to_a_wider_type(self, wider):
        with pytest.raises(InputError, match="wrapped around in uint16"):
            to_hounsfield(self.ct().astype(np.uint16).astype(wider), 1.0, 0.0, "a")

    @pytest.mark.parametrize("wider", ["float32", "float64", "int64"])
    def test_also_32_bits_after_a_conversion(self, wider):
        with pytest.raises(InputError, match="wrapped around in uint32"):
            to_hounsfield(self.ct().astype(np.uint32).astype(wider), 1.0, 0.0, "a")

    def test_a_phantom_without_noise(self):
        stored = np.full((20, 20, 9), 40, np.uint16)
        stored[:8] = 64536
        with pytest.raises(InputError, match="wrapped around"):
            to_hounsfield(stored, 1.0, 0.0, "a")

    @pytest.mark.parametrize("padding", [-1024, -3024, -8192, -32768])
    def test_with_padding_that_wrapped_as_well(self, padding):
        hu = self.ct()
        hu[:2] = hu[-2:] = padding
        with pytest.raises(InputError, match="wrapped around"):
            to_hounsfield(hu.astype(np.uint16), 1.0, 0.0, "a")

    def test_with_metal(self):
        hu = self.ct()
        hu[20:22, 30:32, :4] = 20000
        with pytest.raises(InputError, match="wrapped around"):
            to_hounsfield(hu.astype(np.uint16), 1.0, 0.0, "a")

    @pytest.mark.parametrize("dtype", ["uint16", "uint32", "int32", "float32"])
    def test_stored_values_with_their_intercept_are_read(self, dtype):
        stored = (self.ct() + 1024).astype(dtype)
        hu, warnings = to_hounsfield(stored, 1.0, -1024.0, "a")
        np.testing.assert_array_equal(hu, self.ct())
        assert warnings == []

    def test_padding_with_the_highest_value_is_read_as_before(self):
        stored = (self.ct() + 1024).astype(np.uint16)
        stored[:4] = 65535
        hu, warnings = to_hounsfield(stored, 1.0, -1024.0, "a")
        np.testing.assert_array_equal(hu[4:], self.ct()[4:])
        assert (hu[:4] == 32767).all()
        assert warnings == [f"{4 * 40 * 9} voxels beyond [-32768, 32767] HU were clipped"]

    @pytest.mark.parametrize(("slope", "intercept"), [(0.0625, -1024.0), (-0.0625, 3071.0)])
    def test_the_whole_range_with_a_slope_is_read(self, slope, intercept):
        stored = np.rint((self.ct() - intercept) / slope).astype(np.uint16)
        hu, warnings = to_hounsfield(stored, slope, intercept, "a")
        np.testing.assert_array_equal(hu, self.ct())
        assert warnings == []

    def test_values_all_over_the_range_are_something_else(self):
        stored = np.linspace(0, 65535, 40 * 40 * 9).astype(np.uint16).reshape(40, 40, 9)
        _, warnings = to_hounsfield(stored, 1.0, 0.0, "a")
        assert any("clipped" in warning for warning in warnings)

    def test_a_few_voxels_are_noise(self):
        stored = (self.ct() + 1024).astype(np.uint16)
        stored[0, 0, :5] = 65530, 65531, 65532, 65520, 65500
        assert "5 voxels beyond" in to_hounsfield(stored, 1.0, -1024.0, "a")[1][0]

    @pytest.mark.parametrize("dtype", ["uint8", "int16"])
    def test_eight_bits_and_signed_ones_are_nothing_new(self, dtype):
        to_hounsfield(self.ct().astype(dtype), 1.0, 0.0, "a")


class TestMaskForScan:
    @pytest.mark.parametrize("values", [(0, 1), (0, 255), (1, 2), (0, 40)])
    def test_is_refused(self, values):
        hu = np.full((9, 9, 9), values[0], np.int16)
        hu[3, 4, 5] = values[1]
        with pytest.raises(
            InputError, match=rf"^a: expected a CT in HU, found only the values {values[0]} and {values[1]}"
        ):
            refuse_mask(hu, "a")

    @pytest.mark.parametrize(
        "values", [(0,), (40,), (-1000, 40), (-1, 1), (40, 200), (0, 256), (0, 1, 2), (0, 100, 200)]
    )
    def test_all_else_is_read(self, values):
        hu = np.full((9, 9, 9), values[0], np.int16)
        for n, value in enumerate(values):
            hu[n, 4, 5] = value
        refuse_mask(hu, "a")

    def test_empty(self):
        refuse_mask(np.zeros((0, 4, 4), np.int16), "a")


class TestScanForMask:
    @pytest.mark.parametrize("values", [np.arange(-1, 3), np.arange(MOST_LABELS + 2)])
    def test_is_refused(self, values):
        with pytest.raises(InputError, match=r"^a: expected a mask of .*is it a scan\?"):
            refuse_no_mask(values.astype(np.int16).reshape(-1, 1, 1), "a")

    @pytest.mark.parametrize(
        "values", [np.zeros(3), np.array([0, 1]), np.array([0, 30000]), np.arange(MOST_LABELS + 1)]
    )
    def test_labels_are_a_mask(self, values):
        refuse_no_mask(values.astype(np.int16).reshape(-1, 1, 1), "a")


class TestFractions:
    @pytest.mark.parametrize(
        ("stored", "slope", "shown"),
        [
            (np.array([0, 0.25, 1]), 1.0, "0.25"),
            (np.array([0, np.nan]), 1.0, "nan"),
            (np.array([0, 1, 255], np.uint8), 1 / 255, "0.00392157"),
        ],
    )
    def test_are_refused_in_a_mask(self, stored, slope, shown):
        with pytest.raises(InputError, match=rf"^a: expected a mask of whole numbers, got {shown}; threshold"):
            refuse_fractions(stored.reshape(-1, 1, 1), slope, 0.0, "a")

    @pytest.mark.parametrize(
        ("stored", "slope"),
        [
            (np.array([0.0, 1.0]), 0.0),
            (np.array([0, 255], np.uint8), np.float32(1 / 255)),
            (np.array([0, 1], np.int16), 2.0),
        ],
    )
    def test_whole_numbers_pass(self, stored, slope):
        refuse_fractions(stored.reshape(-1, 1, 1), float(slope), 0.0, "a")
