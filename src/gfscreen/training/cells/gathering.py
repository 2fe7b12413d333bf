"""Cells of every scan with the trunk's features, once as the scan is and several times with lesions inserted.

What a scan gives is kept in the cache folder under a name that says what it depends on: a run that was ended goes on
where it was, and another head is learnt in minutes.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.config import Plan
from gfscreen.errors import InputError
from gfscreen.files import remove_leftovers
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.models.cell_glance import load_trunk
from gfscreen.screening.cells import CellMap, blank_cells
from gfscreen.training.cells.examples import cell_kinds, choose, region_of_layers
from gfscreen.training.cells.features import Host, TrunkRunner, features_of, host_of, trunk_runner
from gfscreen.training.cells.inserted import Bank, Populated, as_it_is, populate
from gfscreen.training.data.cache import Scan, cache_key, load_scan, write_arrays
from gfscreen.training.data.lists import DataList, Entry

log = logging.getLogger(__name__)

FORMAT = 1
# Cells that are no lesion, at most, of one region: of a scan as it is and of one with inserted lesions, which has the
# same tissue once more.
NEGATIVES_AS_IT_IS, NEGATIVES, RING = 6000, 800, 150

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Draw:
    """One version of one scan: with its lesions, as cells are made of it. rng: for whatever else is drawn of it."""

    entry: Entry
    version: int
    scan: Scan
    populated: Populated
    host: Host
    cells: CellMap
    rng: np.random.Generator


@dataclass(frozen=True)
class Material:
    """What features are made of. trunk_sha256: of the trunk's file, whose folder is `weights`."""

    data: DataList
    plan: Plan
    config: CellGlanceConfig
    weights: Path
    trunk_sha256: str
    cache: Path
    bank: Bank
    seed: int

    @cached_property
    def run(self) -> TrunkRunner:
        """The trunk, made to run when it is first asked for. Raises WeightsError."""
        return trunk_runner(load_trunk(self.weights, self.config))

    def draw(self, entry: Entry, version: int) -> Draw:
        """Version 0 is the scan as it is, the others have lesions inserted, each its own. Raises InputError."""
        scan = load_scan(entry, self.plan, self.cache, self.data.label_values)
        number = int(hashlib.sha256(entry.name.encode()).hexdigest()[:8], 16)
        rng = np.random.default_rng([self.seed, version, number])
        grid_mm = self.plan.spacing_mm
        populated = populate(rng, scan, grid_mm, self.bank) if version else as_it_is(scan, grid_mm)
        host = host_of(scan, populated.hu, grid_mm)
        return Draw(entry, version, scan, populated, host, blank_cells(host, self.config), rng)

    def key(self, entry: Entry, version: int, more: tuple[str, ...]) -> str:
        """What the features of one version of a scan depend on, as 16 hexadecimal digits. Raises InputError."""
        try:
            prepared = cache_key(entry, self.plan, self.data.label_values)
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read ({error.strerror}); restore the file") from error
        # What cells are for, and what a scan's suspicion is made of, changes no feature.
        config = {**asdict(self.config), "case_calibration": None}
        del config["role"]
        inserted = [self.seed, version, hashlib.sha256("\n".join(self.bank.names).encode()).hexdigest()]
        known = [FORMAT, prepared, entry.lesion_free, config, self.trunk_sha256, self.seed, more]
        return hashlib.sha256(json.dumps(known + (inserted if version else [])).encode()).hexdigest()[:16]


@dataclass
class Gathered:
    """What `gather` could not give. left_out: scans with a fault. missing: versions that time did not allow."""

    left_out: list[str] = field(default_factory=list)
    missing: int = 0


def gather(
    material: Material,
    versions: int,
    kind: str,
    make: Callable[[Draw], Arrays],
    gathered: Gathered,
    *,
    until: float | None,
    more: tuple[str, ...] = (),
    unannotated: bool = False,
) -> Iterator[tuple[Entry, int, Arrays]]:
    """What `make` gives of every version of every training scan, from the cache where it is there.

    The scans as they are come first; those that nobody annotated, and nobody vouches for, only if `unannotated`.
    kind: names the files. more: what `make` depends on besides. until: of the monotonic clock; what is not in the
    cache then is counted as missing. A scan that cannot be used is told of in one line and left out.
    """
    folder = material.cache / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder)
    for version in range(versions + 1):
        for entry in material.data.training:
            teaches = version > 0 or unannotated or not entry.unannotated
            if entry.name in gathered.left_out or not teaches:
                continue
            try:
                path = folder / f"{entry.name}-{kind}-{version}-{material.key(entry, version, more)}.npz"
                arrays = kept(path)
                if arrays is None and until is not None and time.monotonic() > until:
                    gathered.missing += 1
                    continue
                if arrays is None:
                    start = time.monotonic()
                    arrays = make(material.draw(entry, version))
                    write_arrays(path, arrays)
                    log.info("%s: %s, version %d in %.0f s", entry.name, kind, version, time.monotonic() - start)
            except InputError as error:
                log.error("%s", error)
                gathered.left_out.append(entry.name)
                continue
            yield entry, version, arrays


def kept(path: Path) -> Arrays | None:
    """The arrays of a file of the cache; None if it is not there, or damaged, which is said."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        log.warning("%s: damaged (%s); it is made anew", path, error)
        return None


@dataclass(frozen=True)
class ScanCells:
    """Cells of one version of a scan to learn from.

    features: float16 (n, 2048). region, kind: int8 (n,), channel of the region and what the cell is an example of
    (examples.py). lesion: int32 (n,), lesion of POSITIVE cells, from 1. lesion_kind, lesion_ml: of each lesion.
    """

    features: NDArray[np.float16]
    region: NDArray[np.int8]
    kind: NDArray[np.int8]
    lesion: NDArray[np.int32]
    lesion_kind: NDArray[np.str_]
    lesion_ml: NDArray[np.float32]

    def at(self, chosen: NDArray[np.bool_]) -> ScanCells:
        """Some of the cells, bool (n,)."""
        parts = {name: getattr(self, name)[chosen] for name in ("features", "region", "kind", "lesion")}
        return replace(self, **parts)


def example_cells(material: Material, draw: Draw) -> Arrays:
    """The fields of `ScanCells` of one version of a scan."""
    kinds = cell_kinds(
        draw.populated.lesions,
        draw.populated.label,
        draw.cells,
        lesion_free=draw.entry.lesion_free,
        # With lesions inserted it has the same tissue once more.
        unannotated=draw.entry.unannotated and not draw.version,
    )
    negatives = NEGATIVES if draw.version else NEGATIVES_AS_IT_IS
    chosen = choose(draw.rng, kinds, region_of_layers(draw.cells), negatives, RING)
    seen = features_of(material.run, draw.host, draw.cells, chosen, material.config)
    place = tuple(seen.cell.T)
    return {
        "features": seen.features,
        "region": seen.region,
        "kind": kinds.kind[place],
        "lesion": kinds.lesion[place],
        "lesion_kind": np.array(draw.populated.kinds, dtype=np.str_),
        "lesion_ml": np.array(draw.populated.ml, np.float32),
    }
