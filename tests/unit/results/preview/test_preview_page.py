"""The preview's page in a real browser, from disk: what is chosen in the list is shown, what is clicked in the picture
is chosen in the list, each finding has its window, and Glance's layer can be seen.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium; skipped where they are absent, unless
GFSCREEN_REQUIRE_CHROMIUM=1. GFSCREEN_SCREENSHOTS=DIR keeps what the tests saw.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

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


# A pocket of air within, too small to make a chest of this, and the finding in it.
POCKET, IN_POCKET = np.s_[22:31, 14:23, 22:31], np.s_[25:28, 17:20, 25:28]


def scan(lesions: tuple[tuple[slice, slice, slice], ...]) -> np.ndarray:
    """A body with texture in air, and lesions."""
    x, y, _ = np.indices(SHAPE)
    inside = ((x - 33.5) / 32) ** 2 + ((y - 21.5) / 20) ** 2 <= 1
    noise = np.random.default_rng(0).normal(0, 15, SHAPE)
    hu = np.where(inside, TISSUE_HU + noise, -1000).astype(np.int16)
    if IN_POCKET in lesions:
        hu[POCKET] = -850
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
        three = (np.s_[8:14, 18:24, 10:16], IN_POCKET, np.s_[12:14, 28:30, 30:32])
        write_nifti(runner.inputs / "three_0000.nii.gz", scan(three), AFFINE)
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
    """Every test starts from the case with lesions, the first one chosen, outlines shown and Glance's layer hidden."""
    page.element("case").find_element("xpath", "option[text()='three']").click()
    page.wait(lambda: page.data("ready") == "three", "case three")
    for kind, wanted in (("glance", False), ("findings", True)):
        if page.element(f"show-{kind}").is_selected() != wanted:
            page.click(page.element(f"show-{kind}"))
    page.click(page.driver.find_element("css selector", "[data-view=multi]"))
    page.click(page.driver.find_element("css selector", "[data-window=auto]"))
    page.click(rows(page)[0])
    page.wait(lambda: chosen(page) == [0], "the first finding")


