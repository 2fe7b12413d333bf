"""An engine and weights that find what is brighter than tissue: exact answers for tests of everything but the networks.

A lesion painted at 200 HU is above the threshold in both HU windows, soft tissue at 40 HU below it:
abdomen [-175, 250]: 0.88 and 0.51; chest [-900, 650]: 0.71 and 0.61. The threshold is 0.66.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy import ndimage

from gfscreen.config import PLAN_FILE, Plan, plan_to_json
from gfscreen.networks.engines.base import EngineInfo, FloatArray
from gfscreen.networks.engines.openvino import import_openvino
from gfscreen.networks.models.manifest import MANIFEST_FILE, read_manifest, write_manifest

THRESHOLD = 0.66
# In the windows of a Glance on a trunk, [-1000, 200] and [-175, 250]: 1.0 and 0.88 against 0.867 and 0.51.
CELL_THRESHOLD = 0.875
TISSUE_HU, LESION_HU = 40, 200
# 32 voxels of 4 mm are 128 mm: a painted body of half a metre takes some tens of sub-volumes, and milliseconds each.
THRESHOLD_PLAN = Plan(
    preset="threshold",
    weights="trained",
    spacing_mm=(4.0, 4.0, 4.0),
    sub_volume_voxels=(32, 32, 32),
    overlap=0.25,
    gate=0.5,
)


class ThresholdEngine:
    """The engine protocol in NumPy. `before_each` is called before every batch with the number of batches so far."""

    def __init__(self, before_each: Callable[[int], None] = lambda _: None) -> None:
        self.info = EngineInfo("threshold", "cpu", "fp32", "for a test of reliability")
        self.glance_batch = self.focus_batch = 1
        self._before_each = before_each
        self._batches = 0

    def _step(self) -> None:
        # Counted first: a batch that fails is not tried again.
        self._batches += 1
        self._before_each(self._batches - 1)

    def glance(self, batch: FloatArray) -> FloatArray:
        """0.95 for a sub-volume that holds something bright, else 0.05; (n,)."""
        self._step()
        return np.where((batch > THRESHOLD).any(axis=(1, 2, 3)), 0.95, 0.05).astype(np.float32)

    def cells(self, volume: FloatArray) -> FloatArray:
        """3 for a cell that holds something bright, else -3, in the windows of a Glance on a trunk."""
        self._step()
        highest = ndimage.maximum_filter(volume, size=(4, 8, 8))[::4, ::8, ::8]
        return np.stack([np.where(highest > CELL_THRESHOLD, 3.0, -3.0)] * 2).astype(np.float32)

    def focus(self, batch: FloatArray) -> FloatArray:
        """1 where a voxel is bright, else 0; (n, x, y, z)."""
        self._step()
        return (batch > THRESHOLD).astype(np.float32)

    def second_focus(self, batch: FloatArray) -> FloatArray:
        """The same."""
        return self.focus(batch)

    def release_glance(self) -> None:
        """Nothing: no memory is held."""

    def release(self) -> None:
        """Nothing: no memory is held."""

    def peak_gpu_mb(self) -> float | None:
        """None: no GPU is used."""
        return None


def write_threshold_plan(folder: Path) -> Path:
    """A folder with the plan and a manifest alone: enough where the engine is `ThresholdEngine`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / PLAN_FILE).write_text(json.dumps(plan_to_json(THRESHOLD_PLAN), indent=2) + "\n", encoding="utf-8")
    write_manifest(folder, [PLAN_FILE], {"preset": THRESHOLD_PLAN.preset})
    return folder


def write_threshold_weights(folder: Path) -> Path:
    """A weights folder with an OpenVINO export that does the same, for runs of the command line. Needs OpenVINO."""
    openvino = import_openvino()
    from openvino import opset13 as ops

    write_threshold_plan(folder)
    export = folder / "openvino"
    export.mkdir(exist_ok=True)
    (export / MANIFEST_FILE).unlink(missing_ok=True)

    def stretched() -> tuple[object, object]:
        x = ops.parameter([1, 1, *THRESHOLD_PLAN.sub_volume_voxels], np.float32)
        # Steep enough to be 0 for tissue and 1 for a lesion in either window, and 0.5 at the threshold.
        steep = ops.multiply(ops.subtract(x, np.float32(THRESHOLD - 0.01)), np.float32(50.0))
        return x, ops.clamp(steep, 0.0, 1.0)

    x, bright = stretched()
    openvino.save_model(openvino.Model([ops.reduce_max(bright, [1, 2, 3, 4])], [x]), export / "glance.xml")
    x, bright = stretched()
    openvino.save_model(openvino.Model([ops.squeeze(bright, [1])], [x]), export / "focus.xml")
    names = [path.name for path in export.iterdir()]
    write_manifest(export, names, {"weights_digest": read_manifest(folder).digest})
    return folder
