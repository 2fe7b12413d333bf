"""A run over one or many scans: find the cases, screen each, write masks and report, and let no case stop another."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from gfscreen.budget import Budget, process_age_s, write_reserve_s
from gfscreen.config import Plan, read_plan
from gfscreen.engines.base import Engine
from gfscreen.engines.select import load_engine
from gfscreen.errors import GFScreenError, InputError, OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.pipeline import Background, ReadAhead
from gfscreen.report import CaseReport, peak_rss_mb, run_report, write_report
from gfscreen.screening import Progress, Settings, no_progress, prepare, screen
from gfscreen.volume import Case, Volume, find_cases, read_volume, write_mask
from gfscreen.volume.memory import needed_bytes, promised

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """A run as the user asked for it; see `gfscreen predict --help`."""

    source: Path
    output: Path
    weights: Path
    device: str = "auto"
    engine: str = "auto"
    precision: str = "auto"
    settings: Settings = field(default_factory=Settings)
    time_limit_s: float | None = None
    gpu_memory_limit_mb: float | None = None
    report: Path | None = None


def default_weights() -> Path:
    """GFSCREEN_WEIGHTS, else `weights` in the current folder, else that of the checkout the package lies in."""
    if named := os.environ.get("GFSCREEN_WEIGHTS"):
        return Path(named)
    here = Path("weights")
    beside = Path(__file__).resolve().parents[2] / "weights"
    return beside if not here.is_dir() and beside.is_dir() else here


def predict(options: Options, progress: Progress = no_progress) -> int:
    """Screen all cases: 0 if every mask was written, 1 if some case failed. Raises UsageError before any work."""
    cases = find_cases(options.source)
    reports = [CaseReport(case.name) for case in cases]
    plan: Plan | None = None
    engine: Engine | None = None
    try:
        _prepare_output(options.output)
        plan = read_plan(options.weights)
        if plan.weights == "untrained":
            logger.warning("these weights are untrained: the masks mean nothing")
        engine = _run_cases(cases, reports, options, plan, progress)
    except UsageError:
        raise
    except GFScreenError as error:
        # Nothing can be screened at all: every case that has not been written yet failed for this reason.
        for report in reports:
            if report.error is None and report.status == "failed":
                report.error = str(error)
        logger.error("%s", error)
    if options.report is not None:
        settings = {**asdict(options.settings), "time_limit_s": options.time_limit_s}
        settings["gpu_memory_limit_mb"] = options.gpu_memory_limit_mb
        write_report(options.report, run_report(reports, plan, engine.info if engine else None, settings))
    return 1 if any(report.status == "failed" for report in reports) else 0


def _prepare_output(output: Path) -> None:
    """Make the output folder, see that it can be written, and clear what a killed run left. Raises OutputError."""
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output)
        probe = output / f".gfscreen-probe-{os.getpid()}.tmp"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{output}: the output folder cannot be written ({error.strerror or error}); check its permissions"
        ) from error


def _run_cases(
    cases: list[Case], reports: list[CaseReport], options: Options, plan: Plan, progress: Progress
) -> Engine | None:
    """Screen all cases, filling their reports; returns the engine.

    The networks load while the first scan is read, and each further scan is read, and each mask written, while another
    is computed on. Raises GFScreenError if the engine cannot be loaded.
    """
    with Background() as background:
        loading = background.start("load", lambda: _load(options))
        scans = ReadAhead(background, cases, lambda case: _read(case, options))
        writing: Future[None] | None = None
        for number, (case, report) in enumerate(zip(cases, reports, strict=True)):
            budget = Budget(options.time_limit_s, process_age_s() if number == 0 else 0.0)
            with _reported(case, report, budget):
                try:
                    write = _screen_case(case, report, options, plan, scans, loading, budget, progress)
                except Exception:
                    # Without an engine no case is touched, so that has to be known first.
                    wait([loading])
                    _engine_problem(loading)
                    if case.problem is None and not _same_file(options.output / case.mask_name, case.path):
                        remove_stale_mask(options.output / case.mask_name)
                    raise
                finally:
                    if number == len(cases) - 1 and loading.done() and loading.exception() is None:
                        # Before the last mask is written: a GPU is held no longer than it computes.
                        loading.result().release()
                if writing is not None:
                    # One mask at a time; what its writing has raised is in its own report.
                    writing.result()
                writing = background.start("write", write)
        if writing is not None:
            writing.result()
        return loading.result() if loading.done() else None


def _load(options: Options) -> Engine:
    engine = load_engine(
        options.weights,
        device=options.device,
        engine=options.engine,
        precision=options.precision,
        gpu_memory_limit_mb=options.gpu_memory_limit_mb,
    )
    info = engine.info
    logger.info("%s on %s, %s (%s)", info.name, info.device, info.precision, info.reason)
    return engine


class _EngineError(Exception):
    """Carries an error of the engine past the reports of single cases: it is that of all of them."""


@contextmanager
def _reported(case: Case, report: CaseReport, budget: Budget) -> Iterator[None]:
    """Whatever goes wrong with one case is said in its report and in the log; nothing is raised."""
    try:
        yield
    except _EngineError as error:
        raise error.args[0] from error
    except GFScreenError as error:
        report.error = str(error)
        logger.error("%s", error)
    except Exception as error:
        # A fault of ours, not of the input: the other cases must still be written, and the trace must not be lost.
        report.error = f"{case.path.name}: internal error, {type(error).__name__}: {error}"
        logger.exception("%s", report.error)
    finally:
        report.seconds["total"] = round(budget.elapsed_s(), 3)
        report.peak_rss_mb = peak_rss_mb()


def _read(case: Case, options: Options) -> Volume:
    if case.problem is not None:
        raise InputError(case.problem)
    if _same_file(options.output / case.mask_name, case.path):
        raise InputError(f"{case.path.name}: its mask would overwrite the scan itself; choose another output folder")
    return read_volume(case.path)


def _screen_case(
    case: Case,
    report: CaseReport,
    options: Options,
    plan: Plan,
    scans: ReadAhead[Case, Volume],
    loading: Future[Engine],
    budget: Budget,
    progress: Progress,
) -> Callable[[], None]:
    """Compute on one case, preparing it while the networks load; returns what is left to do, writing its mask.

    Raises what its reading or computing raises.
    """
    scan = scans.take()
    volume = scan.result
    report.seconds["read"] = round(scan.seconds, 3)
    for warning in volume.warnings:
        logger.warning("%s: %s", case.path.name, warning)
    # The next scan may not count on the memory that this one will still need.
    with promised(needed_bytes(volume.geometry.shape, volume.geometry.spacing_mm, 0)):
        scans.begin()
        prepared = prepare(volume, plan, options.settings, budget)
        engine = _wait_for(loading, budget, volume)
        remove_stale_mask(options.output / case.mask_name)
        if engine is None:
            report.warnings = [*volume.warnings, "the networks were not loaded in time: nothing was looked at"]
            mask, restore_s, complete = np.zeros(volume.hu.shape, np.uint8, order="F"), 0.0, False
        else:
            result = screen(volume, plan, engine, budget, options.settings, progress, prepared)
            report.fill(volume, result)
            for stage in ("preprocess", "glance", "focus"):
                report.seconds[stage] = round(result.seconds[stage], 3)
            gpu_mb = engine.peak_gpu_mb()
            report.peak_gpu_mb = None if gpu_mb is None else round(gpu_mb, 1)
            mask, restore_s, complete = result.mask, result.seconds["restore"], result.complete
    geometry = volume.geometry

    def write() -> None:
        with _reported(case, report, budget):
            with _timed(report, "write", restore_s):
                write_mask(options.output / case.mask_name, mask, geometry)
            report.status = "ok" if complete else "degraded"
        _say(case, report)

    return write


def _engine_problem(loading: Future[Engine]) -> None:
    """Raise what loading has raised, if it has ended: then no case can be screened, and none is touched."""
    if loading.done() and (error := loading.exception()) is not None:
        raise _EngineError(error) from error


def _wait_for(loading: Future[Engine], budget: Budget, volume: Volume) -> Engine | None:
    """The engine, waited for while there is time to do more than write an empty mask; None if it comes too late."""
    left_s = budget.remaining_s() - write_reserve_s(volume.hu.size)
    wait([loading], timeout=None if left_s == float("inf") else max(0.0, left_s))
    _engine_problem(loading)
    return loading.result() if loading.done() else None


def _say(case: Case, report: CaseReport) -> None:
    """One line about a written case, and one about what there was no time for."""
    if report.status == "degraded":
        logger.warning(
            "%s: time ran out, %d suspicious sub-volumes left unread, %d not glanced at",
            case.name,
            (report.windows_kept or 0) - (report.windows_done or 0),
            report.windows_unglanced or 0,
        )
    if report.error is None:
        logger.info(
            "%s: %s, %s, %d of %d sub-volumes read, %.2f ml of lesion, %.1f s",
            case.name,
            report.status,
            report.region,
            report.windows_done or 0,
            report.windows_total or 0,
            report.lesion_volume_ml or 0.0,
            report.seconds["total"],
        )


def remove_stale_mask(path: Path) -> None:
    """Remove the mask of an earlier run: if this case fails now, an old mask must not pass for its result."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror or error}); check its permissions") from error


def _same_file(a: Path, b: Path) -> bool:
    try:
        return a.samefile(b)
    except OSError:
        return False


@contextmanager
def _timed(report: CaseReport, stage: str, already_s: float = 0.0) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        report.seconds[stage] = round(already_s + time.monotonic() - start, 3)
