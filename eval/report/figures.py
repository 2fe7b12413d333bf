"""The charts: DSC and NSD distribution, lesion sizes, gate curve, memory over time. PNG and SVG each.

Every chart is None when its data were not measured; the page says so in its place.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eval.accuracy.detection import SIZE_LIMITS_MM, TENTH
from eval.charts import COLOURS, INK, STYLE, new_figure
from eval.efficiency.table4 import GPU_LIMIT_MB, TIME_LIMIT_S
from eval.report.inputs import Efficiency, Scores
from eval.tuning.gate_curve import PUBLISHED, GatePoint
from gfscreen.results.preview.planes import boxes_for_missing_glyphs, drawable

# Of a case or a kind of lesion, in a legend or along an axis.
_LONGEST_NAME = 40


@dataclass(frozen=True)
class Chart:
    """A drawn chart. `svg`: transparent, for the page; `files`: what was written."""

    stem: str
    caption: str
    svg: str
    files: tuple[Path, ...]


def save_chart(figure: Any, folder: Path, stem: str, caption: str) -> Chart:
    """Write `folder/stem.png` and `.svg`."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    buffer = io.StringIO()
    with boxes_for_missing_glyphs():
        figure.savefig(png, dpi=200, facecolor="white")
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg.write_text(buffer.getvalue(), encoding="utf-8")
    return Chart(stem, caption, buffer.getvalue(), (png, svg))


