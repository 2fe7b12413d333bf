"""The plan as data: what is not known or does not fit is an error that says where."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from gfscreen.config import (
    OPERATING_POINTS,
    PRESETS,
    OperatingPoint,
    Plan,
    from_json,
    plan_from_json,
    plan_to_json,
    preset_plan,
    read_plan,
)
from gfscreen.errors import UsageError, WeightsError
from gfscreen.finding_plan import FindingMeasure, FindingModel
from gfscreen.network_plan import CellGlanceConfig, FocusConfig, GlanceConfig, HUWindow, HUWindows, Int8Input
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling, UNetConfig


def point(name: str = "balanced", **values: float) -> dict[str, Any]:
    """An operating point as JSON, with some values replaced."""
    return {"name": name, "gate": 0.5, "mark_from": 0.0, "lesion_threshold": 0.4, "finding_peak": 0.6, **values}


def judged(*names: str, **values: Any) -> dict[str, Any]:
    """A finding model as JSON, some of whose first measure's values are replaced."""
    measures = [
        {"name": name, "mean": 1.0, "scale": 2.0, "weight": 0.5, "products": [0.0] * (len(names) - number)}
        for number, name in enumerate(names)
    ]
    for measure in measures[:1]:
        measure.update(values)
    return {"offset": -1.0, "measures": measures, "least_peak": 0.5}


def whole(name: str, low: float = 0.0, high: float = 1.0) -> list[dict[str, Any]]:
    """One convolution in whole numbers as JSON."""
    return [{"convolution": name, "low": low, "high": high}]


UNET = UNetConfig("residual", (4, 8), ((1, 3, 3), (3, 3, 3)), ((1, 1, 1), (1, 2, 2)), (1, 2), (1,), stem_channels=2)
NNUNET = NnunetConfig(
    UNET,
    (3.0, 2.0, 2.0),
    (16, 24, 32),
    (InputChannel("ct", None, (-900.0, 700.0), -40.0, 240.0), InputChannel("none", (-150.0, 250.0))),
    ("background", "organ", "lesion"),
    (2,),
    folds=5,
    transpose=(2, 0, 1),
    orientation="ras",
    mirror_axes=(0, 2),
    data_resampling=Resampling(3, 1, True),
)


def nnunet(**values: Any) -> dict[str, Any]:
    """The default plan as JSON with a Focus of nnU-Net's, some of whose values are replaced as in `changed`."""
    data = changed(nnunet=json.loads(json.dumps(dataclasses.asdict(NNUNET))))
    return changed(**{**data, **{f"nnunet__{name}": value for name, value in values.items()}})


def changed(**values: Any) -> dict[str, Any]:
    """The default plan as JSON with some keys replaced; a dotted name reaches into an object."""
    data = plan_to_json(Plan())
    for name, value in values.items():
        *path, last = name.split("__")
        place = data
        for key in path:
            place = place[key]
        place[last] = value
    return data


class TestRoundTrip:
    @pytest.mark.parametrize(
        "plan",
        [
            Plan(),
            Plan(
                preset="own",
                weights="trained",
                spacing_mm=(1.5, 1.5, 2.0),
                sub_volume_voxels=(64, 96, 32),
                overlap=0.0,
                gate=1.0,
                foreground="hu_floor",
                hu_windows=HUWindows(HUWindow(-1000.0, 400.0), HUWindow(-100.0, 300.0)),
                glance=GlanceConfig("resnet10", (8, 16, 32, 64), (2, 2, 1), "B", False, "avg"),
                focus=FocusConfig(12, (1, 1, 2, 2), (2, 2, 4, 4), False, "legacy"),
            ),
            Plan(
                mark_from=0.3,
                cells=CellGlanceConfig("astra", 36, (2.0, 2.0, 3.0), HUWindows(), (0.8, -1.5), "marks"),
                operating_points=(
                    OperatingPoint("sensitive", 0.1, 0.0, 0.2, 0.3),
                    OperatingPoint("specific", 0.5, 0.4, 0.6, 0.9),
                ),
            ),
            Plan(nnunet=NNUNET, finding_percentile=95.0, empty_below_ml=0.5, empty_up_to=2),
            Plan(nnunet=NNUNET, without_glance=True, gate=0.0),
            Plan(focus_int8=(Int8Input("out.conv", 0.0, 9.5), Int8Input("encoder1.conv", -3.25, 8.0))),
            Plan(
                finding_model=FindingModel(
                    -1.5,
                    (
                        FindingMeasure("length", 0.3, 0.2, -0.7, (0.1, -0.2)),
                        FindingMeasure("chest", 0.5, 0.5, 0.0, (0.3,)),
                    ),
                    0.4,
                ),
                finding_from=0.4,
                operating_points=(OperatingPoint("specific", 0.5, 0.0, 0.6, 0.9, 0.7),),
            ),
        ],
    )
    def test_through_a_file(self, plan, tmp_path):
        (tmp_path / "plan.json").write_text(json.dumps(plan_to_json(plan)))
        assert read_plan(tmp_path) == plan

    def test_whole_numbers_are_read_as_lengths(self):
        plan = plan_from_json(changed(spacing_mm=[1, 1, 3], gate=1), "a")
        assert plan.spacing_mm == (1.0, 1.0, 3.0)
        assert isinstance(plan.gate, float)

    def test_missing_keys_take_their_defaults(self):
        assert plan_from_json({"format": 1, "gate": 0.3}, "a") == Plan(gate=0.3)

    def test_plans_are_frozen(self):
        with pytest.raises(dataclasses.FrozenInstanceError):
            Plan().gate = 0.5


