"""Score predictions: DSC, NSD and detection, as the organisers count and with what their loop leaves out."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eval.accuracy import detection
from eval.accuracy.lesion_types import TypeMap
from eval.accuracy.masks import list_masks
from eval.accuracy.metrics import TOLERANCE_MM
from eval.accuracy.parallel_scoring import FAILED, CaseScore, Job, default_jobs, score_all
from eval.accuracy.statistics import RESAMPLES, SEED, describe
from gfscreen.errors import UsageError

# The first three are the organisers'.
COLUMNS = (
    "Name",
    "Lesion_DSC",
    "Lesion_NSD",
    "status",
    "type",
    "scan_detection",
    "lesions",
    "lesions_detected",
    "false_components",
    "lesion_volume_ml",
    "predicted_volume_ml",
    "false_volume_ml",
    "rule",
    "error",
    "lesions_a_tenth",
)


def case_row(case: CaseScore, kind: str) -> dict[str, Any]:
    """One line of `per_case.csv`; empty where nothing could be determined."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    row |= {"Name": case.name, "Lesion_DSC": round(case.dsc, 4), "Lesion_NSD": round(case.nsd, 4)}
    row |= {"status": case.status, "type": kind, "rule": case.rule, "error": case.error}
    if case.scan is not None:
        lesions = case.scan.lesions
        row |= {
            "scan_detection": case.scan.outcome,
            "lesions": len(lesions),
            "lesions_detected": sum(lesion.detected for lesion in lesions),
            "lesions_a_tenth": sum(lesion.a_tenth for lesion in lesions),
            "lesion_volume_ml": round(sum(lesion.volume_ml for lesion in lesions), 4),
        }
        if case.scan.answered:
            row |= {
                "false_components": case.scan.false_components,
                "predicted_volume_ml": round(case.scan.predicted_ml, 4),
                "false_volume_ml": round(case.scan.false_components_ml, 4),
            }
    return row


def summarise(
    cases: Sequence[CaseScore], kinds: Sequence[str], extra: Sequence[str], tolerance_mm: float, seed: int = SEED
) -> dict[str, Any]:
    """`summary.json`: means over all ground-truth cases, what was missing or wrong, and detection.

    `organisers_view` averages only the cases that have a prediction file, as their loop does (it would stop with an
    exception at a mask of another shape). `notes`: files that are scored, but not by what they seem to say.
    """

    def means(group: Sequence[CaseScore]) -> dict[str, Any]:
        return {
            "Lesion_DSC": describe([round(c.dsc, 4) for c in group], seed).as_dict(),
            "Lesion_NSD": describe([round(c.nsd, 4) for c in group], seed).as_dict(),
        }

    def names(status: str) -> list[str]:
        return [c.name for c in cases if c.status == status]

    known = [(c.scan, kind) for c, kind in zip(cases, kinds, strict=True) if c.scan is not None]
    return {
        "cases": len(cases),
        "tolerance_mm": tolerance_mm,
        **means(cases),
        "lesion_scans": means([c for c in cases if c.scan is not None and c.scan.lesions]),
        "healthy_scans": means([c for c in cases if c.scan is not None and not c.scan.lesions]),
        "by_type": {
            kind: means([c for c, k in zip(cases, kinds, strict=True) if k == kind]) for kind in sorted(set(kinds))
        },
        "organisers_view": means([c for c in cases if c.status != "missing"]),
        "missing": names("missing"),
        "extra": list(extra),
        "labels_above_one": names("labels_above_one"),
        "truth_labels_above_one": [c.name for c in cases if c.truth_labels_above_one],
        "errors": {c.name: c.error for c in cases if c.status in FAILED and c.status != "missing"},
        "notes": [note for c in cases for note in c.notes],
        "detection": detection.summarise([scan for scan, _ in known], [kind for _, kind in known], seed),
        "bootstrap": {"seed": seed, "resamples": RESAMPLES, "unit": "scan"},
        "peak_rss_mb": round(max((c.peak_rss_mb for c in cases), default=0.0), 1),
    }


