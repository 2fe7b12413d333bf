"""Read what the other subcommands and the product wrote. Each reader takes a path that the user gave."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eval.accuracy.compare import read_rows
from eval.efficiency.results import DETAIL_FOLDER, ORGANISERS_COLUMNS
from eval.efficiency.sampler import INTERVAL_S
from eval.files import read_json
from gfscreen.errors import UsageError

CSV_SUFFIX = "_Efficiency.csv"


@dataclass(frozen=True)
class Scores:
    """A score folder. `rows`: per_case.csv by case ID; `lesions`: per_lesion.csv, empty when it is not there."""

    summary: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, str]]
    lesions: Sequence[Mapping[str, str]] = ()


@dataclass(frozen=True)
class Efficiency:
    """Measured cases. `rows`: the finished rows of a table4 folder, else None; `details`: with `series` if there."""

    details: Sequence[Mapping[str, Any]]
    environment: Mapping[str, Any] = field(default_factory=dict)
    rows: Sequence[Mapping[str, Any]] | None = None
    source: str = "scans as given"


def read_scores(folder: Path) -> Scores:
    """Read `summary.json`, `per_case.csv` and, if it is there, `per_lesion.csv`. Raises UsageError."""
    for name in ("summary.json", "per_case.csv"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder}: no {name}; --scores must name a folder written by `python -m eval score`")
    summary = read_json(folder / "summary.json")
    missing = [key for key in ("cases", "Lesion_DSC", "Lesion_NSD", "detection") if key not in summary]
    if missing:
        raise UsageError(f"{folder / 'summary.json'}: keys {missing} are missing; score again with this version")
    try:
        rows = read_rows(folder / "per_case.csv")
    except (OSError, ValueError) as error:
        raise UsageError(f"{error}; score again with this version") from error
    lesions: list[dict[str, str]] = []
    if (folder / "per_lesion.csv").is_file():
        with (folder / "per_lesion.csv").open(newline="", encoding="utf-8") as stream:
            lesions = list(csv.DictReader(stream))
    return Scores(summary, {name.removesuffix(".nii.gz"): row for name, row in rows.items()}, lesions)


def read_efficiency(folder: Path) -> Efficiency:
    """Read a folder of `eval table4`, of `eval efficiency`, or of the organisers' files alone. Raises UsageError."""
    if (folder / "table4.json").is_file():
        table = read_json(folder / "table4.json")
        if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
            raise UsageError(
                f"{folder / 'table4.json'}: expected an object with rows; run `python -m eval table4` again"
            )
        inner = folder / "efficiency"
        details = _details(inner)[0] if (inner / DETAIL_FOLDER / "summary.json").is_file() else []
        return Efficiency(details, table.get("environment") or {}, table["rows"], str(table.get("source", "")))
    if (folder / DETAIL_FOLDER / "summary.json").is_file():
        return Efficiency(*_details(folder))
    found = sorted(folder.glob(f"*{CSV_SUFFIX}")) if folder.is_dir() else []
    if len(found) == 1:
        return Efficiency(_organisers_details(found[0]))
    raise UsageError(
        f"{folder}: expected table4.json, {DETAIL_FOLDER}/summary.json or one NAME{CSV_SUFFIX}, "
        f"got {len(found)} of the latter; name a folder of `eval table4` or `eval efficiency`"
    )


def _details(folder: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    summary = read_json(folder / DETAIL_FOLDER / "summary.json")
    details = []
    for case in summary["cases"]:
        path = folder / DETAIL_FOLDER / f"{case['name']}.json"
        details.append(read_json(path) if path.is_file() else case)
    return details, summary.get("environment") or {}


def _organisers_details(path: Path) -> list[dict[str, Any]]:
    """Details from the organisers' CSV and, for the curve, their per-case JSON; null for what these do not say."""
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = set(ORGANISERS_COLUMNS) - set(reader.fieldnames or ())
        if missing:
            raise UsageError(f"{path}: expected the organisers' columns, missing {sorted(missing)}; measure again")
        lines = list(reader)
    details = []
    for line in lines:
        maximum = _number(line["MaxGPU_Mem"], path)
        gpu = {"max_mb": maximum, "organisers_area_mb_s": _number(line["AUC_GPU_Time"], path)}
        beside = path.with_name(f"{line['Name']}.json")
        memory = (read_json(beside).get("gpu_memory") if beside.is_file() else None) or []
        nominal = [index * INTERVAL_S for index in range(len(memory))]
        details.append(
            {
                "name": line["Name"],
                "case": line["Name"].removesuffix("_0000"),
                "status": "ok",
                "error": "",
                "time_s": _number(line["Time"], path),
                "gpu": None if maximum is None else gpu,
                "own": None,
                "stages_s": None,
                "report": None,
                "series": {"time_s": nominal, "gpu_time_s": nominal, "gpu_mb": memory},
            }
        )
    return details


def _number(text: str | None, path: Path) -> float | None:
    try:
        return float(text) if text else None
    except ValueError as error:
        raise UsageError(f"{path}: expected a number, got {text!r}; measure again") from error


def read_product_report(path: Path) -> dict[str, Any]:
    """The product's report. Raises UsageError."""
    report = read_json(path)
    cases = report.get("cases") if isinstance(report, dict) else None
    if not isinstance(report, dict) or not isinstance(cases, list) or not all(isinstance(c, dict) for c in cases):
        raise UsageError(f"{path}: expected an object with a list of cases; --report must name the product's report")
    return report


def case_name(name: Any) -> str:
    """`X_0000.nii.gz`, `X.nii.gz` or `X` to `X`."""
    return str(name).removesuffix(".nii.gz").removesuffix(".nii").removesuffix("_0000")
