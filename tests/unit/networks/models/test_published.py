"""Checkpoints of the published layout: read without running their code, converted without loss, or refused."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
PatchMergingV2 = pytest.importorskip("monai.networks.nets.swin_unetr").PatchMergingV2

from gfscreen.config import preset_plan, read_plan  # noqa: E402 - torch is optional
from gfscreen.errors import WeightsError  # noqa: E402
from gfscreen.network_plan import FocusConfig, GlanceConfig  # noqa: E402
from gfscreen.networks.models.focus import LESION_CLASS, FocusProbability, LegacyPatchMerging, build_focus  # noqa: E402
from gfscreen.networks.models.glance import Glance, GlanceProbability  # noqa: E402
from gfscreen.networks.models.manifest import read_manifest, verify  # noqa: E402
from gfscreen.networks.models.published import convert_checkpoint  # noqa: E402
from gfscreen.networks.models.weights import (  # noqa: E402
    build_networks,
    init_weights,
    load_networks,
    save_weights,
    stored_precision,
)

TINY_FOCUS = FocusConfig(feature_size=12, depths=(1, 2, 1, 1), num_heads=(1, 2, 2, 4), patch_merging="legacy")
TINY_GLANCE = GlanceConfig("resnet10", (4, 8, 16, 32))
State = dict[str, Any]


pytestmark = pytest.mark.usefixtures("one_thread")


def published_state(glance: GlanceConfig = TINY_GLANCE, focus: FocusConfig = TINY_FOCUS, seed: int = 0) -> State:
    """Tensors of both networks under the published names."""
    torch.manual_seed(seed)
    networks = {"glance_model.": Glance(glance), "segmentation_model.": build_focus(focus)}
    return {
        prefix + name: value for prefix, network in networks.items() for name, value in network.state_dict().items()
    }


@pytest.fixture(scope="module")
def state() -> State:
    return published_state()


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, state: State) -> Path:
    folder = tmp_path_factory.mktemp("published")
    convert_checkpoint(saved(folder / "model.pt", {"state_dict": state, "epoch": 500}), folder / "weights")
    return folder / "weights"


class TestConversion:
    def test_the_plan_is_the_published_method_with_sizes_from_the_tensors(self, converted):
        plan = read_plan(converted)
        assert plan == replace(
            preset_plan("paper"), weights="trained", foreground="hu_floor", glance=TINY_GLANCE, focus=TINY_FOCUS
        )
        assert plan.focus.patch_merging == "legacy"
        assert plan.glance.pooling == "max"

    def test_every_tensor_arrives_unchanged(self, converted, state):
        _, glance, focus = load_networks(converted)
        for prefix, network in (("glance_model.", glance), ("segmentation_model.", focus)):
            for name, value in network.state_dict().items():
                torch.testing.assert_close(value, state[prefix + name], rtol=0, atol=0)

    def test_the_networks_compute_what_the_checkpoint_computes(self, converted, state):
        plan, glance, focus = load_networks(converted)
        x = torch.rand(1, 1, 64, 32, 32, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            suspicion, outline = GlanceProbability(glance)(x), FocusProbability(focus)(x)
            # The same with MONAI's networks built here, max pooling put in by hand.
            original = build_focus(TINY_FOCUS).eval()
            original.load_state_dict({n.removeprefix("segmentation_model."): v for n, v in state.items() if "seg" in n})
            expected = torch.softmax(original(x), dim=1)[:, LESION_CLASS]
        assert suspicion.shape == (1,)
        assert 0.0 < float(suspicion) < 1.0
        torch.testing.assert_close(outline, expected)
        # Since MONAI 1.5 the neighbours are merged in another order: the same tensors, another mask.
        modern = build_focus(replace(plan.focus, patch_merging="monai")).eval()
        modern.load_state_dict(focus.state_dict())
        with torch.inference_mode():
            assert (FocusProbability(modern)(x) - outline).abs().max() > 1e-4

    def test_global_max_pooling(self, converted):
        _, glance, _ = load_networks(converted)
        assert isinstance(glance.backbone.avgpool, torch.nn.AdaptiveMaxPool3d)

    def test_the_folder_is_complete_and_vouched_for(self, converted):
        assert sorted(path.name for path in converted.iterdir()) == [
            "focus.safetensors",
            "glance.safetensors",
            "manifest.json",
            "plan.json",
        ]
        assert verify(converted).info["source"] == "model.pt"

    @pytest.mark.parametrize(
        "glance",
        [
            GlanceConfig("resnet18", (4, 4, 8, 8)),
            GlanceConfig("resnet10", (4, 8, 16, 16), shortcut="B", bias_downsample=False),
            GlanceConfig("resnet10", (4, 8, 16, 16), shortcut="B", bias_downsample=True),
        ],
    )
    def test_forms_of_the_residual_network(self, tmp_path, glance):
        path = saved(tmp_path / "m.pt", published_state(glance))
        convert_checkpoint(path, tmp_path / "w")
        assert read_plan(tmp_path / "w").glance == glance
        load_networks(tmp_path / "w")

    def test_plain_state_and_ddp_prefix_and_modern_merging(self, tmp_path, state):
        wrapped = {f"module.{name}": value for name, value in state.items()}
        convert_checkpoint(saved(tmp_path / "m.pt", wrapped), tmp_path / "w", merging="monai")
        assert read_plan(tmp_path / "w").focus == replace(TINY_FOCUS, patch_merging="monai")

    @pytest.mark.parametrize(
        ("precision", "stored"), [("keep", "float32"), ("float32", "float32"), ("float16", "float16")]
    )
    def test_precision_on_disk(self, tmp_path, state, precision, stored):
        convert_checkpoint(saved(tmp_path / "m.pt", state), tmp_path / "w", precision=precision)
        assert stored_precision(tmp_path / "w" / "focus.safetensors") == stored
        assert all(p.dtype == torch.float32 for p in load_networks(tmp_path / "w")[2].parameters())


class TestLegacyMerging:
    def test_neighbours_in_the_old_order(self):
        merging = LegacyPatchMerging(dim=2, spatial_dims=3)
        x = torch.rand(1, 4, 4, 2, 2, generator=torch.Generator().manual_seed(0))
        # MONAI 1.4, PatchMerging.forward, slices x0 to x7, written out.
        parts = [
            x[:, 0::2, 0::2, 0::2, :],
            x[:, 1::2, 0::2, 0::2, :],
            x[:, 0::2, 1::2, 0::2, :],
            x[:, 0::2, 0::2, 1::2, :],
            x[:, 1::2, 0::2, 1::2, :],
            x[:, 0::2, 1::2, 0::2, :],
            x[:, 0::2, 0::2, 1::2, :],
            x[:, 1::2, 1::2, 1::2, :],
        ]
        expected = merging.reduction(merging.norm(torch.cat(parts, -1)))
        torch.testing.assert_close(merging(x), expected, rtol=0, atol=0)
        assert expected.shape == (1, 2, 2, 1, 4)

    def test_odd_sizes_are_padded_behind(self):
        merging = LegacyPatchMerging(dim=1, spatial_dims=3)
        x = torch.rand(1, 3, 2, 5, 1, generator=torch.Generator().manual_seed(0))
        padded = torch.zeros(1, 4, 2, 6, 1)
        padded[:, :3, :, :5] = x
        torch.testing.assert_close(merging(x), merging(padded), rtol=0, atol=0)

    @pytest.mark.parametrize(("merging", "legacy"), [("legacy", True), ("monai", False)])
    def test_every_stage_uses_what_the_plan_says(self, merging, legacy):
        network = build_focus(replace(TINY_FOCUS, patch_merging=merging))
        merged = [module for module in network.modules() if isinstance(module, PatchMergingV2)]
        assert len(merged) == 4
        assert [isinstance(module, LegacyPatchMerging) for module in merged] == [legacy] * 4


class TestRefusals:
    def error_of(self, path: Path, folder: Path) -> str:
        with pytest.raises(WeightsError) as caught:
            convert_checkpoint(path, folder / "w")
        message = str(caught.value)
        assert message.startswith(str(path))
        assert "\n" not in message
        assert not (folder / "w").exists()
        return message

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (lambda s: s.pop("glance_model.layer.0.bias"), "1 tensors are missing, first layer.0.bias"),
            (lambda s: s.update({"segmentation_model.extra": torch.zeros(1)}), "1 tensors are unknown, first extra"),
            (lambda s: s.update({"glance_model.layer.0.bias": torch.zeros(3)}), r"layer.0.bias has shape (3,)"),
            (lambda s: [s.pop(n) for n in list(s) if "backbone.layer3" in n], "(1, 1, 0, 1) blocks per stage"),
            (lambda s: [s.pop(n) for n in list(s) if n.startswith("glance")], "found 0 and"),
            (lambda s: s.pop("segmentation_model.swinViT.patch_embed.proj.weight"), "patch_embed.proj.weight"),
            (lambda s: [s.pop(n) for n in list(s) if "layers2" in n and "bias_table" in n], "missing"),
        ],
    )
    def test_another_layout(self, tmp_path, state, change: Callable[[State], object], said):
        damaged = dict(state)
        change(damaged)
        assert said in self.error_of(saved(tmp_path / "m.pt", damaged), tmp_path)

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": [1]}, {"a": 1}, {}, None])
    def test_no_dictionary_of_tensors(self, tmp_path, content):
        assert self.error_of(saved(tmp_path / "m.pt", content), tmp_path)

    @pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 half a zip"])
    def test_no_checkpoint_at_all(self, tmp_path, content):
        (tmp_path / "m.pt").write_bytes(content)
        assert "not a readable checkpoint" in self.error_of(tmp_path / "m.pt", tmp_path)

    def test_truncated(self, tmp_path, state):
        path = saved(tmp_path / "m.pt", state)
        path.write_bytes(path.read_bytes()[:-1000])
        assert "not a readable checkpoint" in self.error_of(path, tmp_path)

    def test_missing(self, tmp_path):
        assert "no such checkpoint" in self.error_of(tmp_path / "gone.pt", tmp_path)

    def test_pickled_code_is_not_run(self, tmp_path):
        class Trap:
            def __reduce__(self) -> tuple[Any, ...]:
                return (Path.touch, (tmp_path / "trapped",))

        with (tmp_path / "m.pt").open("wb") as stream:
            pickle.dump({"state_dict": Trap()}, stream)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on old pickles
            self.error_of(tmp_path / "m.pt", tmp_path)
        assert not (tmp_path / "trapped").exists()


class TestWeightsFolder:
    @pytest.fixture
    def plan(self):
        return replace(preset_plan("fast"), glance=TINY_GLANCE, focus=TINY_FOCUS)

    def test_untrained_weights_depend_on_the_seed_alone(self, tmp_path, plan):
        digests = [init_weights(tmp_path / name, plan, seed).digest for name, seed in (("a", 0), ("b", 0), ("c", 1))]
        assert digests[0] == digests[1] != digests[2]
        assert read_manifest(tmp_path / "a").info["weights"] == "untrained"

    def test_weights_of_another_plan(self, tmp_path, plan, state):
        wider = replace(plan, glance=replace(TINY_GLANCE, stage_channels=(8, 8, 16, 32)))
        parts = [
            {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
            for prefix in ("glance_model.", "segmentation_model.")
        ]
        save_weights(tmp_path, wider, *parts)
        with pytest.raises(WeightsError, match=r"glance.safetensors: does not fit the plan: .* has shape"):
            load_networks(tmp_path)

    @pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e6])  # half precision ends at 65504
    @pytest.mark.parametrize("number", [0, 1])
    def test_tensors_that_are_not_finite(self, tmp_path, plan, number, value):
        states = [network.state_dict() for network in build_networks(plan)]
        file, name = (("glance", "layer.0.bias"), ("focus", "out.conv.conv.bias"))[number]
        states[number][name][1] = value
        save_weights(tmp_path, plan, *states)
        said = rf"{file}.safetensors: 1 tensors hold NaN or infinity, first {name}; restore the file"
        with pytest.raises(WeightsError, match=said) as caught:
            load_networks(tmp_path)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["glance.safetensors", "focus.safetensors", "plan.json"])
    def test_damage_is_found_before_anything_is_loaded(self, tmp_path, plan, name):
        init_weights(tmp_path, plan, 0)
        data = bytearray((tmp_path / name).read_bytes())
        data[-1] ^= 0xFF
        (tmp_path / name).write_bytes(bytes(data))
        with pytest.raises(WeightsError, match=rf"{name}: damaged"):
            load_networks(tmp_path)
