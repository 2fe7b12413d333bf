"""The Focus on the LIDC nodules of patients that training never saw: Dice against both outlines, with intervals.

`python -m eval nodules --weights DIR --data LIST.json --cache DIR -o OUT`

Every dev nodule is blended into the lung of a dev scan (seeded place, turn and size, as in training) and read in one
sub-volume of the plan's size, by the engine that `predict` would use, with its second look and its rules on findings.
Dice is taken within 10 mm of the nodule, and over the whole sub-volume, where every false positive counts. Both the
tight outline that is trained on and LIDC's loose one are reported. Intervals resample patients: nodules of one patient
go together.

How hard a nodule is depends on where it lands. `--placements N` puts each in N placements, one after the other: a mean
with less chance in it. The first placement is the same for every N.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from eval.accuracy.detection import TENTH
from eval.accuracy.statistics import bootstrap_ratio
from eval.tuning.gate_runs import glance_at_all_cells
from gfscreen.config import Plan, read_plan
from gfscreen.networks.engines.base import Engine, FloatArray
from gfscreen.networks.engines.select import load_engine
from gfscreen.scan.region import region_of
from gfscreen.screening.budget import Budget
from gfscreen.screening.cells import CellMap
from gfscreen.screening.false_positive_reduction import drop_false_positives, judged_findings
from gfscreen.screening.findings import drop_unlikely
from gfscreen.screening.progress import no_progress
from gfscreen.screening.reading import focus, look_again
from gfscreen.screening.schedule import Timetable
from gfscreen.screening.second_look import second_look
from gfscreen.screening.windows import Stitcher, Window
from gfscreen.training.cells.features import Host, as_host
from gfscreen.training.data.cache import load_scans
from gfscreen.training.data.lists import DataList, read_list
from gfscreen.training.data.sampling import PatchSampler, Sample, Source, load_lesions
from gfscreen.training.learning.validation import score_crop
from gfscreen.training.objectives import LESION_CLASS
from gfscreen.training.settings import Mix
from gfscreen.training.synthesis.lesion_bank import Nodule

logger = logging.getLogger(__name__)

SEED = 20_261
# Of a whole scan's sub-volumes a share is looked at again; of one alone whatever is sure.
UNLIMITED = 1000
SIZES_ML = (0.0, 0.1, 0.5, 2.0, float("inf"))


@dataclass(frozen=True)
class NoduleScore:
    """One nodule in one placement. found: by one voxel; found_a_tenth: a tenth of its volume is marked, or more.
    dice_*: within 10 mm or over the sub-volume, with the tight or the loose outline.
    """

    name: str
    patient: str
    placement: int
    volume_ml: float
    found: bool
    dice_within_10_mm: float
    dice_sub_volume: float
    dice_within_10_mm_loose: float
    false_positive_ml: float
    found_a_tenth: bool


def nodule_samples(
    sampler: PatchSampler, nodules: Iterable[Nodule], plan: Plan, placement: int = 0
) -> Iterable[tuple[Nodule, Sample]]:
    """Each nodule in one sub-volume of a dev scan; those that found no place in 20 tries are left out."""
    for index, nodule in enumerate(nodules):
        sampler.source = replace(sampler.source, nodules=(nodule,))
        rng = np.random.default_rng([SEED, index, placement] if placement else [SEED, index])
        sample = sampler.draw_plain(rng, plan.sub_volume_voxels, kind="nodules")
        if sample.inserted:
            yield nodule, sample


def scan_of(sample: Sample, plan: Plan) -> Host:
    """A sub-volume, with its HU, as a scan of its own."""
    assert sample.hu is not None
    shape = sample.hu.shape
    return as_host(sample.hu, np.ones(shape, bool), np.full(shape[2], sample.chest), plan.spacing_mm)


def read_sub_volume(scan: Host, engine: Engine, plan: Plan, cells: CellMap | None = None) -> FloatArray:
    """Lesion probability (x, y, z) of a scan that is one sub-volume, as screening has it: what is sure is read twice.

    A wide second look cannot move where there is but one sub-volume: it is the same, mirrored. cells: they tell what
    may be lesion, where the plan asks for that, and nothing else.
    """
    size = scan.grid.shape
    stitcher, whole = Stitcher(size, plan.blend), [Window((0, 0, 0), region_of(scan.chest, 0, size[2]))]
    time = Timetable(Budget(None), 0.0, engine.info)
    focus(scan, whole, stitcher, plan, engine, time.for_focus(), no_progress)
    looks = second_look(scan, stitcher, replace(plan, mark_from=0.0), UNLIMITED, cells)
    look_again(scan, looks, stitcher, plan, engine, time, no_progress)
    return stitcher.finish()


def score_nodule(nodule: Nodule, sample: Sample, engine: Engine, plan: Plan, placement: int = 0) -> NoduleScore:
    """Read the sub-volume and compare the mask, cut and freed of unlikely findings by the plan, with both outlines."""
    assert sample.loose is not None
    scan = scan_of(sample, plan)
    # Cells know nothing of what lies around the sub-volume.
    asked = plan.cells is not None and (plan.finding_from or plan.look_from)
    cells = glance_at_all_cells(scan, plan, engine)[0] if asked else None
    probability = read_sub_volume(scan, engine, plan, cells)
    drop_unlikely(probability, None, threshold=plan.lesion_threshold, peak=plan.finding_peak)
    if plan.finding_from:
        drop_false_positives(probability, judged_findings(probability, scan, cells, plan), plan.finding_from)
    predicted = probability > plan.lesion_threshold
    tight = score_crop(predicted, sample, plan.spacing_mm)
    wider = np.where(sample.loose & (sample.label != LESION_CLASS), LESION_CLASS, sample.label).astype(np.uint8)
    lesion = sample.label == LESION_CLASS
    marked_share = (predicted & lesion).sum() / max(lesion.sum(), 1)
    loose = score_crop(predicted, replace(sample, label=wider), plan.spacing_mm)
    return NoduleScore(
        nodule.name, nodule.patient, placement, tight.lesion_ml, tight.found, tight.dice_within_10_mm, tight.dice,
        loose.dice_within_10_mm, tight.false_positive_ml, bool(marked_share >= TENTH),
    )  # fmt: skip


def by_patient(scores: Sequence[NoduleScore], field: str) -> dict[str, Any]:
    """Mean of a field over readings with a bootstrap over patients. n: readings, a nodule has one in each placement."""
    patients = sorted({s.patient for s in scores})
    own = {p: [float(getattr(s, field)) for s in scores if s.patient == p] for p in patients}
    estimate = bootstrap_ratio([sum(own[p]) for p in patients], [len(own[p]) for p in patients])
    return {**estimate.as_dict(), "n": len(scores), "patients": len(patients)}


def summarise(scores: Sequence[NoduleScore]) -> dict[str, Any]:
    """Means with intervals over all nodules and by size."""
    measured = (
        "dice_within_10_mm", "dice_sub_volume", "dice_within_10_mm_loose", "false_positive_ml",
        "found", "found_a_tenth",
    )  # fmt: skip

    def table(own: Sequence[NoduleScore]) -> dict[str, Any]:
        return {name: by_patient(own, name) for name in measured}

    result: dict[str, Any] = {"all": table(scores)} if scores else {}
    for low, high in pairwise(SIZES_ML):
        if own := [s for s in scores if low <= s.volume_ml < high]:
            result[f"{low:g}-{high:g} ml"] = table(own)
    return result


def evaluate(
    data: DataList, cache: Path, plan: Plan, engine: Engine, limit: int | None = None, placements: int = 1
) -> list[NoduleScore]:
    """Scores of the dev nodules in the dev scans of the list, the first `limit` if given, in so many placements."""
    scans = tuple(load_scans(data.validation, data, plan, cache))
    nodules, _ = load_lesions(data, dev=True)
    sampler = PatchSampler(Source(scans, nodules), plan, Mix(nodules=1, nodules_per_crop=1), keep_hu=True)
    scores = []
    for placement in range(placements):
        for nodule, sample in nodule_samples(sampler, nodules[:limit], plan, placement):
            scores.append(score_nodule(nodule, sample, engine, plan, placement))
            if len(scores) % 20 == 0:
                logger.info(
                    "%d readings, mean Dice within 10 mm %.3f",
                    len(scores),
                    np.mean([s.dice_within_10_mm for s in scores]),
                )
    return scores


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval nodules`."""
    parser.add_argument("--weights", type=Path, required=True, help="weights folder")
    parser.add_argument("--data", type=Path, required=True, help="data list with a validation side and nodules")
    parser.add_argument("--cache", type=Path, required=True, help="folder of prepared scans")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for nodules.csv and nodules.json")
    parser.add_argument("--engine", choices=("auto", "torch", "openvino"), default="auto")
    parser.add_argument("--precision", choices=("auto", "fp32"), default="auto")
    parser.add_argument("--limit", type=int, help="only the first N nodules")
    parser.add_argument(
        "--placements",
        type=int,
        default=1,
        choices=range(1, 101),
        metavar="N",
        help="placements of each nodule (default: 1)",
    )


def run(args: argparse.Namespace) -> int:
    """Score the nodules. Exit 0; errors are raised for the caller."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    plan = read_plan(args.weights)
    engine = load_engine(
        args.weights, device="cpu", engine=args.engine, precision=args.precision, gpu_memory_limit_mb=None
    )
    scores = evaluate(read_list(args.data), args.cache, plan, engine, args.limit, args.placements)
    args.output.mkdir(parents=True, exist_ok=True)
    with (args.output / "nodules.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(NoduleScore)])
        writer.writeheader()
        writer.writerows(asdict(score) for score in scores)
    summary = {"engine": asdict(engine.info), "seed": SEED, **summarise(scores)}
    (args.output / "nodules.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    logger.info("%s", json.dumps(summary.get("all"), indent=1))
    return 0
