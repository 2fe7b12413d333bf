"""Weights on disk as safetensors: save, load, and a seeded untrained pair.

Floating-point tensors keep the precision they are given; buffers that the architecture fixes (Swin's position index,
batch-norm counters) are left out.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from gfscreen.config import PLAN_FILE, Plan, plan_to_json, read_plan
from gfscreen.errors import WeightsError
from gfscreen.files import write_atomically
from gfscreen.networks.models.cell_glance import CellGlance, CellHead, load_trunk
from gfscreen.networks.models.focus import build_focus
from gfscreen.networks.models.glance import Glance
from gfscreen.networks.models.manifest import (
    CELLS_FILE,
    FOCUS_FILE,
    GLANCE_FILE,
    SECOND_FOCUS_FILE,
    Manifest,
    verify,
    write_manifest,
)
from gfscreen.networks.models.nnunet import build_nnunet_focus
from gfscreen.version import __version__

_DERIVED_SUFFIXES = ("num_batches_tracked", "relative_position_index")


def build_networks(plan: Plan) -> tuple[Glance | CellHead, nn.Module]:
    """What is stored of both networks of a plan, with fresh weights, in training mode: not the trunk below a head.

    Nor the head of cells that stand beside a Glance.
    """
    # Glance first: a seed gives the same untrained weights as ever.
    glance = CellHead() if plan.gated_by_cells else Glance(plan.glance)
    return glance, build_focus(plan.focus) if plan.nnunet is None else build_nnunet_focus(plan.nnunet)


def stored_state(state: dict[str, Tensor], dtype: torch.dtype | None = None) -> dict[str, Tensor]:
    """The tensors of a state that are stored, contiguous on the CPU; floats cast to `dtype` if one is given."""
    kept = {name: value for name, value in state.items() if not name.endswith(_DERIVED_SUFFIXES)}
    return {
        name: (value.to(dtype) if dtype is not None and value.is_floating_point() else value)
        .detach()
        .cpu()
        .contiguous()
        for name, value in kept.items()
    }


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Load a stored state; every tensor that is not derived must be there, and no other, and be finite.

    Raises WeightsError.
    """
    own = network.state_dict()
    expected = {name for name in own if not name.endswith(_DERIVED_SUFFIXES)}
    given = {name for name in state if not name.endswith(_DERIVED_SUFFIXES)}
    problem = None
    if missing := sorted(expected - given):
        problem = f"{len(missing)} tensors are missing, first {missing[0]}"
    elif unknown := sorted(given - expected):
        problem = f"{len(unknown)} tensors are unknown, first {unknown[0]}"
    elif wrong := [name for name in sorted(given) if own[name].shape != state[name].shape]:
        name = wrong[0]
        problem = f"{name} has shape {tuple(state[name].shape)}, the plan says {tuple(own[name].shape)}"
    if problem:
        raise WeightsError(f"{source}: does not fit the plan: {problem}; use the plan that the weights were made with")
    # Asked of what is loaded, after the cast: NaN would spread over whole masks, or be hidden by a ReLU.
    loaded = {name: state[name].to(own[name].dtype) for name in sorted(expected)}
    if damaged := [name for name, value in loaded.items() if not bool(torch.isfinite(value).all())]:
        raise WeightsError(
            f"{source}: {len(damaged)} tensors hold NaN or infinity, first {damaged[0]}; restore the file, or train "
            "anew from weights that are finite"
        )
    network.load_state_dict(loaded, strict=False)