class TestMistakes:
    @pytest.mark.parametrize(
        ("data", "said"),
        [
            (changed(overlapp=0.5), "plan: unknown key 'overlapp'; known keys are .*overlap"),
            (changed(glance__pool="max"), "plan.glance: unknown key 'pool'"),
            (changed(hu_windows__chest__low=1), "plan.hu_windows.chest: unknown key 'low'"),
            (changed(gate="high"), "plan.gate: expected float, got 'high'"),
            (changed(gate=True), "plan.gate: expected float, got True"),
            (changed(gate=1.5), "gate must be a probability"),
            (changed(gate=float("nan")), "gate must be a probability"),
            (changed(lesion_threshold=0.0), "lesion_threshold must be a probability in"),
            (changed(lesion_threshold=0.6), r"finding_peak must be a probability in \[0.6, 1\)"),
            (changed(min_finding_ml=-0.1), "min_finding_ml must be a volume from 0 to 1000 ml, got -0.1"),
            (changed(finding_peak=0.4), r"finding_peak must be a probability in \[0.5, 1\)"),
            (changed(second_look=-0.1), "second_look must be a share from 0 to 10, got -0.1"),
            (changed(second_look=float("nan")), "second_look must be a share from 0 to 10"),
            (changed(overlap=1.0), "overlap must be at least 0 and below 1"),
            (changed(overlap=-0.1), "overlap must be at least 0 and below 1"),
            (changed(spacing_mm=[1.0, 1.0]), "spacing_mm must be three positive lengths"),
            (changed(spacing_mm=[1.0, 0.0, 3.0]), "spacing_mm must be three positive lengths"),
            (changed(spacing_mm=1.0), "plan.spacing_mm: expected a list"),
            (changed(sub_volume_voxels=[96, 96, 50]), "three multiples of 32"),
            (changed(sub_volume_voxels=[96.0, 96, 64]), "plan.sub_volume_voxels: expected int, got 96.0"),
            (changed(sub_volume_voxels=[0, 96, 64]), "three multiples of 32"),
            (changed(hu_windows__chest__low_hu=700.0), "low_hu must be below high_hu"),
            (changed(foreground="all"), "plan.foreground: expected one of body, hu_floor, got 'all'"),
            (changed(focus__patch_merging="old"), "plan.focus.patch_merging: expected one of legacy, monai"),
            (changed(focus__use_v2=1), "plan.focus.use_v2: expected bool, got 1"),
            (changed(focus__feature_size=48.5), "plan.focus.feature_size: expected int"),
            (changed(glance="resnet18"), "plan.glance: expected an object"),
            (changed(mark_from=0.5), "mark_from 0.5 asks for a Glance that judges cells: set `cells`, or 0"),
            (changed(mark_from=1.0), r"mark_from must be a probability in \[0, 1\), got 1"),
            (changed(cells={"trunk_blocks": 37}), "trunk_blocks must be from 1 to 36, got 37"),
            (changed(cells={"spacing_mm": [1.5, 3.0]}), "spacing_mm must be three positive lengths"),
            (changed(cells={"case_calibration": [1.0]}), "case_calibration must be a slope and an offset"),
            (changed(cells={"case_calibration": [1.0, float("nan")]}), "case_calibration must be a slope and an"),
            (changed(cells={"role": "judge"}), "plan.cells.role: expected one of gate, marks, got 'judge'"),
            (
                {**nnunet(), "cells": {"role": "marks"}},
                "a Focus of nnU-Net's takes no `cells` for its marks: set their role to gate, or them to null",
            ),
            (changed(cells={"trunk": "other"}), "plan.cells.trunk: expected one of astra, got 'other'"),
            (changed(operating_points=[point("best")]), "expected one of sensitive, balanced, specific, got 'best'"),
            (changed(operating_points=[point(gate=1.5)]), "operating point balanced: gate must be a probability"),
            (
                changed(operating_points=[point(finding_peak=0.3)]),
                r"operating point balanced: finding_peak must be a probability in \[0.4, 1\)",
            ),
            (changed(operating_points=[point(lesion_threshold=1.0)]), "operating point balanced: lesion_threshold"),
            (changed(operating_points=[point(), point()]), "operating_points must have a name each, got balanced, bal"),
            (
                changed(operating_points=[point(mark_from=0.5)]),
                "operating point balanced: mark_from 0.5 asks for a Glance that judges cells: set `cells`, or 0",
            ),
            (
                changed(operating_points=[point(mark_from=0.5, gate=0.0)], cells={}),
                "operating point balanced: mark_from 0.5 asks for a Glance, which gate 0 leaves out",
            ),
            (changed(operating_points=[{"name": "balanced"}]), "missing 4 required positional arguments"),
            (changed(operating_points=[point(overlap=0.5)]), "plan.operating_points: unknown key 'overlap'"),
            (
                changed(finding_from=0.4),
                "finding_from asks what a finding is likely to be: set `finding_model`, or it to 0",
            ),
            (changed(operating_points=[point(finding_from=0.4)]), "finding_from asks what a finding is likely to be"),
            (changed(look_from=0.1), "look_from asks what a finding is likely to be: set `finding_model`, or it to 0"),
            (changed(look_from=1.0, finding_model=judged("length")), "look_from must be a probability"),
            (changed(finding_from=1.0, finding_model=judged("length")), "finding_from must be a probability in"),
            (
                changed(operating_points=[point(finding_from=-0.1)], finding_model=judged("length")),
                "operating point balanced: finding_from must be a probability in",
            ),
            (changed(finding_model=judged("girth")), "girth is none of the measures, which are peak_logit, .*chest"),
            (changed(finding_model=judged()), "finding_model must name each of its measures once, got none"),
            (changed(finding_model=judged("length", "length")), "its measures once, got length, length"),
            (
                changed(finding_model=judged("length", scale=0.0)),
                "length: all numbers must be finite and scale above 0",
            ),
            (changed(finding_model=judged("length", weight=float("nan"))), "length: all numbers must be finite"),
            (changed(finding_model=judged("length", products=[float("inf")])), "length: all numbers must be finite"),
            (
                changed(finding_model=judged("length", "chest", products=[0.1])),
                "length: expected 2 products, with itself and with each measure that follows, got 1",
            ),
            (
                changed(finding_model={**judged("length"), "offset": float("inf")}),
                "finding_model: offset must be finite, got inf",
            ),
            (
                changed(finding_model={**judged("length"), "least_peak": 0.0}),
                "finding_model: least_peak must be a probability in",
            ),
            (changed(masses={}), "masses asks for a Glance that judges cells: set `cells`, or it to null"),
            (changed(cells={}, masses={"least_ml": 0.0}), "least_ml must be a volume above 0"),
            (changed(liver_masses={}), "liver_masses asks for a Glance that judges cells: set `cells`, or it to null"),
            (changed(cells={}, liver_masses={"least_ml": 0.0}), "liver_masses: least_ml must be a volume above 0"),
            ({**nnunet(), "cells": {}, "liver_masses": {}}, "masses are marked beside the plan's own Focus, not nnU-"),
            ({**nnunet(), "cells": {}, "masses": {}}, "masses are marked beside the plan's own Focus, not nnU-Net's"),
            ({**nnunet(), "finding_model": judged("length")}, "finding_model is of the plan's own Focus, not of nnU-"),
            (changed(fluid={"lowest_hu": 30.0}), "fluid: lowest_hu must be below highest_hu, both from -100 to 100 HU"),
            (changed(fluid={"spread_hu": 0.0}), "fluid: spread_hu must be above 0"),
            (changed(fluid={"least_ml": 0.0}), "fluid: least_ml must be a volume above 0"),
            ({**nnunet(), "fluid": {}}, "fluid is of findings of the plan's own Focus, not of nnU-Net's: leave it out"),
            (changed(finding_percentile=0.0), "finding_percentile must be above 0 and at most 100, got 0"),
            (changed(empty_below_ml=-1.0), "empty_below_ml must be a volume from 0 to 1000 ml"),
            (changed(without_glance=True, gate=0.0), "without_glance is for weights with `nnunet` alone"),
            ({**nnunet(), "without_glance": True}, "without_glance leaves gate 0 and no `cells`, got gate 0.9"),
            ({**nnunet(), "focus_int8": whole("a.conv")}, "focus_int8 is of the plan's own Focus, not of nnU-Net's"),
            (
                changed(focus_int8=whole("a.conv", low=0.1)),
                r"a\.conv: low must be at most 0 .*, got \[0\.1",
            ),
            (changed(focus_int8=whole("a.conv", high=0.0)), r"a\.conv: low must be at most 0 and high above, got"),
            (changed(focus_int8=whole("a.conv") + whole("a.conv")), "focus_int8 must name each convolution once"),
            ({**nnunet(), "second_look": 0.5}, "a Focus of nnU-Net's takes no second_look and no mark_from"),
            (nnunet(patch_voxels=[16, 23, 32]), r"patch_voxels must be multiples of \(1, 2, 2\)"),
            (nnunet(spacing_mm=[3.0, 2.0]), "nnunet: spacing_mm must be three positive lengths"),
            (nnunet(lesion=[3]), "lesion must name outputs from 1 to 2"),
            (nnunet(lesion=[0]), "lesion must name outputs from 1 to 2"),
            (nnunet(transpose=[0, 1, 1]), "transpose must be an order of 0, 1 and 2"),
            (nnunet(mirror_axes=[3]), "mirror_axes must be among 0, 1 and 2"),
            (nnunet(step=0.0), "step must be above 0 and at most 1"),
            (nnunet(channels=[]), "expected at least one channel and fold"),
            (nnunet(data_resampling__order=6), "resampling: orders must be from 0 to 5"),
            (nnunet(unet__features=[4]), "unet: expected at least two stages"),
            (nnunet(unet__strides=[[1, 1, 1]]), "unet: strides must have 2 entries, got 1"),
            (nnunet(unet__kernels=[[1, 2, 3], [3, 3, 3]]), "unet: kernels must be odd"),
            (nnunet(unet__encoder="conv"), "plan.nnunet.unet.encoder: expected one of plain, residual"),
            (nnunet(unet__width=3), "plan.nnunet.unet: unknown key 'width'"),
            (changed(format=2), "format must be 1, got 2"),
            ({}, "format must be 1, got None"),
            ([], r"format must be 1, got \[\]"),
        ],
    )
    def test_is_named_with_its_place(self, data, said):
        with pytest.raises(WeightsError, match=rf"^some/plan.json: .*{said}") as caught:
            plan_from_json(data, "some/plan.json")
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"null"])
    def test_file_that_is_no_json(self, tmp_path, content):
        (tmp_path / "plan.json").write_bytes(content)
        with pytest.raises(WeightsError, match=r"plan.json: "):
            read_plan(tmp_path)

    def test_no_file(self, tmp_path):
        with pytest.raises(WeightsError, match=r"plan.json: no weights found; name a weights folder \(--weights"):
            read_plan(tmp_path)

    def test_optional_values(self):
        @dataclasses.dataclass(frozen=True)
        class WithOption:
            limit: float | None = None

        # The annotation is a string here, resolved by name in this module: float needs none.
        assert from_json(WithOption, {"limit": None}, "x") == WithOption(None)
        assert from_json(WithOption, {"limit": 3}, "x") == WithOption(3.0)


