"""Turn downloaded data sets into the layout of training: imagesTr/X_0000.nii.gz, labelsTr/X.nii.gz, dataset.json.

    gfscreen prepare msd06 --from Task06_Lung -o data [--labels FOLDER] [--only LIST] [--lesion-free]

Cases get the names of the method's published lists, so several data sets go into one folder and one dataset.json, and
the published lists name the same files. NIfTI images are linked, or copied where links are not possible; labels are
rewritten as 0 and 1. A fifth of the patients, by the hash of the patient's id, is the validation side: the data sets
that share patients agree on their side.
"""

from __future__ import annotations

import gzip
import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from gfscreen.errors import InputError
from gfscreen.files import TEMPORARY_PREFIX, write_atomically
from gfscreen.training.data import dicom_seg
from gfscreen.training.data.downloads import DownloadedCase, find_cases, patient_of, published_name
from gfscreen.training.data.lists import on_dev_side
from gfscreen.training.data.public_data_sets import (
    VALIDATION_PERCENT,
    DataSet,
)

log = logging.getLogger(__name__)


def _read(path: Path) -> tuple[NDArray[Any], NDArray[np.float64]]:
    try:
        image = nib.load(path)
        return np.asarray(image.dataobj), np.asarray(image.affine, dtype=np.float64)
    except (OSError, EOFError, ValueError, ImageFileError) as error:
        raise InputError(f"{path}: not readable as NIfTI ({error}); download the file again") from error


def _shape(path: Path) -> tuple[int, ...]:
    try:
        return tuple(int(n) for n in nib.load(path).shape)
    except (OSError, EOFError, ImageFileError) as error:
        raise InputError(f"{path}: not readable as NIfTI ({error}); download the file again") from error


def _save(array: NDArray[Any], affine: NDArray[np.float64], target: Path) -> None:
    write_atomically(target, gzip.compress(nib.Nifti1Image(array, affine).to_bytes(), compresslevel=1))


def _place(source: Path, target: Path) -> None:
    """Link or copy an image; what lies at the target is replaced at once."""
    if not source.name.endswith(".nii.gz"):
        _save(*_read(source), target)
        return
    temporary = target.with_name(f"{TEMPORARY_PREFIX}{target.name}")
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(os.path.abspath(source))  # noqa: PTH100  # a link to a link stays what it is
    except OSError:
        shutil.copyfile(source, temporary)
    temporary.replace(target)


def _lesions(item: DataSet, path: Path, shape: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The lesions of a NIfTI label as 0 and 1, and its affine. Raises InputError."""
    values, affine = _read(path)
    if values.shape != shape:
        raise InputError(f"{path}: expected the image's shape {shape}, got {values.shape}; resample the label")
    unknown = sorted(set(np.unique(values).tolist()) - {0, *item.lesion_values, *item.other_values})
    if unknown:
        known = ", ".join(map(str, sorted((0, *item.lesion_values, *item.other_values))))
        raise InputError(f"{path}: label value {unknown[0]:g} is unknown in {item.name}; known are {known}")
    return np.isin(values, item.lesion_values).astype(np.uint8), affine


def _convert(item: DataSet, case: DownloadedCase, image: Path, label: Path) -> None:
    """Write image and label of one case. Raises InputError, and then writes neither."""
    if case.image.is_dir():
        volume = dicom_seg.read_ct(case.image)
        lesions = dicom_seg.read_label(case.labels, volume.geometry, item.lesion_segments, item.other_segments)
        affine = volume.geometry.affine_ras_mm
        _save(volume.hu, affine, image)
    else:
        shape = _shape(case.image)
        if case.labels:
            lesions, affine = _lesions(item, case.labels[0], shape)
        else:
            lesions, affine = np.zeros(shape, np.uint8), np.asarray(nib.load(case.image).affine)
        _place(case.image, image)
    _save(lesions, affine, label)
    if case.labels and not lesions.any():
        log.warning("%s: the label holds no lesion", label.name)


def names_of(path: Path) -> frozenset[str]:
    """Case names of a published list, training and validation. Raises InputError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return frozenset(str(entry["name"]) for side in ("training", "validation") for entry in data[side])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: not readable as a published list ({error!r}); give one of its jsons/*.json"
        ) from error


def _write_list(item: DataSet, entries: dict[str, list[dict[str, str]]], target: Path) -> None:
    """Write dataset.json; entries that other data sets have in it are kept."""
    path = target / "dataset.json"
    try:
        old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: not readable as a data list ({error}); remove it, and prepare again") from error
    kept = {side: [e for e in old.get(side, []) if e.get("dataset") != item.key] for side in entries}
    sides = {side: sorted(kept[side] + entries[side], key=lambda e: e["name"]) for side in entries}
    source = {
        "name": item.name,
        "licence": item.licence,
        "link": item.link,
        "unconfirmed": list(item.unconfirmed),
    }
    data = {
        "name": "public CT",
        "modality": {"0": "CT"},
        "tensorImageSize": "3D",
        "labels": {"0": "background", "1": "lesion"},
        "lesion_values": [1],
        "dev_percent": VALIDATION_PERCENT,
        "sources": {**old.get("sources", {}), item.key: source},
        "numTraining": len(sides["training"]),
        "numValidation": len(sides["validation"]),
        **sides,
    }
    write_atomically(path, (json.dumps(data, indent=2) + "\n").encode())


def prepare(
    item: DataSet,
    source: Path,
    target: Path,
    labels: Path | None = None,
    *,
    only: frozenset[str] | None = None,
    lesion_free: bool = False,
) -> tuple[int, list[str]]:
    """Write the data set's cases and list; returns how many were written, and the errors of those that were not.

    only: published names of the cases to take. lesion_free: every label is empty, none is needed. A case that cannot be
    converted is left out of the list, the others go on. Raises InputError if the original cannot be used at all.
    """
    cases = find_cases(item, source, labels, lesion_free=lesion_free)
    if only is not None:
        cases = [case for case in cases if published_name(item, case.stem) in only]
        if not cases:
            raise InputError(f"{source}: holds none of the {len(only)} cases of the list; check --only")
    for folder in ("imagesTr", "labelsTr"):
        (target / folder).mkdir(parents=True, exist_ok=True)
    entries: dict[str, list[dict[str, str]]] = {"training": [], "validation": []}
    errors: list[str] = []
    for case in cases:
        name, patient = published_name(item, case.stem), patient_of(item, case.stem)
        entry = {"image": f"imagesTr/{name}_0000.nii.gz", "label": f"labelsTr/{name}.nii.gz"}
        try:
            _convert(item, case, target / entry["image"], target / entry["label"])
        except InputError as error:
            errors.append(str(error))
            log.error("%s", error)
            continue
        side = "validation" if on_dev_side(patient, VALIDATION_PERCENT) else "training"
        entries[side].append({**entry, "name": name, "patient": patient, "dataset": item.key})
    count = sum(len(found) for found in entries.values())
    if count:
        _write_list(item, entries, target)
    return count, errors
