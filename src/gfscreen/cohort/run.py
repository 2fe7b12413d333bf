"""`gfscreen cohort run`: every item of a source that is not finished goes through the pool."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

from gfscreen.cohort.case_worker import worker_factory
from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.pool.actor import Factory
from gfscreen.cohort.pool.alone import AlonePool
from gfscreen.cohort.pool.cluster import connect
from gfscreen.cohort.pool.dispatch import Pool
from gfscreen.cohort.progress import CohortProgress, Counts, ray_gauges
from gfscreen.cohort.records import CASES, MASKS, THUMBNAILS, Layout, Record, agree_on_facts, finished, write_record
from gfscreen.cohort.sources.folder import FolderSource
from gfscreen.cohort.sources.items import Item, Shard, Source
from gfscreen.cohort.sources.manifest import ManifestSource
from gfscreen.cohort.worklist.table import TABLE, write_table
from gfscreen.config import read_plan
from gfscreen.errors import OutputError, UsageError
from gfscreen.files import remove_leftovers
from gfscreen.networks.engines.select import cuda_driver_present, find_export, installed, resolve_device
from gfscreen.networks.models.card import read_notice
from gfscreen.networks.models.manifest import read_manifest
from gfscreen.stopping import stop_on_signals, stop_requested, unstoppable

logger = logging.getLogger(__name__)

# In place of an address.
NO_RAY = "none"


def source_of(options: CohortOptions) -> Source:
    """The source that `-i` names: an archive, a `.csv` file or a folder. Raises UsageError."""
    if options.archive is not None:
        from gfscreen.cohort.sources.dicomweb import ArchiveSource

        return ArchiveSource(options.archive)
    path = Path(options.source)
    if path.is_file():
        if path.suffix.lower() != ".csv":
            raise UsageError(
                f"{path}: expected a folder, a CSV manifest or dicomweb+http://...; `predict` takes a scan"
            )
        return ManifestSource(path)
    return FolderSource(path, [options.output])


def run_cohort(
    options: CohortOptions, show: Callable[[str], None] | None = None, factory: Factory | None = None
) -> int:
    """Screen a cohort: 0 if every item has a mask, 1 if some failed. Ends with the table of all records.

    show: writes a line of progress on a terminal. factory: makes what screens an item, None: `CaseWorker`.
    Told to stop, it begins nothing more, waits for what is being screened, writes the table, and raises Stopped. Raises
    UsageError, WeightsError, EngineError, OutputError.
    """
    layout = Layout(options.output)
    source = source_of(options)
    if options.shard is not None:
        source = Shard(source, *options.shard)
    manifest = read_manifest(options.weights)
    plan = read_plan(options.weights)
    options.settings.over(plan)
    notice = read_notice(options.weights, plan)
    gpus = 0
    if factory is None:
        gpus = _prepare_engine(options)
    total = sum(1 for _ in source)
    if not total:
        if options.shard is not None:
            logger.warning("%s: this part of it holds nothing", options.source)
            return 0
        raise UsageError(f"{options.source}: holds nothing to screen; name a folder of scans or DICOM, or a manifest")
    layout.make()
    agree_on_facts(layout, {**options.facts(manifest.digest), "notice": notice})
    for folder in (MASKS, CASES, THUMBNAILS):
        remove_leftovers(layout.root / folder)
    logger.warning("%s", notice)
    counts = Counts(total)
    make = factory or partial(worker_factory, options, manifest.digest)
    if options.ray == NO_RAY:
        with stop_on_signals(), unstoppable():
            _run(AlonePool(make), source, layout, CohortProgress(counts, show), options)
    else:
        ray = connect(options.ray)
        try:
            # After Ray, whose own handler for SIGTERM would end the driver at once.
            with stop_on_signals(), unstoppable():
                pool = Pool(ray, make, options.workers, options.cpus, gpus)
                _run(pool, source, layout, CohortProgress(counts, show, gauges=ray_gauges()), options)
        finally:
            with suppress(Exception):
                ray.shutdown()
    return 1 if counts.failed else 0


def _prepare_engine(options: CohortOptions) -> int:
    """GPUs per worker, 0 or 1. Makes the OpenVINO export where CPUs will need it, so that not every worker does."""
    if options.device.startswith("cuda") or (options.device == "auto" and cuda_driver_present() and installed("torch")):
        return 1
    if resolve_device(options.device, options.engine)[0] == "openvino":
        find_export(options.weights)
    return 0


def _run(
    pool: Pool | AlonePool, source: Source, layout: Layout, progress: CohortProgress, options: CohortOptions
) -> None:
    """Screen what is to be done, then write the table."""
    counts = progress.counts
    told_drain = False
    for record in pool.run(_to_do(source, layout, counts, options), stop_requested):
        if record is not None:
            _end(record, layout, counts)
            progress.took()
        if stop_requested() and not told_drain:
            told_drain = True
            logger.warning("told to stop: what is being screened is finished, nothing more is begun")
        progress.tick(pool.ready)
    if options.shard is None:
        write_table(layout)
    logger.info("%s", _summary(counts, layout, stopped=stop_requested()))


def _to_do(source: Source, layout: Layout, counts: Counts, options: CohortOptions) -> Iterator[Item]:
    """The items that are not finished; those refused before they are read fail here, in one line each."""
    for item in source:
        if item.problem is not None:
            _end(Record(item.name, error=item.problem, source=item.place, tries=0), layout, counts, written=False)
            continue
        record = finished(layout, item, retry_set_aside=options.retry_set_aside)
        if record is None:
            yield item
            continue
        counts.take(record)
        counts.earlier += record.done


def _end(record: Record, layout: Layout, counts: Counts, *, written: bool | None = None) -> None:
    """Count and tell a record. One that no worker has written, of a worker that ended, is written here."""
    counts.take(record)
    if record.done:
        logger.debug("%s: %s", record.name, record.status)
        return
    logger.error("%s: %s", record.name, record.error)
    if written if written is not None else record.worker is not None:
        return
    try:
        write_record(layout, record)
    except OutputError as error:
        if str(error) != record.error:
            logger.error("%s", error)


def _summary(counts: Counts, layout: Layout, *, stopped: bool) -> str:
    """The last line of the log."""
    earlier = f" ({counts.earlier} by an earlier run)" if counts.earlier else ""
    aside = f" ({counts.set_aside} set aside)" if counts.set_aside else ""
    left = (counts.total or 0) - counts.ended
    more = f", {left} not begun; run again to go on" if stopped and left else ""
    told = f"{counts.done} done{earlier}, {counts.failed} failed{aside}{more}"
    return f"{counts.total} series: {told}; {layout.root / TABLE}"
