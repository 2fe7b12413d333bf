"""`gfscreen pacs` screens the CT series of an archive and sends DICOM SEG and SR back."""

from __future__ import annotations

import argparse
from pathlib import Path

from gfscreen.command.arguments import Commands, add_weights_option, at_least_zero, positive
from gfscreen.command.cohort_commands import add_archive_options, add_method_options, method_options


def add_pacs(commands: Commands) -> None:
    """Add `pacs`."""
    parser = commands.add_parser(
        "pacs",
        help="screen CT series of a DICOMweb archive and send back SEG and SR",
        description="Find CT series by QIDO, fetch them by WADO, screen them, and store a DICOM SEG and an SR by STOW.",
        epilog="exit codes: 0 every series is stored, 1 some failed or were refused, 2 wrong usage, 128 + N stopped",
    )
    archive = parser.add_argument_group("archive")
    archive.add_argument(
        "-u", "--url", required=True, metavar="URL", help="http(s)://HOST/PATH of its DICOMweb service"
    )
    add_archive_options(archive)
    archive.add_argument("--study", metavar="UID", help="only series of this Study Instance UID")
    archive.add_argument("--study-date", metavar="YYYYMMDD[-YYYYMMDD]", help="only studies of this day, or from to")
    archive.add_argument("--watch", action="store_true", help="go on, and take series as they arrive and are complete")
    archive.add_argument(
        "--poll", type=positive, default=30.0, metavar="S", help="with --watch: seconds between looks (default: 30)"
    )
    archive.add_argument(
        "--stable",
        type=at_least_zero,
        default=60.0,
        metavar="S",
        help="with --watch: a series is complete when nothing was added for so long (default: 60)",
    )
    files = parser.add_argument_group("files")
    files.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder for records, SEG and SR")
    add_weights_option(files)
    add_method_options(parser)
    parser.set_defaults(run=_pacs)


def _pacs(args: argparse.Namespace) -> int:
    from gfscreen.pacs.address import archive_address
    from gfscreen.pacs.options import PacsOptions
    from gfscreen.pacs.run import run_pacs

    options = PacsOptions(
        archive=archive_address(args.url, args.user, args.password_file, args.ca),
        output=args.output.absolute(),
        study=args.study,
        study_date=args.study_date,
        watch=args.watch,
        poll_s=args.poll,
        stable_s=args.stable,
        **method_options(args),
    )
    return run_pacs(options)
