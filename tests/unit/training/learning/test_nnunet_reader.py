"""The gate of a Focus that nnU-Net trained: what that Focus says of a sub-volume, and a Glance that learns from it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.config import read_plan  # noqa: E402 - torch is optional
from gfscreen.errors import UsageError  # noqa: E402
from gfscreen.network_plan import GlanceConfig  # noqa: E402
from gfscreen.networks.models.nnunet import NnunetFocus  # noqa: E402
from gfscreen.networks.models.nnunet_checkpoint import convert_nnunet  # noqa: E402
from gfscreen.networks.models.weights import load_networks  # noqa: E402
from gfscreen.nnunet_plan import InputChannel, NnunetConfig, Resampling, UNetConfig  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from gfscreen.training.learning import assemble, loop, reward_pool  # noqa: E402
from gfscreen.training.learning.distributed import World  # noqa: E402
from gfscreen.training.learning.nnunet_reader import SubVolumeReader  # noqa: E402
from gfscreen.training.settings import settings_from  # noqa: E402
from tests.helpers.nnunet_models import tiny_model  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_thread")
ALONE = World(0, 1, torch.device("cpu"))
UNET = UNetConfig("plain", (4, 4), ((3, 3, 3),) * 2, ((1, 1, 1), (2, 2, 2)), (1, 1), (1,))
CONFIG = NnunetConfig(UNET, (3.0, 2.0, 2.0), (16, 16, 16), (InputChannel("none"),), data_resampling=Resampling(1))


class Bright(NnunetFocus):
    """Lesion is what is brighter than 120 HU; remembers what it was shown."""

    def __init__(self, config: NnunetConfig) -> None:
        super().__init__(config)
        self.shown: list[Any] = []

    def forward(self, x: Any) -> Any:
        self.shown.append(x)
        return torch.where(x[:, :1] > 120.0, 8.0, -8.0)


class TestReader:
    def sub_volume(self) -> Any:
        hu = np.full((48, 40, 16), 40, np.int16)
        hu[8:16, 24:36, 4:9] = 300
        return hu

    def test_the_answer_lies_where_the_lesion_does(self):
        focus = Bright(CONFIG)
        logits = SubVolumeReader(focus, (1.0, 1.0, 3.0), torch.device("cpu"))(self.sub_volume())
        assert logits.shape == (1, 2, 48, 40, 16)
        assert logits.dtype == torch.float32
        found = logits.argmax(dim=1)[0].numpy().astype(bool)
        expected = self.sub_volume() > 120
        assert 2 * (found & expected).sum() / (found.sum() + expected.sum()) > 0.9
        # 24 x 20 x 16 voxels on its grid: two patches along two axes, one along the third.
        assert len(focus.shown) == 4
        assert focus.shown[0].shape == (1, 1, 16, 16, 16)

    def test_it_sees_rows_from_right_to_left(self):
        config = dataclasses.replace(CONFIG, spacing_mm=(3.0, 1.0, 1.0), patch_voxels=(16, 40, 48), step=1.0)
        focus = Bright(config)
        SubVolumeReader(focus, (1.0, 1.0, 3.0), torch.device("cpu"))(self.sub_volume())
        seen = focus.shown[0][0, 0].numpy()
        assert np.array_equal(seen, self.sub_volume()[::-1, ::-1].transpose(2, 1, 0))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nnunet")
    convert_nnunet(tiny_model(folder / "model"), folder / "weights")
    return folder / "weights"


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_training_list(folder)
    return folder


def settings(folder: Path, **keys: Any) -> Any:
    values = {
        "preset": "fast", "stage": "glance", "gate": "grpo_dice", "steps": 2, "group": 3, "pool": 3, "threads": 1,
        "crop_voxels": [64, 32, 32], "evaluation_crops": 2, "log_every": 1,
        "glance": {"architecture": "resnet10", "stage_channels": [4, 4, 8, 8], "first_stride": [2, 2, 2]}, **keys,
    }  # fmt: skip
    path = folder / "settings.json"
    path.write_text(json.dumps(values))
    return settings_from(None, path)


class TestGate:
    def test_learns_from_the_reward_of_that_focus(self, converted, data_folder, tmp_path, monkeypatch):
        read = []
        plain = SubVolumeReader.__call__
        monkeypatch.setattr(
            reward_pool.SubVolumeReader, "__call__", lambda self, hu: read.append(hu.shape) or plain(self, hu)
        )
        chosen = settings(tmp_path, init=str(converted))
        assert chosen.nnunet == read_plan(converted).nnunet
        job = loop.Job(read_list(data_folder / "list.json"), data_folder / "cache", tmp_path / "run")
        weights = loop.train(chosen, job, ALONE)
        assert set(read) == {(64, 32, 32)}
        plan, glance, focus = load_networks(weights)
        assert plan.nnunet == chosen.nnunet
        assert (plan.without_glance, plan.gate, plan.second_look) == (False, 0.9, 0.0)
        assert glance is not None
        _, _, before = load_networks(converted)
        state = focus.state_dict()
        # The weights are stored in half precision.
        assert all(torch.equal(value.half(), state[name].half()) for name, value in before.state_dict().items())
        # And the run can be put together with the converted Focus, at the gate that validation chooses.
        assemble.assemble([converted], [tmp_path / "run"], tmp_path / "both", gate=0.3)
        plan, glance, _ = load_networks(tmp_path / "both")
        assert (plan.nnunet, plan.gate, plan.without_glance) == (chosen.nnunet, 0.3, False)
        assert plan.glance == GlanceConfig("resnet10", (4, 4, 8, 8), (2, 2, 2))

    def test_the_run_goes_on(self, converted, data_folder, tmp_path):
        job = loop.Job(read_list(data_folder / "list.json"), data_folder / "cache", tmp_path / "run")
        loop.train(settings(tmp_path, init=str(converted), steps=1), job, ALONE)
        again = dataclasses.replace(job, resume=True)
        loop.train(settings(tmp_path, init=str(converted), steps=1), again, ALONE)

    def test_the_focus_itself_is_not_trained_here(self, converted, tmp_path):
        for keys in ({"stage": "joint"}, {"stage": "focus"}, {"augment": "strong"}):
            with pytest.raises(UsageError, match="it is trained by nnU-Net"):
                settings(tmp_path, init=str(converted), **keys)

    def test_a_glance_from_weights_that_have_none(self, converted, data_folder, tmp_path):
        job = loop.Job(read_list(data_folder / "list.json"), data_folder / "cache", tmp_path / "run")
        with pytest.raises(UsageError, match="has no Glance"):
            loop.train(settings(tmp_path, init=str(converted), init_glance=str(converted)), job, ALONE)
        with pytest.raises(UsageError, match="has no Glance"):
            assemble.assemble([converted], [converted], tmp_path / "both")
