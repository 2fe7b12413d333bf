"""`gfscreen pacs`: the CT series of an archive, once through or as they arrive."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from gfscreen.networks.models.card import read_notice
from gfscreen.pacs.archive import Archive, ArchiveError, FoundSeries
from gfscreen.pacs.identity import name_of
from gfscreen.pacs.options import PacsOptions
from gfscreen.pacs.records import Records, told
from gfscreen.pacs.series_run import SeriesRun

logger = logging.getLogger(__name__)


def run_pacs(options: PacsOptions, sleep: Callable[[float], None] = time.sleep) -> int:
    """Screen the CT series: 0 if the results of every one are stored, 1 if some failed or were refused.

    With `watch` it ends only when it is told to stop. sleep: waits so many seconds. Raises UsageError if the archive
    does not answer at the beginning, WeightsError, EngineError, OutputError, and Stopped.
    """
    archive = Archive(options.archive)
    archive.check()
    records = Records(options.output)
    run = SeriesRun(options, archive, records)
    logger.warning("%s", read_notice(options.weights, run.plan))
    if not options.watch:
        statuses: Counter[str] = Counter()
        try:
            for found in archive.ct_series(options.study, options.study_date):
                statuses[run(found).status] += 1
        except ArchiveError as error:
            logger.error("%s", error)
            statuses["failed"] += 1
        logger.info("%d series: %s", statuses.total(), told(statuses) or "nothing to screen")
        return 0 if set(statuses) <= {"stored"} else 1
    arrivals = Arrivals(options.stable_s)
    answers = True
    while True:
        try:
            for found in arrivals.stable(archive.ct_series(options.study, options.study_date)):
                record = run(found)
                if record.status in ("stored", "refused"):
                    arrivals.settle(found)
            if not answers:
                logger.warning("%s: answers again", options.archive.url)
            answers = True
        except ArchiveError as error:
            if answers:
                logger.error("%s; tried again every %g s", error, options.poll_s)
            answers = False
        sleep(options.poll_s)


@dataclass
class Arrivals:
    """Which series are complete: those to which nothing was added for `stable_s` seconds, and that are not settled.

    A series that grows after it was settled is told of again.
    """

    stable_s: float
    clock: Callable[[], float] = time.monotonic
    _seen: dict[str, tuple[int | None, float]] = field(default_factory=dict)
    _settled: dict[str, int | None] = field(default_factory=dict)

    def stable(self, series: Iterator[FoundSeries]) -> Iterator[FoundSeries]:
        """Those of `series` that are complete, as far as the counts tell that QIDO gives."""
        for found in list(series):
            key = name_of(found.series_uid)
            if key in self._settled and self._settled[key] == found.instances:
                continue
            count, since_s = self._seen.get(key, (None, self.clock()))
            if key not in self._seen or count != found.instances:
                since_s = self.clock()
            self._seen[key] = (found.instances, since_s)
            if self.clock() - since_s >= self.stable_s:
                yield found

    def settle(self, found: FoundSeries) -> None:
        """Nothing more is to be done with a series as it is."""
        key = name_of(found.series_uid)
        self._settled[key] = found.instances
        self._seen.pop(key, None)
