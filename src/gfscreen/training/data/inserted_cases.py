"""Real scans with inserted dev lesions as ordinary cases, for `predict` and `python -m eval`.

    gfscreen insert-lesions --data runs/data/shared.json --cache runs/cache -o runs/inserted --lesions 60

Writes images/X_0000.nii.gz, labels/X.nii.gz on the model grid (inserted and annotated lesions), inserted/X.nii.gz (the
inserted ones alone, so that both can be scored apart) and lesions.json with kind, volume and place of each: two a case,
or with --crowded as many as `train-cells` inserts. In hosts
that nobody annotated, false positives cannot be told from unmarked lesions; lesions.json says which they are.

A gate must not be chosen on the cases that it is reported on: `--hosts training --half choose` gives cases of other
hosts and other dev lesions than `--hosts validation --half report`.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from gfscreen.config import preset_plan
from gfscreen.files import write_atomically
from gfscreen.training.data.cache import Scan, load_scans
from gfscreen.training.data.lists import DataList
from gfscreen.training.data.sampling import LUNG_SHAPES, MIN_HOST_LUNG_ML, load_lesions
from gfscreen.training.objectives import IGNORE
from gfscreen.training.synthesis import lesion_bank as bank
from gfscreen.training.synthesis.insertion import Crop, insert_lung_mass, insert_nodule, insert_soft_lesion
from gfscreen.training.synthesis.tissue import LUNG, SOFT

log = logging.getLogger(__name__)

# More would fill so many sub-volumes with lesions that no gate could leave most of them out.
PER_CASE = 2
REGION = (96, 96, 48)
KINDS = ("nodules", "masses", "soft")
MIN_HOST_ML = 300.0
TRIES = 60


def _insert_one(
    rng: np.random.Generator, crop: Crop, kind: str, nodules: Sequence[bank.Nodule], shapes: Sequence[bank.Shape]
) -> str | None:
    """Insert one lesion of a kind; returns its source's name, or None if it found no place."""
    if kind == "nodules":
        nodule = nodules[int(rng.integers(len(nodules)))]
        return nodule.name if insert_nodule(rng, crop, bank.sample_nodule(rng, nodule, crop.grid_mm)) else None
    chosen = [s for s in shapes if s.source in LUNG_SHAPES] if kind == "masses" else shapes
    shape = chosen[int(rng.integers(len(chosen)))]
    insert = insert_lung_mass if kind == "masses" else insert_soft_lesion
    return shape.name if insert(rng, crop, bank.sample_shape(rng, shape, crop.grid_mm)) else None


Lesions = tuple[Sequence[bank.Nodule], Sequence[bank.Shape]]


@dataclass(frozen=True)
class Filled:
    """A scan with lesions, hu int16 and label uint8 (x, y, z); what was inserted, as lesions.json tells it."""

    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    inserted: list[dict[str, Any]]


# (rng, scan, grid_mm, lesions) -> the scan with some of the lesions.
Fill = Callable[[np.random.Generator, Scan, tuple[float, ...], Lesions], Filled]


def populate(rng: np.random.Generator, scan: Scan, grid_mm: tuple[float, ...], lesions: Lesions) -> Filled:
    """A copy of the whole scan with up to PER_CASE lesions; places that fit none are passed over."""
    hu, label = scan.hu.copy(), scan.label.copy()
    voxel_ml = float(np.prod(grid_mm)) / 1000.0
    soft = (scan.tissue == SOFT) & ~scan.chest
    places = {"lung": np.argwhere(scan.tissue == LUNG), "soft": np.argwhere(soft)}
    has_lung = len(places["lung"]) * voxel_ml >= MIN_HOST_LUNG_ML
    shares = np.array([0.6 * has_lung, 0.2 * has_lung, 0.2 * (len(places["soft"]) * voxel_ml >= MIN_HOST_ML)])
    found: list[dict[str, Any]] = []
    for _ in range(TRIES if shares.sum() else 0):
        if len(found) == PER_CASE:
            break
        kind = str(rng.choice(KINDS, p=shares / shares.sum()))
        points = places["soft" if kind == "soft" else "lung"]
        centre = points[int(rng.integers(len(points)))]
        low = np.clip(centre - np.array(REGION) // 2, 0, None)
        part = tuple(slice(int(a), int(a) + n) for a, n in zip(low, REGION, strict=True))
        # Views: what is inserted into the piece is inserted into the scan.
        piece = Crop(hu[part], label[part], scan.tissue[part], grid_mm)
        before = piece.label == 1
        source = _insert_one(rng, piece, kind, *lesions)
        if source is not None:
            new = (piece.label == 1) & ~before
            middle = (np.argwhere(new).mean(axis=0) + low).round(1).tolist()
            volume = round(float(new.sum()) * voxel_ml, 4)
            found.append({"kind": kind, "source": source, "volume_ml": volume, "centre_voxel": middle})
    return Filled(hu, label, found)


def half_of(patient: str) -> str:
    """`choose` or `report`: dev lesions are halved by the hash of their patient."""
    return ("choose", "report")[int(hashlib.sha256(f"half of {patient}".encode()).hexdigest(), 16) % 2]


def write_cases(
    data: DataList,
    cache: Path,
    target: Path,
    lesions: int,
    seed: int,
    hosts: str = "validation",
    half: str = "all",
    fill: Fill = populate,
) -> int:
    """Write cases until there are at least `lesions` inserted lesions; returns how many there are.

    hosts: side of the list whose scans take the lesions. half: `choose`, `report` or `all` of the dev lesions.
    """
    plan = preset_plan("fast")
    scans = load_scans(data.validation if hosts == "validation" else data.training, data, plan, cache)
    nodules, shapes = load_lesions(data, dev=True)
    banks = (
        [n for n in nodules if half in ("all", half_of(n.patient))],
        [s for s in shapes if half in ("all", half_of(s.patient))],
    )
    for folder in ("images", "labels", "inserted"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    affine = np.diag([*plan.spacing_mm, 1.0])
    record: dict[str, Any] = {}
    total, turn = 0, 0
    while total < lesions and turn < 20 * len(scans):
        scan = scans[turn % len(scans)]
        filled = fill(np.random.default_rng([seed, turn]), scan, plan.spacing_mm, banks)
        turn += 1
        if not filled.inserted:
            continue
        name = f"inserted_{len(record):03d}"
        label = np.where(filled.label == IGNORE, 0, filled.label).astype(np.uint8)
        nib.save(nib.Nifti1Image(filled.hu, affine), target / "images" / f"{name}_0000.nii.gz")
        nib.save(nib.Nifti1Image(label, affine), target / "labels" / f"{name}.nii.gz")
        inserted = ((filled.label == 1) & (scan.label != 1)).astype(np.uint8)
        nib.save(nib.Nifti1Image(inserted, affine), target / "inserted" / f"{name}.nii.gz")
        record[name] = {"host": scan.name, "annotated": scan.annotated, "lesions": filled.inserted}
        total += len(filled.inserted)
        log.info("%s: %d lesions in %s, %d in all", name, len(filled.inserted), scan.name, total)
    write_atomically(target / "lesions.json", (json.dumps(record, indent=1) + "\n").encode())
    return total
