"""What a worker does with an item: read or fetch it, screen it, write mask, thumbnail and record. Knows no Ray.

Two threads may call it at the same time: one item is read, or its results written, while the other is screened.
"""

from __future__ import annotations

import logging
import platform
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.records import Layout, Record, finished, write_record
from gfscreen.cohort.sources.items import Item
from gfscreen.cohort.thumbnail import thumbnail
from gfscreen.config import read_plan
from gfscreen.errors import InputError, OutputError, ScanTooLargeError, WeightsError
from gfscreen.files import write_atomically
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.results.statistics.documents import measure_case
from gfscreen.run.background_io import Timed, timed
from gfscreen.run.case_run import CaseRun, Finished
from gfscreen.run.options import Options
from gfscreen.scan.volume import InputCase, Volume
from gfscreen.scan.volume.memory import needed_bytes, promised
from gfscreen.screening.budget import Budget
from gfscreen.screening.progress import no_progress
from gfscreen.screening.screening import Screening

logger = logging.getLogger(__name__)


class CaseWorker:
    """Both networks, loaded once, and what is done with each item.

    weights_sha256: of the weights that the cohort is screened with; others are refused. Raises WeightsError,
    EngineError, UsageError.
    """

    def __init__(self, options: CohortOptions, weights_sha256: str) -> None:
        self._options, self._sha256 = options, weights_sha256
        self._layout = Layout(options.output)
        found = read_manifest(options.weights).digest
        if found != weights_sha256:
            raise WeightsError(
                f"{options.weights} on {platform.node()}: are other weights (sha256 {found[:16]}) than the cohort's "
                f"({weights_sha256[:16]}); give every node the same"
            )
        self._plan = read_plan(options.weights)
        self._engine: Engine = load_engine(
            options.weights,
            device=options.device,
            engine=options.engine,
            precision=options.precision,
            gpu_memory_limit_mb=None,
        )
        self._screening = threading.Lock()

    def __call__(self, item: Item, tries: int) -> Record:
        """Screen one item; its record, which is written. tries: workers that it was given to, this one included.

        Where an earlier worker has finished it and ended before it could say so, its record is taken as it is.
        Whatever is wrong with the item is in its record. Raises OutputError if that cannot be written.
        """
        if tries > 1 and (before := finished(self._layout, item)) is not None and before.done:
            return before
        record = Record(item.name, tries=tries, source=item.place, worker=platform.node())
        record.weights_sha256, info = self._sha256, self._engine.info
        record.engine = f"{info.name} on {info.device}, {info.precision}"
        try:
            with self._at_hand(item) as path:
                self._screen(item, path, record)
        except (InputError, OutputError) as error:
            record.error = str(error)
        record.finished_unix_s = round(time.time(), 3)
        write_record(self._layout, record)
        return record

    @contextmanager
    def _at_hand(self, item: Item) -> Iterator[Path]:
        """The path of an item; of a series in an archive that of its copy, which lasts as long as the context."""
        if self._options.archive is None or item.problem is not None:
            yield Path(item.place)
            return
        from gfscreen.pacs.archive import Archive

        with tempfile.TemporaryDirectory(prefix="gfscreen-") as temporary:
            folder = Path(temporary) / item.name
            Archive(self._options.archive).fetch(item.study or "", item.place, folder)
            yield folder

    def _screen(self, item: Item, path: Path, record: Record) -> None:
        asked = self._options
        options = Options(
            path,
            self._layout.mask(item.name).parent,
            asked.weights,
            device=asked.device,
            engine=asked.engine,
            precision=asked.precision,
            settings=asked.settings,
            time_limit_s=asked.time_limit_s,
            overwrite=True,
            series=item.series,
        )
        run = CaseRun(InputCase(item.name, path, item.problem), options, measured=True)
        scan: Timed[Volume | Finished] | None = None
        failure: Exception | None = None
        try:
            scan = timed(run.read)
        except Exception as error:
            failure = error
        with self._screening:
            budget = Budget(asked.time_limit_s)
            result: Screening | None = None
            with run.reported(budget):
                volume, result = self._with_networks(run, scan, failure, budget)
        if result is not None:
            run.write(volume.geometry, result, budget)
        _take_over(record, run)
        if result is not None and record.done:
            self._measure(record, volume, result)

    def _with_networks(
        self, run: CaseRun, scan: Timed[Volume | Finished] | None, failure: Exception | None, budget: Budget
    ) -> tuple[Volume, Screening | None]:
        """The scan and what was found. Raises whatever its reading has raised, or does."""
        if isinstance(failure, ScanTooLargeError):
            scan, failure = timed(run.read), None  # it has not fitted beside another one
        if failure is not None:
            run.remove_stale()
            raise failure
        assert scan is not None
        assert isinstance(scan.result, Volume)
        volume = run.take_over(Timed(scan.result, scan.seconds))
        with promised(needed_bytes(volume.geometry.shape, volume.geometry.spacing_mm, 0)):
            prepared = run.prepare(volume, self._plan, budget)
            return volume, run.screen(volume, self._plan, self._engine, budget, no_progress, prepared)

    def _measure(self, record: Record, volume: Volume, result: Screening) -> None:
        """What the worklist tells of a case beyond its report. The mask is there: what fails here is a warning."""
        try:
            case = measure_case(record.name, record.status, volume, result.mask, result.network_outputs)
            record.lesion_count, record.longest_axis_mm = case.lesion_count, case.longest_axis_mm
            outputs = result.network_outputs
            if outputs is not None and outputs.focus_probability.size:
                record.highest_probability = round(float(outputs.focus_probability.max()), 4)
            axes, flips = volume.geometry.ras_axes
            shape, voxel = volume.geometry.shape, None
            if case.lesions:
                at = case.lesions[0].inside_voxel
                x, y, z = (shape[a] - 1 - at[a] if flip else at[a] for a, flip in zip(axes, flips, strict=True))
                voxel = (x, y, z)
            chest = record.region == "chest"
            write_atomically(self._layout.thumbnail(record.name), thumbnail(volume, result.mask, voxel, chest=chest))
        except OSError as error:
            record.warnings.append(f"no thumbnail: {error.strerror or error}")
        except Exception as error:
            record.warnings.append(f"not measured in full, {type(error).__name__}: {error}")
            logger.exception("%s: not measured in full", record.name)


def _take_over(record: Record, run: CaseRun) -> None:
    """What the report of a case says, as far as records have it."""
    report = run.report
    for key in (
        "status", "error", "series_uid", "region", "suspicion", "lesion_volume_ml",
        "windows_total", "windows_kept", "windows_done", "peak_rss_mb",
    ):  # fmt: skip
        setattr(record, key, getattr(report, key))
    record.warnings, record.seconds = list(report.warnings), dict(report.seconds)
    if report.lesion_volume_ml is not None:
        record.lesion_volume_ml = round(report.lesion_volume_ml, 6)
    if report.windows_total and report.windows_kept is not None:
        record.kept_share = round(report.windows_kept / report.windows_total, 6)


def worker_factory(options: CohortOptions, weights_sha256: str) -> CaseWorker:
    """A worker; a function of the module, so that it can be sent to another machine. Raises as `CaseWorker`."""
    return CaseWorker(replace(options), weights_sha256)
