"""Data lists for training, Decathlon-style, and the checks before the first step.

A list is a JSON file; all paths are relative to it:

    {"name": "...", "lesion_values": [1],
     "training":   [{"image": "imagesTr/X_0000.nii.gz", "label": "labelsTr/X.nii.gz", "patient": "X"}, ...],
     "validation": [...],
     "nodules": "lidc_voi", "shapes": "masklib", "keep_in_training": ["LIDC-IDRI-0314"], "dev_percent": 25}

Lesions to insert are on the side that the hash of their patient says, but for the patients of `keep_in_training` and
`keep_in_validation`, of whom there are whole scans.

A folder is accepted for a list: its `dataset.json`, or every `images/X_0000.nii.gz` with its `labels/X.nii.gz`.

`label` null: nobody annotated the scan; it can host inserted lesions but is no negative, though `train-cells` takes
most of its cells for ordinary ones. `loose_label`: a wider outline to report against as well. `lesion_free` true, with
label null: nobody annotated the scan, but the list's maker vouches that it holds no lesion. `weight`: how often the
scan is drawn, against 1. `phantom` true: its lesions are drawn, not a patient's, and are not copied into other scans.
`lesion_values`: label values that are lesions; every other value but 0 is an error, unless it is listed in
`other_values` (no lesion) or `ignore_values` (nobody knows: neither lesion nor background). `patient` defaults to the
name; a patient on both sides is an error.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from gfscreen.errors import InputError

AFFINE_TOLERANCE_MM = 1e-2


@dataclass(frozen=True)
class LabelValues:
    """What the values of a list's labels mean: lesion, no lesion (besides 0), nobody knows. Any other is an error."""

    lesion: tuple[int, ...] = (1,)
    other: tuple[int, ...] = ()
    ignore: tuple[int, ...] = ()

    @property
    def known(self) -> frozenset[int]:
        """All values that a label may have."""
        return frozenset({0, *self.lesion, *self.other, *self.ignore})


ONE_IS_LESION = LabelValues()


@dataclass(frozen=True)
class Entry:
    """One scan of a list; paths are absolute."""

    name: str
    patient: str
    image: Path
    label: Path | None
    loose_label: Path | None = None
    weight: float = 1.0
    lesion_free: bool = False
    phantom: bool = False

    @property
    def unannotated(self) -> bool:
        """Whether nobody knows where the scan has lesions: without a label, and nobody vouches that it has none."""
        return self.label is None and not self.lesion_free


@dataclass(frozen=True)
class DataList:
    """A list that has been read and checked. nodules, shapes: folders of lesions to insert, or None."""

    name: str
    training: tuple[Entry, ...]
    validation: tuple[Entry, ...]
    label_values: LabelValues = ONE_IS_LESION
    nodules: Path | None = None
    shapes: Path | None = None
    keep_in_training: tuple[str, ...] = ()
    keep_in_validation: tuple[str, ...] = ()
    dev_percent: int = 25

    def on_dev_side(self, patient: str) -> bool:
        """Side of a patient of whom there is a lesion to insert."""
        if patient in self.keep_in_validation:
            return True
        return on_dev_side(patient, self.dev_percent, self.keep_in_training)


def on_dev_side(patient: str, dev_percent: int, keep_in_training: tuple[str, ...] = ()) -> bool:
    """Side of a patient, from the hash of its id alone: it never depends on the other patients."""
    if patient in keep_in_training:
        return False
    return int(hashlib.sha256(patient.encode()).hexdigest(), 16) % 100 < dev_percent


def _case_name(image: Path) -> str:
    name = image.name
    for ending in (".nii.gz", ".nii", ".mha", ".nrrd"):
        name = name.removesuffix(ending)
    return name.removesuffix("_0000")


def _entry(item: Any, folder: Path, where: str) -> Entry:
    if not isinstance(item, dict) or not isinstance(item.get("image"), str):
        raise InputError(f"{where}: expected an object with 'image' and 'label', got {item!r}; correct the list")
    image = folder / item["image"]
    label = folder / item["label"] if item.get("label") else None
    loose = folder / item["loose_label"] if item.get("loose_label") else None
    for path in (image, label, loose):
        if path is not None and not path.exists():
            raise InputError(f"{where}: names {path}, which does not exist; correct the list or restore the file")
    name = _case_name(image)
    lesion_free = item.get("lesion_free", False)
    if not isinstance(lesion_free, bool) or (lesion_free and label is not None):
        raise InputError(
            f"{where}: lesion_free is {lesion_free!r} with label {item.get('label')!r}; it may be true where label is "
            "null, else leave it out"
        )
    phantom = item.get("phantom", False)
    if not isinstance(phantom, bool):
        raise InputError(f"{where}: phantom is {phantom!r}; make it true for a digital phantom, else leave it out")
    patient, weight = str(item.get("patient", name)), float(item.get("weight", 1.0))
    return Entry(name, patient, image, label, loose, weight, lesion_free, phantom)


