"""Which scans an input names, and what their masks are called."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path

from gfscreen.errors import UsageError
from gfscreen.scan.volume.dicom.source import ZIP_SUFFIX, holds_dicom

logger = logging.getLogger(__name__)

SUFFIXES = (".nii.gz", ".nii", ".mha", ".nrrd")
CHANNEL_SUFFIX = "_0000"
MASK_SUFFIX = ".nii.gz"


@dataclass(frozen=True)
class Case:
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
    suffix = volume_suffix(path) or (ZIP_SUFFIX if _is_zip(path) else None)
    stem = path.name[: -len(suffix)] if suffix else path.name
    if stem.endswith(CHANNEL_SUFFIX) and stem != CHANNEL_SUFFIX:
        stem = stem[: -len(CHANNEL_SUFFIX)]
    return stem or "case"


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ZIP_SUFFIX and not path.is_dir()


def _holds_dicom(folder: Path) -> bool:
    try:
        return holds_dicom(folder)
    except OSError as error:
        raise UsageError(
            f"{folder}: {error.filename} cannot be read ({error.strerror}); check permissions and links"
        ) from error


def find_cases(source: Path) -> list[Case]:
    """The cases of a file, a folder of volumes, a folder or zip of one DICOM study, or a folder of such zips.

    Sorted by name. A folder of volumes holds nothing else: DICOM files and zips beside them are left out.
    Two inputs whose masks would share a name: the first is taken, the others carry a `problem`.
    Raises UsageError if there is nothing to screen.
    """
    if not source.exists():
        raise UsageError(f"{source}: no such file or folder; -i takes a scan, a folder of scans, a DICOM folder or zip")
    if source.is_file() or volume_suffix(source) is not None:
        if volume_suffix(source) is None and not _is_zip(source):
            raise UsageError(f"{source}: expected one of {', '.join(SUFFIXES)}, {ZIP_SUFFIX} (DICOM), or a folder")
        return [Case(case_name(source), source)]
    try:
        entries = sorted(source.iterdir())
    except OSError as error:
        raise UsageError(f"{source}: cannot be listed ({error.strerror}); check its permissions") from error
    volumes = [path for path in entries if volume_suffix(path) is not None and not path.name.startswith(".")]
    if not volumes:
        if _holds_dicom(source):
            # Named as the user names it: a link keeps its own name; `.` has none of its own.
            return [Case(case_name(Path(os.path.abspath(source))), source)]  # noqa: PTH100
        zips = [path for path in entries if _is_zip(path) and not path.name.startswith(".")]
        if zips:
            return _without_collisions(zips)
        found = f"{len(entries)} other entries" if entries else "nothing"
        raise UsageError(f"{source}: expected scans ({', '.join(SUFFIXES)}) or DICOM files, found {found}")
    for path in entries:
        if path not in volumes:
            logger.info("%s is not a scan and is left out", path.name)
    return _without_collisions(volumes)


def _without_collisions(volumes: list[Path]) -> list[Case]:
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
        cases.append(Case(name, path, problem))
    return cases