def save_weights(
    folder: Path,
    plan: Plan,
    glance_state: dict[str, Tensor] | None,
    focus_state: dict[str, Tensor],
    *,
    cells_state: dict[str, Tensor] | None = None,
    second_state: dict[str, Tensor] | None = None,
    precision: Literal["keep", "float16", "float32"] = "float16",
    info: dict[str, Any] | None = None,
) -> Manifest:
    """Write a weights folder; each file appears whole, the manifest last.

    glance_state: None writes none, and the plan says so (`without_glance`). cells_state: the head of cells beside a
    Glance, which keeps its precision; of a plan that has such (`marked_by_cells`), and of no other. second_state: the
    second Focus; of a plan that has one, and of no other.
    """
    plan = replace(plan, without_glance=glance_state is None)
    assert (cells_state is not None) == plan.marked_by_cells
    assert (second_state is not None) == (plan.second_focus is not None)
    dtype = {"keep": None, "float16": torch.float16, "float32": torch.float32}[precision]
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / PLAN_FILE, (json.dumps(plan_to_json(plan), indent=2) + "\n").encode())
    states = {FOCUS_FILE: focus_state} if glance_state is None else {GLANCE_FILE: glance_state, FOCUS_FILE: focus_state}
    if cells_state is not None:
        states[CELLS_FILE] = cells_state
    if second_state is not None:
        states[SECOND_FOCUS_FILE] = second_state
    for name, state in states.items():
        # A head is 16 kB, and its sums over 2,048 features gain by every digit.
        kept = None if name == CELLS_FILE else dtype
        write_atomically(folder / name, safetensors.torch.save(stored_state(state, kept)))
    origin = {"preset": plan.preset, "weights": plan.weights, "gfscreen": __version__, **(info or {})}
    return write_manifest(folder, [PLAN_FILE, *states], origin)


def load_networks(folder: Path) -> tuple[Plan, Glance | CellGlance | None, nn.Module]:
    """Verify a weights folder and build both networks from it, in evaluation mode, float32, on the CPU.

    No Glance where the plan says that there is none.

    Raises WeightsError, also where the plan needs the pretrained trunk and it is not in the folder.
    """
    plan, glance, focus = load_stored(folder)
    if isinstance(glance, CellHead):
        assert plan.cells is not None
        return plan, CellGlance(load_trunk(folder, plan.cells), glance).eval(), focus
    return plan, glance, focus


def load_stored(folder: Path) -> tuple[Plan, Glance | CellHead | None, nn.Module]:
    """The same without the pretrained trunk: of a Glance on it the head alone. Raises WeightsError."""
    verify(folder)
    plan = read_plan(folder)
    glance, focus = build_networks(plan)
    stored: dict[str, nn.Module] = (
        {FOCUS_FILE: focus} if plan.without_glance else {GLANCE_FILE: glance, FOCUS_FILE: focus}
    )
    for name, network in stored.items():
        load_state(network, safetensors.torch.load_file(folder / name), str(folder / name))
        network.eval()
    return plan, None if plan.without_glance else glance, focus


def load_cells(folder: Path) -> CellGlance | None:
    """The cells that stand beside a Glance, with the trunk, in evaluation mode; None of weights that have none.

    Of a folder that `load_stored` has verified. Raises WeightsError, also where the trunk is not there.
    """
    plan = read_plan(folder)
    if plan.cells is None or not plan.marked_by_cells:
        return None
    return CellGlance(load_trunk(folder, plan.cells), load_head(folder, plan)).eval()


def load_second_focus(folder: Path) -> nn.Module | None:
    """The Focus of its own for second looks, in evaluation mode; None of weights that have none.

    Of a folder that `load_stored` has verified. Raises WeightsError.
    """
    second = read_plan(folder).second_focus
    if second is None:
        return None
    path, network = folder / SECOND_FOCUS_FILE, build_focus(second.network)
    load_state(network, safetensors.torch.load_file(path), str(path))
    return network.eval()


def load_head(folder: Path, plan: Plan) -> CellHead:
    """The head of a weights folder's cells, whatever they are for. Raises WeightsError."""
    path = folder / (GLANCE_FILE if plan.gated_by_cells else CELLS_FILE)
    head = CellHead()
    load_state(head, safetensors.torch.load_file(path), str(path))
    return head


def stored_precision(path: Path) -> str:
    """`float16` if every floating-point tensor of the file is, else `float32`."""
    with safetensors.safe_open(path, framework="pt") as tensors:
        kinds = {tensors.get_slice(name).get_dtype() for name in tensors.keys()}  # noqa: SIM118 - not a mapping
    return "float16" if kinds <= {"F16", "I64", "I32"} else "float32"


def init_weights(folder: Path, plan: Plan, seed: int) -> Manifest:
    """Write an untrained, seeded weights folder: for tests, timing and the demo before trained weights are there."""
    torch.manual_seed(seed)
    glance, focus = build_networks(plan)
    cells = CellHead().state_dict() if plan.marked_by_cells else None
    second = None if plan.second_focus is None else build_focus(plan.second_focus.network).state_dict()
    return save_weights(
        folder, plan, glance.state_dict(), focus.state_dict(), cells_state=cells, second_state=second,
        info={"seed": seed},
    )  # fmt: skip
