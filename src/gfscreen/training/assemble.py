"""Put the Focus of one run and the Glance of another into a weights folder, with the gate that validation chose.

python -m gfscreen.training.assemble --focus runs/focus --glance runs/glance_grpo -o weights --gate 0.62
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from gfscreen.config import from_json
from gfscreen.errors import GFScreenError, UsageError
from gfscreen.models.manifest import Manifest
from gfscreen.models.weights import save_weights
from gfscreen.training.settings import Settings
from gfscreen.training.state import CHECKPOINT_FILE, read_checkpoint

log = logging.getLogger(__name__)


def assemble(focus: Path, glance: Path, target: Path, gate: float | None = None) -> Manifest:
    """Write the weights folder. Raises WeightsError if a run has no checkpoint, UsageError if the presets differ."""
    focus_data, glance_data = (read_checkpoint(folder / CHECKPOINT_FILE) for folder in (focus, glance))
    of_focus, of_glance = (from_json(Settings, data["settings"], "settings") for data in (focus_data, glance_data))
    if of_focus.preset != of_glance.preset:
        raise UsageError(f"{focus} is of preset {of_focus.preset}, {glance} of {of_glance.preset}; they must agree")
    plan = replace(of_focus.plan, glance=of_glance.plan.glance)
    if gate is not None:
        plan = replace(plan, gate=gate)
    averaged = "focus_average" if of_focus.ema else "focus"
    info = {
        "focus_steps": focus_data["step"],
        "focus_minutes": round(focus_data["seconds"] / 60, 1),
        "glance_steps": glance_data["step"],
        "glance_gate": of_glance.gate,
    }
    return save_weights(target, plan, glance_data["glance"], focus_data[averaged], info=info)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if a run cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m gfscreen.training.assemble", description="Make a weights folder.")
    parser.add_argument("--focus", type=Path, required=True, help="folder of the run with the Focus")
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
