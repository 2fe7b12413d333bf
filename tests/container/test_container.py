"""The CPU image as its users meet it: run by the organisers' command, and locked down as a hospital would.

`GFSCREEN_IMAGE=name make container-test`. Without Docker or without the image these tests skip, saying so;
with GFSCREEN_REQUIRE_CONTAINER=1 they fail instead.
"""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from gfscreen.version import __version__
from tests.container.docker import LOCKED_DOWN, ORGANISERS_COMMAND, docker, run, run_container
from tests.helpers.nifti_files import assert_same_geometry, read_mask

pytestmark = pytest.mark.container

MAX_IMAGE_BYTES = 1_000_000_000
# Both networks, and to the end however busy the machine is, but a tenth of the sub-volumes.
BRIEF = {"GFSCREEN_TIME_LIMIT": "", "GFSCREEN_KEEP_SHARE": "0.1"}


def put(inputs: Path, *scans: Path) -> list[str]:
    """Copy scans into the input folder, for anyone to read; the names of the masks to expect."""
    for scan in scans:
        (inputs / scan.name).write_bytes(scan.read_bytes())
        (inputs / scan.name).chmod(0o644)
    return sorted(scan.name.replace("_0000.nii.gz", ".nii.gz") for scan in scans)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def assert_masks(inputs: Path, outputs: Path, names: list[str]) -> None:
    """Exactly these masks, each binary and with its scan's geometry to the byte, and nothing else in the folder."""
    assert names_in(outputs) == names
    for name in names:
        assert_same_geometry(inputs / name.replace(".nii.gz", "_0000.nii.gz"), outputs / name)
        assert read_mask(outputs / name).dtype == np.uint8


