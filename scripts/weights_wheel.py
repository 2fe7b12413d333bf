"""Packs a weights folder, its OpenVINO export included, into a wheel of data alone: `make wheels`.

Where the wheel is installed, `gfscreen` finds the weights without being told. It has the version of the program.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from gfscreen.config import read_plan
from gfscreen.errors import GFScreenError, WeightsError
from gfscreen.networks.engines.openvino import EXPORT_FOLDER
from gfscreen.networks.models.card import CARD_FILE
from gfscreen.networks.models.manifest import MANIFEST_FILE, read_manifest, verify
from gfscreen.networks.models.trunk_pins import TRUNK_FILE
from gfscreen.run.options import WEIGHTS_PACKAGE
from gfscreen.version import __version__

LICENSE = "LICENSE"
# What others ask to be told with their weights; may be missing.
NOTICE = "NOTICE"

_PROJECT = f"""[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "{WEIGHTS_PACKAGE.replace("_", "-")}"
version = "{__version__}"
description = "Weights of gfscreen: plan, networks, their OpenVINO export"
requires-python = ">=3.11"
license-files = ["{LICENSE}"]

[tool.setuptools]
packages = ["{WEIGHTS_PACKAGE}"]

[tool.setuptools.package-data]
{WEIGHTS_PACKAGE} = ["*.json", "*.md", "{LICENSE}", "{NOTICE}", "*.safetensors", "{EXPORT_FOLDER}/*"]
"""


def build(weights: Path, output: Path) -> Path:
    """Build the wheel of a weights folder into `output`; its path. Raises WeightsError if damaged or unlicensed."""
    verify(weights)
    verify(weights / EXPORT_FOLDER)
    if not (weights / LICENSE).is_file():
        raise WeightsError(f"{weights / LICENSE}: is missing; say there what others may do with these weights")
    with tempfile.TemporaryDirectory() as scratch:
        project = Path(scratch)
        package = project / WEIGHTS_PACKAGE
        (package / EXPORT_FOLDER).mkdir(parents=True)
        for folder in (weights, weights / EXPORT_FOLDER):
            for name in (MANIFEST_FILE, *read_manifest(folder).sha256):
                shutil.copy(folder / name, package / (folder / name).relative_to(weights))
        # The trunk is in the export; torch, on a GPU, asks for its file.
        for name in (LICENSE, NOTICE, CARD_FILE, *((TRUNK_FILE,) if read_plan(weights).cells else ())):
            if (weights / name).is_file():
                shutil.copy(weights / name, package)
        shutil.copy(weights / LICENSE, project)
        (package / "__init__.py").write_text('"""Weights of gfscreen; the files lie beside this one."""\n')
        (project / "pyproject.toml").write_text(_PROJECT, encoding="utf-8")
        command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(project)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(output.glob(f"{WEIGHTS_PACKAGE}-{__version__}-*.whl"))


def main() -> int:
    """Exit 0: built; 1: not, with one line why."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="weights folder, exported by `gfscreen export`")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the wheel")
    args = parser.parse_args()
    try:
        sys.stdout.write(f"{build(args.weights, args.output)}\n")
    except (GFScreenError, subprocess.CalledProcessError) as error:
        sys.stderr.write(f"weights_wheel: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
