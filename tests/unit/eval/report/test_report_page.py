"""The page in a real browser: opens from disk, asks no network, draws, scrolls, switches cases and layers.

Needs Chromium and its driver (Debian: chromium, chromium-driver) and selenium; skipped where they are absent, unless
GFSCREEN_REQUIRE_CHROMIUM=1.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main
from tests.helpers.browser import Page, open_page

pytestmark = pytest.mark.slow

SHAPE = (48, 40, 24)


def make_cases(root: Path) -> None:
    """Two scans that look different: a large and a small body, each with a lesion and a shifted prediction."""
    grid = np.indices(SHAPE).astype(float)
    for name, radius, centre in (("large", 18.0, (18, 16, 10)), ("small", 12.0, (26, 22, 14))):
        inside = ((grid[0] - 24) / radius) ** 2 + ((grid[1] - 20) / radius) ** 2 <= 1
        spine = (grid[0] - 24) ** 2 + (grid[1] - 8 - radius / 3) ** 2 <= 9 + grid[2] / 3
        hu = np.where(inside, 40 + 60 * (grid[2] % 2), -1000) + 300 * (spine & inside)
        lesion = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) <= 16
        for kind, suffix, array in (
            ("images", "_0000", hu.astype(np.int16)),
            ("labels", "", lesion.astype(np.uint8)),
            ("pred", "", np.roll(lesion, 2, 0).astype(np.uint8)),
        ):
            (root / kind).mkdir(exist_ok=True)
            image = nib.Nifti1Image(array, np.diag([7.0, 7.0, 8.0, 1.0]))
            nib.save(image, root / kind / f"{name}{suffix}.nii.gz")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    root = tmp_path_factory.mktemp("page")
    make_cases(root)
    folders = [f"--images={root / 'images'}", f"--pred={root / 'pred'}", f"--gt={root / 'labels'}"]
    assert main(["report", "-o", str(root / "out"), *folders]) == 0
    with open_page(root / "out" / "index.html", root / "profile") as opened:
        opened.wait(lambda: opened.data("ready"), "the first case in the viewer")
        yield opened


@pytest.fixture(autouse=True)
def first_case(page):
    """Every test starts from the first case, all planes, both masks."""
    page.driver.execute_script("document.getElementById('view').scrollIntoView()")
    if page.data("ready") != "large":
        choose(page, "large")
    for kind in ("prediction", "truth"):
        if not page.element(f"show-{kind}").is_selected():
            page.element(f"show-{kind}").click()
    page.driver.find_element("css selector", "[data-view=multi]").click()


def marked(picture: np.ndarray, kind: str) -> int:
    """Pixels in the colour of a mask's outline: vermilion (and not the yellow of cross and letters) or sky blue."""
    red, green, blue = (picture[..., channel].astype(int) for channel in range(3))
    vermilion = (red - blue > 60) & (red - green > 60)
    return int(np.count_nonzero(vermilion if kind == "prediction" else blue - red > 60))


def choose(page: Page, name: str) -> None:
    page.element("case").find_element("xpath", f"option[text()='{name}']").click()
    page.wait(lambda: page.data("ready") == name, f"case {name}")


def press(page: Page, key: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    page.driver.execute_script("document.getElementById('canvas').focus()")
    ActionChains(page.driver).send_keys(key).perform()


def test_opens_without_network_and_without_errors(page):
    assert page.asked() == {page.path.as_uri()}
    problems = [e["message"] for e in page.driver.get_log("browser") if e["level"] in ("SEVERE", "WARNING")]
    assert problems == []


def test_the_policy_stops_what_is_not_in_the_page(page):
    """The page could not ask the network even if its code tried."""
    script = "const done = arguments[0]; fetch('https://example.org').then(() => done('sent'), () => done('stopped'))"
    assert page.driver.execute_async_script(script) == "stopped"
    said = " ".join(entry["message"] for entry in page.driver.get_log("browser"))
    assert "Content Security Policy" in said


def test_the_viewer_draws_the_body_and_both_masks(page):
    picture = page.picture()
    assert (picture.max(axis=2) > 40).mean() > 0.1
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 50
    assert marked(picture, "prediction") > 20
    assert marked(picture, "truth") > 20


def test_slices_change_by_key_slider_and_wheel(page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
    from selenium.webdriver.common.keys import Keys

    page.driver.find_element("css selector", "[data-view=axial]").click()
    start = int(page.data("slice"))
    assert page.changed(lambda: press(page, Keys.ARROW_UP))
    assert int(page.data("slice")) == start + 1
    assert page.changed(lambda: press(page, Keys.PAGE_DOWN))
    assert int(page.data("slice")) == start - 4

    def slide():
        page.driver.execute_script(
            "const s = document.getElementById('slice'); s.value = 20; s.dispatchEvent(new Event('input'))"
        )

    assert page.changed(slide)
    assert int(page.data("slice")) == 20
    assert page.element("slice-number").text == "k 20 (0 to 23)"  # the file's index, from 0
    origin = ScrollOrigin.from_element(page.element("canvas"))
    assert page.changed(lambda: ActionChains(page.driver).scroll_from_origin(origin, 0, 120).perform())
    assert int(page.data("slice")) == 19  # downwards is towards the feet, as the arrow key


def test_planes_can_be_chosen(page):
    names = {}
    for view in ("axial", "coronal", "sagittal"):
        button = page.driver.find_element("css selector", f"[data-view={view}]")
        assert page.changed(button.click, 0.01)
        names[view] = page.element("slice-name").text
    assert names == {"axial": "Axial", "coronal": "Coronal", "sagittal": "Sagittal"}


def test_another_case_can_be_chosen(page):
    assert page.changed(lambda: choose(page, "small"), 0.01)
    assert page.element("finding").text != ""


@pytest.mark.parametrize(("kind", "key"), [("prediction", "p"), ("truth", "t")])
def test_each_layer_can_be_hidden_and_shown(page, kind, key):
    shown = marked(page.picture(), kind)
    page.element(f"show-{kind}").click()
    assert marked(page.picture(), kind) < shown / 10
    press(page, key)
    assert page.element(f"show-{kind}").is_selected()
    assert marked(page.picture(), kind) == pytest.approx(shown, rel=0.1)


def test_window_and_findings(page):
    assert page.changed(page.driver.find_element("css selector", "[data-window=lung]").click, 0.01)
    assert "W 1500 L -600" in page.element("place").text
    page.driver.find_element("css selector", "[data-window=auto]").click()
    press(page, "n")
    assert page.element("finding").text == "lesion 1: found (1 of 1)"


def test_light_and_dark(page):
    def background() -> str:
        return str(page.driver.execute_script("return getComputedStyle(document.body).backgroundColor"))

    before = background()
    page.element("theme").click()
    assert background() != before
