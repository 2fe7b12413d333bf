"""The list for the shared folder of real CT (its README describes it): which scan is on which side, and why.

Dev: LUNG1-003 and IBSI_pat_3 as asked, two sarcomas, and one trunk scan that nobody annotated, as a host for inserted
lesions outside the lungs. Everything else trains. LIDC-IDRI-0314 trains with the tight outline of its nodule. Digital
phantoms may be added to the training side, so that the demo's kind of scan is not unknown to the networks; they are
other phantoms than the demo's.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from gfscreen.errors import InputError
from gfscreen.files import write_atomically

DEV_PATIENTS = frozenset({"NSCLC_LUNG1-003", "IBSI_pat_3", "STS_035", "STS_040", "TotalSegmentator_example_ct_3mm"})

# Eight crops of large low-contrast tumours would otherwise outnumber everything else.
SARCOMA_WEIGHT = 0.15
# Where nobody annotated, hardly a voxel is known: what is no lesion is learnt from the others.
UNANNOTATED_WEIGHT = 0.3
PHANTOM_WEIGHT = 0.1


def shared_list(shared: Path, target: Path, phantoms: Path | None = None) -> dict[str, Any]:
    """The list of the shared data with paths relative to `target`'s folder. Raises InputError for another folder.

    phantoms: folder that `python -m eval cases` wrote; all of them train.
    """
    if not (shared / "images").is_dir() or not (shared / "lidc_voi").is_dir():
        raise InputError(f"{shared}: expected the folders images/ and lidc_voi/; name the shared data folder")

    def relative(path: Path) -> str:
        return os.path.relpath(path, target.parent)

    sides: dict[str, list[dict[str, Any]]] = {"training": [], "validation": []}
    images = [
        *(shared / "images").iterdir(),
        *(shared / "sarcoma" / "images").iterdir(),
        *(shared / "unlabelled").iterdir(),
    ]
    for image in sorted(images):
        name = image.name.removesuffix("_0000.nii.gz")
        label = image.parent.parent / "labels" / f"{name}.nii.gz"
        tight = shared / "labels_tight" / f"{name}.nii.gz"
        item: dict[str, Any] = {"image": relative(image), "label": None, "patient": name}
        if image.parent.parent.name == "sarcoma":
            item["weight"] = SARCOMA_WEIGHT
        if label.is_file() and image.parent.name == "images":
            item["label"] = relative(tight if tight.is_file() else label)
            if tight.is_file():
                item["loose_label"] = relative(label)
        if item["label"] is None:
            item["weight"] = UNANNOTATED_WEIGHT
        sides["validation" if name in DEV_PATIENTS else "training"].append(item)
    for image in sorted((phantoms / "images").glob("*_0000.nii.gz")) if phantoms else []:
        name = image.name.removesuffix("_0000.nii.gz")
        label = image.parent.parent / "labels" / f"{name}.nii.gz"
        phantom = {"image": relative(image), "label": relative(label), "patient": f"phantom {name}"}
        sides["training"].append({**phantom, "weight": PHANTOM_WEIGHT})
    return {
        "name": "shared CT",
        "lesion_values": [1],
        **sides,
        "nodules": relative(shared / "lidc_voi"),
        "shapes": relative(shared / "masklib"),
        "keep_in_training": ["LIDC-IDRI-0314"],
        "dev_percent": 25,
    }


def write_shared_list(shared: Path, target: Path, phantoms: Path | None = None) -> None:
    """Write that list as JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, (json.dumps(shared_list(shared, target, phantoms), indent=2) + "\n").encode())
