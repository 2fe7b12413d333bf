"""Real CT through the real container, locked down: identical geometry, and the right region for each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.container.docker import run_container
from tests.helpers.nifti_files import assert_same_geometry, read_mask

pytestmark = [pytest.mark.container, pytest.mark.shared, pytest.mark.slow]

# Scans of every source and what they show, from the table of the shared data; sarcoma crops show limbs and trunk walls:
# soft-tissue window. What needs no network is asked of every scan in tests/golden/test_shared_scans.py.
REGIONS = {
    "images/LIDC-IDRI-0314": "chest",
    "images/IRCADb_1.1": "abdomen",
    "unlabelled/CRLM-CT-1004": "abdomen",
    "unlabelled/RICORD-1A_001012_1.5mm": "chest",
    "sarcoma/images/STS_003": "abdomen",
    "sarcoma/images/STS_040": "abdomen",
}


def test_real_scans_give_masks_with_their_geometry(shared_dir: Path, image: str, tmp_path: Path) -> None:
    inputs, outputs, reports = (tmp_path / name for name in ("inputs", "outputs", "reports"))
    for folder in (inputs, outputs, reports):
        folder.mkdir()
        folder.chmod(0o777)
    for name in REGIONS:
        scan = shared_dir / "data" / f"{name}_0000.nii.gz"
        shutil.copy(scan, inputs / scan.name)
    scans = sorted(inputs.iterdir())

    # A twentieth of each scan's sub-volumes through both networks: what Focus says of the others takes minutes.
    environment = {"GFSCREEN_TIME_LIMIT": "", "GFSCREEN_KEEP_SHARE": "0.05"}
    result = run_container(image, inputs, outputs, reports=reports, locked_down=True, environment=environment)
    assert result.returncode == 0, result.stderr

    assert sorted(path.name for path in outputs.iterdir()) == [s.name.replace("_0000", "") for s in scans]
    for scan in scans:
        mask_path = outputs / scan.name.replace("_0000", "")
        assert_same_geometry(scan, mask_path)
        assert read_mask(mask_path).dtype == np.uint8
    cases = {case["name"]: case for case in json.loads((reports / "report.json").read_text())["cases"]}
    assert {case["status"] for case in cases.values()} == {"ok"}
    assert all(case["windows_done"] == case["windows_kept"] > 0 for case in cases.values())
    assert {name: cases[Path(name).name]["region"] for name in REGIONS} == REGIONS


@pytest.mark.parametrize("name", ["images/IBSI_pat_3", "unlabelled/TotalSegmentator_example_ct_3mm"])
def test_a_real_scan_as_the_plan_has_it(name: str, shared_dir: Path, image: str, tmp_path: Path) -> None:
    """A chest and an abdomen by the weights' own gate, to the end."""
    inputs, outputs, reports = (tmp_path / name for name in ("inputs", "outputs", "reports"))
    for folder in (inputs, outputs, reports):
        folder.mkdir()
        folder.chmod(0o777)
    scan = shared_dir / "data" / f"{name}_0000.nii.gz"
    shutil.copy(scan, inputs / scan.name)
    environment = {"GFSCREEN_TIME_LIMIT": ""}
    result = run_container(image, inputs, outputs, reports=reports, locked_down=True, environment=environment)
    assert result.returncode == 0, result.stderr
    assert_same_geometry(scan, outputs / scan.name.replace("_0000", ""))
    (case,) = json.loads((reports / "report.json").read_text())["cases"]
    assert case["status"] == "ok"
    assert case["windows_done"] == case["windows_kept"] > 0
