"""Pieces of the command line that know nothing of the commands: value types, messages, examples, completion."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from gfscreen.errors import UsageError
from gfscreen.text import closest

EXIT_USAGE = 2

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

PREDICT_EXAMPLES = """\
examples:
  gfscreen predict -i scan_0000.nii.gz -o masks                  one scan -> masks/scan.nii.gz
  gfscreen predict -i scans -o masks --report report.json        a folder of scans, and what was found
  gfscreen predict -i scans -o masks --time-limit 45             at most 45 s per scan
  gfscreen predict -i study.zip -o masks --series 3 --dicom-seg segs   one DICOM series, mask and DICOM SEG

exit codes: 0 all cases written, 1 some case failed (the others are written), 2 wrong usage,
128 + N stopped by signal N (143: SIGTERM, 130: Ctrl-C); what was being written is finished"""

MAIN_EXAMPLES = """\
examples:
  gfscreen predict -i scans -o masks --report report.json
  gfscreen series -i study.zip
  gfscreen info --json
  gfscreen train --preset fast --data dataset.json -o runs/first --max-minutes 60
  gfscreen completion bash > ~/.local/share/bash-completion/completions/gfscreen

`gfscreen COMMAND --help` explains one command."""


class OneLineParser(argparse.ArgumentParser):
    """One line for a mistake, like every other error, instead of the whole usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_USAGE, f"ERROR: {message}; see {self.prog} --help\n")


def refuse_misspelt(parser: argparse.ArgumentParser, arguments: Sequence[str]) -> None:
    """End with one line that names the nearest known word, for an unknown command or an unknown option of a command.

    Before anything is parsed: else a missing argument would be told of first. Short options are left to the parser.
    """
    commands = _commands_of(parser)
    name = next((argument for argument in arguments if not argument.startswith("-")), None)
    if name is not None and commands and name not in commands:
        guess = closest(name, commands)
        told = f"did you mean {guess}?" if guess else f"there are {', '.join(commands)}"
        parser.error(f"no command {name!r}; {told}")
    command = parser if name is None or not commands else commands[name]
    if command is not parser and _commands_of(command):
        # Of a command with commands of its own, such as `cohort run`.
        refuse_misspelt(command, arguments[arguments.index(name or "") + 1 :])
        return
    known = {option for one in (parser, command) for option in one._option_string_actions}
    for argument in arguments:
        if argument == "--":
            return
        if " " in argument:  # a value to argparse, as in --docker-args "--gpus all"
            continue
        option = argument.partition("=")[0]
        if option.startswith("--") and not any(other.startswith(option) for other in known):
            guess = closest(option, sorted(other for other in known if other.startswith("--")))
            command.error(f"no option {option}" + (f"; did you mean {guess}?" if guess else ""))


def _commands_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The commands of a parser by name; none if it has none."""
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(actions[0].choices) if actions else {}


def leaves(parser: argparse.ArgumentParser) -> list[argparse.ArgumentParser]:
    """The parsers of all commands that have no commands of their own."""
    commands = _commands_of(parser)
    return [leaf for command in commands.values() for leaf in leaves(command)] if commands else [parser]


def probability(text: str) -> float:
    """A number from 0 to 1."""
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a probability from 0 to 1, got {text}")
    return value


def share_below_one(text: str) -> float:
    """A number from 0 to below 1."""
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a share of at least 0 and below 1, got {text}")
    return value


def inner_probability(text: str) -> float:
    """A number above 0 and below 1."""
    value = float(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a probability above 0 and below 1, got {text}")
    return value


def at_least_zero(text: str) -> float:
    """A finite number from 0 on."""
    value = float(text)
    if not 0.0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of at least 0, got {text}")
    return value


def positive(text: str) -> float:
    """A finite number above 0."""
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def at_least_one(text: str) -> int:
    """A whole number from 1 on."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text}")
    return value


def shard(text: str) -> tuple[int, int]:
    """`K/N`, 1 <= K <= N."""
    number, _, count = text.partition("/")
    if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise argparse.ArgumentTypeError(f"expected K/N with K from 1 to N, got {text}")
    return int(number), int(count)


def add_weights_option(parser: Any) -> None:
    """Add --weights to a parser or a group of it."""
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights folder (default: GFSCREEN_WEIGHTS or ./weights)"
    )


def add_verbosity(parser: argparse.ArgumentParser, default: bool | str) -> None:
    """Add --quiet and --verbose."""
    group = parser.add_argument_group("messages")
    group.add_argument("-q", "--quiet", action="store_true", default=default, help="errors only, no progress")
    group.add_argument("-v", "--verbose", action="store_true", default=default, help="more about what is done")


def completion_script(parser: argparse.ArgumentParser, shell: str) -> str:
    """Completion of a parser and its commands for `bash`, `zsh` or `tcsh`. Raises UsageError without shtab."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise UsageError("completion needs shtab, which is missing; pip install 'gfscreen[completion]'") from error
    for command in leaves(parser):
        for action in command._actions:
            if action.type is Path:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return str(shtab.complete(parser, shell=shell))
