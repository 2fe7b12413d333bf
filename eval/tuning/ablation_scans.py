"""Scans that a gate of cells is tried on: features and dense reads, made once, and what a choice of sub-volumes gives.

Focus reads every sub-volume of the grid once; whatever a gate keeps, the mask follows from those reads.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.detection import TENTH
from eval.accuracy.masks import read_mask
from eval.tuning.gate_runs import GateCase, label_lesions, label_on_grid
from gfscreen.config import Plan
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.engines.base import Engine
from gfscreen.scan.grid import ModelScan, to_model
from gfscreen.scan.volume import read_volume
from gfscreen.screening.cells import CellMap, blank_cells
from gfscreen.screening.findings import drop_unlikely
from gfscreen.screening.windows import Stitcher, Window, clipped, gather_for_focus, plan_windows
from gfscreen.training.cells.features import TrunkRunner, features_of
from gfscreen.training.cells.head import Regression
from gfscreen.training.data.cache import write_arrays
from gfscreen.training.data.lists import LabelValues

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """What a choice of sub-volumes gives on one scan. dsc: None without lesion. one_voxel, a_tenth: lesions found."""

    dsc: float | None
    false_positive_ml: float
    one_voxel: int
    a_tenth: int


@dataclass(frozen=True)
class TriedScan:
    """A scan with all that gates are compared by.

    lesions: int32 (x, y, z) on the model grid, numbers from 1. holds: bool (windows,), whether there is lesion in it.
    unknown: bool, where nobody knows. boxes: the cells of each sub-volume. cell, region, features: of its cells with
    body. reads: uint8 (windows, X, Y, Z), Focus's probability in steps of 1/255.
    """

    name: str
    plan: Plan
    body: NDArray[np.bool_]
    lesions: NDArray[np.int32]
    unknown: NDArray[np.bool_]
    count: int
    windows: Sequence[Window]
    holds: NDArray[np.bool_]
    boxes: Sequence[tuple[slice, ...]]
    cells: CellMap
    cell: NDArray[np.intp]
    region: NDArray[np.int8]
    features: NDArray[np.float16]
    reads: NDArray[np.uint8]

    def suspicion(self, heads: Sequence[Regression]) -> NDArray[np.float32]:
        """Logit (windows,) of each sub-volume's most suspicious cell; -inf for one without body."""
        logit = np.full(self.cells.logit.shape, -np.inf, np.float32)
        for channel, head in enumerate(heads):
            own = self.region == channel
            logit[tuple(self.cell[own].T)] = head.logits(self.features[own])
        return np.array([logit[box].max(initial=-np.inf) for box in self.boxes], np.float32)

    def outcome(self, kept: NDArray[np.bool_]) -> Outcome:
        """The mask that the kept sub-volumes (windows,) give, against the label, on the model grid.

        Findings are held back by the plan's peak alone, not by its `finding_model`: gates are compared here.
        """
        stitcher = Stitcher(self.body.shape, self.plan.blend)
        for index in np.flatnonzero(kept).tolist():
            stitcher.add(self.windows[index].start, self.reads[index].astype(np.float32) / 255)
        probability = stitcher.finish()
        threshold, peak = self.plan.lesion_threshold, self.plan.finding_peak
        drop_unlikely(probability, self.body, threshold=threshold, peak=peak)
        mask, truth = probability > threshold, self.lesions > 0
        found, findings = label_lesions(mask)
        false = np.ones(findings + 1, bool)
        false[np.unique(found[truth])] = False
        false[0] = False
        voxel_ml = float(np.prod(self.plan.spacing_mm)) / 1000.0
        voxels = np.bincount(self.lesions.ravel(), minlength=self.count + 1)[1:]
        shares = np.bincount(self.lesions[mask], minlength=self.count + 1)[1:] / np.maximum(voxels, 1)
        union = int(mask.sum() + truth.sum())
        return Outcome(
            dsc=2.0 * int((mask & truth).sum()) / union if self.count else None,
            false_positive_ml=float((false[found] & ~self.unknown).sum()) * voxel_ml,
            one_voxel=int((shares > 0).sum()),
            a_tenth=int((shares >= TENTH).sum()),
        )


def tried_scan(
    case: GateCase,
    meaning: LabelValues,
    plan: Plan,
    config: CellGlanceConfig,
    run: TrunkRunner,
    engine: Engine,
    kept_in: Path,
) -> TriedScan:
    """Read a scan and its label; features and reads come from `kept_in` where an earlier call has left them."""
    volume = read_volume(case.image)
    scan = to_model(volume, plan)
    label = read_mask(case.label).voxels
    lesions, count = label_lesions(label_on_grid(_is_one_of(label, meaning.lesion), volume, scan.grid))
    unknown = label_on_grid(_is_one_of(label, meaning.ignore), volume, scan.grid)
    windows = plan_windows(scan, plan, plan.overlap)
    cells = blank_cells(scan, config)
    path = kept_in / f"{case.name}.npz"
    if not path.is_file():
        logger.info("%s: Focus reads all of its %d sub-volumes", case.name, len(windows))
        seen = features_of(run, scan, cells, np.isnan(cells.logit), config)
        kept_in.mkdir(parents=True, exist_ok=True)
        reads = _read_all(scan, windows, plan, engine)
        write_arrays(path, {"cell": seen.cell, "region": seen.region, "features": seen.features, "reads": reads})
    with np.load(path, allow_pickle=False) as stored:
        cell, region, features, reads = (stored[name] for name in ("cell", "region", "features", "reads"))
    size = plan.sub_volume_voxels
    return TriedScan(
        name=case.name, plan=plan, body=scan.body, lesions=lesions, unknown=unknown, count=count, windows=windows,
        holds=np.array([(lesions[clipped(w.start, size, lesions.shape)] > 0).any() for w in windows], bool),
        boxes=[cells.within(w.start, size) for w in windows],
        cells=cells, cell=cell, region=region, features=features, reads=reads,
    )  # fmt: skip


def _is_one_of(label: NDArray[np.uint8], values: tuple[int, ...]) -> NDArray[np.uint8]:
    return np.isin(label, values).astype(np.uint8)


def _read_all(scan: ModelScan, windows: Sequence[Window], plan: Plan, engine: Engine) -> NDArray[np.uint8]:
    """Focus's probability in every sub-volume, uint8 (windows, X, Y, Z) in steps of 1/255."""
    reads = np.zeros((len(windows), *plan.sub_volume_voxels), np.uint8)
    for index, window in enumerate(windows):
        image = gather_for_focus(scan.hu, window.start, plan.sub_volume_voxels, window.region, plan)
        reads[index] = np.rint(engine.focus(image[None])[0] * 255).astype(np.uint8)
    return reads
