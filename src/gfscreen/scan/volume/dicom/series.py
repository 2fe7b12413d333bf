"""The series of a DICOM study: which images belong together, what is no CT of a patient, and what is there twice."""

from __future__ import annotations

from collections import Counter, defaultdict
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
from gfscreen.scan.volume.dicom.pixels import unread_syntax

# Values of Image Type that mark pictures whose grey values are no HU of one place.
_PROJECTIONS = {"MIP", "MINIP", "PROJECTION IMAGE", "VOLREN", "VRT"}
# Rescale Types of Hounsfield units; US is «unspecified».
_HU_TYPES = {"", "HU", "US", "HOUNSFIELD", "HOUNSFIELD UNITS"}
# Fewer single slices are monitoring images rather than a series that lost its UID.
_FEWEST_JOINED = 3
_NAMED = 3
_PLANES = ("sagittal", "coronal", "axial")
_PLANE_COSINE = 0.9


@dataclass(frozen=True)
class Series:
    """Images of one Series Instance UID. `problem`: why it cannot be screened; None for a candidate.

    passed_over: what was left out of it, as counts for a person. notes: what was odd about it.
    """

    uid: str
    images: tuple[Header, ...]
    problem: str | None = None
    passed_over: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

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
    if image.rescale_type not in _HU_TYPES:
        return f"Rescale Type {image.rescale_type}, not HU"
    if syntax := unread_syntax(image.transfer_syntax):
        return f"transfer syntax {syntax}, which is not read; export it uncompressed or as JPEG 2000"
    if image.orientation is None or image.position_lps_mm is None or image.pixel_mm is None:
        return "no position, orientation or pixel spacing"
    return None


def group(headers: list[Header]) -> list[Series]:
    """Series by number, then UID. Localizers and the like within a CT series are dropped from it, and counted.

    Images of one series and UID at different positions are different images, whatever their UID says. Series of one
    slice each that are alike in all but their UID, as an anonymiser leaves them, are one.
    """
    by_uid: dict[str, list[Header]] = defaultdict(list)
    for header in headers:
        by_uid[header.series_uid].append(header)
    series = []
    for uid, images in by_uid.items():
        good = [image for image in images if _problem_of(image) is None]
        if good:
            others = Counter(_problem_of(image) for image in images)
            others.pop(None)
            passed = tuple(f"{count} of series {good[0].series_number}: {why}" for why, count in sorted(others.items()))
            series.append(Series(uid, tuple(good), passed_over=passed, notes=_shared_uids(good)))
        else:
            problems = Counter(_problem_of(image) for image in images)
            series.append(Series(uid, tuple(images), problems.most_common(1)[0][0]))
    return sorted(_joined(series), key=lambda one: (one.number is None, one.number or 0, one.uid))


def _shared_uids(images: list[Header]) -> tuple[str, ...]:
    """A word if images at different positions share a SOP Instance UID."""
    places: dict[str, set[bytes]] = defaultdict(set)
    for image in images:
        assert image.position_lps_mm is not None
        places[image.sop_uid].add(np.round(image.position_lps_mm, 3).tobytes())
    shared = sum(len(found) - 1 for uid, found in places.items() if uid)
    if not shared:
        return ()
    return (f"{shared} slices have the SOP Instance UID of another slice; they are told apart by their positions",)


def _joined(series: list[Series]) -> list[Series]:
    """Candidates of one slice each that are alike in all but UID and position become one series."""
    alike: dict[tuple[object, ...], list[Series]] = defaultdict(list)
    for one in series:
        if one.problem is None and len(one.images) == 1:
            image = one.images[0]
            assert image.orientation is not None
            frame = (image.study_uid, image.frame_uid, image.series_number, image.description, image.image_type)
            size = (image.columns, image.rows, image.pixel_mm, np.round(image.orientation, 3).tobytes())
            alike[frame + size].append(one)
    result = list(series)
    for parts in alike.values():
        if len(parts) < _FEWEST_JOINED:
            continue
        note = f"{len(parts)} series of one slice each, alike in all but their UID, are taken as one"
        images = tuple(image for part in parts for image in part.images)
        result = [one for one in result if one not in parts]
        result.append(Series(min(part.uid for part in parts), images, notes=(note, *_shared_uids(list(images)))))
    return result


def survey(folder: Path, name: str) -> tuple[list[Series], list[NoImage]]:
    """All series of a folder and the files without an image. Raises InputError for what may be a slice and is lost."""
    try:
        headers, others = read_headers(folder)
    except OSError as error:
        raise InputError(
            f"{name}: {Path(str(error.filename)).name} cannot be read ({error.strerror or error}); "
            "check permissions and links"
        ) from error
    if lost := [other for other in others if other.lost]:
        reasons = Counter(other.reason for other in lost)
        told = "; ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        names = ", ".join(other.path.name for other in lost[:_NAMED])
        more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
        raise InputError(
            f"{name}: {names}{more} may be slices that were lost ({told}); copy them again, or remove what belongs to "
            "no series"
        )
    return group(headers), others
