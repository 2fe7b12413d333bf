"""Every real scan: the region it is taken for, where chest ends, and a lesion mask there and back again."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from gfscreen.config import preset_plan
from gfscreen.run.report import region_detail
from gfscreen.scan.grid import ModelScan, sample_to_grid, to_model, to_native_mask
from gfscreen.scan.volume import Volume, read_volume, write_mask
from gfscreen.scan.volume.ras import ras_view
from gfscreen.screening.screening import Screening
from tests.helpers.nifti_files import assert_same_geometry, read_mask
from tests.helpers.scans import dice

pytestmark = pytest.mark.shared

# Published spacing and windows; the body mask of the shipped presets.
PLAN = replace(preset_plan("paper"), foreground="body")


@dataclass(frozen=True)
class Expected:
    """The right label, and where the split may fall, mm above the lowest slice (None: no chest or no abdomen).

    The ranges were read off coronal views: from the lowest recess of the lungs to the top of the higher dome.
    """

    label: str
    split_mm: tuple[float, float] | None


SCANS = {
    # Down to the kidneys: 102 mm of upper abdomen lie below the domes, and are screened as such.
    "images/NSCLC_LUNG1-001": Expected("chest", (50.0, 130.0)),
    "images/NSCLC_LUNG1-003": Expected("chest", (10.0, 90.0)),
    "images/IBSI_pat_3": Expected("chest", None),
    "images/LIDC-IDRI-0314": Expected("chest", (20.0, 90.0)),
    # Upper abdomens with the bases of the lungs at their top.
    "images/IRCADb_1.1": Expected("abdomen", (140.0, 200.0)),
    "unlabelled/CRLM-CT-1004": Expected("abdomen", (105.0, 170.0)),
    "unlabelled/NSCLCRG_R01-001_1.5mm": Expected("chest", (35.0, 95.0)),
    "unlabelled/RICORD-1A_001012_1.5mm": Expected("chest", (40.0, 90.0)),
    "unlabelled/TotalSegmentator_example_ct_3mm": Expected("abdomen", None),
    **{
        f"sarcoma/images/STS_{number}": Expected("abdomen", None)
        for number in ("003", "005", "008", "012", "018", "019", "035", "040")
    },
}


@functools.cache
def screened(path: Path) -> tuple[Volume, ModelScan]:
    volume = read_volume(path)
    return volume, to_model(volume, PLAN)


@pytest.fixture(params=SCANS)
def case(request: pytest.FixtureRequest, shared_dir: Path) -> tuple[str, Path]:
    return request.param, shared_dir / "data" / f"{request.param}_0000.nii.gz"


def test_no_scan_is_forgotten(shared_dir: Path) -> None:
    data = shared_dir / "data"
    found = {
        str(path.relative_to(data)).removesuffix("_0000.nii.gz")
        for folder in ("images", "unlabelled", "sarcoma/images")
        for path in (data / folder).glob("*_0000.nii.gz")
    }
    assert found == set(SCANS)


def test_region(case: tuple[str, Path]) -> None:
    name, path = case
    volume, scan = screened(path)
    expected = SCANS[name]
    assert scan.region.label == expected.label
    detail = region_detail(volume.geometry, Screening(np.zeros((1, 1, 1)), scan.region, 0, 0, 0, 0, None))
    split = detail["split_above_lowest_slice_mm"]
    if expected.split_mm is None:
        assert split is None
    else:
        assert expected.split_mm[0] <= split <= expected.split_mm[1]
    # Real CT in HU: nothing to warn about.
    assert volume.warnings == ()


def test_the_body_is_found_and_the_box_holds_all_of_it(case: tuple[str, Path]) -> None:
    _, path = case
    volume, scan = screened(path)
    body_ml = scan.anatomy.body.sum() * scan.anatomy.voxel_ml
    assert body_ml > 500
    # Soft tissue (muscle and organs, -50 to 150 HU) outside the box is at most a rim of noise and table.
    hu = ras_view(volume.hu, volume)
    inside = tuple(
        slice(round(b[0] * m / n), round(b[1] * m / n) + 1)
        for b, m, n in zip(scan.grid.box, scan.grid.spacing_mm, scan.grid.native_mm, strict=True)
    )
    soft = (hu > -50) & (hu < 150)
    assert soft[inside].sum() / soft.sum() > 0.985


def test_lesions_survive_the_way_to_the_model_grid_and_back(case: tuple[str, Path], tmp_path: Path) -> None:
    name, path = case
    label_path = path.parent.parent / "labels" / path.name.replace("_0000.nii.gz", ".nii.gz")
    if name.startswith("unlabelled/"):
        assert not label_path.exists()
        return
    volume, scan = screened(path)
    truth = read_volume(label_path).hu > 0
    assert truth.any()
    model = sample_to_grid(ras_view(truth.astype(np.uint8), volume), scan.grid, nearest=True)
    # No lesion lies outside the body's box. From 0.977 to 1 mm a lesion of 28 voxels loses one row, 4 %, along x and y.
    model_ml = model.sum() * float(np.prod(scan.grid.spacing_mm)) / 1000
    truth_ml = truth.sum() * float(np.prod(scan.grid.native_mm)) / 1000
    assert model_ml == pytest.approx(truth_ml, rel=0.1)
    # The body mask has voxels of 4 mm: a lesion at the skin or in a thin lung crop loses part of its rim to them. The
    # mask only chooses sub-volumes, so that costs nothing.
    assert scan.body[model > 0].mean() > 0.95
    mask = to_native_mask(model.astype(np.float32), scan.grid, volume, 0.5)
    # 2.9 ml and more: the smallest, LIDC's nodule of 2.9 ml at 2 mm slices, keeps 0.94.
    assert dice(mask, truth) >= 0.93
    write_mask(tmp_path / "mask.nii.gz", mask, volume.geometry)
    assert_same_geometry(path, tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.nii.gz"), mask)
