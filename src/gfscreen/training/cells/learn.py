"""Learns the head of a Glance that judges cells, from a data list and weights whose Focus and plan it is for.

Scans give cells with the trunk's features (gathering), those a regression for each region (head), which may be taken
further as a policy (reinforcement). The result is a weights folder with the trunk in it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.torch
from numpy.typing import NDArray

from gfscreen.config import NO_MASSES, Plan, read_plan
from gfscreen.errors import InputError, UsageError
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.models.cell_glance import copy_trunk, linear_head, load_trunk
from gfscreen.networks.models.focus import build_focus
from gfscreen.networks.models.manifest import (
    FOCUS_FILE,
    GLANCE_FILE,
    SECOND_FOCUS_FILE,
    file_sha256,
    read_manifest,
    verify,
)
from gfscreen.networks.models.trunk_pins import TRUNK_FILE
from gfscreen.networks.models.weights import load_head, load_state, save_weights
from gfscreen.screening.cells import REGION_CHANNEL, probability
from gfscreen.training.cells.examples import POSITIVE, UNKNOWN
from gfscreen.training.cells.gathering import Gathered, Material, ScanCells, example_cells, gather
from gfscreen.training.cells.head import Regression, cell_weights, fit, regression_of
from gfscreen.training.cells.held_out import best_cells, bias_move, held_out, joined, mark_logit
from gfscreen.training.cells.inserted import REAL, Bank
from gfscreen.training.cells.reinforcement import Objective, reinforce
from gfscreen.training.cells.sub_volumes import SubVolume, read_sub_volumes, sub_volumes_of
from gfscreen.training.data.lists import DataList
from gfscreen.training.data.sampling import load_lesions

log = logging.getLogger(__name__)

# Of the training lesions, this share has a cell above the gate.
GATE_SHARE = 0.977
# Cells without lesion that are learnt from, at most; half of them from the scans as they are. 8 kB of memory each.
MOST_OTHERS = 600_000
# Of the cells of a scan that nobody annotated, so many may be lesion and teach nothing: the most suspicious ones. A
# lesion of 100 ml has a hundredth of the cells of a trunk.
SUSPICIOUS_SHARE = 0.05


@dataclass(frozen=True)
class CellJob:
    """What to learn from, and where to. versions: of each scan with lesions inserted. penalty: see head.fit.

    role: of the cells, see CellGlanceConfig; None for that of the base's, else `gate`.
    """

    data: DataList
    cache: Path
    weights: Path
    output: Path
    versions: int = 4
    seed: int = 0
    penalty: float = 0.005
    objective: Objective = "ce"
    max_minutes: float | None = None
    role: Literal["gate", "marks"] | None = None


def learn(job: CellJob) -> list[str]:
    """Write the weights folder; returns the names of scans that could not be used, each told of in one line.

    Raises WeightsError for a base without Focus or trunk, UsageError for an output that is the base, InputError where
    the scans that can be used have no lesion.
    """
    if job.output.resolve() == job.weights.resolve():
        raise UsageError(f"{job.output}: is the folder of --weights, which would be written over; name another -o")
    start = time.monotonic()
    until = None if job.max_minutes is None else start + 60.0 * job.max_minutes
    material = material_of(job)
    versions = job.versions if material.bank.names else 0
    if versions < job.versions:
        log.warning("the list names no lesions to insert (nodules, shapes): the scans teach as they are")
    gathered = Gathered()
    named = [
        (entry.name, _thinned(ScanCells(**arrays), entry.name, version, len(job.data.training), versions, job.seed))
        for entry, version, arrays in gather(
            material, versions, "cells", partial(example_cells, material), gathered, until=until, unannotated=True
        )
    ]
    scans = [scan for _, scan in named]
    if not any((scan.kind == POSITIVE).any() for scan in scans):
        raise InputError(
            f"{job.data.name}: none of the {len(scans)} versions of training scans that could be used has a lesion; "
            "add annotated scans with lesions, or lesions to insert (nodules, shapes)"
        )
    regressions = [
        _fit_region(scans, channel, job.penalty) or _base_head(job, material.plan, region, channel)
        for region, channel in REGION_CHANNEL.items()
    ]
    count = 0
    if job.objective != "ce":
        pool = pool_of(job, material, versions, gathered, until)
        count = len(pool)
        regressions = reinforce(regressions, pool, job.objective, job.seed)
    lesions, others = held_out(named, tuple(REGION_CHANNEL.values()), partial(_fit_region, penalty=job.penalty))
    moves = {region: round(bias_move(others[channel]), 3) for region, channel in REGION_CHANNEL.items()}
    log.info("bias moved by what cells of scans that were not learnt from say: %s", moves)
    regressions = [replace(r, bias=r.bias + move) for r, move in zip(regressions, moves.values(), strict=True)]
    if gathered.missing:
        log.warning(
            "%d versions of scans were left out for lack of time; the same command goes on from here", gathered.missing
        )
    best = lesions.logit + np.array(list(moves.values()), np.float32)[lesions.region]
    marked = mark_logit(best, lesions)
    if not best.size:  # a single scan: nothing is held out, no bias was moved, and Focus may mark everywhere
        best = joined([best_cells(scan, dict(enumerate(regressions))) for scan in scans]).logit
    told = {"versions": versions, "sub_volumes": count, "bias_moved_by": moves, **_told(scans, gathered)}
    _save(job, material, regressions, gate_of(best), 0.0 if marked is None else below(marked), told)
    return gathered.left_out


def material_of(job: CellJob) -> Material:
    """Read what the base gives, and say at once if the trunk is missing. Raises WeightsError."""
    verify(job.weights)
    plan = read_plan(job.weights)
    # The calibration of another head says nothing about this one.
    config = replace(plan.cells or CellGlanceConfig(), case_calibration=None)
    config = replace(config, role=job.role or config.role)
    if config.role == "marks" and (plan.gated_by_cells or plan.nnunet is not None):
        whose = "a Focus of nnU-Net's" if plan.nnunet is not None else "no Glance of sub-volumes"
        raise UsageError(f"--role marks: {job.weights} has {whose}, beside which cells could stand; use --role gate")
    load_trunk(job.weights, config)
    bank = Bank(*load_lesions(job.data, dev=False))
    digest = file_sha256(job.weights / TRUNK_FILE)
    return Material(job.data, plan, config, job.weights, digest, job.cache, bank, job.seed)


def _thinned(cells: ScanCells, name: str, version: int, scans: int, versions: int, seed: int) -> ScanCells:
    """The cells with at most this scan's share of MOST_OTHERS without lesion, drawn at random."""
    share = (0.5 / max(1, versions) if version else 0.5) if versions else 1.0
    most = max(1, int(share * MOST_OTHERS / scans))
    others = np.flatnonzero(cells.kind != POSITIVE)
    if others.size <= most:
        return cells
    rng = np.random.default_rng([seed, version, *name.encode()])
    kept = cells.kind == POSITIVE
    kept[rng.choice(others, most, replace=False)] = True
    return cells.at(kept)


