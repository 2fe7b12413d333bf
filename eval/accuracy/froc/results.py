"""What `python -m eval froc` writes: froc.json, findings.csv and lesions.csv, and the lines that it prints."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eval.accuracy.froc.case_level import auc, reliability
from eval.accuracy.froc.cases import FrocCase
from eval.accuracy.froc.curve import RATES, SweptScan, froc
from eval.accuracy.froc.matching import IGNORED, MEANINGS, SIZES, SweptLesion
from eval.accuracy.statistics import RESAMPLES, SEED
from gfscreen.files import write_atomically
from gfscreen.text import encodable

JSON_NAME = "froc.json"
FOUND = {
    "one_voxel": "the findings share a voxel with the lesion",
    "a_tenth": "the findings mark a tenth of the lesion's volume, or more",
}


def summarise(
    cases: Sequence[FrocCase], kinds: Sequence[str], said: Mapping[str, Any], seed: int = SEED
) -> dict[str, Any]:
    """`froc.json`: curves over all scans, by kind and by size, then the scan level.

    kinds: one per case. said: what scores and labels meant, put in as it is. A kind's curve has the lesions and false
    positives of its own scans; a size has no false positives of its own, so its curve has those of all scans.

    Raises:
        ValueError: not one kind per case.

    """
    known = [(c, c.scan, kind) for c, kind in zip(cases, kinds, strict=True) if c.scan is not None]
    scans = [scan for _, scan, _ in known]

    def of_size(size: str) -> dict[str, Any]:
        return froc(scans, lambda lesion: lesion.size == size, seed)

    return {
        "cases": len(cases),
        **said,
        "found": FOUND,
        "all": froc(scans, seed=seed),
        "by_kind": {
            kind: froc([scan for _, scan, k in known if k == kind], seed=seed)
            for kind in sorted({k for *_, k in known})
        },
        "by_size": {size: of_size(size) for size in SIZES},
        "case_level": case_level([(c, scan) for c, scan, _ in known], seed),
        "ignored_findings": sum(f.verdict == IGNORED for scan in scans for f in scan.findings),
        "unanswered": [c.name for c, scan, _ in known if not scan.answered],
        "errors": {c.name: c.error for c in cases if c.error},
        "bootstrap": {"seed": seed, "resamples": RESAMPLES, "unit": "scan"},
    }


def case_level(cases: Sequence[tuple[FrocCase, SweptScan]], seed: int = SEED) -> dict[str, Any]:
    """AUC of the highest finding score over all answered scans, and of the suspicion over those that have one.

    `suspicion` is null where no scan has one.
    """
    answered = [(case, scan) for case, scan in cases if scan.answered]
    rated = [(case.suspicion, bool(scan.lesions)) for case, scan in answered if case.suspicion is not None]
    suspicions, lesion = [s for s, _ in rated], [sick for _, sick in rated]
    return {
        "scans": len(answered),
        "highest_score": {
            "auc": auc([scan.highest_score for _, scan in answered], [bool(scan.lesions) for _, scan in answered], seed)
        },
        "suspicion": {
            "auc": auc(suspicions, lesion, seed),
            "reliability": reliability(suspicions, lesion, seed),
        }
        if rated
        else None,
    }


def write_results(out: Path, cases: Sequence[FrocCase], kinds: Sequence[str], summary: Mapping[str, Any]) -> None:
    """Write the three files, each whole or not at all. Raises OSError."""
    findings: list[list[Any]] = [["Name", "finding", "voxels", "volume_ml", "score", "verdict"]]
    lesions: list[list[Any]] = [["Name", "type", "lesion", "volume_ml", "size", *(f"score_{m}" for m in MEANINGS)]]
    for case, kind in zip(cases, kinds, strict=True):
        if case.scan is None:
            continue
        findings += [
            [case.name, f.number, f.voxels, round(f.volume_ml, 4), f.score, f.verdict] for f in case.scan.findings
        ]
        lesions += [[case.name, kind, index, *_lesion(x)] for index, x in enumerate(case.scan.lesions, start=1)]
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / "findings.csv", _csv(findings))
    write_atomically(out / "lesions.csv", _csv(lesions))
    text = json.dumps(summary, indent=2, allow_nan=False) + "\n"
    write_atomically(out / JSON_NAME, encodable(text).encode("utf-8"))


def _lesion(lesion: SweptLesion) -> list[Any]:
    """Cells of a lesion; an empty score: found at none."""
    scores = ["" if (score := lesion.found_at(meaning)) is None else score for meaning in MEANINGS]
    return [round(lesion.volume_ml, 4), lesion.size, *scores]


def _csv(rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return encodable(text.getvalue()).encode("utf-8")


def brief(summary: Mapping[str, Any]) -> str:
    """The main figures in lines."""
    whole = summary["all"]
    lines = [
        f"{summary['cases']} cases, {len(summary['errors'])} failed; {whole['scans']} scans, "
        f"{whole['lesions']} lesions, {whole['false_positives']} false positives, "
        f"{summary['ignored_findings']} findings ignored"
    ]
    for meaning in MEANINGS:
        values = [(f"{rate:g}", whole["sensitivity_at"][meaning][f"{rate:g}"]["value"]) for rate in RATES]
        cells = [f"{rate}: {'-' if value is None else format(value, '.3f')}" for rate, value in values]
        lines.append(f"sensitivity {meaning} at false positives per scan, {', '.join(cells)}")
    if (end := whole["end"]) is not None:
        lines.append(
            f"the curve ends at {end['false_positives_per_scan']:.3g} false positives per scan, sensitivity "
            f"{end['one_voxel']:.3f} one_voxel, {end['a_tenth']:.3f} a_tenth"
        )
    level = summary["case_level"]
    rated = [name for name in ("highest_score", "suspicion") if level[name] is not None]
    lines += [f"AUC {name} {auc_text(level[name]['auc'])}" for name in rated]
    if level["suspicion"] is not None and level["suspicion"]["reliability"]["brier"]["value"] is not None:
        lines.append(f"Brier suspicion {level['suspicion']['reliability']['brier']['value']:.4f}")
    return "\n".join(lines) + "\n"


def auc_text(found: Mapping[str, Any]) -> str:
    """An AUC in words: value, interval, scans of both kinds, and why something is undefined."""
    value = "undefined" if found["value"] is None else f"{found['value']:.3f}"
    interval = "" if found["low"] is None else f" [{found['low']:.3f}, {found['high']:.3f}]"
    reason = "" if found["reason"] is None else f"; {found['reason']}"
    return f"{value}{interval} (scans with lesion: {found['with_lesion']}, without: {found['without_lesion']}{reason})"
