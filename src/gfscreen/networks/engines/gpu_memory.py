"""The memory cap of a GPU: what the allocator may take once the CUDA context is counted in, and what batch fits.

Nothing here imports torch: what is asked of it comes in as `torch.cuda`, so the arithmetic is tested without a GPU.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from gfscreen.errors import EngineError

logger = logging.getLogger(__name__)

# What the CUDA context and the libraries' own buffers take where that cannot be measured (300-500 and 150-400).
CONTEXT_MB = 700
# cuDNN and cuBLAS get their workspaces after the context was measured.
WORKSPACE_MB = 200
# Of the allocator's share, what a batch is planned with: fragments cannot all be used.
_USABLE_SHARE = 0.85
_MB = 2**20


def card_used_mb(index: int) -> float | None:
    """Used memory of the whole card in MiB, asked of NVML, which needs no CUDA context; None where it cannot be."""
    with contextlib.suppress(Exception):
        import pynvml

        pynvml.nvmlInit()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            return float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) / _MB
        finally:
            pynvml.nvmlShutdown()
    return None


class GpuMemory:
    """Memory of one CUDA device as this process may use it.

    cuda: `torch.cuda`. limit_mb: for the process as a whole, context included; None for no limit.
    """

    def __init__(self, cuda: Any, device: Any, limit_mb: float | None) -> None:
        self._cuda = cuda
        # By number: some of torch's calls refuse a device without one.
        self._index: int = device.index or 0
        self._limit_mb = limit_mb
        self.context_mb: float | None = None

    def open(self) -> None:
        """Make the CUDA context, measure it, and let the allocator have the rest of the limit. Raises EngineError."""
        before = card_used_mb(self._index)
        self._cuda.set_device(self._index)
        self._cuda.init()
        self._cuda.synchronize(self._index)
        after = card_used_mb(self._index)
        if before is not None and after is not None and after > before:
            self.context_mb = after - before
        if self._limit_mb is None:
            return
        outside_mb = CONTEXT_MB if self.context_mb is None else self.context_mb + WORKSPACE_MB
        usable_mb = self._limit_mb - outside_mb
        if usable_mb <= 0:
            raise EngineError(
                f"--gpu-memory-limit {self._limit_mb:.0f}: the CUDA context alone takes about {outside_mb:.0f} MB; "
                "raise it, or use --device cpu"
            )
        total_mb = self._cuda.get_device_properties(self._index).total_memory / _MB
        self._cuda.set_per_process_memory_fraction(min(1.0, usable_mb / total_mb), self._index)
        self._usable_mb = usable_mb
        logger.debug("GPU: context %s MB, allocator may use %.0f MB", self.context_mb, usable_mb)

    def free_mb(self) -> float:
        """What the allocator may still hand out, MiB: of the limit, and of what the card has free."""
        free, _ = self._cuda.mem_get_info(self._index)
        cached = self._cuda.memory_reserved(self._index) - self._cuda.memory_allocated(self._index)
        on_card_mb = (free + cached) / _MB
        if self._limit_mb is None:
            return float(on_card_mb)
        return float(min(on_card_mb, self._usable_mb - self._cuda.memory_allocated(self._index) / _MB))

    def watch(self) -> float:
        """Start to watch the peak; returns what is allocated now, MiB."""
        self._cuda.reset_peak_memory_stats(self._index)
        return float(self._cuda.memory_allocated(self._index)) / _MB

    def batch_after(self, allocated_mb: float, count: int, largest: int) -> int:
        """The batch that fits, from the peak of one of `count` sub-volumes that began with `allocated_mb`."""
        peak_mb = self._cuda.max_memory_allocated(self._index) / _MB
        each_mb = max(1.0, (peak_mb - allocated_mb) / count)
        return max(1, min(largest, int(_USABLE_SHARE * self.free_mb() / each_mb)))

    def peak_mb(self) -> float:
        """Peak of the allocator since the last call, with the context where it was measured, MiB."""
        peak = self._cuda.max_memory_reserved(self._index) / _MB
        self._cuda.reset_peak_memory_stats(self._index)
        return float(peak + (self.context_mb or 0.0))
