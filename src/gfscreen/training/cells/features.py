"""What the pretrained trunk makes of a scan's cells: the same pieces, windows and lattice as when a scan is screened.

The trunk is frozen, so its features of a cell never change: they are computed once and kept. It runs by torch on a GPU,
else by OpenVINO where that is installed, which takes a half to a quarter of torch's time on a CPU.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from gfscreen.cpus import usable_cpus
from gfscreen.network_plan import CellGlanceConfig
from gfscreen.networks.engines.openvino import core, import_openvino
from gfscreen.networks.models.cell_glance import CellFeatures
from gfscreen.networks.models.trunk import Trunk
from gfscreen.scan.grid import ModelGrid
from gfscreen.screening.cells import CELL_STRIDE, REGION_CHANNEL, CellMap, OnModelGrid, TrunkInput
from gfscreen.training.data.cache import Scan

log = logging.getLogger(__name__)

# (z, x, y) float32 on the trunk's grid, in [0, 1] -> (2048, z / 4, x / 8, y / 8) float32.
TrunkRunner = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Host:
    """A scan to train on as cells are made of it; fields as ModelScan's."""

    hu: NDArray[np.float32]
    body: NDArray[np.bool_]
    chest: NDArray[np.bool_]
    grid: ModelGrid


def host_of(scan: Scan, hu: NDArray[np.int16], spacing_mm: tuple[float, ...]) -> Host:
    """A prepared scan, with the HU (x, y, z) that lesions were inserted into, or its own."""
    return as_host(hu, scan.body, scan.chest, spacing_mm)


def as_host(
    hu: NDArray[np.int16], body: NDArray[np.bool_], chest: NDArray[np.bool_], spacing_mm: tuple[float, ...]
) -> Host:
    """What lies on the model grid already, hu and body (x, y, z), chest (z,), as if it had been brought there."""
    x, y, z = hu.shape
    mm = (spacing_mm[0], spacing_mm[1], spacing_mm[2])
    grid = ModelGrid(((0, x), (0, y), (0, z)), (x, y, z), (x, y, z), mm, mm)
    return Host(hu.astype(np.float32), body, chest, grid)


def trunk_runner(trunk: Trunk) -> TrunkRunner:
    """The trunk, made to run on this machine: torch on a GPU, OpenVINO on a CPU, torch where that is missing."""
    network = CellFeatures(trunk).eval()
    if torch.cuda.is_available():
        return _by_torch(network, torch.device("cuda"))
    try:
        return _by_openvino(network)
    except ImportError as error:
        log.info("the trunk runs by torch: OpenVINO, which is faster on a CPU, is not installed (%s)", error)
    torch.set_num_threads(usable_cpus())
    return _by_torch(network, torch.device("cpu"))


def _by_torch(network: CellFeatures, device: torch.device) -> TrunkRunner:
    network.to(device)

    def run(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            features: NDArray[np.float32] = network(torch.from_numpy(volume)[None, None].to(device))[0].cpu().numpy()
        return features

    return run


def _by_openvino(network: CellFeatures) -> TrunkRunner:
    """In fp32: what is learnt must not depend on what the CPU can do. Raises ImportError without OpenVINO."""
    openvino = import_openvino()
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    example = torch.rand(1, 1, 16, 32, 32)
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decoder = TorchScriptPythonDecoder(network, example_input=example, trace_kwargs={"check_trace": False})
        model = openvino.convert_model(decoder, example_input=example, input=[[1, 1, -1, -1, -1]])
    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": str(usable_cpus()),
        "ENABLE_CPU_PINNING": "NO",
    }
    request = core().compile_model(model, "CPU", settings).create_infer_request()

    def run(volume: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(request.infer([volume[None, None]])[0][0], np.float32)

    return run


@dataclass(frozen=True)
class Seen:
    """Cells with their features, float16 (n, 2048). cell: intp (n, 3), index on the lattice. region: int8 (n,).

    region: channel of the region through whose window the trunk saw the cell.
    """

    cell: NDArray[np.intp]
    region: NDArray[np.int8]
    features: NDArray[np.float16]


def features_of(
    run: TrunkRunner, host: OnModelGrid, cells: CellMap, wanted: NDArray[np.bool_], config: CellGlanceConfig
) -> Seen:
    """Features of the wanted cells, bool (x, y, z), in the order of the scan's pieces.

    The trunk does not run for pieces without any. cells: of that host, nobody has looked at yet. None wanted gives
    empty arrays.
    """
    see = TrunkInput(host, config)
    parts = list(_by_piece(run, see, cells, wanted))
    if not parts:
        return Seen(np.zeros((0, 3), np.intp), np.zeros(0, np.int8), np.zeros((0, 0), np.float16))
    cell, region, features = (np.concatenate(part) for part in zip(*parts, strict=True))
    return Seen(cell, region, features)


def _by_piece(
    run: TrunkRunner, see: TrunkInput, cells: CellMap, wanted: NDArray[np.bool_]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.int8], NDArray[np.float16]]]:
    for piece in cells.pieces:
        cell = np.argwhere(wanted[:, :, piece.first : piece.last])
        if not len(cell):
            continue
        cell[:, 2] += piece.first
        answer = run(see(piece, cells))
        layer = cell[:, 2] - piece.low // CELL_STRIDE[2]
        features = answer[:, layer, cell[:, 0], cell[:, 1]].T.astype(np.float16)
        yield cell, np.full(len(cell), REGION_CHANNEL[piece.region], np.int8), features
