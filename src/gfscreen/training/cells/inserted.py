"""A whole scan with several lesions put in, for the cells of a Glance to learn from; drawn anew from every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.screening.findings import TOUCHING
from gfscreen.training.data.cache import Scan
from gfscreen.training.data.inserted_cases import MIN_HOST_ML, REGION, Filled, Lesions
from gfscreen.training.data.sampling import MIN_HOST_LUNG_ML, Grown, grown_kinds
from gfscreen.training.synthesis import lesion_bank as bank
from gfscreen.training.synthesis.insertion import FAT_HU, Crop, insert_nodule
from gfscreen.training.synthesis.tissue import LUNG, SOFT

REAL = "real"
# How many of each kind a scan gets; a third of them, at least one, where there is less body than SMALL_BODY_ML.
COUNTS = {"nodules": 8, "masses": 2, "leaning": 2, "soft": 4, "nodes": 2}
SMALL_BODY_ML = 8000.0
TRIES_EACH = 4
PLACE = {"nodules": "lung", "masses": "lung", "leaning": "lung", "soft": "soft", "nodes": "fat"}


@dataclass(frozen=True)
class Bank:
    """Lesions to insert, of the training side."""

    nodules: Sequence[bank.Nodule] = ()
    shapes: Sequence[bank.Shape] = ()

    @cached_property
    def grown(self) -> dict[str, Grown]:
        """Shapes and insertion of each kind that is grown, sorted out once for all scans."""
        return grown_kinds(self.shapes)

    @property
    def names(self) -> list[str]:
        """What identifies the bank."""
        return [nodule.name for nodule in self.nodules] + [shape.name for shape in self.shapes]


@dataclass(frozen=True)
class Populated:
    """A scan and its lesions, (x, y, z) on the model grid.

    hu int16, label uint8 (0, 1, IGNORE). lesions: int32, number of the lesion that each voxel belongs to, from 1, 0 for
    none. kinds, ml: of lesion 1 and following: `real` for the scan's own, else the kind of insertion; volume in ml.
    """

    hu: NDArray[np.int16]
    label: NDArray[np.uint8]
    lesions: NDArray[np.int32]
    kinds: tuple[str, ...]
    ml: tuple[float, ...]


def as_it_is(scan: Scan, grid_mm: tuple[float, ...]) -> Populated:
    """The scan with its own lesions alone: the connected parts, by 26 neighbours, of its label."""
    lesions, count = ndimage.label(scan.label == 1, TOUCHING, output=np.int32)
    ml = np.bincount(lesions[lesions > 0], minlength=count + 1)[1:] * _voxel_ml(grid_mm)
    return Populated(scan.hu, scan.label, lesions, (REAL,) * count, tuple(float(v) for v in ml))


def populate(rng: np.random.Generator, scan: Scan, grid_mm: tuple[float, ...], lesions: Bank) -> Populated:
    """A copy of the scan with lesions of all kinds that it has room for and the bank can give, besides its own."""
    own = as_it_is(scan, grid_mm)
    hu, label, numbers = own.hu.copy(), own.label.copy(), own.lesions.copy()
    kinds, ml = list(own.kinds), list(own.ml)
    points = _points(scan, grid_mm)
    small = float(scan.body.sum()) * _voxel_ml(grid_mm) < SMALL_BODY_ML
    for kind, count in COUNTS.items():
        wanted = max(1, count // 3) if small else count
        places = points[PLACE[kind]]
        done = 0
        for _ in range(wanted * TRIES_EACH if places.size else 0):
            if done == wanted:
                break
            centre = np.array(np.unravel_index(int(places[rng.integers(len(places))]), hu.shape))
            low = np.clip(centre - np.array(REGION) // 2, 0, None)
            part = tuple(slice(int(a), int(a) + n) for a, n in zip(low, REGION, strict=True))
            # Views: what is inserted into the piece is inserted into the scan.
            piece = Crop(hu[part], label[part], scan.tissue[part], grid_mm)
            before = piece.label == 1
            if not _insert_one(rng, piece, kind, lesions):
                continue
            new = (piece.label == 1) & ~before
            if new.any():
                done += 1
                kinds.append(kind)
                ml.append(float(new.sum()) * _voxel_ml(grid_mm))
                numbers[part][new] = len(kinds)
    return Populated(hu, label, numbers, tuple(kinds), tuple(ml))


def crowded(rng: np.random.Generator, scan: Scan, grid_mm: tuple[float, ...], lesions: Lesions) -> Filled:
    """`populate` as `inserted_cases.write_cases` asks for it: many lesions of all kinds in one case."""
    filled = populate(rng, scan, grid_mm, Bank(*lesions))
    boxes = ndimage.find_objects(filled.lesions)
    inserted = [
        {"kind": kind, "volume_ml": round(ml, 4), "centre_voxel": [(part.start + part.stop - 1) / 2 for part in box]}
        for kind, ml, box in zip(filled.kinds, filled.ml, boxes, strict=True)
        if kind != REAL
    ]
    return Filled(filled.hu, filled.label, inserted)


def _points(scan: Scan, grid_mm: tuple[float, ...]) -> dict[str, NDArray[np.intp]]:
    """Voxels (flat) to place lesions around; none where a scan has too little of a tissue."""
    masks = {
        "lung": (scan.tissue == LUNG, MIN_HOST_LUNG_ML),
        "soft": ((scan.tissue == SOFT) & ~scan.chest, MIN_HOST_ML),
        "fat": (scan.body & (scan.hu > FAT_HU[0]) & (scan.hu < FAT_HU[1]), MIN_HOST_ML),
    }
    found = {place: (np.flatnonzero(mask), least_ml / _voxel_ml(grid_mm)) for place, (mask, least_ml) in masks.items()}
    return {place: flat if flat.size >= least else flat[:0] for place, (flat, least) in found.items()}


def _voxel_ml(grid_mm: tuple[float, ...]) -> float:
    return float(np.prod(grid_mm)) / 1000.0


def _insert_one(rng: np.random.Generator, piece: Crop, kind: str, lesions: Bank) -> bool:
    """Insert one lesion of a kind; False if it found no place or the bank has none."""
    if kind == "nodules":
        if not lesions.nodules:
            return False
        nodule = lesions.nodules[int(rng.integers(len(lesions.nodules)))]
        return insert_nodule(rng, piece, bank.sample_nodule(rng, nodule, piece.grid_mm)) is not None
    shapes, insert = lesions.grown[kind]
    if not shapes:
        return False
    shape = shapes[int(rng.integers(len(shapes)))]
    return insert(rng, piece, bank.sample_shape(rng, shape, piece.grid_mm)) is not None
