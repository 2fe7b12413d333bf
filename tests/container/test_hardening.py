"""The image locked down and under stress: no privileges, little memory, told to stop, killed, failing on purpose."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from eval.reliability.torture.file_cases import file_cases
from eval.reliability.torture.header_cases import header_cases
from eval.reliability.torture.judge import check_geometry, read_mask
from eval.reliability.torture.store import plain_affine, save
from tests.container.docker import LOCKED_DOWN, ORGANISERS_COMMAND, docker, run, run_container

pytestmark = pytest.mark.container

# What is shown here holds for masks that are degraded, too.
BRIEF = {"GFSCREEN_TIME_LIMIT": "6"}
# Of each kind one that a container could take amiss: links, pipes and devices, odd names, damaged headers.
PART = (
    "header-qfac0",
    "header-bomb",
    "header-2d",
    "file-cut_",
    "file-plain_",
    "entry-",
    "itkbad-gzip",
    "a b",
    "$(",
    "-o_",
)


def put_phantom(phantoms: Path, inputs: Path, name: str) -> None:
    (inputs / name).write_bytes((phantoms / "chest_seed0_0000.nii.gz").read_bytes())
    (inputs / name).chmod(0o644)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def start(image: str, inputs: Path, outputs: Path, *options: str) -> str:
    """Start a locked-down container in the background; its name."""
    name = f"gfscreen-test-{uuid.uuid4().hex[:12]}"
    mounts = ("-v", f"{inputs}/:/workspace/inputs/:ro", "-v", f"{outputs}/:/workspace/outputs/")
    done = docker(
        "container", "run", "--detach", "--name", name, *LOCKED_DOWN, *mounts, *options, image, *ORGANISERS_COMMAND
    )
    assert done.returncode == 0, done.stderr
    return name


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll, for two minutes at most."""
    deadline_s = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline_s, "it never came so far"
        time.sleep(0.2)


def exit_code(name: str) -> int:
    return int(docker("wait", name, timeout_s=300).stdout.strip())


def assert_whole(inputs: Path, outputs: Path) -> None:
    """Every mask in the output folder is whole, with its scan's geometry."""
    for path in outputs.glob("*.nii.gz"):
        head, _ = read_mask(path)
        check_geometry(inputs / path.name.replace(".nii.gz", "_0000.nii.gz"), head)


def test_odd_and_damaged_inputs(image: str, inputs: Path, outputs: Path) -> None:
    cases = [case for case in [*header_cases(), *file_cases()] if any(part in case.file for part in PART)]
    assert len(cases) >= 15
    for case in cases:
        # What a link points to is not mounted, and a device is one of the container's own.
        if case.file.startswith("entry-link"):
            continue
        case.make(inputs / case.file)
    done = run_container(image, inputs, outputs, locked_down=True, environment=BRIEF)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    kept = [case for case in cases if case.expect == "mask" and not case.file.startswith("entry-link")]
    assert names_in(outputs) == sorted(case.mask_name for case in kept)
    for case in kept:
        check_geometry(inputs / case.file, read_mask(outputs / case.mask_name)[0])


