"""A page in a real, headless Chromium: opened from disk, with everything that would reach the network cut off."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu-sandbox",
    "--use-gl=angle",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--force-prefers-reduced-motion",
    "--window-size=1200,900",
)
WAIT_S = 120.0


def absent(message: str) -> None:
    if os.environ.get("GFSCREEN_REQUIRE_CHROMIUM") == "1":
        pytest.fail(message)
    pytest.skip(message)


def find(*names: str) -> str:
    found = next((path for path in map(shutil.which, names) if path), None)
    if found is None:
        absent(f"needs one of {', '.join(names)} on the PATH (Debian: apt-get install chromium chromium-driver)")
    assert found is not None
    return found


class Page:
    """The opened page and what the tests do with it."""

    def __init__(self, driver, path: Path):
        self.driver, self.path = driver, path

    def element(self, name: str):
        return self.driver.find_element("id", name)

    def click(self, element) -> None:
        """A real click, in the middle of the window: what the browser scrolls to by itself may lie under the header."""
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        element.click()

    def data(self, key: str) -> str | None:
        return self.element("view").get_attribute(f"data-{key}")

    def asked(self) -> set[str]:
        """Every address that was asked for, but for what lies in the page and for Chromium's own pages."""
        entries = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        urls = [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]
        inside = ("data:", "blob:", "chrome:", "chrome-untrusted:")
        return {url for url in urls if not url.startswith(inside)}

    def wait(self, condition, what: str) -> None:
        end = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < end, f"waited {WAIT_S:.0f} s for: {what}"
            time.sleep(0.1)

    def picture(self) -> np.ndarray:
        """The canvas as the user sees it: uint8 (rows, columns, 3)."""
        from PIL import Image

        time.sleep(0.3)  # a frame or two of a software renderer
        return np.asarray(Image.open(io.BytesIO(self.element("canvas").screenshot_as_png)).convert("RGB"))

    def changed(self, action, share: float = 0.001) -> bool:
        """Does the action change more than this share of the canvas's pixels?"""
        before = self.picture().astype(int)
        action()
        return bool((np.abs(self.picture() - before).max(axis=2) > 8).mean() > share)


@contextmanager
def open_page(path: Path, profile: Path) -> Iterator[Page]:
    """Open a page in a browser of its own; skips where there is none."""
    if importlib.util.find_spec("selenium") is None:
        absent("needs the Python package selenium, of the extra `dev`")
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    binary, driver_path = find("chromium", "chromium-browser", "google-chrome"), find("chromedriver")
    options = Options()
    options.binary_location = binary
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(driver_path))
    try:
        driver.set_page_load_timeout(WAIT_S)
        driver.get(path.as_uri())
        yield Page(driver, path)
    finally:
        driver.quit()
