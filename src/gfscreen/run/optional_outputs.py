"""What a run leaves beside its masks when asked to: statistics, preview, and maps on the scan's grid.

All of it comes after a case's mask is written, so it can neither delay nor spoil a mask, and it is not part of the
`total` seconds of the report, but told beside it as `results`. None of it may lie in the output folder: there only
masks may be.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from gfscreen.config import Plan
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.networks.engines.base import EngineInfo
from gfscreen.run.native_maps import NativeMaps
from gfscreen.run.report import CaseReport, rounded
from gfscreen.scan.volume import Volume
from gfscreen.scan.volume.inputs import MASK_SUFFIX
from gfscreen.screening.screening import Screening
from gfscreen.version import __version__

if TYPE_CHECKING:  # imported when asked for
    from gfscreen.results.preview.run import Preview
    from gfscreen.results.statistics.documents import MeasuredCase

logger = logging.getLogger(__name__)


class OptionalOutputs:
    """Statistics, preview and maps of a run.

    Args:
        statistics: a path that ends in .json, or None; the table goes beside it as .csv.
        preview: a folder, or None.
        output: the folder of the masks.
        expected: number of cases.
        maps: folders of instance and probability maps.
        operating_point: that was asked for.

    `wanted` is False if nothing of it was asked for. `notice`: what the weights are of use for, set once it is known.

    Raises UsageError before any work: a name that does not fit, a place in the output folder, a missing library.

    """

    def __init__(
        self,
        statistics: Path | None,
        preview: Path | None,
        output: Path,
        expected: int,
        maps: NativeMaps = NativeMaps(),  # noqa: B008 - frozen
        operating_point: str | None = None,
    ) -> None:
        for option, path in (("--statistics", statistics), ("--preview", preview), *maps.folders):
            if path is not None and path.resolve().is_relative_to(output.resolve()):
                raise UsageError(f"{option} {path}: lies in the output folder, where only masks may be; name another")
        self._maps = maps
        self._operating_point = operating_point
        self.notice: str | None = None
        self.wanted = statistics is not None or preview is not None or bool(maps.folders)
        self._statistics = statistics
        self._measured: dict[int, MeasuredCase] = {}  # by the report's identity: two inputs may share a name
        self._seen = 0
        self._preview: Preview | None = None
        self._failed = False
        if statistics is not None:
            from gfscreen.results.statistics.documents import csv_path

            csv_path(statistics)
        if preview is not None:
            from gfscreen.results.preview.run import Preview

            self._preview = Preview(preview, expected)

    def add(
        self, report: CaseReport, screened: tuple[Volume, Screening | None] | None, mask: Path | None = None
    ) -> None:
        """Take in a case, in order: its scan and what was found, None where nobody looked at it; where its mask lies.

        Whatever goes wrong is logged, and `finish` tells it.
        """
        self._seen += 1
        if report.status == "failed":
            self._add_absent(report, "this case failed")
        elif screened is None or screened[1] is None:
            self._add_absent(report, "nobody looked at this case")
        else:
            done = False
            if self._maps.folders:
                with self._logged(f"{report.name}: maps"):
                    result = screened[1]
                    self._maps.write(report.name + MASK_SUFFIX, screened[0], result.mask, result.network_outputs)
            with self._logged(f"{report.name}: statistics or preview"):
                self._measure(report, screened[0], screened[1], mask)
                done = True
            if not done:
                self._add_absent(report, "its preview could not be made")

    def _add_absent(self, report: CaseReport, why_not: str) -> None:
        if self._preview is not None:
            self._preview.add_absent(report.name, report.status, why_not)

    def _measure(self, report: CaseReport, volume: Volume, result: Screening, mask: Path | None) -> None:
        if self._statistics is None and self._preview is None:
            return
        from gfscreen.results.statistics.documents import measure_case

        case = measure_case(
            report.name, report.status, volume, result.mask, result.network_outputs, rounded(result.suspicion)
        )
        self._measured[id(report)] = case
        if self._preview is not None:
            from gfscreen.results.preview.case import shown_case

            self._preview.add(
                shown_case(
                    report.name,
                    report.status,
                    volume,
                    result.mask,
                    case.lesions,
                    result.region,
                    result.network_outputs,
                    case.suspicion,
                ),
                mask,
                self.notice or "",
            )

    def finish(self, reports: Sequence[CaseReport], plan: Plan | None, engine: EngineInfo | None) -> bool:
        """Write what was asked for, one thing whatever became of the other; False if some of it could not be made."""
        table = None
        if self._statistics is not None:
            with self._logged("statistics"):
                from gfscreen.results.statistics.documents import MeasuredCase, csv_path, write_statistics

                failed = [
                    MeasuredCase(report.name, error=report.error or "not measured, see the log") for report in reports
                ]
                cases = [self._measured.get(id(report), case) for report, case in zip(reports, failed, strict=True)]
                write_statistics(self._statistics, cases, self.notice, self._operating_point)
                table = csv_path(self._statistics)
        if self._preview is not None:
            with self._logged("preview"):
                for report in reports[self._seen :]:
                    self._add_absent(report, "this case failed")
                path = self._preview.finish(
                    "GF-Screen: preview", _facts(plan, engine, self._operating_point), self.notice or "", table
                )
                logger.info("%s: written", path)
        return not self._failed

    @contextmanager
    def _logged(self, what: str) -> Iterator[None]:
        """Whatever goes wrong inside is logged, and `finish` tells it."""
        try:
            yield
        except GFScreenError as error:
            self._failed = True
            logger.error("%s", error)
        except Exception as error:
            # A fault of ours: the masks are there and what else was asked for must be written; the trace must not be
            # lost.
            self._failed = True
            logger.exception("%s failed, %s: %s", what, type(error).__name__, error)


def _facts(plan: Plan | None, engine: EngineInfo | None, operating_point: str | None) -> list[tuple[str, str]]:
    facts = [("gfscreen", __version__)]
    if plan is not None:
        facts += [("preset", plan.preset), ("weights", plan.weights)]
    if operating_point is not None:
        facts.append(("operating point", operating_point))
    if engine is not None:
        facts += [("engine", f"{engine.name} on {engine.device}, {engine.precision}")]
    return facts
