"""Write docs/reliability.md from the results of `torture`, `faults`, `fuzz` and `soak`."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from gfscreen.errors import UsageError

FILES = ("torture.json", "faults.json", "fuzz.json", "soak.json")
# Written by hand: what the above has found, and what was done about it.
BUGS_FILE = "bugs.md"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval reliability`."""
    parser.add_argument("-i", "--results", type=Path, required=True, metavar="DIR", help=f"holds {', '.join(FILES)}")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="the page, Markdown")


def run(args: argparse.Namespace) -> int:
    """Write the page. Exit 0: written; 2: a result is missing."""
    results = {}
    for name in FILES:
        path = args.results / name
        if not path.is_file():
            raise UsageError(f"{path}: no such result; run `make {path.stem}` first")
        results[path.stem] = json.loads(path.read_text(encoding="utf-8"))
    bugs = args.results / BUGS_FILE
    args.output.write_text(page(results, bugs.read_text(encoding="utf-8") if bugs.is_file() else ""), encoding="utf-8")
    return 0


_HEAD = """# Reliability

Made from measurements by `python -m eval reliability`; do not edit by hand. Each section names the command that
makes its numbers anew. The networks in all of them are of a few operations that find what is brighter than tissue
(`eval/reliability/threshold_engine.py`), so that the right answer is known and a shifted mask shows. Times were taken
on two busy cores.
"""

_TORTURE = """## Odd, wrong and damaged inputs: `make torture`

{count} inputs in one folder, one run of the command line: wrong {wrong}, problems of the run as a whole {problems}
(stray files, tracebacks, changed inputs, leftovers). A mask is valid if it is whole, binary, and has the input's
header to the byte in all but the voxels' type. In {placed} inputs a ball is painted by its place in the patient,
and the mask must find it there (lowest Dice {dice}). `left out`: hidden files and files that are no scans.

{table}"""

_FUZZ = """## Damaged files for the reader: `make fuzz`

Limits: {time_limit_s:.0f} s for a file, {memory_limit_mb} MB declared for a scan (and {memory_slack_mb} MB for the
process itself). Decompression bombs are among the files. `screened`: accepted scans that went on through screening.
`atheris` reads NIfTI, guided by coverage, whose tracing leaks by itself; `random` holds MetaImage and NRRD too, whose
reading process may crash: {crashes} times; `dicom` damages one of three slices of a series.

| engine | executions | scans | clear errors | screened | slowest file, not by ITK (s) | most memory for one file (MB) \
| growth of the process (MB) | findings |
|---|---:|---:|---:|---:|---:|---:|---:|---:|
{rows}"""

_FAULTS = """## Faults: `make faults`

Survived: the output folder holds only whole masks and nothing else, a restart with `--resume` ends with 0, makes
the others bit for bit as an undisturbed run does and leaves finished ones alone, and nothing is left in the
temporary folder.

{table}"""

_SOAK = """## One process, many cases: `make soak`

{cases} cases ({masks} masks, the others damaged on purpose) in one process with {engine}: resident memory
{rss_after_warm_up_mb:.0f} MB after the first 20 cases, {rss_at_end_mb:.0f} MB at the end, slope
{slope_mb_per_case:.3f} MB per case (limit {limit_mb_per_case:.0f}).
"""


def page(results: dict[str, Any], bugs: str) -> str:
    """The whole page; `bugs` is its last section."""
    from eval.reliability.faults.table import markdown as faults_table
    from eval.reliability.torture.table import markdown as torture_table

    torture, runs = results["torture"], results["fuzz"]["runs"]
    placed = [case["dice"] for case in torture["cases"] if case["dice"] is not None]
    crashes = sum(one["outcomes"].get("clear error, the library crashed", 0) for one in runs)
    parts = [
        _HEAD,
        _TORTURE.format(
            count=len(torture["cases"]),
            wrong=sum(case["wrong"] is not None for case in torture["cases"]),
            problems=len(torture["problems"]),
            placed=len(placed),
            dice=f"{min(placed):.2f}" if placed else "not measured",
            table=torture_table(torture["cases"]),
        ),
        _FUZZ.format(**runs[0], crashes=crashes, rows="".join(_fuzz_row(one) for one in runs)),
        _FAULTS.format(table=faults_table(results["faults"]["faults"])),
        _SOAK.format(**results["soak"]),
        bugs,
    ]
    return "\n".join(part for part in parts if part)


_MEMORY = ("memory_one_file_mb", "memory_growth_mb")


def _fuzz_row(one: dict[str, Any]) -> str:
    outcomes = one["outcomes"]
    refused = sum(count for name, count in outcomes.items() if name.startswith("clear error"))
    values = [one["engine"], one["executions"], outcomes.get("scan", 0), refused, outcomes.get("screened", 0)]
    values += [f"{one['slowest_s']:.2f}", *(f"{one[key]:.0f}" for key in _MEMORY), len(one["findings"])]
    return "| " + " | ".join(map(str, values)) + " |\n"
