"""A run over one or many scans: find the cases, screen each, write masks and report, and let no case stop another."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from gfscreen.budget import Budget, process_age_s
from gfscreen.config import Plan, read_plan
from gfscreen.dicom_output import check_seg_output, seg_path, write_seg_of
from gfscreen.engines.base import Engine
from gfscreen.engines.select import load_engine
from gfscreen.errors import GFScreenError, InputError, OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.report import CaseReport, peak_rss_mb, run_report, write_report
from gfscreen.screening import Progress, Settings, no_progress, screen
from gfscreen.volume import Case, find_cases, read_volume, write_mask

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
    series: str | None = None
    dicom_seg: Path | None = None


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
    if options.dicom_seg is not None:
        check_seg_output(cases, options.dicom_seg)
    reports = [CaseReport(case.name) for case in cases]
    plan: Plan | None = None
    engine: Engine | None = None
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
    if report.error is None:
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
        logger.debug("%s: region: %s", case.name, (report.region_detail or {}).get("reason"))
        logger.debug("%s: seconds: %s; peak memory %s MiB", case.name, report.seconds, report.peak_rss_mb)


def _screen_case(
    case: Case, report: CaseReport, options: Options, plan: Plan, engine: Engine, budget: Budget, progress: Progress
) -> None:
    if case.problem is not None:
        raise InputError(case.problem)
    if _same_file(options.output / case.mask_name, case.path):
        raise InputError(f"{case.path.name}: its mask would overwrite the scan itself; choose another output folder")
    remove_stale_mask(options.output / case.mask_name)
    if options.dicom_seg is not None:
        remove_stale_mask(seg_path(case, options.dicom_seg))
    with _timed(report, "read"):
        volume = read_volume(case.path, options.series)
    for warning in volume.warnings:
        logger.warning("%s: %s", case.path.name, warning)
    result = screen(volume, plan, engine, budget, options.settings, progress)
    report.fill(volume, result)
    for stage in ("preprocess", "glance", "focus"):
        report.seconds[stage] = round(result.seconds[stage], 3)
    with _timed(report, "write", result.seconds["restore"]):
        write_mask(options.output / case.mask_name, result.mask, volume.geometry)
        if options.dicom_seg is not None:
            write_seg_of(case, result.mask, volume.geometry, options.dicom_seg, options.series, options.weights)
    report.status = "ok" if result.complete else "degraded"
    if not result.complete:
        unread = result.windows_kept - result.windows_done
        logger.warning(
            "%s: time ran out, %d suspicious sub-volumes left unread, %d not glanced at",
            case.name,
            unread,
            result.windows_unglanced,
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
