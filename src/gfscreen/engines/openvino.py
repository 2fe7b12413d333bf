"""OpenVINO on the CPU: starts without torch and runs these networks several times faster than eager torch."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.engines.base import EngineInfo, FloatArray
from gfscreen.engines.cpus import usable_cpus
from gfscreen.errors import EngineError
from gfscreen.models.manifest import verify

EXPORT_FOLDER = "openvino"
GLANCE_MODEL = "glance.xml"
FOCUS_MODEL = "focus.xml"


def _precision(core: Any, wanted: str) -> str:
    """`bf16` where the CPU computes in it, `f32` elsewhere or when asked."""
    if wanted == "fp32":
        return "f32"
    return "bf16" if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES") else "f32"


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which leaves files in the home folder and sends usage over the network.

    Raises ImportError where OpenVINO is not installed.
    """
    # None has the import fail, for which OpenVINO is prepared; whoever has imported it before keeps it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


class OpenVINOEngine:
    """Runs an export made by `gfscreen export`.

    folder: the export, verified against its manifest. precision: `auto` (bf16 where the CPU has it) or `fp32`.
    Raises WeightsError for a damaged export, EngineError if OpenVINO cannot load it.
    """

    def __init__(self, folder: Path, *, precision: str, reason: str) -> None:
        verify(folder)
        try:
            openvino = import_openvino()
        except ImportError as error:
            raise EngineError(f"OpenVINO is not installed ({error}); pip install 'gfscreen[cpu]'") from error
        self.glance_batch = self.focus_batch = 1
        core = openvino.Core()
        hint = _precision(core, precision)
        settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": str(usable_cpus()),
            "ENABLE_CPU_PINNING": "NO",
        }
        try:
            self._glance = core.compile_model(str(folder / GLANCE_MODEL), "CPU", settings).create_infer_request()
            self._focus = core.compile_model(str(folder / FOCUS_MODEL), "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise EngineError(f"{folder}: OpenVINO cannot load the networks ({str(error).splitlines()[0]})") from error
        self.info = EngineInfo("openvino", "cpu", {"f32": "fp32"}.get(hint, hint), reason)

    @staticmethod
    def _run(request: Any, batch: FloatArray) -> FloatArray:
        # Exports have a fixed batch of one: larger ones gain nothing on a CPU and would double the activations.
        results = [np.array(request.infer([patch[None, None]])[0], np.float32) for patch in batch]
        return np.concatenate(results)

    def glance(self, batch: FloatArray) -> FloatArray:
        """Probability of "lesion" per sub-volume, (n,)."""
        return self._run(self._glance, batch)

    def focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z)."""
        return self._run(self._focus, batch)

    def peak_gpu_mb(self) -> float | None:
        """None: no GPU is used."""
        return None
