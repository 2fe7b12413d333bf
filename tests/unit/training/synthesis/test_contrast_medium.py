"""A scan as if without contrast medium: organs near each other, edges and grain as they were."""

import json

import numpy as np
import pytest

from gfscreen.errors import UsageError
from gfscreen.training.settings import settings_from
from gfscreen.training.synthesis.contrast_medium import without_contrast_medium


@pytest.fixture
def slab():
    """Fat, kidney with contrast medium, muscle and bone, side by side, with a grain of 10 HU."""
    hu = np.repeat(np.array([-100, 180, 55, 900]), 16)[:, None, None] + np.zeros((64, 32, 8))
    return (hu + np.random.default_rng(0).normal(0, 10, hu.shape)).astype(np.int16)


def parts(hu):
    """The inside of each of the four, away from its borders."""
    return [hu[start + 3 : start + 13] for start in (0, 16, 32, 48)]


def test_organs_come_near_to_soft_tissue_and_fat_stays(slab):
    for seed in range(8):
        fat, kidney, muscle, bone = (
            p.mean() for p in parts(without_contrast_medium(np.random.default_rng(seed), slab))
        )
        assert fat == pytest.approx(-100, abs=1)
        assert 50 < kidney < 105
        assert 45 < muscle < 56
        assert 690 < bone < 790


def test_the_grain_is_not_smoothed_away(slab):
    plain = parts(without_contrast_medium(np.random.default_rng(1), slab))[1]
    assert plain.std() > 0.75 * parts(slab)[1].std()


def test_the_border_to_fat_is_as_sharp_as_before(slab):
    plain = without_contrast_medium(np.random.default_rng(2), slab)
    inside = plain[19:29].mean()
    assert abs(plain[16].mean() - inside) < 8  # no bright rim where the median changes sides
    assert plain[15].mean() == pytest.approx(-100, abs=5)


def test_it_is_drawn_by_the_generator_and_leaves_the_scan_alone(slab):
    before = slab.copy()
    one, two, other = (without_contrast_medium(np.random.default_rng(s), slab) for s in (3, 3, 4))
    assert one.dtype == np.int16
    assert (one == two).all()
    assert (one != other).any()
    assert (slab == before).all()


def test_empty_in_empty_out():
    assert without_contrast_medium(np.random.default_rng(0), np.zeros((0, 4, 4), np.int16)).shape == (0, 4, 4)


def test_a_share_beyond_one_is_named(tmp_path):
    path = tmp_path / "settings.json"
    path.write_text(json.dumps({"preset": "fast", "mix": {"unenhanced": 1.5}}))
    with pytest.raises(UsageError, match=r"settings\.json.*mix\.unenhanced must be in \[0, 1\], got 1\.5"):
        settings_from(None, path)
