"""The command line: `gfscreen predict | info | convert | export | init | train`. Thin: it parses, calls, and exits.

Exit codes: 0 all cases written, 1 some case failed, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from gfscreen.config import PRESETS
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.version import __version__

logger = logging.getLogger("gfscreen")

EXIT_FAILED = 1
EXIT_USAGE = 2


def _probability(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise argparse.ArgumentTypeError(f"expected a probability from 0 to 1, got {text}")
    return value


def _overlap(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a share of at least 0 and below 1, got {text}")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text}")
    return value


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "predict",
        help="find and outline lesions in CT scans",
        description="Find and outline lesions. Each scan X_0000.nii.gz gives a binary mask X.nii.gz.",
        epilog="exit codes: 0 all cases written, 1 some case failed (the others are written), 2 wrong usage",
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "-i", "--input", type=Path, required=True, metavar="IN", help="a scan, a folder of scans, or a DICOM folder"
    )
    files.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the masks")
    files.add_argument(
        "--weights", type=Path, metavar="DIR", help="weights folder (default: GFSCREEN_WEIGHTS or ./weights)"
    )
    files.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    method = parser.add_argument_group("method (default: what the weights were made with)")
    method.add_argument(
        "--region", choices=("auto", "chest", "abdomen"), default="auto", help="HU window (default: auto)"
    )
    method.add_argument("--overlap", type=_overlap, metavar="F", help="overlap of neighbouring sub-volumes")
    method.add_argument(
        "--gate", type=_probability, metavar="P", help="focus above this; 0 is the dense sliding window"
    )
    method.add_argument(
        "--keep-share",
        type=_probability,
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
    limits.add_argument("--time-limit", type=_positive, metavar="S", help="seconds per case, from process start")
    limits.add_argument(
        "--gpu-memory-limit", type=_positive, metavar="MB", help="GPU memory cap, CUDA context included"
    )
    parser.set_defaults(run=_predict)


def _predict(args: argparse.Namespace) -> int:
    from gfscreen.predict import Options, default_weights, predict
    from gfscreen.progress import terminal_progress
    from gfscreen.screening import Settings

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
    )
    return predict(options, terminal_progress())


def _add_info(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("info", help="show weights, presets, engines and limits")
    parser.add_argument("--json", action="store_true", help="for machines")
    parser.add_argument("--weights", type=Path, metavar="DIR")
    parser.set_defaults(run=_info)


def _info(args: argparse.Namespace) -> int:
    from gfscreen.info import collect, describe
    from gfscreen.predict import default_weights

    data = collect(args.weights or default_weights())
    sys.stdout.write((json.dumps(data, indent=2) if args.json else describe(data)) + "\n")
    return 0


def _add_convert(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("convert", help="turn a published checkpoint (.pt) into a weights folder")
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT.pt")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.add_argument(
        "--patch-merging",
        choices=("legacy", "monai"),
        default="legacy",
        help="legacy: trained before MONAI 1.5, as every published checkpoint (default)",
    )
    parser.add_argument("--precision", choices=("keep", "float16", "float32"), default="keep", help="default: keep")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    from gfscreen.models.published import convert_checkpoint

    manifest = convert_checkpoint(args.checkpoint, args.output, merging=args.patch_merging, precision=args.precision)
    logger.info("%s: written, %.1f MB", args.output, sum(manifest.bytes.values()) / 1e6)
    return 0


def _add_export(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("export", help="export weights to OpenVINO, for CPUs and for images without torch")
    parser.add_argument("--weights", type=Path, metavar="DIR")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: `openvino` in the weights folder")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from gfscreen.engines.export import default_export, export_openvino
    from gfscreen.predict import default_weights

    weights = args.weights or default_weights()
    target = export_openvino(weights, args.output or default_export(weights))
    logger.info("%s: written", target)
    return 0


def _add_init(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("init", help="make untrained weights of a preset, for tests and timing")
    parser.add_argument("--preset", choices=PRESETS, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR")
    parser.set_defaults(run=_init)


def _init(args: argparse.Namespace) -> int:
    from gfscreen.config import preset_plan
    from gfscreen.models.weights import init_weights

    init_weights(args.output, preset_plan(args.preset), args.seed)
    logger.info("%s: untrained %s weights written", args.output, args.preset)
    return 0


def _add_train(commands: argparse._SubParsersAction[argparse.ArgumentParser], chosen: bool) -> None:
    parser = commands.add_parser("train", help="train both networks on your data")
    if chosen:
        # Only then: the predict path imports nothing of training.
        from gfscreen.training import cli as training

        training.configure(parser)
        parser.set_defaults(run=training.run)


def command_of(argv: Sequence[str]) -> str | None:
    """The command that arguments call: the first that is no option."""
    return next((argument for argument in argv if not argument.startswith("-")), None)


def build_parser(argv: Sequence[str] = ()) -> argparse.ArgumentParser:
    """The command line; the arguments of `train` are there only if `argv` calls it."""
    parser = argparse.ArgumentParser(prog="gfscreen", description="Pan-cancer screening in CT: glance, then focus.")
    parser.add_argument("--version", action="version", version=f"gfscreen {__version__}")
    parser.add_argument("-q", "--quiet", action="store_true", help="errors only")
    parser.add_argument("-v", "--verbose", action="store_true", help="more about what is done")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for add in (_add_predict, _add_info, _add_convert, _add_export, _add_init):
        add(commands)
    _add_train(commands, chosen=command_of(argv) == "train")
    return parser


def _configure_logging(quiet: bool, verbose: bool) -> None:
    level = logging.ERROR if quiet else logging.DEBUG if verbose else logging.INFO
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    logger.handlers[:] = [handler]
    logger.setLevel(level)
    logger.propagate = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Errors are one line on stderr."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    args = build_parser(arguments).parse_args(arguments)
    _configure_logging(args.quiet, args.verbose)
    try:
        return int(args.run(args))
    except UsageError as error:
        logger.error("%s", error)
        return EXIT_USAGE
    except (GFScreenError, OSError) as error:
        logger.error("%s", error)
        return EXIT_FAILED
