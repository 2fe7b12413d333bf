"""Choose the plan's `case_calibration`: from a scan's most suspicious cell to how likely it is to hold a lesion.

`python -m eval calibrate --cases DIR --weights WEIGHTS -o OUT [--share P] [--write]`

`DIR` has images/ and labels/, as for `eval gates`: scans that somebody read, with and without lesions, of patients that
the weights were not trained on. Cells alone are judged; Focus is not asked. A curve that tells nothing
(`eval.tuning.calibration`) is not written.

The suspicion is that of a scan among scans of which as many hold a lesion as of these. `--share` is the share where the
weights are used; the offset moves by the difference of the log odds (King and Zeng 2001).

Written: calibration.json, scans.csv (logit, lesion, held-out suspicion), reliability.png and .svg.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from eval.report.froc_figures import reliability_chart
from eval.tuning.calibration import Curve, JudgedScan, calibration_of, judge
from eval.tuning.gate_runs import find_gate_cases
from gfscreen.config import read_plan
from gfscreen.errors import UsageError
from gfscreen.files import write_atomically
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import change_plan

logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval calibrate`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument(
        "--share",
        type=float,
        metavar="P",
        help="share of scans with lesion where it is used (default: as in the cases)",
    )
    parser.add_argument("--write", action="store_true", help="write the curve into the plan, if it is worth anything")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Judge, fit, report. Exit 0; 1 where `--write` is refused. Raises UsageError, WeightsError, OutputError."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = read_plan(args.weights)
    if plan.cells is None:
        raise UsageError(f"--weights {args.weights}: its Glance judges no cells; name weights that train-cells made")
    if args.share is not None and not 0 < args.share < 1:
        raise UsageError(f"--share must be between 0 and 1, got {args.share:g}")
    try:
        cases = find_gate_cases(args.cases)
    except ValueError as error:
        raise UsageError(str(error)) from error
    engine = load_engine(args.weights, device="cpu", engine=args.engine, precision="auto", gpu_memory_limit_mb=None)
    scans = list(judge(cases, plan, engine))
    found = calibration_of(scans)
    curve: Curve = found["curve"]
    if args.share is not None:
        curve = curve.at_share(args.share, found["share"])
    _write(args.output, scans, found, curve, args.share)
    area, trust = found["auc"], found["reliability"]
    logger.info(
        "%d scans with lesion, %d without: AUC %.2f [%.2f, %.2f]; held out, Brier score %.3f, of the share alone %.3f",
        area["with_lesion"], area["without_lesion"], area["value"], area["low"], area["high"],
        trust["brier"]["value"], trust["brier_of_share"],
    )  # fmt: skip
    done = "written" if args.write and found["worth_it"] else "not written"
    logger.info("case_calibration [%.4f, %.4f]: %s", curve.slope, curve.offset, done)
    if not found["worth_it"]:
        logger.warning("it tells nothing: %s", found["reason"])
        return int(args.write)
    if args.write:
        change_plan(args.weights, cells=replace(plan.cells, case_calibration=(curve.slope, curve.offset)))
    return 0


def _write(folder: Path, scans: Sequence[JudgedScan], found: dict[str, Any], curve: Curve, share: float | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    told = {
        "case_calibration": [curve.slope, curve.offset],
        "share": found["share"] if share is None else share,
        **{key: found[key] for key in ("auc", "reliability", "worth_it", "reason")},
    }
    write_atomically(folder / "calibration.json", (json.dumps(told, indent=2) + "\n").encode())
    with (folder / "scans.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("name", "logit", "lesion", "held_out_suspicion"))
        writer.writerows((s.name, s.logit, int(s.lesion), p) for s, p in zip(scans, found["suspicion"], strict=True))
    reliability_chart(folder, {"case_level": {"suspicion": {"reliability": found["reliability"]}}})
