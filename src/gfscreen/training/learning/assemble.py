"""Put the Focus of one run and the Glance of another into a weights folder, with the gate that validation chose.

    gfscreen assemble --focus runs/focus --glance runs/glance_grpo -o weights --gate 0.62
    gfscreen assemble --focus runs/focus --glance runs/glance_grpo --marks runs/cells -o weights
    gfscreen assemble --focus runs/on_from_weights --glance weights --thresholds weights -o better
    gfscreen assemble --focus weights --glance weights --second runs/other --thresholds weights -o better

Several runs with --focus, or with --glance, give the mean of their networks, which must come from one start (a run and
one that goes on from it, also with a channel more): it often holds what each of them has learnt. In place of a run's
folder a weights folder will do: those that ship and a run that went on from them (`init`). --second names the network
for second looks at small findings.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gfscreen.config import NO_MASSES, Plan, preset_plan, read_plan
from gfscreen.errors import UsageError
from gfscreen.network_plan import SecondFocusConfig
from gfscreen.networks.models.cell_glance import copy_trunk
from gfscreen.networks.models.focus import widened
from gfscreen.networks.models.manifest import MANIFEST_FILE, Manifest, verify
from gfscreen.networks.models.weights import load_head, load_second_focus, save_weights
from gfscreen.training.learning.initialisation import Learnt, read_learnt

log = logging.getLogger(__name__)

THRESHOLDS = ("lesion_threshold", "finding_peak", "finding_from", "min_finding_ml")
# What was chosen for networks as a whole, and `--thresholds` takes over.
CHOSEN = (
    "gate", "overlap", "second_look", *THRESHOLDS, "finding_model", "look_from", "mark_from",
    *NO_MASSES, "fluid", "operating_points",
)  # fmt: skip


def assemble(
    focus: Sequence[Path],
    glance: Sequence[Path],
    target: Path,
    gate: float | None = None,
    marks: Path | None = None,
    thresholds: Path | None = None,
    second: Path | None = None,
) -> Manifest:
    """Write the weights folder. Raises WeightsError if a source holds no networks, UsageError if they do not fit.

    marks: a weights folder whose cells say where Focus may mark, from its `mark_from` on; None for those that the first
    Glance has beside it, if it has any. thresholds: a weights folder whose gate, thresholds and operating points to
    keep, for networks that went on from its own; its networks must be of the same make. `gate` goes over it. second: a
    run, or weights, whose Focus becomes the second one; None for the second Focus of `thresholds`, or of the first
    Focus, if they have one.
    """
    readers, judges = [read_learnt(folder) for folder in focus], [read_learnt(folder) for folder in glance]
    first = readers[0]
    for other in [*readers[1:], *judges]:
        if other.plan.preset != first.plan.preset:
            raise UsageError(
                f"{first.folder} is of preset {first.plan.preset}, {other.folder} of {other.plan.preset}; "
                "they must agree"
            )
    widest = max((reader.plan.focus for reader in readers), key=lambda config: config.channels)
    for other in readers[1:]:
        same_make = replace(other.plan.focus, hu_channels=first.plan.focus.hu_channels) == first.plan.focus
        if not same_make or other.plan.nnunet != first.plan.nnunet:
            raise UsageError(f"{first.folder} and {other.folder} hold different Focus networks; they have no mean")
    for other in judges[1:]:
        if (other.plan.glance, other.plan.cells) != (judges[0].plan.glance, judges[0].plan.cells):
            raise UsageError(f"{judges[0].folder} and {other.folder} hold different Glance networks; they have no mean")
    preset = preset_plan(first.plan.preset)
    plan = replace(preset, weights="trained", focus=widest, glance=judges[0].plan.glance)
    if len(readers) == 1:
        # They belong to the weights: a mean, or a run that went on from these, has others.
        plan = replace(plan, focus_int8=first.plan.focus_int8)
    if first.plan.nnunet is not None:
        plan = replace(plan, nnunet=first.plan.nnunet, second_look=0.0)
    for judge in judges:
        if not judge.glance:
            raise UsageError(f"{judge.folder} has no Glance; name a run, or weights, that have one")
    beside: dict[str, Tensor] | None = None
    beside_info: dict[str, Any] = {}
    if judges[0].plan.gated_by_cells:
        # A gate on cells means nothing to another Glance, and the preset's nothing to them.
        own = judges[0].plan
        mark_from = own.mark_from if first.plan.nnunet is None else 0.0
        plan = replace(plan, cells=own.cells, gate=own.gate, mark_from=mark_from)
    if marks is not None or (judges[0].plan.marked_by_cells and plan.nnunet is None):
        plan, beside, beside_info = _with_marks(plan, marks or judges[0].folder)
    if thresholds is not None:
        plan = _with_thresholds(plan, thresholds)
    else:
        _say_what_is_the_presets(plan, [*readers, *judges])
    if gate is not None:
        plan = replace(plan, gate=gate)
    plan, second_state = _with_second(plan, second, [*([thresholds] if thresholds else []), focus[0]])
    info = {
        "focus_runs": [reader.folder.name for reader in readers],
        "focus_steps": [reader.focus_steps for reader in readers],
        "glance_runs": [judge.folder.name for judge in judges],
        "glance_steps": [judge.glance_steps for judge in judges],
        "glance_gate": judges[-1].gate,
        **beside_info,
        **({"second_focus_run": second.name} if second else {}),
    }
    states = mean([j.glance for j in judges]), mean([widened(r.focus, widest) for r in readers])
    if plan.cells is not None and (copied := copy_trunk(marks or judges[0].folder, target)):
        info["copied"] = copied
    return save_weights(target, plan, *states, cells_state=beside, second_state=second_state, info=info)


def _with_thresholds(plan: Plan, source: Path) -> Plan:
    """The plan with what another weights folder's plan chose. Raises UsageError where that means nothing here."""
    own = read_plan(source)
    # One may have gone on from it with a channel more, or narrower at full resolution.
    width = plan.focus.full_resolution_channels
    own = replace(own, focus=replace(own.focus, hu_channels=plan.focus.hu_channels, full_resolution_channels=width))
    for name in ("preset", "focus", "glance", "cells", "nnunet"):
        if getattr(own, name) != getattr(plan, name):
            raise UsageError(
                f"--thresholds {source}: has another {name}; choose thresholds anew with eval peak, findings and gates"
            )
    return replace(plan, **{name: getattr(own, name) for name in CHOSEN})


