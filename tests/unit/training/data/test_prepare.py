"""The registry's rows, and `prepare` on tiny made-up originals that are laid out and named like the real downloads.

Scans have 6 x 5 x 4 voxels. Value v of a label is the plane i = v - 1, so every value has 20 voxels.
"""

import json

import nibabel as nib
import numpy as np
import pytest

from gfscreen.command.cli import main
from gfscreen.training.data.downloads import find_cases, patient_of, published_name
from gfscreen.training.data.lists import on_dev_side, read_list
from gfscreen.training.data.public_data_sets import DATA_SETS, FACTS, VALIDATION_PERCENT, describe, find

SHAPE = (6, 5, 4)
AFFINE = np.diag([-0.8, -0.8, 2.5, 1.0])
SPLIT = VALIDATION_PERCENT


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, AFFINE), path)


def scan(path):
    write(path, np.arange(120, dtype=np.int16).reshape(SHAPE))


def label_of(path, *values):
    label = np.zeros(SHAPE, np.uint8)
    for value in values:
        label[value - 1] = value
    write(path, label)


def run(key, source, target, *more):
    return main(["prepare", key, "--from", str(source), "-o", str(target), *map(str, more)])


def listed(target):
    data = json.loads((target / "dataset.json").read_text())
    return {entry["name"]: entry for side in ("training", "validation") for entry in data[side]}


def lesion_planes(target, name):
    """First indices of the planes that are lesion; each must be so as a whole, with the scan's geometry."""
    image = nib.load(target / f"labelsTr/{name}.nii.gz")
    label = np.asanyarray(image.dataobj)
    assert label.dtype == np.uint8
    assert set(np.unique(label)) <= {0, 1}
    assert np.allclose(image.affine, nib.load(target / f"imagesTr/{name}_0000.nii.gz").affine)
    planes = label.all(axis=(1, 2))
    assert label.sum() == 20 * planes.sum()
    return np.flatnonzero(planes).tolist()


class TestRegistry:
    def test_sixteen_train_and_three_external_ones_are_named(self):
        roles = [item.role for item in DATA_SETS]
        assert (roles.count("training"), roles.count("healthy"), roles.count("external")) == (16, 1, 3)
        assert len({item.key for item in DATA_SETS}) == len(DATA_SETS)

    @pytest.mark.parametrize("item", DATA_SETS, ids=lambda item: item.key)
    def test_each_row_says_where_it_is_from(self, item):
        assert item.source
        assert set(item.checked) <= set(FACTS)
        assert item.link.startswith("http")
        assert not set(item.lesion_values) & set(item.other_values)
        assert item.licence is not None or "licence" in item.unconfirmed

    def test_what_is_unconfirmed_is_shown(self):
        assert "UNCONFIRMED: licence, layout" in describe(find("flare23"))
        assert "licence unknown" in describe(find("flare23"))
        assert "UNCONFIRMED" not in describe(find("kits23"))

    def test_list_shows_all_rows_and_what_is_missing(self, capsys):
        assert main(["prepare", "list"]) == 0
        shown = capsys.readouterr().out
        assert all(item.key in shown for item in DATA_SETS)
        assert "4 more external sets of the method are not named" in shown

    @pytest.mark.parametrize(
        ("key", "stem", "name", "patient"),
        [
            # Names as in the published lists.
            ("msd03", "liver_44", "MSD_liver_44", "MSD_liver_44"),
            ("msd06", "lung_054", "Chest_MSD_lung_054", "Chest_MSD_lung_054"),
            ("msd08", "hepaticvessel_383", "MSD_hepaticvessel_383", "MSD_hepaticvessel_383"),
            ("kits23", "case_00525", "KiTS23_case_00525", "KiTS23_case_00525"),
            ("lidc", "LIDC-IDRI-0291", "Chest_LIDC-IDRI-0291", "LIDC-IDRI-0291"),
            ("lidc", "LIDC-IDRI-0132_2", "Chest_LIDC-IDRI-0132_2", "LIDC-IDRI-0132"),
            ("nsclc_radiomics", "LUNG1-077", "Chest_NSCLC-Radiomics_077", "LUNG1-077"),
            ("nsclc_pleural", "LUNG1-186", "Chest_NSCLCPleuralEffusion_186", "LUNG1-186"),
            ("nsclc_radiogenomics", "R01-020", "Chest_NSCLC-Radiogenomics_R01-020", "R01-020"),
            ("covid19_20", "volume-covid19-A-0129", "Chest_volume-covid19-A-0129", "volume-covid19-A-0129"),
            ("covid19_20", "volume-covid19-A-0047_1", "Chest_volume-covid19-A-0047_1", "volume-covid19-A-0047"),
            ("panorama", "100714_00001", "Panorama_100714_00001", "Panorama_100714"),
            ("hcc_tace", "HCC_084", "HCC_084", "HCC_084"),
            ("adrenal", "Adrenal_Ki67_Seg_030", "Adrenal_Ki67_Seg_030", "Adrenal_Ki67_Seg_030"),
            ("healthy", "BDMAP_00002703", "BDMAP_00002703", "BDMAP_00002703"),
        ],
    )
    def test_published_name_and_patient(self, key, stem, name, patient):
        assert published_name(find(key), stem) == name
        assert patient_of(find(key), stem) == patient


