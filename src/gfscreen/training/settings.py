"""Settings of a training run: frozen, read from JSON, unknown keys are errors; the run keeps the resolved values."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from gfscreen.config import PLAN_FILE, Plan, from_json, preset_plan, read_plan
from gfscreen.errors import UsageError
from gfscreen.network_plan import FocusConfig, GlanceConfig
from gfscreen.nnunet_plan import NnunetConfig

Stage = Literal["focus", "glance", "joint"]
Gate = Literal["none", "ce", "grpo_detection", "grpo_dice", "ppo_detection", "ppo_dice"]
PPO_GATES = ("ppo_detection", "ppo_dice")
DICE_GATES = ("grpo_dice", "ppo_dice")
KINDS = ("real", "background", "nodules", "masses", "soft", "leaning", "nodes", "hot", "marked", "copied")


@dataclass(frozen=True)
class Mix:
    """Shares of the kinds of sub-volume; they need not add up to 1. Kinds that the data cannot give are left out.

    real: around an annotated lesion. background: anywhere in an annotated scan, away from its lesions. hot: where a
    Glance sends Focus though there is no lesion; marked: where a Focus marks though there is none; both need
    `judged_by`. The others have inserted lesions: nodules,
    masses: in lung; soft: in homogeneous soft tissue; leaning: masses that grow from mediastinum or chest wall into
    lung; nodes: in fat; copied: real lesions of other annotated scans, in homogeneous soft tissue. annotated_only:
    insert only where somebody annotated the rest of the scan, so that a Glance sees every host with and without lesions
    and cannot tell them by the host. sized_from_ml: masses, soft and leaning lesions are of at least this volume, and
    of each doubling of it equally many; 0 draws every shape of the bank alike, most of which are below 2 ml.
    unenhanced: how many of all sub-volumes are drawn as if without contrast medium (synthesis/contrast_medium.py).
    """

    real: float = 0.5
    background: float = 0.5
    nodules: float = 0.0
    masses: float = 0.0
    soft: float = 0.0
    leaning: float = 0.0
    nodes: float = 0.0
    hot: float = 0.0
    marked: float = 0.0
    copied: float = 0.0
    nodules_per_crop: int = 4
    annotated_only: bool = False
    sized_from_ml: float = 0.0
    unenhanced: float = 0.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.unenhanced <= 1.0:
            raise ValueError(f"mix.unenhanced must be in [0, 1], got {self.unenhanced}")


@dataclass(frozen=True)
class TrainingSettings:
    """What is trained, on what, and how long.

    stage: `focus` alone, `glance` against a frozen Focus, or `joint` as published. gate: what the Glance learns from.
    steps: length of the run and of the cosine; schedule `clock` stretches the cosine over --max-minutes instead (a run
    that is repeated then differs by the speed of the machine).
    batch: Focus sub-volumes per pass; accumulation: passes per step. group: sub-volumes that a Glance step compares.
    crop_voxels: size of the sub-volumes to train on; null for the plan's, which the Glance should be trained on, since
    it answers one question about a whole sub-volume.
    ce_weight: of the cross-entropy against the Dice in the loss of the Focus. dice_kinds: the kinds of sub-volume (see
    Mix) that have a Dice; the others have the cross-entropy alone. Not with batch_dice. small_lesion_ml: lesions below
    this volume weigh more in both (learning/lesion_weights.py), 0 for none.
    reference_every: steps between refreshes of the frozen reference policy (PPO's old policy). ce_warmup_steps: the
    Glance starts on cross-entropy alone. glance_cells: weight, in units of the cross-entropy's, of a cross-entropy on
    where in the sub-volume the lesion is, at each of the four stages.
    pool: the glance stage draws from this many pairs of a sub-volume with a lesion and its lesion-free twin, whose
    reward was found once; pool_refresh: pairs that are replaced after each step.
    ema: decay of the averaged weights that are evaluated and saved, 0 for none.
    amp: `auto` is fp16 on CUDA and off on CPU. bf16 on a CPU that has it takes two thirds of the time; the deepest
    block then stays in float32 (models/focus.py).
    augment: `strong` also turns, zooms and changes contrast and sharpness.
    threads: 0 follows how busy the machine is. draw_workers: processes that draw the sub-volumes of coming steps, which
    changes no result; 0 draws within the step, as suits a CPU.
    init: folder of a run, or of weights (those that ship), to start from; init_glance: the same, whose Glance to take
    instead. judged_by: weights whose Glance judges cells: in scans that nobody annotated all but the most suspicious
    cells are background then, and kinds `hot` and `marked` of the mix can be drawn (learning/judged_scans.py,
    learning/marked_places.py). nnunet: a Focus that nnU-Net trained, taken over from `init`; it is not trained here,
    only the Glance against it. learns_from: `labels`, or `init`: a Focus that is narrower at full resolution than that
    of `init` learns to answer like it, by these blocks alone (learning/imitation.py).
    """

    preset: str = "paper"
    stage: Stage = "joint"
    gate: Gate = "grpo_detection"
    seed: int = 0
    steps: int = 20_000
    schedule: Literal["steps", "clock"] = "steps"
    batch: int = 4
    accumulation: int = 1
    group: int = 16
    crop_voxels: tuple[int, ...] | None = None
    focus_learning_rate: float = 3e-4
    glance_learning_rate: float = 3e-4
    weight_decay: float = 1e-5
    warmup_steps: int = 40
    final_rate: float = 0.0
    clip_norm: float = 12.0
    batch_dice: bool = False
    dice_background: bool = True
    ce_weight: float = 1.0
    dice_kinds: tuple[str, ...] = KINDS
    small_lesion_ml: float = 0.0
    lesion_prior: float = 0.5
    reference_every: int = 40
    ce_warmup_steps: int = 0
    glance_cells: float = 0.0
    pool: int = 0
    pool_refresh: int = 0
    ema: float = 0.0
    amp: Literal["auto", "off", "fp16", "bf16"] = "auto"
    threads: int = 0
    draw_workers: int = 0
    augment: Literal["published", "strong"] = "published"
    mix: Mix = field(default_factory=Mix)
    glance: GlanceConfig | None = None
    focus: FocusConfig | None = None
    nnunet: NnunetConfig | None = None
    init: str | None = None
    init_glance: str | None = None
    judged_by: str | None = None
    learns_from: Literal["labels", "init"] = "labels"
    log_every: int = 10
    checkpoint_minutes: float = 5.0
    evaluate_minutes: float = 10.0
    evaluation_crops: int = 40

    def __post_init__(self) -> None:
        positive = ("steps", "batch", "accumulation", "reference_every", "log_every")
        for name in positive:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.group < 2:
            raise ValueError(f"group must be at least 2, a group of one has no advantage; got {self.group}")
        if self.draw_workers < 0:
            raise ValueError(f"draw_workers must be 0 or more, got {self.draw_workers}")
        if self.stage == "glance" and self.gate == "none":
            raise ValueError(f"stage glance with gate none trains nothing; choose gate {', '.join(get_args(Gate)[1:])}")
        if self.crop_voxels is not None and (
            len(self.crop_voxels) != 3 or any(n < 32 or n % 32 for n in self.crop_voxels)
        ):
            raise ValueError(f"crop_voxels must be three multiples of 32 (SwinUNETR), got {self.crop_voxels}")
        if self.crop_voxels is not None and max(self.crop_voxels) < 64:
            raise ValueError(
                f"crop_voxels must reach 64 along one axis (its deepest map is normed), got {self.crop_voxels}"
            )
        if not 0.0 <= self.ema < 1.0:
            raise ValueError(f"ema must be in [0, 1), got {self.ema}")
        if self.ce_weight < 0.0:
            raise ValueError(f"ce_weight must be 0 or more, got {self.ce_weight}")
        if self.small_lesion_ml < 0.0:
            raise ValueError(f"small_lesion_ml must be 0 or more, got {self.small_lesion_ml}")
        if unknown := set(self.dice_kinds) - set(KINDS):
            raise ValueError(f"dice_kinds may hold {', '.join(KINDS)}, got {', '.join(sorted(unknown))}")
        drawn = {kind for kind in KINDS if getattr(self.mix, kind) > 0}
        if self.batch_dice and drawn - set(self.dice_kinds):
            raise ValueError("batch_dice is one Dice for all: leave dice_kinds out or set batch_dice to false")
        if self.mix.marked > 0 and self.judged_by is None:
            raise ValueError("mix.marked is where another Focus marks: name weights as judged_by")
        if self.mix.hot > 0 and self.judged_by is None:
            raise ValueError("mix.hot is where a Glance sends Focus: name weights whose Glance has cells as judged_by")
        if self.learns_from == "init" and (self.init is None or self.stage != "focus" or self.nnunet is not None):
            raise ValueError("learns_from init is for stage focus: name as init the run or the weights to learn from")
        if not 0.0 < self.lesion_prior <= 0.5:
            raise ValueError(f"lesion_prior must be in (0, 0.5], got {self.lesion_prior}")
        if self.nnunet is not None and (self.stage != "glance" or self.augment != "published"):
            raise ValueError(
                f"a Focus of nnU-Net's is for stage glance and augment published, got stage {self.stage} and augment "
                f"{self.augment}; it is trained by nnU-Net"
            )

    @property
    def plan(self) -> Plan:
        """The preset's plan with this run's networks."""
        plan = preset_plan(self.preset)
        if self.nnunet is not None:
            plan = dataclasses.replace(plan, nnunet=self.nnunet, second_look=0.0)
        return dataclasses.replace(
            plan, weights="trained", glance=self.glance or plan.glance, focus=self.focus or plan.focus
        )

    @property
    def learns_value(self) -> bool:
        """True if a value head is trained beside the Glance: by PPO, unless the stage trains no Glance."""
        return self.stage != "focus" and self.gate in PPO_GATES

    @property
    def voxels(self) -> tuple[int, ...]:
        """Size of the sub-volumes that are drawn."""
        return self.crop_voxels or self.plan.sub_volume_voxels

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        result: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))
        return result


# What differs from the paper's settings above when a preset is named without a settings file: small crops, a higher
# rate and averaged weights, for two cores.
PRESET_SETTINGS: dict[str, dict[str, Any]] = {
    "paper": {},
    "fast": {
        "preset": "fast",
        "batch": 2,
        "group": 8,
        "crop_voxels": [64, 64, 32],
        "focus_learning_rate": 8e-4,
        "batch_dice": True,
        "dice_background": False,
        "lesion_prior": 0.02,
        "clip_norm": 2.0,
        "ema": 0.99,
    },
}


def settings_from(preset: str | None, path: Path | None) -> TrainingSettings:
    """The settings of a preset, with the keys of a JSON file on top. Raises UsageError naming file and key."""
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"{path}: not readable as JSON ({error}); give a settings file") from error
        if not isinstance(loaded, dict):
            raise UsageError(f"{path}: expected an object, got {type(loaded).__name__}; give a settings file")
        values = loaded
    name = preset or values.get("preset", "paper")
    if name not in PRESET_SETTINGS:
        raise UsageError(f"preset {name!r} does not exist; choose one of {', '.join(PRESET_SETTINGS)}")
    if preset and values.get("preset", preset) != preset:
        raise UsageError(f"{path}: is for preset {values['preset']!r}, the command says {preset!r}; name one of them")
    try:
        result = from_json(TrainingSettings, {**PRESET_SETTINGS[name], **values}, "settings")
        if result.nnunet is None and result.init and (Path(result.init) / PLAN_FILE).is_file():
            result = dataclasses.replace(result, nnunet=read_plan(Path(result.init)).nnunet)
    except (ValueError, TypeError) as error:
        raise UsageError(f"{path or name}: {error}; correct the settings") from error
    assert isinstance(result, TrainingSettings)
    return result
