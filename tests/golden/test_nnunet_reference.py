"""Converted models against the answers of nnU-Net 2.8.1's own predictor: shared reference, CPU, step 0.5, no mirroring.

What remains of a difference is nnU-Net's half precision: it adds up the logits of a patch, weighed, in fp16. At the
border of a scan, where one patch alone counts, with a weight of 1e-6, that leaves a handful of values; elsewhere 1e-3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("torch")
pytest.importorskip("monai")

from gfscreen.config import read_plan
from gfscreen.networks.engines.select import load_engine
from gfscreen.networks.models.nnunet_checkpoint import convert_nnunet
from gfscreen.scan.nnunet_grid import restore_scores
from gfscreen.scan.volume import read_volume
from gfscreen.screening.budget import Allowance, Budget
from gfscreen.screening.patches import PatchStitcher, lesion_probability, read_patches
from gfscreen.screening.progress import no_progress
from gfscreen.screening.screening import prepare, screen
from gfscreen.screening.settings import ScreeningSettings
from tests.helpers.scans import dice

pytestmark = pytest.mark.shared
MEAN_DIFFERENCE = 2e-3
KINDS = ("plain", "resenc")


@pytest.fixture(scope="module")
def converted(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folders = {kind: tmp_path_factory.mktemp(kind) / "weights" for kind in KINDS}
    for kind, folder in folders.items():
        convert_nnunet(shared_dir / "reference" / "nnunet" / kind / "model", folder)
    return folders


def probability_of(weights: Path, image: Path, engine: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Lesion probability in full precision and mask, (i, j, k)."""
    plan, volume = read_plan(weights), read_volume(image)
    networks = load_engine(weights, device="cpu", engine=engine, precision="fp32", gpu_memory_limit_mb=None)
    prepared = prepare(volume, plan, ScreeningSettings(), Budget())
    mask = screen(volume, plan, networks, Budget(), prepared=prepared).mask
    patches: Any = prepared.patches
    stitcher = PatchStitcher(patches.scan.grid.shape, patches.config)
    allowance = Allowance(Budget(), float("inf"))
    assert read_patches(patches, patches.windows, stitcher, networks, allowance, no_progress) == len(patches.windows)
    z, y, x = patches.scan.grid.cropped_shape
    restored = restore_scores(stitcher.finish(), patches.scan.grid, ((0, z), (0, y), (0, x)))
    probability = np.zeros(volume.hu.shape, np.float32)
    view = patches.scan.grid.view(probability, volume)
    view[tuple(slice(*side) for side in patches.scan.grid.crop)] = lesion_probability(restored, patches.config)
    return probability, mask


@pytest.mark.parametrize("kind", KINDS)
def test_torch_gives_nnunets_probability_and_mask(converted, shared_dir, kind):
    place = shared_dir / "reference" / "nnunet" / kind
    probability, mask = probability_of(converted[kind], place / "image_0000.nii.gz", "torch")
    expected = np.load(place / "probability.npz")["lesion"].astype(np.float32)
    difference = np.abs(probability - expected)
    assert difference.mean() <= MEAN_DIFFERENCE / 2
    assert dice(mask, np.asarray(nib.load(place / "expected.nii.gz").dataobj)) >= 0.999
    # Away from the border nothing is left to explain.
    inner = tuple(slice(n // 8, n - n // 8) for n in difference.shape)
    assert difference[inner].max() <= 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_openvino_gives_torchs_probability(converted, shared_dir, kind):
    pytest.importorskip("openvino")
    image = shared_dir / "reference" / "nnunet" / kind / "image_0000.nii.gz"
    torchs, _ = probability_of(converted[kind], image, "torch")
    openvinos, _ = probability_of(converted[kind], image, "openvino")
    assert np.abs(torchs - openvinos).max() <= 1e-2
