"""`cases.csv`: of a DICOM cohort, which folder and series each mask was made of. It lies beside the report."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.run.report import CaseReport
from gfscreen.scan.volume import InputCase
from gfscreen.scan.volume.inputs import MASK_SUFFIX, volume_suffix
from gfscreen.text import encodable

TABLE_NAME = "cases.csv"
COLUMNS = ("case", "source", "series_uid", "mask", "status", "suspicion")
# Of tables of earlier versions.
_FIRST_COLUMNS = COLUMNS[:5]


def case_table_path(report: Path, cases: Sequence[InputCase], source: Path) -> Path | None:
    """Where the table of a run goes; None unless its cases are the DICOM studies of a folder.

    Raises UsageError if a file of that name lies there that no earlier run has written.
    """
    if any(case.path == source or volume_suffix(case.path) is not None for case in cases):
        return None
    path = report.parent / TABLE_NAME
    try:
        with path.open(encoding="utf-8", errors="replace") as stream:
            found = stream.readline().strip()
    except FileNotFoundError:
        return path
    except OSError as error:
        raise UsageError(f"{path}: cannot be replaced ({error.strerror or error}); move it away") from error
    if found not in (",".join(COLUMNS), ",".join(_FIRST_COLUMNS)):
        raise UsageError(
            f"{path}: is there already and is no table of an earlier run; move it, or write --report elsewhere"
        )
    return path


def case_table(cases: Sequence[CaseReport]) -> str:
    """The table as CSV, one line per case in the order given; empty where there is no series, mask or suspicion."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for case in cases:
        mask = case.name + MASK_SUFFIX if case.status != "failed" or case.empty_mask else ""
        suspicion = "" if case.suspicion is None else case.suspicion
        writer.writerow((case.name, case.source or "", case.series_uid or "", mask, case.status, suspicion))
    return encodable(text.getvalue())


def write_case_table(path: Path, cases: Sequence[CaseReport]) -> None:
    """Write the table, whole or not at all. Raises OutputError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, case_table(cases).encode("utf-8"))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); check the folder and the disk"
        ) from error
