"""Runs the image under test, in the organisers' words or locked down as a hospital would."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Mapping
from pathlib import Path

ORGANISERS_COMMAND = ("/bin/bash", "-c", "sh predict.sh")
# No network, nothing writable but /tmp and the outputs, an unknown user without any privilege, 64 MB of shared memory.
LOCKED_DOWN = (
    *("--network", "none", "--read-only", "--tmpfs", "/tmp", "--user", "1234:1234"),
    *("--cap-drop", "ALL", "--security-opt", "no-new-privileges"),
)


def docker(*arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
    """One docker command; whatever its exit code."""
    return subprocess.run(
        ["docker", *arguments], check=False, capture_output=True, text=True, errors="replace", timeout=timeout_s
    )


def run(
    image: str, *options: str, command: tuple[str, ...] = ORGANISERS_COMMAND, timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """`docker container run`, in the organisers' words but for the GPU; the container is gone afterwards."""
    name = f"gfscreen-test-{uuid.uuid4().hex[:12]}"
    try:
        return docker(
            "container", "run", "-m", "28G", "--name", name, "--rm", *options, image, *command, timeout_s=timeout_s
        )
    finally:
        docker("rm", "--force", name)


def run_container(
    image: str,
    inputs: Path,
    outputs: Path,
    *,
    reports: Path | None = None,
    locked_down: bool = False,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = 3600,
) -> subprocess.CompletedProcess[str]:
    """Screen `inputs` into `outputs` by the organisers' command; inputs are read-only when locked down.

    reports: a folder that gets `report.json`. environment: GFSCREEN_* settings of predict.sh.
    """
    options = [*LOCKED_DOWN] if locked_down else []
    options += ["-v", f"{inputs}/:/workspace/inputs/" + (":ro" if locked_down else "")]
    options += ["-v", f"{outputs}/:/workspace/outputs/"]
    settings = dict(environment or {})
    if reports is not None:
        options += ["-v", f"{reports}/:/workspace/reports/"]
        settings["GFSCREEN_REPORT"] = "/workspace/reports/report.json"
    for name, value in settings.items():
        options += ["-e", f"{name}={value}"]
    return run(image, *options, timeout_s=timeout_s)
