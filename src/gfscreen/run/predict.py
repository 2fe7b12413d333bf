"""A run over one or many scans: find the cases, screen each, write masks and report, and let no case stop another.

The networks load while the first scan is read; each further scan is read, and each mask written, while another case is
screened. What one case goes through is in `case_run`.
"""

from __future__ import annotations

import logging
from concurrent.futures import Future, wait
from dataclasses import asdict, dataclass
from functools import partial

from gfscreen.config import Plan, read_plan
from gfscreen.errors import EngineError, GFScreenError, UsageError
from gfscreen.networks.engines.base import Engine, EngineInfo
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.card import read_notice
from gfscreen.run.background_io import Background, ReadAhead, Timed, timed
from gfscreen.run.case_run import CaseRun, Finished, NoEngineError
from gfscreen.run.case_table import case_table_path, write_case_table
from gfscreen.run.dicom_seg_output import check_seg_output
from gfscreen.run.inputs_check import check_places, check_series_option
from gfscreen.run.native_maps import NativeMaps
from gfscreen.run.optional_outputs import OptionalOutputs
from gfscreen.run.options import Options
from gfscreen.run.output_folder import prepare_output
from gfscreen.run.report import run_report, write_report
from gfscreen.run.summary import summary
from gfscreen.scan.volume import Volume, find_cases
from gfscreen.scan.volume.memory import needed_bytes, promised
from gfscreen.screening.budget import Budget, process_age_s, write_reserve_s
from gfscreen.screening.progress import CaseProgress, Progress, no_progress
from gfscreen.screening.screening import Screening
from gfscreen.stopping import Stopped

logger = logging.getLogger(__name__)


@dataclass
class _Known:
    """What a run has come to know, as far as it came, for its report."""

    plan: Plan | None = None
    engine: EngineInfo | None = None
    notice: str | None = None


def predict(options: Options, progress: Progress = no_progress) -> int:
    """Screen all cases: 0 if all that was asked for was written, 1 if something failed.

    progress: one that is a `CaseProgress` is also told which case of how many begins. The log ends with a summary.
    Raises UsageError before any work. Stopped, when the process is told to stop, passes through after the report was
    written; statistics and preview are left out then.
    """
    check_places(options)
    cases = find_cases(options.source, [path for path in (options.output, options.dicom_seg, options.preview) if path])
    check_series_option(cases, options)
    table = None if options.report is None else case_table_path(options.report, cases, options.source)
    if options.resume and (options.statistics is not None or options.preview is not None):
        raise UsageError(
            "--resume does not read finished scans again, which --statistics and --preview need; "
            "leave these out and run `gfscreen stats` on the masks afterwards"
        )
    if options.dicom_seg is not None:
        check_seg_output(cases, options.dicom_seg, options.series)
    runs = [CaseRun(case, options) for case in cases]
    reports = [run.report for run in runs]
    maps = NativeMaps(options.instances, options.probabilities)
    point = options.settings.operating_point
    optional_outputs = OptionalOutputs(options.statistics, options.preview, options.output, len(cases), maps, point)
    maps.check([options.source, *(case.path.parent for case in cases)])
    known = _Known()
    stopped: Stopped | None = None
    try:
        _screen_all(runs, options, known, optional_outputs, progress)
    except Stopped as stop:
        stopped = stop
        for report in reports:
            if report.error is None and report.status == "failed":
                report.error = f"not screened: {stop}; run again with --resume"
    if options.report is not None:
        settings = {**asdict(options.settings), "time_limit_s": options.time_limit_s}
        settings["gpu_memory_limit_mb"] = options.gpu_memory_limit_mb
        write_report(options.report, run_report(reports, known.plan, known.engine, settings, known.notice))
    if table is not None:
        write_case_table(table, reports)
    if stopped is not None:
        logger.info("%s", summary(reports, options, optional_outputs=False))
        raise stopped
    complete = optional_outputs.finish(reports, known.plan, known.engine)
    logger.info("%s", summary(reports, options))
    return 1 if any(report.status == "failed" for report in reports) or not complete else 0


def _screen_all(
    runs: list[CaseRun], options: Options, known: _Known, optional_outputs: OptionalOutputs, progress: Progress
) -> None:
    """Screen all cases; if nothing can be screened at all, every one that has no mask yet fails for that reason."""
    try:
        prepare_output(options.output)
        known.plan = read_plan(options.weights)
        options.settings.over(known.plan)  # refused before any scan is read
        known.notice = read_notice(options.weights, known.plan)
        optional_outputs.notice = known.notice
        logger.warning("%s", known.notice)
        _run_cases(runs, options, known.plan, known, optional_outputs, progress)
    except UsageError:
        raise
    except GFScreenError as error:
        logger.error("%s", error)
        for run in runs:
            if run.report.error is None and run.report.status == "failed":
                run.fail(error)


