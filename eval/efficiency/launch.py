"""Start one case, as a container like the organisers' or as a local command, and end it for certain."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import shutil
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol

import psutil

from eval.efficiency.own import ContainerProbe, OwnProbe, TreeProbe, tree

logger = logging.getLogger(__name__)

REPORT_NAME = "report.json"
REPORT_VARIABLE = "GFSCREEN_REPORT"
CONTAINER_REPORT_FOLDER = "/workspace/report"


@dataclass(frozen=True)
class Folders:
    """Absolute folders of one case: `inputs` holds the one scan, `outputs` starts empty, `scratch` is ours."""

    inputs: Path
    outputs: Path
    scratch: Path

    @property
    def report(self) -> Path:
        """Where the product may leave its report, outside the outputs."""
        return self.scratch / "report" / REPORT_NAME

    @property
    def cid(self) -> Path:
        """Where Docker writes the container's id."""
        return self.scratch / "container.cid"


class Launch(Protocol):
    """How to run one case."""

    def describe(self) -> dict[str, object]:
        """What goes into the results."""
        ...

    def start(self, folders: Folders, name: str, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], OwnProbe]:
        """Start it, output to `log`; `name` is unique to this run."""
        ...

    def kill(self, process: subprocess.Popen[bytes] | None, name: str) -> None:
        """End it and everything that it started; harmless when it has ended or never began (`process` None)."""
        ...


@dataclass(frozen=True)
class ContainerLaunch:
    """`docker container run` with the organisers' arguments.

    `gpu_index`: the device to pass, None for no `--gpus` at all (a host without NVIDIA runtime refuses it).
    `docker_args` come last, so that they can override. `with_report` mounts one more folder and sets GFSCREEN_REPORT.
    """

    image: str
    gpu_index: int | None = None
    cpus: float | None = None
    docker_args: tuple[str, ...] = ()
    with_report: bool = True

    def command(self, folders: Folders, name: str) -> list[str]:
        """The full command line."""
        command = ["docker", "container", "run", "--shm-size=28gb", "-m", "28G"]
        if self.gpu_index is not None:
            command += ["--gpus", f"device={self.gpu_index}"]
        command += ["--name", name, "--rm", "--cidfile", str(folders.cid)]
        command += ["-v", f"{folders.inputs}:/workspace/inputs/", "-v", f"{folders.outputs}:/workspace/outputs/"]
        if self.cpus is not None:
            command += ["--cpus", str(self.cpus)]
        if self.with_report:
            command += ["-v", f"{folders.report.parent}:{CONTAINER_REPORT_FOLDER}"]
            command += ["-e", f"{REPORT_VARIABLE}={CONTAINER_REPORT_FOLDER}/{REPORT_NAME}"]
        return [*command, *self.docker_args, self.image, "/bin/bash", "-c", "sh predict.sh"]

    def describe(self) -> dict[str, object]:
        """Image and options."""
        options = {"cpus": self.cpus, "docker_args": list(self.docker_args), "gpu_index": self.gpu_index}
        return {"image": self.image, "command": None, **options}

    def start(self, folders: Folders, name: str, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], OwnProbe]:
        """Start the container in a session of its own, so that Ctrl-C reaches us alone."""
        probe = ContainerProbe(folders.cid)
        process = subprocess.Popen(
            self.command(folders, name), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        return process, probe

    def kill(self, process: subprocess.Popen[bytes] | None, name: str) -> None:
        """Remove the container first: killing only the client would leave it running."""
        _remove_container(name)
        if process is None:
            return
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            _remove_container(name)  # it may have been created in between


def _remove_container(name: str) -> None:
    try:
        subprocess.run(["docker", "rm", "-f", name], capture_output=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        logger.error("container %s may be left behind (%s); remove it with docker rm -f", name, error)


@dataclass(frozen=True)
class CommandLaunch:
    """A local command with the placeholders {input}, {output} and, if wanted, {report}; no shell in between."""

    template: str

    def __post_init__(self) -> None:
        for placeholder in ("{input}", "{output}"):
            if placeholder not in self.template:
                raise ValueError(f"--command needs the placeholder {placeholder}, got {self.template!r}")
        words = shlex.split(self.template)
        if shutil.which(words[0]) is None:
            raise ValueError(f"--command: no program {words[0]!r} found")

    def command(self, folders: Folders) -> list[str]:
        """The words of the command with the folders put in."""
        values = {"{input}": folders.inputs, "{output}": folders.outputs, "{report}": folders.report}
        words = shlex.split(self.template)
        for placeholder, value in values.items():
            words = [word.replace(placeholder, str(value)) for word in words]
        return words

    def describe(self) -> dict[str, object]:
        """The command as given."""
        return {"image": None, "command": self.template, "cpus": None, "docker_args": [], "gpu_index": None}

    def start(self, folders: Folders, name: str, log: IO[bytes]) -> tuple[subprocess.Popen[bytes], OwnProbe]:
        """Start it as the leader of a new process group."""
        process = subprocess.Popen(
            self.command(folders),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, REPORT_VARIABLE: str(folders.report)},
        )
        return process, TreeProbe(process.pid)

    def kill(self, process: subprocess.Popen[bytes] | None, name: str) -> None:
        """Kill the descendants, wherever they have moved, then the group."""
        if process is None:
            return
        for child in tree(process.pid):
            with contextlib.suppress(psutil.Error):
                child.kill()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def image_problem(image: str) -> str | None:
    """Why this image cannot be run here, or None."""
    if shutil.which("docker") is None:
        return "docker: no such program; install Docker or measure a local program with --command"
    done = subprocess.run(["docker", "image", "inspect", image], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return f"image {image}: {done.stderr.strip() or 'not found'}; build or load it first"
    return None
