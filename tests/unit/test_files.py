"""Files without a name until they are whole; scratch folders and leftovers of killed runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import gfscreen
from gfscreen.files import remove_leftovers, scratch_folder, write_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed_while_writing(folder: Path, target: str) -> int:
    """Exit code of a process that is killed between the last byte of a file and its name."""
    code = (
        "import os, sys, signal, pathlib, gfscreen.files as files\n"
        "files.os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(pathlib.Path(sys.argv[1]), b'x' * 1000)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(gfscreen.__file__).parents[1])}
    return subprocess.run([sys.executable, "-c", code, str(folder / target)], env=environment, check=False).returncode


class TestWrite:
    def test_a_new_file_is_whole_readable_and_alone(self, tmp_path):
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"
        assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("missing", ["O_TMPFILE", "link"])
    def test_where_the_file_system_has_no_files_without_names(self, tmp_path, monkeypatch, missing):
        def refuse(*_: object, **__: object) -> None:
            raise OSError(95, "Operation not supported")

        if missing == "link":
            monkeypatch.setattr("gfscreen.files.os.link", refuse)
        else:
            monkeypatch.delattr("gfscreen.files.os.O_TMPFILE")
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"
        assert names(tmp_path) == ["a"]

    @pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="needs files without names")
    def test_killed_before_the_end_it_leaves_nothing_at_all(self, tmp_path):
        assert killed_while_writing(tmp_path, "a") == -signal.SIGKILL
        assert names(tmp_path) == []

    def test_killed_while_it_replaces_it_leaves_what_the_next_run_clears(self, tmp_path):
        (tmp_path / "a").write_bytes(b"old")
        assert killed_while_writing(tmp_path, "a") == -signal.SIGKILL
        assert (tmp_path / "a").read_bytes() == b"old"
        assert len(remove_leftovers(tmp_path)) == 1
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("kind", ["to a file", "to nothing"])
    def test_a_link_is_replaced_and_not_followed(self, tmp_path, kind):
        (tmp_path / "out").mkdir()
        outside = tmp_path / "outside"
        if kind == "to a file":
            outside.write_bytes(b"precious")
        (tmp_path / "out" / "a").symlink_to(outside)
        write_atomically(tmp_path / "out" / "a", b"mask")
        assert not (tmp_path / "out" / "a").is_symlink()
        assert (tmp_path / "out" / "a").read_bytes() == b"mask"
        assert (outside.read_bytes() if outside.exists() else None) == (b"precious" if kind == "to a file" else None)


class TestLeftovers:
    def test_folders_of_killed_exports_go(self, tmp_path):
        dead = tmp_path / ".gfscreen-export-dead"
        dead.mkdir()
        (dead / "glance.xml").write_bytes(b"half")
        assert remove_leftovers(tmp_path) == [dead]
        assert names(tmp_path) == []

    def test_those_of_living_ones_stay(self, tmp_path):
        with scratch_folder(tmp_path, "export") as folder:
            (folder / "glance.xml").write_bytes(b"half")
            assert remove_leftovers(tmp_path) == []
            assert (folder / "glance.xml").exists()
        assert names(tmp_path) == []

    def test_links_are_not_followed(self, tmp_path):
        (tmp_path / "precious").mkdir()
        (tmp_path / "precious" / "file").touch()
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".gfscreen-export-x").symlink_to(tmp_path / "precious")
        (tmp_path / "out" / ".gfscreen-x.tmp").symlink_to(tmp_path / "precious" / "file")
        assert remove_leftovers(tmp_path / "out") == []
        assert (tmp_path / "precious" / "file").exists()
