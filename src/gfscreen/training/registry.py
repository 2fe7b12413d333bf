"""The public data sets of the method: 16 for training and internal validation, 7 for external validation.

Put together from the public description of the collection; membership and label values are to be checked against each
data set's own page, and its licence read, before use. Nothing is downloaded: `prepare` (prepare.py) works on folders
that a user has fetched. `None` for a licence means that it was not checked, not that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Region = Literal["chest", "abdomen", "both"]
Layout = Literal["decathlon", "kits", "folders", "dicom_seg"]


@dataclass(frozen=True)
class DataSet:
    """One public data set.

    lesion_values: label values that are lesions; other_values: organs in the same label, to be dropped. layout of the
    original: `decathlon` (imagesTr, labelsTr), `kits` (case_*/imaging.nii.gz, segmentation.nii.gz), `folders` (images
    and labels of equal names in two folders), `dicom_seg` (to be converted with a DICOM tool first).
    """

    key: str
    name: str
    lesion: str
    region: Region
    lesion_values: tuple[int, ...]
    other_values: tuple[int, ...]
    layout: Layout
    licence: str | None
    link: str
    role: Literal["training", "external"]


DATA_SETS: tuple[DataSet, ...] = (
    DataSet("msd03", "MSD Task03 Liver (LiTS)", "liver tumour", "abdomen", (2,), (1,), "decathlon",
            "CC BY-SA 4.0", "http://medicaldecathlon.com", "training"),
    DataSet("msd06", "MSD Task06 Lung", "lung tumour", "chest", (1,), (), "decathlon",
            "CC BY-SA 4.0", "http://medicaldecathlon.com", "training"),
    DataSet("msd07", "MSD Task07 Pancreas", "pancreas tumour and cyst", "abdomen", (2,), (1,), "decathlon",
            "CC BY-SA 4.0", "http://medicaldecathlon.com", "training"),
    DataSet("msd08", "MSD Task08 Hepatic Vessel", "liver tumour", "abdomen", (2,), (1,), "decathlon",
            "CC BY-SA 4.0", "http://medicaldecathlon.com", "training"),
    DataSet("msd10", "MSD Task10 Colon", "colon cancer", "abdomen", (1,), (), "decathlon",
            "CC BY-SA 4.0", "http://medicaldecathlon.com", "training"),
    DataSet("kits23", "KiTS23", "kidney tumour and cyst", "abdomen", (2, 3), (1,), "kits",
            "CC BY-NC-SA 4.0", "https://kits-challenge.org/kits23", "training"),
    DataSet("lidc", "LIDC-IDRI", "lung nodule", "chest", (1,), (), "dicom_seg",
            "CC BY 3.0", "https://www.cancerimagingarchive.net/collection/lidc-idri", "training"),
    DataSet("nsclc_radiomics", "NSCLC-Radiomics (Lung1)", "lung tumour", "chest", (1,), (), "dicom_seg",
            "CC BY-NC 3.0", "https://www.cancerimagingarchive.net/collection/nsclc-radiomics", "training"),
    DataSet("nsclc_pleural", "NSCLC PleThora", "pleural effusion", "chest", (1,), (), "folders",
            "CC BY-NC 3.0", "https://www.cancerimagingarchive.net/analysis-result/plethora", "training"),
    DataSet("covid19_20", "COVID-19-20", "COVID-19 lesion", "chest", (1,), (), "folders",
            None, "https://covid-segmentation.grand-challenge.org", "training"),
    DataSet("adrenal", "Adrenal-ACC-Ki67-Seg", "adrenocortical carcinoma", "abdomen", (1,), (), "dicom_seg",
            "CC BY 4.0", "https://www.cancerimagingarchive.net/collection/adrenal-acc-ki67-seg", "training"),
    DataSet("nih_lymph", "NIH CT Lymph Nodes", "lymph node, chest and abdomen", "both", (1,), (), "folders",
            "CC BY 3.0", "https://www.cancerimagingarchive.net/collection/ct-lymph-nodes", "training"),
    DataSet("deeplesion3d", "ULS23 DeepLesion3D", "lesions of all organs", "both", (1,), (), "folders",
            "CC BY-NC-SA 4.0", "https://uls23.grand-challenge.org", "training"),
    DataSet("uls_bone", "ULS23 Radboudumc Bone", "bone lesion", "both", (1,), (), "folders",
            "CC BY-NC-SA 4.0", "https://uls23.grand-challenge.org", "training"),
    DataSet("uls_pancreas", "ULS23 Radboudumc Pancreas", "pancreas lesion", "abdomen", (1,), (), "folders",
            "CC BY-NC-SA 4.0", "https://uls23.grand-challenge.org", "training"),
    DataSet("healthy", "Healthy scans", "none: lesion-free", "both", (1,), (), "folders",
            None, "https://www.codabench.org/competitions/2319", "training"),
    DataSet("flare23", "MICCAI FLARE23", "lesions of the abdomen and whole body", "both", (14,), tuple(range(1, 14)),
            "decathlon", "CC BY-NC-ND 4.0", "https://codalab.lisn.upsaclay.fr/competitions/12239", "external"),
    DataSet("flare24", "MICCAI FLARE24 Task 1 validation", "lesions of the whole body", "both", (1,), (), "decathlon",
            None, "https://www.codabench.org/competitions/2319", "external"),
    DataSet("ircadb", "3D-IRCADb-01", "liver tumour", "abdomen", (1,), (), "folders",
            "CC BY-NC-ND 3.0", "https://www.ircad.fr/research/data-sets/liver-segmentation-3d-ircadb-01", "external"),
    DataSet("panorama", "PANORAMA", "pancreatic ductal adenocarcinoma", "abdomen", (1,), tuple(range(2, 7)), "folders",
            "CC BY-NC 4.0", "https://panorama.grand-challenge.org", "external"),
    DataSet("rider", "RIDER Lung CT", "lung tumour", "chest", (1,), (), "dicom_seg",
            "CC BY 4.0", "https://www.cancerimagingarchive.net/collection/rider-lung-ct", "external"),
    DataSet("nsclc_radiogenomics", "NSCLC Radiogenomics", "lung tumour", "chest", (1,), (), "dicom_seg",
            "CC BY 3.0", "https://www.cancerimagingarchive.net/collection/nsclc-radiogenomics", "external"),
    DataSet("crlm", "Colorectal-Liver-Metastases", "liver metastasis", "abdomen", (1,), (), "dicom_seg",
            "CC BY 4.0", "https://www.cancerimagingarchive.net/collection/colorectal-liver-metastases", "external"),
)  # fmt: skip


def find(key: str) -> DataSet:
    """The data set of that key. Raises KeyError naming the known keys."""
    for item in DATA_SETS:
        if item.key == key:
            return item
    raise KeyError(f"{key}: no such data set; known are {', '.join(item.key for item in DATA_SETS)}")