def draw_all(
    folder: Path, scores: Scores | None, efficiency: Efficiency | None, curve: Sequence[GatePoint], kept: float | None
) -> dict[str, Chart | None]:
    """Draw what there are data for into `folder`; None for the rest."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        return {
            "scores": None if scores is None else score_distribution(folder, scores),
            "lesions": None if scores is None else lesion_sizes(folder, scores),
            "gate": gate_curve(folder, curve, kept) if curve else None,
            "gpu": None if efficiency is None else memory_curves(folder, efficiency, "gpu"),
            "ram": None if efficiency is None else memory_curves(folder, efficiency, "ram"),
        }


def score_distribution(folder: Path, scores: Scores) -> Chart | None:
    """DSC and NSD of every scan by lesion type: a point each, with median and quartiles."""
    rows = list(scores.rows.values())
    if not rows:
        return None
    kinds = sorted({row.get("type") or "unknown" for row in rows})
    groups = [("all", rows)] + [(k, [r for r in rows if (r.get("type") or "unknown") == k]) for k in kinds]
    if len(kinds) == 1:
        groups = groups[:1]
    figure, panels = new_figure(8.0, 1.3 + 0.42 * len(groups), 2)
    rng = np.random.default_rng(0)  # jitter only
    for axes, metric, colour in zip(panels, ("Lesion_DSC", "Lesion_NSD"), COLOURS, strict=False):
        for place, (_, group) in enumerate(groups):
            values = np.array([100 * float(row[metric]) for row in group])
            axes.scatter(
                values, place + rng.uniform(-0.22, 0.22, values.size), s=16, alpha=0.75, color=colour, linewidths=0
            )
            q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
            axes.plot([q1, q3], [place, place], color=INK, linewidth=5, alpha=0.35, solid_capstyle="butt")
            axes.plot([median, median], [place - 0.3, place + 0.3], color=INK, linewidth=1.8)
        axes.set(xlim=(-3, 103), xlabel=f"{metric.removeprefix('Lesion_')} (%)", ylim=(len(groups) - 0.45, -0.55))
        names = [f"{drawable(name, _LONGEST_NAME)} ({len(group)})" for name, group in groups]
        axes.set_yticks(range(len(groups)), names)
        axes.grid(axis="x")
    caption = "DSC and NSD per scan, by lesion type. Line: median; bar: quartiles."
    return save_chart(figure, folder, "dsc_distribution", caption)


# How a lesion was found, and its colour; "found" where a score of an earlier version does not tell how much is marked.
_FOUND = {"found": COLOURS[0], "by a tenth": COLOURS[0], "by less": COLOURS[5], "missed": COLOURS[1]}


def _how_found(row: Mapping[str, str]) -> str:
    """One of `_FOUND`, for a line of per_lesion.csv."""
    if row["detected"] != "1":
        return "missed"
    share = row.get("marked_share")
    if not share:
        return "found"
    return "by a tenth" if float(share) >= TENTH else "by less"


def lesion_sizes(folder: Path, scores: Scores) -> Chart | None:
    """How many lesions of which diameter were found, by a tenth of their volume or by less, and missed."""
    sized = [(float(row["diameter_mm"]), _how_found(row)) for row in scores.lesions]
    if not sized:
        return None
    told = any(row.get("marked_share") for row in scores.lesions)
    names = ["by a tenth", "by less", "missed"] if told else ["found", "missed"]
    low, high = min(d for d, _ in sized), max(d for d, _ in sized)
    bins = np.geomspace(max(0.5, low * 0.95), max(1.0, high * 1.05), 17)
    figure, (axes,) = new_figure(6.4, 3.0)
    stacks = [[d for d, how in sized if how == name] for name in names]
    axes.hist(stacks, bins=bins, stacked=True, color=[_FOUND[name] for name in names], label=names)
    axes.set(xscale="log", xlabel="Diameter of the sphere of equal volume (mm)", ylabel="Lesions")
    ticks = [t for t in (1, 2, 3, 5, 10, 20, 30, 50, 100, 200) if bins[0] <= t <= bins[-1]]
    axes.set_xticks(ticks, [str(t) for t in ticks])
    axes.set_xticks([], minor=True)
    for limit in SIZE_LIMITS_MM:
        if bins[0] < limit < bins[-1]:
            axes.axvline(limit, color=INK, linewidth=0.8, linestyle=":", alpha=0.6)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(loc="upper right")
    how = "found (by a tenth of their volume, or by less)" if told else "found"
    caption = f"Lesions {how} and missed, by diameter; dotted: limits of the size classes."
    return save_chart(figure, folder, "lesion_sizes", caption)


def gate_curve(folder: Path, curve: Sequence[GatePoint], kept: float | None) -> Chart | None:
    """Sensitivity and specificity of Glance against the share of sub-volumes that it keeps."""
    figure, (axes,) = new_figure(6.4, 3.4)
    drawn = 0
    for key, colour, mark in (("sensitivity", COLOURS[0], "o"), ("specificity", COLOURS[2], "s")):
        points = [(100 * p.kept_share, 100 * getattr(p, key)) for p in curve if getattr(p, key) is not None]
        if points:
            axes.plot(*zip(*points, strict=True), marker=mark, markersize=3.5, linewidth=1.4, color=colour, label=key)
            drawn += 1
    if not drawn:
        return None
    labelled = [p for p in curve if p.sensitivity is not None]
    for p in labelled[:: max(1, len(labelled) // 5)]:
        at = (100 * p.kept_share, 100 * (p.sensitivity or 0.0))
        axes.annotate(f"{p.threshold:g}", at, xytext=(0, -12), textcoords="offset points", fontsize=7, ha="center")
    published = [100 * v for v in (PUBLISHED.kept_share, PUBLISHED.sensitivity or 0.0)]
    axes.plot(*published, marker="*", markersize=11, linestyle="", color=COLOURS[1], label="published, gate 0.9")
    if kept is not None:
        axes.axvline(100 * kept, color=INK, linewidth=1, linestyle="--", alpha=0.6, label="kept in this run")
    axes.set(xlabel="Sub-volumes kept for Focus (%)", ylabel="%", xlim=(0, 103), ylim=(0, 103))
    axes.grid()
    axes.legend(loc="lower right", fontsize=8)
    caption = "Share of sub-volumes kept against the sensitivity of Glance. Small numbers: threshold."
    return save_chart(figure, folder, "gate_curve", caption)


def memory_curves(folder: Path, efficiency: Efficiency, what: str) -> Chart | None:
    """Memory over time, a line per case. `what`: `gpu` (whole card) or `ram` (the measured processes)."""
    lines = []
    for detail in efficiency.details:
        series: Mapping[str, Any] = detail.get("series") or {}
        values = series.get("gpu_mb" if what == "gpu" else "own_ram_mb") or []
        times = series.get("gpu_time_s" if what == "gpu" else "time_s") or []
        points = [(t, v) for t, v in zip(times, values, strict=False) if t is not None and v is not None]
        if points:
            lines.append((str(detail["case"]), points))
    if not lines:
        return None
    figure, (axes,) = new_figure(6.4, 3.2)
    for index, (name, points) in enumerate(lines):
        few = len(lines) <= len(COLOURS)
        colour = COLOURS[index] if few else COLOURS[0]
        # matplotlib leaves labels that begin with an underscore out.
        label = f" {drawable(name, _LONGEST_NAME)}" if few else None
        axes.plot(*zip(*points, strict=True), linewidth=1.3, color=colour, alpha=1 if few else 0.35, label=label)
    longest = axes.get_xlim()[1]
    highest = 1.1 * max(value for _, points in lines for _, value in points)
    limit = {"color": INK, "alpha": 0.7, "linewidth": 1.0, "linestyle": "--"}
    if longest > 0.5 * TIME_LIMIT_S:
        axes.axvline(TIME_LIMIT_S, **limit)
    if what == "gpu":
        axes.axhline(GPU_LIMIT_MB, **limit, label="limits: 4 GB, 45 s")
        highest = max(highest, 1.08 * GPU_LIMIT_MB)
    axes.set(xlabel="Time (s)", ylabel="GPU memory (MB)" if what == "gpu" else "Own memory (MB)")
    axes.set(xlim=(0, None), ylim=(0, highest))
    axes.grid()
    if len(lines) <= len(COLOURS):
        axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), fontsize=8)
    if what == "gpu":
        return save_chart(figure, folder, "gpu_memory_time", "GPU memory of the whole card over time, per case.")
    return save_chart(figure, folder, "ram_time", "Memory of the measured program over time, per case.")
