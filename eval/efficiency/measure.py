"""Measure time, GPU memory, CPU and RAM of an image or a command, one case at a time, as the organisers do."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from eval.efficiency.gpu import GpuProbe, open_gpu
from eval.efficiency.launch import CommandLaunch, ContainerLaunch, Launch, image_problem
from eval.efficiency.results import write_case, write_summary
from eval.efficiency.runner import find_cases, run_cases
from gfscreen.cpus import usable_cpus
from gfscreen.errors import UsageError

INTERRUPTED = 130


def add_launch_arguments(parser: argparse.ArgumentParser, required: bool) -> None:
    """What to run and how; shared with `table4`."""
    what = parser.add_mutually_exclusive_group(required=required)
    what.add_argument("--image", help="container image, run as the organisers do")
    what.add_argument(
        "--command", dest="local_command", help="local command with {input}, {output} and, if wanted, {report}"
    )
    parser.add_argument("--cpus", type=float, help="limit the container to this many cores")
    parser.add_argument("--docker-args", default="", help="more arguments of docker run, in one string")
    parser.add_argument("--gpu-index", type=int, default=0, help="device to pass and to sample (default: %(default)s)")
    parser.add_argument("--no-report", action="store_true", help="do not mount a folder for the product's report")
    parser.add_argument("--timeout", type=float, default=1800.0, help="s until a case is killed (default: %(default)s)")
    parser.add_argument("--idle", type=float, default=1.0, help="s of baseline before a case (default: %(default)s)")


def configure(parser: argparse.ArgumentParser) -> None:
    """Arguments of `python -m eval efficiency`."""
    parser.add_argument("-i", "--input", type=Path, required=True, help="folder of X_0000.nii.gz, or one file")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    add_launch_arguments(parser, required=True)
    parser.add_argument("--name", help="team name in NAME_Efficiency.csv (default: the image's name)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON on stdout")


def run(args: argparse.Namespace) -> int:
    """Measure. Exit 0: every case ran; 1: some case failed; 2: wrong usage; 130: interrupted."""
    cases = find_cases(args.input)
    if not cases:
        raise UsageError(f"{args.input}: no scan X_0000.nii.gz")
    summary = measure_cases(cases, args.output, args)
    sys.stdout.write(json.dumps(summary, indent=2) + "\n" if args.json else _brief(summary))
    return exit_code(summary)


def measure_cases(
    cases: Sequence[Path], out: Path, args: argparse.Namespace, earlier: Sequence[dict[str, Any]] = ()
) -> dict[str, Any]:
    """Run the cases with the arguments of `add_launch_arguments`, write every file, return the summary.

    `earlier`: details of cases measured before, which go into the summary first.

    Raises:
        UsageError: the arguments or the image cannot be used.

    """
    gpu = open_gpu(args.gpu_index)
    previous = signal.signal(signal.SIGTERM, _as_interrupt)  # a polite kill must not leave a container either
    details = list(earlier)
    name = getattr(args, "name", None) or team_name(args.image)
    try:
        launch = make_launch(args, gpu)
        environment = describe_host(gpu)
        out.mkdir(parents=True, exist_ok=True)
        for measurement in run_cases(cases, out, launch, gpu, args.timeout, args.idle):
            details.append(write_case(out, measurement, launch.describe()))
            if measurement.error:
                sys.stderr.write(f"{measurement.status}: {measurement.error}\n")
        return write_summary(out, details, environment, name)
    finally:
        signal.signal(signal.SIGTERM, previous)
        if gpu is not None:
            gpu.close()


def make_launch(args: argparse.Namespace, gpu: GpuProbe | None) -> Launch:
    """The way to run a case that the arguments ask for."""
    if args.local_command is not None:
        try:
            return CommandLaunch(args.local_command)
        except ValueError as error:
            raise UsageError(str(error)) from error
    problem = image_problem(args.image)
    if problem is not None:
        raise UsageError(problem)
    return ContainerLaunch(
        image=args.image,
        gpu_index=None if gpu is None else gpu.index,
        cpus=args.cpus,
        docker_args=tuple(shlex.split(args.docker_args)),
        with_report=not args.no_report,
    )


def team_name(image: str | None) -> str:
    """`registry/team:tag` to `team`; `command` for a local command."""
    if image is None:
        return "command"
    return re.sub(r"[:@].*$", "", image.rsplit("/", 1)[-1]) or "image"


def describe_host(gpu: GpuProbe | None) -> dict[str, Any]:
    """What the numbers depend on, without anything that names the machine."""
    return {
        "cpus": usable_cpus(),
        "ram_mb": round(psutil.virtual_memory().total / 2**20),
        "gpu": None if gpu is None else gpu.name,
        "gpu_total_mb": None if gpu is None else round(gpu.total_mb),
    }


def exit_code(summary: dict[str, Any]) -> int:
    """0, 1 or 130 from what became of the cases."""
    states = {case["status"] for case in summary["cases"]}
    if "interrupted" in states:
        return INTERRUPTED
    return 1 if states - {"ok"} else 0


def _as_interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _brief(summary: dict[str, Any]) -> str:
    lines = []
    for case in summary["cases"]:
        gpu = "GPU not measured" if case["gpu"] is None else f"GPU {case['gpu']['max_mb']:.0f} MB"
        own = case["own"] or {}
        ram = "-" if own.get("max_ram_mb") is None else f"{own['max_ram_mb']:.0f} MB"
        lines.append(f"{case['name']}: {case['status']}, {case['time_s']:.2f} s, {gpu}, own RAM {ram}")
    return "\n".join(lines) + "\n"
