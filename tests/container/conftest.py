"""The image under test and the folders it reads and writes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.container.docker import docker
from tests.helpers.places import ROOT

IMAGE = os.environ.get("GFSCREEN_IMAGE", "gfscreen:latest")
REQUIRED = os.environ.get("GFSCREEN_REQUIRE_CONTAINER") == "1"


@pytest.fixture(scope="session")
def image() -> str:
    """Name of the image. Skips without Docker or the image; with GFSCREEN_REQUIRE_CONTAINER=1 it fails."""
    if shutil.which("docker") is None:
        problem = "no `docker` command"
    elif (found := docker("version", "--format", "{{.Server.Version}}")).returncode != 0:
        problem = f"no Docker daemon answers ({found.stderr.strip()})"
    elif docker("image", "inspect", IMAGE).returncode != 0:
        problem = f"no image {IMAGE}; `make image` builds it, GFSCREEN_IMAGE names another"
    else:
        return IMAGE
    if REQUIRED:
        pytest.fail(problem)
    pytest.skip(problem)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small phantom of each kind, of nine sub-volumes, as `X_0000.nii.gz`."""
    folder = tmp_path_factory.mktemp("phantoms")
    subprocess.run(
        [sys.executable, "-m", "eval", "cases", "-o", str(folder), "--shape", "60,50,16", "--spacing", "4,4,6"],
        cwd=ROOT,
        check=True,
        timeout=300,
    )
    assert len(list((folder / "images").iterdir())) == 3
    return folder / "images"


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    """An empty folder with a blank in its name, readable to everyone."""
    folder = tmp_path / "in puts"
    folder.mkdir()
    folder.chmod(0o755)
    return folder


@pytest.fixture
def outputs(tmp_path: Path, image: str) -> Iterator[Path]:
    """An empty folder, 777 as the organisers make it. Files that another uid left in it are removed afterwards."""
    folder = tmp_path / "outputs"
    folder.mkdir()
    folder.chmod(0o777)
    yield folder
    try:
        shutil.rmtree(folder)
    except PermissionError:
        everything = ("find", "/workspace/outputs", "-mindepth", "1", "-delete")
        docker("run", "--rm", "--network", "none", "-v", f"{folder}/:/workspace/outputs/", image, *everything)
        shutil.rmtree(folder, ignore_errors=True)
