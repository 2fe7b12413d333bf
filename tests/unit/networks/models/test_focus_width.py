"""A Focus that is narrow at full resolution: begun from a wide one, trained, assembled."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.config import read_plan  # noqa: E402
from gfscreen.network_plan import FocusConfig  # noqa: E402
from gfscreen.networks.models.focus import build_focus, fitted, narrowed  # noqa: E402
from gfscreen.networks.models.manifest import change_plan  # noqa: E402
from gfscreen.networks.models.weights import init_weights, load_networks  # noqa: E402
from gfscreen.training.data.lists import read_list  # noqa: E402
from gfscreen.training.learning import assemble, loop  # noqa: E402
from gfscreen.training.learning.distributed import World  # noqa: E402
from tests.helpers.tiny_training import TINY  # noqa: E402
from tests.helpers.training_lists import write_training_list  # noqa: E402

WIDE = FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 1, 1), window_size=4)
NARROW = replace(WIDE, full_resolution_channels=4)
BOTH = replace(NARROW, hu_channels="both")
# What reads the channels of each layer at full resolution, and where they begin (the decoder reads 12 from below).
READERS = {
    "out.conv.conv.weight": (0,),
    "decoder1.conv_block.conv2.conv.weight": (0,),
    "decoder1.conv_block.conv1.conv.weight": (0, 12),
    "decoder1.conv_block.conv3.conv.weight": (0, 12),
    "encoder1.layer.conv2.conv.weight": (0,),
}


@pytest.mark.parametrize("width", [0, 13])
def test_a_width_that_cannot_be(width):
    with pytest.raises(ValueError, match=f"from 1 to feature_size 12, got {width}"):
        replace(WIDE, full_resolution_channels=width)


def test_of_a_wide_one_that_uses_four_channels_these_are_kept():
    """All others weigh a hundredth of them: they are the ones left out, and the answer is hardly another."""
    torch.manual_seed(2)
    rng = np.random.default_rng(3)
    wide, narrow = build_focus(WIDE).eval(), build_focus(NARROW).eval()
    state = wide.state_dict()
    unchanged = {name: value.clone() for name, value in state.items()}
    for names in (("out.conv.conv.weight",), tuple(READERS)[1:2], tuple(READERS)[2:4], tuple(READERS)[4:]):
        for first in READERS[names[0]]:
            slight = torch.from_numpy(rng.permutation(12)[4:]) + first
            for name in names:
                state[name][:, slight] *= 0.01
    narrow.load_state_dict(narrowed(state, NARROW))
    image = torch.rand(1, 1, 64, 32, 32)
    with torch.inference_mode():
        before, after = wide(image), narrow(image)
    assert before.std() > 0.1
    assert np.corrcoef(before.flatten(), after.flatten())[0, 1] > 0.99
    # Which ones matters: those of the network as it was are others.
    narrow.load_state_dict(narrowed(unchanged, NARROW))
    with torch.inference_mode():
        assert np.corrcoef(before.flatten(), narrow(image).flatten())[0, 1] < 0.9


def test_what_fits_stays_as_it_is():
    for config in (WIDE, NARROW):
        state = build_focus(config).state_dict()
        assert all(torch.equal(value, state[name]) for name, value in fitted(state, config).items())
    network_of_another_make = {"a.weight": torch.ones(2)}
    assert fitted(network_of_another_make, NARROW) == network_of_another_make


def test_on_from_a_wide_one(tmp_path: Path):
    """Narrower and with a channel more at once; gate and thresholds are kept by `assemble --thresholds`."""
    write_training_list(tmp_path)
    settings = replace(TINY, focus=BOTH, evaluation_crops=1, steps=2, init=str(tmp_path / "before"))
    init_weights(tmp_path / "before", replace(settings.plan, focus=WIDE), 1)
    change_plan(tmp_path / "before", gate=0.25, lesion_threshold=0.2)
    job = loop.Job(read_list(tmp_path / "list.json"), tmp_path / "cache", tmp_path / "run")
    plan, _, focus = load_networks(loop.train(settings, job, World(0, 1, torch.device("cpu"))))
    assert plan.focus == BOTH
    assert focus.state_dict()["encoder1.layer.conv1.conv.weight"].shape[:2] == (4, 2)
    assemble.assemble([tmp_path / "run"], [tmp_path / "before"], tmp_path / "new", thresholds=tmp_path / "before")
    assert read_plan(tmp_path / "new") == replace(read_plan(tmp_path / "before"), focus=BOTH)
