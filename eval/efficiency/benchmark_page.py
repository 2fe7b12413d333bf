"""Writes docs/benchmarks.md from what `eval benchmark` measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.efficiency.benchmark_chart import draw
from eval.tables import Table, number, to_markdown

_STAGES = ("start and end", "read", "preprocess", "glance", "focus", "write")


def write_page(result: Mapping[str, Any], path: Path) -> None:
    """Write the page, and its chart beside it; every figure on them is from `result`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    chart = path.with_suffix(".png")
    path.write_text(page(result, chart.name if draw(result, chart) else None), encoding="utf-8")


def page(result: Mapping[str, Any], chart: str | None = None) -> str:
    """The page as Markdown. chart: file beside it that shows how time grows with the body."""
    parts = ["# Benchmarks", "", *_head(result), ""]
    for product in result["products"]:
        parts += [f"## {product['name']}", "", *_said_of(product), "", to_markdown(_times(product)), ""]
        parts += [to_markdown(_profile(product)), ""]
    if chart is not None:
        parts += ["## How time grows with the body", "", f"![Seconds of a whole run against body volume]({chart})", ""]
    if result.get("compared"):
        parts += ["## Against earlier images", "", to_markdown(_compared(result)), ""]
    if result["peers"]:
        parts += ["## Against a dense sliding window", "", to_markdown(_peers(result)), ""]
    if result.get("nnunet"):
        parts += ["## Against nnU-Net", "", to_markdown(_nnunet(result)), ""]
    if result["folders"]:
        parts += ["## A folder of cases", "", to_markdown(_folders(result["folders"])), ""]
    return "\n".join(parts).rstrip() + "\n"


def _head(result: Mapping[str, Any]) -> list[str]:
    environment = result["environment"]
    instructions = ", ".join(environment.get("instructions") or []) or "unknown instructions"
    cores = environment.get("limit_cpus") or environment["cpus"]
    lines = [
        "Made by `make bench`; do not edit.",
        "",
        f"- Date: {result['date']}. Cases: {result['source']}, medians of {result['repeats']} runs.",
        f"- Machine: {environment.get('cpu') or 'unknown CPU'} ({instructions}), {cores:g} cores given, "
        f"{environment['ram_mb']} MB RAM.",
        "- Every time is the wall time of a whole run, one process per case, start and loading included.",
    ]
    if result["loaded"]:
        lines.append("- **The machine was doing other work at the same time: only ratios mean something.**")
    return lines


def _said_of(product: Mapping[str, Any]) -> list[str]:
    times = [row["time_s"] for row in product["rows"] if row["table4"] and row["time_s"] is not None]
    over = sum(row["over_limit"] for row in product["rows"])
    said = f"`{product['what']}`. "
    if product["keep_share"] is not None:
        said += f"**Untrained weights; Focus is made to read {100 * product['keep_share']:.0f} % of the sub-volumes.** "
    if times:
        middle = statistics.median(times)
        said += f"Median over the {len(times)} sizes of the table: {middle:.1f} s; {over} runs above 45 s."
    failed = [error for row in product["rows"] for error in row["failed"]]
    return [said.strip(), *(f"- Failed: {error}" for error in failed)]


def _times(product: Mapping[str, Any]) -> Table:
    def cells(row: Mapping[str, Any]) -> tuple[str | None, ...]:
        low, high = row["time_range_s"] or (None, None)
        return (
            row["case"],
            row["size"],
            number(row["time_s"], 1),
            None if low is None else f"{low:.1f} to {high:.1f}",
            number(row["own_max_ram_mb"], 0),
            number(row["peak_rss_mb"], 0),
            number(row["windows_total"], 0),
            number(row["windows_kept"], 0),
            number(row["windows_done"], 0),
            number(row["second_looks_done"], 0),
            f"{row['degraded']} of {row['runs']}",
        )

    columns = ("Case", "Size", "Median (s)", "Range (s)", "RAM (MB)", "Peak RSS (MB)")
    return Table(
        caption="Time and memory by scan size",
        columns=(*columns, "Sub-volumes", "kept", "read", "again", "Degraded"),
        rows=tuple(cells(row) for row in product["rows"]),
        align="llrlrrrrrrl",
    )


def _stage_seconds(row: Mapping[str, Any]) -> dict[str, float | None]:
    stages = row["stages_s"]
    inside = [stages[name] for name in ("read", "preprocess", "glance", "focus", "write")]
    known = row["time_s"] is not None and all(value is not None for value in inside)
    # Reading overlaps with the start: what is not covered by any stage is what start and end add.
    return {"start and end": row["time_s"] - sum(inside) if known else None, **stages}


