"""Feed damaged files to the reader: no crash, no hang, no memory over the declared limit, only scans or clear errors.

Read in this order: `target` (one execution and what counts as a finding), `mutate`, `seeds`, `worker`, `run`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path
from typing import Any

from gfscreen.errors import UsageError

logger = logging.getLogger(__name__)

RESULT_FILE = "fuzz.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval fuzz`."""
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE}, findings")
    parser.add_argument(
        "--executions", type=int, default=100_000, metavar="N", help="files per engine (default 100000)"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument(
        "--engine", choices=("auto", "atheris", "random", "dicom"), default="auto", help="default: auto"
    )


def run(args: argparse.Namespace) -> int:
    """Fuzz. Exit 0: no finding; 1: findings; 2: wrong usage."""
    from eval.reliability.fuzz.run import choose_engines, fuzz

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    if args.executions < 1 or args.seed < 0:
        raise UsageError("--executions must be at least 1 and --seed at least 0")
    args.output.mkdir(parents=True, exist_ok=True)
    engines, why = choose_engines(args.engine)
    logger.info("%s: %s", " and ".join(engines), why)
    path = args.output / RESULT_FILE
    runs: dict[str, dict[str, Any]] = {}
    if path.is_file():
        # Engines can be run one after the other, on different days: each replaces its own result only.
        runs = {one["engine"]: one for one in json.loads(path.read_text(encoding="utf-8"))["runs"]}
    for engine in engines:
        one = runs[engine] = fuzz(args.executions, args.seed, engine, args.output)
        path.write_text(json.dumps({"runs": list(runs.values())}, indent=2) + "\n", encoding="utf-8")
        sys.stdout.write(
            f"{one['engine']}: {one['executions']} executions in {one['seconds']} s: {one['outcomes']}, "
            f"slowest {one['slowest_s']} s, one file at most {one['memory_one_file_mb']} MB, growth "
            f"{one['memory_growth_mb']} MB, {len(one['findings'])} findings\n"
        )
        for found in one["findings"]:
            sys.stdout.write(f"{found['what']} ({found['times']} times): {found['message']} [{found['file']}]\n")
    return 1 if any(runs[engine]["findings"] for engine in engines) else 0
