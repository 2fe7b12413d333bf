"""Scans on the model grid: brought there once, by the same code as inference, and kept as uncompressed `.npz`."""

from __future__ import annotations

import hashlib
import io
import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.errors import InputError
from gfscreen.files import write_atomically
from gfscreen.scan.grid import sample_to_grid, to_model
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.ras import ras_view
from gfscreen.training.data.lists import ONE_IS_LESION, DataList, Entry, LabelValues
from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis.tissue import tissue_map

log = logging.getLogger(__name__)

CACHE_FORMAT = 3


@dataclass(frozen=True)
class Scan:
    """A scan on the model grid, (x, y, z): hu int16, label uint8 (0, 1, IGNORE), tissue uint8, body bool.

    chest: bool (z,). loose: the wider outline if there is one. lesions: model voxels of lesion (n, 3), int16.
    annotated: of most of the scan it is known where there is no lesion. hot: voxels (n, 3), int16, without lesion, in
    cells that a Glance finds suspicious all the same (learning/judged_scans.py); None if none was asked. marked: the
    same of voxels that another Focus marks (learning/marked_places.py). phantom: its lesions are drawn, no patient's.
    """

    name: str
    patient: str
    annotated: bool
    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    tissue: NDArray[np.uint8]
    body: NDArray[np.bool_]
    chest: NDArray[np.bool_]
    loose: NDArray[np.uint8] | None
    lesions: NDArray[np.int16]
    weight: float = 1.0
    hot: NDArray[np.int16] | None = None
    marked: NDArray[np.int16] | None = None
    phantom: bool = False


def _read_label(path: Path, volume: Volume, meaning: LabelValues) -> NDArray[np.uint8]:
    values = np.asarray(np.asanyarray(nib.load(path).dataobj))
    unknown = sorted(set(np.unique(values).tolist()) - meaning.known)
    if unknown:
        raise InputError(
            f"{path}: label value {unknown[0]:g} is unknown; known are {', '.join(map(str, sorted(meaning.known)))} "
            "(lesion_values, other_values and ignore_values of the list)"
        )
    label = np.isin(values, meaning.lesion).astype(np.uint8)
    label[np.isin(values, meaning.ignore)] = IGNORE
    return np.asarray(ras_view(label, volume))


def prepare_scan(entry: Entry, plan: Plan, meaning: LabelValues = ONE_IS_LESION) -> Scan:
    """Read a scan and its label and bring both onto the model grid, as inference does. Raises InputError."""
    volume = read_volume(entry.image)
    scan = to_model(volume, plan)
    if entry.label is None:
        label = np.full(scan.hu.shape, IGNORE, dtype=np.uint8)
    else:
        native = _read_label(entry.label, volume, meaning)
        label = sample_to_grid(native, scan.grid, nearest=True).astype(np.uint8)
    loose = None
    if entry.loose_label is not None:
        native = _read_label(entry.loose_label, volume, meaning)
        loose = sample_to_grid(native, scan.grid, nearest=True).astype(np.uint8)
    # Whole HU are enough here and halve the memory.
    hu = np.rint(scan.hu).astype(np.int16)
    tissue = tissue_map(hu, scan.body, plan.spacing_mm)
    lesions = np.argwhere(label == 1).astype(np.int16)
    return Scan(
        entry.name, entry.patient, entry.label is not None, np.ascontiguousarray(hu), label, tissue,
        np.ascontiguousarray(scan.body), scan.chest, loose, lesions, entry.weight,
        phantom=entry.phantom,
    )  # fmt: skip


def cache_key(entry: Entry, plan: Plan, meaning: LabelValues) -> str:
    """What a prepared scan depends on, as 16 hexadecimal digits: its files, the plan's grid, and the label's values."""
    files = [
        (p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in (entry.image, entry.label, entry.loose_label) if p
    ]
    known = [
        CACHE_FORMAT,
        files,
        entry.patient,
        plan.spacing_mm,
        plan.foreground,
        asdict(plan.hu_windows),
        asdict(meaning),
    ]
    return hashlib.sha256(json.dumps(known).encode()).hexdigest()[:16]


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays by name as an uncompressed `.npz`, which appears whole."""
    stream = io.BytesIO()
    np.savez(stream, **arrays)  # type: ignore[arg-type]  # numpy's stub takes allow_pickle for an array
    write_atomically(path, stream.getvalue())


def load_scan(entry: Entry, plan: Plan, cache: Path, meaning: LabelValues = ONE_IS_LESION) -> Scan:
    """The scan from the cache, prepared and cached first if it or its files are new. Raises InputError."""
    path = cache / f"{entry.name}-{cache_key(entry, plan, meaning)}.npz"
    if not path.is_file():
        log.info("preparing %s", entry.name)
        scan = prepare_scan(entry, plan, meaning)
        names = ("hu", "label", "tissue", "body", "chest")
        arrays: dict[str, NDArray[Any]] = {name: getattr(scan, name) for name in names}
        if scan.loose is not None:
            arrays["loose"] = scan.loose
        cache.mkdir(parents=True, exist_ok=True)
        write_arrays(path, arrays)
        return scan
    with np.load(path, allow_pickle=False) as data:
        label = data["label"]
        return Scan(
            entry.name, entry.patient, entry.label is not None, data["hu"], label, data["tissue"], data["body"],
            data["chest"], data.get("loose"), np.argwhere(label == 1).astype(np.int16),
            entry.weight, phantom=entry.phantom,
        )  # fmt: skip


def load_scans(entries: tuple[Entry, ...], data: DataList, plan: Plan, cache: Path) -> list[Scan]:
    """All scans of one side of a list, on the model grid; one that is vouched for is known to hold no lesion."""
    scans = [load_scan(entry, plan, cache, data.label_values) for entry in entries]
    return [
        replace(scan, annotated=True, label=np.zeros_like(scan.label)) if entry.lesion_free else scan
        for entry, scan in zip(entries, scans, strict=True)
    ]
