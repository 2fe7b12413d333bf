"""Exports whose sums are added up in the same order on any number of CPUs: instance normalisation, wide convolutions.

In an instance normalisation OpenVINO gives each thread a share of the voxels to add up, so the last digits of mean and
variance follow the number of threads, and with them, here and there, the mask. They are also inexact: a thread adds
hundreds of thousands of numbers one after the other. Here they are means of means of small blocks, each of which one
thread adds up. GroupNorm of one channel per group does not depend on the threads either, but reorders every feature map
and back.

In bf16 a convolution of 384 channels to 192 adds its channels up in other parts with one thread than with two (2026.4;
that of Focus's deepest decoder, by up to 0.01 in probability). One of 192 channels does not, so wider ones are read in
parts of no more. Those of a single voxel did not, with up to 1,024 channels.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

# Voxels of a block along an axis, at most: two steps for 96 x 96 x 64.
_LONGEST = 12
# Input channels of a convolution that are added up in one go.
_WIDEST = 192


class SteadyInstanceNorm(nn.Module):
    """Gives what an `nn.InstanceNorm3d` without running statistics gives, (N, C, X, Y, Z), for tracing.

    Nothing here needs more digits than the feature maps have: where OpenVINO computes in bf16 and keeps every result
    in it, what a mean loses by rounding is in a second mean, that of what the first one leaves.
    """

    def __init__(self, norm: nn.InstanceNorm3d) -> None:
        super().__init__()
        self.eps = norm.eps
        self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        """Every channel of every sub-volume with mean 0 and variance 1, then scaled and shifted if affine."""
        parts = x if _block(x.shape) == _space(x.shape) else _mean_of_blocks(x)
        mean = _mean(parts)
        rest = _mean(parts - mean)
        # Not `x - mean - rest` as below: OpenVINO would keep that for both places, one more pass through memory.
        flipped = mean - x + rest
        scale = (_mean(flipped * flipped) + self.eps) ** -0.5
        if self.weight is None:
            return (x - mean - rest) * scale
        weight, bias = (values.reshape(-1, 1, 1, 1) for values in (self.weight, self.bias))
        return (x - mean - rest) * (scale * weight) + bias


class SteadyConvolution(nn.Module):
    """Gives what an `nn.Conv3d` without groups gives, (N, C, X, Y, Z), as the sum over parts of its input channels."""

    def __init__(self, convolution: nn.Conv3d) -> None:
        super().__init__()
        self.convolution = convolution
        self.parts = -(-convolution.in_channels // _WIDEST)

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of every part with its weights; the bias once."""
        own = self.convolution
        pairs = zip(x.chunk(self.parts, dim=1), own.weight.chunk(self.parts, dim=1), strict=True)
        result = None
        for part, weight in pairs:
            bias = own.bias if result is None else None
            summand = nn.functional.conv3d(part, weight, bias, own.stride, own.padding, own.dilation)
            result = summand if result is None else result + summand
        assert result is not None
        return result


def steady_sums(network: nn.Module) -> None:
    """Replace every `nn.InstanceNorm3d`, and every wide `nn.Conv3d` of several voxels, by a steady one; in place."""
    for parent in list(network.modules()):
        for name, module in parent.named_children():
            # With running statistics there is nothing to add up.
            if isinstance(module, nn.InstanceNorm3d) and not module.track_running_stats:
                setattr(parent, name, SteadyInstanceNorm(module))
            elif isinstance(module, nn.Conv3d) and _is_wide(module):
                setattr(parent, name, SteadyConvolution(module))


def _is_wide(convolution: nn.Conv3d) -> bool:
    plain = convolution.groups == 1 and convolution.padding_mode == "zeros"
    return plain and max(convolution.kernel_size) > 1 and convolution.in_channels > _WIDEST


def _mean(x: Tensor) -> Tensor:
    """Mean over space, (N, C, 1, 1, 1), as the mean of equal blocks' means."""
    while _space(x.shape) != [1, 1, 1]:
        x = _mean_of_blocks(x)
    return x


def _mean_of_blocks(x: Tensor) -> Tensor:
    block = _block(x.shape)
    return nn.functional.avg_pool3d(x, block, block)


def _block(shape: Sequence[int]) -> list[int]:
    """The block that fills space without a rest: along each axis the longest allowed, or else the shortest there is."""
    block = []
    for size in _space(shape):
        lengths = [length for length in range(2, size + 1) if size % length == 0] or [1]
        block.append(max((length for length in lengths if length <= _LONGEST), default=lengths[0]))
    return block


def _space(shape: Sequence[int]) -> list[int]:
    """Sizes along x, y, z; plain numbers also while tracing."""
    return [int(size) for size in shape[2:]]
