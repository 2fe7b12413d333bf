"""From inputs to the finished folder: `tables/`, `figures/`, `index.html`, `contents.json`."""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.report import figures
from eval.report.cases import CaseFiles, choose_cases, list_cases, load_case
from eval.report.challenge_tables import table2_lesions, table2_scans, table3, table4
from eval.report.embed import embed_case
from eval.report.froc_figures import draw_froc, froc_table, read_froc
from eval.report.inputs import Efficiency, Scores, read_efficiency, read_product_report, read_scores
from eval.report.montage import Montage, draw_montage
from eval.report.page import PAGE_NAME, Page, write_page
from eval.report.screening import kept_share
from eval.tables import write_table
from eval.tuning.gate_curve import GatePoint, read_curve
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.results.preview.viewer import EmbeddedCase
from gfscreen.text import encodable, visible

logger = logging.getLogger(__name__)

CONTENTS_NAME = "contents.json"
_MB = 1e6


@dataclass(frozen=True)
class Inputs:
    """Everything that was given, read; None or empty where it was not."""

    scores: Scores | None
    efficiency: Efficiency | None
    product: dict[str, Any] | None
    curve: list[GatePoint]
    cases: list[CaseFiles]
    chosen: str
    froc: dict[str, Any] | None = None


@dataclass
class Shown:
    """What was made of the cases."""

    montages: list[Montage] = field(default_factory=list)
    embedded: list[EmbeddedCase] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def run(args: argparse.Namespace) -> int:
    """Write the report. Exit 0: written; 1: written, but some case could not be used; 2: wrong usage."""
    inputs = read_inputs(args)
    _prepare(args.output)
    try:
        contents = build(inputs, args)
    except OSError as error:
        name = error.filename or args.output
        sys.stderr.write(f"report: {name}: cannot be written ({error.strerror or error}); check folder and disk\n")
        return 1
    for problem in contents["problems"]:
        sys.stderr.write(f"report: {visible(problem)}\n")
    sys.stdout.write(json.dumps(contents, indent=2) + "\n" if args.json else encodable(_brief(contents, args.output)))
    return int(bool(contents["problems"]))


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check every input that was given. Raises UsageError."""
    if args.max_cases < 0:
        raise UsageError(f"--max-cases must be 0 or more, got {args.max_cases}")
    if not args.viewer_mb >= 0:
        raise UsageError(f"--viewer-mb must be 0 or more, got {args.viewer_mb}")
    if args.images is None and (args.pred is not None or args.gt is not None or args.cases is not None):
        raise UsageError(
            "--pred, --gt and --cases need --images: masks are shown on their scan; add the folder of scans"
        )
    scores = None if args.scores is None else read_scores(args.scores)
    every = list_cases(args.images, args.pred, args.gt)
    cases, chosen = choose_cases(every, args.cases, args.max_cases, {} if scores is None else scores.rows)
    return Inputs(
        scores=scores,
        efficiency=None if args.efficiency is None else read_efficiency(args.efficiency),
        product=None if args.report is None else read_product_report(args.report),
        curve=[] if args.curve is None else read_curve(args.curve),
        cases=cases,
        chosen=chosen,
        froc=None if args.froc is None else read_froc(args.froc),
    )


def _prepare(out: Path) -> None:
    """Make the folder; what an earlier report left in its own subfolders goes."""
    if out.exists() and not out.is_dir():
        raise UsageError(f"-o {out}: is a file; give a folder")
    if (out / CONTENTS_NAME).is_file():  # ours: stale figures of other cases must not stay beside new ones
        for name in ("tables", "figures"):
            shutil.rmtree(out / name, ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)


def build(inputs: Inputs, args: argparse.Namespace) -> dict[str, Any]:
    """Write everything and return `contents.json`."""
    out: Path = args.output
    summary = None if inputs.scores is None else inputs.scores.summary
    tables = {
        "table2_scans": table2_scans(summary),
        "table2_lesions": table2_lesions(summary),
        "table3": table3(summary, args.split),
        "table4": table4(inputs.efficiency),
    }
    if inputs.froc is not None:
        tables["froc"] = froc_table(inputs.froc)
    written = [path for stem, table in tables.items() for path in write_table(table, out / "tables", stem)]
    charts = figures.draw_all(
        out / "figures", inputs.scores, inputs.efficiency, inputs.curve, kept_share(inputs.product)
    )
    if inputs.froc is not None:
        charts |= draw_froc(out / "figures", inputs.froc)
    written += [path for chart in charts.values() if chart is not None for path in chart.files]
    shown = show_cases(inputs, out / "figures", args.viewer_mb * _MB)
    written += [path for montage in shown.montages for path in montage.files]
    page = Page(
        title=args.title,
        split=args.split,
        tables=tables,
        charts=charts,
        scores=inputs.scores,
        efficiency=inputs.efficiency,
        product=inputs.product,
        curve=inputs.curve,
        montages=shown.montages,
        embedded=shown.embedded,
        chosen=inputs.chosen,
        problems=shown.problems,
    )
    contents: dict[str, Any] = {
        "page": PAGE_NAME,
        "page_bytes": write_page(out / PAGE_NAME, page),
        "files": [str(path.relative_to(out)) for path in written],
        "viewer": [_viewer_entry(case) for case in shown.embedded],
        "not_measured": page.missing,
        "problems": shown.problems,
    }
    (out / CONTENTS_NAME).write_text(json.dumps(contents, indent=2) + "\n", encoding="utf-8")
    return contents


def show_cases(inputs: Inputs, folder: Path, budget: float) -> Shown:
    """Draw and embed the chosen cases; each may use an equal share of what the ones before it left."""
    shown = Shown()
    rows = {} if inputs.scores is None else inputs.scores.rows
    for index, files in enumerate(tqdm(inputs.cases, desc="cases", unit="case", disable=None)):
        try:
            case = load_case(files)
        except GFScreenError as error:
            shown.problems.append(f"{files.name}: {error}")
            continue
        shown.problems += [f"{files.name}: {problem}" for problem in case.problems]
        try:
            shown.montages.append(draw_montage(folder, case, rows.get(encodable(files.name))))
        except Exception as error:  # a fault of ours, or a name that the disk refuses: the others are shown
            logger.exception("%s: not drawn", files.name)
            shown.problems.append(f"{files.name}: not drawn ({type(error).__name__}: {error})")
        if budget <= 0:
            continue
        share = (budget - sum(c.size for c in shown.embedded)) / (len(inputs.cases) - index)
        embedded = embed_case(case, share)
        if embedded is None:
            shown.problems.append(
                f"{files.name}: does not fit into {share / _MB:.2f} MB of the page; "
                "raise --viewer-mb or show fewer cases"
            )
        else:
            shown.embedded.append(embedded)
    return shown


def _viewer_entry(case: EmbeddedCase) -> dict[str, Any]:
    return {
        "case": case.name,
        "layers": sorted(case.layers),
        "bytes": case.size,
        "shape": list(case.shape),
        "spacing_mm": [round(mm, 4) for mm in case.spacing_mm],
        "block_voxels": list(case.factors),
    }


def _brief(contents: dict[str, Any], out: Path) -> str:
    missing: Sequence[str] = contents["not_measured"]
    lines = [
        f"{out / PAGE_NAME}: {contents['page_bytes'] / _MB:.1f} MB, {len(contents['viewer'])} cases in the viewer",
        f"{len(contents['files'])} files in {out / 'tables'} and {out / 'figures'}",
        *([f"not measured: {', '.join(missing)}"] if missing else []),
    ]
    return "\n".join(lines) + "\n"