class TestDecathlon:
    @pytest.mark.parametrize(
        ("key", "folder", "case", "values", "planes"),
        [
            ("msd03", "Task03_Liver", "liver_0", (1, 2), [1]),
            ("msd06", "Task06_Lung", "lung_001", (1,), [0]),
            ("msd07", "Task07_Pancreas", "pancreas_001", (1, 2), [1]),
            ("msd08", "Task08_HepaticVessel", "hepaticvessel_001", (1, 2), [1]),
            ("msd10", "Task10_Colon", "colon_001", (1,), [0]),
        ],
    )
    def test_task(self, tmp_path, key, folder, case, values, planes):
        source, target = tmp_path / folder, tmp_path / "out"
        scan(source / f"imagesTr/{case}.nii.gz")
        label_of(source / f"labelsTr/{case}.nii.gz", *values)
        scan(source / "imagesTs/unlabelled_9.nii.gz")
        for name in ("imagesTr", "labelsTr"):  # as the archives made on macOS hold them
            (source / name / f"._{case}.nii.gz").write_bytes(b"x")
        assert run(key, source, target) == 0
        (name,) = listed(target)
        assert name == find(key).prefix + case
        assert lesion_planes(target, name) == planes
        assert (np.asanyarray(nib.load(target / f"imagesTr/{name}_0000.nii.gz").dataobj).ravel() == range(120)).all()

    def test_folder_without_labels(self, tmp_path, capsys):
        scan(tmp_path / "imagesTr/liver_0.nii.gz")
        assert run("msd03", tmp_path, tmp_path / "out") == 1
        assert (
            "labelsTr: no such folder; --from is the folder that holds imagesTr and labelsTr" in capsys.readouterr().err
        )
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(("lost", "missing"), [("imagesTr", "image"), ("labelsTr", "label")])
    def test_half_a_pair(self, tmp_path, capsys, lost, missing):
        for case in ("liver_0", "liver_1", "liver_2"):
            scan(tmp_path / f"imagesTr/{case}.nii.gz")
            label_of(tmp_path / f"labelsTr/{case}.nii.gz", 2)
        for case in ("liver_1", "liver_2"):
            (tmp_path / lost / f"{case}.nii.gz").unlink()
        assert run("msd03", tmp_path, tmp_path / "out") == 1
        assert (
            f"has no {missing} of the case name 'liver_1' (and 1 more such); restore the {missing}"
            in capsys.readouterr().err
        )
        assert not (tmp_path / "out").exists()


class TestKits:
    def test_tumour_is_the_lesion_kidney_and_cyst_are_not(self, tmp_path):
        scan(tmp_path / "dataset/case_00000/imaging.nii.gz")
        label_of(tmp_path / "dataset/case_00000/segmentation.nii.gz", 1, 2, 3)
        (tmp_path / "dataset/case_00000/instances").mkdir()
        assert run("kits23", tmp_path / "dataset", tmp_path / "out") == 0
        assert lesion_planes(tmp_path / "out", "KiTS23_case_00000") == [1]

    def test_case_without_its_image(self, tmp_path, capsys):
        label_of(tmp_path / "case_00001/segmentation.nii.gz", 1)
        assert run("kits23", tmp_path, tmp_path / "out") == 1
        assert "case_00001/imaging.nii.gz: no such file; download the case again" in capsys.readouterr().err


