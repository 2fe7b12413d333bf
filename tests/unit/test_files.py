"""Files without a name until they are whole; scratch folders and leftovers of killed runs."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest

import gfscreen
from gfscreen.files import private_folder, remove_leftovers, scratch_folder, write_atomically


def failing(number: int) -> Callable[..., NoReturn]:
    """A system call that fails."""

    def call(*_: object, **__: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return call


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


class TestMode:
    """That of a file that `open` makes."""

    @pytest.fixture(params=[0o077, 0o002, 0o022, 0o000, 0o777], ids=oct)
    def mode(self, request: pytest.FixtureRequest) -> Iterator[int]:
        before = os.umask(request.param)
        yield 0o666 & ~request.param
        os.umask(before)

    def test_is_by_the_umask(self, tmp_path, mode):
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode

    def test_of_one_that_takes_anothers_place(self, tmp_path, mode):
        (tmp_path / "a").write_bytes(b"old")
        (tmp_path / "a").chmod(0o640)
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode

    def test_where_the_file_system_has_no_files_without_names(self, tmp_path, mode, monkeypatch):
        monkeypatch.delattr("gfscreen.files.os.O_TMPFILE")
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode

    def test_where_the_kernel_forgets_the_umask_of_files_without_names(self, tmp_path, mode, monkeypatch):
        """Linux before 5.19, on file systems without ACLs."""
        opened = os.open

        def forgetful(path: Path, flags: int, mode: int = 0o777, **options: int) -> int:
            descriptor = opened(path, flags, mode, **options)
            if flags & os.O_TMPFILE == os.O_TMPFILE:
                os.fchmod(descriptor, mode)
            return descriptor

        monkeypatch.setattr("gfscreen.files.os.open", forgetful)
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").stat().st_mode & 0o777 == mode
        assert names(tmp_path) == ["a"]

    def test_is_never_set(self, tmp_path, monkeypatch):
        """Shares that permit no chmod hold a mask all the same."""
        for name in ("chmod", "fchmod", "lchmod", "umask"):
            monkeypatch.setattr(f"gfscreen.files.os.{name}", failing(errno.EPERM), raising=False)
        for _ in range(2):
            write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"


class TestFlush:
    @pytest.mark.parametrize("old", [b"", b"old"], ids=["new", "replaced"])
    @pytest.mark.parametrize("name", ["EINVAL", "ENOSYS", "ENOTSUP", "EOPNOTSUPP", "EROFS", "EPERM"])
    def test_where_there_is_none(self, tmp_path, monkeypatch, name, old):
        if old:
            (tmp_path / "a").write_bytes(old)
        monkeypatch.setattr("gfscreen.files.os.fsync", failing(getattr(errno, name)))
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("old", [b"", b"old"], ids=["new", "replaced"])
    @pytest.mark.parametrize("step", ["write", "fsync", "close"])
    @pytest.mark.parametrize("name", ["ENOSPC", "EIO", "EDQUOT"])
    def test_a_full_or_bad_disk_is_an_error(self, tmp_path, monkeypatch, name, step, old):
        """Network file systems tell it when the file is closed: before it has its name."""
        if old:
            (tmp_path / "a").write_bytes(old)
        with monkeypatch.context() as patch:
            patch.setattr(f"gfscreen.files.os.{step}", failing(getattr(errno, name)))
            with pytest.raises(OSError, match=os.strerror(getattr(errno, name))):
                write_atomically(tmp_path / "a", b"content")
        assert names(tmp_path) == (["a"] if old else [])
        assert not old or (tmp_path / "a").read_bytes() == old

    def test_a_share_without_locks(self, tmp_path, monkeypatch):
        (tmp_path / "a").write_bytes(b"old")
        monkeypatch.setattr("gfscreen.files.fcntl.flock", failing(errno.ENOLCK))
        write_atomically(tmp_path / "a", b"content")
        assert (tmp_path / "a").read_bytes() == b"content"


class TestPrivateFolder:
    @pytest.fixture
    def temporary(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
        return tmp_path

    def test_the_same_each_time_and_closed_to_others(self, temporary):
        folder = private_folder()
        assert folder == private_folder() == temporary / f"gfscreen-{os.geteuid()}"
        assert folder.stat().st_mode & 0o777 == 0o700

    @pytest.mark.parametrize("kind", ["open to all", "a link", "a file", "somebody else's"])
    def test_what_others_have_put_there_is_not_trusted(self, temporary, kind):
        folder = temporary / f"gfscreen-{os.geteuid()}"
        if kind == "open to all":
            folder.mkdir()
            folder.chmod(0o777)
        elif kind == "a link":
            (temporary / "elsewhere").mkdir(mode=0o700)
            folder.symlink_to(temporary / "elsewhere")
        elif kind == "a file":
            folder.touch()
        elif os.geteuid():
            pytest.skip("needs root, to make a folder of somebody else")
        else:
            folder.mkdir(mode=0o700)
            os.chown(folder, 54321, 54321)
        assert private_folder() is None

    def test_where_there_is_no_temporary_folder(self, monkeypatch):
        def missing() -> str:
            raise FileNotFoundError(2, "No usable temporary directory found")

        monkeypatch.setattr("tempfile.gettempdir", missing)
        assert private_folder() is None

    def test_never_in_the_current_folder(self, temporary, monkeypatch):
        """Python's last resort for temporary files; it may be the output folder."""
        monkeypatch.chdir(temporary)
        assert private_folder() is None
        assert names(temporary) == []


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
