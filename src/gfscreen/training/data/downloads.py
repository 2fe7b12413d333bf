"""Cases of a downloaded original: which image belongs to which label, under which name, of which patient.

Layouts, as the downloads come:

    decathlon  imagesTr/X.nii.gz, labelsTr/X.nii.gz
    kits       case_NNNNN/imaging.nii.gz, case_NNNNN/segmentation.nii.gz
    paired     X_ct.nii.gz and X_seg.nii.gz in one folder
    folders    images in one folder (X.nii.gz or X_0000.nii.gz), labels of the same names in another, given by --labels
    dicom_seg  one folder per DICOM series, as the NBIA Data Retriever writes it (dicom_seg.py)
    converted  DICOM or other files that the user converts to `folders` first
    scans      X.nii.gz, X_0000.nii.gz or X/ct.nii.gz without labels: lesion-free

Every layout but `kits` and `paired` may be given as `folders` too, which is how converted DICOM comes in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from gfscreen.errors import InputError
from gfscreen.training.data import dicom_seg
from gfscreen.training.data.public_data_sets import DataSet

NIFTI = (".nii.gz", ".nii")


@dataclass(frozen=True)
class DownloadedCase:
    """One scan of an original, under its name there.

    image: NIfTI file, or the folder of a DICOM series. labels: its NIfTI label, or DICOM segmentation objects; empty
    for a lesion-free scan.
    """

    stem: str
    image: Path
    labels: tuple[Path, ...]


def published_name(item: DataSet, stem: str) -> str:
    """The case's name in the method's published lists, e.g. KiTS23_case_00525."""
    return item.prefix + stem.removeprefix(item.strip)


def patient_of(item: DataSet, stem: str) -> str:
    """The patient: what the data set's pattern finds in the published or the original name, else the published name."""
    name = published_name(item, stem)
    found = re.search(item.patient, f"{name} {stem}") if item.patient else None
    return found.group(0) if found else name


def find_cases(
    item: DataSet, source: Path, labels: Path | None = None, *, lesion_free: bool = False
) -> list[DownloadedCase]:
    """All cases of an original, by name. labels: folder of the labels, if they lie apart from the images.

    Raises InputError for a folder that is not there, an image without label, a label without image, two files of one
    name, and an original without a case of the data set.
    """
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; name the downloaded original with --from")
    if labels is not None and not labels.is_dir():
        raise InputError(f"{labels}: no such folder; name the folder of the labels with --labels")
    if lesion_free or item.layout == "scans":
        cases = [DownloadedCase(stem, path, ()) for stem, path in _scans(source).items()]
    elif labels is not None:
        cases = _pair(_by_stem(_nifti(source)), _by_stem(_nifti(labels), item.label_suffix), item)
    elif item.layout == "decathlon":
        images, masks = source / "imagesTr", source / "labelsTr"
        for folder in (images, masks):
            if not folder.is_dir():
                raise InputError(f"{folder}: no such folder; --from is the folder that holds imagesTr and labelsTr")
        cases = _pair(_by_stem(_nifti(images, deep=False)), _by_stem(_nifti(masks, deep=False)), item)
    elif item.layout == "kits":
        cases = _kits(source)
    elif item.layout == "paired":
        files = _nifti(source, deep=False)
        cases = _pair(_by_stem(files, "_ct"), _by_stem(files, "_seg"), item)
    elif item.layout == "dicom_seg":
        cases = [DownloadedCase(stem, ct, segmentations) for stem, ct, segmentations in dicom_seg.find_series(source)]
    else:
        raise InputError(
            f"{item.key}: its labels lie apart from its images"
            + (", and it comes in files that must be converted to NIfTI first" if item.layout == "converted" else "")
            + "; call again with --from IMAGES --labels LABELS, files of the same names"
        )
    cases = [case for case in cases if case.stem.startswith(item.pick)]
    if not cases:
        raise InputError(f"{source}: holds no case of {item.name} in the layout {item.layout!r}; check --from")
    return sorted(cases, key=lambda case: case.stem)


def _nifti(folder: Path, *, deep: bool = True) -> list[Path]:
    """NIfTI files of a folder, by default of its folders too; hidden files are left out."""
    found = folder.rglob("*") if deep else folder.iterdir()
    return sorted(p for p in found if p.name.endswith(NIFTI) and not p.name.startswith("."))


def _stem(path: Path) -> str:
    name = path.name
    for ending in NIFTI:
        name = name.removesuffix(ending)
    return name.removesuffix("_0000")


def _by_stem(files: Iterable[Path], suffix: str = "") -> dict[str, Path]:
    """Files by case name; only those that end in `suffix`, which is cut. Raises InputError for two of one name."""
    found: dict[str, Path] = {}
    for path in files:
        if not _stem(path).endswith(suffix):
            continue
        stem = _stem(path).removesuffix(suffix)
        if stem in found:
            raise InputError(f"{path}: has the case name {stem!r} of {found[stem]}; remove one of the two")
        found[stem] = path
    return found


def _pair(images: dict[str, Path], labels: dict[str, Path], item: DataSet) -> list[DownloadedCase]:
    images, labels = ({s: p for s, p in d.items() if s.startswith(item.pick)} for d in (images, labels))
    for one, other, missing in ((images, labels, "label"), (labels, images, "image")):
        if alone := sorted(set(one) - set(other)):
            more = f" (and {len(alone) - 1} more such)" if len(alone) > 1 else ""
            raise InputError(
                f"{one[alone[0]]}: has no {missing} of the case name {alone[0]!r}{more}; "
                f"restore the {missing}, or remove the file"
            )
    return [DownloadedCase(stem, path, (labels[stem],)) for stem, path in images.items()]


def _kits(source: Path) -> list[DownloadedCase]:
    cases = []
    for folder in sorted(p for p in source.glob("case_*") if p.is_dir()):
        image, label = folder / "imaging.nii.gz", folder / "segmentation.nii.gz"
        for path in (image, label):
            if not path.is_file():
                raise InputError(f"{path}: no such file; download the case again, or remove its folder")
        cases.append(DownloadedCase(folder.name, image, (label,)))
    return cases


def _scans(source: Path) -> dict[str, Path]:
    found = _by_stem(_nifti(source, deep=False))
    for path in sorted(source.glob("*/ct.nii.gz")):
        if path.parent.name in found:
            raise InputError(f"{path}: has the case name of {found[path.parent.name]}; remove one of the two")
        found[path.parent.name] = path
    return found