class TestCovid:
    def test_pairs_in_one_folder(self, tmp_path):
        for case in ("volume-covid19-A-0003", "volume-covid19-A-0011"):
            scan(tmp_path / f"Train/{case}_ct.nii.gz")
            label_of(tmp_path / f"Train/{case}_seg.nii.gz", 1)
        assert run("covid19_20", tmp_path / "Train", tmp_path / "out") == 0
        assert list(listed(tmp_path / "out")) == ["Chest_volume-covid19-A-0003", "Chest_volume-covid19-A-0011"]
        assert lesion_planes(tmp_path / "out", "Chest_volume-covid19-A-0003") == [0]

    def test_validation_folder_has_no_labels(self, tmp_path, capsys):
        scan(tmp_path / "Validation/volume-covid19-A-0001_ct.nii.gz")
        assert run("covid19_20", tmp_path / "Validation", tmp_path / "out") == 1
        assert "has no label of the case name 'volume-covid19-A-0001'" in capsys.readouterr().err

    def test_coronacases_alone_are_taken(self, tmp_path):
        for case in ("coronacases_001", "radiopaedia_10_85902_1"):
            scan(tmp_path / f"COVID-19-CT-Seg_20cases/{case}.nii.gz")
            label_of(tmp_path / f"Lung_and_Infection_Mask/{case}.nii.gz", 1, 2, 3)
        images, masks = tmp_path / "COVID-19-CT-Seg_20cases", tmp_path / "Lung_and_Infection_Mask"
        assert run("coronacases", images, tmp_path / "out", "--labels", masks) == 0
        assert list(listed(tmp_path / "out")) == ["Chest_coronacases_001"]
        assert lesion_planes(tmp_path / "out", "Chest_coronacases_001") == [2]


class TestFolders:
    def test_panorama_with_its_labels_repository(self, tmp_path):
        scan(tmp_path / "batch_1/100000_00001_0000.nii.gz")
        scan(tmp_path / "batch_1/100000_00002_0000.nii.gz")
        label_of(tmp_path / "panorama_labels/manual_labels/100000_00001.nii.gz", 1, 2, 3, 4, 5, 6)
        label_of(tmp_path / "panorama_labels/automatic_labels/100000_00002.nii.gz", 4)
        target = tmp_path / "out"
        assert run("panorama", tmp_path / "batch_1", target, "--labels", tmp_path / "panorama_labels") == 0
        assert lesion_planes(target, "Panorama_100000_00001") == [0]
        assert lesion_planes(target, "Panorama_100000_00002") == []
        assert {entry["patient"] for entry in listed(target).values()} == {"Panorama_100000"}

    def test_labels_of_one_name_in_two_folders(self, tmp_path, capsys):
        scan(tmp_path / "images/100000_00001_0000.nii.gz")
        for folder in ("manual_labels", "automatic_labels"):
            label_of(tmp_path / f"labels/{folder}/100000_00001.nii.gz", 1)
        assert run("panorama", tmp_path / "images", tmp_path / "out", "--labels", tmp_path / "labels") == 1
        assert "has the case name '100000_00001' of" in capsys.readouterr().err

    def test_first_reviewer_of_effusions(self, tmp_path):
        scan(tmp_path / "ct/LUNG1-001.nii.gz")
        for reviewer, value in (("first", 1), ("second", 1)):
            label_of(tmp_path / f"Effusions/LUNG1-001/LUNG1-001_effusion_{reviewer}_reviewer.nii.gz", value)
        assert run("nsclc_pleural", tmp_path / "ct", tmp_path / "out", "--labels", tmp_path / "Effusions") == 0
        assert lesion_planes(tmp_path / "out", "Chest_NSCLCPleuralEffusion_001") == [0]

    def test_converted_dicom_comes_in_as_folders(self, tmp_path):
        scan(tmp_path / "ct/LIDC-IDRI-0001.nii.gz")
        label_of(tmp_path / "masks/LIDC-IDRI-0001.nii.gz", 1)
        assert run("lidc", tmp_path / "ct", tmp_path / "out", "--labels", tmp_path / "masks") == 0
        assert lesion_planes(tmp_path / "out", "Chest_LIDC-IDRI-0001") == [0]

    def test_plain_nifti_image_is_compressed(self, tmp_path):
        scan(tmp_path / "ct/HCC_001.nii")
        label_of(tmp_path / "masks/HCC_001.nii", 1)
        assert run("hcc_tace", tmp_path / "ct", tmp_path / "out", "--labels", tmp_path / "masks") == 0
        assert not (tmp_path / "out/imagesTr/HCC_001_0000.nii.gz").is_symlink()
        assert lesion_planes(tmp_path / "out", "HCC_001") == [0]


