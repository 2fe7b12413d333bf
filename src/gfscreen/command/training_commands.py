"""`python -m gfscreen train`: the command line of training."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path

from gfscreen.errors import UsageError

log = logging.getLogger(__name__)

SETTINGS_FILE = "settings.json"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `train`."""
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help="data list (Decathlon-style JSON), or a folder with images/ and labels/",
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the run")
    parser.add_argument("--preset", choices=("paper", "fast"), help="networks and settings to start from")
    parser.add_argument("--config", type=Path, help="settings file (JSON); its keys go over the preset's")
    parser.add_argument("--cache", type=Path, help="folder of prepared scans (default: cache/ beside the run)")
    parser.add_argument("--resume", action="store_true", help="go on from the run's checkpoint")
    parser.add_argument("--max-minutes", type=float, help="stop after this much training, earlier sessions included")
    parser.add_argument("--steps", type=int, help="stop after this many steps (over the settings)")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")


def run(arguments: argparse.Namespace) -> int:
    """Train; exit code 0. Errors are raised as GFScreenError for the caller to report."""
    from dataclasses import replace

    from gfscreen.networks.engines.allocator import keep_large_buffers
    from gfscreen.files import write_atomically
    from gfscreen.training.data.lists import read_list
    from gfscreen.training.learning.distributed import start_world
    from gfscreen.training.learning.loop import Job, train
    from gfscreen.training.settings import settings_from
    from gfscreen.training.learning.state import CHECKPOINT_FILE

    if arguments.max_minutes is not None and arguments.max_minutes <= 0:
        raise UsageError(f"--max-minutes must be above 0, got {arguments.max_minutes:g}")
    settings = settings_from(arguments.preset, arguments.config)
    if arguments.steps is not None:
        if arguments.steps < 1:
            raise UsageError(f"--steps must be at least 1, got {arguments.steps}")
        settings = replace(settings, steps=arguments.steps)
    data = read_list(arguments.data)
    output: Path = arguments.output
    if (output / CHECKPOINT_FILE).exists() and not arguments.resume:
        raise UsageError(f"{output}: holds a checkpoint already; add --resume to go on or name another folder")
    if settings.schedule == "clock" and arguments.max_minutes is None:
        raise UsageError("schedule 'clock' needs --max-minutes")
    keep_large_buffers()
    world = start_world(arguments.device)
    try:
        if world.first:
            output.mkdir(parents=True, exist_ok=True)
            write_atomically(output / SETTINGS_FILE, (json.dumps(settings.to_json(), indent=2) + "\n").encode())
        cache = arguments.cache or output.parent / "cache"
        train(settings, Job(data, cache, output, arguments.resume, arguments.max_minutes), world)
    finally:
        world.close()
    return 0
