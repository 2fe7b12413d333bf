"""Attention of Focus in one fused call that stays in half precision.

MONAI's own adds a float32 mask and a float32 bias to the scores, which promotes them and the softmax to float32 in
spite of autocast: with half precision the memory of attention then hardly drops. Weights and their names stay.
"""

from __future__ import annotations

import torch
from monai.networks.nets.swin_unetr import WindowAttention
from torch import Tensor, nn
from torch.nn import functional as F


class FusedWindowAttention(WindowAttention):  # type: ignore[misc]  # MONAI is untyped
    """Window attention by `scaled_dot_product_attention`; bias and mask in the type of the queries."""

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """(B * nW, n, C) -> the same; mask: (nW, n, n), 0 or -100, or None where windows are not shifted."""
        count, n, channels = x.shape
        qkv = self.qkv(x).reshape(count, n, 3, self.num_heads, channels // self.num_heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        index = self.relative_position_index[:n, :n].reshape(-1)
        bias = self.relative_position_bias_table[index].to(q.dtype).reshape(n, n, -1).permute(2, 0, 1)[None]
        windows = count
        if mask is not None:
            windows = mask.shape[0]
            bias = bias + mask.to(q.dtype)[:, None]
        # One sub-volume after the other: the bias of all windows (the largest tensor here) is then never repeated.
        parts = [
            F.scaled_dot_product_attention(
                q[start : start + windows],
                k[start : start + windows],
                v[start : start + windows],
                attn_mask=bias.expand(windows, -1, -1, -1),
                scale=self.scale,
            )
            for start in range(0, count, windows)
        ]
        attended = torch.cat(parts) if len(parts) > 1 else parts[0]
        result: Tensor = self.proj_drop(self.proj(attended.transpose(1, 2).reshape(count, n, channels)))
        return result


def fuse_attention(focus: nn.Module) -> None:
    """Let every window attention of a SwinUNETR run fused. For inference: dropout inside attention is not applied."""
    for module in focus.modules():
        if type(module) is WindowAttention:
            module.__class__ = FusedWindowAttention
