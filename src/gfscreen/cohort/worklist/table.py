"""`cohort.parquet`: a row per item, for DuckDB, pandas and whatever else reads Parquet. Unknown is NULL, never NaN."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from itertools import islice
from typing import Any

from gfscreen.cohort.records import Layout, Record, read_records
from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically

TABLE = "cohort.parquet"
_ROWS = 5000
# Columns in order, with their types as pyarrow names them.
COLUMNS: tuple[tuple[str, str], ...] = (
    ("name", "string"),
    ("status", "string"),
    ("error", "string"),
    ("set_aside", "bool"),
    ("tries", "int32"),
    ("source", "string"),
    ("series_uid", "string"),
    ("region", "string"),
    ("suspicion", "float64"),
    ("lesion_count", "int32"),
    ("lesion_volume_ml", "float64"),
    ("longest_axis_mm", "float64"),
    ("highest_probability", "float64"),
    ("windows_total", "int32"),
    ("windows_kept", "int32"),
    ("windows_done", "int32"),
    ("kept_share", "float64"),
    ("warnings", "string"),
    ("seconds_read", "float64"),
    ("seconds_preprocess", "float64"),
    ("seconds_glance", "float64"),
    ("seconds_focus", "float64"),
    ("seconds_write", "float64"),
    ("seconds_total", "float64"),
    ("peak_rss_mb", "float64"),
    ("finished_unix_s", "float64"),
    ("worker", "string"),
    ("engine", "string"),
    ("weights_sha256", "string"),
    ("gfscreen", "string"),
)


def row_of(record: Record) -> dict[str, Any]:
    """A record as a row; `warnings` is a JSON list."""
    row: dict[str, Any] = {}
    for name, _ in COLUMNS:
        if name.startswith("seconds_"):
            row[name] = record.seconds.get(name.removeprefix("seconds_"))
        elif name == "warnings":
            row[name] = json.dumps(record.warnings)
        else:
            row[name] = getattr(record, name)
    return row


def write_table(layout: Layout) -> None:
    """Write the table of all records, whole or not at all; an empty one if there is none.

    Records are read in batches of 5000. Raises OutputError, UsageError without pyarrow.
    """
    path = layout.root / TABLE
    try:
        content = encode(read_records(layout))
        write_atomically(path, content)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check the disk") from error


def encode(records: Iterable[Record]) -> bytes:
    """The table as the content of a Parquet file. Raises UsageError without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ModuleNotFoundError as error:
        raise UsageError(
            "cohort.parquet needs pyarrow, which is not installed; pip install 'gfscreen[cohort]'"
        ) from error
    kinds = {"bool": pa.bool_(), "string": pa.string(), "int32": pa.int32(), "float64": pa.float64()}
    schema = pa.schema([(name, kinds[kind]) for name, kind in COLUMNS])
    remaining = iter(records)
    buffer = io.BytesIO()
    with pq.ParquetWriter(buffer, schema, compression="zstd") as writer:
        while rows := [row_of(record) for record in islice(remaining, _ROWS)]:
            writer.write_table(pa.Table.from_pylist(rows, schema=schema))
    return buffer.getvalue()
