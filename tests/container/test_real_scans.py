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

# What the scans show, from the table of the shared data. Sarcoma crops show limbs and trunk walls: soft-tissue window.
REGIONS = {
    "IBSI_pat_3": "chest",
    "IRCADb_1.1": "abdomen",
    "LIDC-IDRI-0314": "chest",
    "NSCLC_LUNG1-001": "chest",
    "NSCLC_LUNG1-003": "chest",
    "CRLM-CT-1004": "abdomen",
    "NSCLCRG_R01-001_1.5mm": "chest",
    "RICORD-1A_001012_1.5mm": "chest",
    "TotalSegmentator_example_ct_3mm": "abdomen",
}


def test_every_real_scan_gives_a_mask_with_its_geometry(shared_dir: Path, image: str, tmp_path: Path) -> None:
    inputs, outputs, reports = (tmp_path / name for name in ("inputs", "outputs", "reports"))
    for folder in (inputs, outputs, reports):
        folder.mkdir()
        folder.chmod(0o777)
    for folder in ("images", "unlabelled", "sarcoma/images"):
        for scan in sorted((shared_dir / "data" / folder).glob("*_0000.nii.gz")):
            shutil.copy(scan, inputs / scan.name)
    scans = sorted(inputs.iterdir())
    assert len(scans) == 17

    # A twentieth of each scan's sub-volumes through both networks; what Focus says of the others takes ten minutes.
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
    found = {name: cases[name]["region"] for name in REGIONS}
    assert found == REGIONS
    assert {case["region"] for name, case in cases.items() if name.startswith("STS_")} == {"abdomen"}


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
