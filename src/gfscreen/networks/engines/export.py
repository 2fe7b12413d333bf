"""Exports a weights folder to OpenVINO IR, once, at image build or on first use; needs torch and MONAI."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from gfscreen.errors import EngineError
from gfscreen.files import remove_leftovers, scratch_folder
from gfscreen.network_plan import Int8Input
from gfscreen.networks.engines.base import NOMINAL_SIDE_VOXELS
from gfscreen.networks.engines.int8 import to_int8
from gfscreen.networks.engines.openvino import (
    CELLS_MODEL,
    EXPORT_FOLDER,
    FOCUS_MODEL,
    GLANCE_MODEL,
    INT8_KEY,
    SECOND_FOCUS_MODEL,
    SECONDS_KEY,
    WIDE_SECOND_FOCUS_MODEL,
    core,
    import_openvino,
    precision_of,
)
from gfscreen.networks.models.manifest import (
    CELLS_FILE,
    FOCUS_FILE,
    GLANCE_FILE,
    MANIFEST_FILE,
    NOTICE_FILE,
    SECOND_FOCUS_FILE,
    read_manifest,
    write_manifest,
)

logger = logging.getLogger(__name__)

# 2: Glance's shortcuts follow their input; before, they were frozen to the example of the export.
# 3: Focus's instance normalisation does not depend on the number of CPUs.
# 4: nor do its wide convolutions in bf16.
EXPORT_FORMAT = 4


def is_current(export: Path, weights: Path) -> bool:
    """True if `export` holds an export of exactly these weights."""
    if not (export / MANIFEST_FILE).is_file():
        return False
    info = read_manifest(export).info
    # Those that an older version made say which OpenVINO made them, and no format.
    outdated = "openvino" in info and info.get("format") != EXPORT_FORMAT
    return not outdated and info.get("weights_digest") == read_manifest(weights).digest


def export_openvino(weights: Path, target: Path) -> Path:
    """Write `target`/{glance,focus}.{xml,bin} and a manifest that names the weights they were made from.

    Cells on the pretrained trunk, as `cells` or as the Glance itself, take it along, and with it its NOTICE.

    Without a Glance there is none in the export. Files appear under their final names only when all of them are
    complete. Raises WeightsError, EngineError.
    """
    try:
        openvino = import_openvino()
        import torch
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
        from torch import Tensor, nn

        from gfscreen.networks.engines.steady_sums import steady_sums
        from gfscreen.networks.models.cell_glance import CellGlance, trunk_notice
        from gfscreen.networks.models.focus import FocusProbability
        from gfscreen.networks.models.glance import GlanceProbability
        from gfscreen.networks.models.weights import load_cells, load_networks, load_second_focus, stored_precision
    except ImportError as error:
        raise EngineError(
            f"{weights}: no OpenVINO export found and none can be made here ({error}); "
            "run `python -m gfscreen export` where torch, MONAI and OpenVINO are installed"
        ) from error
    plan, glance, focus = load_networks(weights)

    def one_size(channels: int, voxels: tuple[int, ...]) -> tuple[Tensor, list[int]]:
        sizes = [1, channels, *voxels]
        return torch.rand(sizes), sizes

    any_size = torch.rand(1, 1, 16, 32, 32), [1, 1, -1, -1, -1]
    networks: list[tuple[nn.Module, str, str, tuple[Tensor, list[int]]]] = []
    if isinstance(glance, CellGlance):
        networks.append((glance, GLANCE_FILE, GLANCE_MODEL, any_size))
    elif glance is not None:
        networks.append((GlanceProbability(glance), GLANCE_FILE, GLANCE_MODEL, one_size(1, plan.sub_volume_voxels)))
    if (cells := load_cells(weights)) is not None:
        networks.append((cells, CELLS_FILE, CELLS_MODEL, any_size))
    if plan.nnunet is None:
        sub_volume = one_size(plan.focus.channels, plan.sub_volume_voxels)
        networks.append((FocusProbability(focus), FOCUS_FILE, FOCUS_MODEL, sub_volume))
        looks = [(plan.of_second_focus, SECOND_FOCUS_MODEL)] if plan.second_focus else []
        if plan.second_focus and plan.second_focus.wide:
            looks.append((plan.of_wide_second_focus, WIDE_SECOND_FOCUS_MODEL))
        for own, name in looks:
            second = load_second_focus(weights)
            assert second is not None
            size = one_size(own.focus.channels, own.sub_volume_voxels)
            networks.append((FocusProbability(second), SECOND_FOCUS_FILE, name, size))
    else:
        patch = one_size(len(plan.nnunet.channels), plan.nnunet.patch_voxels)
        networks.append((focus, FOCUS_FILE, FOCUS_MODEL, patch))
    target.parent.mkdir(parents=True, exist_ok=True)
    logger.info("exporting %s to OpenVINO in %s, once", weights, target)
    remove_leftovers(target.parent)
    with scratch_folder(target.parent, "export") as folder:
        for network, stored, name, (example, sizes) in networks:
            network.eval()
            steady_sums(network)
            with torch.inference_mode(), warnings.catch_warnings():
                # Tracing warns that sizes become constants, which is what a fixed size means, and of its own age.
                warnings.simplefilter("ignore")
                # Without the decoder torch traces every network a second time, only to compare: half of the export.
                decoder = TorchScriptPythonDecoder(network, example_input=example, trace_kwargs={"check_trace": False})
                model = openvino.convert_model(decoder, example_input=example, input=[sizes])
            fold_constants(model)
            # Weights that are stored in half precision lose nothing by it; the arithmetic stays the engine's choice.
            compress = stored_precision(weights / stored) == "float16"
            traced = folder / f"traced-{name}"
            openvino.save_model(model, traced, compress_to_fp16=compress)
            # Read back: only then are all shapes known, and what rests on them can be folded.
            model = core().read_model(traced)
            fold_constants(model)
            openvino.save_model(model, folder / name, compress_to_fp16=compress)
            traced.unlink()
            traced.with_suffix(".bin").unlink()
        if plan.cells is not None:
            (folder / NOTICE_FILE).write_text(trunk_notice(weights), encoding="utf-8")
        target.mkdir(exist_ok=True)
        remove_leftovers(target)
        (target / MANIFEST_FILE).unlink(missing_ok=True)
        names = sorted(path.name for path in folder.iterdir())
        for name in names:
            (folder / name).replace(target / name)
    info = {
        "weights_digest": read_manifest(weights).digest,
        "openvino": openvino.__version__.split("-")[0],
        "format": EXPORT_FORMAT,
        INT8_KEY: [asdict(given) for given in plan.focus_int8],
        SECONDS_KEY: {
            Path(name).stem: _time_s(target / name, plan.focus_int8 if name == FOCUS_MODEL else ())
            for _, _, name, _ in networks
        },
    }
    write_manifest(target, names, info)
    return target


def fold_constants(model: Any) -> None:
    """Replace by its value, in place, whatever in an openvino.Model does not depend on the scan.

    Above all the attention masks, which MONAI computes in every call from a few hundred operations. Otherwise each
    start of the program would fold them while it compiles, and that was most of the compilation: 4.4 s of CPU time
    against 0.6 for the paper's Focus, 1.3 against 0.5 for that of `fast`. Results are the same to the bit. What is
    left costs as much as importing OpenVINO's cached blob (0.4 to 0.6 s), which is tied to one CPU model, and needs no
    place to write.
    """
    from openvino.passes import ConstantFolding, Manager

    manager = Manager()
    manager.register_pass(ConstantFolding())
    manager.run_passes(model)


def _time_s(path: Path, whole: Sequence[Int8Input]) -> float:
    """Seconds of one sub-volume on this machine, as it would be read here: the second run, the first still allocates.

    whole: what is computed in whole numbers where the CPU has bf16.
    """
    model = core().read_model(path)
    if precision_of(core(), "auto") == "bf16":
        to_int8(model, whole)
    compiled = core().compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    request = compiled.create_infer_request()
    shape = compiled.input(0).partial_shape
    nominal = (1, 1, *(NOMINAL_SIDE_VOXELS,) * 3)
    sub_volume = np.zeros(nominal if shape.is_dynamic else tuple(shape.to_shape()), np.float32)
    request.infer([sub_volume])
    start = time.monotonic()
    request.infer([sub_volume])
    return round(time.monotonic() - start, 4)


def default_export(weights: Path) -> Path:
    """Where the export of a weights folder lies."""
    return weights / EXPORT_FOLDER
