"""One case of a run: read, screened, its mask written, and what becomes of it if any of that fails.

`predict` calls these steps from its threads: `read` while the case before is screened, `write` while the next one is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from gfscreen.config import Plan
from gfscreen.errors import GFScreenError, InputError, OutputError
from gfscreen.networks.engines.base import Engine
from gfscreen.run.background_io import Timed
from gfscreen.run.dicom_seg_output import seg_path, write_seg_of
from gfscreen.run.earlier_mask import check_earlier_mask
from gfscreen.run.native_maps import NativeMaps
from gfscreen.run.options import Options
from gfscreen.run.output_folder import is_the_scan, keep_folder, remove_stale_mask
from gfscreen.run.report import CaseReport, peak_rss_mb, source_text
from gfscreen.scan.volume import (
    Geometry,
    InputCase,
    Volume,
    finished_mask,
    read_volume,
    write_empty_mask,
    write_mask,
)
from gfscreen.scan.volume.hounsfield import refuse_mask
from gfscreen.scan.volume.provenance import fingerprint
from gfscreen.screening.budget import Budget
from gfscreen.screening.progress import Progress
from gfscreen.screening.screening import Prepared, Screening, prepare, screen

logger = logging.getLogger(__name__)


class NoEngineError(Exception):
    """Carries an error of the engine past the report of a single case: it is that of all of them."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(str(cause))
        self.cause = cause


@dataclass(frozen=True)
class Finished:
    """What is left of a case that an earlier run finished: the lesion volume of its mask, and its DICOM series."""

    lesion_volume_ml: float
    series_uid: str | None = None


