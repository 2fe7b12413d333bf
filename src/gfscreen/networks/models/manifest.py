"""The manifest of a weights folder: which files it holds, with sizes and sha256. Needs no torch.

A weights folder is `plan.json`, `glance.safetensors`, `focus.safetensors` and `manifest.json`, with `cells.safetensors`
where cells say beside Glance what may be marked, and `second_focus.safetensors` where small findings are looked at by a
Focus of their own; an export made from it lies in `openvino/` with a manifest of its own,
which names the manifest it was made from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from gfscreen.config import NO_WEIGHTS_REMEDY, PLAN_FILE, plan_to_json, read_plan
from gfscreen.errors import WeightsError
from gfscreen.files import write_atomically

MANIFEST_FILE = "manifest.json"
MANIFEST_FORMAT = 1
GLANCE_FILE = "glance.safetensors"
FOCUS_FILE = "focus.safetensors"
# The head of cells that stand beside a Glance; of those that are the Glance it is in GLANCE_FILE.
CELLS_FILE = "cells.safetensors"
SECOND_FOCUS_FILE = "second_focus.safetensors"
NETWORK_FILES = (GLANCE_FILE, FOCUS_FILE, CELLS_FILE, SECOND_FOCUS_FILE)
# What others ask to be told with their weights.
NOTICE_FILE = "NOTICE"


@dataclass(frozen=True)
class Manifest:
    """Files of a folder by name -> sha256, and free information about their origin."""

    sha256: dict[str, str]
    bytes: dict[str, int]
    info: dict[str, Any]

    @property
    def digest(self) -> str:
        """One sha256 over all names and hashes: the identity of the weights."""
        lines = "".join(f"{name} {self.sha256[name]}\n" for name in sorted(self.sha256))
        return hashlib.sha256(lines.encode()).hexdigest()


def file_sha256(path: Path) -> str:
    """sha256 of a file, read in pieces."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(folder: Path, names: Iterable[str], info: dict[str, Any]) -> Manifest:
    """Hash the named files of `folder` and write `manifest.json` last, so that it vouches for whole files."""
    names = sorted(names)
    manifest = Manifest(
        sha256={name: file_sha256(folder / name) for name in names},
        bytes={name: (folder / name).stat().st_size for name in names},
        info=info,
    )
    files = {name: {"sha256": manifest.sha256[name], "bytes": manifest.bytes[name]} for name in names}
    text = json.dumps({"format": MANIFEST_FORMAT, "info": info, "files": files}, indent=2, sort_keys=True) + "\n"
    write_atomically(folder / MANIFEST_FILE, text.encode())
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """Read `manifest.json` without checking the files. Raises WeightsError naming the file and the remedy."""
    path = folder / MANIFEST_FILE
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        if data["format"] != MANIFEST_FORMAT:
            raise ValueError(f"format must be {MANIFEST_FORMAT}, got {data['format']!r}")
        files = {str(name): dict(entry) for name, entry in data["files"].items()}
        if any(Path(name).name != name for name in files):
            raise ValueError("file names must be plain names without a folder")
        return Manifest(
            sha256={name: str(entry["sha256"]) for name, entry in files.items()},
            bytes={name: int(entry["bytes"]) for name, entry in files.items()},
            info=dict(data["info"]),
        )
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: no weights found; {NO_WEIGHTS_REMEDY}") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: not a readable manifest ({error!r}); restore the weights folder") from error


def verify(folder: Path, names: Iterable[str] | None = None) -> Manifest:
    """Read the manifest and check size and sha256 of the named files (default: of all). Raises WeightsError."""
    manifest = read_manifest(folder)
    for name in manifest.sha256 if names is None else names:
        path = folder / name
        if name not in manifest.sha256:
            raise WeightsError(f"{folder / MANIFEST_FILE}: does not list {name}; restore the weights folder")
        if not path.is_file():
            raise WeightsError(f"{path}: listed in the manifest but missing; restore the weights folder")
        size = path.stat().st_size
        if size != manifest.bytes[name]:
            raise WeightsError(
                f"{path}: damaged, the manifest says {manifest.bytes[name]} bytes, found {size}; restore the file"
            )
        found = file_sha256(path)
        if found != manifest.sha256[name]:
            raise WeightsError(
                f"{path}: damaged, the manifest says sha256 {manifest.sha256[name][:12]}…, found {found[:12]}…; "
                "restore the file"
            )
    return manifest


def change_plan(folder: Path, **values: Any) -> Manifest:
    """Write other values of the plan (`gate=0.1`) into a weights folder, and its manifest anew.

    Raises WeightsError for a damaged folder, ValueError for a value that the plan does not allow.
    """
    manifest = verify(folder)
    plan = replace(read_plan(folder), **values)
    write_atomically(folder / PLAN_FILE, (json.dumps(plan_to_json(plan), indent=2) + "\n").encode())
    return write_manifest(folder, manifest.sha256, manifest.info)
