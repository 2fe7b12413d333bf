"""Fit the plan's `finding_model`, which says how likely a finding is to be lesion, and choose its `finding_from`.

`python -m eval findings --cases DIR [--choose DIR] --weights WEIGHTS -o OUT [--peak P] [--write]`

`DIR` is as for `eval gates`; `insert-lesions --crowded` with training hosts makes one. Use other cases than those that
are reported. Every case is read once, as the plan reads it, and each of Focus's findings whose peak is above P is
measured (screening/finding_measures.py). It counts as lesion if a fifth of it is. A logistic regression learns to tell;
of a host that nobody annotated what it finds most suspicious teaches nothing, for that may be lesion.

`finding_from` is chosen on the cases of --choose, which should have as many lesions as scans have (without it, on the
same), by what a regression says that has learnt from no case of their host: five folds by host. Chosen is the best mean
DSC among the values by which no fewer lesions are found than by the plan as it is, neither by one voxel nor by a tenth.

Written: OUT.json with the regression, its AUC on what it has not seen, and each value's effect; with --write
the model, `finding_from` and P as `finding_peak` into the plan of the weights folder, and into its operating point
`balanced`, which is the plan's own.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from eval.accuracy.froc.case_level import auc
from eval.tuning.finding_cases import BoolArray, CaseFindings, FloatArray, read_cases
from eval.tuning.finding_thresholds import Effect, mean_effect, outcome
from eval.tuning.gate_runs import find_gate_cases
from gfscreen.command.arguments import probability
from gfscreen.config import NO_MASSES, Plan, read_plan
from gfscreen.errors import UsageError
from gfscreen.files import write_atomically
from gfscreen.finding_plan import MEASURES, FindingMeasure, FindingModel
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import change_plan
from gfscreen.screening.false_positive_reduction import lesion_likelihood, regression_terms, standardised
from gfscreen.training.cells.head import fit

logger = logging.getLogger(__name__)

PEAK = 0.5
# Of the findings in hosts that nobody annotated, so many may be lesion and teach nothing: the likeliest.
UNKNOWN_SHARE = 0.1
FOLDS = 5
# What is stored of each number: a likelihood then differs in its fourth digit.
DIGITS = 5
LEAST_SCALE = 1e-3
PENALTY = 0.02
SEED = 0
CUTS = (0.0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7)


def fitted(cases: Sequence[CaseFindings], least_peak: float) -> FindingModel | None:
    """The regression on what is known of these cases, whose findings have peaks above a value.

    None unless there is lesion and none to learn from.
    """
    first = _fitted(cases, [~case.unknown for case in cases], least_peak)
    unknown = [lesion_likelihood(case.values[case.unknown], first) for case in cases] if first else []
    if first is None or not sum(likely.size for likely in unknown):
        return first
    most = float(np.quantile(np.concatenate(unknown), 1.0 - UNKNOWN_SHARE))
    ordinary = [~case.unknown | (lesion_likelihood(case.values, first) <= most) for case in cases]
    return _fitted(cases, ordinary, least_peak)


def _fitted(cases: Sequence[CaseFindings], taught: Sequence[BoolArray], least_peak: float) -> FindingModel | None:
    none = np.zeros((0, len(MEASURES)))
    values = np.concatenate([none, *(case.values[use] for case, use in zip(cases, taught, strict=True))])
    lesion = np.concatenate([none[:, 0] > 0, *(case.lesion[use] for case, use in zip(cases, taught, strict=True))])
    if not lesion.any() or lesion.all():
        return None
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), LEAST_SCALE)
    terms = regression_terms(standardised(values, mean, scale))
    weights, offset = fit(terms.astype(np.float16), lesion, np.ones(lesion.size, np.float32), PENALTY).folded()
    weight, products = np.split(weights.double().numpy().round(DIGITS), [len(MEASURES)])
    # Row by row of a triangle: a measure with itself and with all that follow.
    rows = np.split(products, np.cumsum(np.arange(len(MEASURES), 1, -1)))
    numbers = np.stack([mean.round(DIGITS), scale.round(DIGITS), weight], axis=1).tolist()
    measures = tuple(
        FindingMeasure(name, m, s, w, tuple(row.tolist()))
        for name, (m, s, w), row in zip(MEASURES, numbers, rows, strict=True)
    )
    return FindingModel(round(offset, DIGITS), measures, least_peak)


def held_out(judged: Sequence[CaseFindings], cases: Sequence[CaseFindings], least_peak: float) -> list[FloatArray]:
    """How likely the findings of each judged case are lesion, (n,) each, by regressions that learnt from `cases`.

    None of them from a case of the same host.
    """
    hosts = sorted({case.host for case in judged})
    said: list[FloatArray] = [np.zeros(len(case.values)) for case in judged]
    for fold in range(min(FOLDS, len(hosts))):
        out = set(hosts[fold::FOLDS])
        model = fitted([case for case in cases if case.host not in out], least_peak)
        if model is None:
            raise UsageError(f"too few cases: without {', '.join(sorted(out))} nothing is left to tell lesions by")
        for number, case in enumerate(judged):
            if case.host in out:
                said[number] = lesion_likelihood(case.values, model)
    return said


def effect_of_cut(cases: Sequence[CaseFindings], height: Sequence[FloatArray], threshold: float, cut: float) -> Effect:
    """What it does to all cases if those findings stand whose height, (n,) for each case, is above a value."""
    row = [
        outcome(replace(case.found, peaks=own), cut, case.lesion_voxels, case.voxel_ml)
        for case, own in zip(cases, height, strict=True)
    ]
    return mean_effect((threshold, cut), row, sum(case.lesions for case in cases))


def as_it_is(cases: Sequence[CaseFindings], plan: Plan) -> Effect:
    """The effect of the plan's own peak and, if it has one, its own model."""
    heights = []
    for case in cases:
        stands = case.found.peaks > plan.finding_peak
        if plan.finding_model is not None and plan.finding_from:
            stands &= lesion_likelihood(case.values, plan.finding_model) > plan.finding_from
        heights.append(stands.astype(np.float64))
    return effect_of_cut(cases, heights, plan.lesion_threshold, 0.5)


