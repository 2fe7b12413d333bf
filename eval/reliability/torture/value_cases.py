"""Values: how they are stored, scaled and padded, and what is not HU at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.reliability.torture.case import AFFINE, SHAPE, TortureCase, Truth, scan
from eval.reliability.torture.store import save

Array = NDArray[Any]


def _noisy(hu: Array) -> Array:
    """With the noise of a real scan, of 12 HU, always the same."""
    noise: Array = np.rint(np.random.default_rng(0).normal(0, 12, hu.shape)).astype(np.int16)
    return hu + noise


def _outside(hu: Array) -> NDArray[np.bool_]:
    """Beyond the round field of view."""
    i, j = np.ogrid[: hu.shape[0], : hu.shape[1]]
    radius = min(hu.shape[:2]) / 2
    plane = np.hypot(i - (hu.shape[0] - 1) / 2, j - (hu.shape[1] - 1) / 2) > radius
    return np.broadcast_to(plane[:, :, None], hu.shape)


def _padded(value: int) -> Callable[[Array], Array]:
    def change(hu: Array) -> Array:
        padded = _noisy(hu).astype(np.int32)
        padded[_outside(hu)] = value
        return padded.astype(np.int16)

    return change


def _metal(value: int) -> Callable[[Array], Array]:
    """An implant with dark and bright streaks in its slices, away from the ball."""

    def change(hu: Array) -> Array:
        made = _noisy(hu)
        low = slice(2, 8)
        made[20:24, 12:16, low] = value
        made[20:24, :12, low], made[:20, 12:16, low] = -1024, 90
        return made

    return change


def padding() -> Iterator[TortureCase]:
    """Fields of view padded below air, and metal far above bone."""
    for value in (-1024, -2000, -2048, -3024, -32768):
        make = scan(change=_padded(value))
        yield TortureCase("padding and metal", f"padded with {value}", f"pad{value}_0000.nii.gz", make)
    for value in (3071, 8000, 30000, 32767):
        make = scan(change=_metal(value))
        yield TortureCase("padding and metal", f"metal of {value} HU", f"metal{value}_0000.nii.gz", make)


def storage() -> Iterator[TortureCase]:
    """Number types, byte orders, slopes, NIfTI-2."""
    scaled: dict[str, Any] = {"scl_slope": 0.5, "scl_inter": -1024.0}
    shifted = {"scl_inter": -1024.0}

    def case(title: str, name: str, dtype: str, change: Callable[[Array], Array], **options: Any) -> TortureCase:
        make = scan(change=lambda hu: change(_noisy(hu)).astype(dtype), **options)
        return TortureCase("storage", title, f"stored-{name}_0000.nii.gz", make)

    def same(hu: Array) -> Array:
        return hu

    def up(hu: Array) -> Array:
        raised: Array = np.clip(hu + 1024, 0, None)
        return raised

    for dtype in ("i2", "i4", "i8", "f4", "f8"):
        yield case(f"{np.dtype(dtype).name}", dtype, dtype, same)
        yield case(f"{np.dtype(dtype).name}, big-endian", f"{dtype}-be", dtype, same, endian=">")
    for dtype in ("u2", "u4", "u8"):
        yield case(f"{np.dtype(dtype).name}, intercept -1024", dtype, dtype, up, fields=shifted)
    yield case("uint16, big-endian, intercept -1024", "u2-be", "u2", up, fields=shifted, endian=">")
    yield case("int32, slope 0.5", "i4-slope", "i4", lambda hu: (hu + 1024) * 2, fields=scaled)
    yield case("int16, slope 2, intercept -1000", "i2-slope", "i2", lambda hu: (hu + 1000) // 2,
               fields={"scl_slope": 2.0, "scl_inter": -1000.0})  # fmt: skip
    yield case("uint8, slope 8, intercept -1024", "u1", "u1", lambda hu: np.clip((hu + 1024) // 8, 0, 255),
               fields={"scl_slope": 8.0, "scl_inter": -1024.0})  # fmt: skip
    yield case("int8, slope 12", "i1", "i1", lambda hu: np.clip(hu // 12, -128, 127), fields={"scl_slope": 12.0})
    yield case("NIfTI-2", "nifti2", "i2", same, version=2)
    yield case("NIfTI-2, big-endian", "nifti2-be", "i2", same, version=2, endian=">")
    for title, name, fields in (
        ("slope 0, which means 1", "slope0", {"scl_slope": 0.0}),
        ("slope NaN, which means 1", "slopenan", {"scl_slope": np.nan, "scl_inter": np.nan}),
        ("intercept infinite", "interinf", {"scl_slope": 1.0, "scl_inter": np.inf}),
        ("bitpix that does not fit the type", "bitpix", {"bitpix": 8}),
        ("offset 0, as some writers leave it", "offset0", {"vox_offset": 0}),
    ):
        yield case(title, name, "i2", same, fields=fields)


def _nan_islands(hu: Array) -> Array:
    made = _noisy(hu).astype(np.float32)
    made[30:36, 20:26, 2:7] = np.nan
    made[0], made[-1], made[:, 0, 0] = np.nan, -np.inf, np.inf
    return made


def _constant(value: int) -> Callable[[Path], Truth]:
    def make(path: Path) -> Truth:
        save(path, np.full(SHAPE, value, np.int16), AFFINE)
        return None

    return make


def _stored(hu: Array) -> Array:
    """Values as the scanner stores them, 0..4095, without the intercept that makes them HU."""
    stored: Array = np.clip(_noisy(hu) + 1024, 0, 4095).astype(np.int16)
    return stored


def _stored_padded(value: int) -> Callable[[Array], Array]:
    def change(hu: Array) -> Array:
        made = _stored(hu)
        made[20:24, 12:16, 2:8] = 2500
        made[_outside(hu)] = value
        return made

    return change


def values() -> Iterator[TortureCase]:
    """What is not HU, or hardly."""

    def case(title: str, name: str, change: Callable[[Array], Array], says: str = "", **options: Any) -> TortureCase:
        make = scan(change=change, check=False, **options)
        return TortureCase("values", title, f"values-{name}_0000.nii.gz", make, says=says)

    yield case("stored 0..4095, intercept lost", "raw", _stored, "stored 0..4095")
    for value in (-1024, -2000, -2048):
        yield case(f"stored 0..4095 with padding {value}", f"raw{value}", _stored_padded(value), "stored 0..4095")
    unit = scan(change=lambda hu: (np.clip(hu, -1000, 1000) + 1000).astype(np.float32) / 2000)
    yield TortureCase("values", "scaled to 0..1", "values-unit_0000.nii.gz", unit, "error", "0..1")
    yield case("an 8-bit picture", "picture", lambda hu: np.clip((hu + 1000) // 5, 0, 255).astype(np.uint8), "not HU")
    yield case("slope 0.001: nothing is left", "slope001", _noisy, "rescale slope", fields={"scl_slope": 0.001})
    yield case("slope 10", "slope10", _noisy, fields={"scl_slope": 10.0})
    yield case("slope -1: inverted", "inverted", _noisy, fields={"scl_slope": -1.0})
    yield case("slope 1e30", "slope1e30", _noisy, "clipped", fields={"scl_slope": 1e30})
    yield case("intercept applied twice", "twice", lambda hu: _noisy(hu) - 1024, "applied twice")
    yield case("float64 of 1e300", "huge", lambda hu: hu.astype(np.float64) * 1e300, "clipped")
    yield TortureCase(
        "values", "islands of NaN and infinity", "values-nan_0000.nii.gz", scan(change=_nan_islands), says="NaN"
    )
    for value in (-1024, 0, 40, 30000):
        yield TortureCase(
            "values", f"every voxel {value}", f"values-all{value}_0000.nii.gz", _constant(value), says="nothing to"
        )

    def noise(path: Path) -> Truth:
        save(path, np.random.default_rng(1).integers(-32768, 32767, SHAPE).astype(np.int16), AFFINE)
        return None

    yield TortureCase("values", "noise over all of int16", "values-noise_0000.nii.gz", noise)

    def nothing(path: Path) -> Truth:
        save(path, np.full(SHAPE, np.nan, np.float32), AFFINE)
        return None

    yield TortureCase("values", "nothing but NaN", "values-allnan_0000.nii.gz", nothing, "error", "every voxel is NaN")

    def other_type(code: int, bits: int, width: int) -> Callable[[Path], Truth]:
        def make(path: Path) -> Truth:
            wide = np.zeros((SHAPE[0] * width, *SHAPE[1:]), np.uint8)
            save(path, wide, AFFINE, fields={"datatype": code, "bitpix": bits, "dim": {1: SHAPE[0]}})
            return None

        return make

    yield TortureCase("values", "colours", "values-rgb_0000.nii.gz", other_type(128, 24, 3), "error", "RGB colours")
    yield TortureCase(
        "values", "complex numbers", "values-complex_0000.nii.gz", other_type(32, 64, 8), "error", "datatype 32"
    )
    yield TortureCase(
        "values", "float128", "values-f128_0000.nii.gz", other_type(1536, 128, 16), "error", "datatype 1536"
    )


def value_cases() -> list[TortureCase]:
    """All of them."""
    return [*padding(), *storage(), *values()]
