"""Where a Focus marks what is none in scans to train on: what a second one, which looks at its findings, is shown."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import NO_MASSES, Plan, read_plan
from gfscreen.errors import UsageError
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.scan.volume import Geometry, Volume
from gfscreen.screening.budget import Budget
from gfscreen.screening.screening import screen
from gfscreen.training.cells.gathering import kept
from gfscreen.training.data.cache import Scan, write_arrays
from gfscreen.training.data.places import spread_points

log = logging.getLogger(__name__)


def with_marked_places(scans: Sequence[Scan], plan: Plan, weights: Path, cache: Path) -> list[Scan]:
    """The scans, on the plan's grid, with the places that `weights` mark and that are known to hold no lesion.

    The weights screen as their plan says, but no finding is judged by its `finding_model` or dropped as fluid, and
    Glance alone marks none: places are for Focus to learn from. What they marked is kept in `cache`. Raises UsageError
    for weights of another grid, WeightsError for a damaged folder.
    """
    own = replace(read_plan(weights), finding_from=0.0, look_from=0.0, fluid=None, **NO_MASSES)
    if own.spacing_mm != plan.spacing_mm:
        raise UsageError(f"judged_by {weights}: works at {own.spacing_mm} mm, the run at {plan.spacing_mm}")
    digest = read_manifest(weights).digest
    engine: Engine | None = None
    found = []
    for scan in scans:
        key = hashlib.sha256(digest.encode() + scan.hu.tobytes()).hexdigest()[:16]
        path = cache / "marked" / f"{scan.name}-{key}.npz"
        before = kept(path)
        if before is None:
            log.info("screening %s", scan.name)
            if engine is None:
                engine = load_engine(weights, device="auto", engine="auto", precision="auto", gpu_memory_limit_mb=None)
            before = {"places": marked(scan, own, engine)}
            path.parent.mkdir(parents=True, exist_ok=True)
            write_arrays(path, before)
        places = np.zeros(scan.label.shape, bool)
        places[tuple(before["places"].T)] = True
        found.append(replace(scan, marked=spread_points(places & (scan.label == 0))))
    return found


def marked(scan: Scan, plan: Plan, engine: Engine) -> NDArray[np.int16]:
    """The voxels (n, 3) of a scan on the plan's grid that are marked when it is screened, lesion or not."""
    x, y, z = scan.hu.shape
    geometry = Geometry((x, y, z), np.diag([*plan.spacing_mm, 1.0]))
    result = screen(Volume(scan.hu, geometry, Path(scan.name)), plan, engine, Budget(None), keep_outputs=True)
    assert result.network_outputs is not None
    low = [side[0] for side in result.network_outputs.grid.box]
    places = np.argwhere(result.network_outputs.focus_probability > plan.lesion_threshold) + low
    return places.astype(np.int16)
