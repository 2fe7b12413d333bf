"""The GPU's own counters through NVML (package nvidia-ml-py, module `pynvml`)."""

from __future__ import annotations

import importlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

logger = logging.getLogger(__name__)

MIB = 1024 * 1024


@dataclass(frozen=True)
class GpuReading:
    """One look at the whole device.

    `time_s`: middle of the query on the probe's clock. `query_s`: how long the query took. `used_mb`: total minus free
    in MiB, every process and context on the card included. `utilisation_percent`: share of the driver's last sampling
    period in which a kernel ran, None where the card does not tell. `by_process_mb`: process id to MiB, None where the
    driver does not tell (containers without the host's process ids, some virtual GPUs).
    """

    time_s: float
    query_s: float
    used_mb: float
    utilisation_percent: float | None = None
    by_process_mb: dict[int, float | None] = field(default_factory=dict)


class GpuProbe:
    """Reads one device; build it with `open_gpu`, give it back with `close`."""

    def __init__(self, library: Any, index: int, clock: Callable[[], float] = time.perf_counter) -> None:
        self._nvml = library
        self._clock = clock
        self._handle = library.nvmlDeviceGetHandleByIndex(index)
        self.index = index
        name = library.nvmlDeviceGetName(self._handle)
        self.name = name.decode() if isinstance(name, bytes) else str(name)
        self.total_mb = library.nvmlDeviceGetMemoryInfo(self._handle).total / MIB

    def read(self) -> GpuReading | None:
        """Query memory, utilisation and processes; None when the memory query fails."""
        start = self._clock()
        try:
            memory = self._nvml.nvmlDeviceGetMemoryInfo(self._handle)
        except self._nvml.NVMLError as error:
            logger.warning("NVML gave no memory reading: %s", error)
            return None
        end = self._clock()
        used = (memory.total - memory.free) / MIB
        return GpuReading((start + end) / 2, end - start, used, self._utilisation(), self._processes())

    def _utilisation(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetUtilizationRates(self._handle).gpu)
        except self._nvml.NVMLError:
            return None

    def _processes(self) -> dict[int, float | None]:
        try:
            found = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)
        except self._nvml.NVMLError:
            return {}
        return {int(p.pid): None if p.usedGpuMemory is None else p.usedGpuMemory / MIB for p in found}

    def close(self) -> None:
        """Leave NVML."""
        try:
            self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            logger.debug("NVML shutdown: %s", error)


def open_gpu(index: int = 0, clock: Callable[[], float] = time.perf_counter) -> GpuProbe | None:
    """The device of this index, or None when there is no driver, no such device, or nvidia-ml-py is absent."""
    try:
        library = importlib.import_module("pynvml")
    except ImportError:
        logger.info("nvidia-ml-py is not installed: GPU not measured")
        return None
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        logger.info("no NVIDIA driver (%s): GPU not measured", error)
        return None
    try:
        if index < library.nvmlDeviceGetCount():
            return GpuProbe(library, index, clock)
        logger.warning("GPU %d does not exist: GPU not measured", index)
    except library.NVMLError as error:
        logger.warning("GPU %d not readable (%s): GPU not measured", index, error)
    library.nvmlShutdown()
    return None
