"""Where in the sub-volume the Glance sees a lesion: the votes that training adds a loss to."""

from __future__ import annotations

import pytest

from gfscreen.network_plan import GlanceConfig

torch = pytest.importorskip("torch")
pytest.importorskip("monai")


@pytest.fixture
def glance():
    from gfscreen.networks.models.glance import Glance

    torch.manual_seed(0)
    return Glance(GlanceConfig("resnet10", (4, 4, 8, 8), (2, 2, 1), "B"))


def test_one_map_for_each_stage_finest_first(glance):
    with glance.stages_kept() as stages:
        glance(torch.rand(2, 1, 64, 64, 32))
    maps = glance.cells(stages)
    assert [tuple(m.shape) for m in maps] == [(2, 2, n, n, n) for n in (16, 8, 4, 2)]


def test_the_first_half_of_the_channels_votes_for_a_lesion(glance):
    stages = [torch.zeros(1, 4, 1, 1, 2), torch.zeros(1, 8, 1, 1, 1)]
    stages[0][0, :2, 0, 0, 0] = 1.0
    stages[0][0, 2:, 0, 0, 1] = 1.0
    first, last = glance.cells(stages)
    against, lesion = first[0, 0, 0, 0], first[0, 1, 0, 0]
    assert lesion[0] > against[0]
    assert lesion[1] < against[1]
    assert torch.equal(last[0, :, 0, 0, 0], glance.layer(torch.zeros(8)))


def test_the_last_map_pooled_is_the_answer_for_one_cell(glance):
    glance.eval()
    x = torch.rand(1, 1, 32, 32, 16)
    with glance.stages_kept() as stages:
        answer = glance(x)
    assert stages[-1].shape[2:] == (1, 1, 1)
    assert torch.allclose(glance.cells(stages)[-1].flatten(), answer.flatten(), atol=1e-6)


def test_nothing_stays_hooked(glance):
    with glance.stages_kept():
        glance(torch.rand(1, 1, 32, 32, 32))
    assert not any(module._forward_hooks for module in glance.modules())
