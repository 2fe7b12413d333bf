"""Where the slices of a series lie: a volume of even, straight slices, or one line that says why they make none."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.acquisitions import check_one_acquisition
from gfscreen.scan.volume.dicom.headers import Header, quiet
from gfscreen.scan.volume.dicom.pixels import read_slice
from gfscreen.scan.volume.dicom.series import Series
from gfscreen.scan.volume.geometry import Geometry

LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Cosines and spacings of one series may differ by rounding only.
_SAME_COSINE = 1e-3
_SAME_MM = 1e-3
# Positions are often rounded to 0.1 mm; beyond that a slice may stray by a tenth of the spacing.
_ROUNDING_MM = 0.1
_STRAY_SHARE = 0.1
# Sideways, the whole stack may drift by half a pixel; a tilted gantry moves it by that within a few slices.
_DRIFT_PIXELS = 0.5


@dataclass(frozen=True)
class Stack:
    """Files in slice order, ascending along the normal (row x column direction), and the geometry of the volume.

    Array axes: i along a row (column index), j down a column (row index), k across slices.
    """

    files: tuple[Path, ...]
    geometry: Geometry
    notes: tuple[str, ...] = ()


def stack(series: Series, name: str) -> Stack:
    """Order the slices and check them against an even, straight stack.

    Copies (same position, same pixels) are passed over, and counted in the notes. Raises InputError for mixed sizes or
    orientations, several acquisitions, a tilted gantry, missing, repeated or unevenly spaced slices.
    """
    first = series.images[0]
    _check_alike(series, name)
    assert first.orientation is not None
    assert first.pixel_mm is not None
    row, column = _unit(first.orientation[:3]), _unit(first.orientation[3:])
    if abs(float(row @ column)) > _SAME_COSINE or min(first.pixel_mm) <= 0:
        raise InputError(
            f"{name}: expected perpendicular rows and columns of positive spacing, got orientation "
            f"{first.orientation.tolist()}, {first.pixel_mm} mm; repair the headers"
        )
    normal = np.cross(row, column)
    images = sorted(series.images, key=lambda image: (float(normal @ _position(image)), image.sop_uid, image.path))
    images, notes = _without_copies(images)
    positions = np.array([_position(image) for image in images])
    check_one_acquisition(images, (positions @ normal).tolist(), name)
    slice_mm = _slice_spacing(images, positions @ normal, name)
    _check_straight(positions, normal, min(first.pixel_mm), name)
    lps = np.eye(4)
    # Pixel Spacing is (between rows, between columns): columns are i, rows are j.
    lps[:3, 0], lps[:3, 1], lps[:3, 2] = row * first.pixel_mm[1], column * first.pixel_mm[0], normal * slice_mm
    lps[:3, 3] = positions[0]
    shape = (first.columns, first.rows, len(images))
    return Stack(tuple(image.path for image in images), Geometry(shape, LPS_TO_RAS @ lps), notes)


def _without_copies(images: list[Header]) -> tuple[list[Header], tuple[str, ...]]:
    """Images in slice order without copies, and a note that counts those. A copy: same position, same HU."""
    kept: list[Header] = []
    copies = 0
    for image in images:
        here = bool(kept) and np.abs(_position(image) - _position(kept[-1])).max() < _SAME_MM
        if here and _same_pixels(image.path, kept[-1].path):
            copies += 1
            continue
        kept.append(image)
        if here:
            # Not a copy: the series is refused for it, and nobody need look at the rest.
            return [*kept, *images[len(kept) + copies :]], ()
    return kept, (f"passed over: {copies} copies of slices",) if copies else ()


def _same_pixels(one: Path, other: Path) -> bool:
    if one.read_bytes() == other.read_bytes():
        return True
    with quiet():
        return np.array_equal(read_slice(one)[0], read_slice(other)[0])


def _position(image: Header) -> NDArray[np.float64]:
    assert image.position_lps_mm is not None
    return image.position_lps_mm


def _unit(vector: NDArray[np.float64]) -> NDArray[np.float64]:
    unit: NDArray[np.float64] = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _check_alike(series: Series, name: str) -> None:
    first = series.images[0]
    for image in series.images:
        assert image.orientation is not None
        assert first.orientation is not None
        if (image.columns, image.rows) != (first.columns, first.rows):
            raise InputError(
                f"{name}: expected slices of one size, got {first.columns}x{first.rows} and "
                f"{image.columns}x{image.rows} in one series; export them as separate series"
            )
        if np.abs(image.orientation - first.orientation).max() > _SAME_COSINE:
            raise InputError(
                f"{name}: expected slices of one orientation, got {first.orientation.tolist()} and "
                f"{image.orientation.tolist()} in one series; export them as separate series"
            )
        if np.abs(np.subtract(image.pixel_mm or 0, first.pixel_mm or 0)).max() > _SAME_MM:
            raise InputError(
                f"{name}: expected one pixel spacing, got {first.pixel_mm} and {image.pixel_mm} mm in one series; "
                "export them as separate series"
            )


def _slice_spacing(images: list[Header], along_mm: NDArray[np.float64], name: str) -> float:
    """Spacing of the slices along the normal, mm, once they are known to be even."""
    if len(images) == 1:
        if not images[0].slice_mm:
            raise InputError(f"{name}: expected a slice thickness of the only slice, found none; give the whole series")
        return images[0].slice_mm
    gaps = np.diff(along_mm)
    if gaps.min() < 1e-3:
        k = int(gaps.argmin())
        raise InputError(
            f"{name}: expected one slice per position, {images[k].path.name} and {images[k + 1].path.name} share one; "
            "export one phase or acquisition"
        )
    usual = float(np.median(gaps))
    tolerance = max(_ROUNDING_MM, _STRAY_SHARE * usual)
    missing = np.rint(gaps / usual).astype(int) - 1
    if missing.max() > 0 and np.abs(gaps - (missing + 1) * usual).max() <= tolerance:
        k = int(missing.argmax())
        raise InputError(
            f"{name}: missing slices ({missing.sum()}), a gap of {gaps[k]:.2f} mm where {usual:.2f} mm are usual, "
            f"after {images[k].path.name}; copy the series again"
        )
    even = along_mm[0] + np.arange(len(images)) * (along_mm[-1] - along_mm[0]) / (len(images) - 1)
    if np.abs(gaps - usual).max() > 2 * tolerance or np.abs(along_mm - even).max() > tolerance:
        raise InputError(
            f"{name}: expected evenly spaced slices, gaps run from {gaps.min():.2f} to {gaps.max():.2f} mm; "
            "resample the series, e.g. by dcm2niix"
        )
    return float((along_mm[-1] - along_mm[0]) / (len(images) - 1))


def _check_straight(positions: NDArray[np.float64], normal: NDArray[np.float64], pixel_mm: float, name: str) -> None:
    """Refuse slices that are shifted sideways against each other, evenly (a tilted gantry) or not."""
    sideways = positions - positions[0]
    along = sideways @ normal
    sideways = sideways - np.outer(along, normal)
    drift_mm = float(np.linalg.norm(sideways, axis=1).max())
    if drift_mm <= _DRIFT_PIXELS * pixel_mm:
        return
    # The straight line through the first slice that fits best.
    slope = along @ sideways / (along @ along)
    if np.linalg.norm(sideways - np.outer(along, slope), axis=1).max() <= _DRIFT_PIXELS * pixel_mm:
        degrees = float(np.degrees(np.arctan(np.linalg.norm(slope))))
        raise InputError(
            f"{name}: gantry tilt of {degrees:.1f} degrees, the slices shift by {drift_mm:.1f} mm in all; "
            "correct the tilt first, e.g. by dcm2niix, and screen the corrected volume"
        )
    raise InputError(
        f"{name}: expected slices above each other, they are shifted sideways by up to {drift_mm:.1f} mm; "
        "export the series again"
    )