def keep(page: Page, name: str) -> None:
    """Keep a picture of the window for whoever wants to look."""
    if folder := os.environ.get("GFSCREEN_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.driver.execute_script("document.getElementById('viewer').scrollIntoView()")
        time.sleep(1.0)  # a software renderer paints late
        page.driver.save_screenshot(str(Path(folder) / f"{name}.png"))


def rows(page: Page) -> list:
    return page.driver.find_elements("css selector", "[data-findings]:not([hidden]) tr[data-row]")


def chosen(page: Page) -> list[int]:
    """Numbers of the rows that are shown as chosen."""
    return [n for n, row in enumerate(rows(page)) if row.get_attribute("aria-selected") == "true"]


def voxels(page: Page) -> list[str]:
    """Where the findings of the case lie, as the viewer knows it."""
    script = (
        "return JSON.parse(document.getElementById('viewer-data').textContent).cases.find(c => c.name === arguments[0])"
    )
    return [" ".join(map(str, f["voxel"])) for f in page.driver.execute_script(script, page.data("ready"))["findings"]]


def go(page: Page, voxel: list[int]) -> None:
    """Move the cross without choosing anything."""
    script = (
        "document.dispatchEvent(new CustomEvent('viewer:go', {detail: {index: arguments[0], voxel: arguments[1]}}))"
    )
    page.driver.execute_script(script, int(rows(page)[0].get_attribute("data-row")), voxel)
    page.wait(lambda: page.data("voxel") == " ".join(map(str, voxel)), "the cross there")


def press(page: Page, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.driver.execute_script("document.getElementById('canvas').focus()")
    ActionChains(page.driver).send_keys(key).perform()


def axes(page: Page) -> dict[tuple[int, str], tuple[float, float, float, float]]:
    """The axes that are drawn, by finding and name: both ends in pixels of the stage."""
    found = {}
    for line in page.driver.find_elements("css selector", "#axes line[data-finding]"):
        ends = tuple(float(line.get_attribute(name)) for name in ("x1", "y1", "x2", "y2"))
        found[int(line.get_attribute("data-finding")), line.get_attribute("data-axis")] = ends
    return found


def test_opens_from_disk_without_network_and_without_errors(page):
    assert page.asked() == {page.path.as_uri()}
    assert [e["message"] for e in page.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")] == []


def test_a_click_on_a_finding_moves_the_cross_there(page):
    assert len(rows(page)) == 3
    seen = []
    for number in (2, 1, 0):
        page.click(rows(page)[number].find_element("css selector", "button"))
        page.wait(lambda wanted=number: page.data("voxel") == voxels(page)[wanted], "the cross in the finding")
        assert chosen(page) == [number]
        assert page.element("finding").text == f"finding {number + 1} ({number + 1} of 3)"
        seen.append(page.data("voxel"))
        keep(page, f"finding_{number + 1}")
    assert len(set(seen)) == 3
    # The first finding is voxels 8..13, 18..23, 10..15 of the file, which runs to the left and back. All its slices are
    # alike, so the lowest is shown, near its centre: R 130 - 4 * 10.5 = 88, A 80 - 4 * 20.5 = -2, S -70 + 4 * 10 = -30.
    assert place(page) == pytest.approx((-88, 2, -30), abs=2.5)
    assert f" {LESION_HU} HU" in page.element("place").text
    # The file's own indices, from 0, as in the statistics.
    assert " k 10 " in page.element("place").text
    assert page.element("slice-number").text == "k 10 (0 to 39)"
    assert "k 10 to 15" in rows(page)[0].text


def test_a_click_into_a_finding_chooses_it_in_the_list(page):
    from selenium.webdriver.common.action_chains import ActionChains

    page.click(page.driver.find_element("css selector", "[data-view=axial]"))
    slice_of_third = [int(v) for v in voxels(page)[2].split()][2]
    go(page, [5, 20, slice_of_third])
    assert chosen(page) == [0]  # to look elsewhere chooses nothing
    box = page.driver.find_element("css selector", "[data-findings]:not([hidden]) .scroll")
    page.driver.execute_script("arguments[0].style.maxHeight = '90px'", box)
    page.driver.execute_script("document.getElementById('stage').scrollIntoView({block: 'center'})")
    x1, y1, x2, y2 = axes(page)[2, "long"]
    canvas = page.element("canvas")
    middle = canvas.size["width"] / 2, canvas.size["height"] / 2
    offset = round((x1 + x2) / 2 - middle[0]), round((y1 + y2) / 2 - middle[1])
    ActionChains(page.driver).move_to_element_with_offset(canvas, *offset).click().perform()
    page.wait(lambda: chosen(page) == [2], "the third finding in the list")
    assert page.element("finding").text == "finding 3 (3 of 3)"
    # And the row has been scrolled to.
    row = rows(page)[2]
    assert box.rect["y"] <= row.rect["y"]
    assert row.rect["y"] + row.rect["height"] <= box.rect["y"] + box.rect["height"] + 1
    page.driver.execute_script("arguments[0].style.maxHeight = ''", box)


def test_next_and_previous_start_from_where_one_is(page):
    page.click(rows(page)[1])
    page.click(page.element("next"))
    assert chosen(page) == [2]
    page.click(page.element("next"))  # around
    assert chosen(page) == [0]
    page.click(page.element("previous"))
    assert chosen(page) == [2]
    assert page.data("voxel") == voxels(page)[2]
    # The cross in another finding than the chosen one: that is where one is.
    go(page, [int(v) for v in voxels(page)[0].split()])
    page.click(page.element("next"))
    assert chosen(page) == [1]
    press(page, "b")
    assert chosen(page) == [0]
    press(page, "n")
    assert chosen(page) == [1]


def test_arrows_walk_through_the_list(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    page.driver.execute_script("arguments[0].focus()", rows(page)[0].find_element("css selector", "button"))
    ActionChains(page.driver).send_keys(Keys.ARROW_DOWN).perform()
    assert chosen(page) == [1]
    ActionChains(page.driver).send_keys("b").perform()
    assert chosen(page) == [0]


def pressed(page: Page) -> list[str]:
    buttons = page.driver.find_elements("css selector", "[data-window][aria-pressed=true]")
    return [button.get_attribute("data-window") for button in buttons]


def test_each_finding_has_its_window_until_one_is_set(page):
    assert (page.data("window"), pressed(page)) == ("soft", ["auto", "soft"])
    page.click(rows(page)[1])  # in the pocket of air
    assert (page.data("window"), pressed(page)) == ("lung", ["auto", "lung"])
    assert "window W 1500 L -600" in page.element("place").text
    assert page.changed(page.driver.find_element("css selector", "[data-window=bone]").click, 0.01)
    page.click(rows(page)[0])
    assert (page.data("window"), pressed(page)) == ("bone", ["bone"])
    assert "window W 1800 L 400" in page.element("place").text
    page.click(page.driver.find_element("css selector", "[data-window=auto]"))
    assert page.data("window") == "soft"
    press(page, "w")
    assert pressed(page) == ["lung"]


def test_a_window_drawn_by_hand_stays_until_a_double_click(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.mouse_button import MouseButton

    page.click(page.driver.find_element("css selector", "[data-view=axial]"))
    page.driver.execute_script("document.getElementById('stage').scrollIntoView({block: 'center'})")
    canvas = page.element("canvas")
    drag = ActionBuilder(page.driver)
    # The front edge of the body: air and tissue.
    drag.pointer_action.move_to(canvas, 0, -canvas.size["height"] // 3)
    drag.pointer_action.pointer_down(MouseButton.RIGHT)
    drag.pointer_action.move_to(canvas, 60, 0)
    drag.pointer_action.pointer_up(MouseButton.RIGHT)
    drag.perform()
    page.wait(lambda: page.data("window") == "own", "a window by hand")
    assert pressed(page) == []
    told = page.element("place").text.split("window ")[1]
    page.click(rows(page)[1])
    assert (page.data("window"), page.element("place").text.split("window ")[1]) == ("own", told)
    ActionChains(page.driver).double_click(canvas).perform()
    page.wait(lambda: pressed(page)[:1] == ["auto"], "the window of the finding again")
    assert page.data("window") in ("lung", "soft")


def test_the_axes_lie_on_their_slice(page):
    page.click(page.driver.find_element("css selector", "[data-view=axial]"))
    drawn = axes(page)
    assert set(drawn) == {(0, "long"), (0, "short")}
    # 6 x 6 pixels of 4 mm: both are diagonals, as long as each other and at a right angle.
    long, short = (np.subtract(drawn[0, name][2:], drawn[0, name][:2]) for name in ("long", "short"))
    assert np.linalg.norm(long) == pytest.approx(np.linalg.norm(short), rel=0.1)
    assert abs(long @ short) < 0.05 * np.linalg.norm(long) ** 2
    lengths = [text.text for text in page.driver.find_elements("css selector", "#axes text")]
    assert lengths[0].removesuffix(" mm") in rows(page)[0].text
    press(page, "n")
    assert set(axes(page)) == {(1, "long"), (1, "short")}
    page.click(page.driver.find_element("css selector", "[data-view=coronal]"))
    assert axes(page) == {}


def test_outlines_can_be_filled(page):
    page.click(page.driver.find_element("css selector", "[data-view=axial]"))
    assert not page.element("fill").is_selected()
    page.driver.execute_script("document.getElementById('stage').scrollIntoView({block: 'center'})")
    fill = page.element("fill")
    before = page.picture().astype(int)
    for share in (lambda changed: changed > 0.002, lambda changed: changed < 0.0005):  # filled, and not any more
        page.driver.execute_script("arguments[0].click()", fill)
        assert share((np.abs(page.picture() - before).max(axis=2) > 8).mean())


def test_each_layer_has_an_opacity_of_its_own(page):
    def slide(kind: str, percent: int) -> None:
        page.driver.execute_script(
            "const [s, percent] = arguments; s.value = percent; s.dispatchEvent(new Event('input'))",
            page.element(f"opacity-{kind}"),
            percent,
        )

    page.click(page.element("show-glance"))
    shown = orange(page.picture())
    assert not page.changed(lambda: slide("findings", 0), 0.02)  # the outlines alone
    assert page.changed(lambda: slide("glance", 0), 0.05)
    assert orange(page.picture()) < shown
    slide("findings", 100)
    slide("glance", 100)


def test_the_colour_bars_tell_the_layers_colours(page):
    bars = page.driver.find_elements("css selector", "#legend .colours")
    assert len(bars) == 4
    assert all(bar.is_displayed() and bar.size["width"] > 80 for bar in bars)
    assert "suspicious and read by Focus" in page.element("legend").text


def test_links_lead_to_files(page):
    links = page.driver.find_elements("css selector", "[data-findings]:not([hidden]) .files a")
    found = {link.text: link.get_attribute("href") for link in links}
    assert set(found) == {"montage", "mask"}
    assert all(Path(url2pathname(urlsplit(href).path)).is_file() for href in found.values())


def test_a_narrow_window(page):
    """A telephone: nothing is wider than the window, the picture comes before the list, and both work together."""
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    try:
        wide = "return document.documentElement.scrollWidth - innerWidth"
        assert page.driver.execute_script(wide) <= 0
        table = page.driver.find_element("css selector", "[data-findings]:not([hidden]) .scroll")
        assert page.driver.execute_script("return arguments[0].scrollWidth - arguments[0].clientWidth", table) <= 0
        assert page.element("view").rect["y"] < table.rect["y"]
        page.click(rows(page)[2])
        page.wait(lambda: page.data("voxel") == voxels(page)[2], "the cross in the third finding")
        stage = (
            "const r = document.getElementById('stage').getBoundingClientRect(); return [r.top, r.bottom, innerHeight]"
        )
        page.wait(lambda: page.driver.execute_script(f"{stage}")[0] >= 0, "the picture in the window")
        top, bottom, height = page.driver.execute_script(stage)
        assert top >= 0
        assert bottom <= height + 1
        page.click(page.element("next"))
        assert chosen(page) == [0]
        page.driver.refresh()
        page.wait(lambda: page.data("ready"), "the page again")
        assert page.driver.find_element("css selector", "[data-view=axial]").get_attribute("aria-pressed") == "true"
    finally:
        page.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def place(page: Page) -> list[float]:
    """L, P, S mm as the page tells them."""
    return [float(word) for word in page.element("place").text.removeprefix("L, P, S ").split(" mm")[0].split(", ")]


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
    page.click(rows(page)[0])
    hidden = orange(page.picture())
    assert page.changed(page.element("show-glance").click, 0.05)
    keep(page, "glance")
    assert orange(page.picture()) > hidden + 300
    assert page.changed(page.element("show-glance").click, 0.05)
    assert orange(page.picture()) == pytest.approx(hidden, abs=50)


def test_what_glance_thought_is_told_where_the_cross_is(page):
    page.click(rows(page)[0])
    page.wait(lambda: page.element("glance-here").text == "Glance here: 0.95, read by Focus", "a lesion: read")
    # The far side of the body, 54 voxels from the lesions, is in no sub-volume with them.
    go(page, [5, 20, 20])
    page.wait(lambda: page.element("glance-here").text.endswith("skipped"), "far from any lesion: skipped")
    assert 0.1 <= float(page.element("glance-here").text.split()[2].rstrip(",")) <= 0.4


def test_the_table_of_cases_opens_a_case(page):
    cases = {
        row.find_element("tag name", "th").text: row for row in page.driver.find_elements("css selector", "#cases tr")
    }
    assert "failed" in cases["broken"].text
    assert cases["broken"].find_elements("tag name", "button") == []
    page.click(cases["none"].find_element("tag name", "button"))
    page.wait(lambda: page.data("ready") == "none", "the other case")
    assert rows(page) == []
    assert "Nothing is marked." in page.driver.find_element("css selector", "[data-findings]:not([hidden])").text
    assert not page.element("next").is_enabled()
    assert not page.element("previous").is_enabled()
    assert page.element("glance-here").text.endswith("skipped")
