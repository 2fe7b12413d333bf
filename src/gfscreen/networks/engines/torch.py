"""PyTorch: CUDA in half precision under a memory cap, or the CPU in fp32, which other engines are compared to."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from gfscreen.cpus import usable_cpus
from gfscreen.errors import EngineError
from gfscreen.networks.engines.allocator import keep_large_buffers
from gfscreen.networks.engines.base import EngineInfo, FloatArray, require_finite
from gfscreen.networks.engines.gpu_memory import GpuMemory
from gfscreen.networks.models.attention import fuse_attention
from gfscreen.networks.models.cell_glance import CellGlance
from gfscreen.networks.models.focus import FocusProbability
from gfscreen.networks.models.glance import Glance, GlanceProbability
from gfscreen.networks.models.weights import load_cells, load_networks, load_second_focus

logger = logging.getLogger(__name__)

GLANCE, FOCUS, CELLS, SECOND_FOCUS = "glance", "focus", "cells", "second_focus"
# Larger ones gain nothing any more.
_LARGEST_BATCH = {GLANCE: 16, FOCUS: 8, CELLS: 1, SECOND_FOCUS: 8}
_HALF_LAYERS = (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)


class TorchEngine:
    """Runs a weights folder with torch.

    device: `cpu`, `cuda` or `cuda:N`. precision: `auto` (half on CUDA, fp32 on the CPU) or `fp32`.
    gpu_memory_limit_mb: cap for the whole process, CUDA context included. The GPU is first touched by the first batch,
    which is a single sub-volume: its peak decides how many go into the next. Out of memory halves the batch; a single
    sub-volume that does not fit either is computed on the CPU, and so is all that follows.
    Raises WeightsError, EngineError.
    """

    def __init__(
        self, weights: Path, *, device: str, precision: str, gpu_memory_limit_mb: float | None, reason: str
    ) -> None:
        self._device = torch.device(device)
        self._weights = weights
        cuda = self._device.type == "cuda"
        if cuda and not torch.cuda.is_available():
            raise EngineError(f"--device {device}: no usable CUDA device (torch {torch.__version__}); use --device cpu")
        self._half = cuda and precision == "auto"
        self._memory = GpuMemory(torch.cuda, self._device, gpu_memory_limit_mb) if cuda else None
        self._opened = False
        # The largest batch of each network that fits, once one was measured.
        self._fits: dict[str, int] = {}
        self.glance_batch = self.focus_batch = 1
        self.info = EngineInfo("torch", str(self._device), "fp16" if self._half else "fp32", reason)
        self._networks = self._load()
        if not cuda:
            self._prepare_cpu()

    def _load(self) -> dict[str, nn.Module]:
        """All networks on the CPU, in the precision that they will run in."""
        plan, glance, focus = load_networks(self._weights)
        second = load_second_focus(self._weights)
        if self._memory is not None:
            fuse_attention(focus)
            if second is not None:
                fuse_attention(second)
        # What an nnU-Net says stays what it is until all patches are averaged.
        networks: dict[str, nn.Module] = {FOCUS: focus if plan.nnunet is not None else FocusProbability(focus)}
        cells = glance if isinstance(glance, CellGlance) else load_cells(self._weights)
        if cells is not None:
            self._fits[CELLS] = 1  # pieces of a scan come one by one
            networks[CELLS] = cells
        if second is not None:
            self._fits[SECOND_FOCUS] = 1  # asked for as many as Focus, whose sub-volumes are larger
            networks[SECOND_FOCUS] = FocusProbability(second)
        if isinstance(glance, Glance):
            networks[GLANCE] = GlanceProbability(glance)
        for network in networks.values():
            network.eval()
            if self._half:
                # What autocast would cast in every call, done once: half the weights' memory, the same products.
                for module in network.modules():
                    if isinstance(module, _HALF_LAYERS):
                        module.half()
        return networks

    @staticmethod
    def _prepare_cpu() -> None:
        keep_large_buffers()
        torch.set_num_threads(usable_cpus())

    def _forward(self, name: str, batch: FloatArray) -> FloatArray:
        if self._memory is not None and not self._opened:
            self._memory.open()
            self._opened = True
        network = self._networks[name].to(self._device)
        x = torch.from_numpy(np.ascontiguousarray(batch)).to(self._device)
        x = x if x.ndim == 5 else x[:, None]
        with torch.inference_mode(), torch.autocast(self._device.type, torch.float16, enabled=self._half):
            result: Tensor = network(x)
        array: FloatArray = result.float().cpu().numpy()
        return array

    def _run(self, name: str, batch: FloatArray) -> FloatArray:
        """A batch, in however many pieces fit; on the CPU if not even one sub-volume fits the GPU."""
        require_finite(batch)
        if self._memory is None:
            return self._in_pieces(lambda part: self._forward(name, part), batch)
        try:
            result = self._in_pieces(lambda part: self._forward(name, part), batch)
            if name not in self._fits:
                # Watched once more with the network in place: the first time also pays for what stays.
                before_mb = self._memory.watch()
                self._in_pieces(lambda part: self._forward(name, part), batch[:1])
                self._fits[name] = self._memory.batch_after(before_mb, 1, _LARGEST_BATCH[name])
            if name in (GLANCE, FOCUS):
                # No more than doubled: a deadline expects the next step to take longer in proportion.
                now = self.glance_batch if name == GLANCE else self.focus_batch
                self._set_batch(name, min(self._fits[name], max(now, 2 * len(batch))))
            return result
        except (RuntimeError, EngineError) as error:
            if not (isinstance(error, (torch.OutOfMemoryError, EngineError)) or "CUDA" in str(error)):
                raise
            self._fall_back_to_cpu(error)
        return self._in_pieces(lambda part: self._forward(name, part), batch)

    def _set_batch(self, name: str, size: int) -> None:
        if name == GLANCE:
            self.glance_batch = size
        else:
            self.focus_batch = size

    def _in_pieces(self, run: Callable[[FloatArray], FloatArray], batch: FloatArray) -> FloatArray:
        """Run a batch; when the GPU runs out of memory, halve it and go on, down to single sub-volumes."""
        try:
            return run(batch)
        except torch.OutOfMemoryError:
            if len(batch) == 1:
                raise
            logger.warning("out of GPU memory with %d sub-volumes: going on with half as many", len(batch))
        if self._memory is not None:
            torch.cuda.empty_cache()
        middle = len(batch) // 2
        self._fits = {name: max(1, min(size, middle)) for name, size in self._fits.items()}
        self.focus_batch = max(1, min(self.focus_batch, middle))
        self.glance_batch = max(1, min(self.glance_batch, middle))
        return np.concatenate([self._in_pieces(run, batch[:middle]), self._in_pieces(run, batch[middle:])])

    def _fall_back_to_cpu(self, error: Exception) -> None:
        """Go on without the GPU, with weights read anew: after some errors nothing can be copied from it any more."""
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        logger.warning("the GPU cannot go on (%s): everything else is computed on the CPU", why)
        self.release()
        self._memory, self._half, self._device = None, False, torch.device("cpu")
        self.glance_batch = self.focus_batch = 1
        self._networks = self._load()
        self._prepare_cpu()
        reason = f"{self.info.reason}; fell back to the CPU: {why}"
        self.info = replace(self.info, device="cpu", precision="fp32", reason=reason)

    def glance(self, batch: FloatArray) -> FloatArray:
        """Probability of "lesion" per sub-volume, (n,)."""
        return self._run(GLANCE, batch)

    def cells(self, volume: FloatArray) -> FloatArray:
        """Logits of "lesion" per region and cell, (2, z / 4, x / 8, y / 8), of a volume (z, x, y)."""
        logits: FloatArray = self._run(CELLS, volume[None])[0]
        return logits

    def focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z); of nnU-Net's channels the scores, as the protocol says."""
        return self._run(FOCUS, batch)

    def second_focus(self, batch: FloatArray) -> FloatArray:
        """Lesion probability per voxel, (n, x, y, z), by the second Focus."""
        return self._run(SECOND_FOCUS, batch)

    def release_glance(self) -> None:
        """Nothing: Focus takes over what the allocator holds."""

    def release(self) -> None:
        """Give the GPU's memory back, all but the context; the next batch takes it again."""
        if self._memory is None or not self._opened:
            return
        try:
            self._networks = {name: network.cpu() for name, network in self._networks.items()}
            torch.cuda.empty_cache()
        except RuntimeError as error:
            logger.debug("the GPU's memory could not be released: %s", error)

    def peak_gpu_mb(self) -> float | None:
        """Peak of the allocator in MiB since the last call, with the CUDA context where measured; None on the CPU."""
        return self._memory.peak_mb() if self._memory is not None and self._opened else None
