"""What report and preview share: volumes small enough for a page, pieces of HTML, and the viewer's bundle."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

from gfscreen.errors import OutputError
from gfscreen.results.preview import markup, viewer, volumes


def test_blocks_grow_along_the_finest_axis_until_it_fits():
    # 0.8 mm pixels, 5 mm slices: pixels are joined first, both ways alike.
    assert volumes.choose_factors((512, 512, 55), (0.8, 0.8, 5.0), 4e6) == (2, 2, 1)
    assert volumes.choose_factors((512, 512, 55), (0.8, 0.8, 5.0), 1e9) == (1, 1, 1)
    assert volumes.choose_factors((10, 10, 10), (1.0, 1.0, 1.0), 1) == (10, 10, 10)


def test_a_block_is_its_mean_in_steps_of_4_hu():
    hu = np.array([0, 10, 20, 31, 7], np.int16).reshape(5, 1, 1)
    # (0 + 10) / 2 = 5 -> 4; (20 + 31) / 2 = 25.5 -> 24; the last voxel is repeated: 7 -> 8.
    assert volumes.shrink_image(hu, (2, 1, 1)).ravel().tolist() == [4, 24, 8]
    assert volumes.shrink_image(np.full((1, 1, 1), 30000, np.int16), (1, 1, 1)).item() == 2048


def test_a_mask_block_needs_half_but_no_lesion_vanishes():
    mask = np.zeros((12, 4, 1), bool)
    mask[0:3, 0:2] = True  # block (0, 0) full, block (1, 0) half
    mask[3, 0] = True  # (1, 0): three quarters
    mask[4, 0] = True  # (2, 0): a quarter, joined to the lesion: not marked
    mask[10, 2] = True  # (5, 1): a quarter, a lesion of its own: stays
    small = volumes.shrink_mask(mask, (2, 2, 1))[:, :, 0]
    assert np.argwhere(small).tolist() == [[0, 0], [1, 0], [5, 1]]


def test_a_block_lies_where_its_voxels_lie():
    affine = np.diag([2.0, 2.0, 5.0, 1.0])
    # Voxels 10 and 11 along x, centres at 20 and 22 mm: their block at 21 mm.
    shrunk = volumes.shrunk_affine(affine, [10, 0, 0], (2, 1, 1))
    assert (shrunk @ [0, 0, 0, 1])[:3].tolist() == [21, 0, 0]
    assert (shrunk @ [1, 0, 0, 1])[:3].tolist() == [25, 0, 0]


def test_no_text_can_end_a_script():
    assert "</script" not in markup.data_script("x", {"name": "</script><b>"}).removesuffix("</script>")
    with pytest.raises(ValueError, match="would end the element"):
        markup.code_script("'</SCRIPT>'", "code.js")


def test_the_vendored_viewer_is_the_published_file(monkeypatch, tmp_path):
    data = viewer.NIIVUE.read_bytes()
    assert hashlib.sha256(data).hexdigest() == viewer.NIIVUE_SHA256
    readme = (viewer.VENDOR / "README.md").read_text()
    assert viewer.NIIVUE_SHA256 in readme
    assert viewer.NIIVUE_VERSION in readme
    assert re.search(rf"{len(data):,}".replace(",", " "), readme)
    assert "Copyright (c) 2021, Niivue" in (viewer.VENDOR / "LICENSE.niivue").read_text()
    (tmp_path / "niivue.umd.js").write_bytes(data + b" ")
    monkeypatch.setattr(viewer, "NIIVUE", tmp_path / "niivue.umd.js")
    with pytest.raises(OutputError, match="expected sha256"):
        viewer.niivue_code()
    monkeypatch.setattr(viewer, "NIIVUE", tmp_path / "absent.js")
    with pytest.raises(OutputError, match=r"absent\.js: not readable"):
        viewer.niivue_code()


def test_a_voxel_of_the_scan_is_found_on_the_small_grid():
    # The grid begins at voxel 10 and has blocks of 4: voxels 10..13 are block 0, voxel 14 begins block 1.
    small = volumes.SmallVolumes({}, {}, (5, 5, 5), (4, 4, 1), (10, 0, 2))
    assert small.voxel_of((13, 3, 2)) == (0, 0, 0)
    assert small.voxel_of((14, 4, 3)) == (1, 1, 1)
    assert small.voxel_of((9, 99, 7)) == (0, 4, 4)  # outside: the nearest
    # Block 0 has its centre between voxels 11 and 12, and its faces at 9.5 and 13.5.
    places = small.position_of(np.array([[11.5, 1.5, 2.0], [9.5, -0.5, 1.5]]))
    assert places.tolist() == [[0, 0, 0], [-0.5, -0.5, -0.5]]