class CaseRun:
    """One case; all that happens to it goes into its `report`.

    measured: whoever screens it measures it afterwards, so the networks' outputs are kept.
    """

    def __init__(self, case: InputCase, options: Options, *, measured: bool = False) -> None:
        self.case = case
        self.options = options
        self.report = CaseReport(case.name, source=source_text(case.path, options.source))
        self.mask = options.output / case.mask_name
        self._scan: str | None = None
        self._measured = measured or options.statistics is not None or options.preview is not None
        self.seg = None if options.dicom_seg is None else seg_path(case, options.dicom_seg)
        self.maps = NativeMaps(options.instances, options.probabilities)

    @property
    def _file(self) -> str:
        return self.case.path.name

    @contextmanager
    def reported(self, budget: Budget) -> Iterator[None]:
        """Whatever goes wrong inside is said in the report and in the log; only NoEngineError and a stop go on."""
        try:
            yield
        except NoEngineError:
            raise
        except GFScreenError as error:
            self.report.error = str(error)
            logger.error("%s", error)
        except Exception as error:
            # A fault of ours, not of the input: the other cases must still be written, and the trace must not be lost.
            self.report.error = f"{self._file}: internal error, {type(error).__name__}: {error}"
            logger.exception("%s", self.report.error)
        finally:
            self.report.seconds["total"] = round(budget.elapsed_s(), 3)
            self.report.peak_rss_mb = peak_rss_mb()

    def read(self) -> Volume | Finished:
        """The scan, unless an earlier run finished the case and that was asked for. Touches no mask.

        Raises InputError.
        """
        if self.case.problem is not None:
            raise InputError(self.case.problem)
        if is_the_scan(self.mask, self.case.path):
            raise InputError(f"{self._file}: its mask would overwrite the scan itself; choose another output folder")
        series = self.options.series
        # Finished is what has all that was asked for.
        if self.options.resume and (self.seg is None or self.seg.is_file()) and self.maps.complete(self.case):
            finished = finished_mask(self.mask, self.case.path, series)
            if finished is not None:
                return Finished(finished.lesion_ml, finished.series_uid)
        volume = read_volume(self.case.path, series)
        refuse_mask(volume.hu, self._file)
        return volume

    def remove_stale(self) -> None:
        """Remove an earlier run's mask, SEG and maps of this case, if what lies there is one. Raises OutputError."""
        if self.case.problem is None and not is_the_scan(self.mask, self.case.path):
            remove_stale_mask(self.mask)
            if self.seg is not None:
                remove_stale_mask(self.seg)
            self.maps.remove_stale(self.case)

    def _replace_earlier(self, volume: Volume) -> None:
        """Remove an earlier run's mask of this scan. Raises OutputError if it is another scan's."""
        self._scan = fingerprint(volume)
        warning = check_earlier_mask(self.mask, volume, self._scan, overwrite=self.options.overwrite)
        if warning is not None:
            self.report.warnings.append(warning)
            logger.warning("%s: %s", self._file, warning)
        self.remove_stale()

    def leave_finished(self, finished: Finished) -> None:
        """Keep what an earlier run has made."""
        self.report.status, self.report.error, self.report.resumed = "ok", None, True
        self.report.lesion_volume_ml = finished.lesion_volume_ml
        self.report.series_uid = finished.series_uid
        logger.info("%s: finished by an earlier run, left as it is", self.case.name)

    def take_over(self, scan: Timed[Volume]) -> Volume:
        """Begin with a scan that was read: how long that took, and what was odd about it."""
        self.report.seconds["read"] = round(scan.seconds, 3)
        self.report.warnings = list(scan.result.warnings)
        self.report.series_uid = scan.result.series_uid
        for warning in scan.result.warnings:
            logger.warning("%s: %s", self._file, warning)
        return scan.result

    def prepare(self, volume: Volume, plan: Plan, budget: Budget) -> Prepared | None:
        """What needs no network, done while they load. None if it fails: `screen` will meet and report the same."""
        try:
            return prepare(volume, plan, self.options.settings, budget)
        except Exception:
            # Whether this case may be touched at all is known only when the networks are there.
            return None

    def screen(
        self,
        volume: Volume,
        plan: Plan,
        engine: Engine | None,
        budget: Budget,
        progress: Progress,
        prepared: Prepared | None,
    ) -> Screening | None:
        """Screen the scan, after an earlier run's mask was removed; None if there is no engine in time."""
        self._replace_earlier(volume)
        if engine is None:
            return None
        try:
            with self._or_last_resort(volume.geometry):
                settings = self.options.settings
                raw = self.options.probabilities is not None
                wanted = raw or self._measured
                result = screen(volume, plan, engine, budget, settings, progress, prepared, wanted, raw)
                self.report.fill(volume, result)
        finally:
            gpu_mb = engine.peak_gpu_mb()
            self.report.peak_gpu_mb = None if gpu_mb is None else round(gpu_mb, 1)
        for stage in ("preprocess", "glance", "focus"):
            self.report.seconds[stage] = round(result.seconds[stage], 3)
        return result

    def write(self, geometry: Geometry, result: Screening | None, budget: Budget) -> None:
        """Write the mask; without a result an empty one that says so. Whatever goes wrong is reported, not raised."""
        with self.reported(budget):
            start_s = time.monotonic() - (0.0 if result is None else result.seconds["restore"])
            with self._or_last_resort(geometry):
                keep_folder(self.options.output)
                if result is None:
                    self._write_empty(geometry, "the networks were not loaded in time: nothing was looked at")
                else:
                    write_mask(self.mask, result.mask, geometry, self._scan)
            if result is not None and self.seg is not None:
                # Outside: a SEG that cannot be made must not cost the mask.
                options = self.options
                write_seg_of(self.case, result.mask, geometry, self.seg, options.series, options.weights)
            self.report.seconds["write"] = round(time.monotonic() - start_s, 3)
            self.report.status = "ok" if result is not None and result.complete else "degraded"
        if self.report.error is None:
            self._say()

    def fail(self, error: GFScreenError) -> None:
        """Nothing can be screened; if asked for, a scan that can be read still gets its last resort."""
        self.report.error = str(error)
        if not self.options.empty_mask_on_failure or isinstance(error, OutputError):
            return
        try:
            try:
                scan = self.read()
            except InputError:
                self.remove_stale()
                raise
            if isinstance(scan, Finished):
                self.leave_finished(scan)
                return
            self._replace_earlier(scan)
            self._last_resort(scan.geometry)
        except Exception as other:
            self.report.error = f"{error}; {other}"
            logger.error("%s: no empty mask either: %s", self._file, other)

    @contextmanager
    def _or_last_resort(self, geometry: Geometry) -> Iterator[None]:
        """If what is inside fails, the last resort is written, if it was asked for; the error goes on."""
        try:
            yield
        except Exception as error:
            # Where a mask cannot be written, an empty one cannot either.
            if self.options.empty_mask_on_failure and not isinstance(error, OutputError):
                self._last_resort(geometry)
            if isinstance(error, MemoryError):
                raise InputError(
                    f"{self._file}: memory ran out while it was screened; give more memory or split the scan"
                ) from error
            raise

    def _last_resort(self, geometry: Geometry) -> None:
        """Write an empty mask for a scan that could not be screened. The case stays failed. Raises OutputError."""
        keep_folder(self.options.output)
        self._write_empty(geometry, "screening failed: an empty mask was written as a last resort")

    def _write_empty(self, geometry: Geometry, why: str) -> None:
        write_empty_mask(self.mask, geometry)
        self.report.empty_mask = True
        self.report.warnings.append(why)
        logger.warning("%s: %s", self._file, why)

    def _say(self) -> None:
        """One line about a written case, and one about what there was no time for."""
        report = self.report
        if report.status == "degraded" and not report.empty_mask:
            logger.warning(
                "%s: time ran out, %d suspicious sub-volumes left unread, %d not glanced at, %d not read again",
                self.case.name,
                (report.windows_kept or 0) - (report.windows_done or 0),
                report.windows_unglanced or 0,
                (report.second_looks or 0) - (report.second_looks_done or 0),
            )
        logger.info(
            "%s: %s, %s, %d of %d sub-volumes read, %.2f ml marked%s, %.1f s",
            self.case.name,
            report.status,
            report.region or "not looked at",
            report.windows_done or 0,
            report.windows_total or 0,
            report.lesion_volume_ml or 0.0,
            "" if report.suspicion is None else f", suspicion {report.suspicion:.2f}",
            report.seconds["total"],
        )
        logger.debug("%s: region: %s", self.case.name, (report.region_detail or {}).get("reason"))
        logger.debug("%s: seconds: %s; peak memory %s MiB", self.case.name, report.seconds, report.peak_rss_mb)
