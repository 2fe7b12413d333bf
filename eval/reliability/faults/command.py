"""Make everything go wrong around a run: after each fault only whole masks, and a restart completes the rest.

Read in this order: `place` (how a run is started and looked at), `kills`, `surroundings`.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import tempfile
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gfscreen.errors import UsageError

if TYPE_CHECKING:
    from eval.reliability.faults.result import Result

RESULT_FILE = "faults.json"
logger = logging.getLogger(__name__)


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `python -m eval faults`."""
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="DIR", help=f"gets {RESULT_FILE} and a table"
    )
    parser.add_argument("--kills", type=int, default=200, metavar="N", help="kill -9 at so many moments (default 200)")
    parser.add_argument("--stops", type=int, default=40, metavar="N", help="SIGTERM at so many moments (default 40)")
    parser.add_argument("--only", metavar="TEXT", default="", help="only faults whose function's name holds TEXT")
    parser.add_argument("--seed", type=int, default=0, metavar="N")


def run(args: argparse.Namespace) -> int:
    """Make the faults. Exit 0: all survived; 1: some not; 2: wrong usage."""
    if min(args.kills, args.stops, args.seed) < 0:
        raise UsageError("numbers must not be negative")
    from eval.reliability.faults import kills, surroundings
    from eval.reliability.faults.place import make_place
    from eval.reliability.faults.table import markdown

    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    path = args.output / RESULT_FILE
    results: list[dict[str, Any]] = []
    if args.only and path.is_file():
        results = json.loads(path.read_text(encoding="utf-8"))["faults"]
    args.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        place = make_place(Path(folder).resolve())
        faults: list[partial[Result]] = [
            partial(kills.killed, place, args.kills, args.seed),
            partial(kills.killed_while_writing, place),
            partial(kills.terminated, place, args.stops, args.seed),
            partial(kills.terminated_while_writing, place),
            partial(kills.interrupted, place, args.stops // 4, args.seed),
            partial(kills.two_at_once, place, 3),
            *[partial(fault, place) for fault in surroundings.ALL],
        ]
        for make in faults:
            if args.only not in getattr(make.func, "__name__", ""):
                continue
            result = make()
            made = {**asdict(result), "survived": result.survived}
            # Faults can be made one by one: each replaces its own result only.
            same = [n for n, one in enumerate(results) if one["title"] == result.title]
            if same:
                results[same[0]] = made
            else:
                results.append(made)
            # After each, so that hours are not lost with the last one.
            path.write_text(json.dumps({"faults": results}, indent=1) + "\n", encoding="utf-8")
            logger.info("%s: %d of %d survived %s", result.title, result.survived, result.times, result.not_run or "")
    table = markdown(results)
    (args.output / "faults.md").write_text(table, encoding="utf-8")
    sys.stdout.write(table)
    for one in results:
        for failure in one["failures"]:
            sys.stdout.write(f"FAILED {one['title']}: {failure}\n")
    return 1 if any(one["failures"] for one in results) else 0
