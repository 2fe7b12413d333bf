"""Untrained weights with their OpenVINO export, of a Focus that reads in milliseconds."""

from __future__ import annotations

from pathlib import Path

from gfscreen.config import Plan
from gfscreen.network_plan import FocusConfig, GlanceConfig

SMALL_PLAN = Plan(
    sub_volume_voxels=(64, 32, 32),
    glance=GlanceConfig("resnet10", (4, 4, 8, 8)),
    focus=FocusConfig(feature_size=12, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=4),
)


def write_exported(folder: Path, plan: Plan) -> Path:
    """Untrained weights of a plan, the same in every call, and their export beside them; returns the folder."""
    from gfscreen.networks.engines.export import default_export, export_openvino
    from gfscreen.networks.models.weights import init_weights

    init_weights(folder, plan, 3)
    export_openvino(folder, default_export(folder))
    return folder
