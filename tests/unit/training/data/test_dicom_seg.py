"""CT series and segmentation objects in the folders of the NBIA Data Retriever, made up with pydicom.

The CT has 8 columns, 6 rows and 6 slices of 0.5 x 0.75 x 2 mm; its HU are 100 z + 10 row + column.
"""

import json

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from gfscreen.command.cli import main

COLUMNS, ROWS, SLICES = 8, 6, 6
CT_CLASS, SEG_CLASS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.66.4"
LABEL_MAP_CLASS = "1.2.840.10008.5.1.4.1.1.66.7"


def base(patient, modality, sop_class, series, study):
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = sop_class
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
    data.PatientID, data.Modality = patient, modality
    data.SeriesInstanceUID, data.StudyInstanceUID = series, study
    data.Rows, data.Columns = ROWS, COLUMNS
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    return data


def save(data, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    data.save_as(path, enforce_file_format=True)


def ct(folder, patient, *, direction=(1, 0, 0, 0, 1, 0)):
    """Write a CT series; returns its UID. Origin (-10, -20, 30) mm, LPS."""
    series, study = generate_uid(), generate_uid()
    for z in range(SLICES):
        data = base(patient, "CT", CT_CLASS, series, study)
        data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
        data.RescaleIntercept, data.RescaleSlope, data.RescaleType = "-1000", "1", "HU"
        data.PixelSpacing, data.SliceThickness = [0.75, 0.5], 2.0
        data.ImageOrientationPatient = list(direction)
        data.ImagePositionPatient = [-10.0, -20.0, 30.0 + 2 * z]
        data.InstanceNumber = z + 1
        rows, columns = np.mgrid[:ROWS, :COLUMNS]
        data.PixelData = (100 * z + 10 * rows + columns + 1000).astype(np.int16).tobytes()
        save(data, folder / f"1-{z + 1:02d}.dcm")
    return series


def item(**values):
    data = Dataset()
    for key, value in values.items():
        setattr(data, key, value)
    return data


def seg(path, patient, series, frames, *, names=("Nodule",), spacing=(0.75, 0.5), offset=0.0):
    """Write a segmentation object. frames: (segment, z, mask (rows, columns)), one per frame, in any order."""
    data = base(patient, "SEG", SEG_CLASS, generate_uid(), generate_uid())
    data.BitsAllocated = data.BitsStored = 1
    data.HighBit = data.PixelRepresentation = 0
    data.SegmentationType, data.NumberOfFrames = "BINARY", len(frames)
    data.SegmentSequence = Sequence(
        item(SegmentNumber=i, SegmentLabel=name, SegmentDescription="") for i, name in enumerate(names, 1)
    )
    if series:
        data.ReferencedSeriesSequence = Sequence([item(SeriesInstanceUID=series)])
    data.SharedFunctionalGroupsSequence = Sequence(
        [
            item(
                PixelMeasuresSequence=Sequence([item(PixelSpacing=list(spacing), SliceThickness=2.0)]),
                PlaneOrientationSequence=Sequence([item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0])]),
            )
        ]
    )
    data.PerFrameFunctionalGroupsSequence = Sequence(
        item(
            SegmentIdentificationSequence=Sequence([item(ReferencedSegmentNumber=segment)]),
            PlanePositionSequence=Sequence([item(ImagePositionPatient=[-10.0, -20.0, 30.0 + 2 * z + offset])]),
        )
        for segment, z, _ in frames
    )
    bits = np.packbits(np.concatenate([mask.ravel() for *_, mask in frames]).astype(np.uint8), bitorder="little")
    data.PixelData = bits.tobytes() + b"\0" * (len(bits.tobytes()) % 2)
    data["PixelData"].VR = "OB"
    save(data, path)


def label_map(path, patient, series, frames, *, names):
    """Write a label map (Supplement 243). frames: z -> numbers of segments (rows, columns), 0 where there is none."""
    seg(path, patient, series, [(1, z, numbers > 0) for z, numbers in frames.items()], names=names)
    data = dcmread(path)
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = LABEL_MAP_CLASS
    data.SegmentationType, data.BitsAllocated, data.BitsStored, data.HighBit = "LABELMAP", 8, 8, 7
    data.add_new("PixelPaddingValue", "US", 0)
    data.SegmentSequence.insert(0, item(SegmentNumber=0, SegmentLabel="Background", SegmentDescription=""))
    for group in data.PerFrameFunctionalGroupsSequence:
        # A frame is not of one segment.
        del group.SegmentIdentificationSequence
    pixels = np.stack(list(frames.values())).astype(np.uint8).tobytes()
    data.PixelData = pixels + b"\0" * (len(pixels) % 2)
    save(data, path)


