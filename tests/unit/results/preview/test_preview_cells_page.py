"""The preview's page of a Glance that judges cells, in a real browser: what is told at the cross is its cell's.

Needs what `test_preview_page.py` needs.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from gfscreen.network_plan import CellGlanceConfig
from tests.helpers.browser import Page, open_page
from tests.helpers.engines import TINY_PLAN, FakeEngine, bright_engine
from tests.helpers.nifti_files import write_nifti
from tests.helpers.runs import Runner
from tests.helpers.scans import LESION_HU, TISSUE_HU, axes_affine

pytestmark = pytest.mark.slow

# Left, back, head, 4 mm: a cell is 3 voxels.
AFFINE = axes_affine((0, 1, 2), (-1, -1, 1), (4.0, 4.0, 4.0), (130.0, 80.0, -70.0))


def judge(volume: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logit 2 (0.88) for a cell with a bright centre, else -1 (0.27)."""
    logit = np.where(volume[::4, ::8, ::8] > 0.7, 2.0, -1.0).astype(np.float32)
    return np.stack([logit, logit])


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("preview")
    hu = np.full((68, 44, 40), -1000, np.int16)
    hu[4:64, 4:40] = TISSUE_HU
    hu[12:18, 18:24, 15:21] = LESION_HU
    with pytest.MonkeyPatch.context() as patch:
        runner = Runner(patch, root, replace(TINY_PLAN, cells=CellGlanceConfig(case_calibration=(1.0, 0.0))))
        write_nifti(runner.inputs / "a_0000.nii.gz", hu, AFFINE)
        engine = FakeEngine(lambda _: 0.0, bright_engine().outline, judge=judge)
        assert runner(engine=engine, preview=root / "see").code == 0
    with open_page(root / "see" / "index.html", root / "profile") as opened:
        opened.wait(lambda: opened.data("ready"), "the case in the viewer")
        yield opened


def told(page: Page, voxel: list[int], expected: str) -> None:
    """The cross goes there, and that is said."""
    page.driver.execute_script(
        "document.dispatchEvent(new CustomEvent('viewer:go', {detail: {index: 0, voxel: arguments[0]}}))", voxel
    )
    page.wait(lambda: page.data("voxel") == " ".join(map(str, voxel)), "the cross there")
    page.wait(lambda: page.element("glance-here").text == expected, f"{expected} at {voxel}")


def test_the_cell_at_the_cross_is_told(page):
    """Within one sub-volume that Focus read: in the lesion, and 11 voxels beside it."""
    first = page.driver.execute_script("return JSON.parse(document.getElementById('viewer-data').textContent).cases[0]")
    assert first["factors"] == [1, 1, 1]
    for file_voxel, said in (((15, 21, 18), "0.88"), ((26, 21, 18), "0.27")):
        # The RAS view runs against the file's first two axes.
        x, y, z = 67 - file_voxel[0], 43 - file_voxel[1], file_voxel[2]
        voxel = [v - start for v, start in zip((x, y, z), first["first"], strict=True)]
        told(page, voxel, f"Glance here: cell {said}, read by Focus")


def test_the_case_table_and_the_legend_speak_of_it(page):
    assert "0.88" in page.driver.find_element("css selector", "tr[data-case]").text
    assert "probability of each cell" in page.element("legend").text
