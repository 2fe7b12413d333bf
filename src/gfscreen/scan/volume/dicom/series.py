"""Which series of a DICOM study is screened: what is left out and why, and the rule that chooses among the rest."""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.scan.volume.dicom.headers import (
    CT_IMAGE,
    ENHANCED_CT,
    SECONDARY_CAPTURE,
    Header,
    NoImage,
    is_a,
    read_headers,
)

logger = logging.getLogger(__name__)

RULE = "axial before other planes, original before derived, the longest (in steps of 10 mm), the most slices"
_LENGTH_STEP_MM = 10.0
# Values of Image Type that mark pictures whose grey values are no HU of one place.
_PROJECTIONS = {"MIP", "MINIP", "PROJECTION IMAGE", "VOLREN", "VRT"}
_PLANES = ("sagittal", "coronal", "axial")
_PLANE_COSINE = 0.9


@dataclass(frozen=True)
class Series:
    """Images of one Series Instance UID. `problem`: why it cannot be screened; None for a candidate."""

    uid: str
    images: tuple[Header, ...]
    problem: str | None = None

    @property
    def number(self) -> int | None:
        """Series Number."""
        return self.images[0].series_number

    @property
    def original(self) -> bool:
        """Whether Image Type says ORIGINAL or nothing."""
        kind = self.images[0].image_type
        return not kind or kind[0] == "ORIGINAL"

    @property
    def normal(self) -> NDArray[np.float64] | None:
        """Unit vector across the slices, LPS; None without an orientation."""
        cosines = self.images[0].orientation
        if cosines is None:
            return None
        normal = np.cross(cosines[:3], cosines[3:])
        length = float(np.linalg.norm(normal))
        return normal / length if length > 0 else None

    @property
    def plane(self) -> str:
        """`axial`, `coronal`, `sagittal` (within 25 degrees), `oblique`, or `unknown`."""
        if self.normal is None:
            return "unknown"
        axis = int(np.abs(self.normal).argmax())
        return _PLANES[axis] if abs(self.normal[axis]) > _PLANE_COSINE else "oblique"

    @property
    def length_mm(self) -> float | None:
        """Distance from the first to the last slice along the normal; None where positions are missing."""
        positions = [image.position_lps_mm for image in self.images]
        if self.normal is None or any(position is None for position in positions):
            return None
        along = np.array([self.normal @ position for position in positions if position is not None])
        return float(np.ptp(along))

    @property
    def label(self) -> str:
        """For a person: number, description, plane, extent."""
        length = "" if self.length_mm is None else f", {self.length_mm:.0f} mm"
        kind = "original" if self.original else "derived"
        name = f" '{self.images[0].description}'" if self.images[0].description else ""
        number = "without number" if self.number is None else self.number
        slices = "1 slice" if len(self.images) == 1 else f"{len(self.images)} slices"
        return f"series {number}{name}: {self.plane}, {slices}{length}, {kind}"


def _problem_of(image: Header) -> str | None:
    if image.modality != "CT":
        return f"modality {image.modality}, not CT"
    if is_a(image.sop_class, SECONDARY_CAPTURE):
        return "secondary capture"
    if image.sop_class == ENHANCED_CT or image.frames > 1:
        return "multi-frame CT, which is not read; convert it to NIfTI, e.g. by dcm2niix"
    if image.sop_class not in (CT_IMAGE, ""):
        return f"no CT image (SOP class {image.sop_class})"
    if "LOCALIZER" in image.image_type:
        return "localizer"
    if projection := _PROJECTIONS & set(image.image_type):
        return f"projection ({', '.join(sorted(projection))})"
    if image.components != 1:
        return "colours, not HU"
    if image.orientation is None or image.position_lps_mm is None or image.pixel_mm is None:
        return "no position, orientation or pixel spacing"
    return None


