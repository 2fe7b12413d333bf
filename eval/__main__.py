"""`python -m eval ...`: one subcommand per module; each module adds its own parser and imports its libraries late."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from gfscreen.command.arguments import OneLineParser, refuse_misspelt
from gfscreen.errors import GFScreenError, UsageError

# What for -> subcommand -> module with `configure(parser)` and `run(args) -> exit code`.
TOPICS = {
    "cases and pictures": {
        "cases": "eval.phantom.sample_cases",
        "picture": "eval.report.picture",
        "report": "eval.report.command",
    },
    "how good masks are": {
        "check": "eval.accuracy.check",
        "score": "eval.accuracy.score",
        "froc": "eval.report.froc",
        "compare": "eval.accuracy.compare",
        "ab": "eval.accuracy.mask_agreement",
        "score-benchmark": "eval.accuracy.score_benchmark",
        "nnunet-parity": "eval.accuracy.nnunet_parity",
    },
    "what it takes": {
        "efficiency": "eval.efficiency.measure",
        "table4": "eval.efficiency.table4",
        "benchmark": "eval.efficiency.benchmark",
        "dense-peer": "eval.efficiency.dense_peer",
        "nnunet-peer": "eval.efficiency.nnunet_peer",
        "nnunet-example": "eval.efficiency.nnunet_example",
    },
    "what a cohort takes and withstands": {
        "cohort-overhead": "eval.cohort.overhead",
        "cohort-scale": "eval.cohort.scale",
        "cohort-kills": "eval.cohort.kills",
    },
    "what a plan is tuned by": {
        "gates": "eval.tuning.gates",
        "peak": "eval.tuning.finding_thresholds",
        "findings": "eval.tuning.finding_model",
        "int8": "eval.tuning.int8",
        "realism": "eval.tuning.realism",
        "nodules": "eval.tuning.nodules",
        "optimisations": "eval.tuning.optimisations",
        "ablation": "eval.tuning.ablation",
        "calibrate": "eval.report.calibrate",
    },
    "what it withstands": {
        "torture": "eval.reliability.torture.command",
        "fuzz": "eval.reliability.fuzz.command",
        "faults": "eval.reliability.faults.command",
        "soak": "eval.reliability.soak",
        "reliability": "eval.reliability.page",
    },
}
COMMANDS = {name: module for topic in TOPICS.values() for name, module in topic.items()}


def _overview() -> str:
    """Every subcommand with one line, by topic."""
    lines = []
    for topic, commands in TOPICS.items():
        lines += ["", f"{topic}:"]
        lines += [f"  {name:<16}{_line(module)}" for name, module in commands.items()]
    return "\n".join([*lines, "", "`python -m eval COMMAND --help` explains one command."])


def _line(module: str) -> str:
    return (importlib.import_module(module).__doc__ or "").strip().splitlines()[0]


def main(argv: Sequence[str] | None = None) -> int:
    """Dispatch to a subcommand; only the chosen one is imported.

    What a subcommand raises for bad weights or data is one line on standard error: exit 1, or 2 for wrong usage.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    parser = OneLineParser(
        prog="python -m eval",
        usage="python -m eval COMMAND ...",
        description="Measures GF-Screen: how good its masks are, what they cost, and what it withstands.",
        epilog=None if chosen else _overview(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for name in COMMANDS:
        subparser = subparsers.add_parser(name, prog=f"python -m eval {name}")
        if name == chosen:
            module = importlib.import_module(COMMANDS[name])
            module.configure(subparser)
            subparser.set_defaults(run=module.run)
    refuse_misspelt(parser, arguments)
    args = parser.parse_args(arguments)
    try:
        return int(args.run(args))
    except GFScreenError as error:
        sys.stderr.write(f"{args.command}: {error}\n")
        return 2 if isinstance(error, UsageError) else 1


if __name__ == "__main__":
    sys.exit(main())