def _list_of_folder(folder: Path) -> dict[str, Any]:
    """The list of a folder with images/ and labels/: all cases train. Raises InputError."""
    images = sorted((folder / "images").glob("*_0000.nii.gz"))
    if not images:
        raise InputError(f"{folder}: holds neither dataset.json nor images/X_0000.nii.gz; name a data list")
    names = [image.name.removesuffix("_0000.nii.gz") for image in images]
    return {
        "name": folder.name,
        "training": [{"image": f"images/{n}_0000.nii.gz", "label": f"labels/{n}.nii.gz", "patient": n} for n in names],
    }


def read_list(path: Path) -> DataList:
    """Read a list, or a folder, and check what can be checked without reading voxels. Raises InputError."""
    try:
        if path.is_dir():
            path = path / "dataset.json"
            found = path.is_file()
            data = json.loads(path.read_text(encoding="utf-8")) if found else _list_of_folder(path.parent)
        else:
            data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as a data list ({error}); give a Decathlon-style JSON file") from error
    if not isinstance(data, dict) or not isinstance(data.get("training"), list):
        raise InputError(f"{path}: expected an object with a list 'training'; give a Decathlon-style JSON file")
    sides = {
        side: tuple(_entry(item, path.parent, f"{path}: {side}[{i}]") for i, item in enumerate(data.get(side) or []))
        for side in ("training", "validation")
    }
    if not any(entry.label for entry in sides["training"]):
        labels = path.parent / "labelsTr"
        state = "is empty" if labels.is_dir() and not any(labels.iterdir()) else "is not used by the list"
        raise InputError(f"{path}: no training scan has a label ({labels.name}/ {state}); add labels to the list")
    patients = [{entry.patient for entry in sides[side]} for side in ("training", "validation")]
    if both := sorted(patients[0] & patients[1]):
        raise InputError(f"{path}: patient {both[0]} is in training and in validation; keep each patient on one side")
    folders: dict[str, Path | None] = {}
    for key in ("nodules", "shapes"):
        folder = path.parent / data[key] if data.get(key) else None
        if folder is not None and not folder.is_dir():
            raise InputError(f"{path}: {key} names {folder}, which is no folder; correct the list")
        folders[key] = folder
    for entry in (*sides["training"], *sides["validation"]):
        _check_geometry(entry)
    return DataList(
        name=str(data.get("name", path.stem)),
        training=sides["training"],
        validation=sides["validation"],
        label_values=LabelValues(
            lesion=tuple(int(v) for v in data.get("lesion_values", [1])),
            other=tuple(int(v) for v in data.get("other_values", [])),
            ignore=tuple(int(v) for v in data.get("ignore_values", [])),
        ),
        nodules=folders["nodules"],
        shapes=folders["shapes"],
        keep_in_training=tuple(data.get("keep_in_training", [])),
        keep_in_validation=tuple(data.get("keep_in_validation", [])),
        dev_percent=int(data.get("dev_percent", 25)),
    )


def _header(path: Path) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    try:
        image = nib.load(path)
        return tuple(int(n) for n in image.shape), np.asarray(image.affine, dtype=np.float64)
    except (OSError, ImageFileError) as error:
        raise InputError(f"{path}: not readable as NIfTI ({error}); copy the file again") from error


def _check_geometry(entry: Entry) -> None:
    """Image and labels must share shape and position. Raises InputError."""
    for label in (entry.label, entry.loose_label):
        if label is None:
            continue
        (shape, affine), (label_shape, label_affine) = _header(entry.image), _header(label)
        if shape != label_shape:
            raise InputError(f"{label}: expected the image's shape {shape}, got {label_shape}; resample the label")
        corner = np.array([*shape, 1.0])
        shift = max(np.abs((affine - label_affine) @ corner).max(), np.abs(affine - label_affine)[:, 3].max())
        if shift > AFFINE_TOLERANCE_MM * 100:
            raise InputError(f"{label}: lies {shift:.1f} mm away from its image; correct the label's header")
