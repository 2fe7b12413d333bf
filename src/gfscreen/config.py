"""The plan: everything that decides how a scan is prepared and screened. Frozen, and read from JSON beside the weights.

Training, inference and evaluation all read the same plan, so that a network never meets data prepared differently from
what it was trained on. Unknown keys are errors: a misspelt setting must not be ignored.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from gfscreen.errors import UsageError, WeightsError
from gfscreen.finding_plan import FindingModel, FluidRule, LiverMassRule, MassRule
from gfscreen.network_plan import (
    CellGlanceConfig,
    FocusConfig,
    GlanceConfig,
    HUWindows,
    Int8Input,
    SecondFocusConfig,
    check_sub_volume,
)
from gfscreen.nnunet_plan import NnunetConfig

PLAN_FILE = "plan.json"
PLAN_FORMAT = 1
PRESETS = ("paper", "fast")
NO_WEIGHTS_REMEDY = (
    "name a weights folder (--weights, GFSCREEN_WEIGHTS), install the weights' wheel (make wheels), or make one with "
    "train, convert or init"
)

OperatingPointName = Literal["sensitive", "balanced", "specific"]
OPERATING_POINTS: tuple[OperatingPointName, ...] = typing.get_args(OperatingPointName)


@dataclass(frozen=True)
class OperatingPoint:
    """Values for a named point on the way from finding more to marking less, in place of the plan's own.

    gate, mark_from, lesion_threshold, finding_peak, finding_from: as in `Plan`.
    """

    name: OperatingPointName
    gate: float
    mark_from: float
    lesion_threshold: float
    finding_peak: float
    finding_from: float = 0.0

    def __post_init__(self) -> None:
        try:
            _check_marking(self.gate, self.mark_from, self.lesion_threshold, self.finding_peak, self.finding_from)
            if self.mark_from and not self.gate:
                raise ValueError(
                    f"mark_from {self.mark_from:g} asks for a Glance, which gate 0 leaves out: set it to 0"
                )
        except ValueError as error:
            raise ValueError(f"operating point {self.name}: {error}") from error


def _check_marking(
    gate: float, mark_from: float, lesion_threshold: float, finding_peak: float, finding_from: float
) -> None:
    """Raise ValueError unless what decides on marks are probabilities that go together."""
    if not 0.0 <= gate <= 1.0:
        raise ValueError(f"gate must be a probability in [0, 1], got {gate}")
    if not 0.0 < lesion_threshold < 1.0:
        raise ValueError(f"lesion_threshold must be a probability in (0, 1), got {lesion_threshold}")
    if not lesion_threshold <= finding_peak < 1.0:
        raise ValueError(
            f"finding_peak must be a probability in [{lesion_threshold:g}, 1), from lesion_threshold on, "
            f"got {finding_peak}"
        )
    if not 0.0 <= mark_from < 1.0:
        raise ValueError(f"mark_from must be a probability in [0, 1), got {mark_from}")
    if not 0.0 <= finding_from < 1.0:
        raise ValueError(f"finding_from must be a probability in [0, 1), got {finding_from}")


# What of a plan lets Glance mark alone, each as it is where it does not.
NO_MASSES: dict[str, Any] = {"masses": None, "liver_masses": None}


@dataclass(frozen=True)
class Plan:
    """How a scan is prepared, which sub-volumes are looked at, and which networks look at them.

    foreground: `body` screens sub-volumes that contain body, found by a real body mask; `hu_floor` is the published
        rule: the box of all voxels above the lower end of the HU window, table included.
    blend: how sub-volumes count where they overlap: alike, as published, or their middles more.
    gate: Focus runs where the Glance probability of "lesion" is above this.
    lesion_threshold: voxels whose Focus probability is above this are lesion; 0.5 is the argmax of two classes.
    finding_peak: a finding stands if its highest Focus probability is above this; at lesion_threshold all do.
    min_finding_ml: a connected part of the mask, on the scan's own grid, stands if it is at least so large; 0, as
        published: all do.
    mark_from: Focus marks only in cells whose Glance probability is at least this, and in those beside them that are
        nearly as suspicious (screening/ordinary.py); 0, as published: wherever it reads. Asks for `cells`.
    second_look: Focus reads sub-volumes around its findings once more, mirrored; at most this share of the number that
        it has read before. 0, as published: none.
    weights: `trained` or `untrained`; shown wherever results are shown.
    cells: a Glance on a pretrained trunk that judges cells of about 12 mm, in place of `glance` or, for the marks
        alone, beside it. None, as published: only `glance` judges.
    operating_points: named values for a run to choose from; without a choice the plan's own hold.
    nnunet: a Focus that nnU-Net trained, which reads patches of its own grid in place of `focus`, which then counts for
        nothing, as do `blend`, `second_look` and `mark_from`. None, as published: `focus` reads the sub-volumes.
    without_glance: these weights have no Glance, only the dense sliding window (`gate` 0) can be had. With `nnunet`.
    finding_percentile: which percentile of a finding's Focus probability `finding_peak` is asked of; 100, as published:
        the highest.
    empty_below_ml, empty_up_to: a mask of less than this volume in all, in no more than this many connected parts,
        becomes empty; 0 parts: however many. 0 ml, as published: never.
    finding_model: how likely a finding is to be lesion, by its shape, its border and how sure the networks are, for
        weights that it was fitted to. None, as published: nobody asks.
    finding_from: a finding stands if `finding_model` holds it for lesion with a probability above this; 0, as
        published: all do.
    focus_int8: convolutions of Focus that OpenVINO computes in eight-bit whole numbers where the CPU computes in
        bfloat16, chosen for these weights (`eval int8`). None, as published.
    second_focus: a Focus of its own for second looks at small findings, or at large ones too. None, as published:
        `focus` alone looks.
    look_from: a finding has a second look if `finding_model` holds it for lesion, by the first, with a probability
        above this; 0, as published: all have one that Focus is sure of.
    masses: which masses at the lung are marked because Glance is sure of them, whatever Focus says. Asks for `cells`.
        None, as published: none.
    liver_masses: which masses in a liver with contrast medium are marked for the same reason. As `masses`.
    fluid: which findings are dropped because they are nothing but fluid. None, as published: none.
    """

    preset: str = "paper"
    weights: Literal["trained", "untrained"] = "untrained"
    spacing_mm: tuple[float, ...] = (1.0, 1.0, 3.0)
    sub_volume_voxels: tuple[int, ...] = (96, 96, 64)
    overlap: float = 0.25
    blend: Literal["constant", "gaussian"] = "constant"
    gate: float = 0.9
    lesion_threshold: float = 0.5
    finding_peak: float = 0.5
    min_finding_ml: float = 0.0
    mark_from: float = 0.0
    second_look: float = 0.0
    foreground: Literal["body", "hu_floor"] = "body"
    hu_windows: HUWindows = field(default_factory=HUWindows)
    glance: GlanceConfig = field(default_factory=GlanceConfig)
    focus: FocusConfig = field(default_factory=FocusConfig)
    cells: CellGlanceConfig | None = None
    operating_points: tuple[OperatingPoint, ...] = ()
    nnunet: NnunetConfig | None = None
    without_glance: bool = False
    finding_percentile: float = 100.0
    empty_below_ml: float = 0.0
    empty_up_to: int = 0
    focus_int8: tuple[Int8Input, ...] = ()
    finding_model: FindingModel | None = None
    finding_from: float = 0.0
    second_focus: SecondFocusConfig | None = None
    look_from: float = 0.0
    masses: MassRule | None = None
    liver_masses: LiverMassRule | None = None
    fluid: FluidRule | None = None

    def __post_init__(self) -> None:
        if len(self.spacing_mm) != 3 or min(self.spacing_mm) <= 0:
            raise ValueError(f"spacing_mm must be three positive lengths, got {self.spacing_mm}")
        check_sub_volume(self.sub_volume_voxels)
        if not 0.0 <= self.overlap < 1.0:
            raise ValueError(f"overlap must be at least 0 and below 1, got {self.overlap}")
        _check_marking(self.gate, self.mark_from, self.lesion_threshold, self.finding_peak, self.finding_from)
        if not 0.0 <= self.min_finding_ml <= 1000.0:
            raise ValueError(f"min_finding_ml must be a volume from 0 to 1000 ml, got {self.min_finding_ml}")
        if self.mark_from and self.cells is None:
            raise ValueError(f"mark_from {self.mark_from:g} asks for a Glance that judges cells: set `cells`, or 0")
        if not 0.0 <= self.second_look <= 10.0:
            raise ValueError(f"second_look must be a share from 0 to 10, got {self.second_look}")
        names = [point.name for point in self.operating_points]
        if len(set(names)) < len(names):
            raise ValueError(f"operating_points must have a name each, got {', '.join(names)}")
        for point in self.operating_points:
            if point.mark_from and self.cells is None:
                raise ValueError(
                    f"operating point {point.name}: mark_from {point.mark_from:g} asks for a Glance that judges cells: "
                    "set `cells`, or 0"
                )
        if self.finding_model is None and any(
            (self.finding_from, *(point.finding_from for point in self.operating_points))
        ):
            raise ValueError("finding_from asks what a finding is likely to be: set `finding_model`, or it to 0")
        if not 0.0 <= self.look_from < 1.0:
            raise ValueError(f"look_from must be a probability, at least 0 and below 1, got {self.look_from}")
        if self.finding_model is None and self.look_from:
            raise ValueError("look_from asks what a finding is likely to be: set `finding_model`, or it to 0")
        for name in self.mass_rules:
            if self.cells is None:
                raise ValueError(f"{name} asks for a Glance that judges cells: set `cells`, or it to null")
        in_int8 = [given.convolution for given in self.focus_int8]
        if len(set(in_int8)) < len(in_int8):
            raise ValueError(f"focus_int8 must name each convolution once, got {', '.join(in_int8)}")
        self._check_nnunet()
        if not 0.0 < self.finding_percentile <= 100.0:
            raise ValueError(f"finding_percentile must be above 0 and at most 100, got {self.finding_percentile}")
        if not 0.0 <= self.empty_below_ml <= 1000.0 or self.empty_up_to < 0:
            raise ValueError(
                "empty_below_ml must be a volume from 0 to 1000 ml and empty_up_to a number of parts, got "
                f"{self.empty_below_ml} and {self.empty_up_to}"
            )

    @property
    def mass_rules(self) -> dict[str, MassRule]:
        """The rules by which Glance alone marks, by key; empty where it marks nothing alone."""
        return {name: rule for name in NO_MASSES if (rule := getattr(self, name)) is not None}

    @property
    def of_second_focus(self) -> Plan:
        """The plan as it is for the second Focus: its network and its sub-volumes. Itself where there is none."""
        second = self.second_focus
        if second is None:
            return self
        return replace(self, focus=second.network, sub_volume_voxels=second.sub_volume_voxels, second_focus=None)

    @property
    def of_wide_second_focus(self) -> Plan:
        """The same where the second Focus reads sub-volumes of Focus's size."""
        return replace(self.of_second_focus, sub_volume_voxels=self.sub_volume_voxels)

    @property
    def gated_by_cells(self) -> bool:
        """Whether cells say where Focus reads; otherwise `glance` does, by sub-volumes."""
        return self.cells is not None and self.cells.role == "gate"

    @property
    def marked_by_cells(self) -> bool:
        """Whether cells beside `glance` say where Focus may mark."""
        return self.cells is not None and self.cells.role == "marks"

    def _check_nnunet(self) -> None:
        """Raise ValueError for what does not go together with a Focus of nnU-Net's, or without a Glance."""
        if self.without_glance and self.nnunet is None:
            raise ValueError("without_glance is for weights with `nnunet` alone: set it to false")
        gates = [self.gate, *(point.gate for point in self.operating_points)]
        if self.without_glance and (any(gates) or self.cells is not None):
            raise ValueError(f"without_glance leaves gate 0 and no `cells`, got gate {max(gates):g}")
        marks = [self.mark_from, *(point.mark_from for point in self.operating_points)]
        if self.nnunet is not None and (self.second_look or any(marks)):
            raise ValueError("a Focus of nnU-Net's takes no second_look and no mark_from: set both to 0")
        if self.nnunet is not None and self.finding_model is not None:
            raise ValueError("finding_model is of the plan's own Focus, not of nnU-Net's: leave it out")
        if self.nnunet is not None and self.mass_rules:
            raise ValueError("masses are marked beside the plan's own Focus, not nnU-Net's: leave it out")
        if self.nnunet is not None and self.fluid is not None:
            raise ValueError("fluid is of findings of the plan's own Focus, not of nnU-Net's: leave it out")
        if self.nnunet is not None and self.second_focus is not None:
            raise ValueError("a Focus of nnU-Net's takes no second look and no second_focus: leave it out")
        if self.nnunet is not None and self.focus_int8:
            raise ValueError("focus_int8 is of the plan's own Focus, not of nnU-Net's: leave it empty")
        if self.nnunet is not None and self.marked_by_cells:
            raise ValueError(
                "a Focus of nnU-Net's takes no `cells` for its marks: set their role to gate, or them to null"
            )


