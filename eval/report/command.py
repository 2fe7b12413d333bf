"""Write the report: Tables 2, 3 and 4, figures, and one HTML page with a viewer that opens from disk.

Every input is optional. What was not given or not measured is named as such in the tables and on the page.
"""

from __future__ import annotations

import argparse
from pathlib import Path

MAX_CASES = 6
VIEWER_MB = 20.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval report`."""
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for index.html, tables/ and figures/")
    parser.add_argument("--scores", type=Path, metavar="DIR", help="folder written by `eval score`")
    parser.add_argument("--efficiency", type=Path, metavar="DIR", help="folder of `eval table4` or `eval efficiency`")
    parser.add_argument("--report", type=Path, metavar="FILE", help="the product's own report (JSON)")
    parser.add_argument(
        "--curve", type=Path, metavar="FILE", help="gate curve (JSON; format in eval/tuning/gate_curve.py)"
    )
    parser.add_argument("--froc", type=Path, metavar="FILE", help="froc.json written by `eval froc`")
    parser.add_argument("--images", type=Path, metavar="DIR", help="scans X_0000.nii.gz, for overlays and the viewer")
    parser.add_argument("--pred", type=Path, metavar="DIR", help="predictions X.nii.gz")
    parser.add_argument("--gt", type=Path, metavar="DIR", help="true labels X.nii.gz")
    parser.add_argument("--cases", metavar="X,Y", help="cases to show (default: chosen evenly by DSC, or by name)")
    parser.add_argument("--max-cases", type=int, default=MAX_CASES, help="how many to choose (default: %(default)s)")
    parser.add_argument(
        "--viewer-mb",
        type=float,
        default=VIEWER_MB,
        metavar="MB",
        help="limit on the volumes inside the page, 0: no viewer (default: %(default)s)",
    )
    parser.add_argument("--split", default="unnamed", metavar="NAME", help="what was scored (default: %(default)s)")
    parser.add_argument("--title", default="GF-Screen: evaluation report", help="title of the page")
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Write the report. Exit 0: written; 1: written, but some case or file could not be used; 2: wrong usage."""
    from eval.report.build import run as build  # late: NumPy, matplotlib and the product are needed only now

    return build(args)
