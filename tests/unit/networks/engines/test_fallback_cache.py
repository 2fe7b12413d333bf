"""Where exports go when the user's cache cannot be used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gfscreen.networks.engines.openvino import fallback_cache


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home, a temporary folder, and nothing named by the environment."""
    for name in ("GFSCREEN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "tmp"))
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def fallback(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / f"gfscreen-{os.geteuid()}" / "exports"


def deny_writing(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """As a read-only mount, or somebody else's folder; root may write to those, so it is `access` that says no."""
    access = os.access

    def denied(path: Path, mode: int) -> bool:
        return access(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(folder))

    monkeypatch.setattr("gfscreen.networks.engines.openvino.os.access", denied)


def test_none_is_needed_where_the_cache_can_be_made(home):
    assert fallback_cache() is None
    assert list(home.iterdir()) == [], "made when there is something to keep"


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME", "GFSCREEN_CACHE"])
@pytest.mark.parametrize("place", ["/nonexistent", "/dev/null", "/dev/null/x"])
def test_a_place_that_is_none(monkeypatch, fallback, name, place):
    if place == "/nonexistent":
        deny_writing(monkeypatch, Path("/"))
    monkeypatch.setenv(name, place)
    assert fallback_cache() == fallback
    assert fallback.parent.stat().st_mode & 0o777 == 0o700


def test_no_home_at_all(monkeypatch, fallback):
    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pathlib.Path.home", classmethod(lambda _: (_ for _ in ()).throw(RuntimeError("no home"))))
    assert fallback_cache() == fallback


def test_a_home_that_cannot_be_written(monkeypatch, home, fallback):
    (home / ".cache").mkdir()
    deny_writing(monkeypatch, home)
    assert fallback_cache() == fallback


def test_a_cache_that_was_filled_beforehand_and_cannot_be_written(monkeypatch, home):
    (home / ".cache" / "gfscreen" / "openvino").mkdir(parents=True)
    deny_writing(monkeypatch, home)
    assert fallback_cache() is None


def test_what_is_named_counts_and_not_the_home(monkeypatch, home, tmp_path):
    deny_writing(monkeypatch, home)
    monkeypatch.setenv("GFSCREEN_CACHE", str(tmp_path / "named"))
    assert fallback_cache() is None


def test_no_place_at_all(monkeypatch):
    """Nothing is found there, and what would be made there says so in one line."""
    monkeypatch.setenv("HOME", "/dev/null")
    monkeypatch.setattr("gfscreen.networks.engines.openvino.private_folder", lambda: None)
    assert fallback_cache() == Path("/dev/null/exports")
