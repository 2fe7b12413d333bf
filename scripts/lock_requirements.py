"""Writes requirements*.txt from pyproject.toml: `make requirements`.

What is locked keeps its version, so that a new dependency changes nothing else; `--upgrade` takes the newest of all.

Every file is a closed set, so that it is installed with `--no-deps`. torch is the one package without a hash: its CPU
and CUDA builds share the version number but not the files, and which one is right depends on the machine
(scripts/install_torch.sh). It therefore stands in requirements.txt alone, and the hashed files leave it out.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# The PyTorch CPU builds live on an index of their own; used only where the configured sources lack them.
TORCH_CPU_INDEX = os.environ.get("TORCH_CPU_INDEX", "https://download.pytorch.org/whl/cpu")
TORCH = "2.13.0"


@dataclass(frozen=True)
class Lock:
    """One requirements file: which extras, hashed or not, and what differs from requirements.txt."""

    name: str
    purpose: str
    extras: tuple[str, ...]
    hashed: bool = True
    pins: tuple[str, ...] = ()
    # Packages that are there already, with all that only they bring along.
    without: tuple[str, ...] = ()
    follows: str | None = "requirements.txt"


LOCKS = (
    Lock(
        "requirements.txt",
        "The whole product: both engines, training, the command line. torch is the default build; where there is no\n"
        f"# CUDA, `pip install torch=={TORCH} --index-url {TORCH_CPU_INDEX}` first keeps\n"
        "# the CUDA libraries away. `make setup` does so by itself.\n"
        "# Not hashed, because torch's builds differ by machine; the other files are, without torch.",
        ("cpu", "gpu", "train"),
        hashed=False,
        follows=None,
    ),
    Lock("requirements-cpu.txt", "What the CPU image installs: no torch.", ("cpu",)),
    Lock(
        "requirements-cuda.txt",
        "What the CUDA image adds to its base (Python 3.11, torch 2.7.1 for CUDA 11.8, and what torch itself needs).",
        ("gpu",),
        # 1.5.2: the last MONAI that accepts torch 2.7.
        pins=("monai==1.5.2",),
        without=("torch",),
    ),
    Lock(
        "requirements-dev.txt",
        "A checkout's .venv: the product, the harness and the tools. torch comes after it: scripts/install_torch.sh.",
        ("cpu", "gpu", "train", "eval", "dev"),
    ),
)


def main() -> int:
    """Lock every file; later ones keep the versions of the one they follow."""
    parser = argparse.ArgumentParser(description="Write requirements*.txt from pyproject.toml.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions, not those that are locked")
    upgrade = parser.parse_args().upgrade
    for lock in LOCKS:
        blocks = resolve(lock, upgrade=upgrade)
        dropped = dropped_names(blocks, set(lock.without)) if lock.without else {"torch"} if lock.hashed else set()
        kept = [text for name, text in blocks.items() if name not in dropped]
        header = f"# {lock.purpose}\n# Generated from pyproject.toml by `make requirements`; do not edit by hand.\n"
        body = "\n".join(kept).replace(f"torch=={TORCH}+cpu", f"torch=={TORCH}")
        (ROOT / lock.name).write_text(f"{header}{body}\n", encoding="utf-8")
        sys.stderr.write(f"{lock.name}: {len(kept)} packages\n")
    return 0


def locked(name: str) -> list[str]:
    """The pins of a requirements file; none if it is not there."""
    path = ROOT / name
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [line.removesuffix(" \\") for line in lines if re.match(r"[\w.-]+==", line)]


def resolve(lock: Lock, *, upgrade: bool) -> dict[str, str]:
    """Run pip-compile; its blocks (pin, hashes, `# via` lines) by package name."""
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        pins = [f"torch=={TORCH}+cpu", *lock.pins]
        for name in (*([lock.follows] if lock.follows else []), *([] if upgrade else [lock.name])):
            pinned = {pin.partition("==")[0] for pin in pins}
            pins += [pin for pin in locked(name) if pin.partition("==")[0] not in pinned]
        constraints.write_text("\n".join(pins) + "\n", encoding="utf-8")
        output = Path(folder) / "out.txt"
        command = [
            *(sys.executable, "-m", "piptools", "compile", "--quiet", "--strip-extras", "--no-header"),
            *("--no-emit-options", "--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host"),
            # Replaces the default list, so that setuptools and pip are pinned like the rest.
            *("--unsafe-package", "distribute"),
            *[f"--extra={extra}" for extra in lock.extras],
            *(["--generate-hashes"] if lock.hashed else []),
            *(f"--constraint={constraints}", f"--output-file={output}", str(ROOT / "pyproject.toml")),
        ]
        attempts: tuple[list[str], ...] = ([], [f"--pip-args=--extra-index-url {TORCH_CPU_INDEX}"])
        for attempt, more in enumerate(attempts, start=1):
            done = subprocess.run([*command, *more], cwd=ROOT, check=False, capture_output=True, text=True)
            if done.returncode == 0:
                return blocks_of(output.read_text(encoding="utf-8"))
            if attempt == len(attempts):
                sys.stderr.write(done.stderr)
        raise SystemExit(f"{lock.name}: pip-compile failed, see above")


def blocks_of(text: str) -> dict[str, str]:
    """Split pip-compile's output at the lines that begin a package; paths of this run are left out of the comments."""
    blocks: dict[str, list[str]] = {}
    name = ""
    for line in text.splitlines():
        if match := re.match(r"([\w.-]+)==", line):
            name = match[1]
            blocks[name] = []
        if name and not re.match(r"\s*#.*(-c |constraints\.txt)", line) and not re.match(r"#", line):
            blocks[name].append(re.sub(r" \(.*pyproject\.toml\)", "", line))
    return {key: tidy(lines) for key, lines in blocks.items()}


def tidy(lines: list[str]) -> str:
    """One `# via` line, whatever is left of its list."""
    pins = [line for line in lines if not line.lstrip().startswith("#")]
    via = [line.lstrip(" #").removeprefix("via").strip() for line in lines if line.lstrip().startswith("#")]
    via = [name for name in via if name]
    return "\n".join([*pins, f"    # via {', '.join(via)}"] if via else pins)


def dropped_names(blocks: dict[str, str], without: set[str]) -> set[str]:
    """`without` and everything that only packages of that set require."""
    needed_by = {name: set(text.rpartition("# via ")[2].split(", ")) for name, text in blocks.items()}
    dropped = set(without)
    while more := {name for name, users in needed_by.items() if name not in dropped and users <= dropped}:
        dropped |= more
    return dropped


if __name__ == "__main__":
    sys.exit(main())
