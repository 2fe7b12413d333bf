"""`gfscreen cohort run` screens very many series on Ray; `gfscreen cohort report` makes the worklist's page."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from gfscreen.command.arguments import Commands, add_weights_option, at_least_one, positive, shard
from gfscreen.config import OPERATING_POINTS

_RUN_EPILOG = """\
examples:
  gfscreen cohort run -i scans -o cohort                          a folder tree, on this machine
  gfscreen cohort run -i list.csv -o cohort --ray head:6379       a CSV manifest, on a Ray cluster
  gfscreen cohort run -i dicomweb+http://pacs/dicom-web -o cohort --user gfscreen   all CT series of an archive

exit codes: 0 every series has a mask, 1 some failed (the others are written), 2 wrong usage,
128 + N stopped by signal N (what was being screened is finished); run it again to go on"""


def add_cohort(commands: Commands) -> None:
    """Add `cohort` with its two commands."""
    parser = commands.add_parser("cohort", help="screen very many series on Ray, and list them by suspicion")
    actions = parser.add_subparsers(
        required=True, metavar="COMMAND", dest="action", title="commands", help="`run` screens, `report` lists"
    )
    _add_run(actions)
    _add_report(actions)


def add_archive_options(group: Any) -> None:
    """Who asks an archive, the same wherever one is asked."""
    group.add_argument("--user", metavar="NAME", help="basic authentication; password: GFSCREEN_PACS_PASSWORD")
    group.add_argument("--password-file", type=Path, metavar="FILE", help="its first line instead of the variable")
    group.add_argument("--ca", type=Path, metavar="FILE", help="certificates (PEM) to trust instead of the system's")


def _add_run(actions: Commands) -> None:
    parser = actions.add_parser(
        "run",
        help="screen every series of a folder tree, a manifest or an archive",
        description="Screen every series that is not finished yet. Run it again to go on, however it ended.",
        epilog=_RUN_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = parser.add_argument_group("files")
    files.add_argument(
        "-i", "--input", required=True, metavar="SOURCE", help="a folder tree, a CSV manifest or dicomweb+http://..."
    )
    files.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for all results")
    add_weights_option(files)
    files.add_argument("--retry-set-aside", action="store_true", help="try series again that ended their workers twice")
    cluster = parser.add_argument_group("cluster")
    cluster.add_argument(
        "--ray",
        default="local",
        metavar="ADDRESS",
        help="local, auto, HOST:PORT, ray://HOST:PORT or none (default: local)",
    )
    cluster.add_argument(
        "--workers", type=at_least_one, metavar="N", help="at most so many (default: as many as the cluster holds)"
    )
    cluster.add_argument(
        "--cpus-per-worker", type=at_least_one, default=2, metavar="N", help="of a worker without a GPU (default: 2)"
    )
    cluster.add_argument(
        "--shard", type=shard, metavar="K/N", help="every N-th series from the K-th on, for job arrays; no table"
    )
    add_archive_options(parser.add_argument_group("archive"))
    add_method_options(parser)
    parser.set_defaults(run=_run)


def add_method_options(parser: argparse.ArgumentParser) -> None:
    """What `predict` has too, of use where many scans are screened."""
    method = parser.add_argument_group("method and machine")
    method.add_argument(
        "--region", choices=("auto", "chest", "abdomen"), default="auto", help="HU window (default: auto)"
    )
    method.add_argument("--operating-point", choices=OPERATING_POINTS, help="as in predict")
    method.add_argument("--device", default="auto", metavar="auto|cpu|cuda", help="default: auto")
    method.add_argument("--engine", default="auto", choices=("auto", "torch", "openvino"), help="default: auto")
    method.add_argument("--precision", default="auto", choices=("auto", "bf16", "fp32"), help="as in predict")
    method.add_argument("--time-limit", type=positive, metavar="S", help="seconds per series")


def method_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `add_method_options` and the weights option asked for, as CohortOptions and PacsOptions take it."""
    from gfscreen.run.options import default_weights
    from gfscreen.screening.settings import ScreeningSettings

    return {
        "weights": (args.weights or default_weights()).absolute(),
        "device": args.device,
        "engine": args.engine,
        "precision": args.precision,
        "settings": ScreeningSettings(args.region, operating_point=args.operating_point),
        "time_limit_s": args.time_limit,
    }


def _run(args: argparse.Namespace) -> int:
    from gfscreen.cohort.options import CohortOptions
    from gfscreen.cohort.run import run_cohort
    from gfscreen.command.progress import terminal_line
    from gfscreen.pacs.address import SCHEME_PREFIX, archive_address

    archive = None
    if args.input.startswith(SCHEME_PREFIX):
        archive = archive_address(args.input, args.user, args.password_file, args.ca)
    options = CohortOptions(
        source=args.input,
        output=args.output.absolute(),
        ray=args.ray,
        workers=args.workers,
        cpus=args.cpus_per_worker,
        **method_options(args),
        retry_set_aside=args.retry_set_aside,
        shard=args.shard,
        archive=archive,
    )
    return run_cohort(options, None if args.quiet else terminal_line())


def _add_report(actions: Commands) -> None:
    parser = actions.add_parser(
        "report",
        help="one page with the worklist of a cohort",
        description="Make DIR/worklist.html and DIR/cohort.parquet of what is there, also while the cohort runs.",
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="the -o of `cohort run`")
    parser.add_argument(
        "--thumbnails", type=at_least_one, default=300, metavar="N", help="of the N most suspicious (default: 300)"
    )
    parser.set_defaults(run=_report)


def _report(args: argparse.Namespace) -> int:
    from gfscreen.cohort.worklist.page import write_page

    sys.stdout.write(f"{write_page(args.folder, args.thumbnails)}\n")
    return 0