def square(rows, columns):
    mask = np.zeros((ROWS, COLUMNS), bool)
    mask[rows, columns] = True
    return mask


def run(key, source, target):
    return main(["prepare", key, "--from", str(source), "-o", str(target)])


def written(target, name):
    image = nib.load(target / f"imagesTr/{name}_0000.nii.gz")
    label = nib.load(target / f"labelsTr/{name}.nii.gz")
    assert np.allclose(image.affine, label.affine)
    return np.asanyarray(image.dataobj), np.asanyarray(label.dataobj), image.affine


class TestLidc:
    def test_union_of_the_readers_on_the_grid_of_the_ct(self, tmp_path):
        folder = tmp_path / "LIDC-IDRI/LIDC-IDRI-0314/01-01-2000-NA"
        series = ct(folder / "3000566.000000-NA-03192", "LIDC-IDRI-0314")
        seg(folder / "1000/1-1.dcm", "LIDC-IDRI-0314", series, [(1, 2, square(slice(1, 3), slice(4, 6)))])
        seg(folder / "1001/1-1.dcm", "LIDC-IDRI-0314", series,
            [(1, 2, square(slice(1, 3), slice(5, 7))), (1, 1, square(2, 5))])  # fmt: skip
        assert run("lidc", tmp_path / "LIDC-IDRI", tmp_path / "out") == 0
        hu, label, affine = written(tmp_path / "out", "Chest_LIDC-IDRI-0314")
        # HU are 100 z + 10 row + column: the lesion's voxels are known by their values.
        assert sorted(hu[label == 1].tolist()) == [125, 214, 215, 216, 224, 225, 226]
        assert np.allclose(affine @ [0, 0, 0, 1], [10, 20, 30, 1])  # RAS of LPS (-10, -20, 30)
        assert np.allclose(np.abs(np.diag(affine)), [0.5, 0.75, 2, 1])
        entry = json.loads((tmp_path / "out/dataset.json").read_text())
        assert (entry["training"] + entry["validation"])[0]["patient"] == "LIDC-IDRI-0314"

    def test_unsegmented_series_is_left_out(self, tmp_path, capsys):
        series = ct(tmp_path / "LIDC-IDRI-0001/a", "LIDC-IDRI-0001")
        ct(tmp_path / "LIDC-IDRI-0002/a", "LIDC-IDRI-0002")
        seg(tmp_path / "LIDC-IDRI-0001/b/1-1.dcm", "LIDC-IDRI-0001", series, [(1, 0, square(0, 0))])
        assert run("lidc", tmp_path, tmp_path / "out") == 0
        assert "1 CT series without segmentation left out" in capsys.readouterr().err
        assert [p.name for p in (tmp_path / "out/labelsTr").iterdir()] == ["Chest_LIDC-IDRI-0001.nii.gz"]

    def test_second_series_of_a_patient(self, tmp_path):
        for i in range(2):
            series = ct(tmp_path / f"p/ct{i}", "LIDC-IDRI-0132")
            seg(tmp_path / f"p/seg{i}/1-1.dcm", "LIDC-IDRI-0132", series, [(1, 0, square(0, 0))])
        assert run("lidc", tmp_path, tmp_path / "out") == 0
        names = sorted(p.name for p in (tmp_path / "out/labelsTr").iterdir())
        assert names == ["Chest_LIDC-IDRI-0132.nii.gz", "Chest_LIDC-IDRI-0132_2.nii.gz"]

    def test_ct_whose_rows_run_the_other_way(self, tmp_path):
        """The CT's columns run to the patient's right; the object's to the left, so it leaves the CT after column 0."""
        series = ct(tmp_path / "a", "LIDC-IDRI-0001", direction=(-1, 0, 0, 0, 1, 0))
        seg(tmp_path / "b/1-1.dcm", "LIDC-IDRI-0001", series, [(1, 3, square(4, 0))])
        assert run("lidc", tmp_path, tmp_path / "out") == 0
        hu, label, _ = written(tmp_path / "out", "Chest_LIDC-IDRI-0001")
        assert hu[label == 1].tolist() == [340]


