"""What a run imports: only what it runs. Each check in a fresh interpreter."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gfscreen
from gfscreen.config import plan_to_json
from tests.helpers.engines import TINY_PLAN
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import LESION_HU

PACKAGE = Path(gfscreen.__file__).parent
HEAVY = {"torch", "monai", "matplotlib", "openvino", "safetensors", "tensorboard", "pandas", "sklearn"}
# pydicom is not among them: nibabel imports it wherever it is installed.
HEAVY |= {"highdicom", "shtab"}
NEVER_IN_PREDICT = {"eval", "gfscreen.training"}


def imported(code: str, *, cwd: Path | None = None) -> set[str]:
    """Names in sys.modules after running `code` in a fresh interpreter without site hooks of the test session."""
    script = f"import sys\n{code}\nsys.stderr.write('MODULES ' + ' '.join(sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=environment, cwd=cwd, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("MODULES ")[2].split())


def assert_light(modules: set[str], allowed: set[str] = frozenset()) -> None:
    loaded = {name.split(".")[0] for name in modules} & (HEAVY - allowed)
    assert not loaded, f"imported {sorted(loaded)}"
    assert not modules & NEVER_IN_PREDICT


class TestNothingHeavy:
    @pytest.mark.parametrize(
        "module", ["gfscreen", "gfscreen.command.cli", "gfscreen.run.predict", "gfscreen.screening.screening"]
    )
    def test_on_import(self, module):
        assert_light(imported(f"import {module}"))

    def test_the_command_line_itself_imports_nothing_of_the_method(self):
        modules = imported("import gfscreen.command.cli; gfscreen.command.cli.build_parser()")
        assert not {name.split(".")[0] for name in modules} & {"numpy", "SimpleITK", "scipy", "nibabel"}

    def test_the_package_alone_imports_no_library(self):
        """Counted and not timed: what `import gfscreen` adds to a bare interpreter, `typing` above all."""
        added = imported("import gfscreen") - imported("import typing")
        assert {name for name in added if name.split(".")[0] == "gfscreen"} == {"gfscreen", "gfscreen.version"}
        assert len(added) < 5, sorted(added)

    def test_version(self):
        assert_light(imported("import gfscreen; assert gfscreen.__version__"))

    def test_info(self, tmp_path):
        modules = imported(
            f"from gfscreen.command.cli import main; main(['info', '--json', '--weights', {str(tmp_path)!r}])"
        )
        assert_light(modules)

    def test_predict_with_an_engine_of_ones(self, tmp_path):
        """A whole run, from the command line to the mask, with an engine that needs nothing."""
        (tmp_path / "weights").mkdir()
        (tmp_path / "weights" / "plan.json").write_text(json.dumps(plan_to_json(TINY_PLAN)))
        (tmp_path / "in").mkdir()
        write_nifti(tmp_path / "in" / "a_0000.nii.gz", np.full((36, 32, 30), 40, np.int16))
        code = f"""
import numpy as np
import gfscreen.run.predict
from gfscreen.networks.engines.base import EngineInfo
class Ones:
    info = EngineInfo("ones", "cpu", "fp32", "")
    glance_batch = focus_batch = 1
    def glance(self, batch): return np.ones(len(batch), np.float32)
    def focus(self, batch): return np.ones_like(batch)
    def release_glance(self): pass
    def release(self): pass
    def peak_gpu_mb(self): return None
gfscreen.run.predict.load_engine = lambda *_, **__: Ones()
from gfscreen.command.cli import main
folder = {str(tmp_path)!r}
assert main(["-q", "predict", "-i", folder + "/in", "-o", folder + "/out", "--weights", folder + "/weights",
             "--report", folder + "/report.json"]) == 0
"""
        modules = imported(code, cwd=tmp_path)
        assert_light(modules)
        assert not {"gfscreen.results.statistics", "gfscreen.results.preview"} & modules  # nobody asked for them
        assert read_mask(tmp_path / "out" / "a.nii.gz").all()

    def test_statistics_of_an_existing_mask(self, tmp_path):
        write_nifti(tmp_path / "a_0000.nii.gz", np.full((36, 32, 30), 40, np.int16))
        write_nifti(tmp_path / "a.nii.gz", np.ones((36, 32, 30), np.uint8))
        arguments = ["-q", "stats", "--image", "a_0000.nii.gz", "--mask", "a.nii.gz", "-o", "s.json"]
        modules = imported(f"from gfscreen.command.cli import main; assert main({arguments!r}) == 0", cwd=tmp_path)
        assert_light(modules)
        # The container leaves these parts of scipy out.
        assert not {"scipy.spatial", "scipy.stats", "scipy.optimize"} & modules


class TestOpenVINOWithoutTorch:
    """The whole product as in the CPU image: real OpenVINO networks (of one operation), and no torch."""

    @pytest.fixture
    def weights(self, tmp_path: Path) -> Path:
        pytest.importorskip("openvino")
        from eval.reliability.threshold_engine import write_threshold_weights

        return write_threshold_weights(tmp_path / "weights")

    def test_predict(self, tmp_path, weights):
        hu = np.full((36, 32, 30), 40, np.int16)
        hu[10:20, 10:20, 10:20] = LESION_HU
        (tmp_path / "in").mkdir()
        write_nifti(tmp_path / "in" / "a_0000.nii.gz", hu, np.diag([4.0, 4.0, 4.0, 1.0]))
        arguments = ["-q", "predict", "-i", "in", "-o", "out", "--weights", str(weights), "--device", "cpu"]
        modules = imported(f"from gfscreen.command.cli import main; assert main({arguments!r}) == 0", cwd=tmp_path)
        assert_light(modules, allowed={"openvino"})
        assert "openvino" in modules
        np.testing.assert_array_equal(read_mask(tmp_path / "out" / "a.nii.gz"), hu == LESION_HU)


def test_no_prints_and_no_star_imports():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert all(alias.name != "*" for alias in node.names), path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", path
