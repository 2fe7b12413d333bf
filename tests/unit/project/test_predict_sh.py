"""`predict.sh`: what its variables become, seen by a stand-in for Python."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.helpers.places import ROOT


def arguments(folder: Path, **variables: str) -> list[str]:
    """What the program is called with, behind `-m gfscreen predict -i inputs -o outputs`."""
    shutil.copy(ROOT / "predict.sh", folder)
    program = folder / "python"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(
        ["sh", folder / "predict.sh", "inputs", "outputs"],
        capture_output=True, text=True, check=True, env={"PATH": f"{folder}:/usr/bin:/bin", **variables},
    )  # fmt: skip
    words = done.stdout.splitlines()
    assert words[:7] == ["-m", "gfscreen", "predict", "-i", "inputs", "-o", "outputs"]
    return words[7:]


DEFAULTS = ["--time-limit", "45", "--gpu-memory-limit", "4096", "--empty-mask-on-failure", "--overwrite"]


def test_defaults(tmp_path):
    assert arguments(tmp_path) == DEFAULTS


@pytest.mark.parametrize(
    "name",
    [
        "device", "region", "overlap", "gate", "report", "keep-share", "lesion-threshold", "finding-peak",
        "min-volume-ml", "operating-point",
    ],
)  # fmt: skip
def test_an_option(tmp_path, name):
    variable = "GFSCREEN_" + name.upper().replace("-", "_")
    words = arguments(tmp_path, **{variable: "a value"})
    place = words.index(f"--{name}")
    assert words[place + 1] == "a value"
    assert words[:place] + words[place + 2 :] == DEFAULTS


def test_switches(tmp_path):
    off = {"GFSCREEN_EMPTY_MASK": "0", "GFSCREEN_OVERWRITE": "0", "GFSCREEN_TIME_LIMIT": "", "GFSCREEN_RESUME": "1"}
    assert arguments(tmp_path, **off) == ["--gpu-memory-limit", "4096", "--resume"]
