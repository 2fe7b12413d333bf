"""`gfscreen info`: what is installed and what the weights are, without importing torch or OpenVINO."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

from gfscreen.config import PRESETS, plan_to_json, preset_plan, read_plan
from gfscreen.cpus import usable_cpus
from gfscreen.errors import WeightsError
from gfscreen.networks.engines.export import default_export, is_current
from gfscreen.networks.engines.select import cuda_driver_present
from gfscreen.networks.models.manifest import MANIFEST_FILE, NETWORK_FILES, read_manifest, verify
from gfscreen.scan.volume.inputs import SUFFIXES
from gfscreen.scan.volume.memory import available_bytes
from gfscreen.version import __version__

_PACKAGES = ("numpy", "scipy", "SimpleITK", "nibabel", "isal", "openvino", "torch", "monai")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _weights(folder: Path) -> dict[str, Any]:
    """The weights and their export, every file checked against its manifest; `error` alone if they are unusable."""
    try:
        manifest = read_manifest(folder)
        export = _export(folder)
        # Beside a current export the networks themselves may be left out, as in the CPU image.
        spare = NETWORK_FILES if export == "current" else ()
        verify(folder, [name for name in manifest.sha256 if name not in spare or (folder / name).exists()])
        plan = plan_to_json(read_plan(folder))
    except WeightsError as error:
        return {"folder": str(folder), "error": str(error)}
    return {
        "folder": str(folder),
        "digest": manifest.digest,
        "info": manifest.info,
        "megabytes": round(sum(manifest.bytes.values()) / 1e6, 1),
        "openvino_export": export != "absent",
        "export": export,
        "plan": plan,
    }


def _export(weights: Path) -> str:
    """`current`, `outdated` (made of other weights, or by an older version) or `absent`.

    Raises WeightsError for a current one that is damaged: `predict` would take it.
    """
    folder = default_export(weights)
    if not (folder / MANIFEST_FILE).is_file():
        return "absent"
    if not is_current(folder, weights):
        return "outdated"
    verify(folder)
    return "current"


def collect(weights: Path) -> dict[str, Any]:
    """Everything `info` shows, as plain JSON values; null for what is not installed.

    Weights that are missing or damaged have `error` in place of what they are.
    """
    return {
        "gfscreen": __version__,
        "weights": _weights(weights),
        "presets": {name: plan_to_json(preset_plan(name)) for name in PRESETS},
        "engines": {
            "openvino": _version("openvino"),
            "torch": _version("torch"),
            "cuda_device": cuda_driver_present(),
        },
        "packages": {name: _version(name) for name in _PACKAGES},
        "inputs": [*SUFFIXES, "DICOM folder or zip"],
        "limits": {"cpus": usable_cpus(), "available_memory_mb": available_bytes() // 2**20},
    }


def describe(data: dict[str, Any]) -> str:
    """The same for a person, a few lines."""
    weights = data["weights"]
    if "error" in weights:
        shown = "none that can be used"
    else:
        plan = weights["plan"]
        shown = f"{weights['folder']}: preset {plan['preset']}, {plan['weights']}, {weights['megabytes']} MB, verified"
        shown += f"; OpenVINO export {weights['export']}"
    engines = ", ".join(f"{name} {version or 'not installed'}" for name, version in data["engines"].items())
    return "\n".join(
        [
            f"gfscreen {data['gfscreen']}",
            f"weights  {shown}",
            f"engines  {engines}",
            f"inputs   {', '.join(data['inputs'])}",
            f"limits   {data['limits']['cpus']} CPUs, {data['limits']['available_memory_mb']} MB of memory available",
        ]
    )
