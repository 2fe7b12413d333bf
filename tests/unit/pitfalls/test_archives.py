"""Archives, clusters and tables that answer otherwise: docs/reference/pitfalls.md, "Archives, clusters, tables".

Each test shows the library's habit first and ours beside it. If a habit goes, its row in the page is to go with it.
"""

from __future__ import annotations

import io

import numpy as np
import pytest

from gfscreen.cohort.records import Record
from gfscreen.cohort.worklist.table import encode
from gfscreen.pacs.identity import identity_of
from gfscreen.results.statistics.lesions import measure_lesions
from gfscreen.results.statistics.parts import instance_map
from gfscreen.results.structured_report.sr import Findings, encode_sr
from gfscreen.scan.volume import read_volume
from gfscreen.scan.volume.dicom.seg import encode_seg
from tests.helpers.dicom_series import Series


def test_a_missing_number_is_null(tmp_path):
    """duckdb 2.0.1 finds no NaN in a parquet file by isnan(): a filter on one lets every row through or none."""
    duckdb, pa, pq = (pytest.importorskip(name) for name in ("duckdb", "pyarrow", "pyarrow.parquet"))
    theirs = tmp_path / "nan.parquet"
    pq.write_table(pa.table({"suspicion": pa.array([0.25, float("nan")], pa.float64())}), theirs)
    assert duckdb.sql(f"select count(*) from '{theirs}' where isnan(suspicion)").fetchall() == [(0,)]
    assert duckdb.sql(f"select count(*) from '{theirs}' where suspicion is null").fetchall() == [(0,)]

    ours = tmp_path / "cohort.parquet"
    ours.write_bytes(encode([Record("a", status="ok", suspicion=0.25), Record("b", status="failed")]))
    assert duckdb.sql(f"select count(*) from '{ours}' where suspicion is null").fetchall() == [(1,)]


def written(tmp_path, name, *lesions):
    """(SEG, findings, UIDs) of a series whose mask is these boxes."""
    series = Series(np.full((12, 10, 6), 40, np.int16))
    series.write(tmp_path / name)
    volume = read_volume(tmp_path / name)
    mask = np.zeros(volume.hu.shape, np.uint8)
    for lesion in lesions:
        mask[lesion] = 1
    uid_of = identity_of(series.uid, ["1"], {}).uid
    instances = instance_map(mask, volume.geometry, tmp_path / "x")
    seg = encode_seg(instances, volume.geometry, tmp_path / name, uid_of=uid_of)
    found = measure_lesions(volume, mask)
    return seg, Findings(found, ["abdomen"] * len(found), None, "f" * 64), uid_of


def test_a_seg_of_one_segment_is_referenced(tmp_path):
    """highdicom 0.28.2: ReferencedSegment.from_segmentation() fails for a SEG of one segment, not for one of two."""
    hd = pytest.importorskip("highdicom")
    seg, findings, uid_of = written(tmp_path, "one", np.s_[2:6, 2:5, 2:5])
    one = hd.seg.segread(io.BytesIO(seg.content))
    two = hd.seg.segread(io.BytesIO(written(tmp_path, "two", np.s_[2:6, 2:5, 2:5], np.s_[8:10, 7:9, 1])[0].content))
    assert (len(one.SegmentSequence), len(two.SegmentSequence)) == (1, 2)
    assert hd.sr.ReferencedSegment.from_segmentation(two, segment_number=2)
    with pytest.raises(AttributeError):
        hd.sr.ReferencedSegment.from_segmentation(one, segment_number=1)

    report = hd.sr.srread(io.BytesIO(encode_sr(findings, seg, uid_of, "a")))
    (group,) = report.content.get_volumetric_roi_measurement_groups()
    assert group.referenced_segment.referenced_sop_instance_uid == one.SOPInstanceUID