def choose(found: Sequence[Effect], before: Effect) -> Effect:
    """The best DSC of those that find no fewer lesions than before by either count; else that which finds most."""
    enough = [
        effect
        for effect in found
        if effect.sensitivity >= before.sensitivity and effect.sensitivity_a_tenth >= before.sensitivity_a_tenth
    ]
    if not enough:
        return max(found, key=lambda effect: (effect.sensitivity, effect.sensitivity_a_tenth, effect.dsc))
    return max(enough, key=lambda effect: (effect.dsc, -effect.false_positives))


def evaluate(
    cases: Sequence[CaseFindings], judged: Sequence[CaseFindings], plan: Plan, least_peak: float
) -> tuple[FindingModel, dict[str, Any]]:
    """The model that `cases` teach; its AUC on what it has not seen, each value's effect on `judged`, and the best.

    plan: as it is without the model, or with another. least_peak: that of the findings of both. Raises UsageError for
    too few cases.
    """
    model = fitted(cases, least_peak)
    if model is None or len({case.host for case in cases}) < 2:
        raise UsageError("findings that are lesion and such that are none, of two hosts or more, are needed; add cases")
    likely = held_out(cases, cases, least_peak)
    said = np.concatenate([own[~case.unknown] for case, own in zip(cases, likely, strict=True)])
    lesion = np.concatenate([case.lesion[~case.unknown] for case in cases])
    unknown = sum(int(case.unknown.sum()) for case in cases)
    said_of_judged = held_out(judged, cases, least_peak)
    every = [effect_of_cut(judged, said_of_judged, plan.lesion_threshold, cut) for cut in CUTS]
    before = as_it_is(judged, plan)
    best = choose(every, before)
    return model, {
        "model": asdict(model),
        "finding_from": best.peak,
        "auc_held_out": auc(said.tolist(), lesion.tolist(), SEED),
        "findings": {"lesion": int(lesion.sum()), "none": int((~lesion).sum()), "unknown": unknown},
        "as_it_is": _told(before),
        "effects": [{"finding_from": effect.peak, **_told(effect)} for effect in every],
    }


def _told(effect: Effect) -> dict[str, float]:
    return {name: value for name, value in asdict(effect).items() if name not in ("threshold", "peak")}


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval findings`."""
    parser.add_argument("--cases", type=Path, required=True, help="folder with images/ and labels/")
    parser.add_argument("--choose", type=Path, help="such a folder to choose finding_from on (default: the same)")
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE.json")
    parser.add_argument(
        "--peak", type=probability, default=PEAK, metavar="P", help="finding_peak beside the model (default: 0.5)"
    )
    parser.add_argument("--write", action="store_true", help="write the model into the plan of the weights")


def run(args: argparse.Namespace) -> int:
    """Fit and choose. Exit 0; errors are raised for the caller."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = read_plan(args.weights)
    if plan.nnunet is not None:
        raise UsageError(f"{args.weights}: its Focus is nnU-Net's, whose findings are not judged; name other weights")
    try:
        found = [find_gate_cases(folder) for folder in (args.cases, args.choose) if folder is not None]
    except ValueError as error:
        raise UsageError(str(error)) from error
    engine = load_engine(args.weights, device="cpu", engine="auto", precision="auto", gpu_memory_limit_mb=None)
    # Nothing is judged by a model that is there already: findings are measured once, and here.
    everything = replace(
        plan, finding_peak=max(args.peak, plan.lesion_threshold), finding_from=0.0, finding_model=None, look_from=0.0,
        operating_points=(), **NO_MASSES,
    )  # fmt: skip
    read = [read_cases(cases, everything, engine) for cases in found]
    model, result = evaluate(read[0], read[-1], plan, everything.finding_peak)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(args.output, (json.dumps(result, indent=1) + "\n").encode())
    told = result["auc_held_out"]
    logger.info("held out: AUC %.3f [%.3f, %.3f]", told["value"], told["low"], told["high"])
    for name, effect in [("as it is", result["as_it_is"])] + [
        (f"{effect['finding_from']:.2f}", effect) for effect in result["effects"]
    ]:
        logger.info(
            "%s: DSC %.3f, lesion-level sensitivity %.1f %% (a tenth: %.1f), %.1f false positives of %.2f ml a scan",
            name, effect["dsc"], 100 * effect["sensitivity"], 100 * effect["sensitivity_a_tenth"],
            effect["false_positives"], effect["false_positive_ml"],
        )  # fmt: skip
    logger.info("finding_from %.2f %s", result["finding_from"], "written" if args.write else "would be chosen")
    if args.write:
        write(args.weights, model, result["finding_from"], everything.finding_peak)
    return 0


def write(weights: Path, model: FindingModel, finding_from: float, peak: float) -> None:
    """Write the model into the plan of a weights folder; operating point `balanced` takes its values as the plan does.

    Those of other names, chosen for themselves, stand: they drop no more than before.
    """
    points = tuple(
        replace(point, finding_peak=peak, finding_from=finding_from) if point.name == "balanced" else point
        for point in read_plan(weights).operating_points
    )
    change_plan(weights, finding_model=model, finding_from=finding_from, finding_peak=peak, operating_points=points)
