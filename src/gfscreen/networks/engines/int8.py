"""Convolutions of Focus in eight-bit whole numbers, which CPUs with AVX-512 multiply twice as fast as bfloat16.

Meant for the three at full resolution, where half of a read's time goes and little of what is lesion is decided: the
rest of Focus, Glance and the cells lose more than they gain (docs/explanation/screening.md). Weights are rounded here
to 255 levels for each output channel. What goes in is rounded to 256 levels of a span that belongs to the weights and
has to be measured on scans (`python -m eval int8`), so an image build, which has none, can do this as well.

Done when an export is loaded, not when it is made: whoever computes in fp32 reads the same files.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gfscreen.errors import EngineError
from gfscreen.network_plan import Int8Input

# All 3 x 3 x 3 convolutions at full resolution that have more than the scan itself as their input.
FULL_RESOLUTION = ("encoder1.layer.conv2.conv", "decoder1.conv_block.conv1.conv", "decoder1.conv_block.conv2.conv")
# Symmetric around 0, and all that a byte holds.
WEIGHT_LEVELS, INPUT_LEVELS = 255, 256


def convolution(model: Any, name: str) -> Any:
    """The node of an exported Focus, an openvino.Model, that is this convolution. Raises EngineError without one."""
    for node in model.get_ops():
        if node.get_type_name() == "Convolution" and node.get_friendly_name().startswith(f"__module.focus.{name}/"):
            return node
    raise EngineError(f"focus_int8: the exported Focus has no convolution {name}; choose anew with python -m eval int8")


def to_int8(model: Any, inputs: Sequence[Int8Input]) -> None:
    """Have an exported Focus, an openvino.Model, compute these convolutions in whole numbers; in place.

    Raises EngineError for a convolution that it does not have.
    """
    if not inputs:
        return
    from openvino import opset13 as ops

    def rounded(of: Any, low: NDArray[np.float32], high: NDArray[np.float32], levels: int) -> Any:
        span = ops.constant(low), ops.constant(high)
        return ops.fake_quantize(of, *span, *span, levels)

    for given in inputs:
        node = convolution(model, given.convolution)
        low, high = np.asarray(given.low, np.float32), np.asarray(given.high, np.float32)
        weights = _constant(node.input_value(1).get_node())
        largest = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True)
        largest = np.maximum(largest, np.finfo(np.float32).tiny)
        kernel = rounded(ops.constant(weights), -largest, largest, WEIGHT_LEVELS)
        data = rounded(node.input_value(0), low, high, INPUT_LEVELS)
        node.input(0).replace_source_output(data.output(0))
        node.input(1).replace_source_output(kernel.output(0))


def _constant(node: Any) -> NDArray[np.float32]:
    """The weights of a convolution, float32; stored in half precision they come by way of a conversion."""
    while node.get_type_name() != "Constant":
        node = node.input_value(0).get_node()
    values: NDArray[np.float32] = np.asarray(node.data, np.float32)
    return values
