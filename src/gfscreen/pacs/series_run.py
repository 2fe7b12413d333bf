"""One series of an archive: fetched, screened, made into SEG and SR, stored, and seen to be stored."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

from gfscreen.config import Plan, read_plan
from gfscreen.errors import GFScreenError, InputError, ScanTooLargeError
from gfscreen.network_plan import RegionName
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.pacs.archive import Archive, ArchiveError, FoundSeries
from gfscreen.pacs.identity import Identity, identity_of, name_of
from gfscreen.pacs.options import PacsOptions
from gfscreen.pacs.records import Records, SeriesRecord
from gfscreen.results.statistics.lesions import MeasuredLesion
from gfscreen.results.statistics.parts import instance_map
from gfscreen.results.structured_report.sr import Findings, encode_sr
from gfscreen.run.background_io import Timed, timed
from gfscreen.run.case_run import CaseRun
from gfscreen.run.options import Options
from gfscreen.scan.volume import InputCase, Volume
from gfscreen.scan.volume.dicom.seg import check_available, encode_seg
from gfscreen.screening.budget import Budget
from gfscreen.screening.progress import no_progress
from gfscreen.screening.screening import Screening
from gfscreen.version import __version__

logger = logging.getLogger(__name__)


class SeriesRun:
    """Both networks and what is done with a series. Raises UsageError, WeightsError, EngineError."""

    def __init__(self, options: PacsOptions, archive: Archive, records: Records) -> None:
        check_available()
        self._options, self._archive, self._records = options, archive, records
        self.plan: Plan = read_plan(options.weights)
        settings = options.settings
        settings.over(self.plan)
        self._sha256 = read_manifest(options.weights).digest
        self._facts: dict[str, Any] = {
            "gfscreen": __version__,
            "weights_sha256": self._sha256,
            "region": settings.region,
            "operating_point": settings.operating_point,
        }
        self._engine = load_engine(
            options.weights,
            device=options.device,
            engine=options.engine,
            precision=options.precision,
            gpu_memory_limit_mb=None,
        )

    def __call__(self, found: FoundSeries) -> SeriesRecord:
        """What became of a series, which is written. Whatever goes wrong is in its record and in the log, in one line.

        Raises OutputError if the record cannot be written.
        """
        name = name_of(found.series_uid)
        record = self._records.read(name) or SeriesRecord(name, found.series_uid, found.study_uid)
        before = record.status
        try:
            self._run(found, record)
        except ArchiveError as error:
            # Nothing about the series is known to be wrong unless the archive says so; what waits goes on waiting.
            if record.status != "waiting" or error.refused:
                record.status = "refused" if error.refused and before == "waiting" else "failed"
            record.error = str(error)
            logger.error("%s: %s", name, error)
        except GFScreenError as error:
            # Memory and disk may suffice another time.
            refused = isinstance(error, InputError) and not isinstance(error, ScanTooLargeError)
            record.status, record.error = ("refused" if refused else "failed"), str(error)
            logger.error("%s: %s", name, error)
        except Exception as error:
            record.status, record.error = "failed", f"internal error, {type(error).__name__}: {error}"
            logger.error("%s: %s", name, record.error)
        self._records.write(record)
        return record

    def _run(self, found: FoundSeries, record: SeriesRecord) -> None:
        """Raises GFScreenError."""
        uids = self._archive.instances(found.study_uid, found.series_uid)
        identity = identity_of(found.series_uid, uids, self._facts)
        known = record.identity == identity.digest
        if known and record.status == "refused":
            return
        record.seg_uid, record.sr_uid, record.instances = identity.uid("seg"), identity.uid("sr"), len(uids)
        if self._stored(found, identity, record):
            return
        screened = known and record.status in ("waiting", "stored") and self._records.sr(record.name).is_file()
        if not screened:
            record.status, record.identity, record.weights_sha256 = "failed", identity.digest, self._sha256
            record.error, record.stored_unix_s = None, None
            self._screen(found, record, identity)
        record.status = "waiting"
        self._records.write(record)
        contents = [self._records.seg(record.name).read_bytes(), self._records.sr(record.name).read_bytes()]
        self._archive.store(contents, found.study_uid)
        if not self._stored(found, identity, record):
            raise ArchiveError(
                f"{self._options.archive.url}: says that it has stored the results, but QIDO does not tell of them; "
                "see the archive's log"
            )
        logger.info("%s: stored, %d lesions", record.name, record.lesion_count or 0)

    def _stored(self, found: FoundSeries, identity: Identity, record: SeriesRecord) -> bool:
        """Whether QIDO tells of both objects. Only that counts."""
        for kind in ("seg", "sr"):
            if identity.uid(kind) not in self._archive.instances(found.study_uid, identity.uid(f"{kind} series")):
                return False
        record.identity, record.error = identity.digest, None
        if record.status != "stored":
            record.status, record.stored_unix_s = "stored", round(time.time(), 3)
        return True

    def _screen(self, found: FoundSeries, record: SeriesRecord, identity: Identity) -> None:
        """Fetch and screen; mask, SEG and SR are written, in this order. Raises GFScreenError."""
        with tempfile.TemporaryDirectory(prefix="gfscreen-") as temporary:
            folder = Path(temporary) / record.name
            fetching = timed(lambda: self._archive.fetch(found.study_uid, found.series_uid, folder))
            volume, result = self._screened(folder, record)
            record.seconds = {"fetch": round(fetching.seconds, 3), **record.seconds}
            from gfscreen.results.statistics.documents import measure_case

            case = measure_case(record.name, "ok", volume, result.mask, result.network_outputs, record.suspicion)
            record.lesion_count = case.lesion_count
            instances = instance_map(result.mask, volume.geometry, self._records.seg(record.name))
            seg = encode_seg(instances, volume.geometry, folder, None, self._sha256, again=True, uid_of=identity.uid)
        regions = [_region_of(lesion, volume, result) for lesion in case.lesions]
        findings = Findings(case.lesions, regions, record.suspicion, self._sha256)
        self._records.write_file(self._records.seg(record.name), seg.content)
        report = encode_sr(findings, seg, identity.uid, record.name)
        self._records.write_file(self._records.sr(record.name), report)

    def _screened(self, folder: Path, record: SeriesRecord) -> tuple[Volume, Screening]:
        """The scan and what was found, its mask written. Raises GFScreenError."""
        asked = self._options
        options = Options(
            folder,
            self._records.masks,
            asked.weights,
            settings=asked.settings,
            time_limit_s=asked.time_limit_s,
            overwrite=True,
        )
        run = CaseRun(InputCase(record.name, folder), options, measured=True)
        scan = timed(run.read)
        assert isinstance(scan.result, Volume)
        volume = run.take_over(Timed(scan.result, scan.seconds))
        budget = Budget(asked.time_limit_s)
        prepared = run.prepare(volume, self.plan, budget)
        result = run.screen(volume, self.plan, self._engine, budget, no_progress, prepared)
        run.write(volume.geometry, result, budget)
        report = run.report
        record.region, record.suspicion = report.region, report.suspicion
        record.lesion_volume_ml, record.warnings = report.lesion_volume_ml, list(report.warnings)
        record.seconds = dict(report.seconds)
        if result is None or report.error is not None:
            raise InputError(report.error or f"{record.name}: nothing was looked at; give it more time")
        return volume, result


def _region_of(lesion: MeasuredLesion, volume: Volume, result: Screening) -> RegionName:
    """The region that the axial position of a lesion's centre belongs to."""
    axes, flips = volume.geometry.ras_axes
    k = lesion.centroid_voxel[axes[2]]
    z = volume.geometry.shape[axes[2]] - 1 - k if flips[2] else k
    slices = result.region.chest
    coarse = int(z * volume.geometry.spacing_mm[axes[2]] / result.region.slice_mm)
    return "chest" if slices.size and slices[min(max(coarse, 0), slices.size - 1)] else "abdomen"