class TestHealthy:
    def test_labels_are_empty_and_those_of_organs_unused(self, tmp_path):
        for case in ("BDMAP_00000001", "BDMAP_00000002"):
            scan(tmp_path / f"AbdomenAtlas1.0Mini/{case}/ct.nii.gz")
            label_of(tmp_path / f"AbdomenAtlas1.0Mini/{case}/combined_labels.nii.gz", 5)
        (tmp_path / "pancancer_nolesion.json").write_text(
            json.dumps({"training": [{"name": "BDMAP_00000002"}], "validation": [{"name": "BDMAP_00009999"}]})
        )
        target = tmp_path / "out"
        only = tmp_path / "pancancer_nolesion.json"
        assert run("healthy", tmp_path / "AbdomenAtlas1.0Mini", target, "--only", only) == 0
        assert list(listed(target)) == ["BDMAP_00000002"]
        assert lesion_planes(target, "BDMAP_00000002") == []

    def test_any_scans_as_lesion_free(self, tmp_path):
        scan(tmp_path / "scans/h1.nii.gz")
        assert run("msd06", tmp_path / "scans", tmp_path / "out", "--lesion-free") == 0
        assert lesion_planes(tmp_path / "out", "Chest_MSD_h1") == []

    @pytest.mark.parametrize(("text", "words"), [("[", "not readable as a published list"), ("{}", "published list")])
    def test_unreadable_list(self, tmp_path, capsys, text, words):
        scan(tmp_path / "scans/h1.nii.gz")
        (tmp_path / "only.json").write_text(text)
        assert run("healthy", tmp_path / "scans", tmp_path / "out", "--only", tmp_path / "only.json") == 1
        assert words in capsys.readouterr().err

    def test_list_that_names_no_case(self, tmp_path, capsys):
        scan(tmp_path / "scans/h1.nii.gz")
        (tmp_path / "only.json").write_text('{"training": [{"name": "x"}], "validation": []}')
        assert run("healthy", tmp_path / "scans", tmp_path / "out", "--only", tmp_path / "only.json") == 1
        assert "holds none of the 1 cases of the list; check --only" in capsys.readouterr().err


@pytest.fixture
def liver(tmp_path):
    """MSD Task03 with 30 cases: enough for both sides."""
    for i in range(30):
        scan(tmp_path / f"Task03_Liver/imagesTr/liver_{i}.nii.gz")
        label_of(tmp_path / f"Task03_Liver/labelsTr/liver_{i}.nii.gz", 1, 2)
    return tmp_path / "Task03_Liver"


