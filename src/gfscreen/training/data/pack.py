"""A training list made small, to take to a machine with a GPU: `gfscreen pack`.

Each scan is brought onto the model grid, cropped to the body and written as NIfTI with its label; what lies outside the
body is air, so that it compresses. The result is a list like any other (`list.json`), read by the same code, whose
files lie in folders `part1`, `part2`, ... of a bounded size, for carriers that take no more at once.
"""

from __future__ import annotations

import gzip
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.config import Plan
from gfscreen.errors import InputError, OutputError
from gfscreen.files import write_atomically
from gfscreen.training.data.cache import Scan, load_scan
from gfscreen.training.data.lists import DataList, Entry

log = logging.getLogger(__name__)

LIST_FILE = "list.json"
AIR_HU = -1024
# Nothing above is told apart by any HU window, and the skin keeps some air around it.
HIGHEST_HU = 1500
MARGIN_VOXELS = 3


class _Parts:
    """Hands out the folder that the next files go to: a new one when they would not fit into the present one."""

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit, self._used, self._number = folder, limit_bytes, 0, 1

    def for_bytes(self, size: int) -> Path:
        """Folder for files of this size together. Raises OutputError if no part could hold them."""
        if size > self._limit:
            raise OutputError(
                f"{self._folder}: {size / 1e6:.1f} MB belong together, a part holds {self._limit / 1e6:.1f}; "
                "raise --part-mb"
            )
        if self._used + size > self._limit:
            self._number, self._used = self._number + 1, 0
        self._used += size
        return self._folder / f"part{self._number}"


def pack(data: DataList, plan: Plan, cache: Path, folder: Path, part_bytes: int) -> Path:
    """Write the packed list and its files into `folder`, which must be new or empty; returns the list's path.

    Sizes, sides, weights and lesions to insert stay as they are. Raises InputError for a scan that cannot be read or
    two of one name, OutputError for a folder in use or a part that is too small.
    """
    names = [entry.name for entry in (*data.training, *data.validation)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"{twice[0]}: is the name of two scans in the list; rename one of the files")
    if folder.exists() and any(folder.iterdir()):
        raise OutputError(f"{folder}: is not empty; name a new folder")
    parts = _Parts(folder, part_bytes)
    result: dict[str, Any] = {
        "name": data.name,
        # Labels are 0 and 1 from here on.
        "lesion_values": [1],
        "keep_in_training": list(data.keep_in_training),
        "dev_percent": data.dev_percent,
    }
    for key, source in (("nodules", data.nodules), ("shapes", data.shapes)):
        if source is not None:
            target = parts.for_bytes(sum(f.stat().st_size for f in source.rglob("*") if f.is_file())) / key
            shutil.copytree(source, target)
            result[key] = str(target.relative_to(folder))
    for side in ("training", "validation"):
        result[side] = []
        for entry in getattr(data, side):
            scan = load_scan(entry, plan, cache, data.label_values)
            result[side].append(_write(entry, scan, plan, parts, folder))
            log.info("%s: %s", side, entry.name)
    # The list comes last: where it lies, the files are whole.
    write_atomically(folder / LIST_FILE, (json.dumps(result, indent=2) + "\n").encode())
    return folder / LIST_FILE


def _write(entry: Entry, scan: Scan, plan: Plan, parts: _Parts, folder: Path) -> dict[str, Any]:
    """Write one scan's files; returns its entry in the list, with paths relative to `folder`."""
    near = ndimage.binary_dilation(scan.body, iterations=MARGIN_VOXELS)
    # An annotation is kept even where the body mask leaves it out.
    near |= scan.label == 1
    (box,) = ndimage.find_objects(near.astype(np.uint8)) or [(slice(None),) * 3]
    hu = np.where(near, np.clip(scan.hu, AIR_HU, HIGHEST_HU), AIR_HU).astype(np.int16)
    files = {"image": (f"{scan.name}_0000.nii.gz", compressed_nifti(hu[box], plan.spacing_mm))}
    if scan.annotated:
        files["label"] = (f"{scan.name}.nii.gz", compressed_nifti(scan.label[box], plan.spacing_mm))
    if scan.loose is not None:
        files["loose_label"] = (f"{scan.name}_loose.nii.gz", compressed_nifti(scan.loose[box], plan.spacing_mm))
    part = parts.for_bytes(sum(len(content) for _, content in files.values()))
    part.mkdir(parents=True, exist_ok=True)
    item: dict[str, Any] = {"label": None, "patient": entry.patient, "weight": entry.weight}
    if entry.lesion_free:
        item["lesion_free"] = True
    if entry.phantom:
        item["phantom"] = True
    for key, (name, content) in files.items():
        write_atomically(part / name, content)
        item[key] = str((part / name).relative_to(folder))
    return item


def compressed_nifti(array: NDArray[np.generic], spacing_mm: tuple[float, ...]) -> bytes:
    """A `.nii.gz` of an array in RAS order, the same bytes each time."""
    return compressed(nib.Nifti1Image(array, np.diag([*spacing_mm, 1.0])))


def compressed(image: nib.Nifti1Image) -> bytes:
    """A `.nii.gz` of an image, the same bytes each time."""
    return gzip.compress(image.to_bytes(), compresslevel=9, mtime=0)
