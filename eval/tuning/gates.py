"""Compare gates on whole scans with one and the same Focus: dense, and every Glance that is named.

`python -m eval gates --cases DIR --gate ce=WEIGHTS --gate grpo=WEIGHTS -o OUT [--choose grpo --sensitivity 0.977]`

`DIR` holds images/X_0000.nii.gz and labels/X.nii.gz; inserted/X.nii.gz (which lesions were inserted) and lesions.json
(which hosts nobody annotated) are used where they are, as `gfscreen insert-lesions` writes them. Every variant is a
real run of the screening code, timed. Written: cases.csv, gates.md, gates.json, and curve_NAME.json for each gate,
which `python -m eval report --curve` draws. `--choose` writes the highest threshold that keeps the asked share of
sub-volumes with lesion into that weights folder's plan: do this on other cases than those that are reported.
`--by lesion` asks that share of the lesions instead: a lesion is kept if a sub-volume with a fair view of it is. Large
lesions reach into many sub-volumes, and a corner of one that is left out costs little. `--by found` asks it of those
inserted lesions alone that Focus finds when it reads everything, as the detection reward does: to open a sub-volume in
which it finds nothing costs time and gives false findings.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.accuracy.statistics import bootstrap_ratio, describe, wilson
from eval.tuning.gate_curve import GatePoint
from eval.tuning.gate_runs import CaseRun, GateCase, Variant, WindowRecord, find_gate_cases, load_variants, run_case
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.models.manifest import change_plan
from gfscreen.training.learning.validation import PUBLISHED_SENSITIVITY

logger = logging.getLogger(__name__)

# A gate that leaves nothing out and yet is one, so that the Glance is asked.
READ_ALL = 1e-30


def curve(windows: Sequence[WindowRecord]) -> list[GatePoint]:
    """Every threshold that makes a difference, by rising threshold. Sub-volumes of unknown content count as kept only.

    sensitivity: of sub-volumes with any lesion voxel. specificity: of those known to have none.
    """
    probability = np.array([w.probability for w in windows])
    lesion = np.array([w.lesion is True for w in windows])
    free = np.array([w.lesion is False for w in windows])
    thresholds = np.unique(np.round(np.concatenate([[0.0, 0.5, 0.9], probability]) - 1e-6, 6).clip(0.0, 1.0))
    return [
        GatePoint(
            threshold=float(t),
            kept_share=float((probability > t).mean()),
            sensitivity=float((probability[lesion] > t).mean()) if lesion.any() else None,
            specificity=float((probability[free] <= t).mean()) if free.any() else None,
        )
        for t in thresholds
    ]


def choose(points: Sequence[GatePoint], sensitivity: float) -> GatePoint:
    """The highest threshold that reaches the sensitivity. Raises ValueError where no sub-volume has a lesion."""
    reached = [p for p in points if p.sensitivity is not None and p.sensitivity >= sensitivity]
    if not reached:
        raise ValueError("no sub-volume with a lesion among these cases: a threshold cannot be chosen")
    return reached[-1]


def lesion_views(windows: Sequence[WindowRecord], *, found: bool = False) -> NDArray[np.float64]:
    """For each lesion (n,), or each that was found, the highest probability of a sub-volume with a fair view of it."""
    best: dict[tuple[str, int], float] = {}
    for window in windows:
        for lesion in window.found if found else window.views:
            key = (window.case, lesion)
            best[key] = max(best.get(key, 0.0), window.probability)
    return np.array(list(best.values()), dtype=np.float64)


def choose_by_lesion(windows: Sequence[WindowRecord], sensitivity: float, *, found: bool = False) -> float:
    """The highest threshold above which that share of the lesions has a fair view. Raises ValueError if none.

    found: of those that the run found, which should then have read everything.
    """
    best = np.sort(lesion_views(windows, found=found))
    if not best.size:
        raise ValueError("no lesion among these cases: a threshold cannot be chosen")
    lost = int(np.floor((1.0 - sensitivity) * best.size + 1e-9))
    return float(max(best[lost] - 1e-6, 0.0))


def summarise(runs: Sequence[CaseRun], windows: Sequence[WindowRecord]) -> dict[str, Any]:
    """One variant over all cases: means with intervals, rates with counts."""
    known = [r for r in runs if r.annotated]

    def rate(top: int, bottom: int) -> dict[str, Any]:
        return {"value": top / bottom if bottom else None, "n": bottom, "wilson": wilson(top, bottom)}

    with_lesion = [w for w in windows if w.lesion is True]
    without = [w for w in windows if w.lesion is False]
    return {
        "cases": len(runs),
        "dsc": describe([r.dsc for r in runs]).as_dict(),
        "nsd": describe([r.nsd for r in runs]).as_dict(),
        "inserted_lesions": rate(sum(r.inserted_found for r in runs), sum(r.inserted for r in runs)),
        "inserted_lesions_a_tenth": rate(sum(r.inserted_a_tenth for r in runs), sum(r.inserted for r in runs)),
        "real_lesions": rate(sum(r.real_found for r in runs), sum(r.real for r in runs)),
        "real_lesions_a_tenth": rate(sum(r.real_a_tenth for r in runs), sum(r.real for r in runs)),
        "false_positive_ml": describe([r.false_positive_ml for r in known]).as_dict(),
        "kept_share": bootstrap_ratio([r.windows_kept for r in runs], [r.windows_total for r in runs]).as_dict(),
        "lesions_kept": rate(len(lesion_views([w for w in windows if w.kept])), len(lesion_views(windows))),
        "glance_sensitivity": rate(sum(w.kept for w in with_lesion), len(with_lesion)),
        "glance_specificity": rate(sum(not w.kept for w in without), len(without)),
        "seconds": describe([r.seconds for r in runs]).as_dict(),
        "seconds_glance": describe([r.seconds_glance for r in runs]).as_dict(),
        "seconds_focus": describe([r.seconds_focus for r in runs]).as_dict(),
    }


def _cell(value: dict[str, Any], *, percent: bool = False) -> str:
    middle: float | None = value["value"] if "value" in value else value["mean"]
    if middle is None:
        return "-"
    low, high = value.get("wilson") or value.get("ci95") or (value.get("low"), value.get("high"))
    scale, digits = (100, 1) if percent else (1, 3)
    text = f"{scale * middle:.{digits}f}"
    if low is not None and high is not None:
        text += f" [{scale * low:.{digits}f}, {scale * high:.{digits}f}]"
    return text


def table(results: dict[str, dict[str, Any]], gates: dict[str, float]) -> str:
    """The comparison in Markdown; brackets are 95 % intervals."""
    rows: list[tuple[str, str, bool]] = [
        ("DSC", "dsc", False),
        ("NSD (2 mm)", "nsd", False),
        ("lesion-level sensitivity (one voxel), inserted, %", "inserted_lesions", True),
        ("lesion-level sensitivity (a tenth), inserted, %", "inserted_lesions_a_tenth", True),
        ("lesion-level sensitivity (one voxel), annotated, %", "real_lesions", True),
        ("lesion-level sensitivity (a tenth), annotated, %", "real_lesions_a_tenth", True),
        ("false-positive volume per annotated scan, ml", "false_positive_ml", False),
        ("sub-volumes kept, %", "kept_share", True),
        ("lesions with half of them or 2 ml in a kept sub-volume, %", "lesions_kept", True),
        ("Glance sensitivity, %", "glance_sensitivity", True),
        ("Glance specificity, %", "glance_specificity", True),
        ("seconds, from reading the scan to the mask", "seconds", False),
        ("of these Glance", "seconds_glance", False),
        ("of these Focus", "seconds_focus", False),
    ]
    lines = ["| | " + " | ".join(f"{name} (gate {gates[name]:.3g})" for name in results) + " |"]
    lines.append("|---|" + "---|" * len(results))
    for title, key, percent in rows:
        lines.append(f"| {title} | " + " | ".join(_cell(r[key], percent=percent) for r in results.values()) + " |")
    return "\n".join(lines) + "\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval gates`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument(
        "--gate",
        action="append",
        required=True,
        metavar="NAME=WEIGHTS[@P]",
        help="a gate's weights; P overrides its plan",
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--no-dense", action="store_true", help="leave the dense sliding window out")
    parser.add_argument("--glance-only", action="store_true", help="curves only: the Focus reads nothing")
    parser.add_argument(
        "--choose", metavar="NAME", help="write the chosen threshold into the plan of this gate's weights"
    )
    parser.add_argument("--sensitivity", type=float, default=PUBLISHED_SENSITIVITY, help="to choose by (%(default)s)")
    parser.add_argument(
        "--by",
        choices=("sub-volume", "lesion", "found"),
        default="sub-volume",
        help="what the sensitivity counts (%(default)s); found: lesions that Focus finds when it reads everything",
    )
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Run all variants on all cases. Exit 0; 2 on wrong usage. Other errors are raised."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        cases = find_gate_cases(args.cases)
        variants = load_variants(args.gate, args.engine, args.precision, dense=not (args.no_dense or args.glance_only))
        if args.choose and args.choose not in {v.name for v in variants}:
            raise ValueError(f"--choose {args.choose}: no gate of this name; name one of {[v.name for v in variants]}")
        if args.by == "found":
            if args.glance_only:
                raise ValueError("--by found: Focus has to read; leave out --glance-only")
            variants = [replace(v, gate=READ_ALL) if v.name == args.choose else v for v in variants]
    except ValueError as error:
        logger.error("gates: %s", error)
        return 2
    args.output.mkdir(parents=True, exist_ok=True)
    runs, windows = _run_all(cases, variants, glance_only=args.glance_only)
    for variant in variants:
        if variant.gate > 0:
            points = [asdict(p) for p in curve(windows[variant.name])]
            (args.output / f"curve_{variant.name}.json").write_text(
                json.dumps(points, indent=1) + "\n", encoding="utf-8"
            )
    if not args.glance_only:
        _write_results(args.output, runs, windows, variants)
    if args.choose:
        _write_choice(args, variants, windows[args.choose])
    return 0


def _run_all(
    cases: Sequence[GateCase], variants: Sequence[Variant], *, glance_only: bool
) -> tuple[list[CaseRun], dict[str, list[WindowRecord]]]:
    runs: list[CaseRun] = []
    windows: dict[str, list[WindowRecord]] = {variant.name: [] for variant in variants}
    for case in cases:
        for variant in variants:
            found, records = run_case(case, variant, glance_only=glance_only)
            windows[variant.name] += records
            if found is not None:
                runs.append(found)
                logger.info(
                    "%s %s: DSC %.3f, inserted %d (a tenth %d) of %d, annotated %d (%d) of %d, false %.2f ml, "
                    "kept %d/%d, %.1f s",
                    case.name, variant.name, found.dsc, found.inserted_found, found.inserted_a_tenth, found.inserted,
                    found.real_found, found.real_a_tenth, found.real, found.false_positive_ml, found.windows_kept,
                    found.windows_total, found.seconds,
                )  # fmt: skip
    return runs, windows


def _write_results(
    output: Path, runs: Sequence[CaseRun], windows: dict[str, list[WindowRecord]], variants: Sequence[Variant]
) -> None:
    with (output / "cases.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(CaseRun)])
        writer.writeheader()
        writer.writerows(asdict(r) for r in runs)
    results = {v.name: summarise([r for r in runs if r.variant == v.name], windows[v.name]) for v in variants}
    engine: Engine = variants[0].engine
    summary = {"engine": asdict(engine.info), "gates": {v.name: v.gate for v in variants}, "variants": results}
    (output / "gates.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    text = table(results, {v.name: v.gate for v in variants})
    (output / "gates.md").write_text(text, encoding="utf-8")
    logger.info("%s", text)


def _write_choice(args: argparse.Namespace, variants: Sequence[Variant], windows: Sequence[WindowRecord]) -> None:
    found = args.by == "found"
    if args.by == "sub-volume":
        gate = choose(curve(windows), args.sensitivity).threshold
    else:
        gate = choose_by_lesion(windows, args.sensitivity, found=found)
    weights = next(v.weights for v in variants if v.name == args.choose)
    change_plan(weights, gate=gate)
    probability, lesion = np.array([w.probability for w in windows]), np.array([w.lesion is True for w in windows])
    views = lesion_views(windows, found=found)
    logger.info(
        "%s: gate %.6f written; here it keeps %.1f %% of the sub-volumes, %.4f of those with lesion, %d of %d lesions",
        weights, gate, 100 * (probability > gate).mean(), (probability[lesion] > gate).mean(), (views > gate).sum(),
        len(views),
    )  # fmt: skip
