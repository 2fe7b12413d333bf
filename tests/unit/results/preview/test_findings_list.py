"""The list beside the viewer: file indices and LPS mm as in the statistics, and links to what is there."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote_to_bytes

import numpy as np
import pytest

from gfscreen.results.preview.case import FileAxis, file_axes
from gfscreen.results.preview.findings_list import findings_list, link_to
from gfscreen.results.statistics.documents import COLUMNS, measure_case, to_csv
from tests.helpers.scans import axes_affine, volume_of


def test_a_files_index_along_the_patients_axes():
    # File axes: head-feet downwards, left, front.
    volume = volume_of(np.zeros((5, 6, 7), np.int16), axes_affine((2, 0, 1), (-1, -1, 1), (1.0,) * 3, (0.0,) * 3))
    x, y, z = file_axes(volume.geometry)
    assert (x, y, z) == (FileAxis("j", 6, True), FileAxis("k", 7, False), FileAxis("i", 5, True))
    assert [z.index_of(v) for v in range(5)] == [4, 3, 2, 1, 0]
    assert y.index_of(3) == 3


def test_slices_and_centre_are_those_of_the_table():
    affine = axes_affine((0, 1, 2), (-1, -1, -1), (4.0, 4.0, 4.0), (100.0, 80.0, 70.0))
    volume = volume_of(np.zeros((30, 30, 30), np.int16), affine)
    mask = np.zeros(volume.geometry.shape, np.uint8)
    mask[4:8, 10:15, 20:23] = 1
    case = measure_case("a", "ok", volume, mask)
    # k runs to the feet: file slices 20 to 22. L = -(100 - 4 * 5.5) = -78, P = -(80 - 4 * 12) = -32, S = 70 - 84 = -14.
    html = findings_list("a", case.lesions, file_axes(volume.geometry)[2], 0, [])
    assert "k 20 to 22<br>-78, -32, -14" in html
    row = dict(zip(COLUMNS, to_csv([case]).splitlines()[2].split(","), strict=True))
    assert (row["first_slice"], row["last_slice"]) == ("20", "22")
    assert [float(row[f"centroid_{axis}_mm"]) for axis in "lps"] == [-78, -32, -14]


def test_links_lead_from_the_page_to_the_file(tmp_path):
    folder = tmp_path / "run" / "see"
    folder.mkdir(parents=True)
    mask = tmp_path / "out" / "ä #1?.nii.gz"
    mask.parent.mkdir()
    mask.write_bytes(b"")
    link = link_to("mask", mask, folder)
    assert link is not None
    assert set(link.href) <= set("abcdefghijklmnopqrstuvwxyz0123456789ABCDEF%./")
    assert (folder / os.fsdecode(unquote_to_bytes(link.href))).resolve() == mask.resolve()


@pytest.mark.parametrize("path", [None, Path("absent.csv"), Path()])
def test_there_is_no_link_to_what_is_not_there(tmp_path, path):
    assert link_to("statistics", None if path is None else tmp_path / path, tmp_path) is None
