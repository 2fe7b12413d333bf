"""Compare two runs case by case: paired permutation test and bootstrap interval of the mean difference."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from eval.accuracy.statistics import RESAMPLES, SEED, bootstrap_ratio, case_ranks, paired_permutation
from gfscreen.errors import UsageError

METRICS = ("Lesion_DSC", "Lesion_NSD")
# Right decisions of the scan; the difference of the two runs' rates is tested like a metric.
_CORRECT = {"TP": 1.0, "TN": 1.0, "FP": 0.0, "FN": 0.0}

Rows = Mapping[str, Mapping[str, str]]


def read_rows(path: Path) -> dict[str, dict[str, str]]:
    """The lines of a `per_case.csv` by case name.

    Raises:
        ValueError: a column is missing, a case comes twice, or a score is not a number.

    """
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        missing = {"Name", *METRICS} - set(reader.fieldnames or ())
        if missing:
            raise ValueError(f"{path}: expected the columns of per_case.csv, missing {sorted(missing)}")
        rows: dict[str, dict[str, str]] = {}
        for row in reader:
            if row["Name"] in rows:
                raise ValueError(f"{path}: case {row['Name']} comes twice")
            for metric in METRICS:
                if not _is_number(row[metric]):
                    raise ValueError(f"{path}: {row['Name']}: {metric} is not a number: {row[metric]!r}")
            rows[row["Name"]] = row
    return rows


def _is_number(text: str | None) -> bool:
    try:
        return bool(np.isfinite(float(text or "")))
    except ValueError:
        return False


def compare_runs(first: Rows, second: Rows, seed: int = SEED, permutations: int = 10_000) -> dict[str, Any]:
    """Paired comparison over the cases that both runs have; differences are second minus first.

    Per metric: both means, the mean difference with its 95 % bootstrap interval, the permutation p-value, how many
    cases got better, worse or stayed, and the mean rank of each run (1 is best) as the challenge ranks. Null without
    pairs.
    """
    names = [name for name in first if name in second]
    result: dict[str, Any] = {
        "pairs": len(names),
        "only_in_first": [name for name in first if name not in second],
        "only_in_second": [name for name in second if name not in first],
        "seed": seed,
        "permutations": permutations,
        "resamples": RESAMPLES,
        "metrics": {},
    }
    for metric in METRICS:
        pairs = [(float(first[name][metric]), float(second[name][metric])) for name in names]
        result["metrics"][metric] = _compare(pairs, seed, permutations)
    decided = [
        (_CORRECT[a], _CORRECT[b])
        for a, b in ((first[n].get("scan_detection", ""), second[n].get("scan_detection", "")) for n in names)
        if a in _CORRECT and b in _CORRECT
    ]
    result["metrics"]["scan_decision_correct"] = _compare(decided, seed, permutations)
    return result


def _compare(pairs: list[tuple[float, float]], seed: int, permutations: int) -> dict[str, Any]:
    if not pairs:
        keys = ("first_mean", "second_mean", "difference", "ci95", "p_value", "mean_rank")
        return {"n": 0, **dict.fromkeys(keys), "better": 0, "worse": 0, "equal": 0}
    values = np.array(pairs)
    difference = values[:, 1] - values[:, 0]
    estimate = bootstrap_ratio(difference, np.ones(len(pairs)), seed)
    return {
        "n": len(pairs),
        "first_mean": float(values[:, 0].mean()),
        "second_mean": float(values[:, 1].mean()),
        "difference": float(difference.mean()),
        "ci95": None if estimate.low is None else [estimate.low, estimate.high],
        "p_value": paired_permutation(difference.tolist(), seed, permutations),
        "mean_rank": [float(rank) for rank in case_ranks(values).mean(axis=0)],
        "better": int((difference > 0).sum()),
        "worse": int((difference < 0).sum()),
        "equal": int((difference == 0).sum()),
    }


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval compare`."""
    parser.add_argument("first", type=Path, help="per_case.csv of the first run")
    parser.add_argument("second", type=Path, help="per_case.csv of the second run")
    parser.add_argument("-o", "--output", type=Path, help="write the comparison to this JSON file")
    parser.add_argument("--permutations", type=int, default=10_000, help="drawn above 16 pairs (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED, help="default: %(default)s")
    parser.add_argument("--json", action="store_true", help="print the comparison as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Compare two runs. Exit 0: done; 1: nothing to pair; 2: wrong usage or not a per_case.csv."""
    try:
        first, second = read_rows(args.first), read_rows(args.second)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(str(error)) from error
    result = compare_runs(first, second, args.seed, max(1, args.permutations))
    text = json.dumps(result, indent=2, allow_nan=False) + "\n"
    if args.output is not None:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text, encoding="utf-8")
    sys.stdout.write(text if args.json else _brief(result))
    for side, key in ((args.first, "only_in_first"), (args.second, "only_in_second")):
        if result[key]:
            sys.stderr.write(f"compare: {len(result[key])} cases only in {side}, left out: {', '.join(result[key])}\n")
    return 0 if result["pairs"] else 1


def _brief(result: dict[str, Any]) -> str:
    lines = [f"{result['pairs']} paired cases"]
    for metric, value in result["metrics"].items():
        if value["n"] == 0:
            lines.append(f"{metric}: no pair")
            continue
        interval = "" if value["ci95"] is None else " [{:+.4f}, {:+.4f}]".format(*value["ci95"])
        lines.append(
            f"{metric}: {value['first_mean']:.4f} -> {value['second_mean']:.4f}, difference "
            f"{value['difference']:+.4f}{interval}, p = {value['p_value']:.4g}, "
            f"{value['better']} better, {value['worse']} worse, {value['equal']} equal"
        )
    return "\n".join(lines) + "\n"
