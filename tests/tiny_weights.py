"""A weights folder of two OpenVINO networks of one operation: the product without torch, exact and in milliseconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import openvino
from openvino import opset13 as ops

from gfscreen.config import Plan, plan_to_json
from gfscreen.networks.models.manifest import read_manifest, write_manifest

PLAN = Plan(preset="tiny", weights="trained", spacing_mm=(4.0, 4.0, 4.0), sub_volume_voxels=(32, 32, 32), gate=0.5)


def write_tiny_weights(weights: Path) -> Path:
    """Networks that find what is brighter than tissue in the abdomen's window.

    200 HU is 0.88 there, tissue of 40 HU 0.51: stretched so that 0.75 becomes one half.
    """
    export = weights / "openvino"
    export.mkdir(parents=True)
    (weights / "plan.json").write_text(json.dumps(plan_to_json(PLAN)))
    write_manifest(weights, ["plan.json"], {})
    for name in ("glance", "focus"):
        x = ops.parameter([1, 1, 32, 32, 32], np.float32)
        bright = ops.clamp(ops.multiply(ops.subtract(x, np.float32(0.7)), np.float32(10.0)), 0.0, 1.0)
        result = ops.reduce_max(bright, [1, 2, 3, 4]) if name == "glance" else ops.squeeze(bright, [1])
        openvino.save_model(openvino.Model([result], [x]), export / f"{name}.xml")
    names = [path.name for path in export.iterdir()]
    write_manifest(export, names, {"weights_digest": read_manifest(weights).digest})
    return weights
