"""The head on the trunk's features, against plain NumPy; and the trunk that it needs beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")
pytest.importorskip("monai")

from gfscreen.config import CellGlanceConfig  # noqa: E402 - torch is optional
from gfscreen.errors import WeightsError  # noqa: E402
from gfscreen.networks.models.cell_glance import (  # noqa: E402
    FEATURES,
    REGIONS,
    CellGlance,
    CellHead,
    between,
    linear_head,
    load_trunk,
    trunk_notice,
)
from gfscreen.networks.models.trunk import Trunk  # noqa: E402
from tests.helpers.trunk import LICENCE, random_state, reference_features, write_trunk  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")


def interpolated(values: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Linear along one axis at 0, 0.5, 1, ...; what lies behind the last value is that value."""
    size = values.shape[axis]
    return np.apply_along_axis(lambda line: np.interp(np.arange(2 * size) / 2, np.arange(size), line), axis, values)


class TestBetween:
    @pytest.mark.parametrize("size", [(1, 1, 1), (2, 3, 4), (5, 1, 3), (3, 4, 7)])
    def test_is_linear_interpolation_that_keeps_the_first_voxel(self, size):
        coarse = np.random.default_rng(0).normal(size=(2, 3, *size))
        expected = coarse
        for axis in (2, 3, 4):
            expected = interpolated(expected, axis)
        found = between(torch.from_numpy(coarse)).numpy()
        assert found.shape == (2, 3, *(2 * n for n in size))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def plain_logits(features: list[NDArray[np.float64]], weight: NDArray[np.float64], bias: float) -> NDArray[np.float64]:
    """A matrix product on the four features of each cell: mean and maximum of 3 x 3 x 3 fine ones, middle, coarse."""
    fine, middle, coarse = features
    _, z, x, y = middle.shape
    zeros, nothing = (np.pad(fine, [(0, 0), (1, 1), (1, 1), (1, 1)], constant_values=v) for v in (0.0, -np.inf))
    for axis in (1, 2, 3):
        coarse = interpolated(coarse, axis)
    logits = np.empty((z, x, y))
    for k, i, j in np.ndindex(z, x, y):
        box = np.s_[:, 2 * k : 2 * k + 3, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        mean, highest = zeros[box].mean(axis=(1, 2, 3)), nothing[box].max(axis=(1, 2, 3))
        vector = np.concatenate([mean, highest, middle[:, k, i, j], coarse[:, k, i, j]])
        logits[k, i, j] = vector @ weight + bias
    return logits


class TestHead:
    @pytest.mark.parametrize("size", [(2, 2, 2), (2, 4, 6), (6, 2, 4)])
    def test_is_one_matrix_product_per_region(self, size):
        """Sizes of the middle map; the fine one is twice, the coarse one half as large along each axis."""
        random = np.random.default_rng(1)
        features = [
            random.random((channels, *(int(n * factor) for n in size)))
            for channels, factor in ((256, 2), (512, 1), (1024, 0.5))
        ]
        weights = {region: random.normal(0, 0.05, FEATURES) for region in REGIONS}
        biases = {"chest": -1.5, "abdomen": 0.25}
        head = linear_head({region: torch.from_numpy(w) for region, w in weights.items()}, biases)
        with torch.inference_mode():
            found = head(*(torch.from_numpy(f).float()[None] for f in features))[0].numpy()
        assert found.shape == (2, *size)
        for channel, region in enumerate(("chest", "abdomen")):
            expected = plain_logits(features, weights[region].astype(np.float32).astype(np.float64), biases[region])
            np.testing.assert_allclose(found[channel], expected, atol=1e-4)

    def test_weights_of_another_length_are_refused(self):
        with pytest.raises(RuntimeError):
            linear_head({region: torch.zeros(FEATURES - 1) for region in REGIONS}, dict.fromkeys(REGIONS, 0.0))


class TestOnTheTrunk:
    @pytest.mark.parametrize("size", [(8, 16, 16), (16, 48, 32), (24, 16, 80)])
    def test_a_cell_is_judged_by_the_features_around_it(self, size):
        state = random_state(1)
        with torch.device("meta"):
            trunk = Trunk(1)
        kept = {name: state[name].float() for name in trunk.state_dict()}
        kept["conv1.weight"] = kept["conv1.weight"].sum(1, keepdim=True)
        trunk.load_state_dict(kept, assign=True)
        random = np.random.default_rng(2)
        weights = {region: random.normal(0, 0.02, FEATURES) for region in REGIONS}
        head = linear_head({region: torch.from_numpy(w) for region, w in weights.items()}, dict.fromkeys(REGIONS, 0.5))
        x = torch.from_numpy(random.random((1, 1, *size), dtype=np.float32))
        with torch.inference_mode():
            found = CellGlance(trunk, head).eval()(x)
            features = [f[0].double().numpy() for f in reference_features(state, x, 1)]
        z, xx, y = size
        assert found.shape == (1, 2, z // 4, xx // 8, y // 8)
        assert found.dtype == torch.float32
        expected = plain_logits(features, weights["abdomen"], 0.5)
        np.testing.assert_allclose(found[0, 1].numpy(), expected, atol=2e-3, rtol=1e-3)


class TestLoading:
    CONFIG = CellGlanceConfig(trunk_blocks=2)

    def refused(self, folder: Path) -> str:
        with pytest.raises(WeightsError) as caught:
            load_trunk(folder, self.CONFIG)
        text = str(caught.value)
        assert "\n" not in text
        assert text.startswith(f"{folder / 'trunk.safetensors'}: ")
        return text

    def test_it_is_not_there(self, tmp_path):
        text = self.refused(tmp_path)
        assert "needs the pretrained trunk astra, which is not there" in text
        assert text.endswith(f"make it with: gfscreen trunk --blocks 2 -o {tmp_path / 'trunk.safetensors'}")

    def test_it_holds_too_little(self, tmp_path, monkeypatch):
        write_trunk(tmp_path, random_state(2), 1, monkeypatch)
        text = self.refused(tmp_path)
        assert "holds 1 blocks of the trunk's third stage, these weights need 2; " in text
        assert text.endswith(f"gfscreen trunk --blocks 2 -o {tmp_path / 'trunk.safetensors'}")

    def test_it_is_something_else(self, tmp_path):
        (tmp_path / "trunk.safetensors").write_bytes(b"no trunk")
        assert "damaged, or no pretrained trunk" in self.refused(tmp_path)

    @pytest.mark.parametrize("held", [2, 3])
    def test_of_more_blocks_the_first_are_taken(self, tmp_path, monkeypatch, held):
        state = random_state(3)
        write_trunk(tmp_path, state, held, monkeypatch)
        trunk = load_trunk(tmp_path, self.CONFIG)
        assert (trunk.blocks, len(trunk.layer3)) == (2, 2)
        assert not trunk.training
        x = torch.rand((1, 1, 8, 32, 32), generator=torch.Generator().manual_seed(1))
        with torch.inference_mode():
            found = trunk(x)[2]
        torch.testing.assert_close(found, reference_features(state, x, 2)[2], atol=2e-4, rtol=1e-4)

    def test_what_must_go_with_it(self, tmp_path, monkeypatch):
        write_trunk(tmp_path, random_state(1), 1, monkeypatch)
        assert trunk_notice(tmp_path) == LICENCE
        (tmp_path / "NOTICE").write_text("That of the weights.\n")
        assert trunk_notice(tmp_path) == "That of the weights.\n"


def test_the_stored_state_is_the_heads_alone():
    assert set(CellHead().state_dict()) == {
        "fine_mean.weight", "fine_highest.weight", "middle.weight", "middle.bias", "coarse.weight",
    }  # fmt: skip
