"""The FROC curve and the reliability curve as charts, and their figures as a table, from a froc.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.accuracy.froc.curve import RATES
from eval.accuracy.froc.matching import MEANINGS, ONE_VOXEL
from eval.accuracy.froc.results import auc_text
from eval.charts import COLOURS, INK, STYLE, new_figure
from eval.files import read_json
from eval.report.figures import Chart, save_chart
from eval.tables import Table, interval
from gfscreen.errors import UsageError
from gfscreen.text import visible

_NAMES = {"one_voxel": "one voxel", "a_tenth": "a tenth of the volume"}
_LINES = {"one_voxel": "-", "a_tenth": "--"}
# Below this many false positives per scan the axis is linear, so that it can begin at 0.
_LINEAR_TO = 0.25
_KEYS = ("all", "by_kind", "by_size", "case_level", "score", "ignore_values")


def read_froc(path: Path) -> dict[str, Any]:
    """The file that `python -m eval froc` wrote. Raises UsageError."""
    froc = read_json(path)
    missing = [key for key in _KEYS if not isinstance(froc, dict) or key not in froc]
    if missing:
        raise UsageError(f"{path}: keys {missing} are missing; --froc takes the froc.json of `python -m eval froc`")
    return dict(froc)


def draw_froc(folder: Path, froc: Mapping[str, Any]) -> dict[str, Chart | None]:
    """Draw both charts into `folder`; None where nothing was measured."""
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        return {"froc": froc_chart(folder, froc), "reliability": reliability_chart(folder, froc)}


def froc_chart(folder: Path, froc: Mapping[str, Any]) -> Chart | None:
    """Sensitivity against false positives per scan: all lesions with intervals, and by size. None without a point."""
    whole = froc["all"]
    if not whole["points"]:
        return None
    figure, (left, right) = new_figure(9.6, 3.8, 2)
    # A little beside each other: often both say the same.
    for meaning, colour, beside in zip(MEANINGS, COLOURS, (0.98, 1.02), strict=False):
        _steps(left, whole["points"], meaning, color=colour, label=_NAMES[meaning])
        _intervals(left, whole["sensitivity_at"][meaning], colour, beside)
    for index, (size, curve) in enumerate(froc["by_size"].items()):
        for meaning in MEANINGS if curve["points"] else ():
            label = f"{size} ({curve['lesions']})" if meaning == ONE_VOXEL else None
            _steps(right, curve["points"], meaning, color=COLOURS[index], label=label)
    last = max(point["false_positives_per_scan"] for point in whole["points"])
    for axes, title in ((left, f"All {whole['lesions']} lesions"), (right, "By volume")):
        axes.set_xscale("symlog", linthresh=_LINEAR_TO, base=2)
        ticks = [0.0, 0.25, *RATES, *(16.0 * 2**n for n in range(12))]
        shown = [tick for tick in ticks if tick <= max(last * 1.1, RATES[0])]
        axes.set_xticks(shown, [f"{tick:g}" for tick in shown])
        axes.set_xticks([], minor=True)
        axes.set(xlim=(0, max(last * 1.1, RATES[0])), ylim=(0, 103))
        axes.set(xlabel="False positives per scan", title=title)
        axes.grid()
        axes.legend(loc="upper left" if axes is right else "lower right", fontsize=8)
    left.set_ylabel("Lesion-level sensitivity (%)")
    caption = (
        "FROC: solid, lesions found by one voxel; dashed, by a tenth of their volume. Bars: 95 % intervals, bootstrap "
        "over scans. The curve ends with the last finding."
    )
    return save_chart(figure, folder, "froc", caption)


def _steps(axes: Any, points: Sequence[Mapping[str, float]], meaning: str, **style: Any) -> None:
    """A curve from no finding to all of them; nothing is interpolated."""
    x = [0.0, *(point["false_positives_per_scan"] for point in points)]
    y = [0.0, *(100 * point[meaning] for point in points)]
    axes.plot(x, y, drawstyle="steps-post", linewidth=1.5, linestyle=_LINES[meaning], **style)


def _intervals(axes: Any, rates: Mapping[str, Mapping[str, Any]], colour: str, beside: float) -> None:
    """Bars of the estimates that have an interval, at so many times their false positives per scan."""
    for rate, found in rates.items():
        if found["value"] is not None and found["low"] is not None:
            x, ends = beside * float(rate), [100 * found["low"], 100 * found["high"]]
            axes.plot([x, x], ends, color=colour, alpha=0.6, linewidth=1)
            axes.plot(x, 100 * found["value"], marker="o", markersize=3.5, color=colour)


def reliability_chart(folder: Path, froc: Mapping[str, Any]) -> Chart | None:
    """Predicted suspicion against the observed share of scans with lesion. None where no scan has a suspicion."""
    suspicion = froc["case_level"]["suspicion"]
    if suspicion is None:
        return None
    figure, (axes,) = new_figure(4.6, 4.2)
    axes.plot([0, 100], [0, 100], color=INK, linewidth=1, linestyle=":", alpha=0.6)
    for found in suspicion["reliability"]["bins"]:
        if found["scans"]:
            x, y = 100 * found["predicted"], 100 * found["observed"]
            axes.plot([x, x], [100 * side for side in found["wilson"]], color=COLOURS[0], linewidth=1.2, alpha=0.6)
            axes.plot(x, y, marker="o", markersize=5, color=COLOURS[0])
            axes.annotate(f"{found['scans']}", (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7)
    axes.set(xlim=(-2, 102), ylim=(-2, 102))
    axes.set(xlabel="Predicted suspicion (%)", ylabel="Scans with lesion (%)")
    axes.grid()
    caption = (
        "Reliability: numbers are scans in a bin of a tenth; bars, 95 % Wilson intervals; dotted, perfect calibration."
    )
    return save_chart(figure, folder, "reliability", caption)


def froc_table(froc: Mapping[str, Any]) -> Table:
    """Sensitivity at each number of false positives per scan, by both meanings: all, by kind, by size."""
    rates = [f"{rate:g}" for rate in RATES]
    groups = [("All", froc["all"])]
    groups += [(visible(kind), curve) for kind, curve in froc["by_kind"].items()] if len(froc["by_kind"]) > 1 else []
    groups += list(froc["by_size"].items())
    rows = []
    for name, curve in groups:
        end = curve["end"]
        for meaning in MEANINGS:
            cells = [_estimate(curve["sensitivity_at"][meaning][rate]) for rate in rates]
            ends = None if end is None else f"{100 * end[meaning]:.1f} at {end['false_positives_per_scan']:.2f}"
            rows.append((name, curve["lesions"], _NAMES[meaning], *cells, ends))
    level = froc["case_level"]
    notes = [
        "Found by one voxel that is shared, or by a tenth of the volume that is marked. False positive: a finding that "
        "shares no voxel with a lesion.",
        "Sizes have the false positives of all scans; kinds those of their own. Intervals: bootstrap over scans.",
        "A dash: the curve ends before, or there is no lesion. Last column: where it ends.",
        f"Score of a finding: {froc['score']}. Ignored values of the label: "
        f"{', '.join(str(v) for v in froc['ignore_values']) or 'none'}.",
        f"AUC per scan, highest score: {auc_text(level['highest_score']['auc'])}.",
    ]
    if level["suspicion"] is not None:
        brier = level["suspicion"]["reliability"]["brier"]
        notes.append(f"AUC per scan, suspicion: {auc_text(level['suspicion']['auc'])}; Brier {brier['value']:.4f}.")
    columns = ("Lesions", "n", "Found by", *(f"at {rate}" for rate in rates), "End")
    caption = "Free-response ROC: sensitivity at false positives per scan (%, 95 % interval)"
    return Table(caption, columns, tuple(rows), "tab:froc", align="lrl" + "r" * (len(rates) + 1), notes=tuple(notes))


def _estimate(found: Mapping[str, Any]) -> str | None:
    low, high = found["low"], found["high"]
    if found["wilson"] is not None and (low is None or low == high):
        low, high = found["wilson"]
    return interval(found["value"], low, high, 1, 100.0)
