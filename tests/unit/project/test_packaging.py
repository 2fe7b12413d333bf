"""The wheel and the sdist: what is in them, and that an installed wheel screens a scan without the checkout."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import WeightsError
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.places import ROOT
from tests.helpers.scans import LESION_HU

SITE_PACKAGES = Path(np.__file__).parents[1]


def run(*command: object, cwd: Path) -> str:
    """Standard output of a command that must succeed; without the checkout on the path."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    # From a copy: building leaves traces beside the sources.
    copy = tmp_path_factory.mktemp("checkout")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, copy, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel; what it requires is borrowed from the tests' environment."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, with_pip=False)
    python, wheel = folder / "bin" / "python", next(built.glob("*.whl"))
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-deps", "--no-index", wheel, cwd=folder)
    (site,) = folder.glob("lib/python3*/site-packages")
    # A path file adds the folder itself but none of the path files in it: not the tests' own gfscreen.
    (site / "borrowed.pth").write_text(str(SITE_PACKAGES))
    return python


def test_extras():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert {"cpu", "gpu", "train", "eval", "dicom", "cohort", "pacs", "completion", "preview", "fuzz", "dev"} == set(
        project["optional-dependencies"]
    )
    names = {requirement.split(">")[0].split("=")[0] for requirement in project["dependencies"]}
    assert not names & {"torch", "openvino", "monai", "highdicom"}, "the core stays small"


@pytest.mark.slow
class TestContents:
    def test_wheel(self, built):
        with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
            names = set(wheel.namelist())
        package = {name for name in names if name.startswith("gfscreen/")}
        sources = {
            str(path.relative_to(ROOT / "src"))
            for path in (ROOT / "src" / "gfscreen").rglob("*")
            if path.is_file() and path.suffix != ".pyc" and path.name != ".gitattributes"
        }
        assert package == sources
        assert {"gfscreen/py.typed", "gfscreen/presets/fast.json", "gfscreen/presets/paper.json"} <= package
        assert any(name.endswith("licenses/LICENSE") for name in names)
        assert {name.split("/")[0].split("-")[0] for name in names} == {"gfscreen"}, "neither eval nor tests"

    def test_sdist(self, built):
        with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
            names = {name.partition("/")[2] for name in sdist.getnames()}
        assert {"LICENSE", "README.md", "pyproject.toml", "src/gfscreen/py.typed"} <= names
        assert not any(name.endswith((".nii.gz", ".safetensors", ".dcm")) for name in names)


@pytest.mark.slow
class TestInstalled:
    def test_info(self, installed, tmp_path):
        from eval.reliability.threshold_engine import write_threshold_weights

        write_threshold_weights(tmp_path / "weights")
        shown = json.loads(run(installed, "-m", "gfscreen", "info", "--json", cwd=tmp_path))
        assert set(shown["presets"]) == {"paper", "fast"}
        where = run(installed, "-c", "import gfscreen; print(gfscreen.__file__)", cwd=tmp_path).strip()
        assert Path(where).is_relative_to(installed.parents[1])

    def test_predict_with_the_wheel_of_weights(self, installed, tmp_path, monkeypatch):
        """In a folder without weights, and no option that names any."""
        from eval.reliability.threshold_engine import write_threshold_weights

        source = write_threshold_weights(tmp_path / "source")
        monkeypatch.syspath_prepend(ROOT / "scripts")
        import weights_wheel

        with pytest.raises(WeightsError, match="LICENSE: is missing"):
            weights_wheel.build(source, tmp_path)
        (source / "LICENSE").write_text("Free.\n")
        (source / "MODEL_CARD.md").write_text("> Finds what is bright.\n")
        (source / "NOTICE").write_text("Whose it was.\n")
        wheel = weights_wheel.build(source, tmp_path)
        with zipfile.ZipFile(wheel) as packed:
            assert {"gfscreen_weights/LICENSE", "gfscreen_weights/NOTICE"} <= set(packed.namelist())
        run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            installed,
            "install",
            "--no-deps",
            "--no-index",
            wheel,
            cwd=tmp_path,
        )
        self.predict(installed, tmp_path)
        shown = json.loads(run(installed, "-m", "gfscreen", "info", "--json", cwd=tmp_path))
        assert Path(shown["weights"]["folder"]).name == "gfscreen_weights"
        notice = json.loads((tmp_path / "report.json").read_text())["notice"]
        assert "Finds what is bright." in notice or notice.startswith("Untrained")

    def test_predict(self, installed, tmp_path):
        from eval.reliability.threshold_engine import write_threshold_weights

        write_threshold_weights(tmp_path / "weights")
        self.predict(installed, tmp_path)

    @staticmethod
    def predict(installed: Path, tmp_path: Path) -> None:
        hu = np.full((36, 32, 30), 40, np.int16)
        hu[10:20, 10:20, 10:20] = LESION_HU
        write_nifti(tmp_path / "a_0000.nii.gz", hu, np.diag([4.0, 4.0, 4.0, 1.0]))
        run(
            installed.with_name("gfscreen"),
            "predict",
            "-i",
            "a_0000.nii.gz",
            "-o",
            "masks",
            "--device",
            "cpu",
            "--report",
            "report.json",
            cwd=tmp_path,
        )
        np.testing.assert_array_equal(read_mask(tmp_path / "masks" / "a.nii.gz"), hu == LESION_HU)
