"""scripts/submission.sh and `python -m eval check`, with a docker that only pretends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from eval.__main__ import main as evaluate
from tests.helpers.fake_docker import COMMAND, calls, install
from tests.helpers.nifti_files import write_nifti
from tests.helpers.places import ROOT

SCRIPT = ROOT / "scripts" / "submission.sh"
# What a container would leave: an empty mask on the grid of each scan.
EMPTY_MASKS = f"""{sys.executable} -c '
import os, nibabel as nib, numpy as np, pathlib
for scan in pathlib.Path(os.environ["INPUTS"]).iterdir():
    image = nib.load(scan)
    mask = nib.Nifti1Image(np.zeros(image.shape, np.uint8), image.affine, image.header)
    mask.set_data_dtype(np.uint8)
    nib.save(mask, pathlib.Path(os.environ["OUTPUTS"]) / scan.name.replace("_0000", ""))
'"""


class TestName:
    @pytest.mark.parametrize("team", ["team", "team7", "7team", "a", "my-team", "my_team", "my__team", "my--team"])
    def test_good(self, team):
        assert subprocess.run(["sh", SCRIPT, "--check", team], check=False).returncode == 0

    @pytest.mark.parametrize(
        ("team", "message"),
        [
            ("", "no team name; make submission TEAM=name"),
            ("MyTeam", "expected lower case, as Docker asks of image names; try TEAM=myteam"),
            ("team.v2", "expected no dot"),
            ("my team", "expected letters a-z"),
            ("team/x", "expected letters a-z"),
            ("team:1", "expected letters a-z"),
            ("größe", "expected letters a-z"),
            ("$(id)", "expected letters a-z"),
            ("-team", "at both ends"),
            ("team_", "at both ends"),
            ("a___b", "at most __"),
            ("a_-b", "at most __"),
        ],
    )
    @pytest.mark.parametrize("arguments", [["--check"], []])
    def test_bad(self, team, message, arguments):
        done = subprocess.run(["sh", SCRIPT, *arguments, team], capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1

    def test_make_says_so_before_it_builds_anything(self):
        done = subprocess.run(["make", "submission", "TEAM=A"], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode != 0
        assert "try TEAM=a" in done.stderr
        assert "pip" not in done.stdout + done.stderr


class Place:
    """A folder with a pretended docker, one scan, and an output folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "cases").mkdir()
        (folder / "out").mkdir()
        write_nifti(folder / "cases" / "x_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
        self.environment = {
            **os.environ,
            **install(folder / "docker", "gfscreen:latest"),
            COMMAND: EMPTY_MASKS,
            "CASES": str(folder / "cases"),
            "OUTPUT": str(folder / "out"),
            "PYTHON": sys.executable,
            "TMPDIR": str(folder),
        }

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", SCRIPT, *(arguments or ("team",))],
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[list[str]]:
        return calls(self.folder / "docker")


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


class TestArchive:
    def test_is_saved_loaded_and_run(self, place):
        done = place.run()
        assert done.returncode == 0, done.stdout + done.stderr
        assert "x.nii.gz: ok" in done.stdout
        assert "1 cases passed, 0 failed" in done.stdout
        assert [path.name for path in (place.folder / "out").iterdir()] == ["team.tar.gz"]
        verbs = [" ".join(call[:2]) for call in place.calls]
        assert verbs.index("save -o") < verbs.index("image rm") < verbs.index("load -i") < verbs.index("container run")
        assert {path.name for path in place.folder.iterdir()} == {"cases", "out", "docker"}, "nothing is left behind"

    def test_the_organisers_line_without_a_gpu(self, place):
        place.run()
        (line,) = [call for call in place.calls if call[:2] == ["container", "run"]]
        inputs, outputs = line[9].split(":")[0], line[11].split(":")[0]
        assert inputs.endswith("/inputs/")
        assert outputs.endswith("/outputs/")
        assert line[2:] == [
            *("--shm-size=28gb", "-m", "28G", "--name", "team", "--rm"),
            *("-v", f"{inputs}:/workspace/inputs/", "-v", f"{outputs}:/workspace/outputs/"),
            *("team:latest", "/bin/bash", "-c", "sh predict.sh"),
        ]

    def test_with_a_gpu(self, place):
        place.run(GPU="1")
        (line,) = [call for call in place.calls if call[:2] == ["container", "run"]]
        assert line[5] == "--gpus=device=1"

    @pytest.mark.parametrize(
        ("command", "message"),
        [
            ("exit 3", "exit code 3"),
            ("true", "x.nii.gz: missing; it would go unscored"),
            (f'{EMPTY_MASKS}; touch "$OUTPUTS/log.txt"', "log.txt: not asked for"),
        ],
    )
    def test_that_does_not_keep_the_contract(self, place, command, message):
        done = place.run(**{COMMAND: command})
        assert done.returncode == 1
        assert message in done.stdout
        assert "0 cases passed, 1 failed" in done.stdout

    @pytest.mark.parametrize(
        ("environment", "message"),
        [
            ({"IMAGE": "other:latest"}, "other:latest: no such image; make image"),
            ({"GPU": "all"}, "GPU=all: expected the number"),
            ({"CASES": "gone"}, "gone: no such folder"),
            ({"OUTPUT": "gone"}, "gone: no such folder"),
            ({"PYTHON": "gone"}, "gone: not found; make setup"),
        ],
    )
    def test_wrong_surroundings(self, place, environment, message):
        done = place.run(**environment)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        assert message in done.stderr
        assert not list((place.folder / "out").iterdir())

    def test_two_names(self, place):
        assert place.run("a", "b").returncode == 2


class TestCheck:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> tuple[Path, Path]:
        images, pred = tmp_path / "images", tmp_path / "pred"
        images.mkdir()
        pred.mkdir()
        write_nifti(images / "a_0000.nii.gz", np.zeros((4, 5, 6), np.int16))
        return images, pred

    def check(self, folders: tuple[Path, Path]) -> int:
        return evaluate(["check", "--images", str(folders[0]), "--pred", str(folders[1])])

    @pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
    def test_good_masks_of_any_type(self, folders, dtype, capsys):
        write_nifti(folders[1] / "a.nii.gz", np.ones((4, 5, 6), dtype))
        assert self.check(folders) == 0
        assert capsys.readouterr().out == "a.nii.gz: ok\n"

    @pytest.mark.parametrize(
        ("mask", "options", "message"),
        [
            (np.zeros((4, 5, 7), np.uint8), {}, "expected shape (4, 5, 6), got (4, 5, 7)"),
            (np.full((4, 5, 6), 2, np.uint8), {}, "expected labels 0 and 1, got 2"),
            (np.full((4, 5, 6), 0.999, np.float32), {}, "expected whole numbers; the cast to uint8 changes values"),
            (np.zeros((4, 5, 6), np.uint8), {"affine": np.diag([4.0, 4.0, 5.5, 1.0])}, "expected the affine"),
        ],
    )
    def test_bad_masks(self, folders, mask, options, message, capsys):
        write_nifti(folders[1] / "a.nii.gz", mask, **options)
        assert self.check(folders) == 1
        assert f"a.nii.gz: {message}" in capsys.readouterr().out

    def test_a_slope_that_hides_another_value(self, folders, capsys):
        image = nib.load(write_nifti(folders[1] / "a.nii.gz", np.ones((4, 5, 6), np.uint8), slope=0.5, intercept=0.0))
        assert image.get_fdata().max() == 0.5
        assert self.check(folders) == 1

    def test_no_image_at_all(self, folders, capsys):
        (folders[1] / "a.nii.gz").write_bytes(b"x")
        assert self.check(folders) == 1
        assert "a.nii.gz: not readable" in capsys.readouterr().out

    def test_wrong_usage(self, folders, tmp_path, capsys):
        assert self.check((tmp_path / "gone", folders[1])) == 2
        assert self.check((folders[1], folders[0])) == 2
