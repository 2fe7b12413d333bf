"""Choose the plan's `lesion_threshold`, where Focus's outlines lie, and `finding_peak`, which findings stand.

`python -m eval peak --cases DIR --weights WEIGHTS -o OUT [--write]`

`DIR` is as for `eval gates`; use other cases than those that are reported. Every case is read once, densely, with every
finding left in; each pair of candidates is then applied to the same probabilities, on the model grid. So little being
chance, pairs whose mean DSC is within 0.001 of the best count as good; chosen is that of them which touches most
lesions, and of several that with the fewest false findings.
Written: peak.csv, a row per pair, and with --write the chosen values into the plan of the weights folder.

A network of calibrated probabilities has its best expected Dice not at 0.5 but at half of that Dice (Lipton et al.
2014, arXiv:1402.1892, for F1): hence the lower thresholds. The peak keeps out what Focus is nowhere sure of.
"""

from __future__ import annotations

import argparse
import csv
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from eval.detection import detect
from eval.gate_runs import GateCase, find_gate_cases, label_on_grid
from eval.masks import Spacing, read_mask
from eval.metrics import dice
from gfscreen.budget import Budget
from gfscreen.config import Plan, read_plan
from gfscreen.engines.base import Engine
from gfscreen.engines.select import load_engine
from gfscreen.findings import drop_unlikely
from gfscreen.models.manifest import change_plan
from gfscreen.screening import Settings, screen
from gfscreen.volume import read_volume

logger = logging.getLogger(__name__)

THRESHOLDS = (0.2, 0.3, 0.4, 0.5)
PEAKS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98)
CHANCE = 0.001


@dataclass(frozen=True)
class Effect:
    """One pair on all cases: mean DSC, share of lesions touched, findings and their volume without any lesion."""

    threshold: float
    peak: float
    dsc: float
    touched: float
    false_findings: float
    false_ml: float


def effect_on(
    probability: NDArray[np.float32], lesion: NDArray[np.bool_], threshold: float, peak: float, spacing_mm: Spacing
) -> tuple[float, int, int, float]:
    """DSC (1 where both are empty), lesions touched, findings that touch no lesion, and their ml, of one case.

    probability: float32 (x, y, z); it is not changed. lesion: bool, same shape.
    """
    left = probability.copy()
    drop_unlikely(left, None, threshold=threshold, peak=peak)
    found = left > threshold
    result = detect(lesion, found, spacing_mm)
    touched = sum(one.detected for one in result.lesions)
    return dice(found, lesion), touched, result.false_components, result.false_components_ml


def effects(cases: Sequence[GateCase], plan: Plan, engine: Engine) -> list[Effect]:
    """Every pair on all cases, by rising threshold, then peak."""
    pairs = list(product(THRESHOLDS, PEAKS))
    rows: list[list[tuple[float, int, int, float]]] = [[] for _ in pairs]
    lesions = 0
    for case in cases:
        volume = read_volume(case.image)
        everything = replace(plan, lesion_threshold=THRESHOLDS[0], finding_peak=THRESHOLDS[0])
        result = screen(volume, everything, engine, Budget(None), Settings(gate=0.0), keep_evidence=True)
        assert result.evidence is not None
        grid = result.evidence.grid
        lesion = label_on_grid(read_mask(case.label).voxels, volume, grid)
        lesions += len(detect(lesion, None, grid.spacing_mm).lesions)
        for row, (threshold, peak) in zip(rows, pairs, strict=True):
            row.append(effect_on(result.evidence.focus_probability, lesion, threshold, peak, grid.spacing_mm))
        logger.info("%s: DSC %.3f to %.3f", case.name, min(r[-1][0] for r in rows), max(r[-1][0] for r in rows))
    found = []
    for row, pair in zip(rows, pairs, strict=True):
        dsc, touched, false, false_ml = (np.array(column, float) for column in zip(*row, strict=True))
        share = float(touched.sum() / lesions) if lesions else 0.0
        found.append(Effect(*pair, float(dsc.mean()), share, float(false.mean()), float(false_ml.mean())))
    return found


def choose(found: Sequence[Effect]) -> Effect:
    """Of the pairs whose mean DSC is within CHANCE of the best: most lesions touched, then fewest false findings."""
    best = max(effect.dsc for effect in found)
    good = (effect for effect in found if effect.dsc >= best - CHANCE)
    return min(good, key=lambda effect: (-effect.touched, effect.false_findings, -effect.threshold, effect.peak))


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval peak`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
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
    found = effects(cases, read_plan(args.weights), engine)
    args.output.mkdir(parents=True, exist_ok=True)
    with (args.output / "peak.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Effect)])
        writer.writeheader()
        writer.writerows(asdict(effect) for effect in found)
    for effect in found:
        logger.info(
            "%.2f, %.2f: DSC %.3f, touched %.1f %%, %.1f false findings and %.2f false ml a scan",
            effect.threshold, effect.peak, effect.dsc, 100 * effect.touched, effect.false_findings, effect.false_ml,
        )  # fmt: skip
    best = choose(found)
    done = "written" if args.write else "would be chosen"
    logger.info("%s: lesion_threshold %.2f, finding_peak %.2f %s", args.weights, best.threshold, best.peak, done)
    if args.write:
        change_plan(args.weights, lesion_threshold=best.threshold, finding_peak=best.peak)
    return 0
