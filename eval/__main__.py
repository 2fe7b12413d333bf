"""`python -m eval ...`: one subcommand per module; each module adds its own parser and imports its libraries late."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from gfscreen.errors import GFScreenError, UsageError

# Subcommand -> module with `configure(parser)` and `run(args) -> exit code`.
COMMANDS = {
    "cases": "eval.cases",
    "picture": "eval.picture",
    "check": "eval.check",
    "score": "eval.score",
    "compare": "eval.compare",
    "gates": "eval.gates",
    "peak": "eval.peak",
    "nodules": "eval.nodules",
    "efficiency": "eval.efficiency",
    "table4": "eval.table4",
    "benchmark": "eval.benchmark",
    "dense-peer": "eval.dense_peer",
    "ab": "eval.ab",
    "optimisations": "eval.optimisations",
    "report": "eval.report",
    "score-benchmark": "eval.score_benchmark",
    "torture": "eval.torture",
    "fuzz": "eval.fuzz",
    "reliability": "eval.reliability",
    "soak": "eval.soak",
    "faults": "eval.faults",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a subcommand; only the chosen one is imported.

    What a subcommand raises for bad weights or data is one line on standard error: exit 1, or 2 for wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(prog="python -m eval", description=__doc__)
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="|".join(COMMANDS))
    chosen = arguments[0] if arguments and arguments[0] in COMMANDS else None
    for name in COMMANDS if chosen is None else [chosen]:
        module = importlib.import_module(COMMANDS[name])
        subparser = subparsers.add_parser(name, help=(module.__doc__ or "").strip().splitlines()[0])
        module.configure(subparser)
        subparser.set_defaults(run=module.run)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except GFScreenError as error:
        sys.stderr.write(f"{args.command}: {error}\n")
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
