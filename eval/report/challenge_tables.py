"""Tables 2, 3 and 4 of the challenge's report from measured results; what was not measured says so."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from eval.accuracy.detection import SIZE_CLASSES
from eval.efficiency.table4 import NOT_MEASURED, SIZES, build_table, table_row, verdict
from eval.report.inputs import Efficiency
from eval.tables import Cell, Table, interval, spread
from gfscreen.text import visible

PERCENT = 100.0
_NO_SCORES = "Not measured: no score folder was given (--scores)."
_INTERVALS = "Intervals: bootstrap over scans; Wilson where that one has no width."
_DASH = "A dash: undefined or not measured."
_PUBLISHED = "Published for GF-Screen, on the authors' own split"


def table2_scans(summary: Mapping[str, Any] | None) -> Table:
    """Table 2a: detection, one decision per scan, by lesion type; % with 95 % intervals."""
    columns = ("Scans", "n", "TP", "FP", "FN", "TN", "F1", "Sensitivity", "A tenth", "Specificity", "FPR")
    caption = "Table 2a. Detection per scan, by lesion type (%, 95 % interval)"
    if summary is None:
        return _unmeasured(caption, columns, "tab:detection-scan")
    detection = summary["detection"]
    groups = [("All", detection["scan"]), *_by_type(detection["scan_by_type"])]
    rows = [(name, *_scan_cells(level)) for name, level in groups]
    healthy = detection["healthy"]
    counts = detection["scan"]
    notes = [
        "TP: prediction and label share a voxel. FP: anything predicted in a scan without lesion. "
        "FPR = FP / (FP + TN), on healthy scans.",
        "A tenth: sensitivity for scans in which a tenth of a lesion's volume is marked, or more.",
        _INTERVALS,
        f"{healthy['scans']} healthy scans, {counts['tp'] + counts['fn']} with lesions.",
        "F1 only where some are healthy: without them no scan can be a false positive.",
    ]
    if counts["unanswered"]:
        notes.append(f"{counts['unanswered']} scans have no usable prediction and count against the method.")
    notes += [f"{_PUBLISHED}: F1 95.9, FPR 15.6.", _DASH]
    return Table(caption, columns, tuple(rows), "tab:detection-scan", notes=tuple(notes))


def _scan_cells(level: Mapping[str, Any]) -> tuple[Cell, ...]:
    counts = tuple(level[key] for key in ("tp", "fp", "fn", "tn"))
    sensitivity, specificity, fpr = (_rate(level[key]) for key in ("sensitivity", "specificity", "fpr"))
    # Scores of an earlier version lack the second sensitivity.
    tenth = _rate(level.get("sensitivity_a_tenth"))
    # Without a lesion-free scan none can be a false positive, and F1 would flatter.
    f1 = _rate(level["f1"]) if level["fp"] + level["tn"] else None
    return (level["scans"], *counts, f1, sensitivity, tenth, specificity, fpr)


def table2_lesions(summary: Mapping[str, Any] | None) -> Table:
    """Table 2b: detection, one decision per lesion, by size and by type; % with 95 % intervals."""
    columns = ("Lesions", "n", "Found", "False", "Sensitivity", "A tenth", "Precision", "F1", "False per scan")
    caption = "Table 2b. Detection per lesion, by size and type (%, 95 % interval)"
    if summary is None:
        return _unmeasured(caption, columns, "tab:detection-lesion")
    detection = summary["detection"]
    by_size = [(_size_name(name), detection["lesion_by_size"][name]) for name in SIZE_CLASSES]
    groups = [("All", detection["lesion"]), *by_size, *_by_type(detection["lesion_by_type"])]
    notes = (
        "A lesion is a 26-connected component of the label, found if the prediction shares a voxel with it; "
        "a predicted component without such a voxel is false. A tenth: sensitivity for lesions of which a tenth of the "
        "volume is marked, or more.",
        f"Size: {detection['size_classes']}. A false component has no lesion's size, so sizes have sensitivity only.",
        _INTERVALS,
        _DASH,
    )
    rows = tuple((name, *_lesion_cells(level)) for name, level in groups)
    return Table(caption, columns, rows, "tab:detection-lesion", notes=notes)


def _lesion_cells(level: Mapping[str, Any]) -> tuple[Cell, ...]:
    return (
        level["lesions"],
        level["tp"],
        level.get("fp"),
        _rate(level["sensitivity"]),
        _rate(level.get("sensitivity_a_tenth")),
        _rate(level.get("precision")),
        _rate(level.get("f1")),
        _rate(level.get("false_positives_per_scan"), 2, 1.0),
    )


def _by_type(levels: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Kinds of lesions and what was scored of them. A kind may be a piece of a file name."""
    return [(visible(kind), level) for kind, level in levels.items()]


def _size_name(name: str) -> str:
    return name.replace(">=", "≥ ").replace("<", "< ")


def _rate(rate: Mapping[str, Any] | None, digits: int = 1, scale: float = PERCENT) -> str | None:
    """A rate with its bootstrap interval, or Wilson's where all went the same way and the first collapses."""
    if rate is None or rate["value"] is None:
        return None
    low, high = rate["low"], rate["high"]
    wilson = rate.get("wilson")
    if wilson is not None and (low is None or low == high):
        low, high = wilson
    if low == high:  # no width and no Wilson interval to take its place: it would claim certainty
        low = high = None
    return interval(rate["value"], low, high, digits, scale)