def test_told_to_stop(image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
    """SIGTERM to process 1, which by default would ignore it: ends in time with 143, and only whole masks."""
    for number in range(3):
        put_phantom(phantoms, inputs, f"case{number}_0000.nii.gz")
    # Dense, a case takes half a minute: it is stopped amid the first one.
    name = start(image, inputs, outputs, "-e", "GFSCREEN_GATE=0", "-e", "GFSCREEN_TIME_LIMIT=60")
    try:
        wait_until(lambda: "openvino on cpu" in docker("logs", name).stderr)
        time.sleep(3)
        docker("kill", "--signal", "TERM", name)
        began = time.monotonic()
        assert exit_code(name) == 143
        assert time.monotonic() - began < 60
        assert "stopped by SIGTERM" in docker("logs", name).stderr
    finally:
        docker("rm", "--force", name)
    assert_whole(inputs, outputs)
    done = run_container(image, inputs, outputs, locked_down=True, environment={**BRIEF, "GFSCREEN_RESUME": "1"})
    assert done.returncode == 0, done.stderr
    assert names_in(outputs) == [f"case{number}.nii.gz" for number in range(3)]


@pytest.mark.parametrize(("masks", "after_s"), [(0, 2.0), (1, 0.0), (1, 3.0)])
def test_killed_and_started_again(
    image: str, phantoms: Path, inputs: Path, outputs: Path, masks: int, after_s: float
) -> None:
    """While it starts; at the moment the first mask appears; amid the second case."""
    for number in range(3):
        put_phantom(phantoms, inputs, f"case{number}_0000.nii.gz")
    name = start(image, inputs, outputs, "-e", "GFSCREEN_TIME_LIMIT=", "-e", "GFSCREEN_KEEP_SHARE=0.3")
    try:
        wait_until(lambda: len(list(outputs.glob("*.nii.gz"))) >= masks)
        time.sleep(after_s)
        docker("kill", name)
    finally:
        docker("rm", "--force", name)
    assert_whole(inputs, outputs)
    done = run_container(image, inputs, outputs, locked_down=True, environment={**BRIEF, "GFSCREEN_RESUME": "1"})
    assert done.returncode == 0, done.stderr
    assert names_in(outputs) == [f"case{number}.nii.gz" for number in range(3)]


def test_a_scan_that_does_not_fit_into_the_containers_memory(
    image: str, phantoms: Path, inputs: Path, outputs: Path
) -> None:
    """`-m 3G` and a file of zeros that really holds the 10 GB its header asks for: refused, the others written."""
    put_phantom(phantoms, inputs, "b_0000.nii.gz")
    shape = (16, 16, 4)
    path = save(inputs / "a_0000.nii", np.zeros(shape, np.int16), plain_affine((1.0, 1.0, 1.0), shape))
    with path.open("r+b") as stream:
        stream.seek(42)
        stream.write(np.array([1700, 1700, 1800], "<i2").tobytes())
        stream.truncate(352 + 1700 * 1700 * 1800 * 2)  # sparse
    mounts = ("-v", f"{inputs}/:/workspace/inputs/:ro", "-v", f"{outputs}/:/workspace/outputs/")
    done = run(image, *LOCKED_DOWN, "-m", "3G", "--memory-swap", "3G", "-e", "GFSCREEN_TIME_LIMIT=6", *mounts)
    assert done.returncode == 1, done.stderr
    assert "a_0000.nii: 1700x1700x1800 voxels need about" in done.stderr
    assert names_in(outputs) == ["b.nii.gz"]


def test_nothing_is_left_in_tmp(image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
    put_phantom(phantoms, inputs, "a_0000.nii.gz")
    mounts = ("-v", f"{inputs}/:/workspace/inputs/:ro", "-v", f"{outputs}/:/workspace/outputs/")
    command = ("/bin/bash", "-c", "sh predict.sh && find /tmp /dev/shm -mindepth 1")
    done = run(image, *LOCKED_DOWN, "-e", "GFSCREEN_TIME_LIMIT=6", *mounts, command=command)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == ""


def test_last_resort_and_its_report(image: str, phantoms: Path, inputs: Path, outputs: Path, tmp_path: Path) -> None:
    """Weights that are damaged on purpose: every scan that can be read gets an empty mask, and the run fails."""
    put_phantom(phantoms, inputs, "a_0000.nii.gz")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "plan.json").write_text("{}")
    (tmp_path / "weights").chmod(0o755)
    reports = tmp_path / "reports"
    reports.mkdir()
    reports.chmod(0o777)
    mounts = ("-v", f"{inputs}/:/workspace/inputs/:ro", "-v", f"{outputs}/:/workspace/outputs/")
    mounts += ("-v", f"{tmp_path / 'weights'}:/workspace/weights:ro", "-v", f"{reports}:/workspace/reports")
    done = run(image, *LOCKED_DOWN, "-e", "GFSCREEN_REPORT=/workspace/reports/r.json", *mounts)
    assert done.returncode == 1
    assert names_in(outputs) == ["a.nii.gz"]
    head, voxels = read_mask(outputs / "a.nii.gz")
    check_geometry(inputs / "a_0000.nii.gz", head)
    assert not voxels.any()
    (case,) = json.loads((reports / "r.json").read_text())["cases"]
    assert (case["status"], case["empty_mask"]) == ("failed", True)


def test_the_same_scan_gives_the_same_mask(image: str, phantoms: Path, inputs: Path, outputs: Path) -> None:
    put_phantom(phantoms, inputs, "a_0000.nii.gz")
    put_phantom(phantoms, inputs, "b_0000.nii.gz")
    # No limit, so that both are read alike; a part of the sub-volumes by both networks shows as much as all of them.
    environment = {"GFSCREEN_TIME_LIMIT": "", "GFSCREEN_KEEP_SHARE": "0.3"}
    done = run_container(image, inputs, outputs, locked_down=True, environment=environment)
    assert done.returncode == 0, done.stderr
    assert read_mask(outputs / "a.nii.gz")[1].any(), "an empty mask would always be the same"
    assert (outputs / "a.nii.gz").read_bytes() == (outputs / "b.nii.gz").read_bytes()