def _profile(product: Mapping[str, Any]) -> Table:
    seconds = [(row, _stage_seconds(row)) for row in product["rows"]]
    rows = [
        (row["case"], row["size"], *(number(stages[name], 2) for name in _STAGES), number(row["time_s"], 1))
        for row, stages in seconds
    ]
    complete = [(row, stages) for row, stages in seconds if stages["start and end"] is not None]
    if complete:
        total = sum(row["time_s"] for row, _ in complete)
        shares = [100.0 * sum(stages[name] or 0.0 for _, stages in complete) / total for name in _STAGES]
        rows.append(("all", "share", *(f"{share:.0f} %" for share in shares), "100 %"))
    return Table(
        caption="Where the time goes (s, medians)",
        columns=("Case", "Size", *_STAGES, "whole run"),
        rows=tuple(rows),
        align="ll" + "r" * (len(_STAGES) + 1),
        notes=("Start and end: container, imports, networks, as far as reading does not run at the same time.",),
    )


def _compared(result: Mapping[str, Any]) -> Table:
    products = {product["name"]: {row["case"]: row for row in product["rows"]} for product in result["products"]}
    rows = []
    for name, earlier in result["compared"].items():
        pairs = [(products[earlier][case], row) for case, row in products[name].items()]
        for before, after in pairs:
            seconds, memory = (_both(before, after, key, digits) for key, digits in (("time_s", 1), ("peak_rss_mb", 0)))
            rows.append((name, after["case"], after["size"], *seconds, *memory))
        of_table = [pair for pair in pairs if pair[1]["table4"] and all(row["time_s"] is not None for row in pair)]
        if of_table:
            one, two = (statistics.median(row["time_s"] for row in group) for group in zip(*of_table, strict=True))
            middle = _both({"time_s": one}, {"time_s": two}, "time_s", 1)
            rows.append((name, "all of the table", "median", *middle, None, None, None))
    return Table(
        caption="Measured in the same run, in turn",
        columns=("Product", "Case", "Size", "before (s)", "after (s)", "ratio", "before (MB)", "after (MB)", "ratio"),
        rows=tuple(rows),
        align="lllrrrrrr",
        notes=tuple(f"{name}: before is {earlier}." for name, earlier in result["compared"].items()),
    )


def _both(before: Mapping[str, Any], after: Mapping[str, Any], key: str, digits: int) -> tuple[str | None, ...]:
    """A value before and after, and their ratio; what was not measured is left out."""
    one, two = before[key], after[key]
    return number(one, digits), number(two, digits), number(two / one if one and two else None, 2)


def _peers(result: Mapping[str, Any]) -> Table:
    rows = []
    for peer in result["peers"]:
        product = next((p for p in result["products"] if p["name"] == peer["name"]), None)
        own = {row["case"]: row for row in product["rows"]} if product else {}
        for row in peer["rows"]:
            ours = own.get(row["case"], {}).get("time_s")
            ratio = row["time_s"] / ours if row["time_s"] and ours else None
            cells = (number(row["time_s"], 1), number(row["peak_rss_mb"] or row["own_max_ram_mb"], 0))
            rows.append((peer["name"], row["case"], row["size"], number(row["windows_total"], 0), *cells, ratio, ours))
    return Table(
        caption="The same network in MONAI's sliding_window_inference: dense, eager torch, same overlap, same cores",
        columns=("Network", "Case", "Size", "Windows", "Peer (s)", "Peer RAM (MB)", "Ours (s)", "Ratio"),
        rows=tuple((*row[:6], number(row[7], 1), number(row[6], 1)) for row in rows),
        align="lllrrrrr",
        notes=(
            "The peer reads, resamples, crops to the body and writes with our code: the ratio is that of the search.",
        ),
    )


def _nnunet(result: Mapping[str, Any]) -> Table:
    rows = []
    for row in result["nnunet"]:
        for product in result["products"]:
            ours = next((own["time_s"] for own in product["rows"] if own["case"] == row["case"]), None)
            ratio = None if ours is None else row["time_s"] / ours
            theirs = (f"{row['timed']} of {row['patches']}", number(row["time_s"], 0), number(row["peak_rss_mb"], 0))
            rows.append((product["name"], row["case"], row["size"], *theirs, number(ours, 1), number(ratio, 1)))
    return Table(
        caption="nnU-Net's predictor on the same cores: 3d_fullres PlainConvUNet, overlap 0.5, no mirroring",
        columns=("Product", "Case", "Size", "Patches timed", "nnU-Net (s)", "Its RAM (MB)", "Ours (s)", "Ratio"),
        rows=tuple(rows),
        align="lllrrrrr",
        notes=("Random weights. Its patches are in proportion to those timed, all else is as measured.",),
    )


def _folders(folders: Sequence[Mapping[str, Any]]) -> Table:
    return Table(
        caption="One run over several cases: reading, computing and writing overlap",
        columns=("Product", "Cases", "Whole run (s)", "Cases per hour"),
        rows=tuple(
            (
                folder["name"],
                len(folder["cases"]),
                number(folder["time_s"], 1),
                number(folder["cases_per_hour"], 0),
            )
            for folder in folders
        ),
        align="lrrr",
    )