def _build(kind: Any, value: Any, where: str) -> Any:
    """Build a (nested) frozen dataclass, tuple or plain value from JSON. Raises ValueError that says where."""
    origin = typing.get_origin(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        if not isinstance(value, dict):
            raise ValueError(f"{where}: expected an object, got {value!r}")
        hints = typing.get_type_hints(kind)
        unknown = sorted(set(value) - set(hints))
        if unknown:
            raise ValueError(f"{where}: unknown key {unknown[0]!r}; known keys are {', '.join(sorted(hints))}")
        return kind(**{key: _build(hints[key], item, f"{where}.{key}") for key, item in value.items()})
    if origin is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{where}: expected a list, got {value!r}")
        return tuple(_build(typing.get_args(kind)[0], item, where) for item in value)
    if origin is Literal:
        if value not in typing.get_args(kind):
            raise ValueError(f"{where}: expected one of {', '.join(map(str, typing.get_args(kind)))}, got {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _build(next(arg for arg in typing.get_args(kind) if arg is not type(None)), value, where)
    if kind is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{where}: expected {kind.__name__}, got {value!r}")
    return value


def from_json(kind: Any, value: Any, where: str) -> Any:
    """Build the frozen dataclass `kind` from parsed JSON. Raises ValueError naming the key for any mismatch."""
    return _build(kind, value, where)


def plan_to_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain JSON values, with the format number."""
    return {"format": PLAN_FORMAT, **json.loads(json.dumps(dataclasses.asdict(plan)))}


def plan_from_json(data: Any, source: str) -> Plan:
    """Parse a plan; `source` is named in errors. Raises WeightsError."""
    try:
        if not isinstance(data, dict) or data.get("format") != PLAN_FORMAT:
            found = data.get("format") if isinstance(data, dict) else data
            raise ValueError(f"plan: format must be {PLAN_FORMAT}, got {found!r}")
        plan = from_json(Plan, {key: item for key, item in data.items() if key != "format"}, "plan")
    except (ValueError, TypeError) as error:
        raise WeightsError(f"{source}: {error}; correct the file or export the weights again") from error
    assert isinstance(plan, Plan)
    return plan


def read_plan(folder: Path) -> Plan:
    """Read `plan.json` of a weights folder. Raises WeightsError naming the file."""
    path = folder / PLAN_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no weights found; {NO_WEIGHTS_REMEDY}") from error
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path}: not readable as JSON ({error}); restore the file") from error
    return plan_from_json(data, str(path))


def preset_plan(name: str) -> Plan:
    """The plan of a shipped preset, `paper` (exactly as published) or `fast`. Raises UsageError."""
    if name not in PRESETS:
        raise UsageError(f"preset {name!r} does not exist; choose one of {', '.join(PRESETS)}")
    text = resources.files("gfscreen").joinpath(f"presets/{name}.json").read_text(encoding="utf-8")
    return plan_from_json(json.loads(text), f"preset {name}")
