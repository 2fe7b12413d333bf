"""Turn a downloaded data set into the layout of training: imagesTr/X_0000.nii.gz, labelsTr/X.nii.gz, dataset.json.

    python -m gfscreen.training.prepare list
    python -m gfscreen.training.prepare msd06 --from Task06_Lung -o data/msd06 [--labels FOLDER] [--lesion-free]
    python -m gfscreen.training.prepare shared --from ../shared/data -o runs/data/shared.json

Images are linked, or copied where links are not possible; labels are rewritten as 0 and 1. The patient is the case's
name; a tenth of the patients, by the hash of the name, becomes the validation side.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

from gfscreen.errors import GFScreenError, InputError, UsageError
from gfscreen.files import write_atomically
from gfscreen.training.data import on_dev_side
from gfscreen.training.registry import DATA_SETS, DataSet, find
from gfscreen.training.shared_data import write_shared_list

log = logging.getLogger(__name__)

VALIDATION_PERCENT = 10
NIFTI = (".nii.gz", ".nii")


def _stem(path: Path) -> str:
    name = path.name
    for ending in NIFTI:
        name = name.removesuffix(ending)
    return name.removesuffix("_0000").removesuffix("_ct").removesuffix("_seg")


def _nifti_files(folder: Path) -> dict[str, Path]:
    """NIfTI files of a folder by case name, hidden files left out."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; name the downloaded original with --from")
    return {_stem(p): p for p in sorted(folder.iterdir()) if p.name.endswith(NIFTI) and not p.name.startswith(".")}


def find_cases(item: DataSet, source: Path, labels: Path | None) -> Iterator[tuple[str, Path, Path]]:
    """Name, image and label of each case of an original. Raises InputError where a label is missing."""
    if item.layout == "dicom_seg" and labels is None:
        raise InputError(
            f"{item.key}: comes as DICOM with segmentation objects; convert it to NIfTI first (images in one folder, "
            "labels of the same names in another), then call again with --from IMAGES --labels LABELS"
        )
    if item.layout == "kits" and labels is None:
        for folder in sorted(p for p in source.glob("case_*") if (p / "imaging.nii.gz").is_file()):
            yield folder.name, folder / "imaging.nii.gz", folder / "segmentation.nii.gz"
        return
    images = _nifti_files(source / "imagesTr" if item.layout == "decathlon" else source)
    masks = _nifti_files(labels or (source / "labelsTr" if item.layout == "decathlon" else source.parent / "labels"))
    if not masks:
        raise InputError(f"{item.key}: the label folder is empty; name it with --labels")
    for name, image in images.items():
        if name not in masks:
            raise InputError(f"{image}: has no label of that name; remove the image or restore the label")
        yield name, image, masks[name]


def _place(source: Path, target: Path) -> None:
    target.unlink(missing_ok=True)
    if source.name.endswith(".nii.gz"):
        try:
            target.symlink_to(source.resolve())
        except OSError:
            shutil.copyfile(source, target)
    else:
        nib.save(nib.load(source), target)


def _write_label(item: DataSet, source: Path, target: Path) -> int:
    """Write the lesions of a label as 0 and 1; returns the number of lesion voxels. Raises InputError."""
    image = nib.load(source)
    values = np.asarray(np.asanyarray(image.dataobj))
    unknown = sorted(set(np.unique(values).tolist()) - {0, *item.lesion_values, *item.other_values})
    if unknown:
        known = ", ".join(map(str, (*item.lesion_values, *item.other_values)))
        raise InputError(f"{source}: label value {unknown[0]:g} is unknown in {item.name}; known are 0, {known}")
    lesion = np.isin(values, item.lesion_values).astype(np.uint8)
    nib.save(nib.Nifti1Image(lesion, image.affine), target)
    return int(lesion.sum())


def prepare(item: DataSet, source: Path, target: Path, labels: Path | None = None, *, lesion_free: bool = False) -> int:
    """Write the data set's layout; returns the number of cases. lesion_free: every label is empty, none is needed."""
    images_to, labels_to = target / "imagesTr", target / "labelsTr"
    images_to.mkdir(parents=True, exist_ok=True)
    labels_to.mkdir(exist_ok=True)
    sides: dict[str, list[dict[str, str]]] = {"training": [], "validation": []}
    if lesion_free:
        cases: Iterator[tuple[str, Path, Path | None]] = ((n, p, None) for n, p in _nifti_files(source).items())
    else:
        cases = ((name, image, label) for name, image, label in find_cases(item, source, labels))
    for name, image, label in cases:
        case = f"{item.key}_{name}"
        _place(image, images_to / f"{case}_0000.nii.gz")
        if label is None:
            header = nib.load(image)
            nib.save(nib.Nifti1Image(np.zeros(header.shape, np.uint8), header.affine), labels_to / f"{case}.nii.gz")
        elif not label.is_file():
            raise InputError(f"{label}: no label for {image.name}; remove the image or restore the label")
        elif _write_label(item, label, labels_to / f"{case}.nii.gz") == 0:
            log.warning("%s: the label holds no lesion", case)
        side = "validation" if on_dev_side(case, VALIDATION_PERCENT) else "training"
        entry = {"image": f"imagesTr/{case}_0000.nii.gz", "label": f"labelsTr/{case}.nii.gz", "patient": case}
        sides[side].append(entry)
    count = sum(len(entries) for entries in sides.values())
    if count == 0:
        raise InputError(f"{source}: holds no case of {item.name} in the layout {item.layout!r}; check --from")
    description = {"name": item.name, "licence": item.licence, "link": item.link, "lesion_values": [1], **sides}
    write_atomically(target / "dataset.json", (json.dumps(description, indent=2) + "\n").encode())
    return count


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0; 1 if the data cannot be used; 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="python -m gfscreen.training.prepare", description="Prepare training data.")
    parser.add_argument("dataset", help="key of a data set, 'list', or 'shared'")
    parser.add_argument("--from", dest="source", type=Path, help="folder of the downloaded original")
    parser.add_argument("--labels", type=Path, help="folder of the labels, if they lie elsewhere")
    parser.add_argument("-o", "--output", type=Path, help="folder to write (for 'shared': the list)")
    parser.add_argument("--lesion-free", action="store_true", help="the scans are healthy: write empty labels")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if arguments.dataset == "list":
            for item in DATA_SETS:
                values = "/".join(map(str, item.lesion_values))
                log.info("%-20s %-9s %-8s lesion=%-5s %s (%s), %s", item.key, item.role, item.region, values, item.name,
                         item.licence or "licence not checked", item.link)  # fmt: skip
            return 0
        if arguments.source is None or arguments.output is None:
            raise UsageError("--from and -o are needed")
        if arguments.dataset == "shared":
            write_shared_list(arguments.source, arguments.output)
            return 0
        try:
            item = find(arguments.dataset)
        except KeyError as error:
            raise UsageError(str(error.args[0])) from error
        count = prepare(item, arguments.source, arguments.output, arguments.labels, lesion_free=arguments.lesion_free)
        log.info("%s: %d cases in %s", item.name, count, arguments.output)
    except UsageError as error:
        log.error("%s", error)
        return 2
    except GFScreenError as error:
        log.error("%s", error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
