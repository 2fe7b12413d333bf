"""`gfscreen convert --nnunet`: a trained nnU-Net v2 model -> a weights folder. nnU-Net itself is not needed.

    MODEL_FOLDER/plans.json, dataset.json, fold_N/checkpoint_final.pth
        -> DIR/plan.json, focus.safetensors, manifest.json

With another weights folder named, its Glance comes along and is the gate; without, only the dense window can be had.
"""

from __future__ import annotations

import logging
import pickle
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from gfscreen.config import NO_MASSES, Plan, preset_plan, read_plan
from gfscreen.errors import WeightsError
from gfscreen.networks.models.cell_glance import copy_trunk
from gfscreen.networks.models.manifest import Manifest
from gfscreen.networks.models.nnunet import build_nnunet_focus
from gfscreen.networks.models.nnunet_files import (
    DATASET_FILE,
    DEFAULT_CONFIGURATION,
    PLANS_FILE,
    nnunet_config,
    read_json,
    with_mirroring,
)
from gfscreen.networks.models.trunk_pins import TRUNK_FILE
from gfscreen.networks.models.weights import load_state, load_stored, save_weights
from gfscreen.nnunet_plan import NnunetConfig

logger = logging.getLogger(__name__)

CHECKPOINT_FILE = "checkpoint_final.pth"
ALL_FOLDS = "all"
# The preset whose grid Glance looks on, and whose Glance a gate is trained from.
PRESET = "fast"
_PREFIXES = ("module.", "_orig_mod.")
_HEADS = "decoder.seg_layers."


def convert_nnunet(
    model: Path,
    folder: Path,
    *,
    folds: str | None = None,
    configuration: str | None = None,
    windows: Sequence[tuple[float, float] | None] | None = None,
    lesion: Sequence[str] | None = None,
    glance: Path | None = None,
    mirror: bool = False,
    precision: Literal["keep", "float16", "float32"] = "keep",
) -> Manifest:
    """Turn a trained nnU-Net v2 model into a weights folder. Nothing is written before all of it was read and fits.

    Args:
        model: the folder with plans.json, dataset.json and fold_N.
        folder: the weights folder to write.
        folds: `0,1`, or `all`; None for all that are there, as nnU-Net does.
        configuration: of the plans; None for that which the checkpoint was trained with.
        windows: see `nnunet_files.nnunet_config`.
        lesion: likewise.
        glance: a weights folder whose Glance is to be the gate, with its grid; None for none.
        mirror: read each patch mirrored as well, along the axes that the training allows.
        precision: of the stored weights.

    Raises WeightsError for everything that is not supported or not there.

    """
    plans, dataset = read_json(model / PLANS_FILE), read_json(model / DATASET_FILE)
    paths = [model / name / CHECKPOINT_FILE for name in _fold_names(model, folds)]
    checkpoints = [_Checkpoint(path) for path in paths]
    trained = checkpoints[0].configuration
    name = configuration or trained or DEFAULT_CONFIGURATION
    for checkpoint in checkpoints:
        if checkpoint.configuration not in (None, name):
            raise WeightsError(
                f"{checkpoint.path}: was trained with configuration {checkpoint.configuration!r}, not {name!r}; name "
                f"the folder of {name}, or --configuration {checkpoint.configuration}"
            )
    config = nnunet_config(plans, dataset, name, str(model), folds=len(checkpoints), windows=windows, lesion=lesion)
    for checkpoint in checkpoints:
        checkpoint.check_plans(config, name, windows, lesion)
    if mirror:
        config = with_mirroring(config, checkpoints[0].mirror_axes, str(paths[0]))
    focus = build_nnunet_focus(config)
    for number, checkpoint in enumerate(checkpoints):
        load_state(focus.folds[number], checkpoint.state(), checkpoint.described)
    plan, glance_state = _plan_and_glance(glance)
    plan = replace(plan, nnunet=config)
    extra = _copy_trunk(glance, folder) if glance is not None and plan.gated_by_cells else []
    chosen = [config.outputs[index] for index in config.lesion]
    logger.info(
        "%s: %s, %d fold(s), %s of %s is lesion", model, name, len(checkpoints), ", ".join(chosen),
        ", ".join(config.outputs),
    )  # fmt: skip
    info = {
        "source": model.name,
        "nnunet_configuration": name,
        "nnunet_folds": [path.parent.name for path in paths],
        "nnunet_trainers": sorted({checkpoint.trainer for checkpoint in checkpoints}),
        "copied": extra,
    }
    return save_weights(folder, plan, glance_state, focus.state_dict(), precision=precision, info=info)


