"""A Focus that is narrow at full resolution learns to answer like the wide one that it was cut from.

Only its blocks at full resolution learn; all that lies deeper, and with it what the wide one knows of lesions, stays
as it is, so one pass through the wide network serves both. No label is needed. Trained on labels as a whole instead, a
cut Focus forgot in an hour what its body knew (docs/records/focus-runs.md).
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from gfscreen.errors import UsageError
from gfscreen.networks.models.focus import LESION_CLASS, build_focus
from gfscreen.networks.models.weights import load_state, stored_state
from gfscreen.training.learning.distributed import World
from gfscreen.training.learning.initialisation import read_learnt
from gfscreen.training.settings import TrainingSettings

FULL_RESOLUTION = ("encoder1", "decoder1", "out")
# Beyond these logits (a probability of 0.03 % and 99.97 %) one answer is as good as another.
LARGEST_LOGIT = 8.0
# Where either network holds lesion for more likely than this logit (2 %) a voxel counts in full, elsewhere so much.
DOUBTFUL_LOGIT, ELSEWHERE = -4.0, 0.05


def imitation_loss(logits: Tensor, aim: Tensor) -> Tensor:
    """How far logits (N, 2, X, Y, Z) are from those aimed at, of lesion against background; a scalar, 0 if equal."""
    own, aim = (_lesion_logit(answer).clamp(-LARGEST_LOGIT, LARGEST_LOGIT) for answer in (logits, aim))
    weight = ELSEWHERE + (torch.maximum(own.detach(), aim) > DOUBTFUL_LOGIT).float()
    far = nn.functional.smooth_l1_loss(own, aim, reduction="none")
    return (weight * far).sum() / weight.sum()


class Imitation:
    """The wide Focus of `init`, and the narrow one that learns from it; freezes all but the latter's full resolution.

    Raises UsageError if the one was not cut from the other, or for several processes.
    """

    def __init__(self, settings: TrainingSettings, focus: nn.Module, world: World) -> None:
        if world.size > 1:
            raise UsageError("learns_from init: runs in one process; start it without torchrun")
        learnt = read_learnt(Path(settings.init or ""))
        wide, narrow = learnt.plan.focus, settings.plan.focus
        # Any other difference, of patch merging for one, would change the body that both share, without an error.
        may_differ = replace(narrow, full_resolution_channels=wide.full_resolution_channels)
        wrong = [name for name, value in asdict(may_differ).items() if value != getattr(wide, name)]
        if wrong:
            told = ", ".join(f"its {name} must be {getattr(narrow, name)}" for name in wrong)
            raise UsageError(f"learns_from init: this Focus is not cut from that of {settings.init}: {told}")
        self._focus = focus
        self._wide = build_focus(wide)
        load_state(self._wide, stored_state(learnt.focus), settings.init or "")
        self._wide.to(world.device).eval().requires_grad_(requires_grad=False)
        for name, parameter in focus.named_parameters():
            parameter.requires_grad_(name.split(".")[0] in FULL_RESOLUTION)
        self._below: Any = None
        # What the blocks below full resolution hand up.
        self._wide.get_submodule("decoder2").register_forward_hook(self._keep)

    def _keep(self, _module: nn.Module, _inputs: Any, output: Tensor) -> None:
        self._below = output

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, 2, X, Y, Z) of the narrow Focus, for sub-volumes (N, C, X, Y, Z), and those of the wide one.

        Only the former have a gradient, for the blocks at full resolution.
        """
        with torch.no_grad():
            aim = self._wide(images)
        below, self._below = self._below, None
        focus: Any = self._focus
        return focus.out(focus.decoder1(below, focus.encoder1(images))), aim


def _lesion_logit(logits: Tensor) -> Tensor:
    return logits[:, LESION_CLASS].float() - logits[:, 1 - LESION_CLASS].float()
