"""The public data sets of the method: 16 that train and validate, healthy scans, and the external ones that are named.

What was read, and what was not, is part of each row: `source` says where, `checked` which facts were found there. A
fact that is not in `checked` is unconfirmed, whatever the row says, and `prepare list` shows it as such; None means
that nothing was found. Membership is taken from the method's published repository: the 16 names are the keys of
utils/utils.py, the cases those of jsons/*.json (4 in 5 train, 1 in 5 validates). Of the 7 external sets it names
three (val_GF_external.py); the other four are not listed here. Licences of TCIA collections are those of each series
in the index of the NCI Imaging Data Commons. Nothing is downloaded. Read a data set's own terms before you use it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from gfscreen.errors import UsageError

Region = Literal["chest", "abdomen", "both"]
Role = Literal["training", "healthy", "external"]
Layout = Literal["decathlon", "kits", "paired", "folders", "dicom_seg", "converted", "scans"]
Fact = Literal["membership", "labels", "licence", "link", "layout"]

FACTS: tuple[Fact, ...] = ("membership", "labels", "licence", "link", "layout")
UNNAMED_EXTERNAL = 4  # of 7: the published code names three
VALIDATION_PERCENT = 20  # 428 of 2143, 372 of 1863 and 157 of 785 cases of the published lists


@dataclass(frozen=True)
class DataSet:
    """One public data set.

    lesion_values: label values that are lesions; other_values: organs in the same label, to be dropped. For DICOM
    segmentation objects, the beginnings of the segments' names, in lower case (lesion_segments empty: every segment
    is a lesion). prefix and strip: the published case name is the prefix and the original name without `strip`.
    patient: pattern, searched in the case name and the original name; empty: each case is a patient of its own.
    pick: cases of the original whose name begins so are taken. label_suffix: ending of the labels' names.
    """

    key: str
    name: str
    lesion: str
    region: Region
    role: Role
    layout: Layout
    licence: str | None
    link: str
    source: tuple[str, ...]
    checked: tuple[Fact, ...] = FACTS
    lesion_values: tuple[int, ...] = (1,)
    other_values: tuple[int, ...] = ()
    lesion_segments: tuple[str, ...] = ()
    other_segments: tuple[str, ...] = ()
    prefix: str = ""
    strip: str = ""
    patient: str = ""
    pick: str = ""
    label_suffix: str = ""
    note: str = ""

    @property
    def unconfirmed(self) -> tuple[Fact, ...]:
        """Facts of this row that no source confirmed."""
        return tuple(fact for fact in FACTS if fact not in self.checked)


LISTS = "https://github.com/Luffy03/GF-Screen: utils/utils.py, jsons/"
EXTERNAL = "https://github.com/Luffy03/GF-Screen: val_GF_external.py"
MSD = ("http://medicaldecathlon.com/index.html", "medvision_ds: MSD planner (values of every task)",
       "https://github.com/MIC-DKFZ/nnUNet: nnunetv2/dataset_conversion/convert_MSD_dataset.py", LISTS)  # fmt: skip
IDC = "PyPI idc-index-data 25.0.5: licence, DOI and modality of each series"
TORCH_EM = "https://github.com/constantinpape/torch-em: torch_em/data/datasets/medical/"
TCIA = "https://www.cancerimagingarchive.net/collection/"

DATA_SETS: tuple[DataSet, ...] = (
    DataSet(
        "msd03", "MSD Task03 Liver", "liver tumour", "abdomen", "training", "decathlon",
        "CC BY-SA 4.0", "http://medicaldecathlon.com", MSD, lesion_values=(2,), other_values=(1,), prefix="MSD_",
        note="made from LiTS, to which IRCAD gave scans: not independent of ircadb",
    ),
    DataSet(
        "msd06", "MSD Task06 Lung", "lung tumour", "chest", "training", "decathlon",
        "CC BY-SA 4.0", "http://medicaldecathlon.com", MSD, prefix="Chest_MSD_",
    ),
    DataSet(
        "msd07", "MSD Task07 Pancreas", "pancreas tumour", "abdomen", "training", "decathlon",
        "CC BY-SA 4.0", "http://medicaldecathlon.com", MSD, lesion_values=(2,), other_values=(1,), prefix="MSD_",
    ),
    DataSet(
        "msd08", "MSD Task08 Hepatic Vessel", "liver tumour", "abdomen", "training", "decathlon",
        "CC BY-SA 4.0", "http://medicaldecathlon.com", MSD, lesion_values=(2,), other_values=(1,), prefix="MSD_",
    ),
    DataSet(
        "msd10", "MSD Task10 Colon", "colon cancer", "abdomen", "training", "decathlon",
        "CC BY-SA 4.0", "http://medicaldecathlon.com", MSD, prefix="MSD_",
    ),
    DataSet(
        "kits23", "KiTS23", "kidney tumour", "abdomen", "training", "kits",
        "CC BY-NC-SA", "https://github.com/neheller/kits23",
        ("https://github.com/neheller/kits23: README.md, kits23/configuration/labels.py",
         "https://github.com/MIC-DKFZ/nnUNet: nnunetv2/dataset_conversion/Dataset220_KiTS2023.py", LISTS),
        lesion_values=(2,), other_values=(1, 3), prefix="KiTS23_",
        note="1 kidney, 2 tumour, 3 cyst; the method lists it as kidney tumour, so cysts are dropped",
    ),
    DataSet(
        "lidc", "LIDC-IDRI", "lung nodule", "chest", "training", "dicom_seg",
        "CC BY 3.0", TCIA + "lidc-idri", (IDC, TORCH_EM + "lidc_idri.py", "https://luna16.grand-challenge.org/Data/",
         "https://nac.spl.harvard.edu/publications/"
         "dicom-re-encoding-volumetrically-annotated-lung-imaging-database-consortium-lidc", LISTS),
        prefix="Chest_", patient=r"LIDC-IDRI-\d+",
        note="CT and the objects of DICOM-LIDC-IDRI-Nodules (doi 10.7937/tcia.2018.h7umfurq), not the XML; "
        "union of all readers' outlines of nodules of 3 mm and more",
    ),
    DataSet(
        "nsclc_radiomics", "NSCLC-Radiomics (Lung1)", "lung tumour", "chest", "training", "dicom_seg",
        "CC BY-NC 3.0", TCIA + "nsclc-radiomics", (IDC, TORCH_EM + "nsclc_radiomics.py", LISTS),
        checked=("membership", "licence", "link", "layout"),
        lesion_segments=("neoplasm", "gtv"), other_segments=("lung", "heart", "esophagus", "spinal"),
        prefix="Chest_NSCLC-Radiomics_", strip="LUNG1-", patient=r"LUNG1-\d+",
        note="names read for the RTSTRUCT (GTV-1, gtv-2, ...), not for the segmentation object; only treated tumours",
    ),
    DataSet(
        "nsclc_radiogenomics", "NSCLC Radiogenomics", "lung tumour", "chest", "training", "dicom_seg",
        "CC BY 3.0", TCIA + "nsclc-radiogenomics", (IDC, TORCH_EM + "nsclc_radiogenomics.py", LISTS),
        prefix="Chest_NSCLC-Radiogenomics_", patient=r"(R01|AMC)-\d+",
        note="144 of 211 patients have a segmentation",
    ),
    DataSet(
        "nsclc_pleural", "PleThora: effusions in NSCLC-Radiomics", "pleural effusion", "chest", "training", "converted",
        "CC BY-NC", "https://wiki.cancerimagingarchive.net/pages/viewpage.action?pageId=68551327",
        ("https://github.com/JunMa11/COVID-19-CT-Seg-Benchmark: README.md", TORCH_EM + "plethora.py", LISTS),
        checked=("membership", "link", "layout"),
        prefix="Chest_NSCLCPleuralEffusion_", strip="LUNG1-", patient=r"LUNG1-\d+",
        label_suffix="_effusion_first_reviewer",
        note="Effusions/LUNG1-*/ as NIfTI; its CTs are the DICOM series of nsclc_radiomics; licence second hand",
    ),
    DataSet(
        "covid19_20", "COVID-19-20", "COVID-19 lesion", "chest", "training", "paired",
        "CC BY 4.0", "https://covid-segmentation.grand-challenge.org/COVID-19-20/",
        ("https://covid-segmentation.grand-challenge.org/COVID-19-20/", TORCH_EM + "covid19_20.py", LISTS),
        checked=("membership", "labels", "link", "layout"), prefix="Chest_", patient=r"volume-covid19-A-\d+",
        note="licence as a redistribution states it; the challenge asks for registration. Name its Train folder",
    ),
    DataSet(
        "coronacases", "COVID-19-CT-Seg, the coronacases", "COVID-19 infection", "chest", "training", "folders",
        "CC BY-NC-SA", "https://zenodo.org/record/3757476",
        ("https://github.com/JunMa11/COVID-19-CT-Seg-Benchmark: README.md",
         "https://huggingface.co/datasets/MedOtter/covid19-ct-seg", LISTS),
        lesion_values=(3,), other_values=(1, 2), prefix="Chest_", pick="coronacases",
        note="--labels Lung_and_Infection_Mask (1 left lung, 2 right lung, 3 infection)",
    ),
    DataSet(
        "hcc_tace", "HCC-TACE-Seg", "liver tumour", "abdomen", "training", "dicom_seg",
        "CC BY 4.0", TCIA + "hcc-tace-seg", (IDC, TORCH_EM + "hcc_tace.py", LISTS),
        lesion_segments=("mass", "necrosis"), other_segments=("liver", "portal vein", "abdominal aorta"),
        patient=r"HCC_\d+",
    ),
    DataSet(
        "adrenal", "Adrenal-ACC-Ki67-Seg", "adrenocortical carcinoma", "abdomen", "training", "dicom_seg",
        "CC BY 4.0", TCIA + "adrenal-acc-ki67-seg", (IDC, TORCH_EM + "adrenal_acc.py", LISTS),
        patient=r"Adrenal_Ki67_Seg_\d+",
    ),
    DataSet(
        "panorama", "PANORAMA", "pancreatic ductal adenocarcinoma", "abdomen", "training", "folders",
        "CC BY-NC 4.0", "https://panorama.grand-challenge.org",
        (TORCH_EM + "panorama.py", "https://github.com/DIAGNijmegen/PANORAMA_baseline: README.md",
         "https://huggingface.co/datasets/Angelou0516/PANORAMA", LISTS),
        checked=("membership", "labels", "link", "layout"),
        other_values=(2, 3, 4, 5, 6), prefix="Panorama_", patient=r"Panorama_\d+",
        note="licence as a mirror states it. --labels: the panorama_labels repository. Holds scans of MSD Task07",
    ),
    DataSet(
        "wawtace", "WAW-TACE", "liver tumour", "abdomen", "training", "converted",
        "CC BY 4.0", "https://zenodo.org/records/12741586", (TORCH_EM + "waw_tace.py", LISTS),
        prefix="WAWTACE_",
        note="scans ID/ID_PHASE_scan.nii.gz, one NRRD per tumour: join a scan's tumours to one label first; the phase "
        "in a mask's name is not always its scan's. Published names: Arterial_0149, Portal_0089, ...",
    ),
    DataSet(
        "healthy", "AbdomenAtlas 1.0 Mini, scans without lesions", "none", "abdomen", "healthy", "scans",
        "CC BY-NC-SA 4.0", "https://huggingface.co/datasets/BodyMaps/AbdomenAtlas1.0Mini",
        ("https://huggingface.co/datasets/BodyMaps/AbdomenAtlas1.0Mini",
         "https://github.com/Luffy03/GF-Screen: jsons/pancancer_nolesion.json, utils/data_utils.py"),
        note="AbdomenAtlas holds scans with tumours too: take the 785 healthy ones with --only pancancer_nolesion.json",
    ),
    DataSet(
        "flare23", "MICCAI FLARE23", "lesions of the abdomen", "abdomen", "external", "folders",
        None, "https://codalab.lisn.upsaclay.fr/competitions/12239",
        ("https://arxiv.org/html/2408.12534v1", "https://github.com/Ziyan-Huang/FLARE23: model/dataset.json", EXTERNAL),
        checked=("membership", "labels", "link"), lesion_values=(14,), other_values=tuple(range(1, 14)),
        note="partly labelled: a label without 14 does not mean a scan without lesions",
    ),
    DataSet(
        "ircadb", "3D-IRCADb-01", "liver tumour", "abdomen", "external", "converted",
        "CC BY-NC-ND 3.0", "https://www.ircad.fr/research/data-sets/liver-segmentation-3d-ircadb-01/", (EXTERNAL,),
        checked=("membership",), note="one DICOM folder per structure; licence second hand. See msd03",
    ),
    DataSet(
        "rider", "RIDER Lung CT", "lung tumour", "chest", "external", "dicom_seg",
        "CC BY 4.0 (CT), CC BY 3.0 (outlines)", TCIA + "rider-lung-ct", (IDC, EXTERNAL),
        checked=("licence", "link", "layout"), patient=r"RIDER-\d+",
        note="the published code says only 'Rider' and uses the chest window. Take the outlines of RIDER-LungCT-Seg "
        "(doi 10.7937/tcia.2020.jit9grk8) alone: other segmentations of these scans exist",
    ),
)  # fmt: skip


def find(key: str) -> DataSet:
    """The data set of that key. Raises UsageError naming the known keys."""
    for item in DATA_SETS:
        if item.key == key:
            return item
    raise UsageError(f"{key}: no such data set; known are {', '.join(item.key for item in DATA_SETS)}")


def describe(item: DataSet) -> str:
    """The row of a data set for `prepare list`: one line, then its note and what is unconfirmed."""
    values = "/".join(map(str, item.lesion_values)) if item.layout != "dicom_seg" else "segments"
    licence = item.licence or "licence unknown"
    lines = [
        f"{item.key:<20} {item.role:<9} {item.region:<8} lesion={values:<9} {item.layout:<10} "
        f"{item.name}: {item.lesion} ({licence}), {item.link}"
    ]
    if item.unconfirmed:
        lines.append(f"    UNCONFIRMED: {', '.join(item.unconfirmed)}")
    if item.note:
        lines.append(f"    {item.note}")
    return "\n".join(lines)