class TestOrganisersCommand:
    def test_one_case(self, image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
        names = put(inputs, phantoms / "chest_seed0_0000.nii.gz")
        done = run_container(image, inputs, outputs)
        assert done.returncode == 0, done.stderr
        assert_masks(inputs, outputs, names)

    def test_several_cases_in_one_folder(self, image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
        names = put(inputs, *phantoms.iterdir())
        done = run_container(image, inputs, outputs, environment=BRIEF)
        assert done.returncode == 0, done.stderr
        assert_masks(inputs, outputs, names)


class TestLockedDown:
    def test_several_cases_in_one_folder(self, image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
        names = put(inputs, *phantoms.iterdir())
        done = run_container(image, inputs, outputs, locked_down=True, environment=BRIEF)
        assert done.returncode == 0, done.stderr
        assert_masks(inputs, outputs, names)
        assert {(outputs / name).stat().st_uid for name in names} == {1234}

    def test_both_stages_run_and_the_report_lies_apart_from_the_masks(
        self, image: str, phantoms: Path, inputs: Path, outputs: Path, tmp_path: Path
    ) -> None:
        names = put(inputs, phantoms / "chest_seed0_0000.nii.gz")
        reports = tmp_path / "reports"
        reports.mkdir()
        reports.chmod(0o777)
        # Gate 0: Focus reads every sub-volume, as far as the time goes, whatever the weights know.
        settings = {"GFSCREEN_GATE": "0", "GFSCREEN_TIME_LIMIT": "20"}
        done = run_container(image, inputs, outputs, reports=reports, locked_down=True, environment=settings)
        assert done.returncode == 0, done.stderr
        assert_masks(inputs, outputs, names)
        (case,) = json.loads((reports / "report.json").read_text())["cases"]
        assert case["name"] == "chest_seed0"
        assert case["windows_kept"] > 0
        assert case["windows_done"] > 0

    def test_other_folders_as_arguments_and_nowhere_to_write_but_there(
        self, image: str, phantoms: Path, inputs: Path, outputs: Path
    ) -> None:
        names = put(inputs, phantoms / "abdomen_seed0_0000.nii.gz")
        folders = ("-v", f"{inputs}:/data/in $(id) put:ro", "-v", f"{outputs}:/data/out put")
        options = ("--network", "none", "--read-only", "--user", "1234:1234", "-e", "GFSCREEN_TIME_LIMIT=8", *folders)
        done = run(image, *options, command=("sh", "predict.sh", "/data/in $(id) put", "/data/out put"))
        assert done.returncode == 0, done.stderr
        assert_masks(inputs, outputs, names)


class TestBadInput:
    def test_bad_files_do_not_stop_the_others(self, image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
        good = put(inputs, phantoms / "abdomen_seed0_0000.nii.gz", phantoms / "chest_seed0_0000.nii.gz")
        whole = (phantoms / "chest_seed0_0000.nii.gz").read_bytes()
        (inputs / "broken_0000.nii.gz").write_bytes(whole[: len(whole) // 2])
        (inputs / "text_0000.nii.gz").write_bytes(gzip.compress(b"not an image"))
        done = run_container(image, inputs, outputs, locked_down=True, environment=BRIEF)
        assert done.returncode == 1
        assert_masks(inputs, outputs, good)
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        assert len(errors) == 2
        assert "broken_0000.nii.gz" in errors[0]
        assert "text_0000.nii.gz" in errors[1]
        assert "Traceback" not in done.stderr

    def test_empty_input_folder(self, image: str, inputs: Path, outputs: Path) -> None:
        done = run_container(image, inputs, outputs, locked_down=True)
        assert done.returncode == 2
        assert "/workspace/inputs" in done.stderr
        assert names_in(outputs) == []

    def test_output_folder_that_cannot_be_written(
        self, image: str, phantoms: Path, inputs: Path, outputs: Path
    ) -> None:
        put(inputs, phantoms / "chest_seed0_0000.nii.gz")
        outputs.chmod(0o755)
        done = run_container(image, inputs, outputs, locked_down=True)
        assert done.returncode in (1, 2)
        assert "/workspace/outputs" in done.stderr
        assert "Traceback" not in done.stderr

    def test_wrong_usage(self, image: str, inputs: Path, outputs: Path) -> None:
        done = run_container(image, inputs, outputs, locked_down=True, environment={"GFSCREEN_REGION": "leg"})
        assert done.returncode == 2
        assert "leg" in done.stderr


class TestImage:
    def test_size(self, image: str) -> None:
        size = int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
        assert size <= MAX_IMAGE_BYTES, f"{size / 1e6:.0f} MB"

    def test_contract_of_its_configuration(self, image: str) -> None:
        config = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image).stdout)
        assert config["WorkingDir"] == "/workspace"
        assert not config.get("Entrypoint"), "an entry point would swallow the organisers' command"
        assert config.get("User", "") in ("", "root", "0"), "root is the safe default; --user sets any other"
        assert config["Cmd"] == list(ORGANISERS_COMMAND)
        assert not config.get("Healthcheck")
        variables = {entry.partition("=")[0] for entry in config["Env"]}
        assert "CUDA_VISIBLE_DEVICES" not in variables
        assert not [name for name in variables if name.startswith("PIP_") or "CERT" in name or "PROXY" in name.upper()]

    def test_labels(self, image: str) -> None:
        labels = json.loads(docker("image", "inspect", "--format", "{{json .Config.Labels}}", image).stdout)
        assert labels["org.opencontainers.image.version"] == __version__
        assert labels["org.opencontainers.image.licenses"] == "Apache-2.0"

    @pytest.mark.parametrize("package", ["torch", "monai", "tensorboard", "gfscreen.command.cli"])
    def test_packages(self, image: str, package: str) -> None:
        done = run(image, *LOCKED_DOWN, command=("python", "-c", f"import {package}"))
        assert (done.returncode == 0) == (package == "gfscreen.command.cli")

    def test_everything_is_compiled(self, image: str) -> None:
        """A read-only start cannot cache bytecode, so what is not compiled here is compiled at every start."""
        program = (
            "import os, sys, gfscreen.command.cli, gfscreen.run.predict, gfscreen.networks.engines.openvino\n"
            "import openvino, SimpleITK, scipy.ndimage\n"
            "files = [(m.__file__, m.__cached__) for m in sys.modules.values()\n"
            "         if getattr(m, '__cached__', None) and m.__file__.endswith('.py')]\n"
            "assert len(files) > 200\n"
            "print([file for file, cached in files if not os.path.exists(cached) and 'frozen' not in file])\n"
        )
        done = run(image, *LOCKED_DOWN, command=("python", "-c", program))
        assert done.stdout.strip() == "[]", done.stdout + done.stderr

    def test_weights_hold_only_what_openvino_reads(self, image: str) -> None:
        done = run(image, *LOCKED_DOWN, command=("find", "/workspace/weights", "-type", "f", "-printf", "%P\n"))
        networks = ("cells", "focus", "glance", "second_focus", "second_focus_wide")
        assert set(done.stdout.split()) == {
            "LICENSE",
            "MODEL_CARD.md",
            "NOTICE",
            "manifest.json",
            "openvino/NOTICE",
            *(f"openvino/{network}.{kind}" for network in networks for kind in ("bin", "xml")),
            "openvino/manifest.json",
            "plan.json",
        }
