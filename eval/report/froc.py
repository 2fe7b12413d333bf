"""Free-response ROC: sensitivity per lesion against false positives per scan, and AUC per scan.

`python -m eval froc --gt DIR --pred DIR (--stats PATH | --probabilities DIR) -o OUT`

`--pred` holds the masks X.nii.gz of `gfscreen predict`. A finding is a connected part of a mask. Its score is a key of
the lesions in `--stats` (what `predict --statistics` wrote: a file, or a folder of such files), by default the mean
probability of Focus, or the highest probability in a map of `--probabilities`. Findings that the masks lack are not
on the curve: for a long one, predict with a low `--finding-peak`. A lesion is found by one voxel, or by a tenth of its
volume: both are told.

Written: froc.json, findings.csv, lesions.csv, froc.md and .tex, and the charts.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tqdm import tqdm

from eval.accuracy.froc.cases import IGNORE_VALUES, LESION, FrocCase, Sources, read_case
from eval.accuracy.froc.results import brief, summarise, write_results
from eval.accuracy.froc.sources import PEAK, STATISTICS_KEY, read_statistics, read_suspicions
from eval.accuracy.lesion_types import TypeMap
from eval.accuracy.masks import list_masks
from eval.accuracy.statistics import SEED
from eval.report.froc_figures import draw_froc, froc_table
from eval.tables import write_table
from gfscreen.errors import OutputError, UsageError
from gfscreen.text import visible


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval froc`."""
    parser.add_argument("--gt", type=Path, required=True, help="folder of labels X.nii.gz; it decides the cases")
    parser.add_argument("--pred", type=Path, required=True, help="folder of masks X.nii.gz")
    parser.add_argument(
        "--stats", type=Path, metavar="PATH", help="statistics JSON of these masks, or a folder of them"
    )
    parser.add_argument("--probabilities", type=Path, metavar="DIR", help="Focus's maps X.nii.gz of these masks")
    parser.add_argument(
        "--score",
        metavar="KEY",
        help=f"what ranks findings: a key of the statistics' lesions, or {PEAK}, the highest probability in a map "
        f"(default: {PEAK} with --probabilities, else {STATISTICS_KEY})",
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="the product's report, for suspicions of cases")
    parser.add_argument(
        "--ignore-values",
        default=",".join(str(value) for value in IGNORE_VALUES),
        metavar="V,W",
        help="values of labels that are neither lesion nor false positive; '' for none (default: %(default)s)",
    )
    parser.add_argument("--types", type=Path, help='JSON {"case or pattern": "lesion type"}')
    parser.add_argument("--seed", type=int, default=SEED, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for froc.json, tables and charts")
    parser.add_argument("--json", action="store_true", help="print froc.json on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure a folder. Exit 0: every case counted; 1: some case could not be used, or none could; 2: wrong usage."""
    sources = _sources(args)
    try:
        type_map = TypeMap.read(args.types) if args.types else TypeMap()
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    cases = [read_case(path, sources) for path in tqdm(_truths(args.gt), desc="froc", unit="case", disable=None)]
    for case in cases:
        if case.error:
            sys.stderr.write(f"failed: {visible(case.error)}\n")
    if not any(case.scan is not None and case.scan.answered for case in cases):
        sys.stderr.write(f"froc: {args.gt}: no case could be used; nothing is written\n")
        return 1
    kinds = [type_map.lesion_type(case.name) for case in cases]
    said = {"score": sources.key, "ignore_values": list(sources.ignore_values)}
    summary = summarise(cases, kinds, said, args.seed)
    _write(args.output, cases, kinds, summary)
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if args.json else brief(summary))
    return int(any(case.error for case in cases))


def _write(out: Path, cases: list[FrocCase], kinds: list[str], summary: dict[str, object]) -> None:
    """Write results, table and charts. Raises OutputError."""
    try:
        write_results(out, cases, kinds, summary)
        write_table(froc_table(summary), out, "froc")
        draw_froc(out, summary)
    except OSError as error:
        raise OutputError(
            f"{error.filename or out}: cannot be written ({error.strerror or error}); check folder and disk"
        ) from error


def _truths(folder: Path) -> list[Path]:
    """The labels by name. Raises UsageError."""
    if not folder.is_dir():
        raise UsageError(f"{folder}: not a folder; --gt takes a folder of labels X.nii.gz")
    truths = list(list_masks(folder).values())
    if not truths:
        raise UsageError(f"{folder}: no *.nii.gz file to measure against; --gt takes a folder of labels X.nii.gz")
    return truths


def _sources(args: argparse.Namespace) -> Sources:
    """What was given, checked and read. Raises UsageError."""
    for option, folder in (("--pred", args.pred), ("--probabilities", args.probabilities)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"{folder}: not a folder; {option} takes a folder of files X.nii.gz")
    _truths(args.gt)
    key = args.score or (STATISTICS_KEY if args.probabilities is None else PEAK)
    needed, option = (args.probabilities, "--probabilities") if key == PEAK else (args.stats, "--stats")
    if needed is None:
        if args.score is None:
            raise UsageError("a curve needs scores of findings; give --stats or --probabilities")
        raise UsageError(f"--score {key}: needs {option}; add it")
    return Sources(
        masks=args.pred,
        key=key,
        statistics=None if args.stats is None else read_statistics(args.stats),
        probabilities=args.probabilities,
        suspicions={} if args.report is None else read_suspicions(args.report),
        ignore_values=_ignore_values(args.ignore_values),
    )


def _ignore_values(text: str) -> tuple[int, ...]:
    values = [part.strip() for part in text.split(",") if part.strip()]
    if not all(value.isdecimal() and LESION < int(value) <= 255 for value in values):
        raise UsageError(f"--ignore-values must be whole numbers from 2 to 255, separated by commas, got {text!r}")
    return tuple(sorted({int(value) for value in values}))