def _run_cases(
    runs: list[CaseRun],
    options: Options,
    plan: Plan,
    known: _Known,
    optional_outputs: OptionalOutputs,
    progress: Progress,
) -> None:
    """Read, screen and write, each in a thread of its own. Raises GFScreenError if the engine cannot be loaded."""
    with Background() as background:
        loading = background.start("load", lambda: _load(options, known))
        scans = ReadAhead(background, runs, CaseRun.read)
        writing: Future[None] | None = None
        try:
            for number, run in enumerate(runs):
                budget = Budget(options.time_limit_s, process_age_s() if number == 0 else 0.0)
                screened: tuple[Volume, Screening | None] | None = None
                if isinstance(progress, CaseProgress):
                    progress.begin_case(number + 1, len(runs), run.case.name)
                with run.reported(budget):
                    try:
                        screened = _screen_case(run, plan, scans, loading, budget, progress)
                    finally:
                        if number == len(runs) - 1 and loading.done() and loading.exception() is None:
                            # Also where screening was cut short, before the last mask is written.
                            loading.result().release()
                    if screened is not None:
                        if writing is not None:
                            # One mask at a time; what its writing has raised is in its own report.
                            writing.result()
                        write = partial(run.write, screened[0].geometry, screened[1], budget)
                        writing = background.start("write", write)
                if optional_outputs.wanted:
                    # Between two cases, which pay for it neither in time nor with their memory.
                    if writing is not None:
                        writing.result()
                    spent = timed(partial(optional_outputs.add, run.report, screened, run.mask))
                    run.report.seconds["results"] = round(spent.seconds, 3)
                # Two other scans will be in memory: that of the next case, and the one that is read meanwhile.
                del screened
        except NoEngineError as error:
            raise error.cause from error
        if writing is not None:
            writing.result()
        # Where every case was finished before, or time was too short for all, nobody has asked yet.
        loading.result()


def _load(options: Options, known: _Known) -> Engine:
    """The engine of this run. Raises GFScreenError, whatever it is that goes wrong."""
    try:
        engine = load_engine(
            options.weights,
            device=options.device,
            engine=options.engine,
            precision=options.precision,
            gpu_memory_limit_mb=options.gpu_memory_limit_mb,
        )
    except GFScreenError:
        raise
    except Exception as error:
        logger.exception("the networks cannot be loaded")
        raise EngineError(
            f"{options.weights}: the networks cannot be loaded, {type(error).__name__}: {error}"
        ) from error
    known.engine = info = engine.info
    logger.info("%s on %s, %s (%s)", info.name, info.device, info.precision, info.reason)
    return engine


def _screen_case(
    run: CaseRun,
    plan: Plan,
    scans: ReadAhead[CaseRun, Volume | Finished],
    loading: Future[Engine],
    budget: Budget,
    progress: Progress,
) -> tuple[Volume, Screening | None] | None:
    """The scan of one case, prepared while the networks load, and what was found; None if they came too late.

    None alone if an earlier run finished the case. Raises what its reading has raised, and NoEngineError.
    """
    try:
        scan = scans.take()
    except Exception:
        # Without an engine no case is touched, so that has to be known first.
        wait([loading])
        _check(loading)
        run.remove_stale()
        raise
    if isinstance(scan.result, Finished):
        run.leave_finished(scan.result)
        return None
    volume = run.take_over(Timed(scan.result, scan.seconds))
    # The next scan may not count on the memory that this one will still need.
    with promised(needed_bytes(volume.geometry.shape, volume.geometry.spacing_mm, 0)):
        scans.begin()
        prepared = run.prepare(volume, plan, budget)
        engine = _wait_for(loading, budget, volume)
        result = run.screen(volume, plan, engine, budget, progress, prepared)
    return volume, result


def _check(loading: Future[Engine]) -> None:
    """Raise what loading has raised, if it has ended: then no case can be screened, and none is touched."""
    if loading.done() and (error := loading.exception()) is not None:
        raise NoEngineError(error)


def _wait_for(loading: Future[Engine], budget: Budget, volume: Volume) -> Engine | None:
    """The engine, waited for while there is time to do more than write an empty mask; None if it comes too late."""
    left_s = budget.remaining_s() - write_reserve_s(volume.hu.size)
    wait([loading], timeout=None if left_s == float("inf") else max(0.0, left_s))
    _check(loading)
    return loading.result() if loading.done() else None
