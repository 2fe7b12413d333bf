"""The method's ablation with a gate of cells: what it learns by, over seeds, with the same frozen Focus.

`python -m eval ablation --data LIST --cache CACHE --weights WEIGHTS --cases DIR -o OUT [--seeds 5] [--kept 0.25]`

Each gate is a head on the trunk's features that starts from random weights and learns from the same pool of training
sub-volumes: by cross-entropy, by PPO, by GRPO with the detection or the Dice reward. It is tried on the cases of `DIR`
(images/X_0000.nii.gz, labels/X.nii.gz), none of which may be among those that are learnt from: AUC of sub-volumes with
lesion, and what Focus finds in the most suspicious sub-volumes, as many as `--kept` says. Cells do not say where Focus
may mark. Written: ablation.json and ablation.md; OUT/reads keeps what Focus said, so that a run goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from eval.accuracy.statistics import auc_of
from eval.tuning.ablation_scans import TriedScan, tried_scan
from eval.tuning.gate_runs import find_gate_cases
from gfscreen.errors import UsageError
from gfscreen.networks.engines.select import load_engine
from gfscreen.screening.cells import REGION_CHANNEL
from gfscreen.training.cells.gathering import Gathered
from gfscreen.training.cells.learn import CellJob, material_of, pool_of
from gfscreen.training.cells.reinforcement import Objective, learn_from_labels, reinforce, untrained
from gfscreen.training.data.lists import read_list

logger = logging.getLogger(__name__)

STEPS, LEARNING_RATE = 600, 2e-4
NONE = "none (reads all)"
# None: by the labels alone.
LEARNERS: dict[str, Objective | None] = {
    "cross-entropy": None,
    "PPO, detection": "ppo",
    "GRPO, detection": "grpo-detection",
    "GRPO, Dice": "grpo-dice",
}


@dataclass(frozen=True)
class Trial:
    """One gate on all scans. auc: of sub-volumes, None where all or none hold lesion. dsc: mean over scans with some.

    sensitivity, specificity: of sub-volumes, None where there are none. one_voxel, a_tenth: lesions found, summed.
    """

    auc: float | None
    kept_share: float
    sensitivity: float | None
    specificity: float | None
    dsc: float | None
    false_positive_ml: float
    one_voxel: int
    a_tenth: int


def trial(scans: Sequence[TriedScan], suspicion: Sequence[NDArray[np.float32]], kept_share: float) -> Trial:
    """What the most suspicious sub-volumes of all scans give, a share of them. suspicion: (windows,) of each scan."""
    said, holds = np.concatenate(suspicion), np.concatenate([scan.holds for scan in scans])
    least = -np.inf if kept_share >= 1 else float(np.sort(said)[::-1][max(0, round(kept_share * said.size) - 1)])
    kept = said >= least
    outcomes = [scan.outcome(own >= least) for scan, own in zip(scans, suspicion, strict=True)]
    dsc = [outcome.dsc for outcome in outcomes if outcome.dsc is not None]
    return Trial(
        auc=auc_of(said, holds),
        kept_share=float(kept.mean()),
        sensitivity=float(kept[holds].mean()) if holds.any() else None,
        specificity=float(1 - kept[~holds].mean()) if not holds.all() else None,
        dsc=float(np.mean(dsc)) if dsc else None,
        false_positive_ml=sum(outcome.false_positive_ml for outcome in outcomes),
        one_voxel=sum(outcome.one_voxel for outcome in outcomes),
        a_tenth=sum(outcome.a_tenth for outcome in outcomes),
    )


def interval(values: Sequence[float]) -> dict[str, float | int | None]:
    """Mean over seeds with its 95 % interval by Student's t; no interval of fewer than two."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return {"mean": mean, "low": None, "high": None, "n": len(values)}
    half = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half, "n": len(values)}


def summarise(trials: dict[str, list[Trial]]) -> dict[str, dict[str, Any]]:
    """Every figure of every learner, with its interval over seeds; None where it is not defined."""
    names = list(Trial.__dataclass_fields__)
    found: dict[str, dict[str, Any]] = {}
    for learner, own in trials.items():
        values = {name: [getattr(one, name) for one in own] for name in names}
        found[learner] = {name: None if None in of else interval(of) for name, of in values.items()}
    return found


