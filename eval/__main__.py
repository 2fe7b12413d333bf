"""`python -m eval ...`: one subcommand per module; each module adds its own parser and imports its libraries late."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from gfscreen.errors import GFScreenError, UsageError

# Subcommand -> module with `configure(parser)` and `run(args) -> exit code`.
COMMANDS = {
    "cases": "eval.phantom.sample_cases",
    "picture": "eval.report.picture",
    "check": "eval.accuracy.check",
    "score": "eval.accuracy.score",
    "compare": "eval.accuracy.compare",
    "gates": "eval.tuning.gates",
    "peak": "eval.tuning.finding_thresholds",
    "nodules": "eval.tuning.nodules",
    "efficiency": "eval.efficiency.measure",
    "table4": "eval.efficiency.table4",
    "benchmark": "eval.efficiency.benchmark",
    "dense-peer": "eval.efficiency.dense_peer",
    "ab": "eval.accuracy.mask_agreement",
    "optimisations": "eval.tuning.optimisations",
    "report": "eval.report.command",
    "score-benchmark": "eval.accuracy.score_benchmark",
    "torture": "eval.reliability.torture.command",
    "fuzz": "eval.reliability.fuzz.command",
    "reliability": "eval.reliability.page",
    "soak": "eval.reliability.soak",
    "faults": "eval.reliability.faults.command",
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