def _fit_region(scans: Sequence[ScanCells], channel: int, penalty: float) -> Regression | None:
    """The regression of one region; None where there are no cells with or none without lesion.

    Fitted to cells that somebody knows; then once more, with the unknown ones that it does not find suspicious as cells
    without lesion.
    """
    known = [scan.at((scan.region == channel) & (scan.kind != UNKNOWN)) for scan in scans]
    unknown = [scan.at((scan.region == channel) & (scan.kind == UNKNOWN)) for scan in scans]
    first = _fitted(known, penalty)
    if first is None or not any(len(scan.kind) for scan in unknown):
        return first
    return _fitted(known + [_ordinary(scan, first) for scan in unknown if len(scan.kind)], penalty)


def _ordinary(unknown: ScanCells, regression: Regression) -> ScanCells:
    """The cells of a scan that nobody annotated, but for SUSPICIOUS_SHARE of them: those may be lesion."""
    logits = regression.logits(unknown.features)
    return unknown.at(logits <= np.quantile(logits, 1.0 - SUSPICIOUS_SHARE))


def _fitted(scans: Sequence[ScanCells], penalty: float) -> Regression | None:
    own = [scan for scan in scans if len(scan.kind)]
    if not own:
        return None
    positive = np.concatenate([scan.kind == POSITIVE for scan in own])
    if not positive.any() or positive.all():
        return None
    weight = np.concatenate([cell_weights(scan.kind, scan.lesion, scan.lesion_kind == REAL) for scan in own])
    return fit(np.concatenate([scan.features for scan in own]), positive, weight, penalty)


def _base_head(job: CellJob, plan: Plan, region: str, channel: int) -> Regression:
    """The head of the base for a region that the scans do not teach. Raises InputError if it has none that was trained.

    Cells of both kinds are needed, with lesion and without.
    """
    if plan.cells is None or plan.weights != "trained":
        raise InputError(
            f"{job.data.name}: no cells with and without lesion in the {region} among the training scans that can be "
            f"used, and {job.weights} has no trained head to keep for it; add annotated scans of the {region}, or "
            "lesions to insert"
        )
    log.warning("%s: no cells with and without lesion in the list; the head of %s stays", region, job.weights)
    return regression_of(load_head(job.weights, plan), channel)


