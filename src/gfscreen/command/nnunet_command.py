"""`gfscreen convert --nnunet`: the options, and what the command prints."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from gfscreen.errors import UsageError

logger = logging.getLogger("gfscreen")

_OPTIONS = ("folds", "configuration", "channels", "lesion", "glance", "mirror")


def add_nnunet_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `convert` that are for models of nnU-Net v2."""
    group = parser.add_argument_group("a model of nnU-Net v2 as Focus")
    group.add_argument(
        "--nnunet", type=Path, metavar="MODEL_FOLDER", help="folder with plans.json, dataset.json and fold_N"
    )
    group.add_argument(
        "--folds", metavar="N,N|all", help="folds to average, such as 0,1 (default: all that are finished)"
    )
    group.add_argument("--configuration", metavar="NAME", help="default: that which the checkpoint was trained with")
    group.add_argument(
        "--channels",
        metavar="C,C",
        help="how each of several input channels is made of the CT: ct, or an HU window LOW:HIGH; if the first is "
        "negative write --channels=-150:250,ct",
    )
    group.add_argument(
        "--lesion", metavar="NAME,NAME", help="labels or regions that are lesion (default: the only one)"
    )
    group.add_argument(
        "--glance", type=Path, metavar="DIR", help="weights folder whose Glance is to be the gate (default: no gate)"
    )
    group.add_argument("--mirror", action="store_true", help="read every patch mirrored as well (default: once)")


def refuse_nnunet_options(args: argparse.Namespace) -> None:
    """Raise UsageError for an option that is for nnU-Net's models alone."""
    for name in _OPTIONS:
        if getattr(args, name) not in (None, False):
            raise UsageError(f"convert --{name} is for models of nnU-Net v2; name one with --nnunet, or leave it out")


def convert_nnunet_model(args: argparse.Namespace) -> int:
    """Convert what `--nnunet` names. Raises UsageError, WeightsError."""
    from gfscreen.networks.models.nnunet_files import parse_channels

    if args.checkpoint is not None:
        raise UsageError(f"convert: both {args.checkpoint} and --nnunet {args.nnunet}; name one of them")
    try:
        windows = None if args.channels is None else parse_channels(args.channels)
    except ValueError as error:
        raise UsageError(f"convert --channels: {error}") from error
    from gfscreen.networks.models.nnunet_checkpoint import convert_nnunet

    manifest = convert_nnunet(
        args.nnunet,
        args.output,
        folds=args.folds,
        configuration=args.configuration,
        windows=windows,
        lesion=None if args.lesion is None else [name.strip() for name in args.lesion.split(",")],
        glance=args.glance,
        mirror=args.mirror,
        precision=args.precision,
    )
    logger.info("%s: written, %.1f MB", args.output, sum(manifest.bytes.values()) / 1e6)
    return 0