def write_results(out: Path, cases: Sequence[CaseScore], kinds: Sequence[str], summary: dict[str, Any]) -> None:
    """Write `per_case.csv`, `per_lesion.csv` and `summary.json` into `out`."""
    out.mkdir(parents=True, exist_ok=True)
    with (out / "per_case.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerows(case_row(c, kind) for c, kind in zip(cases, kinds, strict=True))
    with (out / "per_lesion.csv").open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        lines = csv.writer(stream)
        lines.writerow(["Name", "type", "lesion", "volume_ml", "diameter_mm", "size_class", "detected", "marked_share"])
        for case, kind in zip(cases, kinds, strict=True):
            for index, lesion in enumerate(case.scan.lesions if case.scan else (), start=1):
                size = [round(lesion.volume_ml, 4), round(lesion.diameter_mm, 2), lesion.size_class]
                lines.writerow([case.name, kind, index, *size, int(lesion.detected), round(lesion.marked_share, 4)])
    text = json.dumps(summary, indent=2, allow_nan=False)
    (out / "summary.json").write_text(text + "\n", encoding="utf-8")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval score`."""
    parser.add_argument("--pred", type=Path, required=True, help="folder of predictions X.nii.gz")
    parser.add_argument("--gt", type=Path, required=True, help="folder of ground truths X.nii.gz; it decides the cases")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for per_case.csv and summary.json")
    parser.add_argument("--jobs", type=int, help="processes (default: as cores and free memory allow)")
    parser.add_argument("--tolerance-mm", type=float, default=TOLERANCE_MM, help="NSD tolerance (default: %(default)s)")
    parser.add_argument("--types", type=Path, help='JSON {"case or pattern": "lesion type"}')
    parser.add_argument("--seed", type=int, default=SEED, help="of the bootstrap (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print summary.json on stdout")


def run(args: argparse.Namespace) -> int:
    """Score a folder. Exit 0: every case scored; 1: some case missing or failed (scored 0); 2: wrong usage."""
    problem = _usage_problem(args)
    if problem is not None:
        raise UsageError(problem)
    try:
        type_map = TypeMap.read(args.types) if args.types else TypeMap()
    except (OSError, ValueError) as error:
        raise UsageError(str(error)) from error
    truths, predictions = list_masks(args.gt), list_masks(args.pred)
    jobs = [Job(name, path, predictions.get(name), args.tolerance_mm) for name, path in truths.items()]
    cases = score_all(jobs, args.jobs or default_jobs())
    kinds = [type_map.lesion_type(case.name) for case in cases]
    extra = [name for name in predictions if name not in truths]
    summary = summarise(cases, kinds, extra, args.tolerance_mm, args.seed)
    write_results(args.output, cases, kinds, summary)
    for case in cases:
        if case.error:
            sys.stderr.write(f"{case.status}: {case.error}\n")
    for note in summary["notes"]:
        sys.stderr.write(f"note: {note}\n")
    for name in extra:
        sys.stderr.write(f"extra: {name}: no ground truth of this name; not scored\n")
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if args.json else _brief(summary))
    return int(any(case.status in FAILED for case in cases))


def _usage_problem(args: argparse.Namespace) -> str | None:
    for folder in (args.pred, args.gt):
        if not folder.is_dir():
            return f"{folder}: not a folder"
    if not list_masks(args.gt):
        return f"{args.gt}: no *.nii.gz file to score against"
    if args.jobs is not None and args.jobs < 1:
        return f"--jobs must be 1 or more, got {args.jobs}"
    if not args.tolerance_mm >= 0:
        return f"--tolerance-mm must be 0 or more, got {args.tolerance_mm}"
    return None


def _brief(summary: dict[str, Any]) -> str:
    lines = [f"{summary['cases']} cases, {len(summary['missing'])} missing, {len(summary['errors'])} failed"]
    for metric in ("Lesion_DSC", "Lesion_NSD"):
        value = summary[metric]
        spread = "" if value["std"] is None else f" +- {value['std']:.4f}"
        lines.append(f"{metric} {value['mean']:.4f}{spread}")
    detection = summary["detection"]
    # Without a lesion-free scan none can be a false positive, and F1 would flatter.
    flattering = () if detection["healthy"]["scans"] else ("f1",)
    for level, keys in (
        ("lesion", ("sensitivity", "sensitivity_a_tenth", "precision", "false_positives_per_scan")),
        ("scan", ("f1", "sensitivity", "sensitivity_a_tenth", "specificity", "fpr")),
    ):
        for key in keys:
            value = None if key in flattering else detection[level][key]["value"]
            lines.append(f"{level} {key} {'-' if value is None else format(value, '.4f')}")
    return "\n".join(lines) + "\n"
