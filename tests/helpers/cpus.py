"""What the CPU that the tests run on can do."""

from __future__ import annotations

import pytest

from gfscreen.networks.engines.openvino import core


def has_bf16() -> bool:
    """Whether it computes in bfloat16, as OpenVINO sees it; False without OpenVINO."""
    try:
        return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    except ImportError:
        return False


asks_for_bf16 = pytest.mark.skipif(
    not has_bf16(), reason="this CPU does not compute in bfloat16: nobody asks this of it"
)
