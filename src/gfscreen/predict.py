"""A run over one or many scans: find the cases, screen each, write masks and report, and let no case stop another."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gfscreen.budget import Budget, process_age_s
from gfscreen.config import Plan, read_plan
from gfscreen.engines.base import Engine
from gfscreen.engines.select import load_engine
from gfscreen.errors import GFScreenError, InputError, OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.report import CaseReport, peak_rss_mb, run_report, write_report
from gfscreen.screening import Progress, Settings, no_progress, screen
from gfscreen.stopping import Stopped, unstoppable
from gfscreen.volume import (
    Case,
    Volume,
    find_cases,
    finished_lesion_ml,
    read_volume,
    write_empty_mask,
    write_mask,
)

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
    resume: bool = False
    empty_mask_on_failure: bool = False


def default_weights() -> Path:
    """GFSCREEN_WEIGHTS, else `weights` in the current folder, else that of the checkout the package lies in."""
    if named := os.environ.get("GFSCREEN_WEIGHTS"):
        return Path(named)
    here = Path("weights")
    beside = Path(__file__).resolve().parents[2] / "weights"
    return beside if not here.is_dir() and beside.is_dir() else here


def predict(options: Options, progress: Progress = no_progress) -> int:
    """Screen all cases: 0 if every mask was written, 1 if some case failed. Raises UsageError before any work.

    Stopped, when the process is told to stop, passes through after the report was written.
    """
    cases = find_cases(options.source)
    reports = [CaseReport(case.name) for case in cases]
    plan: Plan | None = None
    engine: Engine | None = None
    stopped: Stopped | None = None
    try:
        _prepare_output(options.output)
        plan = read_plan(options.weights)
        if plan.weights == "untrained":
            logger.warning("these weights are untrained: the masks mean nothing")
        engine = load_engine(
            options.weights,
            device=options.device,
            engine=options.engine,
            precision=options.precision,
            gpu_memory_limit_mb=options.gpu_memory_limit_mb,
        )
        logger.info("%s on %s, %s (%s)", *asdict(engine.info).values())
        for number, (case, report) in enumerate(zip(cases, reports, strict=True)):
            budget = Budget(options.time_limit_s, process_age_s() if number == 0 else 0.0)
            _run_case(case, report, options, plan, engine, budget, progress)
    except UsageError:
        raise
    except GFScreenError as error:
        # Nothing can be screened at all: every case failed for this reason.
        logger.error("%s", error)
        _fail_all(cases, reports, options, error)
    except Stopped as stop:
        stopped = stop
        for report in reports:
            if report.error is None and report.status == "failed":
                report.error = f"not screened: {stop}; run again with --resume"
    if options.report is not None:
        settings = {**asdict(options.settings), "time_limit_s": options.time_limit_s}
        settings["gpu_memory_limit_mb"] = options.gpu_memory_limit_mb
        write_report(options.report, run_report(reports, plan, engine.info if engine else None, settings))
    if stopped is not None:
        raise stopped
    return 1 if any(report.status == "failed" for report in reports) else 0


def _fail_all(cases: list[Case], reports: list[CaseReport], options: Options, error: GFScreenError) -> None:
    """Every case failed for the same reason; if asked for, those that can be read still get their empty mask."""
    for case, report in zip(cases, reports, strict=True):
        report.error = str(error)
        if not options.empty_mask_on_failure or isinstance(error, OutputError):
            continue
        try:
            if not _is_finished(case, report, options):
                volume = _read_case(case, report, options)
                _last_resort(case, report, options, volume)
        except Exception as other:
            report.error = f"{error}; {other}"
            logger.error("%s: no empty mask either: %s", case.path.name, other)


def _prepare_output(output: Path) -> None:
    """Make the output folder, see that it can be written, and clear what a killed run left. Raises OutputError."""
    probe = output / f".gfscreen-probe-{os.getpid()}.tmp"
    try:
        output.mkdir(parents=True, exist_ok=True)
        remove_leftovers(output)
        with unstoppable():
            # Never through a link that somebody has put there.
            os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            probe.unlink()
    except OSError as error:
        raise OutputError(
            f"{output}: the output folder cannot be written ({error.strerror or error}); check its permissions"
        ) from error


def _run_case(
    case: Case, report: CaseReport, options: Options, plan: Plan, engine: Engine, budget: Budget, progress: Progress
) -> None:
    """Screen one case and fill its report. Whatever goes wrong is said there and in the log; nothing is raised."""
    try:
        _screen_case(case, report, options, plan, engine, budget, progress)
    except GFScreenError as error:
        report.error = str(error)
        logger.error("%s", error)
    except Exception as error:
        # A fault of ours, not of the input: the other cases must still be written, and the trace must not be lost.
        report.error = f"{case.path.name}: internal error, {type(error).__name__}: {error}"
        logger.exception("%s", report.error)
    report.seconds["total"] = round(budget.elapsed_s(), 3)
    report.peak_rss_mb = peak_rss_mb()
    gpu_mb = engine.peak_gpu_mb()
    report.peak_gpu_mb = None if gpu_mb is None else round(gpu_mb, 1)
    if report.error is None and not report.resumed:
        logger.info(
            "%s: %s, %s, %d of %d sub-volumes read, %.2f ml of lesion, %.1f s",
            case.name,
            report.status,
            report.region,
            report.windows_done,
            report.windows_total,
            report.lesion_volume_ml,
            report.seconds["total"],
        )


def _screen_case(
    case: Case, report: CaseReport, options: Options, plan: Plan, engine: Engine, budget: Budget, progress: Progress
) -> None:
    if _is_finished(case, report, options):
        return
    volume = _read_case(case, report, options)
    try:
        result = screen(volume, plan, engine, budget, options.settings, progress)
        report.fill(volume, result)
        for stage in ("preprocess", "glance", "focus"):
            report.seconds[stage] = round(result.seconds[stage], 3)
        with _timed(report, "write", result.seconds["restore"]):
            _keep_folder(options.output)
            write_mask(options.output / case.mask_name, result.mask, volume.geometry)
    except Exception as error:
        # Where a mask cannot be written, an empty one cannot either.
        if options.empty_mask_on_failure and not isinstance(error, OutputError):
            _last_resort(case, report, options, volume)
        if isinstance(error, MemoryError):
            raise InputError(
                f"{case.path.name}: memory ran out while it was screened; give more memory or split the scan"
            ) from error
        raise
    report.status = "ok" if result.complete else "degraded"
    if not result.complete:
        unread = result.windows_kept - result.windows_done
        logger.warning(
            "%s: time ran out, %d suspicious sub-volumes left unread, %d not glanced at",
            case.name,
            unread,
            result.windows_unglanced,
        )


def _is_finished(case: Case, report: CaseReport, options: Options) -> bool:
    """Whether an earlier run finished this case, if that was asked; the report then says so."""
    if not options.resume or case.problem is not None:
        return False
    volume_ml = finished_lesion_ml(options.output / case.mask_name, case.path)
    if volume_ml is None:
        return False
    report.status, report.error, report.resumed, report.lesion_volume_ml = "ok", None, True, volume_ml
    logger.info("%s: finished by an earlier run, left as it is", case.name)
    return True


def _read_case(case: Case, report: CaseReport, options: Options) -> Volume:
    """Read the scan, after the mask of an earlier run was removed. Raises InputError, OutputError."""
    if case.problem is not None:
        raise InputError(case.problem)
    mask = options.output / case.mask_name
    if _is_the_scan(mask, case.path):
        raise InputError(f"{case.path.name}: its mask would overwrite the scan itself; choose another output folder")
    remove_stale_mask(mask)
    with _timed(report, "read"):
        volume = read_volume(case.path)
    report.warnings = list(volume.warnings)
    for warning in volume.warnings:
        logger.warning("%s: %s", case.path.name, warning)
    return volume


def _last_resort(case: Case, report: CaseReport, options: Options, volume: Volume) -> None:
    """Write an empty mask for a scan that could not be screened. The case stays failed. Raises OutputError."""
    _keep_folder(options.output)
    write_empty_mask(options.output / case.mask_name, volume.geometry)
    report.empty_mask = True
    report.warnings.append("screening failed: an empty mask with the scan's geometry was written as a last resort")
    logger.warning("%s: screening failed, an empty mask was written as a last resort", case.path.name)


def _keep_folder(output: Path) -> None:
    """Make the output folder again if somebody has removed it meanwhile: the cases to come need it."""
    if not output.is_dir():
        logger.warning("%s: the output folder has vanished and is made again; masks written before are lost", output)
        with suppress(OSError):  # the writing that follows says why
            output.mkdir(parents=True, exist_ok=True)


def remove_stale_mask(path: Path) -> None:
    """Remove the mask of an earlier run: if this case fails now, an old mask must not pass for its result."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be replaced ({error.strerror or error}); check its permissions") from error


def _is_the_scan(mask: Path, scan: Path) -> bool:
    """Whether the mask's path is the scan itself. A link to the scan is not: it is replaced, not followed."""
    try:
        return not mask.is_symlink() and mask.samefile(scan) and mask.parent.samefile(scan.parent)
    except OSError:
        return False


@contextmanager
def _timed(report: CaseReport, stage: str, already_s: float = 0.0) -> Iterator[None]:
    start = time.monotonic()
    try:
        yield
    finally:
        report.seconds[stage] = round(already_s + time.monotonic() - start, 3)