def table(summary: dict[str, dict[str, Any]], lesions: int) -> str:
    """The ablation as Markdown."""

    def shown(found: dict[str, Any] | None, digits: int, times: float = 1.0) -> str:
        if found is None:
            return ""
        mean = f"{times * found['mean']:.{digits}f}"
        if found["low"] is None:
            return mean
        return f"{mean} [{times * found['low']:.{digits}f}, {times * found['high']:.{digits}f}]"

    lines = [
        "| learns by | AUC of sub-volumes | kept, % | sensitivity, % | specificity, % | "
        f"lesions of {lesions}: one voxel; a tenth | DSC | falsely marked, ml |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for learner, of in summary.items():
        found = f"{shown(of['one_voxel'], 1)}; {shown(of['a_tenth'], 1)}"
        cells = (shown(of["auc"], 3), shown(of["kept_share"], 0, 100), shown(of["sensitivity"], 0, 100))
        rest = (shown(of["specificity"], 0, 100), found, shown(of["dsc"], 3), shown(of["false_positive_ml"], 0))
        lines.append("| " + " | ".join((learner, *cells, *rest)) + " |")
    return "\n".join(lines) + "\n"


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval ablation`."""
    parser.add_argument("--data", type=Path, required=True, metavar="LIST", help="data list; its training side teaches")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of prepared scans")
    parser.add_argument("--weights", type=Path, required=True, metavar="DIR", help="weights with trunk and Focus")
    parser.add_argument("--cases", type=Path, required=True, metavar="DIR", help="annotated cases to try gates on")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="for the table and the reads")
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="default 5")
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=f"groups learnt from (default {STEPS})")
    parser.add_argument("--versions", type=int, default=1, metavar="N", help="of each scan, with inserted lesions (1)")
    parser.add_argument("--kept", type=float, default=0.25, metavar="SHARE", help="of the sub-volumes (default 0.25)")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="auto")


def run(args: argparse.Namespace) -> int:
    """Learn and compare. Exit 0; errors are raised for the caller."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.seeds < 1 or args.steps < 1 or not 0 < args.kept <= 1:
        raise UsageError("--seeds and --steps must be at least 1, --kept above 0 and at most 1")
    try:
        cases = find_gate_cases(args.cases)
    except ValueError as error:
        raise UsageError(str(error)) from error
    data = read_list(args.data)
    taught = {entry.image.resolve() for entry in data.training}
    if both := [case.name for case in cases if case.image.resolve() in taught]:
        raise UsageError(
            f"{args.cases}: {both[0]} is among the scans that are learnt from; name others to try gates on"
        )
    job = CellJob(data, args.cache, args.weights, args.output / "none", versions=args.versions, objective="grpo-dice")
    material = material_of(job)
    pool = pool_of(job, material, args.versions, Gathered(), None)
    if not pool:
        raise UsageError(f"{args.data}: gives no sub-volume to learn from; add annotated scans")
    engine = load_engine(args.weights, device="cpu", engine=args.engine, precision="auto", gpu_memory_limit_mb=None)
    reads = args.output / "reads"
    scans = [
        tried_scan(case, data.label_values, material.plan, material.config, material.run, engine, reads)
        for case in cases
        if case.annotated
    ]
    everything = [np.zeros(len(scan.windows), np.float32) for scan in scans]
    trials = {NONE: [replace(trial(scans, everything, 1.0), auc=None)]}
    for seed in range(args.seeds):
        start = untrained(pool, len(REGION_CHANNEL), seed)
        for learner, objective in LEARNERS.items():
            if objective is None:
                heads = learn_from_labels(start, pool, seed, steps=args.steps, learning_rate=LEARNING_RATE)
            else:
                heads = reinforce(start, pool, objective, seed, steps=args.steps, learning_rate=LEARNING_RATE)
            found = trial(scans, [scan.suspicion(heads) for scan in scans], args.kept)
            trials.setdefault(learner, []).append(found)
            logger.info("seed %d, %s: AUC %s, DSC %s", seed, learner, found.auc, found.dsc)
    summary = summarise(trials)
    written = {
        "list": data.name, "cases": [scan.name for scan in scans], "sub_volumes_learnt_from": len(pool),
        "with_lesion": sum(one.has_lesion for one in pool), "steps": args.steps, "kept": args.kept, "results": summary,
    }  # fmt: skip
    (args.output / "ablation.json").write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")
    text = table(summary, sum(scan.count for scan in scans))
    (args.output / "ablation.md").write_text(text, encoding="utf-8")
    logger.info("%s", text)
    return 0
