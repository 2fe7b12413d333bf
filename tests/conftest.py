"""Fixtures that every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.helpers.places import SHARED, TRUNK
from tests.helpers.report_text import encodable
from tests.helpers.runs import Runner

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported, here or in what tests start: the other processes have the other CPUs.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# An example takes longer whenever the other processes need the CPUs; what one may take is asked where it matters.
hypothesis.settings.register_profile("gfscreen", deadline=None)
hypothesis.settings.load_profile("gfscreen")

REQUIRE_SHARED = os.environ.get("GFSCREEN_REQUIRE_SHARED") == "1"
REQUIRE_TRUNK = os.environ.get("GFSCREEN_REQUIRE_TRUNK") == "1"


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """The command line configures the package's logger; give it back as it was."""
    logger = logging.getLogger("gfscreen")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Torch on one thread for a module of tests: networks this small only wait for each other's threads."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Runner:
    """`predict` with a fake engine on files below a temporary folder."""
    return Runner(monkeypatch, tmp_path)


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """Folder with real CT and reference values. Skips where it is absent; with GFSCREEN_REQUIRE_SHARED=1 it fails."""
    if not SHARED.is_dir():
        message = "needs ../shared (real CT and reference values), which is not here"
        if REQUIRE_SHARED:
            pytest.fail(message)
        pytest.skip(message)
    return SHARED


@pytest.fixture(scope="session")
def trunk_file() -> Path:
    """The pretrained trunk. Skips where it could not be fetched; with GFSCREEN_REQUIRE_TRUNK=1 it fails."""
    if not TRUNK.is_file():
        message = "needs weights/trunk.safetensors, which is not here: make trunk"
        if REQUIRE_TRUNK:
            pytest.fail(message)
        pytest.skip(message)
    return TRUNK


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that reads ../shared says so with its marker, and the other way round."""
    uses = "shared_dir" in getattr(item, "fixturenames", ())
    marked = item.get_closest_marker("shared") is not None
    if uses != marked:
        pytest.fail(f"{item.nodeid}: fixture shared_dir and marker `shared` go together")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, Any, Any]:
    """A report on its way between processes: pytest-xdist 3.8 ends the whole run at a name that is no UTF-8."""
    return encodable((yield))
