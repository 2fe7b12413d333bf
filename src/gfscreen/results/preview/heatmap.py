"""Where Glance looked and what it skipped: its sub-volumes painted on a coarse grid over the scan.

Sub-volumes overlap. A cell shows the strongest thing that happened to it: read by Focus, above the gate but left unread
for lack of time, skipped, not glanced at; and the highest probability of the sub-volumes that hold it. Of a Glance that
judges cells of its own it shows that cell's probability, skipped where Focus was not pointed at it. What no sub-volume
holds, and no cell with body, stays clear.
"""

from __future__ import annotations

import base64
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from gfscreen.results.preview.volumes import RGBA, Factors, SmallVolumes, encode, shrunk_affine
from gfscreen.scan.grid import ModelGrid
from gfscreen.screening.cells import CellMap
from gfscreen.screening.network_outputs import NetworkOutputs

# About the side of a cell. It moves a sub-volume's border by at most half a cell.
CELL_MM = 4.0
# A cell's opacity runs from the first to the second value as its probability runs from 0 to 1.
ALPHA = (18, 84)
_BORDER_ALPHA = 235
# Probabilities of Glance's cells for the page's script: in steps, and what stands for none.
CELL_STEPS = 250
NO_BODY, UNKNOWN = 254, 255


class Fate(IntEnum):
    """What became of a sub-volume, the strongest last."""

    OUTSIDE = 0
    UNGLANCED = 1
    SKIPPED = 2
    UNREAD = 3
    READ = 4


FATE_COLOURS = {Fate.UNGLANCED: "#9aa4b2", Fate.SKIPPED: "#4f8cff", Fate.UNREAD: "#ff4fd8", Fate.READ: "#ffb000"}
FATE_WORDS = {
    Fate.UNGLANCED: "not glanced at, no time",
    Fate.SKIPPED: "glanced at and skipped",
    Fate.UNREAD: "suspicious, but no time to read",
    Fate.READ: "suspicious and read by Focus",
}


def cell_voxels(grid: ModelGrid) -> Factors:
    """Model voxels per cell, along x, y, z."""
    x, y, z = (max(1, round(CELL_MM / mm)) for mm in grid.spacing_mm)
    return x, y, z


def fates(outputs: NetworkOutputs) -> list[Fate]:
    """What became of each sub-volume; with Glance switched off every one is READ or UNREAD."""
    unseen = np.zeros(len(outputs.windows), bool)
    if outputs.glance_probability is not None:
        unseen = np.isnan(outputs.glance_probability)
    found = []
    for kept, read, dark in zip(outputs.kept, outputs.read, unseen, strict=True):
        found.append(Fate.READ if read else Fate.UNREAD if kept else Fate.UNGLANCED if dark else Fate.SKIPPED)
    return found


