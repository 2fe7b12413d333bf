"""Stored values to Hounsfield units in int16, in bounded memory, with a word about values that cannot be HU."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError

AIR_HU = -1024
# From air to soft tissue it is a thousand; whatever spans less than this shows no organ.
MIN_RANGE_HU = 100
# Nothing is less dense than air; below this lies padding, which has one value, or three.
BELOW_AIR_HU = -1200
# Stored 0..4095 values of soft tissue lie above this, HU of soft tissue far below.
STORED_TISSUE = 700
# Stored without sign, HU below 0 come to lie this far below 2**16, 2**32 or 2**64, and nothing of a CT just above this.
WRAPPED_HU = 4096
STORED_CT = 5000
# Below this share it may be noise or an implant, which is clipped and told; and what is no CT has more in between.
WRAPPED_SHARE = 0.01
BETWEEN_PER_WRAPPED = 0.05
# A mask of lesions has 1, or a label for each; several hundred values are a picture or a scan.
MOST_LABELS = 200
_MASK_MAX = 255
# Labels stored through a slope in float32 come out this close to whole numbers.
_WHOLE = 1e-3
_STEP = 8
_INT16 = np.iinfo(np.int16)


def to_hounsfield(
    stored: NDArray[Any], slope: float, intercept: float, name: str
) -> tuple[NDArray[np.int16], list[str]]:
    """`stored` (i, j, k) of any real type -> int16 HU of the same shape and memory order, and warnings.

    slope 0 or not finite means 1 and 0, as NIfTI rules. NaN becomes air, values beyond int16 are clipped.
    Raises InputError when no voxel is finite, and where negative HU have wrapped around in a type without sign.
    """
    slope, intercept = _scaling(slope, intercept)
    plain = slope == 1.0 and intercept == 0.0
    if plain and stored.dtype.kind in "iu" and np.can_cast(stored.dtype, np.int16):
        native = stored if stored.dtype.isnative else stored.astype(stored.dtype.newbyteorder("="))
        return native.astype(np.int16, copy=False), value_warnings(native)
    hu = np.empty(stored.shape, np.int16, order="F" if stored.flags.f_contiguous else "C")
    not_finite = clipped = 0
    for k in range(stored.shape[2]):
        values = stored[:, :, k].astype(np.float64)
        if not plain:
            with np.errstate(over="ignore", invalid="ignore"):
                values = values * slope + intercept
        finite = np.isfinite(values)
        if not finite.all():
            not_finite += int(values.size - finite.sum())
            values = np.where(np.isnan(values), AIR_HU, values)
        beyond = (values < _INT16.min) | (values > _INT16.max)
        clipped += int((beyond & finite).sum())
        hu[:, :, k] = np.rint(np.clip(values, _INT16.min, _INT16.max))
    if not_finite == stored.size:
        raise InputError(f"{name}: expected CT values, every voxel is NaN or infinite; export the scan again")
    if clipped >= WRAPPED_SHARE * stored.size:
        _refuse_wrapped(stored, name)
    warnings = []
    if not_finite:
        warnings.append(f"{not_finite} voxels are NaN or infinite: NaN taken as air ({AIR_HU} HU)")
    if clipped:
        warnings.append(f"{clipped} voxels beyond [{_INT16.min}, {_INT16.max}] HU were clipped")
    if stored.dtype.kind == "f" and plain and _is_unit_range(stored):
        return hu, [
            *warnings,
            "values lie in 0..1, which is not HU: expected air near -1000; the mask is not to be trusted",
        ]
    return hu, [*warnings, *value_warnings(hu)]


def _scaling(slope: float, intercept: float) -> tuple[float, float]:
    """Slope and intercept by NIfTI's rule: 0 or not finite means none."""
    if not np.isfinite(slope) or slope == 0.0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def refuse_fractions(stored: NDArray[Any], slope: float, intercept: float, name: str) -> None:
    """Raise InputError if a value of a mask, scaled as a scan is, is no whole number; NaN and infinity are none."""
    slope, intercept = _scaling(slope, intercept)
    if stored.dtype.kind in "iu" and slope.is_integer() and intercept.is_integer():
        return
    for k in range(stored.shape[2]):
        with np.errstate(over="ignore", invalid="ignore"):
            values = stored[:, :, k].astype(np.float64) * slope + intercept
        odd = ~(np.isfinite(values) & (np.abs(values - np.rint(values)) < _WHOLE))
        if odd.any():
            raise InputError(
                f"{name}: expected a mask of whole numbers, got {values[odd][0]:g}; threshold probabilities first"
            )


def refuse_mask(hu: NDArray[np.int16], name: str) -> None:
    """Raise InputError for a mask in place of a scan: two values, 0 (or 1) and one up to 255. Constant, empty: nothing.

    Two higher values may be a phantom of tissue.
    """
    if hu.size == 0 or hu[::_STEP, ::_STEP, ::_STEP].min() < 0 or hu.min() < 0 or hu.max() > _MASK_MAX:
        return
    low, high = int(hu.min()), int(hu.max())
    if low <= 1 and low < high and not ((hu > low) & (hu < high)).any():
        raise InputError(
            f"{name}: expected a CT in HU, found only the values {low} and {high}, as in a mask or a scan scaled to "
            "0..1; give the scan itself"
        )


