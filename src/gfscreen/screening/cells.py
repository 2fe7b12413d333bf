"""What a Glance on a trunk says of a scan: a suspicion for every cell of about 12 mm, from a few passes over the scan.

The trunk reads whole pieces of a scan, on a coarser grid than the model grid, each through the HU window of its region.
Its answers lie on a lattice: cell (i, j, k) is centred on voxel (i, j, k) * `CELL_STRIDE` of the trunk's grid, whose
first voxel is that of the cropped model grid. A sub-volume is as suspicious as the most suspicious of its cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gfscreen.network_plan import CellGlanceConfig, RegionName
from gfscreen.scan.grid import ModelGrid, resample_model, resampled_shape
from gfscreen.screening.windows import Window, apply_hu_window

Floating = TypeVar("Floating", bound=np.floating[Any])

# Voxels of the trunk's grid per cell, along x, y, z, and what the sides of its input must be multiples of.
CELL_STRIDE = (8, 8, 4)
INPUT_MULTIPLE = (16, 16, 8)
# Slices of the trunk's grid that it sees on each side of a piece beyond those that it is asked about, and the most that
# it is asked about at once: memory, and how soon a deadline is seen to have passed.
MARGIN_SLICES = 16
PIECE_SLICES = 128
# A cell with less of the body in it is none to look at.
LEAST_BODY = 0.25
# Between two centres the more suspicious cell must not drown the other.
MOST_LOGIT = 10.0
REGION_CHANNEL: dict[RegionName, int] = {"chest": 0, "abdomen": 1}


class OnModelGrid(Protocol):
    """What cells are made of: a scan that is screened (ModelScan) or one to train on; fields as ModelScan's."""

    @property
    def hu(self) -> NDArray[np.float32]: ...

    @property
    def body(self) -> NDArray[np.bool_]: ...

    @property
    def chest(self) -> NDArray[np.bool_]: ...

    @property
    def grid(self) -> ModelGrid: ...


@dataclass(frozen=True)
class Piece:
    """A pass over slices [low, high) of the trunk's grid in a region's HU window, for the cells [first, last) in z."""

    region: RegionName
    low: int
    high: int
    first: int
    last: int


@dataclass
class CellMap:
    """The suspicion of one scan's cells.

    logit: float32 (x, y, z), NaN where nobody has looked yet, -inf where there is hardly any body. cell_voxels: model
    voxels from one cell's centre to the next, along x, y, z. pieces: what is still to be looked at.
    """

    logit: NDArray[np.float32]
    cell_voxels: tuple[float, float, float]
    pieces: list[Piece] = field(default_factory=list)

    def centres(self, axis: int) -> NDArray[np.float64]:
        """Centres of the cells along one axis, in voxels of the cropped model grid."""
        return (np.arange(self.logit.shape[axis]) * self.cell_voxels[axis]).astype(np.float64)

    def index_of(
        self, places: NDArray[np.float64] | NDArray[np.int32] | NDArray[np.intp], axis: int
    ) -> NDArray[np.intp]:
        """The cell in which positions (n,) of the cropped model grid lie, along one axis."""
        cell = np.floor(places / self.cell_voxels[axis] + 0.5).astype(np.intp)
        return np.clip(cell, 0, self.logit.shape[axis] - 1)

    def at(self, places: NDArray[np.intp]) -> NDArray[np.float32]:
        """Logits (n,) of the cells in which voxels (n, 3) of the cropped model grid lie."""
        logits: NDArray[np.float32] = self.of(self.logit, places)
        return logits

    def of(self, values: NDArray[Any], places: NDArray[Any]) -> NDArray[Any]:
        """Values (n,) of the cells, given as (x, y, z), in which voxels (n, 3) of the cropped model grid lie."""
        i, j, k = (self.index_of(places[:, axis], axis) for axis in range(3))
        return values[i, j, k]

    def suspicion(self, window: Window, size: tuple[int, ...]) -> float:
        """Highest probability among the cells whose centres lie in a sub-volume; NaN while some of them are unknown.

        0 where it holds no cell with body.
        """
        inside = self.logit[self.within(window.start, size)]
        return probability(float(inside.max(initial=-math.inf)))

    def within(self, start: tuple[int, ...], size: tuple[int, ...]) -> tuple[slice, ...]:
        """The cells whose centres lie in a sub-volume of the cropped model grid."""
        return tuple(
            slice(*np.searchsorted(self.centres(axis), (low, low + length)))
            for axis, (low, length) in enumerate(zip(start, size, strict=True))
        )


