"""Who imports whom: the contracts in pyproject.toml hold, and each of them notices what it is for."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.places import ROOT

LINTER = Path(sys.executable).with_name("lint-imports")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the sources below a folder, by the contracts that lie in it."""
    environment = {"PYTHONPATH": f"{folder / 'src'}:{folder}", "COLUMNS": "200"}
    command = [LINTER, "--no-cache", "--config", folder / "pyproject.toml"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=folder)


def test_contracts_hold():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone, to plant faults in."""
    folder = tmp_path_factory.mktemp("sources")
    for name in ("src/gfscreen", "eval"):
        for path in (ROOT / name).rglob("*.py"):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.parametrize(
    ("module", "planted", "broken"),
    [
        pytest.param(
            "src/gfscreen/scan/grid.py",
            "from gfscreen.screening.windows import Window",
            "gfscreen: imports run one way BROKEN",
            id="upward",
        ),
        pytest.param(
            "src/gfscreen/config.py",
            "def late():\n    from gfscreen.scan.volume.geometry import Geometry",
            "gfscreen: imports run one way BROKEN",
            id="upward inside a function",
        ),
        pytest.param(
            "src/gfscreen/scan/grid.py",
            "from gfscreen.networks.engines import base",
            "gfscreen: imports run one way BROKEN",
            id="sideways",
        ),
        pytest.param(
            "src/gfscreen/training/synthesis/tissue.py",
            "from gfscreen.training.data import lists",
            "gfscreen.training: imports run one way BROKEN",
            id="upward within training",
        ),
        pytest.param("src/gfscreen/files.py", "import eval.files", "predict imports neither", id="harness in product"),
        pytest.param(
            "eval/accuracy/metrics.py",
            "from eval.efficiency import gpu",
            "eval: imports run one way BROKEN",
            id="upward in the harness",
        ),
        pytest.param(
            "eval/reliability/fuzz/findings.py",
            "from eval.reliability.fuzz.worker import main",
            "no circles BROKEN",
            id="circle",
        ),
        pytest.param("src/gfscreen/new_room/__init__.py", "", "gfscreen: imports run one way BROKEN", id="unlisted"),
    ],
)
def test_a_planted_fault_is_seen(copy, module, planted, broken):
    path = copy / module
    before = path.read_text() if path.exists() else None
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"{before or ''}\n{planted}\n")
    try:
        done = lint(copy)
    finally:
        if before is None:
            shutil.rmtree(path.parent)
        else:
            path.write_text(before)
    assert done.returncode == 1, done.stdout + done.stderr
    assert broken in " ".join(done.stdout.split())
