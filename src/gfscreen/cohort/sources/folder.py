"""A folder tree as a cohort: every volume file, every zip, and every folder that directly holds DICOM files."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from gfscreen.cohort.sources.items import Item, safe_name, told_apart
from gfscreen.errors import UsageError
from gfscreen.scan.volume.dicom.cohort import DIRECTORY_FILE
from gfscreen.scan.volume.dicom.source import head_of, is_dicom
from gfscreen.scan.volume.inputs import case_name, is_zip, masks_among, volume_suffix

logger = logging.getLogger(__name__)

# What joins the folders of a path to a name.
JOINT = "__"


class FolderSource:
    """The items of a folder tree, in the order of their paths.

    root: a folder. results: folders that the run writes to, which are no input. Names are the parts of the path below
    `root`, joined by `__`: of a flat folder those that `predict` gives. A volume `X` beside `X_0000` is its mask and is
    left out. Of a folder with DICOM one series is taken, by the rule of `predict`; subfolders are items of their own.
    Hidden files and folders are passed over, links to folders not followed.
    """

    def __init__(self, root: Path, results: Sequence[Path] = ()) -> None:
        self._root = root
        self._results = {os.path.realpath(path) for path in results}

    def __iter__(self) -> Iterator[Item]:
        """The items. Raises UsageError if the folder cannot be listed."""
        return told_apart(self._found())

    def _found(self) -> Iterator[Item]:
        if not self._root.is_dir():
            raise UsageError(f"{self._root}: no such folder; -i takes a folder, a CSV manifest or dicomweb+http://...")
        for place, folders, files in os.walk(self._root, onerror=self._refuse):
            here = Path(place)
            folders[:] = sorted(
                name
                for name in folders
                if not name.startswith(".") and os.path.realpath(here / name) not in self._results
            )
            yield from self._of_folder(here, sorted(name for name in files if not name.startswith(".")))

    def _refuse(self, error: OSError) -> None:
        path = Path(str(error.filename))
        if path == self._root:
            raise UsageError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
        logger.error("%s: cannot be listed (%s) and is left out; check its permissions", path, error.strerror)

    def _of_folder(self, folder: Path, names: list[str]) -> Iterator[Item]:
        paths = [folder / name for name in names]
        volumes = [path for path in paths if volume_suffix(path) is not None]
        masks = set(masks_among(volumes))
        for path in paths:
            if (volume_suffix(path) is not None and path not in masks) or is_zip(path):
                yield Item(self._name(folder, case_name(path)), str(path))
        if not volumes and any(self._is_slice(path) for path in paths if not is_zip(path)):
            yield Item(
                self._name(folder.parent, folder.name) if folder != self._root else self._own_name(), str(folder)
            )

    @staticmethod
    def _is_slice(path: Path) -> bool:
        try:
            return path.name.upper() != DIRECTORY_FILE and is_dicom(head_of(path))
        except OSError:
            return path.suffix.lower() == ".dcm"  # the reading of the item says what is wrong

    def _name(self, folder: Path, stem: str) -> str:
        return safe_name(JOINT.join((*folder.relative_to(self._root).parts, stem)))

    def _own_name(self) -> str:
        return safe_name(Path(os.path.abspath(self._root)).name)  # noqa: PTH100 - a link keeps its name
