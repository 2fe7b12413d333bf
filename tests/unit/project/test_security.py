"""Files from strangers: nothing is unpickled, no name reaches a shell, no link leads a mask out of its folder."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import gfscreen
from eval.reliability.threshold_engine import write_threshold_weights
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.scans import LESION_HU, paint

PACKAGE = Path(gfscreen.__file__).parent
ROOT = PACKAGE.parents[1]
AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])
# Training writes its own checkpoints; `convert` and `trunk` read published ones, which are pickles: with weights_only.
PUBLISHED = ("networks/models/published.py", "networks/models/nnunet_checkpoint.py", "networks/models/trunk_fetch.py")
NOT_IN_PREDICT = ("training", *PUBLISHED)
UNPICKLERS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def predict_sources() -> list[Path]:
    found = [p for p in PACKAGE.rglob("*.py") if not str(p.relative_to(PACKAGE)).startswith(NOT_IN_PREDICT)]
    assert len(found) > 30
    return found


def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """(dotted name, call) of every call in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


class TestNoPickle:
    def test_no_source_of_the_predict_path_can_unpickle(self):
        for path in predict_sources():
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                assert not {name.split(".")[0] for name in names} & UNPICKLERS, path
            assert not [name for name, _ in calls(path) if name in ("torch.load", "np.load", "numpy.load")], path

    @pytest.mark.parametrize("source", PUBLISHED)
    def test_a_published_checkpoint_is_read_as_weights_only(self, source):
        loads = [call for name, call in calls(PACKAGE / source) if name == "torch.load"]
        assert loads
        for call in loads:
            keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert keywords.get("weights_only") == "True"

    def test_a_whole_run_unpickles_nothing(self, tmp_path):
        """Real OpenVINO networks in a fresh process in which every way to unpickle is a mine."""
        pytest.importorskip("openvino")
        weights = write_threshold_weights(tmp_path / "weights")
        (tmp_path / "in").mkdir()
        write_nifti(tmp_path / "in" / "a_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        arguments = ["-q", "predict", "-i", "in", "-o", "out", "--weights", str(weights), "--engine", "openvino"]
        code = (
            "import pickle, sys\n"
            "import numpy, scipy.ndimage, SimpleITK, nibabel, openvino\n"
            "def mine(*_, **__): sys.exit('something was unpickled')\n"
            "pickle.load = pickle.loads = pickle.Unpickler = pickle._Unpickler = mine\n"
            "from gfscreen.command.cli import main\n"
            f"sys.exit(main({arguments!r}))"
        )
        environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert read_mask(tmp_path / "out" / "a.nii.gz").any()


class TestNoShell:
    def test_no_source_starts_one(self):
        for path in PACKAGE.rglob("*.py"):
            for name, call in calls(path):
                assert name not in ("os.system", "os.popen", "subprocess.getoutput", "eval", "exec"), path
                if name.startswith("subprocess."):
                    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
                    assert keywords.get("shell", "False") == "False", path
                    assert isinstance(call.args[0], ast.List), f"{path}: a command is a list"

    def test_predict_sh_gives_names_to_none(self, tmp_path):
        pytest.importorskip("openvino")
        names = ["$(touch pwned)", "`touch pwned`", "; touch pwned #", "-o", "a b", "*", "'\"", "new\nline"]
        inputs, outputs = tmp_path / "in $(touch pwned) put", tmp_path / "out `touch pwned` put"
        inputs.mkdir()
        for name in names:
            write_nifti(inputs / f"{name}_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        weights = write_threshold_weights(tmp_path / "weights")
        environment = {
            **os.environ,
            "GFSCREEN_WEIGHTS": str(weights),
            "GFSCREEN_TIME_LIMIT": "",
            "GFSCREEN_DEVICE": "cpu",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        done = subprocess.run(
            ["sh", str(ROOT / "predict.sh"), str(inputs), str(outputs)],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert sorted(path.name for path in outputs.iterdir()) == sorted(f"{name}.nii.gz" for name in names)
        assert not list(tmp_path.rglob("pwned"))


class TestLinks:
    """Whoever fills the folders must not be able to have a mask written anywhere else."""

    def test_a_scan_that_is_a_link_gives_a_mask_in_the_output_folder(self, run, tmp_path):
        (tmp_path / "elsewhere").mkdir()
        target = write_nifti(tmp_path / "elsewhere" / "b_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        before = target.read_bytes()
        (run.inputs / "a_0000.nii.gz").symlink_to(target)
        result = run()
        assert (result.code, result.written) == (0, ["a.nii.gz"])
        assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["b_0000.nii.gz"]
        assert target.read_bytes() == before

    @pytest.mark.parametrize("option", [{}, {"resume": True}, {"empty_mask_on_failure": True}])
    @pytest.mark.parametrize("content", [b"precious", None])
    def test_a_mask_that_is_a_link_is_replaced(self, run, tmp_path, option, content):
        write_nifti(run.inputs / "a_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        outside = tmp_path / "outside.nii.gz"
        if content is not None:
            outside.write_bytes(content)
        run.output.mkdir()
        (run.output / "a.nii.gz").symlink_to(outside)
        result = run(**option)
        assert (result.code, result.written) == (0, ["a.nii.gz"])
        assert not (run.output / "a.nii.gz").is_symlink()
        assert (outside.read_bytes() if outside.exists() else None) == content

    def test_a_mask_that_is_a_link_to_its_scan(self, run):
        scan = write_nifti(run.inputs / "a_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        before = scan.read_bytes()
        run.output.mkdir()
        (run.output / "a.nii.gz").symlink_to(scan)
        assert run().code == 0
        assert scan.read_bytes() == before
        assert read_mask(run.output / "a.nii.gz").any()

    def test_the_probe_of_the_output_folder_follows_none(self, run, tmp_path):
        write_nifti(run.inputs / "a_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        run.output.mkdir()
        (run.output / f".gfscreen-probe-{os.getpid()}.tmp").symlink_to(tmp_path / "made")
        assert run().code == 1
        assert not (tmp_path / "made").exists()


def test_openvino_runs_without_its_telemetry(tmp_path):
    """Which would leave an identifier in the home folder and send usage over the network."""
    pytest.importorskip("openvino")
    weights = write_threshold_weights(tmp_path / "weights")
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "in").mkdir()
    write_nifti(tmp_path / "in" / "a_0000.nii.gz", np.full((36, 32, 30), LESION_HU, np.int16), AFFINE)
    arguments = ["-q", "predict", "-i", "in", "-o", "out", "--weights", str(weights), "--engine", "openvino"]
    code = (
        "import sys; from gfscreen.command.cli import main\n"
        f"code = main({arguments!r})\n"
        "assert sys.modules.get('openvino_telemetry') is None\n"
        "sys.exit(code)"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent), "HOME": str(home), "XDG_CACHE_HOME": str(home)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []
