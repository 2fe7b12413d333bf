"""Screen a set of odd, wrong and damaged inputs in one run: a valid mask or one clear error for each, nothing else.

Read in this order: `case`, the four lists of cases, `run`, `judge`.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

from gfscreen.errors import UsageError

RESULT_FILE = "torture.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval torture`."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE} and a table"
    )
    parser.add_argument("--keep", type=Path, metavar="DIR", help="keep inputs and outputs in this new folder")
    parser.add_argument("--only", metavar="TEXT", default="", help="only inputs whose class or file name holds TEXT")
    parser.add_argument("--list", action="store_true", help="list the set and stop")


def run(args: argparse.Namespace) -> int:
    """Make, screen and judge the set. Exit 0: nothing wrong; 1: something is; 2: wrong usage."""
    from eval.reliability.torture.run import all_cases, torture
    from eval.reliability.torture.table import markdown

    cases = [case for case in all_cases() if args.only in case.group or args.only in case.file]
    if not cases:
        raise UsageError(f"--only {args.only}: no input holds that; see --list")
    if args.list:
        for case in cases:
            sys.stdout.write(f"{case.group}: {case.title} -> {case.expect}\n")
        return 0
    if args.keep is not None and args.keep.exists():
        raise UsageError(f"--keep {args.keep}: is there already; name a new folder")
    with tempfile.TemporaryDirectory(prefix="torture-") as scratch:
        result = torture(args.keep or Path(scratch) / "set", cases)
    args.output.mkdir(parents=True, exist_ok=True)
    (args.output / RESULT_FILE).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = markdown(result["cases"])
    (args.output / "torture.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    wrong = [case for case in result["cases"] if case["wrong"]]
    for case in wrong:
        sys.stdout.write(f"WRONG {case['group']}: {case['title']} ({case['file']}): {case['wrong']}\n")
    for problem in result["problems"]:
        sys.stdout.write(f"WRONG {problem}\n")
    return 1 if wrong or result["problems"] else 0