def _with_second(plan: Plan, second: Path | None, sources: Sequence[Path]) -> tuple[Plan, dict[str, Tensor] | None]:
    """The plan with a second Focus, and the second Focus's tensors; none where nobody has one.

    It is the Focus of `second`, or the second Focus of the first of `sources` that is a weights folder with one. Raises
    UsageError, WeightsError.
    """
    if second is not None:
        learnt = read_learnt(second)
        if learnt.plan.preset != plan.preset or learnt.plan.nnunet is not None or plan.nnunet is not None:
            raise UsageError(f"--second {second}: two Focuses of preset {plan.preset} go together, none of nnU-Net's")
        return replace(plan, second_focus=SecondFocusConfig(learnt.plan.focus, wide=True)), dict(learnt.focus)
    for source in sources:
        if plan.nnunet is not None or not (source / MANIFEST_FILE).is_file():
            continue
        verify(source)
        if (network := load_second_focus(source)) is not None:
            return replace(plan, second_focus=read_plan(source).second_focus), network.state_dict()
    return plan, None


def _say_what_is_the_presets(plan: Plan, sources: Sequence[Learnt]) -> None:
    """Thresholds belong to the networks that they were chosen for: those of a source are not taken over."""
    for source in sources:
        values = [(name, getattr(plan, name), getattr(source.plan, name)) for name in THRESHOLDS]
        if any(ours != theirs for _, ours, theirs in values):
            told = ", ".join(f"{name} {ours:g} (there {theirs:g})" for name, ours, theirs in values if ours != theirs)
            log.warning(
                "%s: not taken over, chosen for its own networks: %s; choose anew with python -m eval peak, "
                "or keep them with --thresholds",
                source.folder, told,
            )  # fmt: skip
            return


def _with_marks(plan: Plan, source: Path) -> tuple[Plan, dict[str, Tensor], dict[str, Any]]:
    """The plan with a weights folder's cells beside its Glance, their head, and what is told of how they were learnt.

    Raises UsageError, WeightsError.
    """
    manifest = verify(source)
    own = read_plan(source)
    if own.cells is None:
        raise UsageError(f"--marks {source}: has no cells; name weights that train-cells made")
    for other, what in ((plan.gated_by_cells, "a Glance that judges cells"), (plan.nnunet, "a Focus of nnU-Net's")):
        if other:
            raise UsageError(f"--marks {source}: {what} takes no other cells for its marks; leave out --marks")
    head = load_head(source, own)
    told = {key: manifest.info[key] for key in ("glance_cells",) if key in manifest.info}
    return replace(plan, cells=replace(own.cells, role="marks"), mark_from=own.mark_from), head.state_dict(), told


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of the floating-point tensors of equal networks, the first one's whole numbers; one alone is as it was."""
    if len(states) == 1:
        return dict(states[0])
    return {
        name: torch.stack([state[name].float() for state in states]).mean(dim=0)
        if tensor.is_floating_point()
        else tensor
        for name, tensor in states[0].items()
    }