class _Checkpoint:
    """One fold's file: what it says of itself, and its tensors under the names of our networks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        data = read_nnunet_checkpoint(path)
        made = data.get("init_args")
        self._made: dict[str, Any] = made if isinstance(made, dict) else {}
        self.trainer = str(data.get("trainer_name", "unknown"))
        self.mirror_axes: Sequence[int] | None = data.get("inference_allowed_mirroring_axes")
        self._state: dict[str, Tensor] = data["network_weights"]

    @property
    def configuration(self) -> str | None:
        """That it was trained with; None where it does not say."""
        name = self._made.get("configuration")
        return name if isinstance(name, str) else None

    @property
    def described(self) -> str:
        """Path and trainer, for errors."""
        own = self.trainer == "nnUNetTrainer"
        return f"{self.path} (trainer {self.trainer}{'' if own else ', which may have a network of its own'})"

    def check_plans(
        self,
        config: NnunetConfig,
        name: str,
        windows: Sequence[tuple[float, float] | None] | None,
        lesion: Sequence[str] | None,
    ) -> None:
        """Raise WeightsError if the checkpoint was trained with other plans than those beside it."""
        plans, dataset = self._made.get("plans"), self._made.get("dataset_json")
        if not isinstance(plans, dict) or not isinstance(dataset, dict):
            return
        try:
            own = nnunet_config(
                plans, dataset, name, str(self.path), folds=config.folds, windows=windows, lesion=lesion
            )
        except WeightsError as error:
            raise WeightsError(f"{self.path}: was trained with other plans than {PLANS_FILE} ({error})") from error
        if own != config:
            keys = [key for key in vars(config) if getattr(own, key) != getattr(config, key)]
            raise WeightsError(
                f"{self.path}: was trained with other plans than {PLANS_FILE} beside it: {keys[0]} is "
                f"{getattr(own, keys[0])} there, {getattr(config, keys[0])} here; name the folder that it was trained "
                "in"
            )

    def state(self) -> dict[str, Tensor]:
        """The tensors, each once; of the heads only that of full resolution, `decoder.head`."""
        tensors: dict[str, Tensor] = {}
        for full, value in self._state.items():
            name = full
            while any(name.startswith(prefix) for prefix in _PREFIXES):
                name = name.split(".", 1)[1]
            # The encoder stands in the decoder once more, and every layer in a list of its block's layers.
            if not name.startswith("decoder.encoder.") and ".all_modules." not in name:
                tensors[name] = value
        heads = {int(name.split(".")[2]) for name in tensors if name.startswith(_HEADS)}
        finest = f"{_HEADS}{max(heads, default=0)}."
        kept = {name: value for name, value in tensors.items() if not name.startswith(_HEADS)}
        own = {name: value for name, value in tensors.items() if name.startswith(finest)}
        return kept | {name.replace(finest, "decoder.head."): value for name, value in own.items()}


def read_nnunet_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint, without running any code of its pickle. Raises WeightsError.

    Beside tensors and plain data it may hold numbers and arrays of numpy's, which nnU-Net's log has.
    """
    try:
        with torch.serialization.safe_globals(_number_types()):
            data = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        best = path.with_name("checkpoint_best.pth")
        hint = f"; there is only {best.name}: finish the training, or rename it" if best.exists() else ""
        raise WeightsError(f"{path}: no such checkpoint{hint or '; name the folder that training wrote'}") from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        # What torch refuses to unpickle it names once, in the middle of a paragraph.
        if (code := re.search(r"GLOBAL (\S+)", str(error))) is not None:
            raise WeightsError(
                f"{path}: holds {code.group(1)} beside its tensors, which could run code and is not loaded; save the "
                "checkpoint anew without it"
            ) from error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: not a readable checkpoint ({reason[:200]}); copy the file again") from error
    state = data.get("network_weights") if isinstance(data, dict) else None
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"{path}: expected a dictionary with 'network_weights' of tensors; is it a checkpoint of nnU-Net v2?"
        )
    return {**data, "network_weights": {str(name): value for name, value in state.items()}}


