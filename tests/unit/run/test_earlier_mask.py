"""One patient's mask never replaces another's without a word."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from gfscreen.errors import OutputError
from gfscreen.run.earlier_mask import check_earlier_mask
from gfscreen.scan.volume import read_volume, write_mask
from gfscreen.scan.volume.provenance import fingerprint, made_of
from tests.helpers.dicom_series import Series, ramp
from tests.helpers.nifti_files import read_mask, write_nifti, write_painted
from tests.helpers.scans import PAINTED_AFFINE, PAINTED_SHAPE, paint


def mask_of(path, volume, scan=None):
    write_mask(path, np.ones(volume.geometry.shape, np.uint8), volume.geometry, scan)
    return path


@pytest.fixture
def volume(tmp_path):
    return read_volume(write_painted(tmp_path / "a_0000.nii.gz"))


class TestCheck:
    def test_its_own_and_none(self, tmp_path, volume):
        scan = fingerprint(volume)
        assert check_earlier_mask(tmp_path / "none.nii.gz", volume, scan, overwrite=False) is None
        assert check_earlier_mask(mask_of(tmp_path / "m.nii.gz", volume, scan), volume, scan, overwrite=False) is None

    def test_of_another_scan_on_the_same_grid(self, tmp_path, volume):
        path = mask_of(tmp_path / "m.nii.gz", volume, "0123456789abcdef")
        with pytest.raises(OutputError, match="the mask of another scan; name another output folder"):
            check_earlier_mask(path, volume, fingerprint(volume), overwrite=False)
        said = check_earlier_mask(path, volume, fingerprint(volume), overwrite=True)
        assert said == "m.nii.gz: the mask of another scan lay there and is replaced"

    def test_that_does_not_say_whose_it_is(self, tmp_path, volume):
        """On the scan's grid it may be the scan's; on another it is not."""
        path = mask_of(tmp_path / "m.nii.gz", volume)
        said = check_earlier_mask(path, volume, fingerprint(volume), overwrite=False)
        assert said is not None
        assert "does not say of which scan" in said
        write_nifti(path, np.zeros((5, 5, 5), np.uint8))
        with pytest.raises(OutputError):
            check_earlier_mask(path, volume, fingerprint(volume), overwrite=False)

    def test_no_mask(self, tmp_path, volume):
        (tmp_path / "m.nii.gz").write_bytes(b"something")
        said = check_earlier_mask(tmp_path / "m.nii.gz", volume, fingerprint(volume), overwrite=False)
        assert said == "m.nii.gz: a file that is no mask lay there and is replaced"


class TestRun:
    def test_two_folders_of_one_name(self, tmp_path, run):
        """`-i a/DICOM`, then `-i b/DICOM`: the second fails and says why, the first mask stays to the byte."""
        for patient in ("a", "b"):
            hu = ramp((12, 10, 8)) if patient == "a" else ramp((12, 10, 8))[::-1]
            Series(np.ascontiguousarray(hu)).write(tmp_path / patient / "DICOM")
        assert run(tmp_path / "a" / "DICOM").code == 0
        before = (run.output / "DICOM.nii.gz").read_bytes()
        again = run(tmp_path / "a" / "DICOM")
        assert (again.code, again.only["warnings"]) == (0, [])
        second = run(tmp_path / "b" / "DICOM")
        assert second.code == 1
        assert "is there already, the mask of another scan" in second.only["error"]
        assert (run.output / "DICOM.nii.gz").read_bytes() == before
        third = run(tmp_path / "b" / "DICOM", overwrite=True)
        assert third.code == 0
        assert third.only["warnings"] == ["DICOM.nii.gz: the mask of another scan lay there and is replaced"]

    def test_the_mask_says_whose_it_is_and_readers_do_not_see_it(self, tmp_path, run):
        hu, ball = paint(PAINTED_SHAPE, PAINTED_AFFINE)
        scan = write_nifti(run.inputs / "a_0000.nii.gz", hu, PAINTED_AFFINE)
        assert run().code == 0
        mask = run.output / "a.nii.gz"
        assert made_of(mask) == fingerprint(read_volume(scan))
        np.testing.assert_array_equal(read_mask(mask), ball)
        assert len(gzip.decompress(mask.read_bytes())) == 352 + ball.size
        assert run(resume=True).only["resumed"] is True
