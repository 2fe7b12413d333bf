"""The preview's page in a real browser, from disk: lesions that are clicked are shown, and Glance's layer can be seen.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium; skipped where they are absent, unless
GFSCREEN_REQUIRE_CHROMIUM=1. GFSCREEN_SCREENSHOTS=DIR keeps what the tests saw.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from tests.helpers.browser import Page, open_page
from tests.helpers.engines import TINY_PLAN, FakeEngine
from tests.helpers.nifti_files import write_nifti
from tests.helpers.runs import Runner
from tests.helpers.scans import LESION_HU, TISSUE_HU, axes_affine

pytestmark = pytest.mark.slow

# Left, back, head, 4 mm.
AFFINE = axes_affine((0, 1, 2), (-1, -1, 1), (4.0, 4.0, 4.0), (130.0, 80.0, -70.0))
SHAPE = (68, 44, 40)
BRIGHT = 0.7


def scan(lesions: tuple[tuple[slice, slice, slice], ...]) -> np.ndarray:
    """A body with texture in air, and lesions."""
    x, y, _ = np.indices(SHAPE)
    inside = ((x - 33.5) / 32) ** 2 + ((y - 21.5) / 20) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    hu = np.where(inside, TISSUE_HU + noise, -1000).astype(np.int16)
    for lesion in lesions:
        hu[lesion] = LESION_HU
    return hu


def engine() -> FakeEngine:
    """Sure of what holds a lesion, and more or less suspicious of the rest."""
    return FakeEngine(
        lambda patch: 0.95 if (patch > BRIGHT).sum() > 3 else 0.1 + 0.3 * float(patch.mean()),
        lambda patch: (patch > BRIGHT).astype(np.float32) * 0.9,
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("preview")
    patch = pytest.MonkeyPatch()
    try:
        runner = Runner(patch, root, TINY_PLAN)
        two = (np.s_[8:14, 18:24, 10:16], np.s_[12:14, 28:30, 30:32])
        write_nifti(runner.inputs / "two_0000.nii.gz", scan(two), AFFINE)
        write_nifti(runner.inputs / "none_0000.nii.gz", scan(()), AFFINE)
        (runner.inputs / "broken_0000.nii.gz").write_bytes(b"no image")
        assert runner(engine=engine(), preview=root / "see").code == 1
    finally:
        patch.undo()
    with open_page(root / "see" / "index.html", root / "profile") as opened:
        opened.wait(lambda: opened.data("ready"), "the first case in the viewer")
        yield opened


@pytest.fixture(autouse=True)
def first_state(page):
    """Every test starts from the case with lesions, lesions shown and Glance's layer hidden."""
    page.element("case").find_element("xpath", "option[text()='two']").click()
    page.wait(lambda: page.data("ready") == "two", "case two")
    for kind, wanted in (("glance", False), ("lesions", True)):
        if page.element(f"show-{kind}").is_selected() != wanted:
            page.click(page.element(f"show-{kind}"))
    page.click(page.driver.find_element("css selector", "[data-view=multi]"))


def keep(page: Page, name: str) -> None:
    """Keep a picture of the window for whoever wants to look."""
    if folder := os.environ.get("GFSCREEN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.driver.execute_script("document.getElementById('viewer').scrollIntoView()")
        time.sleep(1.0)  # a software renderer paints late
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def lesion_rows(page: Page) -> list:
    return page.driver.find_elements("css selector", "[data-lesions]:not([hidden]) tr[data-row]")


def test_opens_from_disk_without_network_and_without_errors(page):
    assert page.asked() == {page.path.as_uri()}
    assert [e["message"] for e in page.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_a_click_on_a_lesion_moves_the_cross_there(page):
    rows = lesion_rows(page)
    assert len(rows) == 2
    seen = []
    for number, row in enumerate(rows, start=1):
        page.click(row.find_element("css selector", "button"))
        assert page.data("voxel") == row.get_attribute("data-voxel")
        assert row.get_attribute("aria-selected") == "true"
        seen.append(page.data("voxel"))
        keep(page, f"lesion_{number}")
    assert len(set(seen)) == 2
    # The first lesion is voxels 8..13, 18..23, 10..15 of the file, which runs to the left and back. All its slices are
    # alike, so the lowest is shown, at its centre: R 130 - 4 * 10.5 = 88, A 80 - 4 * 20.5 = -2, S -70 + 4 * 10 = -30.
    page.click(rows[0])  # anywhere on the row
    page.wait(lambda: page.data("voxel") == seen[0], "the cross in the first lesion")
    right, back, low = (float(word) for word in place(page))
    assert (right, back, low) == pytest.approx((88, -2, -30), abs=2.5)
    assert f" {LESION_HU} HU" in page.element("place").text


def place(page: Page) -> list[str]:
    """R, A, S mm as the page tells them."""
    words = page.element("place").text.split(" mm")[0].split(", ")
    return [("-" if word[0] in "LPI" else "") + word.split(" ")[1] for word in words]


def test_a_click_into_the_picture_moves_the_cross(page):
    from selenium.webdriver.common.action_chains import ActionChains

    page.click(page.driver.find_element("css selector", "[data-view=axial]"))
    before = page.data("voxel")
    canvas = page.element("canvas")
    ActionChains(page.driver).move_to_element_with_offset(canvas, 60, -40).click().perform()
    page.wait(lambda: page.data("voxel") != before, "another voxel under the cross")
    assert page.data("voxel").split()[2] == before.split()[2]  # the same axial slice


def orange(picture: np.ndarray) -> int:
    """Pixels in the colour of the border around what Focus read: amber, and not the lesions' vermilion."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    return int(np.count_nonzero((red > 150) & (green > 100) & (green < 195) & (blue < 70)))


def test_glances_layer_can_be_switched_on(page):
    page.click(lesion_rows(page)[0])
    hidden = orange(page.picture())
    assert page.changed(page.element("show-glance").click, 0.05)
    keep(page, "glance")
    assert orange(page.picture()) > hidden + 300
    assert page.changed(page.element("show-glance").click, 0.05)
    assert orange(page.picture()) == pytest.approx(hidden, abs=50)


def test_what_glance_thought_is_told_where_the_cross_is(page):
    page.click(lesion_rows(page)[0])
    page.wait(lambda: page.element("glance-here").text == "Glance here: 0.95, read by Focus", "a lesion: read")
    # The far side of the body, 54 voxels from the lesions, is in no sub-volume with them.
    script = (
        "document.dispatchEvent(new CustomEvent('viewer:go', {detail: {index: arguments[0], voxel: arguments[1]}}))"
    )
    index = int(lesion_rows(page)[0].get_attribute("data-row"))
    page.driver.execute_script(script, index, [5, 20, 20])
    page.wait(lambda: page.element("glance-here").text.endswith("skipped"), "far from any lesion: skipped")
    assert 0.1 <= float(page.element("glance-here").text.split()[2].rstrip(",")) <= 0.4


def test_the_table_of_cases_opens_a_case(page):
    rows = {
        row.find_element("tag name", "th").text: row for row in page.driver.find_elements("css selector", "#cases tr")
    }
    assert "failed" in rows["broken"].text
    assert rows["broken"].find_elements("tag name", "button") == []
    page.click(rows["none"].find_element("tag name", "button"))
    page.wait(lambda: page.data("ready") == "none", "the other case")
    assert lesion_rows(page) == []
    assert "Nothing is marked." in page.driver.find_element("css selector", "[data-lesions]:not([hidden])").text
    assert not page.element("next").is_enabled()
    assert page.element("glance-here").text.endswith("skipped")
