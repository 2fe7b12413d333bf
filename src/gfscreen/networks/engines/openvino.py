"""OpenVINO on the CPU: starts without torch and runs these networks several times faster than eager torch."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.cpus import usable_cpus
from gfscreen.errors import EngineError, UsageError, WeightsError
from gfscreen.files import private_folder
from gfscreen.network_plan import Int8Input
from gfscreen.networks.engines.base import EngineInfo, FloatArray, require_finite
from gfscreen.networks.engines.int8 import to_int8
from gfscreen.networks.models.manifest import MANIFEST_FILE, verify

EXPORT_FOLDER = "openvino"
GLANCE_MODEL = "glance.xml"
FOCUS_MODEL = "focus.xml"
CELLS_MODEL = "cells.xml"
SECOND_FOCUS_MODEL = "second_focus.xml"
# The same network for sub-volumes of Focus's size.
WIDE_SECOND_FOCUS_MODEL = "second_focus_wide.xml"
# In the export's manifest: seconds of one sub-volume where it was made. Only their ratio is used.
SECONDS_KEY = "seconds"
# There too: the plan's `focus_int8`.
INT8_KEY = "focus_int8"


def fallback_cache() -> Path | None:
    """A folder for exports, to be named by GFSCREEN_CACHE, where the user's cache cannot be used; None where it can.

    The cache may be somebody else's, or read-only, or there may be no home at all. Without a temporary folder either,
    it is a place where nothing is.
    """
    with contextlib.suppress(RuntimeError):  # no home
        own = os.environ.get("GFSCREEN_CACHE")
        user = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gfscreen"
        if _is_usable(user / "openvino"):
            return None
    return (private_folder() or Path(os.devnull)) / "exports"


def _is_usable(folder: Path) -> bool:
    """Whether a folder is there and can be read, as one that was filled beforehand, or can be made."""
    if os.access(folder, os.R_OK | os.X_OK):
        return folder.is_dir()
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return os.path.isdir(folder) and os.access(folder, os.W_OK | os.X_OK)  # noqa: PTH112 - Path's raises on EACCES


def precision_of(core: Any, wanted: str) -> str:
    """OpenVINO's name of the precision: `bf16` where the CPU computes in it, `f32` elsewhere or when asked.

    Raises UsageError for bf16 on a CPU that would only emulate it.
    """
    has_bf16 = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    if wanted == "bf16" and not has_bf16:
        raise UsageError("--precision bf16: this CPU does not compute in bfloat16; use auto or fp32")
    return "bf16" if has_bf16 and wanted != "fp32" else "f32"


def import_openvino() -> Any:
    """OpenVINO without its telemetry, which leaves files in the home folder and sends usage over the network.

    Raises ImportError where OpenVINO is not installed.
    """
    # None has the import fail, for which OpenVINO is prepared; whoever has imported it before keeps it.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


@functools.cache
def core() -> Any:
    """The process's one OpenVINO Core, made in a thread that ends, and never dropped. Raises ImportError.

    The CPU plugin gives the thread that makes it a stack of its own for signals, and when it goes puts back the stack
    that was there before, even if an earlier plugin's that is freed: the next signal then crashes the process (seen in
    2026.4 with several Cores in the main thread and SIGTERM).
    """
    openvino = import_openvino()

    def make() -> Any:
        made = openvino.Core()
        made.get_property("CPU", "OPTIMIZATION_CAPABILITIES")  # only now is the plugin made
        return made

    with ThreadPoolExecutor(1, thread_name_prefix="openvino-core") as thread:
        return thread.submit(make).result()


class OpenVINOEngine:
    """Runs an export made by `gfscreen export`.

    folder: the export, verified against its manifest. precision: `auto` (bf16 where the CPU has it, and there int8 in
    the convolutions that the weights name for it), `bf16` or `fp32`.
    Focus compiles in a thread of its own while Glance already runs; what fails there is raised by the first `focus`.
    Raises WeightsError for a damaged export, EngineError if OpenVINO cannot load it, UsageError for a precision that
    this CPU does not have.
    """

    def __init__(self, folder: Path, *, precision: str, reason: str) -> None:
        manifest = verify(folder)
        try:
            self._core = core()
        except ImportError as error:
            raise EngineError(f"OpenVINO is not installed ({error}); pip install 'gfscreen[cpu]'") from error
        self.glance_batch = self.focus_batch = 1
        self._folder = folder
        self._settings = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": precision_of(self._core, precision),
            "INFERENCE_NUM_THREADS": str(usable_cpus()),
            "ENABLE_CPU_PINNING": "NO",
        }
        in_bf16 = self._settings["INFERENCE_PRECISION_HINT"] == "bf16"
        whole = precision == "auto" and in_bf16
        self._int8 = _whole_numbers(manifest.info, folder) if whole else []
        # Weights with an nnU-Net may have no Glance.
        compiled = self._compile(GLANCE_MODEL) if GLANCE_MODEL in manifest.sha256 else None
        self._glance: Any = None if compiled is None else compiled.create_infer_request()
        background = ThreadPoolExecutor(1, thread_name_prefix="compile-focus")
        self._focus: Future[Any] = background.submit(lambda: self._compile(FOCUS_MODEL).create_infer_request())
        self._second_focus: Future[Any] | None = None
        if SECOND_FOCUS_MODEL in manifest.sha256:
            self._second_focus = background.submit(lambda: self._compile(SECOND_FOCUS_MODEL).create_infer_request())
        # Cells that are the Glance itself, or stand beside it.
        self._cells: Any = self._glance
        if CELLS_MODEL in manifest.sha256:
            self._cells = self._compile(CELLS_MODEL).create_infer_request()
        # Compiled when it is first asked for: most scans have nothing large in them.
        self._wide_second_focus: Any = None
        # Of Focus and the second Focus, which takes turns with it, the one that holds the memory that it computes in.
        self._holds: Any = None
        background.shutdown(wait=False)
        # Asked of the compiled network: what it computes in, not what was wished for.
        asked = self._focus.result().get_compiled_model() if compiled is None else compiled
        used = asked.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        seconds = manifest.info.get(SECONDS_KEY)
        if compiled is None or compiled.input(0).partial_shape.is_dynamic:
            # A Glance for pieces of any size: a first one on nothing would cost as much as it saves.
            glance_s, focus_s = _measured_s(seconds, "glance"), _measured_s(seconds, "focus")
            second_s = _measured_s(seconds, "second_focus")
        else:
            glance_s = self._time_glance(compiled)
            focus_s = _in_proportion_s(glance_s, seconds, "focus")
            second_s = _in_proportion_s(glance_s, seconds, "second_focus")
        cells_s = None if glance_s is None else _in_proportion_s(glance_s, seconds, "cells")
        named = {"f32": "fp32"}.get(used, used) + ("+int8" if self._int8 else "")
        self.info = EngineInfo("openvino", "cpu", named, reason, glance_s, focus_s, cells_s, second_s)

    def _compile(self, name: str) -> Any:
        try:
            model = self._core.read_model(self._folder / name)
            if name == FOCUS_MODEL:
                to_int8(model, self._int8)
            return self._core.compile_model(model, "CPU", self._settings)
        except RuntimeError as error:
            raise EngineError(
                f"{self._folder}: OpenVINO cannot load the networks ({str(error).splitlines()[0]})"
            ) from error

    def _time_glance(self, compiled: Any) -> float:
        """Seconds of the first Glance, on nothing: what a deadline counts with before there is a real one."""
        start = time.monotonic()
        self._glance.infer([np.zeros(tuple(compiled.input(0).shape), np.float32)])
        return time.monotonic() - start

    @staticmethod
    def _run(request: Any, batch: FloatArray) -> FloatArray:
        require_finite(batch)
        # Exports have a fixed batch of one: larger ones gain nothing on a CPU and would double the activations.
        inputs = (patch[None] if batch.ndim == 5 else patch[None, None] for patch in batch)
        results = [np.array(request.infer([given])[0], np.float32) for given in inputs]
        return np.concatenate(results)

    def glance(self, batch: FloatArray) -> FloatArray:
        """Probability of "lesion" per sub-volume, (n,)."""
        return self._run(self._glance, batch)

    def cells(self, volume: FloatArray) -> FloatArray:
        """Logits of "lesion" per region and cell, (2, z / 4, x / 8, y / 8), of a volume (z, x, y)."""
        logits: FloatArray = self._run(self._cells, volume[None])[0]
        return logits

    def focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z); of nnU-Net's channels the scores, as the protocol says.

        Waits until Focus is compiled; raises EngineError if it fails.
        """
        return self._run_alone(self._focus.result(), batch)

    def second_focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z), by the second Focus, for which it waits as `focus` does."""
        assert self._second_focus is not None
        close = self._second_focus.result()
        if batch.shape[-3:] == tuple(close.get_compiled_model().input(0).shape)[-3:]:
            return self._run_alone(close, batch)
        if self._wide_second_focus is None:
            self._release_focus()  # to compile takes memory too
            self._wide_second_focus = self._compile(WIDE_SECOND_FOCUS_MODEL).create_infer_request()
        return self._run_alone(self._wide_second_focus, batch)

    def _run_alone(self, request: Any, batch: FloatArray) -> FloatArray:
        """The same, once the other of the networks that take turns has given back what it has computed in."""
        if request is not self._holds:
            self._release_focus()
            self._holds = request
        return self._run(request, batch)

    def _release_focus(self) -> None:
        _release(self._holds)
        self._holds = None

    def release_glance(self) -> None:
        """Give back what Glance and cells have computed in: of a large scan's cells it is 400 MB."""
        _release(self._glance, self._cells)

    def release(self) -> None:
        """Give back what all have computed in."""
        self.release_glance()
        self._release_focus()

    def peak_gpu_mb(self) -> float | None:
        """None: no GPU is used."""
        return None


def _whole_numbers(info: dict[str, Any], folder: Path) -> list[Int8Input]:
    """The plan's `focus_int8` as the export noted it; none in one of an older version. Raises WeightsError."""
    try:
        return [Int8Input(**given) for given in info.get(INT8_KEY, [])]
    except (TypeError, ValueError) as error:
        raise WeightsError(
            f"{folder / MANIFEST_FILE}: {INT8_KEY} is not readable ({error}); delete the folder, or run "
            "python -m gfscreen export"
        ) from error


def _release(*requests: Any) -> None:
    for request in requests:
        if request is not None:
            request.get_compiled_model().release_memory()


def _measured_s(measured: Any, stage: str) -> float | None:
    """Seconds of a stage where the export was made; None without them."""
    return float(measured[stage]) if isinstance(measured, dict) and measured.get(stage) else None


def _in_proportion_s(glance_s: float, measured: Any, stage: str) -> float | None:
    """Expected seconds of a stage: Glance's, times the ratio of both where the export was made; None without one."""
    glance, other = _measured_s(measured, "glance"), _measured_s(measured, stage)
    return None if glance is None or other is None else glance_s * other / glance