def table3(summary: Mapping[str, Any] | None, split: str) -> Table:
    """Table 3: DSC and NSD in % with their spread, over all scans and by group."""
    columns = (
        "Scans",
        "n",
        "DSC",
        "DSC median [IQR]",
        "DSC 95 % CI",
        "NSD",
        "NSD median [IQR]",
        "NSD 95 % CI",
    )
    caption = f"Table 3. Segmentation, split: {split} (%, mean ± standard deviation)"
    online: tuple[Cell, ...] = ("Online validation", None, *[NOT_MEASURED, None, None] * 2)
    if summary is None:
        table = _unmeasured(caption, columns, "tab:segmentation", split.capitalize())
        return replace(table, rows=(*table.rows, online))
    groups = [
        (f"{split[:1].upper()}{split[1:]}, all", summary),
        ("with lesions", summary["lesion_scans"]),
        ("healthy", summary["healthy_scans"]),
        *_by_type(summary["by_type"]),
    ]
    notes = [
        f"NSD at {summary['tolerance_mm']:g} mm. CI: of the mean, bootstrap over scans.",
        "Both masks empty: 100; one empty: 0. A missing or unusable prediction scores 0.",
    ]
    for key, text in (
        ("missing", "without prediction"),
        ("errors", "failed"),
        ("labels_above_one", "with labels above 1"),
    ):
        if summary.get(key):
            notes.append(f"{len(summary[key])} scans {text}, scored 0.")
    view = summary["organisers_view"]
    if view["Lesion_DSC"]["n"] != summary["Lesion_DSC"]["n"]:
        seen = [spread(view[m]["mean"], view[m]["std"], 1, PERCENT) for m in ("Lesion_DSC", "Lesion_NSD")]
        notes.append(f"The organisers' loop would skip what is missing and show DSC {seen[0]}, NSD {seen[1]}.")
    notes += [
        "Online validation is scored by the organisers.",
        f"{_PUBLISHED}: DSC 60.8; online validation 59 / 52.",
        _DASH,
    ]
    rows = tuple((name, *_score_cells(group)) for name, group in groups)
    return Table(caption, columns, (*rows, online), "tab:segmentation", notes=tuple(notes))


def _score_cells(group: Mapping[str, Any]) -> tuple[Cell, ...]:
    cells: list[Cell] = [group["Lesion_DSC"]["n"]]
    for metric in ("Lesion_DSC", "Lesion_NSD"):
        d = group[metric]
        low, high = d["ci95"] or (None, None)
        cells += [
            spread(d["mean"], d["std"], 1, PERCENT),
            interval(d["median"], d["q1"], d["q3"], 1, PERCENT),
            None if low is None or high is None else f"[{PERCENT * low:.1f}, {PERCENT * high:.1f}]",
        ]
    return tuple(cells)


def table4(efficiency: Efficiency | None) -> Table:
    """Table 4: the fixed case IDs, then every other measured case, with the limits marked."""
    if efficiency is None:
        rows = [table_row(size, None, None) for size in SIZES]
        table = build_table(rows, "", {})
        return replace(table, notes=("Not measured: no efficiency folder was given (--efficiency).",))
    table = build_table(table4_rows(efficiency), efficiency.source, efficiency.environment)
    absent = [note for note in table.notes if note.endswith(": no scan.")]
    notes = [note for note in table.notes if note not in absent]
    if not efficiency.environment:
        notes = [note for note in notes if not note.startswith("Measured on ")]
        notes.append("The machine it was measured on is not recorded.")
    if absent:
        cases = ", ".join(note.partition(":")[0] for note in absent)
        notes.append(f"Not measured, as there was no scan for it: {cases}.")
    return replace(table, notes=tuple(notes))


def table4_rows(efficiency: Efficiency) -> list[dict[str, Any]]:
    """The rows as `table4` makes them; from plain details, cases are matched to the fixed IDs by their names."""
    if efficiency.rows is not None:
        return [dict(row) for row in efficiency.rows]
    left = list(efficiency.details)
    rows = []
    for size in SIZES:
        detail = next((d for d in left if re.search(rf"(?<!\d){size.case}(?!\d)", str(d["case"]))), None)
        if detail is not None:
            left.remove(detail)
        rows.append(table_row(size, None, detail))
    for detail in left:
        row = table_row(SIZES[0], None, detail)
        unpublished = {"size": None, "published_time_s": None, "published_max_gpu_mb": None}
        rows.append(row | unpublished | {"case": visible(str(detail["case"]))})
    return rows


def limits_said(rows: Sequence[Mapping[str, Any]], key: str, limit: float) -> str:
    """`held` if every measured case held the limit, `broken` if one did not, `not measured` without any value."""
    values = [row[key] for row in rows if row[key] is not None]
    return verdict(max(values, default=None), limit)


def _unmeasured(caption: str, columns: tuple[str, ...], label: str, name: str = "All") -> Table:
    return Table(caption, columns, ((name, *[NOT_MEASURED] * (len(columns) - 1)),), label, notes=(_NO_SCORES,))
