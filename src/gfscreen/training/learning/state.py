"""All that a run must keep to go on as if it had never stopped: weights, optimiser, averages, counters, random states.

A checkpoint appears whole or not at all; when the disk is full the old one stays.
"""

from __future__ import annotations

import copy
import io
import pickle
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from gfscreen.config import from_json
from gfscreen.errors import OutputError, WeightsError
from gfscreen.files import write_atomically
from gfscreen.networks.models.glance import Glance
from gfscreen.training.settings import TrainingSettings

CHECKPOINT_FILE = "checkpoint.pt"
CHECKPOINT_FORMAT = 1
# Settings that may differ when a run is resumed: how it is run, not what is trained.
RESUMABLE = frozenset(
    {
        "steps",
        "threads",
        "draw_workers",
        "log_every",
        "checkpoint_minutes",
        "evaluate_minutes",
        "evaluation_crops",
        "init",
        "init_glance",
    }
)


class Average:
    """Exponential moving average of a network's weights; buffers are copied as they are.

    The decay grows from 0 with the number of updates n as n / (n + 10) until it reaches `decay`, so that the random
    start is forgotten.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.network = copy.deepcopy(network).requires_grad_(requires_grad=False)
        self.network.eval()

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present weights."""
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        own = dict(self.network.named_parameters())
        for name, value in network.named_parameters():
            own[name].lerp_(value, 1.0 - decay)
        for mine, buffer in zip(self.network.buffers(), network.buffers(), strict=True):
            mine.copy_(buffer)


@dataclass
class Run:
    """Networks and counters of a run. step: finished steps. seconds: training time of all sessions together.

    value_head: what PPO compares rewards with; None for the other gates.
    """

    glance: Glance
    focus: nn.Module
    reference: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    focus_average: Average
    step: int = 0
    seconds: float = 0.0
    value_head: nn.Module | None = None


def _random_states() -> dict[str, Any]:
    states: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": np.random.get_state(),  # noqa: NPY002 - the global generator, should a library use it
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random_states(states: dict[str, Any]) -> None:
    torch.set_rng_state(states["torch"])
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])  # noqa: NPY002
    if torch.cuda.is_available() and "cuda" in states:
        torch.cuda.set_rng_state_all(states["cuda"])


def save_checkpoint(folder: Path, run: Run, settings: TrainingSettings) -> None:
    """Write the run's checkpoint. Raises OutputError; the previous checkpoint then still stands."""
    data = {
        "format": CHECKPOINT_FORMAT,
        "settings": settings.to_json(),
        "step": run.step,
        "seconds": run.seconds,
        "glance": run.glance.state_dict(),
        "focus": run.focus.state_dict(),
        "reference": run.reference.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "scaler": run.scaler.state_dict(),
        "focus_average": run.focus_average.network.state_dict(),
        "focus_average_updates": run.focus_average.updates,
        "random": _random_states(),
    }
    if run.value_head is not None:
        data["value_head"] = run.value_head.state_dict()
    stream = io.BytesIO()
    torch.save(data, stream)
    try:
        write_atomically(folder / CHECKPOINT_FILE, stream.getvalue())
    except OSError as error:
        raise OutputError(
            f"{folder / CHECKPOINT_FILE}: cannot be written ({error.strerror or error}); the previous checkpoint "
            "stands, free some space and resume"
        ) from error


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint that `save_checkpoint` wrote. It is a pickle: read only your own. Raises WeightsError."""
    try:
        data = torch.load(path, map_location="cpu", weights_only=False)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no checkpoint to resume from; leave out --resume to start anew") from error
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: not a readable checkpoint ({str(error).splitlines()[0]}); start anew") from error
    if not isinstance(data, dict) or data.get("format") != CHECKPOINT_FORMAT:
        raise WeightsError(f"{path}: is no checkpoint of this program's training; name the folder of a run")
    return data


def settings_of(data: dict[str, Any], source: str) -> TrainingSettings:
    """The settings that a checkpoint was made with; those newer than it have their defaults. Raises WeightsError."""
    try:
        settings: TrainingSettings = from_json(TrainingSettings, data["settings"], "settings")
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(
            f"{source}: its settings are not known to this version ({error}); use the version that made it, or start "
            "a new run"
        ) from error
    return settings


def restore(run: Run, data: dict[str, Any], settings: TrainingSettings, source: str) -> None:
    """Bring the run to the checkpoint's state. Raises WeightsError if it was made with other settings."""
    ours, theirs = settings.to_json(), settings_of(data, source).to_json()
    for key in sorted(set(ours) | set(theirs)):
        if key not in RESUMABLE and ours.get(key) != theirs.get(key):
            raise WeightsError(
                f"{source}: was made with {key} {theirs.get(key)!r}, the settings say {ours.get(key)!r}; "
                "resume with the same settings or start a new run"
            )
    if run.value_head is not None:
        if "value_head" not in data:
            raise WeightsError(
                f"{source}: has no value_head, which gate {settings.gate} needs to go on; start a new run from its "
                "Glance (init_glance)"
            )
        run.value_head.load_state_dict(data["value_head"])
    run.glance.load_state_dict(data["glance"])
    run.focus.load_state_dict(data["focus"])
    run.reference.load_state_dict(data["reference"])
    run.optimizer.load_state_dict(data["optimizer"])
    run.scaler.load_state_dict(data["scaler"])
    run.focus_average.network.load_state_dict(data["focus_average"])
    run.focus_average.updates = data["focus_average_updates"]
    run.step, run.seconds = data["step"], data["seconds"]
    _restore_random_states(data["random"])
