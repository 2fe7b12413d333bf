"""One process or several: `torchrun --nproc-per-node N -m gfscreen train ...` (gloo on CPU, NCCL on CUDA)."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class World:
    """Place of this process among all: rank 0 writes logs, checkpoints and weights."""

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """True for the process that writes."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over all processes; the network itself if there is one process."""
        if self.size == 1:
            return network
        # Buffers (batch-norm statistics) follow rank 0.
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def agree(self, value: bool) -> bool:
        """Rank 0's decision, for all: clocks differ, and all must stop at the same step."""
        if self.size == 1:
            return value
        flag = torch.tensor([int(value)], device=self.device)
        dist.broadcast(flag, src=0)
        return bool(flag.item())

    def broadcast(self, value: float) -> float:
        """Rank 0's number, for all."""
        if self.size == 1:
            return value
        number = torch.tensor(
            [value], dtype=torch.float64 if self.device.type == "cpu" else torch.float32, device=self.device
        )
        dist.broadcast(number, src=0)
        return float(number.item())

    def close(self) -> None:
        """Leave the group."""
        if self.size > 1:
            dist.barrier()
            dist.destroy_process_group()


def start_world(device: str = "auto") -> World:
    """Join the processes that torchrun started, or be alone."""
    size, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    use_cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    chosen = torch.device("cuda", local) if use_cuda else torch.device("cpu")
    if use_cuda:
        torch.cuda.set_device(chosen)
    if size > 1:
        dist.init_process_group("nccl" if use_cuda else "gloo")
    return World(rank, size, chosen)
