"""Put the Focus of one run and the Glance of another into a weights folder, with the gate that validation chose.

python -m gfscreen.training.assemble --focus runs/focus --glance runs/glance_grpo -o weights --gate 0.62

Several runs with --focus give the mean of their networks, which must come from one start (a run and one that goes on
from it): it often holds what each of them has learnt. In place of a run's folder a weights folder will do: those that
ship and a run that went on from them (`init`).
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from gfscreen.config import preset_plan
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.models.manifest import Manifest
from gfscreen.models.weights import save_weights
from gfscreen.training.starting import read_learnt

log = logging.getLogger(__name__)


def assemble(focus: Sequence[Path], glance: Path, target: Path, gate: float | None = None) -> Manifest:
    """Write the weights folder. Raises WeightsError if a source holds no networks, UsageError if they do not fit."""
    readers, judge = [read_learnt(folder) for folder in focus], read_learnt(glance)
    first = readers[0]
    for other in [*readers[1:], judge]:
        if other.plan.preset != first.plan.preset:
            raise UsageError(
                f"{first.folder} is of preset {first.plan.preset}, {other.folder} of {other.plan.preset}; "
                "they must agree"
            )
    for other in readers[1:]:
        if other.plan.focus != first.plan.focus:
            raise UsageError(f"{first.folder} and {other.folder} hold different Focus networks; they have no mean")
    plan = replace(preset_plan(first.plan.preset), weights="trained", focus=first.plan.focus, glance=judge.plan.glance)
    if gate is not None:
        plan = replace(plan, gate=gate)
    info = {
        "focus_runs": [reader.folder.name for reader in readers],
        "focus_steps": [reader.focus_steps for reader in readers],
        "glance_run": glance.name,
        "glance_steps": judge.glance_steps,
        "glance_gate": judge.gate,
    }
    return save_weights(target, plan, judge.glance, mean([r.focus for r in readers]), info=info)


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the floating-point tensors of equal networks; whole numbers are the first one's."""
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a run cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gfscreen.training.assemble", description="Make a weights folder.")
    parser.add_argument(
        "--focus",
        type=Path,
        required=True,
        action="append",
        help="folder of a run or of weights with the Focus; several: their mean",
    )
    parser.add_argument("--glance", type=Path, required=True, help="folder of a run or of weights with the Glance")
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
