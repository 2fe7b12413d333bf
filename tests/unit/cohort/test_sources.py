"""Which items a folder tree and a manifest give, what they are called, and which are refused."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from gfscreen.cohort.sources.folder import FolderSource
from gfscreen.cohort.sources.items import Item, safe_name, told_apart
from gfscreen.cohort.sources.manifest import ManifestSource
from gfscreen.errors import UsageError
from gfscreen.scan.volume import find_cases
from tests.helpers.dicom_series import Series


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


class TestFolder:
    def test_names_of_a_flat_folder_are_those_of_predict(self, tmp_path):
        for name in ("b_0000.nii.gz", "a.nii", "c_0000.mha", "a_0000.nii", "notes.txt"):
            touch(tmp_path / name)
        assert [item.name for item in FolderSource(tmp_path)] == [case.name for case in find_cases(tmp_path)]

    def test_a_tree_of_everything(self, tmp_path):
        root = tmp_path / "in"
        touch(root / "site" / "p1" / "ct_0000.nii.gz")
        touch(root / "site" / "p1" / "ct.nii.gz")  # its mask
        Series(np.zeros((4, 4, 3), np.int16)).write(root / "site" / "p2" / "CT")
        with zipfile.ZipFile(root / "site" / "p3.zip", "w"):
            pass
        touch(root / ".hidden" / "x.nii.gz")
        touch(root / "out" / "masks" / "y.nii.gz")
        items = list(FolderSource(root, [root / "out"]))
        assert [(item.name, os.path.relpath(item.place, root)) for item in items] == [
            ("site__p3", "site/p3.zip"),
            ("site__p1__ct", "site/p1/ct_0000.nii.gz"),
            ("site__p2__CT", "site/p2/CT"),
        ]
        assert all(item.problem is None for item in items)
        assert list(FolderSource(root, [root / "out"])) == items  # asked again

    def test_one_dicom_folder_has_its_own_name(self, tmp_path):
        Series(np.zeros((4, 4, 3), np.int16)).write(tmp_path / "study")
        assert [item.name for item in FolderSource(tmp_path / "study")] == ["study"]

    def test_of_one_name_the_second_is_refused(self, tmp_path):
        touch(tmp_path / "a__b.nii.gz")
        touch(tmp_path / "a" / "b.nii.gz")
        first, second = FolderSource(tmp_path)
        assert (first.name, first.problem, second.name) == ("a__b", None, "a__b~2")
        assert "its name would be a__b, which an earlier item has; rename one" in second.problem

    def test_nothing_there(self, tmp_path):
        with pytest.raises(UsageError, match="no such folder"):
            list(FolderSource(tmp_path / "none"))


class TestManifest:
    def write(self, tmp_path, text):
        path = tmp_path / "list.csv"
        path.write_text(text)
        return ManifestSource(path)

    def test_lines(self, tmp_path):
        touch(tmp_path / "scans" / "x_0000.nii.gz")
        touch(tmp_path / "y.nii.gz")
        source = self.write(tmp_path, "name,path,series,site\n,scans/x_0000.nii.gz,,A\ntwo,y.nii.gz,3,B\n")
        assert list(source) == [
            Item("x", str(tmp_path / "scans/x_0000.nii.gz")),
            Item("two", str(tmp_path / "y.nii.gz"), "3"),
        ]

    def test_what_is_wrong_is_said_by_line_and_the_others_stay(self, tmp_path):
        touch(tmp_path / "x.nii.gz")
        source = self.write(tmp_path, "path,name\nx.nii.gz,\nnone.nii.gz,\n,\nx.nii.gz,\n")
        items = list(source)
        assert [item.problem is None for item in items] == [True, False, False, False]
        assert items[1].problem == "list.csv line 3: none.nii.gz: no such file or folder; correct the path"
        assert items[2].problem == "list.csv line 4: names no path; fill in the column path"
        assert items[3].name == "x~2"
        assert "its name would be x" in items[3].problem

    @pytest.mark.parametrize(
        ("text", "told"),
        [("file\nx\n", "found file"), ("", "found nothing")],
    )
    def test_no_table(self, tmp_path, text, told):
        with pytest.raises(UsageError, match=told):
            list(self.write(tmp_path, text))

    def test_no_text(self, tmp_path):
        (tmp_path / "list.csv").write_bytes(b"path\n\xff\xfe\n")
        with pytest.raises(UsageError, match="cannot be read as CSV"):
            list(ManifestSource(tmp_path / "list.csv"))


def test_names_are_fit_for_files():
    assert safe_name("a/b\n.nii") == "a_b_.nii"
    assert safe_name(".x") == "_x"
    long = [safe_name("ä" * 200 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert all(len(os.fsencode(name)) <= 200 for name in long)


def test_a_name_that_comes_thrice():
    names = [item.name for item in told_apart([Item("a", "1"), Item("a", "2"), Item("b", "3"), Item("a", "4")])]
    assert names == ["a", "a~2", "b", "a~3"]