def cells(outputs: NetworkOutputs) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """The strongest fate and the highest probability of every cell, (x, y, z) each; a cell is where its centre is."""
    size = cell_voxels(outputs.grid)
    shape = [-(-n // c) for n, c in zip(outputs.grid.shape, size, strict=True)]
    fate, probability = np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    values = outputs.glance_probability
    if outputs.cells is not None:
        centres = [np.arange(n).astype(np.float64) * c + (c - 1) / 2 for n, c in zip(shape, size, strict=True)]
        index = np.ix_(*(outputs.cells.index_of(centre, axis) for axis, centre in enumerate(centres)))
        logit = outputs.cells.logit[index]
        probability = np.nan_to_num(cell_probability(outputs.cells), nan=0.0)[index]
        fate[~np.isneginf(logit)] = Fate.SKIPPED
        fate[np.isnan(logit)] = Fate.UNGLANCED
    for number, (window, voxels, its_fate) in enumerate(
        zip(outputs.windows, outputs.sizes, fates(outputs), strict=True)
    ):
        box = tuple(
            slice(_first_cell(start, cell), _first_cell(start + length, cell))
            for start, length, cell in zip(window.start, voxels.tolist(), size, strict=True)
        )
        fate[box] = np.maximum(fate[box], its_fate)
        if values is not None and outputs.cells is None and not np.isnan(values[number]):
            probability[box] = np.maximum(probability[box], values[number])
    return fate, probability


def cell_probability(found: CellMap) -> NDArray[np.float32]:
    """Probability of each of Glance's cells (x, y, z); NaN where it has not looked, 0 without body."""
    half = np.float32(0.5)
    probability: NDArray[np.float32] = half * (np.tanh(half * found.logit) + 1)
    return probability


def _first_cell(voxel: int, cell: int) -> int:
    """The first cell whose centre lies at or behind the near face of a model voxel."""
    return max(0, -(-(2 * voxel - cell) // (2 * cell)))


def paint(fate: NDArray[np.uint8], probability: NDArray[np.float32]) -> NDArray[np.void]:
    """RGBA cells: colour by fate, opacity by probability, and an opaque border around all that Focus read."""
    rgba = np.zeros(fate.shape, RGBA)
    for kind, colour in FATE_COLOURS.items():
        here = fate == kind
        for channel, start in zip("RGB", (1, 3, 5), strict=True):
            rgba[channel][here] = int(colour[start : start + 2], 16)
    low, high = ALPHA
    rgba["A"] = np.where(fate > Fate.OUTSIDE, low + np.rint((high - low) * probability), 0).astype(np.uint8)
    was_read = fate == Fate.READ
    cross = ndimage.generate_binary_structure(3, 1)
    rgba["A"][was_read & ~ndimage.binary_erosion(was_read, cross, border_value=1)] = _BORDER_ALPHA
    return rgba


def heat_layer(outputs: NetworkOutputs, affine_ras_mm: NDArray[np.float64]) -> str | None:
    """The layer for the viewer, base64; None if Glance was not asked. affine_ras_mm: of the scan's RAS view."""
    if outputs.glance_probability is None:
        return None
    grid = outputs.grid
    to_scan = np.diag([*(t / s for t, s in zip(grid.spacing_mm, grid.native_mm, strict=True)), 1.0])
    model_affine = affine_ras_mm @ to_scan
    start = [low for low, _ in grid.box]
    return encode(paint(*cells(outputs)), shrunk_affine(model_affine, start, cell_voxels(grid)))


def cell_entry(outputs: NetworkOutputs, small: SmallVolumes) -> dict[str, Any] | None:
    """Glance's cells for the page's script; None where it judges none.

    A voxel v of the embedded grid lies in cell floor(slope * v + offset), along x, y, z, as far as there are such. `p`:
    base64 of a byte per cell, z fastest: probability in steps of 1 / `CELL_STEPS`, or `NO_BODY`, or `UNKNOWN`.
    """
    found = outputs.cells
    if found is None:
        return None
    step = np.asarray(found.cell_voxels)
    ratio = np.asarray(outputs.grid.native_mm) / np.asarray(outputs.grid.spacing_mm)
    factors = np.asarray(small.factors)
    first = outputs.to_model((np.asarray(small.start) + (factors - 1) / 2)[None])[0]
    code = np.rint(np.nan_to_num(cell_probability(found), nan=0.0) * CELL_STEPS).astype(np.uint8)
    code[np.isneginf(found.logit)] = NO_BODY
    code[np.isnan(found.logit)] = UNKNOWN
    return {
        "shape": list(found.logit.shape),
        "slope": [round(float(v), 6) for v in factors * ratio / step],
        "offset": [round(float(v), 6) for v in first / step + 0.5],
        "steps": CELL_STEPS,
        "p": base64.b64encode(code.tobytes()).decode("ascii"),
    }


def window_entries(outputs: NetworkOutputs, small: SmallVolumes) -> list[dict[str, Any]]:
    """Every sub-volume for the page's script: its faces on the embedded grid, what Glance said, what became of it."""
    starts = outputs.starts.astype(np.float64)
    low = small.position_of(outputs.to_scan(starts - 0.5))
    high = small.position_of(outputs.to_scan(starts + outputs.sizes - 0.5))
    entries = []
    for number, fate in enumerate(fates(outputs)):
        said = None if outputs.glance_probability is None else float(outputs.glance_probability[number])
        entries.append(
            {
                "low": [round(float(v), 2) for v in low[number]],
                "high": [round(float(v), 2) for v in high[number]],
                "p": None if said is None or np.isnan(said) else round(said, 4),
                "fate": fate.name.lower(),
            }
        )
    return entries
