"""Which scans an input names, and what their masks are called."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gfscreen.errors import UsageError
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX, head_of, holds_dicom, is_dicom

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
CHANNEL_SUFFIX = "_0000"
MASK_SUFFIX = ".nii.gz"
DICOM_SUFFIX = ".dcm"
_NAMED = 3


@dataclass(frozen=True)
class InputCase:
    """One scan to screen. `problem` is set for an input that is refused before it is read."""

    name: str
    path: Path
    problem: str | None = None

    @property
    def mask_name(self) -> str:
        """File name of the mask: the challenge's `X_0000.nii.gz` gives `X.nii.gz`."""
        return self.name + MASK_SUFFIX


def volume_suffix(path: Path) -> str | None:
    """The volume suffix of a path, lower case, or None."""
    lower = path.name.lower()
    return next((suffix for suffix in SUFFIXES if lower.endswith(suffix)), None)


def case_name(path: Path) -> str:
    """Name of the case: without suffix and without the channel's `_0000`."""
    suffix = volume_suffix(path) or (ZIP_SUFFIX if is_zip(path) else None)
    stem = path.name[: -len(suffix)] if suffix else path.name
    if stem.endswith(CHANNEL_SUFFIX) and stem != CHANNEL_SUFFIX:
        stem = stem[: -len(CHANNEL_SUFFIX)]
    return stem or "case"


def is_zip(path: Path) -> bool:
    """Whether a path is a file with the suffix of a zip."""
    return path.suffix.lower() == ZIP_SUFFIX and not path.is_dir()


def _holds_dicom(folder: Path) -> bool:
    try:
        return holds_dicom(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.filename} cannot be read ({error.strerror}); check permissions and links"
        ) from error


def find_cases(source: Path, results: Iterable[Path] = ()) -> list[InputCase]:
    """The cases of a file, a folder of volumes, a folder or zip of one DICOM study, or a folder of such studies.

    Sorted by name. A folder of volumes holds nothing else: DICOM files, folders and zips beside them are left out, as
    is a volume `X` beside `X_0000`, which is its mask. A folder of DICOM is one study, or a cohort (`dicom.cohort`).
    Two inputs whose masks would share a name: the first is taken, the others carry a `problem`.
    results: folders that the run writes to, which are no input wherever they lie.
    Raises UsageError if there is nothing to screen.
    """
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder; -i takes a scan, a folder of scans, a DICOM folder or zip")
    if source.is_file() or volume_suffix(source) is not None:
        if volume_suffix(source) is None and not is_zip(source):
            if _is_slice(source):
                raise UsageError(f"{source}: is one DICOM file, a slice of a series; give its folder: {source.parent}")
            raise UsageError(f"{source}: expected one of {', '.join(SUFFIXES)}, {ZIP_SUFFIX} (DICOM), or a folder")
        return [InputCase(case_name(source), source)]
    try:
        entries = sorted(source.iterdir())
    except OSError as error:
        raise UsageError(f"{source}: cannot be listed ({error.strerror}); check its permissions") from error
    written = {os.path.realpath(path) for path in results}  # a link to itself is no fault here
    shown = [path for path in entries if not path.name.startswith(".") and os.path.realpath(path) not in written]
    volumes = [path for path in shown if volume_suffix(path) is not None]
    if not volumes:
        return _dicom_cases(source, shown, len(entries))
    masks = masks_among(volumes)
    if masks:
        logger.warning(
            "%d without %s beside a scan of that name: taken for its mask and left out (%s)",
            len(masks), CHANNEL_SUFFIX, _some(masks),
        )  # fmt: skip
    if studies := [path for path in shown if path not in volumes and (path.is_dir() or is_zip(path))]:
        logger.warning(
            "%d folders and zips beside scans are left out (%s); give DICOM studies a folder of their own",
            len(studies), _some(studies),
        )  # fmt: skip
    for path in entries:
        if path not in volumes and path not in studies:
            logger.info("%s is not a scan and is left out", path.name)
    return _without_collisions([path for path in volumes if path not in masks])


def _dicom_cases(source: Path, shown: list[Path], found: int) -> list[InputCase]:
    """The cases of a folder without volumes: a cohort, one study, or zips. shown: its entries that may be input."""
    from gfscreen.scan.volume.dicom.cohort import members

    try:
        studies = members(shown)
    except OSError:
        studies = None  # the search for one study says what cannot be read
    if studies is None and _holds_dicom(source):
        # Named as the user names it: a link keeps its own name; `.` has none of its own.
        return [InputCase(case_name(Path(os.path.abspath(source))), source)]  # noqa: PTH100
    studies = studies or [path for path in shown if is_zip(path)]
    if not studies:
        what = f"{found} other entries" if found else "nothing"
        raise UsageError(f"{source}: expected scans ({', '.join(SUFFIXES)}) or DICOM files, found {what}")
    for path in shown:
        if path not in studies:
            logger.log(logging.WARNING if path.is_dir() else logging.INFO, "%s is no study and is left out", path.name)
    return _without_collisions(studies)


def _is_slice(path: Path) -> bool:
    try:
        return path.suffix.lower() == DICOM_SUFFIX or is_dicom(head_of(path))
    except OSError:
        return False


def masks_among(volumes: list[Path]) -> list[Path]:
    """Volumes `X` beside an `X_0000`, whatever their suffixes."""
    bare = {path: path.name[: -len(volume_suffix(path) or "")] for path in volumes}
    scans = {case_name(path) for path, stem in bare.items() if stem != case_name(path)}
    return [path for path, stem in bare.items() if stem in scans and stem == case_name(path)]


def _some(paths: list[Path]) -> str:
    names = ", ".join(path.name for path in paths[:_NAMED])
    return names if len(paths) <= _NAMED else f"{names} and {len(paths) - _NAMED} more"


def _without_collisions(volumes: list[Path]) -> list[InputCase]:
    owners: dict[str, Path] = {}
    cases = []
    for path in volumes:
        name = case_name(path)
        problem = None
        if name in owners:
            problem = (
                f"{path.name}: its mask would be named {name}{MASK_SUFFIX}, as that of {owners[name].name}; "
                "rename one of them"
            )
        else:
            owners[name] = path
        cases.append(InputCase(name, path, problem))
    return cases