def pool_of(
    job: CellJob, material: Material, versions: int, gathered: Gathered, until: float | None
) -> list[SubVolume]:
    """Sub-volumes of all scans, read by the base's Focus."""
    if material.plan.nnunet is not None:
        raise UsageError(
            "the reward of a Focus of nnU-Net's is not known here; train the Glance of the preset: stage glance"
        )
    focus = build_focus(material.plan.focus)
    source = job.weights / FOCUS_FILE
    load_state(focus, safetensors.torch.load_file(source), str(source))
    focus.eval()
    make, more = partial(read_sub_volumes, material, focus), (file_sha256(source),)
    found = gather(material, versions, "sub_volumes", make, gathered, until=until, more=more)
    return [sub_volume for _, _, arrays in found for sub_volume in sub_volumes_of(arrays)]


def gate_of(best: NDArray[np.float32]) -> float:
    """The probability that at least GATE_SHARE of these lesions (n,), logits, are above; rounded down to six digits."""
    return below(float(np.quantile(best, 1.0 - GATE_SHARE, method="lower")))


def below(logit: float) -> float:
    """A logit's probability, rounded down to six digits."""
    return math.floor(1e6 * probability(logit)) / 1e6


def _told(scans: Sequence[ScanCells], gathered: Gathered) -> dict[str, Any]:
    """What was learnt from, for the log and the manifest: cells by region, lesions by kind."""
    cells = {}
    for region, channel in REGION_CHANNEL.items():
        own = [scan.kind[scan.region == channel] for scan in scans]
        positive = sum(int((kind == POSITIVE).sum()) for kind in own)
        cells[region] = {"lesion": positive, "other": sum(len(kind) for kind in own) - positive}
        log.info("%s: %d cells with lesion, %d without", region, positive, cells[region]["other"])
    kinds = [str(scan.lesion_kind[n - 1]) for scan in scans for n in np.unique(scan.lesion[scan.lesion > 0])]
    lesions = {kind: kinds.count(kind) for kind in sorted(set(kinds))}
    log.info("lesions: %s", ", ".join(f"{count} {kind}" for kind, count in lesions.items()) or "none")
    return {"cells": cells, "lesions": lesions, "left_out": gathered.left_out, "missing": gathered.missing}


def _save(
    job: CellJob,
    material: Material,
    regressions: Sequence[Regression],
    gate: float,
    mark_from: float,
    told: Mapping[str, Any],
) -> None:
    plan = replace(
        material.plan, cells=material.config, mark_from=mark_from, operating_points=(), finding_model=None,
        finding_from=0.0, look_from=0.0, **NO_MASSES,
    )  # fmt: skip
    if material.plan.finding_model is not None:
        log.warning(
            "the finding_model of %s knows its cells and is not taken over; fit one with python -m eval findings",
            job.weights,
        )
    if material.plan.mass_rules:
        log.warning("the masses of %s are what its cells are sure of and are not taken over", job.weights)
    if plan.gated_by_cells:
        plan = replace(plan, gate=gate)
    if plan.weights != "trained":
        log.warning("%s: its Focus is untrained, so the new weights are marked as untrained", job.weights)
    folded = {region: regressions[channel].folded() for region, channel in REGION_CHANNEL.items()}
    head = linear_head({r: weight for r, (weight, _) in folded.items()}, {r: bias for r, (_, bias) in folded.items()})
    info = {
        "glance_gate": job.objective,
        "glance_cells": {
            **told, "seed": job.seed, "penalty": job.penalty, "list": job.data.name,
            "gate_from": f"{100 * GATE_SHARE:g} % of the training lesions, each by heads that have not learnt from its "
            "scan, have a cell above the gate; choose it on scans that were not trained on: python -m eval gates",
        },
    }  # fmt: skip
    copy_trunk(job.weights, job.output)
    focus = safetensors.torch.load_file(job.weights / FOCUS_FILE)
    second = None if plan.second_focus is None else safetensors.torch.load_file(job.weights / SECOND_FOCUS_FILE)
    if plan.gated_by_cells:
        save_weights(job.output, plan, head.state_dict(), focus, second_state=second, precision="keep", info=info)
        log.info(
            "gate %.6f and mark_from %.6f are from training lesions, held out; choose the gate anew with "
            "python -m eval gates, on scans that were not trained on", gate, mark_from,
        )  # fmt: skip
    else:
        # Focus and Glance are the base's, and so is what is told of them.
        info = {**read_manifest(job.weights).info, "glance_cells": info["glance_cells"]}
        glance = safetensors.torch.load_file(job.weights / GLANCE_FILE)
        save_weights(
            job.output, plan, glance, focus, cells_state=head.state_dict(), second_state=second, precision="keep",
            info=info,
        )  # fmt: skip
        log.info("mark_from %.6f is from training lesions, held out; Glance and gate are those of the base", mark_from)
    log.info(
        "case_calibration is none, so no suspicion of a scan is told: that of another head does not fit this "
        "one; find one with python -m eval calibrate, on scans that were not trained on"
    )
