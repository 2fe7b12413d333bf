"""Score cases in parallel processes; one broken case or one killed process never stops the rest."""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from tqdm import tqdm

from eval.accuracy import detection
from eval.accuracy.masks import MaskError, geometry_problem, read_mask
from eval.accuracy.metrics import score_pair
from eval.accuracy.notes import prediction_notes, truth_notes
from gfscreen.cpus import usable_cpus

logger = logging.getLogger(__name__)

# What one worker may need in the worst case (two lesions at opposite ends of a 512x512x1000 scan), with room.
_WORKER_BYTES = 3 * 1024**3
# Statuses under which no usable mask stood behind the zeros; they make the exit code 1.
FAILED = ("missing", "mismatch", "unreadable", "failed")


@dataclass(frozen=True)
class Job:
    """One case to score; `prediction` is None when there is no such file."""

    name: str
    truth: Path
    prediction: Path | None
    tolerance_mm: float


@dataclass(frozen=True)
class CaseScore:
    """The outcome of one case. `status`: `ok`, `labels_above_one`, or one of `FAILED`; `rule` as in `metrics`.

    `notes`: what is worth a word about its files although they are scored, one line each.
    """

    name: str
    dsc: float
    nsd: float
    status: str
    rule: str = ""
    error: str = ""
    scan: detection.ScanDetection | None = None
    truth_labels_above_one: bool = False
    notes: tuple[str, ...] = ()
    peak_rss_mb: float = 0.0


def score_case(job: Job) -> CaseScore:
    """Score one case; whatever is wrong with its files becomes a status and an error, never an exception."""
    try:
        result = _score(job)
    except Exception as error:  # one broken case must not stop the rest
        logger.debug("%s failed", job.name, exc_info=True)
        result = CaseScore(job.name, 0.0, 0.0, "failed", error=f"{job.name}: {type(error).__name__}: {error}")
    return replace(result, peak_rss_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _score(job: Job) -> CaseScore:
    try:
        truth = read_mask(job.truth)
    except MaskError as error:
        return CaseScore(job.name, 0.0, 0.0, "unreadable", error=f"ground truth {error}")
    above_one = bool(truth.voxels.max() > 1)
    notes = truth_notes(truth, job.name)

    def unanswered(status: str, error: str) -> CaseScore:
        scan = detection.detect(truth.voxels, None, truth.spacing_mm, voxel_ml=truth.voxel_ml)
        return CaseScore(job.name, 0.0, 0.0, status, "", error, scan, above_one, tuple(notes))

    if job.prediction is None:
        return unanswered("missing", f"{job.name}: no prediction of this name; scored 0")
    try:
        prediction = read_mask(job.prediction, spacing_used=False)
    except MaskError as error:
        return unanswered("unreadable", f"prediction {error}")
    notes += prediction_notes(prediction, job.name)
    problem = geometry_problem(truth, prediction, job.name)
    if problem is not None:
        return unanswered("mismatch", problem)
    score = score_pair(truth.voxels, prediction.voxels, truth.spacing_mm, job.tolerance_mm)
    if score.rule == "labels_above_one":
        found = int(prediction.voxels.max())
        return unanswered(score.rule, f"{job.name}: expected labels 0 and 1, got up to {found}; scored 0")
    scan = detection.detect(truth.voxels, prediction.voxels, truth.spacing_mm, voxel_ml=truth.voxel_ml)
    return CaseScore(job.name, score.dsc, score.nsd, "ok", score.rule, "", scan, above_one, tuple(notes))


def score_all(jobs: Sequence[Job], workers: int) -> list[CaseScore]:
    """Score the cases in `workers` processes, in the order given; a killed worker costs its own case only."""
    results: dict[str, CaseScore] = {}
    with tqdm(total=len(jobs), desc="scoring", unit="case", disable=None) as bar:
        for result in _run(jobs, workers):
            results[result.name] = result
            bar.update()
    return [results[job.name] for job in jobs]


def _run(jobs: Sequence[Job], workers: int) -> Iterator[CaseScore]:
    if workers <= 1 or len(jobs) <= 1:
        yield from map(score_case, jobs)
        return
    broken: list[Job] = []
    with ProcessPoolExecutor(min(workers, len(jobs))) as pool:
        futures = {pool.submit(score_case, job): job for job in jobs}
        for future in as_completed(futures):
            if isinstance(future.exception(), BrokenProcessPool):
                broken.append(futures[future])
            else:
                yield future.result()
    for job in broken:  # the pool dies with its worker: each case left over gets a process of its own
        with ProcessPoolExecutor(1) as pool:
            future = pool.submit(score_case, job)
            if isinstance(future.exception(), BrokenProcessPool):
                message = f"{job.name}: the scoring process was killed, probably for memory; try --jobs 1"
                yield CaseScore(job.name, 0.0, 0.0, "failed", error=message)
            else:
                yield future.result()


def default_jobs() -> int:
    """As many workers as there are cores and as fit the free memory."""
    cores = usable_cpus()
    return max(1, min(cores, int(psutil.virtual_memory().available // _WORKER_BYTES)))
