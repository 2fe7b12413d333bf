"""A `docker` for tests of scripts: keeps tags in a file, logs its arguments, runs a command as its container."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

STATE = "FAKE_DOCKER_STATE"
# Shell command that stands for the container; sees INPUTS and OUTPUTS. Exit code of the container is its exit code.
COMMAND = "FAKE_DOCKER_COMMAND"


def install(folder: Path, *tags: str) -> dict[str, str]:
    """Put `docker` into `folder`/bin; returns the environment in which scripts find it, with these images built."""
    (folder / "bin").mkdir(parents=True)
    program = folder / "bin" / "docker"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {Path(__file__).resolve()} "$@"\n')
    program.chmod(0o755)
    (folder / "tags").write_text("\n".join(tags))
    return {"PATH": f"{program.parent}:{os.environ['PATH']}", STATE: str(folder)}


def calls(folder: Path) -> list[list[str]]:
    """The arguments of every call so far."""
    return [json.loads(line) for line in (folder / "log").read_text().splitlines()]


def main(arguments: list[str]) -> int:
    folder = Path(os.environ[STATE])
    with (folder / "log").open("a") as log:
        log.write(json.dumps(arguments) + "\n")
    tags = (folder / "tags").read_text().split()
    code = 0
    match arguments:
        case ["image", "inspect", *_, tag]:
            code = 0 if tag in tags else 1
        case ["tag", source, target]:
            code = 0 if source in tags else 1
            tags.append(target)
        case ["image", "rm", tag]:
            tags.remove(tag)
        case ["save", "-o", target, tag]:
            Path(target).write_text(tag)
        case ["load", "-i", source]:
            tags.append(subprocess.run(["gzip", "-dc", source], capture_output=True, text=True, check=True).stdout)
        case ["container", "run", *options]:
            mounts = [options[n + 1].split(":") for n, word in enumerate(options) if word == "-v"]
            places = {inside.strip("/").split("/")[-1].upper(): outside for outside, inside in mounts}
            container = subprocess.run(["sh", "-c", os.environ[COMMAND]], env={**os.environ, **places}, check=False)
            code = container.returncode
        case ["build", *options]:
            tags.append(options[options.index("--tag") + 1])
        case _:
            sys.stderr.write(f"fake docker: {arguments}\n")
            code = 125
    (folder / "tags").write_text("\n".join(tags))
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
