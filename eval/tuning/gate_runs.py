"""One case through the screening code with one gate: what `python -m eval gates` compares."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.accuracy.detection import detect
from eval.accuracy.masks import read_mask
from eval.accuracy.metrics import score_pair
from gfscreen.config import Plan, read_plan
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import FOCUS_FILE, SECOND_FOCUS_FILE, read_manifest
from gfscreen.scan.grid import ModelGrid, sample_to_grid, to_model
from gfscreen.scan.volume import Volume, read_volume
from gfscreen.scan.volume.ras import ras_view
from gfscreen.screening.budget import Allowance, Budget
from gfscreen.screening.cell_pass import glance_at_cells
from gfscreen.screening.cells import CellMap, OnModelGrid, TrunkInput, blank_cells
from gfscreen.screening.findings import TOUCHING
from gfscreen.screening.network_outputs import NetworkOutputs
from gfscreen.screening.progress import no_progress
from gfscreen.screening.reading import glance
from gfscreen.screening.screening import screen
from gfscreen.screening.screening_state import Glanced
from gfscreen.screening.settings import ScreeningSettings
from gfscreen.screening.windows import Window, clipped, plan_windows

DENSE = "dense"
FAIR_VIEW_SHARE = 0.5
FAIR_VIEW_ML = 2.0


@dataclass(frozen=True)
class Variant:
    """A gate: its weights folder, engine, plan and threshold. Threshold 0 is the dense sliding window."""

    name: str
    weights: Path
    engine: Engine
    plan: Plan
    gate: float


@dataclass(frozen=True)
class GateCase:
    """A scan with its label, which of its lesions were inserted (None: none), and whether its host was annotated.

    host: the scan that it was made of; itself if nobody says so.
    """

    name: str
    image: Path
    label: Path
    inserted: Path | None
    annotated: bool
    host: str = ""


@dataclass(frozen=True)
class WindowRecord:
    """One sub-volume: its Glance probability, whether the gate kept it, and whether it holds lesion (None: unknown).

    views: numbers of the case's lesions of which it has a fair view, at least half of the lesion or FAIR_VIEW_ML of it.
    found: those of them that share a voxel with the run's mask and that were inserted, where the case tells which those
    are (the host's own were trained on, or are reported); none where Focus read nothing.
    """

    case: str
    probability: float
    kept: bool
    lesion: bool | None
    views: tuple[int, ...] = ()
    found: tuple[int, ...] = ()


@dataclass(frozen=True)
class CaseRun:
    """One case under one variant. inserted, real: lesions of each kind; *_found: those with a voxel in the mask;
    *_a_tenth: those of which a tenth of the volume is in it.

    seconds: reading the scan until the mask is there, without writing it and without loading the networks.
    """

    case: str
    variant: str
    annotated: bool
    dsc: float
    nsd: float
    inserted: int
    inserted_found: int
    real: int
    real_found: int
    real_ml: float
    false_positive_ml: float
    windows_total: int
    windows_kept: int
    seconds: float
    seconds_glance: float
    seconds_focus: float
    inserted_a_tenth: int
    real_a_tenth: int


def find_gate_cases(folder: Path) -> list[GateCase]:
    """The cases of a folder, by name. Raises ValueError if there are none or a label is missing."""
    record_path = folder / "lesions.json"
    record: dict[str, Any] = json.loads(record_path.read_text(encoding="utf-8")) if record_path.is_file() else {}
    cases = []
    for image in sorted((folder / "images").glob("*_0000.nii.gz")):
        name = image.name.removesuffix("_0000.nii.gz")
        label, inserted = folder / "labels" / f"{name}.nii.gz", folder / "inserted" / f"{name}.nii.gz"
        if not label.is_file():
            raise ValueError(f"{label}: missing; every image needs its label")
        told = record.get(name, {})
        annotated, host = bool(told.get("annotated", True)), str(told.get("host", name))
        cases.append(GateCase(name, image, label, inserted if inserted.is_file() else None, annotated, host))
    if not cases:
        raise ValueError(f"{folder}/images: no *_0000.nii.gz; name a folder with images/ and labels/")
    return cases


def load_variants(named: Sequence[str], engine: str, precision: str, *, dense: bool) -> list[Variant]:
    """Variants of `NAME=WEIGHTS` or `NAME=WEIGHTS@P`. Raises ValueError if the Focus differs or a name comes twice."""
    variants: list[Variant] = []
    focus: set[tuple[str, ...]] = set()
    for text in named:
        name, _, rest = text.partition("=")
        folder, _, gate = rest.partition("@")
        if not name or not folder or name in {DENSE, *(v.name for v in variants)}:
            raise ValueError(f"--gate {text}: expected NAME=WEIGHTS or NAME=WEIGHTS@P with a name of its own")
        weights = Path(folder)
        plan = read_plan(weights)
        stored = read_manifest(weights).sha256
        focus.add(tuple(stored.get(name, "") for name in (FOCUS_FILE, SECOND_FOCUS_FILE)))
        loaded = load_engine(weights, device="cpu", engine=engine, precision=precision, gpu_memory_limit_mb=None)
        variants.append(Variant(name, weights, loaded, plan, float(gate) if gate else plan.gate))
    if len(focus) > 1:
        raise ValueError("the weights folders hold different Focus networks: gates are compared with one Focus")
    first = variants[0]
    return ([Variant(DENSE, first.weights, first.engine, first.plan, 0.0)] if dense else []) + variants


def run_case(
    case: GateCase, variant: Variant, *, glance_only: bool = False
) -> tuple[CaseRun | None, list[WindowRecord]]:
    """Screen one case with one variant; the run is None if only the Glance was asked for."""
    truth = read_mask(case.label)
    clock = Budget(None)
    volume = read_volume(case.image)
    if glance_only:
        return None, _records(case, variant.plan, volume, truth.voxels, _glance_all(variant, volume))
    settings = ScreeningSettings(gate=variant.gate)
    result = screen(volume, variant.plan, variant.engine, clock, settings, keep_outputs=True)
    seconds = clock.elapsed_s()
    outputs = result.network_outputs
    assert outputs is not None
    judged = _judged(outputs)
    found = outputs.focus_probability > variant.plan.lesion_threshold
    inserted = np.zeros_like(truth.voxels)
    if case.inserted:
        inserted = read_mask(case.inserted).voxels
        found &= label_on_grid(inserted, volume, outputs.grid)
    windows = _records(case, variant.plan, volume, truth.voxels, judged, found)
    score = score_pair(truth.voxels, result.mask, truth.spacing_mm)
    found_inserted = detect(inserted, result.mask, truth.spacing_mm, voxel_ml=truth.voxel_ml)
    found_real = detect(
        np.where(inserted > 0, 0, truth.voxels).astype(np.uint8), result.mask, truth.spacing_mm, voxel_ml=truth.voxel_ml
    )
    run = CaseRun(
        case=case.name,
        variant=variant.name,
        annotated=case.annotated,
        dsc=score.dsc,
        nsd=score.nsd,
        inserted=len(found_inserted.lesions),
        inserted_found=sum(lesion.detected for lesion in found_inserted.lesions),
        real=len(found_real.lesions),
        real_found=sum(lesion.detected for lesion in found_real.lesions),
        real_ml=sum(lesion.volume_ml for lesion in found_real.lesions),
        false_positive_ml=detect(
            truth.voxels, result.mask, truth.spacing_mm, voxel_ml=truth.voxel_ml
        ).false_components_ml,
        windows_total=result.windows_total,
        windows_kept=result.windows_kept,
        seconds=seconds,
        seconds_glance=result.seconds["glance"],
        seconds_focus=result.seconds["focus"],
        inserted_a_tenth=sum(lesion.a_tenth for lesion in found_inserted.lesions),
        real_a_tenth=sum(lesion.a_tenth for lesion in found_real.lesions),
    )
    return run, windows


@dataclass(frozen=True)
class Judged:
    """What a gate thinks of all sub-volumes of a scan: probability float (N,) and kept bool (N,)."""

    grid: ModelGrid
    windows: Sequence[Window]
    probability: NDArray[np.floating[Any]]
    kept: NDArray[np.bool_]


def _judged(outputs: NetworkOutputs) -> Judged:
    """What the run's gate thought of the sub-volumes of the grid, wherever Focus was pointed at."""
    windows = outputs.grid_windows
    said = np.ones(len(windows)) if outputs.grid_probability is None else outputs.grid_probability
    return Judged(outputs.grid, windows, said, said > outputs.gate)


def _glance_all(variant: Variant, volume: Volume) -> Judged:
    """The Glance on every sub-volume, without the Focus."""
    scan = to_model(volume, variant.plan)
    windows = plan_windows(scan, variant.plan, variant.plan.overlap)
    if not variant.plan.gated_by_cells:
        found = glance(scan, windows, variant.plan, variant.engine, _no_limit(), no_progress).probability
    else:
        found = glance_at_all_cells(scan, variant.plan, variant.engine, windows)[1].probability
    return Judged(scan.grid, windows, found, found > variant.gate)


def glance_at_all_cells(
    scan: OnModelGrid, plan: Plan, engine: Engine, windows: Sequence[Window] = ()
) -> tuple[CellMap, Glanced]:
    """Every cell of a scan, of a plan that has `cells`, and how suspicious they make the sub-volumes."""
    assert plan.cells is not None
    see, cells = TrunkInput(scan, plan.cells), blank_cells(scan, plan.cells)
    return cells, glance_at_cells(see, cells, list(windows), plan, engine, _no_limit(), no_progress)


def _no_limit() -> Allowance:
    return Allowance(Budget(None), float("inf"))


def label_on_grid(truth: NDArray[np.uint8], volume: Volume, grid: ModelGrid) -> NDArray[np.bool_]:
    """A label uint8 (i, j, k) of the scan, bool (x, y, z) on the model grid, as training brings it there."""
    return sample_to_grid(ras_view((truth > 0).astype(np.uint8), volume), grid, nearest=True).astype(bool)


def label_lesions(lesion: NDArray[np.bool_]) -> tuple[NDArray[np.int32], int]:
    """Numbers of the lesions bool (x, y, z), from 1, 0 elsewhere; and how many there are."""
    numbered, count = ndimage.label(lesion, TOUCHING)
    return numbered, int(count)


def _records(
    case: GateCase,
    plan: Plan,
    volume: Volume,
    truth: NDArray[np.uint8],
    judged: Judged,
    found: NDArray[np.bool_] | None = None,
) -> list[WindowRecord]:
    """One record for each sub-volume.

    truth: uint8 (i, j, k) on the scan's grid. found: bool (x, y, z) on the model grid, what counts as found. In a scan
    that nobody annotated, a sub-volume without inserted lesion is of unknown content.
    """
    lesions, count = label_lesions(label_on_grid(truth, volume, judged.grid))
    voxels = np.bincount(lesions.ravel(), minlength=count + 1)
    fair = np.minimum(FAIR_VIEW_SHARE * voxels, FAIR_VIEW_ML / (np.prod(judged.grid.spacing_mm) / 1000.0))
    hit = set() if found is None else set(np.unique(lesions[found]).tolist())
    records = []
    for window, probability, kept in zip(judged.windows, judged.probability, judged.kept, strict=True):
        part = lesions[clipped(window.start, plan.sub_volume_voxels, lesions.shape)]
        seen = np.bincount(part.ravel(), minlength=count + 1)
        seen[0] = 0
        views = tuple(int(n) for n in np.flatnonzero((seen > 0) & (seen >= fair)))
        holds = bool(seen.any())
        lesion = holds if holds or case.annotated else None
        seen_and_found = tuple(n for n in views if n in hit)
        records.append(WindowRecord(case.name, float(probability), bool(kept), lesion, views, seen_and_found))
    return records
