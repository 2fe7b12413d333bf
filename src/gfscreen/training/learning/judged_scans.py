"""What a Glance that judges cells knows of training scans: where there is no lesion, and where Focus will be sent.

In a scan that nobody annotated, every voxel is unknown to Focus: of abdomens it then knows what the few annotated ones
show, and marks what they do not. All but the most suspicious cells of such a scan are taken for background here, as
`train-cells` takes them. And where the Glance is suspicious of what is known to be none, Focus will be asked: such
places are drawn as kind `hot`.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan, read_plan
from gfscreen.errors import UsageError
from gfscreen.networks.models.cell_glance import load_trunk
from gfscreen.networks.models.manifest import verify
from gfscreen.networks.models.weights import load_head
from gfscreen.screening.cells import REGION_CHANNEL, CellMap, blank_cells, body_share
from gfscreen.training.cells.examples import region_of_layers
from gfscreen.training.cells.features import TrunkRunner, features_of, host_of, trunk_runner
from gfscreen.training.cells.gathering import kept
from gfscreen.training.cells.head import regression_of
from gfscreen.training.cells.learn import SUSPICIOUS_SHARE
from gfscreen.training.data.cache import Scan, write_arrays
from gfscreen.training.data.places import spread_points
from gfscreen.training.learning.marked_places import with_marked_places
from gfscreen.training.objectives import IGNORE

log = logging.getLogger(__name__)

# Of the cells of a region that are known to hold no lesion, so many are hot: the most suspicious ones.
HOT_SHARE = 0.1


def judged_scans(scans: Sequence[Scan], plan: Plan, weights: Path, cache: Path, *, marked: bool = False) -> list[Scan]:
    """The scans, on the plan's grid, with what the Glance in `weights` knows of them: label, annotated and hot.

    A scan that nobody annotated counts as annotated afterwards; IGNORE are the SUSPICIOUS_SHARE most suspicious cells
    of each region. What the Glance said is kept in `cache`. marked: with the places that `weights` as a whole mark
    falsely, too. Raises UsageError for weights without cells, WeightsError for a damaged folder or one without trunk.
    """
    judge = _Judge(weights, plan)
    judged = [_judged(scan, judge.cells_of(scan, cache)) for scan in scans]
    return with_marked_places(judged, plan, weights, cache) if marked else judged


def _judged(scan: Scan, cells: CellMap) -> Scan:
    body, region = np.isfinite(cells.logit), region_of_layers(cells)
    label = scan.label
    if not scan.annotated:
        unknown = _highest(cells, body, region, SUSPICIOUS_SHARE)
        label = np.where(_voxels(unknown, cells, label.shape), np.uint8(IGNORE), np.uint8(0))
    known = body & (body_share(label != 0, cells) == 0)
    hot = _voxels(_highest(cells, known, region, HOT_SHARE), cells, label.shape) & scan.body
    return replace(scan, annotated=True, label=label, hot=spread_points(hot))


def _highest(cells: CellMap, among: NDArray[np.bool_], region: NDArray[np.int8], share: float) -> NDArray[np.bool_]:
    """The most suspicious cells (x, y, z) of each region, a share of those that are `among`; none of none."""
    chosen = np.zeros(among.shape, bool)
    for channel in np.unique(region):
        own = among & (region == channel)
        if own.any():
            chosen |= own & (cells.logit > np.quantile(cells.logit[own], 1.0 - share))
    return chosen


def _voxels(chosen: NDArray[np.bool_], cells: CellMap, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """The voxels of the model grid, bool of `shape`, that lie in the chosen cells."""
    index = (cells.index_of(np.arange(size), axis) for axis, size in enumerate(shape))
    return np.asarray(chosen[np.ix_(*index)], np.bool_)


class _Judge:
    """The Glance of a weights folder, which judges the cells of scans on the grid of `plan`."""

    def __init__(self, weights: Path, plan: Plan) -> None:
        digest, own = verify(weights).digest, read_plan(weights)
        if own.cells is None:
            raise UsageError(f"judged_by {weights}: its Glance judges no cells; name weights that train-cells made")
        self._weights, self._config, self._grid_mm, self._digest = weights, own.cells, plan.spacing_mm, digest
        head = load_head(weights, own)
        self._heads = {channel: regression_of(head, channel) for channel in REGION_CHANNEL.values()}

    @cached_property
    def _run(self) -> TrunkRunner:
        return trunk_runner(load_trunk(self._weights, self._config))

    def cells_of(self, scan: Scan, cache: Path) -> CellMap:
        """The scan's cells, each with its logit; from the cache if they are there."""
        host = host_of(scan, scan.hu, self._grid_mm)
        cells = blank_cells(host, self._config)
        key = hashlib.sha256(self._digest.encode() + scan.hu.tobytes()).hexdigest()[:16]
        path = cache / "judged" / f"{scan.name}-{key}.npz"
        if (before := kept(path)) is not None:
            cells.logit[...] = before["logit"]
            return cells
        log.info("judging the cells of %s", scan.name)
        seen = features_of(self._run, host, cells, np.isnan(cells.logit), self._config)
        for channel, head in self._heads.items():
            own = seen.region == channel
            if own.any():
                cells.logit[tuple(seen.cell[own].T)] = head.logits(seen.features[own])
        path.parent.mkdir(parents=True, exist_ok=True)
        write_arrays(path, {"logit": cells.logit})
        return cells