def _number_types() -> list[Any]:
    """What numpy's numbers and arrays are pickled with; under both names of the module that numpy has had."""
    kinds = (np.float64, np.float32, np.int64, np.int32, np.bool_)
    makers = {"scalar": np.float64(0).__reduce__()[0], "_reconstruct": np.zeros(0).__reduce__()[0]}
    modules = ("numpy.core", "numpy._core")
    own = [(made, f"{module}.multiarray.{name}") for name, made in makers.items() for module in modules]
    return [*own, np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in kinds}]


def _fold_names(model: Path, folds: str | None) -> list[str]:
    """Names of the fold folders. Raises WeightsError."""
    there = sorted(
        (path.name for path in model.glob("fold_*") if path.is_dir() and path.name[5:].isdigit()),
        key=lambda name: int(name[5:]),
    )
    if (model / "fold_all").is_dir() and not there:
        there = ["fold_all"]
    if folds is None or folds == ALL_FOLDS:
        if not there:
            raise WeightsError(f"{model}: holds no fold_N with {CHECKPOINT_FILE}; name the folder of a trained model")
        finished = [name for name in there if (model / name / CHECKPOINT_FILE).is_file()]
        # Those without are refused if they are asked for, or if there is no other.
        return finished if finished and folds is None else there
    names = [f"fold_{part.strip()}" for part in folds.split(",")]
    missing = [name for name in names if not (model / name).is_dir()]
    if missing or len(set(names)) != len(names):
        told = f"has no {missing[0]}" if missing else f"--folds {folds} names a fold twice"
        raise WeightsError(f"{model}: {told}; there are {', '.join(there) or 'none'}: name these with --folds")
    return names


def _plan_and_glance(source: Path | None) -> tuple[Plan, dict[str, Tensor] | None]:
    """The plan that the Focus goes into, with nnU-Net's own way to a mask, and the Glance's tensors."""
    plain: dict[str, Any] = {
        "weights": "trained", "lesion_threshold": 0.5, "finding_peak": 0.5, "min_finding_ml": 0.0, "mark_from": 0.0,
        "second_look": 0.0, "operating_points": (), "focus_int8": (), "finding_model": None, "finding_from": 0.0,
        "second_focus": None, "look_from": 0.0, **NO_MASSES, "fluid": None,
    }  # fmt: skip
    if source is None:
        return replace(preset_plan(PRESET), **plain, gate=0.0), None
    _, glance, _ = load_stored(source)
    if glance is None:
        raise WeightsError(f"{source}: has no Glance of its own; name weights that have one, or leave out --glance")
    plan = read_plan(source)
    # Cells that say where marks may be have nothing to say to a Focus that takes no `mark_from`.
    cells = plan.cells if plan.gated_by_cells else None
    return replace(plan, **plain, cells=cells, nnunet=None), glance.state_dict()


def _copy_trunk(source: Path, folder: Path) -> list[str]:
    """Copy the pretrained trunk, on which the Glance rests, and its notice. Raises WeightsError if it is not there."""
    if not (source / TRUNK_FILE).is_file():
        raise WeightsError(f"{source / TRUNK_FILE}: the Glance of these weights needs it; make it with: gfscreen trunk")
    return copy_trunk(source, folder)
