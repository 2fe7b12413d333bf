"""A list to train on."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np


def write_training_list(folder: Path) -> Path:
    """Scan A, an ellipse of soft tissue with a bright block that is its lesion, and `list.json` to train on it."""
    i, j = np.indices((100, 90))
    hu = np.full((100, 90, 44), -1000, np.int16)
    hu[((i - 50) / 45) ** 2 + ((j - 45) / 40) ** 2 <= 1] = 60
    hu[40:60, 40:60, 15:25] = 140
    label = (hu == 140).astype(np.uint8)
    affine = np.diag([-1.0, -1.0, 3.0, 1.0])
    entry = {"image": "imagesTr/A_0000.nii.gz", "label": "labelsTr/A.nii.gz"}
    for key, array in (("image", hu), ("label", label)):
        (folder / entry[key]).parent.mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, affine), folder / entry[key])
    path = folder / "list.json"
    path.write_text(json.dumps({"training": [entry]}))
    return path