def case_suspicion(cells: CellMap, config: CellGlanceConfig) -> float | None:
    """How likely a scan is to hold a lesion, from its most suspicious cell, calibrated; None if none was looked at.

    None as well without a calibration: an uncalibrated logit says little of a whole scan.
    """
    highest = highest_logit(cells)
    if highest is None or config.case_calibration is None:
        return None
    slope, offset = config.case_calibration
    return probability(slope * highest + offset)


def highest_logit(cells: CellMap) -> float | None:
    """That of a scan's most suspicious cell; None if none with body was looked at."""
    known = cells.logit[np.isfinite(cells.logit)]
    return float(known.max()) if known.size else None


def probability(logit: float) -> float:
    """Logistic function of one logit, at the ends as well; NaN stays."""
    return 0.5 * (1.0 + math.tanh(0.5 * logit))


def probabilities(logits: NDArray[Floating]) -> NDArray[Floating]:
    """`probability` of an array of logits."""
    result: NDArray[Floating] = 0.5 * (1.0 + np.tanh(0.5 * logits))
    return result


def logit_of(share: float) -> float:
    """The way back from a probability, infinite at the ends."""
    if share <= 0:
        return -math.inf
    return math.inf if share >= 1 else math.log(share / (1.0 - share))


def blank_cells(scan: OnModelGrid, config: CellGlanceConfig) -> CellMap:
    """The cells of a scan, none of them looked at yet, and the pieces that are to be."""
    model_mm = scan.grid.spacing_mm
    x, y, z = (stride * mm / m for stride, mm, m in zip(CELL_STRIDE, config.spacing_mm, model_mm, strict=True))
    shape = tuple(math.floor((n - 1) / step + 0.5) + 1 for n, step in zip(scan.grid.shape, (x, y, z), strict=True))
    cells = CellMap(np.full(shape, np.nan, np.float32), (x, y, z))
    cells.logit[body_share(scan.body, cells) < LEAST_BODY] = -math.inf
    slices = resampled_shape(scan.grid.shape, model_mm, config.spacing_mm)[2]
    middle = np.minimum(np.rint(cells.centres(2)).astype(int), len(scan.chest) - 1)
    chest = scan.chest[middle]
    # A layer without body has nothing to ask.
    asked = np.isnan(cells.logit).any(axis=(0, 1))
    cells.pieces = [
        *_pieces("chest", np.flatnonzero(chest & asked), slices),
        *_pieces("abdomen", np.flatnonzero(~chest & asked), slices),
    ]
    return cells


def _pieces(region: RegionName, layers: NDArray[np.intp], slices: int) -> Iterator[Piece]:
    """Passes over the layers of cells of one region, ascending; such as follow each other go together."""
    stride = CELL_STRIDE[2]
    runs = np.split(layers, np.flatnonzero(np.diff(layers) > 1) + 1) if layers.size else []
    for part in (part for run in runs for part in np.array_split(run, math.ceil(run.size * stride / PIECE_SLICES))):
        first, last = int(part[0]), int(part[-1]) + 1
        # Begins where a cell's and the next stage's lattices have a point.
        low = max(0, first * stride - MARGIN_SLICES) // INPUT_MULTIPLE[2] * INPUT_MULTIPLE[2]
        yield Piece(region, low, min(slices, (last - 1) * stride + MARGIN_SLICES + 1), first, last)


def body_share(body: NDArray[np.bool_], cells: CellMap) -> NDArray[np.float32]:
    """Share of body in each cell (x, y, z), of all the voxels that a cell well within the scan has.

    Of a scan that is thinner than a cell, only as many as it has are asked for along that axis.
    """
    voxels: NDArray[Any] = body
    whole = 1.0
    for axis in (2, 1, 0):
        size = body.shape[axis]
        cell = cells.index_of(np.arange(size), axis)
        # A cell smaller than a voxel may hold the centre of none: it is that of the next, as reduceat has it.
        first = np.searchsorted(cell, np.arange(cells.logit.shape[axis])).clip(0, size - 1)
        voxels = np.add.reduceat(voxels, first, axis=axis, dtype=np.int32)
        whole *= min(max(cells.cell_voxels[axis], 1.0), size)
    share: NDArray[np.float32] = (voxels / whole).astype(np.float32)
    return share