def refuse_no_mask(values: NDArray[np.int16], name: str) -> None:
    """Raise InputError for a scan in place of a mask: values below 0, or more than MOST_LABELS above it."""
    low = int(values.min(initial=0))
    if low < 0:
        raise InputError(f"{name}: expected a mask of labels from 0 on, got values down to {low}; is it a scan?")
    labels = int(np.count_nonzero(np.bincount(values.ravel(order="K"))[1:])) if values.size else 0
    if labels > MOST_LABELS:
        raise InputError(
            f"{name}: expected a mask of at most {MOST_LABELS} labels, found {labels}; is it a scan? "
            "Every label above 0 counts as lesion"
        )


def _refuse_wrapped(stored: NDArray[Any], name: str) -> None:
    """Raise InputError if negative values have become large ones, as -1000 becomes 64536 in uint16.

    Also in a wider type, to which such values were converted. A single value at the very top is padding, and what the
    first voxel holds may be.
    """
    widest = float(np.finfo(stored.dtype).max if stored.dtype.kind == "f" else np.iinfo(stored.dtype).max)
    for bits in (16, 32, 64):
        top = 2**bits - 1
        if widest < float(top):
            continue
        padding, at_top, wrapped, between = stored[0, 0, 0], 0, 0, 0
        for k in range(stored.shape[2]):
            plane = stored[:, :, k]
            high = plane > top - WRAPPED_HU
            at_top += int(np.count_nonzero(plane == top))
            wrapped += int(np.count_nonzero(high & (plane < top)))
            between += int(np.count_nonzero((plane > STORED_CT) & ~high & (plane != padding)))
        if wrapped >= WRAPPED_SHARE * stored.size and between <= BETWEEN_PER_WRAPPED * wrapped:
            share = (wrapped + at_top) / stored.size
            raise InputError(
                f"{name}: expected HU, negative HU have wrapped around in uint{bits}: {share:.1%} of the voxels lie in "
                f"{top + 1 - WRAPPED_HU}..{top}, hardly any between {STORED_CT} and there; store as int16 and subtract "
                f"{top + 1} from values above {top // 2}"
            )


def _is_unit_range(stored: NDArray[Any]) -> bool:
    low, high = np.nanmin(stored), np.nanmax(stored)
    return bool(low >= 0.0 and 0.0 < high <= 1.5)


def value_warnings(hu: NDArray[Any]) -> list[str]:
    """Warnings for values that are unlikely to be HU, judged by the extremes of every fourth slice."""
    sample = hu[:, :, ::4]
    low, high = int(sample.min()), int(sample.max())
    if low == high:
        low, high = int(hu.min()), int(hu.max())
    if low == high:
        return [f"every voxel is {low}: nothing to screen"]
    if low >= 0 and high <= 1:
        return [f"values are {low}..{high}, which is not HU: expected air near -1000; the mask is not to be trusted"]
    if low >= 0 and high > 1000:
        return [
            f"values are {low}..{high}, which looks like stored 0..4095 values and not HU: expected air near -1000; "
            "apply the rescale intercept (often -1024)"
        ]
    if low >= 0:
        return [f"values are {low}..{high}, which is not HU of a whole CT: expected air near -1000"]
    if high > 1000 and _is_stored_beside_padding(hu):
        return [
            f"values are {low} (padding) and 0..{high}, which looks like stored 0..4095 values and not HU: "
            "expected air near -1000; apply the rescale intercept (often -1024)"
        ]
    if low < BELOW_AIR_HU and _has_noise_below_air(hu):
        return [
            f"values are {low}..{high}, with noise far below air (-1000), which is not HU: "
            "was the rescale intercept applied twice?"
        ]
    if high - low < MIN_RANGE_HU:
        return [f"values are {low}..{high}, which is not HU of a whole CT: check the rescale slope"]
    return []


def _is_stored_beside_padding(hu: NDArray[Any]) -> bool:
    """Whether all but padding (-1024 and below) looks like stored 0..4095 values, in a sample of every fourth voxel.

    Noise spreads the air of every CT between -1024 and 0, and fat lies there; stored values have nothing there, and
    their soft tissue, at about 1000, is where a CT has only some bone.
    """
    sample = hu[::4, ::4, ::4]
    inside = sample[sample > AIR_HU]
    return bool(inside.size and inside.min() >= 0 and (inside > STORED_TISSUE).mean() > 0.1)


def _has_noise_below_air(hu: NDArray[Any]) -> bool:
    """Whether a good part of the scan lies below air and is no padding, in a sample of every fourth voxel."""
    sample = hu[::4, ::4, ::4]
    below = sample[sample < BELOW_AIR_HU]
    return below.size > 0.05 * sample.size and np.unique(below).size > 8
