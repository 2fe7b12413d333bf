"""Put the Focus of one run and the Glance of another into a weights folder, with the gate that validation chose.

python -m gfscreen.training.assemble --focus runs/focus --glance runs/glance_grpo -o weights --gate 0.62

Several runs with --focus give the mean of their networks, which must come from one start (a run and one that goes on
from it): it often holds what each of them has learnt.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfscreen.config import from_json
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.models.manifest import Manifest
from gfscreen.models.weights import save_weights
from gfscreen.training.settings import Settings
from gfscreen.training.state import CHECKPOINT_FILE, read_checkpoint

log = logging.getLogger(__name__)


def assemble(focus: Sequence[Path], glance: Path, target: Path, gate: float | None = None) -> Manifest:
    """Write the weights folder. Raises WeightsError if a run has no checkpoint, UsageError if the runs do not fit."""
    readers, judge = [_Run(folder) for folder in focus], _Run(glance)
    first = readers[0]
    for other in [*readers[1:], judge]:
        if other.settings.preset != first.settings.preset:
            raise UsageError(
                f"{first.folder} is of preset {first.settings.preset}, {other.folder} of {other.settings.preset}; "
                "they must agree"
            )
    for other in readers[1:]:
        if other.settings.plan.focus != first.settings.plan.focus:
            raise UsageError(f"{first.folder} and {other.folder} hold different Focus networks; they have no mean")
    plan = replace(first.settings.plan, glance=judge.settings.plan.glance)
    if gate is not None:
        plan = replace(plan, gate=gate)
    info = {
        "focus_runs": [reader.folder.name for reader in readers],
        "focus_steps": [reader.data["step"] for reader in readers],
        "glance_run": glance.name,
        "glance_steps": judge.data["step"],
        "glance_gate": judge.settings.gate,
    }
    return save_weights(target, plan, judge.data["glance"], mean([r.focus for r in readers]), info=info)


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the floating-point tensors of equal networks; whole numbers are the first one's."""
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


class _Run:
    """A run's checkpoint and settings, and the Focus that it would save: the averaged one if it keeps an average."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data: dict[str, Any] = read_checkpoint(folder / CHECKPOINT_FILE)
        self.settings: Settings = from_json(Settings, self.data["settings"], "settings")

    @property
    def focus(self) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = self.data["focus_average" if self.settings.ema else "focus"]
        return state


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a run cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gfscreen.training.assemble", description="Make a weights folder.")
    parser.add_argument(
        "--focus",
        type=Path,
        required=True,
        action="append",
        help="folder of the run with the Focus; several: their mean",
    )
    parser.add_argument("--glance", type=Path, required=True, help="folder of the run with the Glance")
    parser.add_argument("-o", "--output", type=Path, required=True, help="weights folder to write")
    parser.add_argument("--gate", type=float, help="Focus runs above this probability (default: the preset's)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        assemble(arguments.focus, arguments.glance, arguments.output, arguments.gate)
    except (GFScreenError, ValueError) as error:
        log.error("%s", error)
        return 1
    log.info("weights written to %s", arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
