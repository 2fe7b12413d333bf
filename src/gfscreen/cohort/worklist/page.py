"""`worklist.html`: one page that opens from disk, the most suspicious cases first; thousands of rows stay quick.

The rows are data inside the page; its script draws those that can be seen. Charts are drawn here, as SVG.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from pathlib import Path
from typing import Any

from gfscreen.cohort.records import Layout, Record, read_records
from gfscreen.cohort.worklist.charts import bars, histogram, throughput
from gfscreen.cohort.worklist.table import write_table
from gfscreen.errors import OutputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.results.preview.markup import code_script, data_script, document, escape
from gfscreen.text import encodable, visible

PAGE = "worklist.html"
_ASSETS = Path(__file__).parent / "assets"
# The reason of a failure is what comes after the file's name, as far as its first remark.
_REASON_CHARACTERS = 90
_MOST_REASONS = 20


def write_page(folder: Path, thumbnails: int = 300) -> Path:
    """Write `worklist.html` and `cohort.parquet` from the records below `folder`; the page's path.

    thumbnails: of so many cases, the most suspicious, there are pictures. Raises UsageError where there is no cohort,
    OutputError.
    """
    layout = Layout(folder)
    records = sorted(read_records(layout), key=rank)
    if not records:
        raise UsageError(f"{folder}: holds no records of a cohort; name the -o of `gfscreen cohort run`")
    write_table(layout)
    path = folder / PAGE
    try:
        write_atomically(path, encodable(render(records, layout, thumbnails)).encode())
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}); check the disk") from error
    return path


def rank(record: Record) -> tuple[int, float, float, float, str]:
    """Order of the worklist: by suspicion, then highest probability, then volume; what is unknown and failed last."""

    def down(value: float | None) -> float:
        return 1.0 if value is None else -value

    return (
        0 if record.done else 1,
        down(record.suspicion),
        down(record.highest_probability),
        down(record.lesion_volume_ml),
        record.name,
    )


def render(records: list[Record], layout: Layout, thumbnails: int) -> str:
    """The page as HTML; records in their order."""
    pictures: dict[str, str] = {}
    rows = []
    for number, record in enumerate(records):
        rows.append(_row(record))
        if number < thumbnails and record.done and (found := _picture(layout, record.name)) is not None:
            pictures[str(number)] = found
    sections = [("worklist", "Worklist", _banner(layout) + _controls(records) + _asset("worklist.html"))]
    done = [record for record in records if record.done]
    if failures := _failures(records):
        sections.append(("failures", "Failures", failures))
    sections.append(("distributions", "Distributions", _distributions(done)))
    sections.append(("throughput", "Throughput", throughput([r.finished_unix_s for r in records])))
    scripts = data_script("rows", rows) + data_script("pictures", pictures)
    scripts += code_script(_asset("worklist.js"), "worklist.js")
    return document("GF-Screen: worklist", sections, scripts, _asset("worklist.css"))


def _row(record: Record) -> list[Any]:
    """As the page's script takes it: the columns of `HEADS` there."""
    return [
        visible(record.name),
        "set aside" if record.set_aside else record.status,
        record.region,
        record.suspicion,
        record.highest_probability,
        record.lesion_count,
        record.lesion_volume_ml,
        record.longest_axis_mm,
        record.seconds.get("total"),
        visible(record.error or "; ".join(record.warnings)),
    ]


def _picture(layout: Layout, name: str) -> str | None:
    try:
        return base64.b64encode(layout.thumbnail(name).read_bytes()).decode("ascii")
    except OSError:
        return None


def _banner(layout: Layout) -> str:
    try:
        notice = json.loads(layout.facts.read_text(encoding="utf-8")).get("notice")
    except (OSError, ValueError, AttributeError):
        notice = None
    return f'<p class="banner warn notice" role="note">{escape(notice)}</p>' if notice else ""


def _controls(records: list[Record]) -> str:
    done = sum(record.done for record in records)
    known = sum(record.suspicion is not None for record in records)
    unknown = "" if known == done else f" {done - known} have no suspicion: their weights are not calibrated for one."
    return (
        f'<p class="note">{len(records)} series, {done} screened, {len(records) - done} failed. '
        f"Sorted by suspicion, then by the highest probability.{unknown}</p>"
    )


def _failures(records: list[Record]) -> str:
    reasons = Counter(_reason(record) for record in records if not record.done)
    return bars("failures by reason", reasons.most_common(_MOST_REASONS)) if reasons else ""


def _reason(record: Record) -> str:
    """What failures have in common: without the file's name and the remedy."""
    if record.set_aside:
        return "set aside: ended its worker"
    text = (record.error or "not known").partition(";")[0]
    head, found, tail = text.partition(": ")
    return visible((tail if found and head else text)[:_REASON_CHARACTERS])


def _distributions(done: list[Record]) -> str:
    charts = [
        histogram("suspicion", "", [record.suspicion for record in done], 0.0, 1.0),
        histogram("highest probability", "", [record.highest_probability for record in done], 0.0, 1.0),
        histogram("lesion volume", "ml", [record.lesion_volume_ml for record in done]),
        histogram("time per series", "s", [record.seconds.get("total") for record in done]),
        histogram("share above the gate", "", [record.kept_share for record in done], 0.0, 1.0),
    ]
    return f'<div class="charts">{"".join(charts)}</div>'


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
