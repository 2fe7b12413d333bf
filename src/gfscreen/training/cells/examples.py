"""Which cells of a scan a head learns from, and as what.

A cell is an example of lesion if at least a quarter of it is lesion, or if it holds 30 % of a lesion: so every lesion,
however small, has a cell. It is an example of no lesion if it has body, no voxel of it is lesion or unknown (IGNORE),
and neither has any of its 26 neighbours a lesion voxel. What lies between is no example, but for the ring: cells
without lesion beside one that has some, which teach where a lesion ends. Of a scan that nobody annotated all that has
body is unknown; such scans show what annotated ones do not, so a head takes their cells for no lesion, but for those
that it finds suspicious itself (learn.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.screening.cells import REGION_CHANNEL, CellMap, body_share
from gfscreen.training.objectives import IGNORE

NONE, NEGATIVE, POSITIVE, WEAK, RING, UNKNOWN = -1, 0, 1, 2, 3, 4
"""Kinds of cell. WEAK: negative because the list's maker vouches for the scan, which nobody annotated. UNKNOWN: of a
scan that nobody annotated or vouches for."""

LESION_SHARE_OF_CELL = 0.25
CELL_SHARE_OF_LESION = 0.3
NEIGHBOURS = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class CellKinds:
    """kind: int8 (x, y, z), what each cell is an example of. lesion: int32, same shape, the lesion of POSITIVE ones.

    Lesions count from 1; 0 where there is none.
    """

    kind: NDArray[np.int8]
    lesion: NDArray[np.int32]


def cell_kinds(
    lesions: NDArray[np.integer],
    label: NDArray[np.uint8],
    cells: CellMap,
    *,
    lesion_free: bool = False,
    unannotated: bool = False,
) -> CellKinds:
    """What every cell of a scan is an example of.

    lesions: (x, y, z) on the model grid, number of the lesion that each voxel belongs to, 0 for none. label: uint8,
    same shape; voxels that are IGNORE are unknown, unless the scan is known to be lesion_free but for what was
    inserted. unannotated: nobody knows of any voxel. cells: of that scan; those without body, -inf, are no examples.
    Without lesions none is POSITIVE.
    """
    body = ~np.isneginf(cells.logit)
    owner, touched = _owners(lesions, cells)
    near = ndimage.binary_dilation(touched, NEIGHBOURS)
    clear = body & ~touched
    if not lesion_free:
        clear &= body_share(label == IGNORE, cells) == 0
    kind = np.full(body.shape, NONE, np.int8)
    kind[clear & ~near] = WEAK if lesion_free else NEGATIVE
    kind[clear & near] = RING
    if unannotated:
        kind[body] = UNKNOWN
    positive = body & (owner > 0)
    kind[positive] = POSITIVE
    return CellKinds(kind, np.where(positive, owner, 0).astype(np.int32))


def _owners(lesions: NDArray[np.integer], cells: CellMap) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Number of the lesion that each cell is an example of, 0 for none, and which cells hold any lesion voxel.

    Of two lesions the one with more voxels in the cell.
    """
    shape = cells.logit.shape
    owner, touched = np.zeros(shape, np.int32), np.zeros(shape, bool)
    places = np.argwhere(lesions > 0)
    if not len(places):
        return owner, touched
    number = lesions[tuple(places.T)].astype(np.int64)
    i, j, k = (cells.index_of(places[:, axis], axis) for axis in range(3))
    cell = np.ravel_multi_index((i, j, k), shape)
    pairs, voxels = np.unique(number * owner.size + cell, return_counts=True)
    of_lesion, of_cell = np.divmod(pairs, owner.size)
    touched.flat[of_cell] = True
    share_of_cell, share_of_lesion = voxels / np.prod(cells.cell_voxels), voxels / np.bincount(number)[of_lesion]
    enough = np.flatnonzero((share_of_cell >= LESION_SHARE_OF_CELL) | (share_of_lesion >= CELL_SHARE_OF_LESION))
    for index in enough[np.argsort(voxels[enough], kind="stable")]:
        owner.flat[of_cell[index]] = of_lesion[index]
    return owner, touched


def region_of_layers(cells: CellMap) -> NDArray[np.int8]:
    """Channel of the region that judges each layer of cells, int8 (z,); of a map that nobody has looked at yet."""
    region = np.full(cells.logit.shape[2], -1, np.int8)
    for piece in cells.pieces:
        region[piece.first : piece.last] = REGION_CHANNEL[piece.region]
    return region


def choose(
    rng: np.random.Generator, kinds: CellKinds, region: NDArray[np.int8], negatives: int, ring: int
) -> NDArray[np.bool_]:
    """Cells to learn from, bool (x, y, z): all POSITIVE ones, and of each region at most so many of the others.

    region: (z,), as `region_of_layers` gives it. negatives: of NEGATIVE, WEAK and UNKNOWN ones each; ring: of RING.
    """
    chosen: NDArray[np.bool_] = kinds.kind == POSITIVE
    for channel in REGION_CHANNEL.values():
        for kind, most in ((NEGATIVE, negatives), (WEAK, negatives), (RING, ring), (UNKNOWN, negatives)):
            found = np.flatnonzero((kinds.kind == kind) & (region == channel))
            chosen.flat[rng.choice(found, most, replace=False) if found.size > most else found] = True
    return chosen
