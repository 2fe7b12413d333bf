"""The trunk's features of cells: alike whatever runs it, and only where they are asked for."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from gfscreen.config import CellGlanceConfig  # noqa: E402
from gfscreen.networks.models.cell_glance import CellFeatures  # noqa: E402
from gfscreen.screening.cells import blank_cells  # noqa: E402
from gfscreen.training.cells.features import _by_openvino, _by_torch, features_of  # noqa: E402
from tests.helpers.scans import model_scan  # noqa: E402
from tests.helpers.trunk import random_trunk  # noqa: E402

CONFIG = CellGlanceConfig(trunk_blocks=1)


def test_openvino_and_torch_agree(tmp_path, monkeypatch):
    pytest.importorskip("openvino")
    network = CellFeatures(random_trunk(tmp_path, monkeypatch)).eval()
    volume = np.random.default_rng(0).random((24, 48, 32), dtype=np.float32)
    by_torch, by_openvino = (make(volume) for make in (_by_torch(network, torch.device("cpu")), _by_openvino(network)))
    assert by_torch.shape == (2048, 6, 6, 4)
    assert by_torch.std() > 0.05
    np.testing.assert_allclose(by_openvino, by_torch, atol=1e-3)


def stub(volume):
    """Each cell's own index in the piece as its three features."""
    z, x, y = (size // stride for size, stride in zip(volume.shape, (4, 8, 8), strict=True))
    return np.stack(np.meshgrid(np.arange(z), np.arange(x), np.arange(y), indexing="ij")).astype(np.float32)


def test_every_cell_gets_the_features_of_its_own_place():
    chest = np.arange(200) >= 110
    scan = model_scan((60, 50, 200), chest=chest, spacing_mm=(1.0, 1.0, 3.0))
    cells = blank_cells(scan, CONFIG)
    wanted = ~np.isneginf(cells.logit)
    seen = features_of(stub, scan, cells, wanted, CONFIG)
    assert {tuple(cell) for cell in seen.cell} == {tuple(cell) for cell in np.argwhere(wanted)}
    assert (seen.region == np.where(chest[np.minimum(seen.cell[:, 2] * 4, 199)], 0, 1)).all()
    first_layer = {0 if piece.region == "chest" else 1: piece.low // 4 for piece in cells.pieces}
    shift = np.array([first_layer[int(region)] for region in seen.region])
    expected = np.stack([seen.cell[:, 2] - shift, seen.cell[:, 0], seen.cell[:, 1]], axis=1)
    assert (seen.features == expected).all()


def test_pieces_without_a_wanted_cell_are_not_shown_to_the_trunk():
    scan = model_scan((60, 50, 200), chest=np.arange(200) >= 110, spacing_mm=(1.0, 1.0, 3.0))
    cells = blank_cells(scan, CONFIG)
    wanted = np.zeros(cells.logit.shape, bool)
    sizes = []

    def counting(volume):
        sizes.append(volume.shape)
        return stub(volume)

    assert len(features_of(counting, scan, cells, wanted, CONFIG).cell) == 0
    wanted[2, 2, 1] = True
    assert features_of(counting, scan, cells, wanted, CONFIG).cell.tolist() == [[2, 2, 1]]
    assert len(sizes) == 1
