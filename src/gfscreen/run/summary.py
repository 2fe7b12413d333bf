"""The last line of a run's log: how many cases came to what, and where the results lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from gfscreen.run.options import Options
from gfscreen.run.report import CaseReport


def summary(reports: Sequence[CaseReport], options: Options, *, optional_outputs: bool = True) -> str:
    """One line; with the lowest and the highest suspicion of the scans that have one.

    optional_outputs: whether statistics and preview were to be written, as far as they were asked for.
    """
    counts = Counter(report.status for report in reports)
    told = ", ".join(f"{counts[status]} {status}" for status in ("ok", "degraded", "failed"))
    resumed = sum(report.resumed for report in reports)
    earlier = f" ({resumed} finished by an earlier run)" if resumed else ""
    places = [f"masks in {options.output}"]
    if options.dicom_seg is not None:
        places.append(f"DICOM SEG in {options.dicom_seg}")
    if options.report is not None:
        places.append(f"report {options.report}")
    if optional_outputs:
        for what, place in (
            ("statistics", options.statistics),
            ("preview in", options.preview),
            ("instances in", options.instances),
            ("probabilities in", options.probabilities),
        ):
            if place is not None:
                places.append(f"{what} {place}")
    known = sorted(report.suspicion for report in reports if report.suspicion is not None)
    spread = dict.fromkeys(f"{value:.2f}" for value in (known[:1] + known[-1:]))
    suspicion = f"; suspicion {' to '.join(spread)}" if known else ""
    cases = "1 case" if len(reports) == 1 else f"{len(reports)} cases"
    return f"{cases}: {told}{earlier}{suspicion}; {', '.join(places)}"
