"""The structured report of several lesions, read by pydicom alone: numbers, segments, sites, UIDs, the suspicion."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest

from gfscreen.errors import OutputError
from gfscreen.pacs.identity import identity_of
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.results.statistics.parts import instance_map
from gfscreen.results.structured_report.sr import Findings, encode_sr
from gfscreen.scan.volume import read_volume
from gfscreen.scan.volume.dicom.seg import encode_seg
from tests.helpers.dicom_series import Series

SHAPE = (20, 18, 12)


@pytest.fixture
def made(tmp_path):
    """(SEG, lesions, UIDs) of a series with three lesions of different sizes; its Series Number is 7."""
    series = Series(np.full(SHAPE, 40, np.int16), number=7)
    series.write(tmp_path / "ct")
    volume = read_volume(tmp_path / "ct")
    mask = np.zeros(volume.hu.shape, np.uint8)
    mask[2:6, 2:5, 2:5] = mask[10:13, 8:10, 6:8] = mask[16, 14, 10] = 1
    identity = identity_of(series.uid, ["1"], {})
    instances = instance_map(mask, volume.geometry, tmp_path / "x")
    seg = encode_seg(instances, volume.geometry, tmp_path / "ct", uid_of=identity.uid)
    return seg, measure_lesions(volume, mask), identity.uid


def report_of(made, suspicion=None):
    seg, lesions, uid_of = made
    findings = Findings(lesions, ["chest", "abdomen", "abdomen"][: len(lesions)], suspicion, "f" * 64)
    return pydicom.dcmread(io.BytesIO(encode_sr(findings, seg, uid_of, "a")))


def items(container, value_type):
    return {i.ConceptNameCodeSequence[0].CodeValue: i for i in container.ContentSequence if i.ValueType == value_type}


def groups(report):
    measured = items(report, "CONTAINER")["126010"]
    return [item for item in measured.ContentSequence if item.ValueType == "CONTAINER"]


def test_every_lesion_has_its_numbers_and_its_segment(made):
    seg, lesions, uid_of = made
    report = report_of(made)
    segmentation = pydicom.dcmread(io.BytesIO(seg.content))
    assert len(lesions) == 3
    *of_lesions, whole = groups(report)
    for lesion, region, group in zip(lesions, ("816094009", "818981001", "818981001"), of_lesions, strict=True):
        numbers = {
            code: float(item.MeasuredValueSequence[0].NumericValue) for code, item in items(group, "NUM").items()
        }
        assert numbers == {
            "118565006": lesion.volume_mm3,
            "103339001": lesion.long_axis_mm,
            "103340004": lesion.short_axis_mm,
        }
        reference = items(group, "IMAGE")["121191"].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == segmentation.SOPInstanceUID
        assert reference.ReferencedSegmentNumber in (lesion.id, [lesion.id])
        tracked = segmentation.SegmentSequence[lesion.id - 1].TrackingUID
        assert items(group, "UIDREF")["112040"].UID == tracked == uid_of(f"lesion {lesion.id}")
        assert items(group, "CODE")["363698007"].ConceptCodeSequence[0].CodeValue == region
        assert items(group, "TEXT")["111001"].TextValue == "GF-Screen"
    assert float(items(whole, "NUM")["lesion-count"].MeasuredValueSequence[0].NumericValue) == 3


def test_identity_and_place_in_the_study(made):
    report = report_of(made)
    segmentation = pydicom.dcmread(io.BytesIO(made[0].content))
    for keyword in ("PatientName", "PatientID", "StudyInstanceUID"):
        assert report[keyword].value == segmentation[keyword].value
    assert (segmentation.SeriesNumber, report.SeriesNumber) == (1007, 2007)
    assert (report.Modality, report.SOPInstanceUID, report.SeriesInstanceUID) == (
        "SR",
        made[2]("sr"),
        made[2]("sr series"),
    )
    assert (report.CompletionFlag, report.VerificationFlag) == ("COMPLETE", "UNVERIFIED")


@pytest.mark.parametrize("suspicion", [None, 0.0, 0.987654])
def test_the_suspicion_is_told_where_it_is_known(made, suspicion):
    found = items(groups(report_of(made, suspicion))[-1], "NUM").get("suspicion")
    assert (None if found is None else float(found.MeasuredValueSequence[0].NumericValue)) == suspicion


def test_made_again_it_has_the_same_uids(made):
    first, second = report_of(made), report_of(made)
    assert first.SOPInstanceUID == second.SOPInstanceUID
    assert first.SeriesInstanceUID == second.SeriesInstanceUID


def test_headers_that_are_refused_are_one_line(made, monkeypatch):
    monkeypatch.setattr("highdicom.sr.ComprehensiveSR", lambda **_: (_ for _ in ()).throw(ValueError("odd header")))
    with pytest.raises(OutputError, match=r"a: no structured report can be made .*ValueError: odd header"):
        report_of(made)
