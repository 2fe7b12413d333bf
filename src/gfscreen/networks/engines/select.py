"""Chooses the engine and says why. Nothing heavy is imported until it is known to be used."""

from __future__ import annotations

import ctypes
import importlib.util
import logging
import os
from pathlib import Path

from gfscreen.config import PLAN_FILE
from gfscreen.errors import EngineError, UsageError, WeightsError
from gfscreen.files import private_folder
from gfscreen.networks.engines.base import Engine
from gfscreen.networks.models.manifest import NETWORK_FILES, read_manifest, verify

logger = logging.getLogger(__name__)

ENGINES = ("auto", "torch", "openvino")


def installed(package: str) -> bool:
    """Whether a package can be imported, found out without importing it."""
    return importlib.util.find_spec(package) is not None


def cuda_driver_present() -> bool:
    """Whether an NVIDIA driver with a device answers, asked of the driver itself: importing torch takes seconds."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int(0)
        return bool(driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value > 0)
    except (OSError, AttributeError):
        return False


def resolve_device(device: str, engine: str) -> tuple[str, str, str]:
    """(engine, device, reason) for the user's `--device` and `--engine`. Raises UsageError, EngineError."""
    plain = device in ("auto", "cpu", "cuda")
    if not plain and not (device.startswith("cuda:") and device[5:].isdigit()):
        raise UsageError(f"--device {device}: expected auto, cpu, cuda or cuda:N")
    if engine not in ENGINES:
        raise UsageError(f"--engine {engine}: expected one of {', '.join(ENGINES)}")
    if device.startswith("cuda"):
        if engine == "openvino":
            raise UsageError("--engine openvino runs on the CPU only; leave out --engine or use --device cpu")
        if not installed("torch"):
            raise EngineError(f"--device {device}: torch is not installed; use the CUDA image or --device cpu")
        return "torch", device, "asked for by --device"
    if device == "auto" and engine != "openvino" and installed("torch") and cuda_driver_present():
        return "torch", "cuda", "an NVIDIA driver with a device answers and torch is installed"
    why_cpu = "asked for by --device" if device == "cpu" else "no usable NVIDIA device"
    if engine == "torch" or (engine == "auto" and not installed("openvino")):
        if not installed("torch"):
            raise EngineError("neither OpenVINO nor torch is installed; pip install 'gfscreen[cpu]'")
        why_engine = "asked for by --engine" if engine == "torch" else "OpenVINO is not installed"
        return "torch", "cpu", f"{why_cpu}; torch: {why_engine}"
    if not installed("openvino"):
        raise EngineError("--engine openvino: OpenVINO is not installed; pip install 'gfscreen[cpu]'")
    return "openvino", "cpu", f"{why_cpu}; OpenVINO: the fastest engine on a CPU"


def cache_folder() -> Path:
    """Where exports go when the weights folder is read-only: GFSCREEN_CACHE, or the user's cache."""
    if own := os.environ.get("GFSCREEN_CACHE"):
        return Path(own)
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gfscreen"
    except RuntimeError:  # a user that the system does not know
        return (private_folder() or Path(os.devnull)) / "exports"


def find_export(weights: Path) -> Path:
    """The OpenVINO export of these weights, made now (and kept) if there is none. Raises WeightsError, EngineError."""
    from gfscreen.networks.engines.export import default_export, export_openvino, is_current

    beside = default_export(weights)
    cached = cache_folder() / "openvino" / read_manifest(weights).digest[:16]
    if is_current(beside, weights):
        return beside
    if _is_whole(cached, weights):
        return cached
    target = beside if os.access(weights, os.W_OK) else cached
    logger.warning("no OpenVINO export of these weights yet: making one in %s (once, about a minute)", target)
    # Weights with an nnU-Net may have no Glance.
    verify(weights, [name for name in NETWORK_FILES if name in read_manifest(weights).sha256])
    return export_openvino(weights, target)


def _is_whole(cached: Path, weights: Path) -> bool:
    """Whether the cache holds an export of these weights that its manifest vouches for; a damaged one is made anew."""
    from gfscreen.networks.engines.export import is_current

    try:
        if not is_current(cached, weights):
            return False
        verify(cached)
    except WeightsError as error:
        logger.warning("damaged cache: %s", error)
        return False
    return True


def load_engine(
    weights: Path, *, device: str, engine: str, precision: str, gpu_memory_limit_mb: float | None
) -> Engine:
    """Verify the weights and load them into the chosen engine. Raises UsageError, WeightsError, EngineError."""
    name, resolved, reason = resolve_device(device, engine)
    verify(weights, [PLAN_FILE])
    if name == "openvino":
        from gfscreen.networks.engines.openvino import OpenVINOEngine

        return OpenVINOEngine(find_export(weights), precision=precision, reason=reason)
    if precision == "bf16":
        raise UsageError("--precision bf16 is OpenVINO's, on the CPU; torch takes auto (half on CUDA) or fp32")
    from gfscreen.networks.engines.torch import TorchEngine

    return TorchEngine(
        weights, device=resolved, precision=precision, gpu_memory_limit_mb=gpu_memory_limit_mb, reason=reason
    )