def group(headers: list[Header]) -> list[Series]:
    """Series by number, then UID. Localizers and the like within a CT series are dropped from it."""
    by_uid: dict[str, dict[str, Header]] = defaultdict(dict)
    for header in headers:
        # The same image twice, as when a folder holds a copy of another.
        by_uid[header.series_uid].setdefault(header.sop_uid or str(header.path), header)
    series = []
    for uid, images in by_uid.items():
        good = [image for image in images.values() if _problem_of(image) is None]
        if good:
            series.append(Series(uid, tuple(good)))
        else:
            everything = tuple(images.values())
            series.append(Series(uid, everything, _problem_of(everything[0])))
    return sorted(series, key=lambda one: (one.number is None, one.number or 0, one.uid))


def _rank(series: Series) -> tuple[bool, bool, float, int]:
    steps = -round((series.length_mm or 0.0) / _LENGTH_STEP_MM)
    return series.plane != "axial", not series.original, steps, -len(series.images)


def choose(series: list[Series], name: str, wanted: str | None = None) -> Series:
    """The series to screen: by `wanted` (UID or Series Number), else by RULE; ties go to the lowest number, then UID.

    `name` is named in errors. Raises InputError.
    """
    candidates = [one for one in series if one.problem is None]
    if wanted is not None:
        return _named(series, name, wanted)
    if not candidates:
        reasons = "; ".join(f"{one.label.split(':')[0]}: {one.problem}" for one in series)
        raise InputError(
            f"{name}: expected a CT series, found none that can be screened ({reasons or 'no images'}); "
            "name the folder of the CT series"
        )
    studies = {one.images[0].study_uid for one in candidates}
    if len(studies) > 1:
        raise InputError(
            f"{name}: expected one study, found CT of {len(studies)}; name the folder of one or choose with --series"
        )
    return min(candidates, key=_rank)


def _named(series: list[Series], name: str, wanted: str) -> Series:
    found = [one for one in series if one.uid == wanted] or [
        one for one in series if one.number is not None and str(one.number) == wanted
    ]
    if not found:
        known = ", ".join(str(one.uid if one.number is None else one.number) for one in series) or "none"
        raise InputError(f"{name}: --series {wanted} is not there; found {known}")
    if len(found) > 1:
        uids = ", ".join(one.uid for one in found)
        raise InputError(f"{name}: --series {wanted} names {len(found)} series; give one UID of {uids}")
    if found[0].problem is not None:
        raise InputError(f"{name}: --series {wanted} cannot be screened: {found[0].problem}; choose another")
    return found[0]


def survey(folder: Path, name: str) -> tuple[list[Series], list[NoImage]]:
    """All series of a folder and the files without an image. Raises InputError for an unreadable or damaged slice."""
    try:
        headers, others = read_headers(folder)
    except OSError as error:
        raise InputError(
            f"{name}: {Path(str(error.filename)).name} cannot be read ({error.strerror or error}); "
            "check permissions and links"
        ) from error
    damaged = [other for other in others if other.damaged]
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise InputError(
            f"{name}: {damaged[0].path.name}{more} is a damaged CT slice; copy it again, or remove it if it belongs "
            "to another series"
        )
    return group(headers), others


def log_choice(series: list[Series], others: list[NoImage], chosen: Series, wanted: str | None) -> str | None:
    """Say what was found, left out and taken; returns the one line for the report, None if there was no choice."""
    for one in series:
        if one is not chosen:
            logger.info("%s: left out, %s", one.label, one.problem or "another series was chosen")
    for reason in sorted({other.reason for other in others}):
        logger.info(
            "left out, %s: %s", reason, ", ".join(other.path.name for other in others if other.reason == reason)
        )
    candidates = sum(one.problem is None for one in series)
    why = "asked for by --series" if wanted is not None else f"rule: {RULE}"
    if candidates > 1:
        return f"took {chosen.label}, UID {chosen.uid}, of {candidates} CT series ({why})"
    logger.info("took %s", chosen.label)
    if chosen.plane != "axial":
        return f"took {chosen.label}: no axial series was found"
    return None
