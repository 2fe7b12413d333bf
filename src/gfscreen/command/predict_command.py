"""`gfscreen predict` screens scans; `gfscreen stats` measures masks that exist already."""

from __future__ import annotations

import argparse
from pathlib import Path

from gfscreen.command import dicom_commands
from gfscreen.command.arguments import (
    PREDICT_EXAMPLES,
    Commands,
    add_weights_option,
    at_least_zero,
    inner_probability,
    positive,
    probability,
    share_below_one,
)
from gfscreen.config import OPERATING_POINTS


def add_predict(commands: Commands) -> None:
    """Add `predict`."""
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
    add_weights_option(files)
    files.add_argument("--report", type=Path, metavar="FILE", help="write a JSON report")
    files.add_argument(
        "--resume", action="store_true", help="keep masks that an earlier run finished, screen the other scans"
    )
    files.add_argument(
        "--overwrite", action="store_true", help="replace a mask that an earlier run made of another scan"
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
    files.add_argument(
        "--instances", type=Path, metavar="DIR", help="number of the finding at every voxel, as in the statistics"
    )
    files.add_argument(
        "--probabilities", type=Path, metavar="DIR", help="Focus's lesion probability at every voxel, 0 to 1"
    )
    dicom = parser.add_argument_group("DICOM")
    dicom_commands.add_series_option(dicom)
    dicom.add_argument(
        "--dicom-seg", type=Path, metavar="DIR", help="also write each mask as DICOM SEG (needs the extra `dicom`)"
    )
    method = parser.add_argument_group("method (default: what the weights were made with)")
    method.add_argument(
        "--region", choices=("auto", "chest", "abdomen"), default="auto", help="HU window (default: auto)"
    )
    method.add_argument(
        "--operating-point",
        choices=OPERATING_POINTS,
        help="values that come with the weights for finding more or marking less; options beside it go over it",
    )
    method.add_argument("--overlap", type=share_below_one, metavar="F", help="overlap of neighbouring sub-volumes")
    method.add_argument("--gate", type=probability, metavar="P", help="focus above this; 0 is the dense sliding window")
    method.add_argument(
        "--lesion-threshold", type=inner_probability, metavar="P", help="voxels above this are lesion; lower finds more"
    )
    method.add_argument(
        "--finding-peak",
        type=inner_probability,
        metavar="P",
        help="keep a finding if it is somewhere above this; at least the threshold",
    )
    method.add_argument(
        "--finding-from",
        type=share_below_one,
        metavar="P",
        help="keep a finding if by its shape and border it is lesion with a probability above this; 0 keeps all",
    )
    method.add_argument(
        "--min-volume-ml", type=at_least_zero, metavar="V", help="keep a finding of at least this volume; 0 keeps all"
    )
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
    from gfscreen.command.progress import terminal_progress
    from gfscreen.run.options import Options, default_weights
    from gfscreen.run.predict import predict
    from gfscreen.screening.progress import no_progress
    from gfscreen.screening.settings import ScreeningSettings

    options = Options(
        source=args.input,
        output=args.output,
        weights=args.weights or default_weights(),
        device=args.device,
        engine=args.engine,
        precision=args.precision,
        settings=ScreeningSettings(
            args.region,
            args.overlap,
            args.gate,
            args.keep_share,
            lesion_threshold=args.lesion_threshold,
            finding_peak=args.finding_peak,
            finding_from=args.finding_from,
            min_volume_ml=args.min_volume_ml,
            operating_point=args.operating_point,
        ),
        time_limit_s=args.time_limit,
        gpu_memory_limit_mb=args.gpu_memory_limit,
        report=args.report,
        resume=args.resume,
        empty_mask_on_failure=args.empty_mask_on_failure,
        overwrite=args.overwrite,
        series=args.series,
        dicom_seg=args.dicom_seg,
        statistics=args.statistics,
        preview=args.preview,
        instances=args.instances,
        probabilities=args.probabilities,
    )
    return predict(options, no_progress if args.quiet else terminal_progress())


def add_stats(commands: Commands) -> None:
    """Add `stats`."""
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
    parser.add_argument(
        "--instances", type=Path, metavar="DIR", help="number of the lesion at every voxel, as in the statistics"
    )
    parser.set_defaults(run=_stats)


def _stats(args: argparse.Namespace) -> int:
    from gfscreen.run.existing_masks import run

    return run(args.image, args.mask, args.output, args.preview, args.instances)
