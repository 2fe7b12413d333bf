"""The folder of the masks, on shares that permit less than a disk; files as private or as open as the umask says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from gfscreen.errors import OutputError
from gfscreen.run.output_folder import prepare_output
from tests.helpers.nifti_files import write_nifti
from tests.helpers.scans import paint

AFFINE = np.diag([4.0, 4.0, 5.0, 1.0])


@pytest.fixture(params=[0o077, 0o002, 0o022, 0o027], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


class TestPrepare:
    def test_nothing_is_left_in_it(self, tmp_path):
        prepare_output(tmp_path / "a" / "b")
        assert list((tmp_path / "a" / "b").iterdir()) == []

    def test_where_nothing_may_be_removed(self, tmp_path, monkeypatch):
        """Stores that only take: a mask can be written there."""

        def refuse(*_: object, **__: object) -> None:
            raise PermissionError(1, "Operation not permitted")

        monkeypatch.setattr(Path, "unlink", refuse)
        prepare_output(tmp_path)

    @pytest.mark.parametrize("number", [13, 28, 30], ids=["EACCES", "ENOSPC", "EROFS"])
    def test_where_nothing_can_be_written(self, tmp_path, monkeypatch, number):
        def refuse(*_: object, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr("gfscreen.run.output_folder.os.open", refuse)
        with pytest.raises(OutputError, match="cannot be written"):
            prepare_output(tmp_path)


class TestUmask:
    def modes(self, folder: Path) -> dict[str, int]:
        return {path.name: path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}

    @pytest.mark.parametrize("again", [False, True], ids=["new", "replaced"])
    def test_of_everything_that_a_run_leaves(self, run, tmp_path, umask, again):
        pytest.importorskip("matplotlib")
        write_nifti(run.inputs / "a_0000.nii.gz", paint((36, 32, 30), AFFINE)[0], AFFINE)
        beside = tmp_path / "beside"
        for _ in range(1 + again):
            assert run(statistics=beside / "s.json", preview=beside / "p").code == 0
        assert self.modes(run.output) == {"a.nii.gz": 0o666 & ~umask}
        names = ("s.json", "s.csv", "a.png", "index.html")
        assert self.modes(beside) == dict.fromkeys(names, 0o666 & ~umask)
        assert run.report.stat().st_mode & 0o777 == 0o666 & ~umask
