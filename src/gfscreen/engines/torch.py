"""PyTorch: CUDA in half precision under a memory cap, or the CPU in fp32, which other engines are compared to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gfscreen.engines.allocator import keep_large_buffers
from gfscreen.engines.base import EngineInfo, FloatArray
from gfscreen.engines.cpus import usable_cpus
from gfscreen.errors import EngineError
from gfscreen.models.focus import FocusProbability
from gfscreen.models.glance import GlanceProbability
from gfscreen.models.weights import load_networks

logger = logging.getLogger(__name__)

# What the CUDA context and library workspaces take on top of the allocator's memory.
CUDA_CONTEXT_MB = 700
_GLANCE_BATCH = {"cpu": 1, "cuda": 4}
_FOCUS_BATCH = {"cpu": 1, "cuda": 2}


class TorchEngine:
    """Runs a weights folder with torch.

    device: `cpu`, `cuda` or `cuda:N`. precision: `auto` (half on CUDA, fp32 on the CPU) or `fp32`.
    gpu_memory_limit_mb: cap for the whole process, CUDA context included. Raises WeightsError, EngineError.
    """

    def __init__(
        self, weights: Path, *, device: str, precision: str, gpu_memory_limit_mb: float | None, reason: str
    ) -> None:
        self._device = torch.device(device)
        self._cuda = self._device.type == "cuda"
        if self._cuda and not torch.cuda.is_available():
            raise EngineError(f"--device {device}: no usable CUDA device (torch {torch.__version__}); use --device cpu")
        _, glance, focus = load_networks(weights)
        self._half = self._cuda and precision == "auto"
        if self._cuda:
            self._cap_memory(gpu_memory_limit_mb)
        else:
            keep_large_buffers()
            torch.set_num_threads(usable_cpus())
        self._glance = GlanceProbability(glance).eval().to(self._device)
        self._focus = FocusProbability(focus).eval().to(self._device)
        self.glance_batch = _GLANCE_BATCH[self._device.type]
        self.focus_batch = _FOCUS_BATCH[self._device.type]
        self.info = EngineInfo("torch", str(self._device), "fp16" if self._half else "fp32", reason)

    def _cap_memory(self, limit_mb: float | None) -> None:
        if limit_mb is None:
            return
        total_mb = torch.cuda.get_device_properties(self._device).total_memory / 2**20
        usable_mb = limit_mb - CUDA_CONTEXT_MB
        if usable_mb <= 0:
            raise EngineError(
                f"--gpu-memory-limit {limit_mb:.0f}: the CUDA context alone takes about {CUDA_CONTEXT_MB} MB; raise it"
            )
        torch.cuda.set_per_process_memory_fraction(min(1.0, usable_mb / total_mb), self._device)

    def _forward(self, network: nn.Module, batch: FloatArray) -> FloatArray:
        x = torch.from_numpy(np.ascontiguousarray(batch))[:, None].to(self._device)
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=self._half):
            result: Tensor = network(x)
        array: FloatArray = result.float().cpu().numpy()
        return array

    def _with_smaller_batches(self, run: Callable[[FloatArray], FloatArray], batch: FloatArray) -> FloatArray:
        """Run a batch; when the GPU runs out of memory, halve it and go on, down to single sub-volumes."""
        try:
            return run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            logger.warning("out of GPU memory with %d sub-volumes: going on with half as many", len(batch))
        torch.cuda.empty_cache()
        middle = len(batch) // 2
        self.focus_batch = max(1, min(self.focus_batch, middle))
        return np.concatenate(
            [self._with_smaller_batches(run, batch[:middle]), self._with_smaller_batches(run, batch[middle:])]
        )

    def glance(self, batch: FloatArray) -> FloatArray:
        """Probability of "lesion" per sub-volume, (n,)."""
        return self._with_smaller_batches(lambda part: self._forward(self._glance, part), batch)

    def focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z)."""
        return self._with_smaller_batches(lambda part: self._forward(self._focus, part), batch)

    def peak_gpu_mb(self) -> float | None:
        """Peak of the allocator's reserved memory in MiB since the last call; None on the CPU."""
        if not self._cuda:
            return None
        peak = torch.cuda.max_memory_reserved(self._device) / 2**20
        torch.cuda.reset_peak_memory_stats(self._device)
        return float(peak)
