"""The command line: `gfscreen predict | stats | series | seg | info | train | ...`. Thin: it parses, calls, and exits.

Exit codes: 0 all cases written, 1 some case failed, 2 wrong usage, 128 + N stopped by signal N.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from gfscreen.command import dicom_commands
from gfscreen.command.arguments import (
    EXIT_USAGE,
    MAIN_EXAMPLES,
    PREDICT_EXAMPLES,
    OneLineParser,
    add_verbosity,
    completion_script,
    positive,
    probability,
    share_below_one,
)
from gfscreen.config import PRESETS
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.stopping import Stopped, stop_on_signals
from gfscreen.version import __version__

logger = logging.getLogger("gfscreen")

EXIT_FAILED = 1
# Extra that brings what a command imports beyond the core.
EXTRAS = {"train": "train", "convert": "gpu", "export": "gpu", "init": "gpu"}


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="find and outline lesions in CT scans",
        description="Find and outline lesions. Each scan X_0000.nii.gz gives a binary mask X.nii.gz.",
        epilog=PREDICT_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "-i", "--input", type=Path, required=True, metavar="IN", help="a scan, a folder of scans, a DICOM folder or zip"
    )
    files.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the masks")
    files.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights folder (default: GFSCREEN_WEIGHTS or ./weights)"
    )
    files.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    files.add_argument(
        "--resume", action="store_true", help="keep masks that an earlier run finished, screen the other scans"
    )
    files.add_argument(
        "--empty-mask-on-failure",
        action="store_true",
        help="last resort: an empty mask for a scan that was read but could not be screened; it still counts as failed",
    )
    files.add_argument(
        "--statistics", type=Path, metavar="FILE.json", help="measure every lesion; the same as a table in FILE.csv"
    )
    files.add_argument("--preview", type=Path, metavar="DIR", help="a picture per case and one page with a viewer")
    dicom = parser.add_argument_group("DICOM")
    dicom_commands.add_series_option(dicom)
    dicom.add_argument(
        "--dicom-seg", type=Path, metavar="DIR", help="also write each mask as DICOM SEG (needs the extra `dicom`)"
    )
    method = parser.add_argument_group("method (default: what the weights were made with)")
    method.add_argument(
        "--region", choices=("auto", "chest", "abdomen"), default="auto", help="HU window (default: auto)"
    )
    method.add_argument("--overlap", type=share_below_one, metavar="F", help="overlap of neighbouring sub-volumes")
    method.add_argument("--gate", type=probability, metavar="P", help="focus above this; 0 is the dense sliding window")
    method.add_argument(
        "--keep-share",
        type=probability,
        metavar="F",
        help="for timing untrained weights: focus on this share of the sub-volumes, whatever --gate",
    )
    limits = parser.add_argument_group("machine and limits")
    limits.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:N", help="default: auto")
    limits.add_argument("--engine", default="auto", choices=("auto", "torch", "openvino"), help="default: auto")
    limits.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "bf16", "fp32"),
        help="auto: half where the device computes in it",
    )
    limits.add_argument("--time-limit", type=positive, metavar="S", help="seconds per case, from process start")
    limits.add_argument("--gpu-memory-limit", type=positive, metavar="MB", help="GPU memory cap, CUDA context included")
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from gfscreen.run.options import Options, default_weights
    from gfscreen.run.predict import predict
    from gfscreen.command.progress import terminal_progress
    from gfscreen.screening.screening import Settings, no_progress

    options = Options(
        source=args.input,
        output=args.output,
        weights=args.weights or default_weights(),
        device=args.device,
        engine=args.engine,
        precision=args.precision,
        settings=Settings(args.region, args.overlap, args.gate, args.keep_share),
        time_limit_s=args.time_limit,
        gpu_memory_limit_mb=args.gpu_memory_limit,
        report=args.report,
        resume=args.resume,
        empty_mask_on_failure=args.empty_mask_on_failure,
        series=args.series,
        dicom_seg=args.dicom_seg,
        statistics=args.statistics,
        preview=args.preview,
    )
    return predict(options, no_progress if args.quiet else terminal_progress())


def _add_dicom(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    dicom_commands.configure_series(commands.add_parser("series", help="list the series of a DICOM study"))
    dicom_commands.configure_seg(commands.add_parser("seg", help="turn a mask into a DICOM SEG of its series"))


def _add_stats(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "stats",
        help="measure the lesions of masks that exist already",
        description="Measure every lesion of a mask, or of a folder of masks, on its scan. Needs no weights.",
        epilog="exit codes: 0 all cases measured, 1 some case failed, 2 wrong usage",
    )
    parser.add_argument("--image", type=Path, required=True, metavar="IN", help="a scan, or a folder of scans")
    parser.add_argument("--mask", type=Path, required=True, metavar="MASK", help="its mask, or a folder of masks")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE.json", help="the same as a table goes to FILE.csv"
    )
    parser.add_argument("--preview", type=Path, metavar="DIR", help="a picture per case and one page with a viewer")
    parser.set_defaults(run=_stats)


def _stats(args: argparse.Namespace) -> int:
    from gfscreen.run.existing_masks import run

    return run(args.image, args.mask, args.output, args.preview)


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("info", help="show weights, presets, engines and limits")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights folder (default: GFSCREEN_WEIGHTS or ./weights)"
    )
    parser.set_defaults(run=_info)


def _info(args: argparse.Namespace) -> int:
    from gfscreen.command.info import collect, describe
    from gfscreen.run.options import default_weights

    data = collect(args.weights or default_weights())
    sys.stdout.write((json.dumps(data, indent=2) if args.json else describe(data)) + "\n")
    return 0


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("convert", help="turn a published checkpoint (.pt) into a weights folder")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.pt", help="checkpoint with both networks")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="weights folder to write")
    parser.add_argument(
        "--patch-merging",
        choices=("legacy", "monai"),
        default="legacy",
        help="legacy: trained before MONAI 1.5, as every published checkpoint (default)",
    )
    parser.add_argument("--precision", choices=("keep", "float16", "float32"), default="keep", help="default: keep")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    from gfscreen.networks.models.published import convert_checkpoint

    manifest = convert_checkpoint(args.checkpoint, args.output, merging=args.patch_merging, precision=args.precision)
    logger.info("%s: written, %.1f MB", args.output, sum(manifest.bytes.values()) / 1e6)
    return 0


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="export weights to OpenVINO, for CPUs and for images without torch")
    parser.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights folder (default: GFSCREEN_WEIGHTS or ./weights)"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: `openvino` in the weights folder")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from gfscreen.networks.engines.export import default_export, export_openvino
    from gfscreen.run.options import default_weights

    weights = args.weights or default_weights()
    target = export_openvino(weights, args.output or default_export(weights))
    logger.info("%s: written", target)
    return 0


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("init", help="make untrained weights of a preset, for tests and timing")
    parser.add_argument("--preset", choices=PRESETS, required=True, help="networks and plan")
    parser.add_argument("--seed", type=int, default=0, help="of the random weights (default: 0)")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="weights folder to write")
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from gfscreen.config import preset_plan
    from gfscreen.networks.models.weights import init_weights

    init_weights(args.output, preset_plan(args.preset), args.seed)
    logger.info("%s: untrained %s weights written", args.output, args.preset)
    return 0


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser], chosen: bool) -> None:
    parser = commands.add_parser("train", help="train both networks on your data")
    if chosen:
        # Only then: the predict path imports nothing of training.
        from gfscreen.command import training_commands as training

        training.configure(parser)
        parser.set_defaults(run=training.run)


def _add_completion(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("completion", help="print the completion script of a shell")
    parser.add_argument("shell", choices=("bash", "zsh", "tcsh"), help="whose completion")
    parser.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> int:
    sys.stdout.write(completion_script(build_parser(["train"]), args.shell) + "\n")
    return 0


def command_of(argv: Sequence[str]) -> str | None:
    """The command that arguments call: the first that is no option."""
    return next((argument for argument in argv if not argument.startswith("-")), None)


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line; the arguments of `train` are there only if `argv` calls it."""
    parser = OneLineParser(
        prog="gfscreen",
        description="Pan-cancer screening in CT: glance, then focus.",
        epilog=MAIN_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"gfscreen {__version__}")
    add_verbosity(parser, False)
    commands: argparse._SubParsersAction[Any] = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="command", title="commands"
    )
    for add in (_add_predict, _add_stats, _add_dicom, _add_info):
        add(commands)
    _add_train(commands, chosen=command_of(argv) == "train")
    for add in (_add_convert, _add_export, _add_init, _add_completion):
        add(commands)
    for command in commands.choices.values():
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
    from gfscreen.command.progress import TerminalHandler

    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = TerminalHandler(sys.stderr)
    handler.setFormatter(_OneLine())
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(arguments).parse_args(arguments)
    _configure_logging(args.quiet, args.verbose)
    try:
        with stop_on_signals() if args.run is _predict else nullcontext():
            return int(args.run(args))
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
