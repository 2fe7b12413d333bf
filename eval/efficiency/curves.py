"""The three curves of a case over true time: GPU memory, CPU, host memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

Series = Sequence[float | None]


def draw_curves(out: Path, detail: dict[str, Any]) -> list[Path]:
    """Draw `<name>_GPU-Time.png`, `_CPU-Time.png` and `_RAM-Time.png` into `out` from a case's detail.

    A quantity that was not measured gives a picture that says so.
    """
    series, time_s = detail["series"], detail["series"]["time_s"]
    gpu, cpu, ram = (detail[key] or {} for key in ("gpu", "cpu", "ram"))
    plots = [
        ("GPU", "GPU memory (MB)", series["gpu_time_s"], [("whole card", series["gpu_mb"])], gpu.get("idle_mb")),
        ("CPU", "CPU (% of all cores)", time_s, [("host", series["cpu_percent"])], cpu.get("idle_percent")),
        ("RAM", "RAM (MB)", time_s, [("host", series["ram_mb"])], ram.get("idle_mb")),
    ]
    plots[0][3].append(("own processes", series["gpu_own_mb"]))
    plots[2][3].append(("own", series["own_ram_mb"]))
    return [
        _draw(out / f"{detail['name']}_{key}-Time.png", f"{detail['name']}, {detail['time_s']:.1f} s", *rest)
        for key, *rest in plots
    ]


def _draw(
    path: Path, title: str, label: str, time_s: Series, lines: Sequence[tuple[str, Series]], idle: float | None
) -> Path:
    from matplotlib.figure import Figure  # late: half a second, and only needed here

    figure = Figure(figsize=(6.4, 3.2))
    figure.subplots_adjust(left=0.12, right=0.98, bottom=0.16, top=0.9)
    axes = figure.add_subplot()
    drawn = 0
    for name, values in lines:
        points = [(t, v) for t, v in zip(time_s, values, strict=True) if t is not None and v is not None]
        if points:
            axes.plot([t for t, _ in points], [v for _, v in points], label=name, linewidth=1.2)
            drawn += 1
    if drawn:
        if idle is not None:
            axes.axhline(idle, color="0.6", linewidth=0.8, linestyle="--", label="idle before")
        axes.set_ylim(bottom=0)
        axes.legend(loc="lower right", fontsize="small")
    else:
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center")
    axes.set(title=title, xlabel="Time (s)", ylabel=label)
    figure.savefig(path, dpi=120)
    return path