class TestPresets:
    def test_paper_is_the_published_method(self):
        plan = preset_plan("paper")
        assert (plan.spacing_mm, plan.sub_volume_voxels, plan.overlap, plan.gate) == (
            (1.0, 1.0, 3.0),
            (96, 96, 64),
            0.25,
            0.9,
        )
        assert plan.hu_windows == HUWindows(HUWindow(-900.0, 650.0), HUWindow(-175.0, 250.0))
        assert (plan.glance.architecture, plan.glance.pooling, plan.glance.first_stride) == (
            "resnet18",
            "max",
            (1, 1, 1),
        )
        assert plan.glance.stage_channels == (64, 128, 256, 512)
        assert (plan.focus.feature_size, plan.focus.use_v2) == (48, True)
        assert plan.focus.depths == (2, 2, 2, 2)
        assert plan.focus.num_heads == (3, 6, 12, 24)

    @pytest.mark.parametrize("name", PRESETS)
    def test_every_preset_names_itself_and_is_untrained(self, name):
        plan = preset_plan(name)
        assert (plan.preset, plan.weights) == (name, "untrained")

    def test_preset_files_and_the_list_agree(self):
        import gfscreen

        files = (Path(gfscreen.__file__).parent / "presets").glob("*.json")
        assert sorted(path.stem for path in files) == sorted(PRESETS)

    def test_a_preset_that_does_not_exist(self):
        with pytest.raises(UsageError, match="preset 'slow' does not exist; choose one of paper, fast"):
            preset_plan("slow")


def test_hu_window_of_a_region():
    windows = HUWindows()
    assert windows.of("chest") is windows.chest
    assert windows.of("abdomen") is windows.abdomen


def test_the_names_of_operating_points_go_from_finding_more_to_marking_less():
    assert OPERATING_POINTS == ("sensitive", "balanced", "specific")
