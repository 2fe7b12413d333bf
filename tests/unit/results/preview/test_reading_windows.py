"""In which window a finding is read: by what it is and what lies around it."""

from __future__ import annotations

import numpy as np
import pytest

from gfscreen.results.preview import reading_windows
from gfscreen.results.preview.reading_windows import PRESETS, preset_of, presets_of_findings

MM = (2.0, 2.0, 2.0)


def test_widths_and_levels_are_those_in_common_use():
    found = {preset.name: (preset.width_hu, preset.level_hu) for preset in PRESETS.values()}
    assert found == {"Lung": (1500, -600), "Soft tissue": (400, 40), "Liver": (150, 30), "Bone": (1800, 400)}
    # -600 - 750 and -600 + 750.
    assert (PRESETS["lung"].hu.low_hu, PRESETS["lung"].hu.high_hu) == (-1350, 150)


def shell(*parts: tuple[int, int]) -> np.ndarray:
    """So many voxels of so many HU."""
    return np.concatenate([np.full(count, hu) for count, hu in parts])


@pytest.mark.parametrize(
    ("inside_hu", "around", "expected"),
    [
        (30, shell((100, -850)), "lung"),  # a nodule
        (30, shell((40, -850), (60, 40)), "lung"),  # one on the pleura
        (30, shell((30, -850), (70, 40)), "soft"),  # a mass of the mediastinum that touches the lung
        (-650, shell((100, 40)), "lung"),  # ground glass, whatever is around
        (40, shell((100, -1000)), "soft"),  # air outside the body is no lung
        (40, shell((80, 150), (20, 600)), "bone"),  # in spongy bone, with compact bone around
        (40, shell((100, 150)), "soft"),  # beside contrast agent, which is even
        (600, shell((100, 40)), "bone"),  # dense itself
        (30, shell((50, 50), (50, 60)), "liver"),
        (60, shell((50, 110), (50, 120)), "soft"),  # with contrast agent, a liver is above the narrow window
        (30, shell((50, 50), (50, -100)), "soft"),  # between fat
        (30, np.zeros(0), "soft"),  # it fills the scan
    ],
)
def test_what_is_inside_and_around_decides(inside_hu, around, expected):
    assert preset_of(np.full(50, inside_hu), around) == expected


def scan() -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Left half lung, right half liver, and a finding of 4 voxels in each."""
    hu = np.full((60, 30, 30), -850, np.int16)
    hu[30:] = 55
    mask = np.zeros(hu.shape, bool)
    mask[12:16, 12:16, 12:16] = mask[44:48, 12:16, 12:16] = True
    hu[mask] = 30
    return hu, mask, [(13, 13, 13), (45, 13, 13)]


def test_each_finding_has_its_own():
    hu, mask, voxels = scan()
    assert presets_of_findings(hu, mask, voxels, MM) == ["lung", "liver"]
    assert presets_of_findings(hu, mask, voxels[::-1], MM) == ["liver", "lung"]


def test_large_surroundings_are_looked_at_more_coarsely(monkeypatch):
    hu, mask, voxels = scan()
    monkeypatch.setattr(reading_windows, "_MAX_VOXELS", 300)
    assert presets_of_findings(hu, mask, voxels, MM) == ["lung", "liver"]


def test_other_findings_are_not_what_lies_around():
    hu, mask, voxels = scan()
    # A second one of 600 HU, a voxel away on all sides but the ends: without leaving it out, it would be bone.
    mask[44:48, 17:20, 10:18] = mask[44:48, 8:11, 10:18] = True
    hu[44:48, 17:20, 10:18] = hu[44:48, 8:11, 10:18] = 600
    assert presets_of_findings(hu, mask, voxels[1:], MM) == ["liver"]


def test_no_findings():
    hu, mask, _ = scan()
    assert presets_of_findings(hu, mask & False, [], MM) == []


def test_a_voxel_outside_the_mask_is_refused():
    hu, mask, _ = scan()
    with pytest.raises(ValueError, match=r"voxel \(0, 0, 0\): expected a voxel of the mask"):
        presets_of_findings(hu, mask, [(0, 0, 0)], MM)
    with pytest.raises(ValueError, match=r"voxel \(30, 13, 13\)"):
        presets_of_findings(hu, mask, [(30, 13, 13)], MM)


def test_a_finding_that_fills_the_scan():
    hu = np.full((4, 4, 4), 40, np.int16)
    assert presets_of_findings(hu, np.ones(hu.shape, bool), [(0, 0, 0)], MM) == ["soft"]
