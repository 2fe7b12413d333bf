"""Choose the plan's `lesion_threshold`, where Focus's outlines lie, and `finding_peak`, which findings stand.

`python -m eval peak --cases DIR --weights WEIGHTS -o OUT [--gated] [--by sensitivity | dsc] [--write]`

`DIR` is as for `eval gates`; use other cases than those that are reported. Every case is read once, with every finding
left in: densely, or with --gated as the plan reads it, what its Glance keeps and where its cells let Focus mark. Each
pair of candidates is then applied to the same probabilities, on the model grid.

By `sensitivity`, for a screen that should find lesions before it outlines them well: of the pairs that reach nine
tenths of the best mean DSC, that is chosen which finds most lesions (one voxel), and of several that with the fewest
false positives. By `dsc`: the best mean DSC, where a false positive costs as it does in the challenge.

Written: peak.csv, a row per pair, and with --write the chosen values into the plan of the weights folder.

A network of calibrated probabilities has its best expected Dice not at 0.5 but at half of that Dice (Lipton et al.
2014, arXiv:1402.1892, for F1): hence the lower thresholds. The peak keeps out what Focus is nowhere sure of.
"""

from __future__ import annotations

import argparse
import csv
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from eval.accuracy.detection import TENTH
from eval.accuracy.masks import read_mask
from eval.tuning.gate_runs import GateCase, find_gate_cases, label_lesions, label_on_grid
from gfscreen.config import Plan, read_plan
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import change_plan
from gfscreen.scan.volume import read_volume
from gfscreen.screening.budget import Budget
from gfscreen.screening.findings import TOUCHING
from gfscreen.screening.screening import screen
from gfscreen.screening.settings import ScreeningSettings

logger = logging.getLogger(__name__)

THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
PEAKS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
Outcome = tuple[float, int, int, float, int]
# This share of the best mean DSC is enough where more lesions are found for it.
ENOUGH = 0.9


@dataclass(frozen=True)
class Effect:
    """One pair on all cases: mean DSC, lesion-level sensitivity (one voxel), and a scan's false positives: findings
    without any lesion, their number and volume. sensitivity_a_tenth: of lesions of which a tenth is marked, or more.
    """

    threshold: float
    peak: float
    dsc: float
    sensitivity: float
    false_positives: float
    false_positive_ml: float
    sensitivity_a_tenth: float


@dataclass(frozen=True)
class Findings:
    """What lies above one threshold in one case: arrays over findings, and which lesions each overlaps.

    peaks: float (n,), the highest probability. voxels, shared: int (n,), of the finding, and of these in a lesion.
    overlaps: int (m, 2), number of a finding and of a lesion that share a voxel; overlap_voxels: int (m,), how many.
    lesion_voxels: int (l,), of each lesion.
    """

    peaks: NDArray[np.float64]
    voxels: NDArray[np.int64]
    shared: NDArray[np.int64]
    overlaps: NDArray[np.int64]
    overlap_voxels: NDArray[np.int64]
    lesion_voxels: NDArray[np.int64]


def findings_above(probability: NDArray[np.float32], lesions: NDArray[np.int32], threshold: float) -> Findings:
    """The findings of a probability float32 (x, y, z) above a threshold; lesions: their numbers, same shape."""
    labels, count = ndimage.label(probability > threshold, TOUCHING)
    numbers = np.arange(1, count + 1)
    peaks = np.asarray(ndimage.maximum(probability, labels, numbers), np.float64).reshape(count)
    return findings_in(labels, peaks, lesions)


def findings_in(labels: NDArray[np.int32], peaks: NDArray[np.float64], lesions: NDArray[np.int32]) -> Findings:
    """The findings that `labels` number from 1, each with its peak (n,); lesions: their numbers, same shape."""
    count = peaks.size
    voxels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    both = (labels > 0) & (lesions > 0)
    pairs = np.stack([labels[both] - 1, lesions[both] - 1], axis=1).astype(np.int64)
    shared = np.bincount(pairs[:, 0], minlength=count)
    overlaps, overlap_voxels = np.unique(pairs, axis=0, return_counts=True)
    return Findings(peaks, voxels, shared, overlaps, overlap_voxels, np.bincount(lesions.ravel(), minlength=1)[1:])


def effect_of(found: Findings, peak: float, lesion_voxels: int, voxel_ml: float) -> tuple[float, int, int, float]:
    """DSC (1 where both are empty), lesions found (one voxel), false positives and their volume in ml, of one case."""
    stands = found.peaks > peak
    total = int(found.voxels[stands].sum()) + lesion_voxels
    hit = np.unique(found.overlaps[stands[found.overlaps[:, 0]], 1])
    false = stands & (found.shared == 0)
    dsc = 2 * int(found.shared[stands].sum()) / total if total else 1.0
    return dsc, len(hit), int(false.sum()), int(found.voxels[false].sum()) * voxel_ml


