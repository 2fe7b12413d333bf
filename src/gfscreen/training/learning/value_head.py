"""What reading a sub-volume is expected to pay, told from the features that the Glance pools; for training alone.

It lives beside the Glance, not in it: weights folders, which take the Glance, have no place for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from gfscreen.networks.models.glance import Glance


class ValueHead(nn.Module):
    """Expected reward of sub-volumes, linear in the Glance's pooled features.

    Starts at 0 for every sub-volume: the first steps of PPO are those of the group relative objective.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layer = nn.Linear(channels, 1)
        nn.init.zeros_(self.layer.weight)
        nn.init.zeros_(self.layer.bias)

    def forward(self, pooled: Tensor) -> Tensor:
        """Value (N,) of pooled features (N, channels)."""
        value: Tensor = self.layer(pooled)
        return value[:, 0]


@contextmanager
def pooled_kept(glance: Glance) -> Iterator[list[Tensor]]:
    """Collects the pooled features (N, channels), from which `layer` decides, of each pass; also through DDP."""
    kept: list[Tensor] = []
    hook = glance.layer.register_forward_pre_hook(lambda _module, inputs: kept.append(inputs[0]))
    try:
        yield kept
    finally:
        hook.remove()