class TestNsclcRadiomics:
    NAMES = ("Neoplasm, Primary", "Lung", "Spinal cord")

    def original(self, tmp_path, names=NAMES):
        folder = tmp_path / "NSCLC-Radiomics/LUNG1-001/09-18-2008-StudyID-NA-69331"
        series = ct(folder / "0.000000-NA-82046", "LUNG1-001")
        frames = [(2, 0, square(slice(None), slice(None))), (1, 1, square(3, 2)), (3, 1, square(0, 0))]
        seg(folder / "300.000000-Segmentation-9.554/1-1.dcm", "LUNG1-001", series, frames, names=names)
        return tmp_path / "NSCLC-Radiomics"

    def test_tumour_is_the_lesion_organs_are_not(self, tmp_path):
        assert run("nsclc_radiomics", self.original(tmp_path), tmp_path / "out") == 0
        hu, label, _ = written(tmp_path / "out", "Chest_NSCLC-Radiomics_001")
        assert hu[label == 1].tolist() == [132]

    def test_of_a_label_map_the_tumour_is_by_its_number(self, tmp_path):
        """One frame holds all segments of a slice; which of them a pixel is, its value says."""
        series = ct(tmp_path / "in/ct", "LUNG1-001")
        organs = 2 * np.ones((ROWS, COLUMNS), int)
        both = np.where(square(3, 2), 1, organs)
        both[0, 0] = 3
        label_map(tmp_path / "in/seg/1-1.dcm", "LUNG1-001", series, {0: organs, 1: both}, names=self.NAMES)
        assert run("nsclc_radiomics", tmp_path / "in", tmp_path / "out") == 0
        hu, label, _ = written(tmp_path / "out", "Chest_NSCLC-Radiomics_001")
        assert hu[label == 1].tolist() == [132]

    def test_unknown_segment(self, tmp_path, capsys):
        source = self.original(tmp_path, ("GTV-1", "Lung", "Hat"))
        assert run("nsclc_radiomics", source, tmp_path / "out") == 1
        assert (
            "segment 'Hat' is unknown; known are names that begin with neoplasm, gtv, lung" in capsys.readouterr().err
        )
        assert not (tmp_path / "out/dataset.json").exists()


class TestErrors:
    def original(self, tmp_path, **options):
        series = ct(tmp_path / "in/ct", "HCC_001")
        seg(tmp_path / "in/seg/1-1.dcm", "HCC_001", series, [(1, 1, square(2, 2))], names=("Mass",), **options)
        return tmp_path / "in"

    def test_series_is_missing(self, tmp_path, capsys):
        source = self.original(tmp_path)
        for path in (source / "ct").iterdir():
            path.unlink()
        assert run("hcc_tace", source, tmp_path / "out") == 1
        assert "which is not below" in capsys.readouterr().err

    def test_object_names_no_series(self, tmp_path, capsys):
        seg(tmp_path / "in/1-1.dcm", "HCC_001", None, [(1, 1, square(2, 2))])
        assert run("hcc_tace", tmp_path / "in", tmp_path / "out") == 1
        assert "names no CT series" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("options", "words"),
        [
            ({"spacing": (1.5, 1.0)}, "pixels of 1.5 x 1 mm do not lie on the CT's grid of 0.5 x 0.75 x 2 mm"),
            ({"offset": 1.0}, "lies outside the CT's slices"),
            ({"offset": 40.0}, "lies outside the CT's slices"),
        ],
    )
    def test_other_grid(self, tmp_path, capsys, options, words):
        assert run("hcc_tace", self.original(tmp_path, **options), tmp_path / "out") == 1
        assert words in capsys.readouterr().err

    def test_missing_slice(self, tmp_path, capsys):
        source = self.original(tmp_path)
        (source / "ct/1-02.dcm").unlink()
        assert run("hcc_tace", source, tmp_path / "out") == 1
        assert "missing slices (1), a gap of 4.00 mm" in capsys.readouterr().err

    def test_file_that_is_no_dicom(self, tmp_path, capsys):
        source = self.original(tmp_path)
        (source / "other").mkdir()
        (source / "other/1-1.dcm").write_bytes(b"x" * 200)
        assert run("hcc_tace", source, tmp_path / "out") == 1
        assert "other/1-1.dcm: not readable as DICOM" in capsys.readouterr().err
