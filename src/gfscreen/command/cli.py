"""The command line: `gfscreen predict | stats | series | seg | info | train | ...`. Thin: it parses, calls, and exits.

Exit codes: 0 all cases written, 1 some case failed, 2 wrong usage, 128 + N stopped by signal N.
"""

from __future__ import annotations

import argparse
import getpass
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gfscreen.command.arguments import (
    EXIT_USAGE,
    MAIN_EXAMPLES,
    Commands,
    OneLineParser,
    add_verbosity,
    completion_script,
    leaves,
    refuse_misspelt,
)
from gfscreen.command.cohort_commands import add_cohort
from gfscreen.command.dicom_commands import add_seg, add_series
from gfscreen.command.pacs_command import add_pacs
from gfscreen.command.predict_command import add_predict, add_stats
from gfscreen.command.progress import TerminalHandler, flush_standard_streams, open_standard_streams
from gfscreen.command.training_commands import (
    add_assemble,
    add_insert_lesions,
    add_pack,
    add_prepare,
    add_train,
    add_train_cells,
)
from gfscreen.command.weights_commands import add_convert, add_export, add_info, add_init, add_trunk
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.files import private_folder
from gfscreen.stopping import Stopped, stop_on_signals
from gfscreen.version import __version__

logger = logging.getLogger("gfscreen")

EXIT_FAILED = 1
# Extra that brings what a command imports beyond the core.
EXTRAS = {
    "train": "train",
    "train-cells": "train",
    "prepare": "train",
    "pack": "train",
    "insert-lesions": "train",
    "assemble": "train",
    "convert": "gpu",
    "export": "gpu",
    "init": "gpu",
    "trunk": "gpu",
    "cohort": "cohort",
    "pacs": "pacs",
}


def _add_completion(commands: Commands) -> None:
    parser = commands.add_parser("completion", help="print the completion script of a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose completion")
    parser.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> int:
    sys.stdout.write(completion_script(build_parser(), args.shell) + "\n")
    return 0


def command_of(argv: Sequence[str]) -> str | None:
    """The command that arguments call: the first that is no option."""
    return next((argument for argument in argv if not argument.startswith("-")), None)


def build_parser() -> argparse.ArgumentParser:
    """The command line. Nothing of the method is imported before a command runs."""
    parser = OneLineParser(
        prog="gfscreen",
        description="Pan-cancer screening in CT: glance, then focus.",
        epilog=MAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gfscreen {__version__}")
    add_verbosity(parser, False)
    commands: Any = parser.add_subparsers(required=True, metavar="COMMAND", dest="command", title="commands")
    for add in (
        add_predict, add_stats, add_series, add_seg, add_info, add_cohort, add_pacs,
        add_train, add_train_cells, add_prepare, add_pack, add_insert_lesions, add_assemble,
        add_convert, add_export, add_init, add_trunk, _add_completion,
    ):  # fmt: skip
        add(commands)
    for command in leaves(parser):
        # After the command as well; what is not given there must not undo what was given before it.
        add_verbosity(command, argparse.SUPPRESS)
    return parser


class _OneLine(logging.Formatter):
    """`LEVEL: message` on one line that no file name can break or colour: control characters are shown as escapes."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        """The message alone; a traceback that follows keeps its lines."""
        text = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _configure_logging(quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = TerminalHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def _complete_environment(command: str) -> None:
    """Give libraries what they ask for where the system does not know the user (`docker run --user`): name and home.

    As the images do by ENV. MONAI does not even load without a name. For `predict` also a place for exports.
    """
    try:
        getpass.getuser()
    except (KeyError, OSError):
        os.environ["USER"] = f"uid-{os.getuid()}"
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = str(private_folder() or "/")
    if command == "predict":
        from gfscreen.networks.engines.openvino import fallback_cache

        if (folder := fallback_cache()) is not None:
            os.environ["GFSCREEN_CACHE"] = str(folder)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    open_standard_streams()
    try:
        return _main(list(sys.argv[1:] if argv is None else argv))
    finally:
        flush_standard_streams()


def _main(arguments: list[str]) -> int:
    parser = build_parser()
    refuse_misspelt(parser, arguments)
    args = parser.parse_args(arguments)
    _configure_logging(args.quiet, args.verbose)
    _complete_environment(args.command)
    try:
        with stop_on_signals() if args.command in ("predict", "pacs") else nullcontext():
            code = int(args.run(args))
        if args.command != "predict":  # whose results are files
            sys.stdout.flush()
        return code
    except Stopped as stop:
        logger.error("%s", stop)
        return stop.exit_code
    except UsageError as error:
        logger.error("%s", error)
        return EXIT_USAGE
    except ModuleNotFoundError as error:
        if args.command not in EXTRAS or (error.name or "").startswith("gfscreen"):
            raise
        extra = EXTRAS[args.command]
        logger.error("%s needs %s, which is not installed; pip install 'gfscreen[%s]'", args.command, error.name, extra)
        return EXIT_USAGE
    except (GFScreenError, OSError) as error:
        logger.error("%s", error)
        return EXIT_FAILED