class TestList:
    def test_published_form_that_training_reads(self, liver, tmp_path):
        assert run("msd03", liver, tmp_path / "out") == 0
        data = json.loads((tmp_path / "out/dataset.json").read_text())
        assert (data["numTraining"], data["numValidation"]) == (len(data["training"]), len(data["validation"]))
        assert data["numTraining"] + data["numValidation"] == 30
        entry = data["training"][0]
        name = entry["name"]
        assert (entry["image"], entry["label"]) == (f"imagesTr/{name}_0000.nii.gz", f"labelsTr/{name}.nii.gz")
        assert data["sources"]["msd03"]["licence"] == "CC BY-SA 4.0"
        read = read_list(tmp_path / "out/dataset.json")
        assert (len(read.training), len(read.validation)) == (data["numTraining"], data["numValidation"])
        assert read.dev_percent == SPLIT

    def test_side_is_the_patients(self, liver, tmp_path):
        assert run("msd03", liver, tmp_path / "out") == 0
        data = json.loads((tmp_path / "out/dataset.json").read_text())
        assert data["validation"]
        assert all(on_dev_side(entry["patient"], SPLIT) for entry in data["validation"])
        assert not any(on_dev_side(entry["patient"], SPLIT) for entry in data["training"])

    def test_data_sets_that_share_patients_agree_on_the_side(self, tmp_path):
        target = tmp_path / "out"
        for i in range(1, 21):
            scan(tmp_path / f"ct/LUNG1-{i:03d}.nii.gz")
            label_of(tmp_path / f"gtv/LUNG1-{i:03d}.nii.gz", 1)
            label_of(tmp_path / f"effusions/LUNG1-{i:03d}_effusion_first_reviewer.nii.gz", 1)
        assert run("nsclc_radiomics", tmp_path / "ct", target, "--labels", tmp_path / "gtv") == 0
        assert run("nsclc_pleural", tmp_path / "ct", target, "--labels", tmp_path / "effusions") == 0
        read = read_list(target / "dataset.json")  # refuses a patient on both sides
        assert len(read.training) + len(read.validation) == 40
        assert len(read.validation) in range(2, 20, 2)

    def test_second_data_set_joins_and_a_repeated_one_is_replaced(self, liver, tmp_path):
        target = tmp_path / "out"
        scan(tmp_path / "kits/case_00000/imaging.nii.gz")
        label_of(tmp_path / "kits/case_00000/segmentation.nii.gz", 2)
        for key, source in (("msd03", liver), ("kits23", tmp_path / "kits"), ("msd03", liver)):
            assert run(key, source, target) == 0
        data = json.loads((target / "dataset.json").read_text())
        assert data["numTraining"] + data["numValidation"] == len(listed(target)) == 31
        assert set(data["sources"]) == {"msd03", "kits23"}

    def test_damaged_list_is_not_overwritten(self, liver, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        (tmp_path / "out/dataset.json").write_text("[")
        assert run("msd03", liver, tmp_path / "out") == 1
        assert "dataset.json: not readable as a data list" in capsys.readouterr().err
        assert (tmp_path / "out/dataset.json").read_text() == "["


class TestBadCases:
    """A case that cannot be used is named and left out; the others are written; the exit code is 1."""

    def check(self, liver, tmp_path, capsys, words):
        assert run("msd03", liver, tmp_path / "out") == 1
        assert words in capsys.readouterr().err
        names = listed(tmp_path / "out")
        assert len(names) == 29
        assert "MSD_liver_7" not in names
        assert not (tmp_path / "out/labelsTr/MSD_liver_7.nii.gz").exists()

    def test_unknown_value(self, liver, tmp_path, capsys):
        label_of(liver / "labelsTr/liver_7.nii.gz", 1, 2, 3)
        self.check(liver, tmp_path, capsys, "label value 3 is unknown in MSD Task03 Liver; known are 0, 1, 2")

    def test_value_between_integers(self, liver, tmp_path, capsys):
        write(liver / "labelsTr/liver_7.nii.gz", np.full(SHAPE, 1.5, np.float32))
        self.check(liver, tmp_path, capsys, "label value 1.5 is unknown")

    def test_other_shape(self, liver, tmp_path, capsys):
        write(liver / "labelsTr/liver_7.nii.gz", np.zeros((6, 5, 3), np.uint8))
        self.check(liver, tmp_path, capsys, "expected the image's shape (6, 5, 4), got (6, 5, 3); resample the label")

    @pytest.mark.parametrize("folder", ["imagesTr", "labelsTr"])
    def test_empty_file(self, liver, tmp_path, capsys, folder):
        (liver / folder / "liver_7.nii.gz").write_bytes(b"")
        self.check(liver, tmp_path, capsys, f"{folder}/liver_7.nii.gz: not readable as NIfTI")

    def test_label_without_lesion_is_kept_and_named(self, liver, tmp_path, capsys):
        label_of(liver / "labelsTr/liver_7.nii.gz", 1)
        assert run("msd03", liver, tmp_path / "out") == 0
        assert "MSD_liver_7.nii.gz: the label holds no lesion" in capsys.readouterr().err
        assert "MSD_liver_7" in listed(tmp_path / "out")


class TestUse:
    @pytest.mark.parametrize(
        ("arguments", "code", "words"),
        [
            (["nothing", "--from", ".", "-o", "x"], 2, "no such data set; known are msd03"),
            (["msd03"], 2, "--from and -o are needed"),
            (
                ["ircadb", "--from", ".", "-o", "x"],
                1,
                "must be converted to NIfTI first; call again with --from IMAGES",
            ),
            (["coronacases", "--from", ".", "-o", "x"], 1, "its labels lie apart from its images; call again"),
            (["msd03", "--from", "absent", "-o", "x"], 1, "absent: no such folder"),
            (["msd03", "--from", ".", "--labels", "absent", "-o", "x"], 1, "absent: no such folder"),
            (["kits23", "--from", ".", "-o", "x"], 1, "holds no case of KiTS23 in the layout 'kits'; check --from"),
        ],
    )
    def test_errors(self, arguments, code, words, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        assert main(["prepare", *arguments]) == code
        assert words in capsys.readouterr().err
        assert not (tmp_path / "x").exists()

    def test_unconfirmed_facts_are_said_before_the_work(self, tmp_path, capsys):
        run("covid19_20", tmp_path, tmp_path / "out")
        assert "COVID-19-20: unconfirmed: licence; check its page" in capsys.readouterr().err

    def test_cases_come_by_name(self, tmp_path):
        for case in ("b", "a", "c"):
            scan(tmp_path / f"{case}.nii.gz")
        assert [case.stem for case in find_cases(find("healthy"), tmp_path)] == ["a", "b", "c"]
