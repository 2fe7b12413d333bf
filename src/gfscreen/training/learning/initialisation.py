"""What a run starts from: networks, optimiser and reference policy, fresh or with the weights of others."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfscreen.config import Plan
from gfscreen.errors import UsageError
from gfscreen.networks.models.focus import fitted, keep_deepest_float32
from gfscreen.networks.models.glance import Glance
from gfscreen.networks.models.manifest import MANIFEST_FILE, read_manifest
from gfscreen.networks.models.weights import build_networks, load_state, load_stored, stored_state
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.state import CHECKPOINT_FILE, Average, Run, read_checkpoint, settings_of
from gfscreen.training.learning.value_head import ValueHead
from gfscreen.training.settings import TrainingSettings


@dataclass(frozen=True)
class Learnt:
    """The networks of a run or of a weights folder, and how they came about.

    focus: a run's averaged one if it has it. glance_trained: False if the Glance is what it was at random. *_steps,
    gate: as the run or the folder's makers noted them; None where they did not. glance: empty where there is none.
    """

    folder: Path
    plan: Plan
    focus: dict[str, Tensor]
    glance: dict[str, Tensor]
    glance_trained: bool
    focus_steps: Any
    glance_steps: Any
    gate: Any


def read_learnt(folder: Path) -> Learnt:
    """Read a run's folder or a weights folder. Raises WeightsError if it is neither."""
    if (folder / MANIFEST_FILE).is_file():
        plan, glance, focus = load_stored(folder)
        info = read_manifest(folder).info
        return Learnt(
            folder=folder,
            plan=plan,
            focus=focus.state_dict(),
            glance={} if glance is None else glance.state_dict(),
            glance_trained=glance is not None and plan.weights == "trained",
            focus_steps=info.get("focus_steps"),
            glance_steps=info.get("glance_steps"),
            gate=info.get("glance_gate"),
        )
    source = folder / CHECKPOINT_FILE
    data = read_checkpoint(source)
    settings = settings_of(data, str(source))
    return Learnt(
        folder=folder,
        plan=settings.plan,
        focus=data["focus_average" if settings.ema else "focus"],
        glance=data["glance"],
        glance_trained=settings.stage != "focus",
        focus_steps=data["step"],
        glance_steps=data["step"],
        gate=settings.gate,
    )


def build_run(settings: TrainingSettings, world: World) -> Run:
    """Networks with fresh weights, or those of `init`, their optimiser, and the frozen reference policy.

    A value head, if the gate has one, is always fresh: it belongs to a run, not to a Glance. It learns at its rate.
    Of weights whose Glance judges cells of a pretrained trunk only Focus can go on: UsageError where Glance is trained.
    """
    glance, focus = build_networks(settings.plan)
    assert isinstance(glance, Glance)  # the presets, and so all that is trained here, have no cells
    set_lesion_prior(focus, settings.lesion_prior)
    if settings.amp == "bf16" and settings.nnunet is None:
        keep_deepest_float32(focus)
    if settings.init:
        learnt = read_learnt(Path(settings.init))
        load_state(focus, stored_state(fitted(learnt.focus, settings.plan.focus)), settings.init)
        if learnt.plan.gated_by_cells:
            if settings.stage != "focus" and settings.gate != "none" and not settings.init_glance:
                raise UsageError(
                    f"init {settings.init}: its Glance judges cells of a pretrained trunk, which is not trained here; "
                    "set stage to focus, or name another Glance by init_glance"
                )
        elif learnt.glance_trained:
            load_state(glance, stored_state(learnt.glance), settings.init)
    if settings.init_glance:
        judge = read_learnt(Path(settings.init_glance))
        if not judge.glance:
            raise UsageError(f"init_glance {settings.init_glance}: has no Glance; name weights or a run that have one")
        load_state(glance, stored_state(judge.glance), settings.init_glance)
    glance, focus = glance.to(world.device), focus.to(world.device)
    # On a CPU a group of 12 takes 0.84 s in place of 1.09 so, in bf16 0.55 in place of 0.74; Focus gains nothing.
    glance = nn.utils.convert_conv3d_weight_memory_format(glance, torch.channels_last_3d)
    reference = copy.deepcopy(glance).requires_grad_(requires_grad=False)
    channels = settings.plan.glance.stage_channels[-1]
    value_head = ValueHead(channels).to(world.device) if settings.learns_value else None
    groups = []
    if settings.stage != "glance":
        groups.append({"params": list(focus.parameters()), "lr": settings.focus_learning_rate, "name": "focus"})
    if settings.stage != "focus" and settings.gate != "none":
        judges = [*glance.parameters(), *(value_head.parameters() if value_head else ())]
        groups.append({"params": judges, "lr": settings.glance_learning_rate, "name": "glance"})
    optimizer = torch.optim.AdamW(groups, weight_decay=settings.weight_decay)
    scaled = mixed_precision(settings, world) == torch.float16
    scaler = torch.amp.GradScaler(world.device.type, enabled=scaled)
    return Run(glance, focus, reference, optimizer, scaler, Average(focus, settings.ema), value_head=value_head)


def set_lesion_prior(focus: nn.Module, prior: float) -> None:
    """Start the Focus at this lesion probability: at 0.5 the first hundred steps only learn that most is background."""
    bias = dict(focus.named_parameters()).get("out.conv.conv.bias")
    if bias is not None and prior < 0.5:
        with torch.no_grad():
            bias.copy_(torch.tensor([0.0, math.log(prior / (1 - prior))]))


def mixed_precision(settings: TrainingSettings, world: World) -> torch.dtype | None:
    """The type that forward passes run in under autocast; None for float32 throughout."""
    if settings.amp == "auto":
        return torch.float16 if world.device.type == "cuda" else None
    return {"off": None, "fp16": torch.float16, "bf16": torch.bfloat16}[settings.amp]