def marked_by_a_tenth(found: Findings, peak: float) -> int:
    """Lesions of one case of which the findings that stand mark a tenth, or more."""
    stands = found.peaks[found.overlaps[:, 0]] > peak
    marked = np.zeros(found.lesion_voxels.size, np.int64)
    np.add.at(marked, found.overlaps[stands, 1], found.overlap_voxels[stands])
    return int((marked / found.lesion_voxels >= TENTH).sum())


def effects(cases: Sequence[GateCase], plan: Plan, engine: Engine, *, gated: bool = False) -> list[Effect]:
    """Every pair on all cases, by rising threshold, then peak. gated: read as the plan says, not densely."""
    settings = ScreeningSettings() if gated else ScreeningSettings(gate=0.0)
    pairs = list(product(THRESHOLDS, PEAKS))
    rows: list[list[Outcome]] = [[] for _ in pairs]
    lesions = 0
    for case in cases:
        volume = read_volume(case.image)
        everything = replace(plan, lesion_threshold=THRESHOLDS[0], finding_peak=THRESHOLDS[0])
        result = screen(volume, everything, engine, Budget(None), settings, keep_outputs=True)
        assert result.network_outputs is not None
        grid, probability = result.network_outputs.grid, result.network_outputs.focus_probability
        numbered, count = label_lesions(label_on_grid(read_mask(case.label).voxels, volume, grid))
        lesions += count
        lesion_voxels, voxel_ml = int((numbered > 0).sum()), math.prod(grid.spacing_mm) / 1000
        at = {threshold: findings_above(probability, numbered, threshold) for threshold in THRESHOLDS}
        for row, (threshold, peak) in zip(rows, pairs, strict=True):
            found = at[threshold]
            row.append(outcome(found, peak, lesion_voxels, voxel_ml))
        logger.info("%s: DSC %.3f to %.3f", case.name, min(r[-1][0] for r in rows), max(r[-1][0] for r in rows))
    return [mean_effect(pair, row, lesions) for row, pair in zip(rows, pairs, strict=True)]


def outcome(found: Findings, peak: float, lesion_voxels: int, voxel_ml: float) -> Outcome:
    """`effect_of` of one case, and of how many lesions a tenth is marked."""
    return *effect_of(found, peak, lesion_voxels, voxel_ml), marked_by_a_tenth(found, peak)


def mean_effect(pair: tuple[float, float], row: Sequence[Outcome], lesions: int) -> Effect:
    """The effect of a pair over its cases, which have so many lesions together."""
    dsc, hit, false, false_ml, tenths = (np.array(column, float) for column in zip(*row, strict=True))
    share, tenth = (float(count.sum() / lesions) if lesions else 0.0 for count in (hit, tenths))
    return Effect(*pair, float(dsc.mean()), share, float(false.mean()), float(false_ml.mean()), tenth)


def choose(found: Sequence[Effect], by: str = "sensitivity") -> Effect:
    """By `sensitivity` or `dsc`, as this module says; of several as good ones that with the fewest false positives."""
    best = max(effect.dsc for effect in found)
    good = [effect for effect in found if effect.dsc >= (best if by == "dsc" else ENOUGH * best)]
    return min(good, key=lambda effect: (-effect.sensitivity, effect.false_positives, -effect.threshold, effect.peak))


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval peak`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--gated", action="store_true", help="read as the plan says, with its gate and cells, not densely"
    )
    parser.add_argument(
        "--by", choices=("sensitivity", "dsc"), default="sensitivity", help="what the pair is chosen by"
    )
    parser.add_argument("--write", action="store_true", help="write the chosen values into the plan of the weights")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Try every pair on all cases. Exit 0; 2 on wrong usage. Other errors are raised."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        cases = find_gate_cases(args.cases)
    except ValueError as error:
        logger.error("peak: %s", error)
        return 2
    engine = load_engine(args.weights, device="cpu", engine=args.engine, precision="auto", gpu_memory_limit_mb=None)
    found = effects(cases, read_plan(args.weights), engine, gated=args.gated)
    args.output.mkdir(parents=True, exist_ok=True)
    with (args.output / "peak.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Effect)])
        writer.writeheader()
        writer.writerows(asdict(effect) for effect in found)
    for effect in found:
        logger.info(
            "%.2f, %.2f: DSC %.3f, lesion-level sensitivity %.1f %% (a tenth: %.1f), "
            "%.1f false positives of %.2f ml a scan",
            effect.threshold, effect.peak, effect.dsc, 100 * effect.sensitivity, 100 * effect.sensitivity_a_tenth,
            effect.false_positives, effect.false_positive_ml,
        )  # fmt: skip
    best = choose(found, args.by)
    done = "written" if args.write else "would be chosen"
    logger.info("%s: lesion_threshold %.2f, finding_peak %.2f %s", args.weights, best.threshold, best.peak, done)
    if args.write:
        change_plan(args.weights, lesion_threshold=best.threshold, finding_peak=best.peak)
    return 0