def between_centres(cells: CellMap, axis: int, voxels: range) -> NDArray[np.float32]:
    """Weights (voxels, cells) that interpolate linearly along one axis; behind the last centre its value holds."""
    count = cells.logit.shape[axis]
    place = np.minimum(np.asarray(voxels) / cells.cell_voxels[axis], count - 1)
    before = np.floor(place).astype(np.intp)
    weights = np.zeros((len(voxels), count), np.float32)
    weights[np.arange(len(voxels)), before] = 1.0 - (place - before)
    weights[np.arange(len(voxels)), np.minimum(before + 1, count - 1)] += place - before
    return weights


def logit_between(cells: CellMap, part: tuple[slice, ...]) -> NDArray[np.float32]:
    """Logits interpolated between the cells' centres in a part of the cropped model grid, float32 (x, y, z).

    Cells without body, and such as nobody has looked at, count as ordinary; none for more than `MOST_LOGIT`.
    """
    logit = np.clip(np.nan_to_num(cells.logit, nan=-MOST_LOGIT), -MOST_LOGIT, MOST_LOGIT)
    x, y, z = (between_centres(cells, axis, range(side.start, side.stop)) for axis, side in enumerate(part))
    return np.asarray(np.einsum("ai,bj,ck,ijk->abc", x, y, z, logit, optimize=True), np.float32)


class TrunkInput:
    """A scan on the trunk's grid, made once, when the first piece is asked for; hands out what the trunk reads."""

    def __init__(self, scan: OnModelGrid, config: CellGlanceConfig) -> None:
        self._scan, self._config = scan, config
        self._hu: NDArray[np.float32] | None = None

    def shape(self, piece: Piece, cells: CellMap) -> tuple[int, int, int]:
        """Size of a piece along x, y, z: what the trunk sees, or the cells asked about span, in whole multiples."""
        grid = resampled_shape(self._scan.grid.shape, self._scan.grid.spacing_mm, self._config.spacing_mm)
        seen = (grid[0], grid[1], piece.high - piece.low)
        layers = piece.last - piece.low // CELL_STRIDE[2]
        wanted = (n * stride for n, stride in zip((*cells.logit.shape[:2], layers), CELL_STRIDE, strict=True))
        sizes = [max(size, least) for size, least in zip(seen, wanted, strict=True)]
        x, y, z = (-(-size // multiple) * multiple for size, multiple in zip(sizes, INPUT_MULTIPLE, strict=True))
        return x, y, z

    def __call__(self, piece: Piece, cells: CellMap) -> NDArray[np.float32]:
        """float32 (z, x, y) in [0, 1]; filled up with 0, the window's floor, to its `shape`."""
        if self._hu is None:
            self._hu = resample_model(self._scan.hu, self._scan.grid.spacing_mm, self._config.spacing_mm)
        part = self._hu[:, :, piece.low : piece.high]
        seen = apply_hu_window(part, self._config.hu_windows.of(piece.region))
        fill = [(0, size - own) for size, own in zip(self.shape(piece, cells), seen.shape, strict=True)]
        return np.ascontiguousarray(np.pad(seen, fill).transpose(2, 0, 1))

    def forget(self) -> None:
        """Give the memory back; a later piece takes it again."""
        self._hu = None


def take_over(cells: CellMap, piece: Piece, answer: NDArray[np.float32]) -> None:
    """Enter the trunk's answer, logits (regions, z, x, y), for the cells that a piece is about."""
    first = piece.low // CELL_STRIDE[2]
    own = answer[REGION_CHANNEL[piece.region]][piece.first - first : piece.last - first].transpose(1, 2, 0)
    target = cells.logit[:, :, piece.first : piece.last]
    x, y, z = target.shape
    target[...] = np.where(np.isneginf(target), target, own[:x, :y, :z])
    cells.pieces.remove(piece)
