"""Write what was measured: the organisers' files as they are, and our own beside them."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.efficiency.areas import cpu_figures, gpu_figures, own_figures, own_gpu_mb, ram_figures
from eval.efficiency.curves import draw_curves
from eval.efficiency.runner import Measurement

ORGANISERS_COLUMNS = (
    "Name",
    "Time",
    "MaxGPU_Mem",
    "AUC_GPU_Time",
    "MaxCPU_Utilization",
    "AUC_CPU_Time",
    "MaxRAM",
    "AUC_RAM_Time",
)
DETAIL_FOLDER = "detail"


def write_case(out: Path, measurement: Measurement, launch: dict[str, Any]) -> dict[str, Any]:
    """Write one case's files and return its detail.

    `out/<name>.json` and `out/<name>_{GPU,CPU,RAM}-Time.png` are the organisers'; no other JSON lies beside them, so
    that their own collector can be run on `out`. `out/detail/<name>.json` is ours.
    """
    (out / DETAIL_FOLDER).mkdir(parents=True, exist_ok=True)
    detail = case_detail(measurement, launch)
    _write_json(out / f"{measurement.name}.json", organisers_json(measurement))
    _write_json(out / DETAIL_FOLDER / f"{measurement.name}.json", detail)
    draw_curves(out, detail)
    return detail


def organisers_json(measurement: Measurement) -> dict[str, Any]:
    """The organisers' per-case object. Without a GPU `gpu_memory` is null, where their script would stop."""
    samples = measurement.samples
    gpu = [None if s.gpu is None else s.gpu.used_mb for s in samples]
    return {
        "gpu_memory": gpu if any(value is not None for value in gpu) else None,
        "cpu_list": [list(s.host.organisers_cpu) for s in samples],
        "RAM_list": [s.host.ram_mb for s in samples],
        "time": measurement.time_s,
    }


def case_detail(measurement: Measurement, launch: dict[str, Any]) -> dict[str, Any]:
    """Everything known of one case as a JSON object; null where it was not measured."""
    samples, idle, end = measurement.samples, measurement.idle, measurement.time_s
    own = own_figures(samples, measurement.own_source, end)
    if own is not None and measurement.cpu_s is not None:
        own |= {"cpu_s": measurement.cpu_s, "mean_cores": measurement.cpu_s / end if end > 0 else None}
    report = measurement.report or {}
    return {
        "name": measurement.name,
        "case": measurement.case,
        "status": measurement.status,
        "exit_code": measurement.exit_code,
        "error": measurement.error,
        "time_s": end,
        "input_bytes": measurement.input_bytes,
        **launch,
        "samples": len(samples),
        "mean_interval_s": (samples[-1].time_s - samples[0].time_s) / (len(samples) - 1) if len(samples) > 1 else None,
        "gpu": gpu_figures(samples, idle, end),
        "cpu": cpu_figures(samples, idle, end),
        "ram": ram_figures(samples, idle, end),
        "own": own,
        "stages_s": report.get("seconds"),
        "report": measurement.report,
        "unexpected_outputs": measurement.unexpected_outputs,
        "series": {
            "time_s": [s.time_s for s in samples],
            "gpu_time_s": [None if s.gpu is None else s.gpu.time_s for s in samples],
            "gpu_mb": [None if s.gpu is None else s.gpu.used_mb for s in samples],
            "gpu_own_mb": [own_gpu_mb(s) for s in samples],
            "gpu_utilisation_percent": [None if s.gpu is None else s.gpu.utilisation_percent for s in samples],
            "cpu_percent": [s.host.busy_percent for s in samples],
            "ram_mb": [s.host.ram_mb for s in samples],
            "own_ram_mb": [None if s.own is None else s.own.ram_mb for s in samples],
            "own_cpu_s": [None if s.own is None else s.own.cpu_s for s in samples],
        },
    }


def organisers_row(detail: dict[str, Any]) -> list[Any]:
    """One line of the organisers' CSV with their rounding; empty cells where nothing was measured."""
    gpu, cpu, ram = (detail[key] or {} for key in ("gpu", "cpu", "ram"))
    return [
        detail["name"],
        _rounded(detail["time_s"], 2),
        _rounded(gpu.get("max_mb"), 0),
        _rounded(gpu.get("organisers_area_mb_s"), 0),
        _rounded(cpu.get("organisers_max_percent"), 2),
        _rounded(cpu.get("organisers_area_percent_s"), 2),
        _rounded(ram.get("max_mb"), 2),
        _rounded(ram.get("organisers_area_mb_s"), 0),
    ]


def _rounded(value: float | None, digits: int) -> float | str:
    return "" if value is None else round(float(value), digits)


def write_summary(
    out: Path, details: Sequence[dict[str, Any]], environment: dict[str, Any], name: str
) -> dict[str, Any]:
    """Write `out/<name>_Efficiency.csv` as the organisers do and `out/detail/summary.json`; return the summary."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / f"{name}_Efficiency.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(ORGANISERS_COLUMNS)
        writer.writerows(organisers_row(detail) for detail in details)
    cases = [{key: value for key, value in detail.items() if key != "series"} for detail in details]
    summary = {
        "environment": environment,
        "cases": cases,
        "failed": {d["name"]: d["error"] for d in details if d["status"] != "ok"},
        "mean_time_s": _mean([d["time_s"] for d in details if d["status"] == "ok"]),
        "max_gpu_mb": max((d["gpu"]["max_mb"] for d in details if d["gpu"] is not None), default=None),
    }
    (out / DETAIL_FOLDER).mkdir(exist_ok=True)
    _write_json(out / DETAIL_FOLDER / "summary.json", summary)
    return summary


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _write_json(path: Path, value: dict[str, Any]) -> None:
    """Write to a temporary name, then rename: a reader never sees half a file."""
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_text(json.dumps(value, indent=4, allow_nan=False) + "\n", encoding="utf-8")
    temporary.replace(path)
