"""The list for the shared folder of real CT (its README describes it): which scan is on which side, and why.

The development side has the scans of the first split, so that figures can be compared, and those of a second one, drawn
once when sixteen scans were added and before anything was trained on them: half of the whole chests with nodules, of
the trunks and abdomens and of the chests that nobody annotated, each group in the order of sha256("second split of
NAME"); both chests in which four readers saw no nodule, and the renal tumour, which no network had seen. Everything
else trains. LIDC-IDRI-0314 trains with the tight outline of its nodule. Digital phantoms may be added to the training
side, so that the demo's kind of scan is not unknown to the networks; they are other phantoms than the demo's.
"""

from __future__ import annotations

import json
import lzma
import os
from pathlib import Path
from typing import Any

from gfscreen.errors import InputError
from gfscreen.files import write_atomically
from gfscreen.training.data.liver_example import PATIENT, write_liver_example
from gfscreen.training.data.outlined_examples import LIVER_METASTASES, write_liver_metastases, write_outlined_examples

FIRST_SPLIT = frozenset({"NSCLC_LUNG1-003", "IBSI_pat_3", "STS_035", "STS_040", "TotalSegmentator_example_ct_3mm"})
SECOND_SPLIT = frozenset({
    "lidc_0003_full", "lidc_0005_full", "lidc_0293_full", "lidc_0295_full", "kits_00064_late",
    "cort_liver", "tcgathca_de_a4ma", "tcgacoad_ay4070", "ricord1a_000082", "ts_aorta_crop",
})  # fmt: skip
DEV_SCANS = FIRST_SPLIT | SECOND_SPLIT
# Whole chests of patients whose nodules are also among the crops: both are on one side.
LIDC_PATIENTS = {name: f"LIDC-IDRI-{name[5:9]}" for name in (f"lidc_{n}_full" for n in ("0001", "0003", "0005"))}

# Eight crops of large low-contrast tumours would otherwise outnumber everything else.
SARCOMA_WEIGHT = 0.15
# Where nobody annotated, hardly a voxel is known: what is no lesion is learnt from the others.
UNANNOTATED_WEIGHT = 0.3
PHANTOM_WEIGHT = 0.1


def _unpacked(more: Path, target: Path) -> list[Path]:
    """The scans of `more/`, which are kept as .nii.xz, as .nii beside the list; those already there stay."""
    images = []
    for packed in sorted((more / "images").glob("*_0000.nii.xz")):
        image = target.parent / "more" / packed.name.removesuffix(".xz")
        if not image.is_file():
            image.parent.mkdir(parents=True, exist_ok=True)
            try:
                write_atomically(image, lzma.decompress(packed.read_bytes()))
            except (lzma.LZMAError, EOFError) as error:
                raise InputError(f"{packed}: not readable as xz ({error}); copy the file again") from error
        images.append(image)
    return images


def shared_list(
    shared: Path,
    target: Path,
    phantoms: Path | None = None,
    liver_example: Path | None = None,
    outlined_examples: list[Path] | None = None,
) -> dict[str, Any]:
    """The list of the shared data with paths relative to `target`'s folder. Raises InputError for another folder.

    The scans of its `more/`, where it has one, are unpacked beside the list.

    phantoms: folder that `python -m eval cases` wrote; all of them train. liver_example: the wheel of
    liver_example.py, whose scan is written beside the list and trains. outlined_examples: the wheels of
    outlined_examples.py, whose scans do, too; with them the abdomen that we outlined is no longer unannotated.
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
        sides["validation" if name in DEV_SCANS else "training"].append(item)
    for image in _unpacked(shared / "more", target):
        name = image.name.removesuffix("_0000.nii")
        label = shared / "more" / "labels" / f"{name}.nii.gz"
        item = {"image": relative(image), "label": None, "patient": LIDC_PATIENTS.get(name, name)}
        if label.is_file():
            item["label"] = relative(label)
        elif outlined_examples and name == LIVER_METASTASES:
            item["label"] = relative(write_liver_metastases(image, target.parent / "outlined"))
        else:
            item["weight"] = UNANNOTATED_WEIGHT
        sides["validation" if name in DEV_SCANS else "training"].append(item)
    for image in sorted((phantoms / "images").glob("*_0000.nii.gz")) if phantoms else []:
        name = image.name.removesuffix("_0000.nii.gz")
        label = image.parent.parent / "labels" / f"{name}.nii.gz"
        phantom = {"image": relative(image), "label": relative(label), "patient": f"phantom {name}"}
        sides["training"].append({**phantom, "weight": PHANTOM_WEIGHT, "phantom": True})
    if liver_example is not None:
        image, label = write_liver_example(liver_example, target.parent / "liver")
        item = {"image": relative(image), "label": relative(label), "patient": PATIENT}
        sides["training"].append(item)
    for image, label, patient in write_outlined_examples(outlined_examples or [], target.parent / "outlined"):
        sides["training"].append({"image": relative(image), "label": relative(label), "patient": patient})
    return {
        "name": "shared CT",
        "lesion_values": [1],
        "ignore_values": [2],
        **sides,
        "nodules": relative(shared / "lidc_voi"),
        "shapes": relative(shared / "masklib"),
        "keep_in_training": ["LIDC-IDRI-0314", LIDC_PATIENTS["lidc_0001_full"]],
        "keep_in_validation": [LIDC_PATIENTS["lidc_0003_full"], LIDC_PATIENTS["lidc_0005_full"]],
        "dev_percent": 25,
    }


def write_shared_list(
    shared: Path,
    target: Path,
    phantoms: Path | None = None,
    liver_example: Path | None = None,
    outlined_examples: list[Path] | None = None,
) -> None:
    """Write that list as JSON."""
    target.parent.mkdir(parents=True, exist_ok=True)
    content = shared_list(shared, target, phantoms, liver_example, outlined_examples)
    write_atomically(target, (json.dumps(content, indent=2) + "\n").encode())
