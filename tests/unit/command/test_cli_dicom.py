"""`predict --series --dicom-seg`, `series` and `seg` on the command line."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pydicom
import pytest

from gfscreen.command.cli import main
from gfscreen.networks.models.manifest import read_manifest, write_manifest
from tests.helpers.dicom_series import Series, write_dose_report
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import read_mask, write_nifti
from tests.helpers.runs import write_plan
from tests.helpers.scans import paint

SHAPE = (36, 34, 30)
PIXEL_MM, SLICE_MM = (4.0, 4.0), 5.0


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A study of a body with a lesion (series 2), a shorter one without (series 5), a localizer and a dose report."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("gfscreen.run.predict.load_engine", lambda *_, **__: bright_engine())
    monkeypatch.setattr("gfscreen.run.predict.process_age_s", lambda: 0.0)
    write_manifest(write_plan(tmp_path / "weights"), ["plan.json"], {})
    body().write(tmp_path / "study" / "2")
    plain = np.full((36, 34, 6), 40, np.int16)
    Series(plain, number=5, pixel_mm=PIXEL_MM, slice_mm=SLICE_MM).write(tmp_path / "study" / "5")
    scout = np.zeros((36, 34, 1), np.int16)
    Series(scout, "coronal", 1, image_type=("ORIGINAL", "PRIMARY", "LOCALIZER")).write(tmp_path / "study" / "1")
    write_dose_report(tmp_path / "study")
    return tmp_path


def body() -> Series:
    series = Series(np.zeros(SHAPE, np.int16), number=2, pixel_mm=PIXEL_MM, slice_mm=SLICE_MM)
    series.hu = paint(SHAPE, series.affine_ras_mm)[0]
    return series


def ball() -> np.ndarray:
    return paint(SHAPE, body().affine_ras_mm)[1]


PREDICT = ["predict", "-i", "study", "-o", "masks", "--report", "r.json"]


class TestPredict:
    def test_mask_and_seg_of_the_chosen_series(self, place):
        assert main([*PREDICT, "--dicom-seg", "segs"]) == 0
        mask = read_mask(place / "masks" / "study.nii.gz")
        np.testing.assert_array_equal(mask, ball())
        seg = pydicom.dcmread(place / "segs" / "study.seg.dcm")
        assert seg.ReferencedSeriesSequence[0].SeriesInstanceUID == body().uid
        # Frames are the slices with lesion; rows are j, columns are i.
        frames = np.array([k for k in range(SHAPE[2]) if mask[:, :, k].any()])
        np.testing.assert_array_equal(seg.pixel_array, mask[:, :, frames].transpose(2, 1, 0))
        digest = read_manifest(place / "weights").digest
        assert digest in seg.SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
        (case,) = json.loads((place / "r.json").read_text())["cases"]
        assert case["status"] == "ok"
        assert any("took series 2" in warning and "of 2 CT series" in warning for warning in case["warnings"])

    def test_another_series(self, place):
        assert main([*PREDICT, "--series", "5"]) == 0
        assert read_mask(place / "masks" / "study.nii.gz").shape == (36, 34, 6)

    def test_a_zip(self, place):
        with zipfile.ZipFile("P7.zip", "w") as archive:
            for path in (place / "study").rglob("*"):
                archive.write(path, path.relative_to(place))
        assert main(["predict", "-i", "P7.zip", "-o", "masks", "--dicom-seg", "segs"]) == 0
        np.testing.assert_array_equal(read_mask(place / "masks" / "P7.nii.gz"), ball())
        assert (place / "segs" / "P7.seg.dcm").is_file()

    def test_a_series_that_is_refused_leaves_no_old_results(self, place, capsys):
        main([*PREDICT, "--dicom-seg", "segs"])
        assert main([*PREDICT, "--dicom-seg", "segs", "--series", "1"]) == 1
        assert "study: --series 1 cannot be screened: localizer; choose another" in capsys.readouterr().err
        assert not list((place / "masks").iterdir())
        assert not list((place / "segs").iterdir())

    def test_seg_of_a_nifti_is_wrong_usage(self, place, capsys):
        (place / "in").mkdir()
        write_nifti(place / "in" / "a.nii.gz", np.zeros((4, 4, 4), np.int16))
        assert main(["predict", "-i", "in", "-o", "masks", "--dicom-seg", "segs"]) == 2
        assert "ERROR: --dicom-seg: a.nii.gz is no DICOM series" in capsys.readouterr().err
        assert not (place / "segs").exists()

    def test_seg_without_highdicom_is_wrong_usage(self, place, capsys, monkeypatch):
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        assert main([*PREDICT, "--dicom-seg", "segs"]) == 2
        assert "pip install 'gfscreen[dicom]'" in capsys.readouterr().err
        assert not (place / "masks").exists()


class TestSeries:
    def test_for_a_person(self, place, capsys):
        assert main(["-q", "series", "-i", "study"]) == 0
        out = capsys.readouterr().out.splitlines()
        assert out[0] == "series 1 'Abdomen 2.5': coronal, 1 slice, 0 mm, original"
        assert out[2].strip() == "left out, localizer"
        assert out[5].strip() == "chosen"
        assert out[8].strip() == "can be chosen with --series"
        assert out[9] == "900_dose: left out, dose report"

    def test_for_machines(self, place, capsys):
        assert main(["series", "-i", "study", "--json"]) == 0
        shown = json.loads(capsys.readouterr().out)
        assert [(one["number"], one["chosen"], one["left_out"]) for one in shown["series"]] == [
            (1, False, "localizer"),
            (2, True, None),
            (5, False, None),
        ]
        assert shown["series"][1]["length_mm"] == 145.0
        assert shown["no_images"] == [{"reason": "dose report", "file": "900_dose"}]

    def test_none_that_can_be_screened(self, place, capsys):
        assert main(["series", "-i", "study/1"]) == 1
        out, err = capsys.readouterr()
        assert "left out, localizer" in out
        assert err.startswith("ERROR: 1: expected a CT series, found none that can be screened")

    def test_not_there(self, place, capsys):
        assert main(["series", "-i", "gone"]) == 2
        assert capsys.readouterr().err == "ERROR: gone: no such file or folder; -i takes a DICOM folder or zip\n"


class TestSeg:
    def test_the_same_object_as_from_predict(self, place):
        main([*PREDICT, "--dicom-seg", "segs"])
        assert main(["seg", "-i", "study", "--mask", "masks/study.nii.gz", "-o", "again/study.seg.dcm"]) == 0
        a, b = (pydicom.dcmread(place / folder / "study.seg.dcm") for folder in ("segs", "again"))
        np.testing.assert_array_equal(a.pixel_array, b.pixel_array)
        assert a.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence == (
            b.PerFrameFunctionalGroupsSequence[0].PlanePositionSequence
        )

    def test_of_another_series(self, place, capsys):
        main(PREDICT)
        arguments = ["seg", "-i", "study", "--mask", "masks/study.nii.gz", "-o", "a.seg.dcm", "--series", "5"]
        assert main(arguments) == 1
        assert "study: expected a mask on the grid of the series" in capsys.readouterr().err
        assert not (place / "a.seg.dcm").exists()

    def test_a_mask_that_is_not_there(self, place, capsys):
        assert main(["seg", "-i", "study", "--mask", "gone.nii.gz", "-o", "a.seg.dcm"]) == 1
        assert "ERROR: gone.nii.gz: " in capsys.readouterr().err
