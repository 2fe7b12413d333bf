"""A CSV manifest as a cohort: a row per series, with a header that names the columns."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from gfscreen.cohort.sources.items import Item, safe_name, told_apart
from gfscreen.errors import UsageError
from gfscreen.scan.volume.inputs import case_name

COLUMNS = ("path", "name", "series")


class ManifestSource:
    """The items of a CSV file with the columns `path` and, if wanted, `name` and `series`, in the order of its lines.

    path: a scan, a DICOM folder or a zip; relative ones are below the manifest's folder. name: of the results; empty or
    absent: from the path, as `predict` does. series: Series Instance UID or Series Number. Other columns are ignored.
    A line that names nothing, a file that is not there, and a name that was given before are items with a problem.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def __iter__(self) -> Iterator[Item]:
        """The items. Raises UsageError for a file that is no such table."""
        return told_apart(self._lines())

    def _lines(self) -> Iterator[Item]:
        try:
            with self._path.open(encoding="utf-8-sig", newline="") as stream:
                rows = csv.DictReader(stream)
                if "path" not in (rows.fieldnames or ()):
                    found = ", ".join(rows.fieldnames or ()) or "nothing"
                    raise UsageError(
                        f"{self._path}: expected a CSV header with the column path (also {', '.join(COLUMNS[1:])}), "
                        f"found {found}; name the columns in the first line"
                    )
                for row in rows:
                    yield self._item(row, rows.line_num)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise UsageError(f"{self._path}: cannot be read as CSV ({error}); save it as UTF-8 CSV") from error

    def _item(self, row: dict[str, str | None], line: int) -> Item:
        told = (row.get("path") or "").strip()
        where = f"{self._path.name} line {line}"
        name = safe_name((row.get("name") or "").strip() or (case_name(Path(told)) if told else f"line-{line}"))
        if not told:
            return Item(name, where, problem=f"{where}: names no path; fill in the column path")
        path = self._path.parent / told
        problem = None if path.exists() else f"{where}: {told}: no such file or folder; correct the path"
        return Item(name, str(path), (row.get("series") or "").strip() or None, problem=problem)
