"""The manifest vouches for whole files: any damage is found before a network is loaded."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from gfscreen.errors import WeightsError
from gfscreen.files import remove_leftovers, write_atomically
from gfscreen.networks.models.manifest import file_sha256, read_manifest, verify, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.bin").write_bytes(b"first")
    (tmp_path / "b.bin").write_bytes(bytes(3 << 20))
    write_manifest(tmp_path, ["b.bin", "a.bin"], {"source": "a test"})
    return tmp_path


class TestIntact:
    def test_hashes_sizes_and_origin(self, folder):
        manifest = verify(folder)
        assert manifest == read_manifest(folder)
        assert manifest.sha256["a.bin"] == hashlib.sha256(b"first").hexdigest()
        assert manifest.bytes == {"a.bin": 5, "b.bin": 3 << 20}
        assert manifest.info == {"source": "a test"}

    def test_files_beside_it_do_not_matter(self, folder):
        (folder / "notes.txt").write_text("x")
        verify(folder)

    def test_only_what_is_asked_for_is_read(self, folder):
        (folder / "b.bin").write_bytes(b"damaged")
        verify(folder, ["a.bin"])

    def test_digest_names_the_content(self, folder, tmp_path_factory):
        other = tmp_path_factory.mktemp("other")
        for name in ("a.bin", "b.bin"):
            (other / name).write_bytes((folder / name).read_bytes())
        # Neither origin nor order of names is part of it; every byte is.
        assert write_manifest(other, ["a.bin", "b.bin"], {}).digest == read_manifest(folder).digest
        (other / "a.bin").write_bytes(b"First")
        assert write_manifest(other, ["a.bin", "b.bin"], {}).digest != read_manifest(folder).digest

    def test_hash_of_an_empty_file(self, tmp_path):
        (tmp_path / "empty").touch()
        assert file_sha256(tmp_path / "empty") == hashlib.sha256(b"").hexdigest()


class TestDamage:
    @pytest.mark.parametrize(
        ("damage", "said"),
        [
            (lambda f: (f / "a.bin").write_bytes(b"firsT"), r"a.bin: damaged, the manifest says sha256 \w{12}…, found"),
            (lambda f: (f / "a.bin").write_bytes(b"fir"), r"a.bin: damaged, the manifest says 5 bytes, found 3"),
            (lambda f: (f / "a.bin").unlink(), r"a.bin: listed in the manifest but missing"),
            (lambda f: (f / "manifest.json").unlink(), r"manifest.json: no weights found; .*--weights"),
            (lambda f: (f / "manifest.json").write_text("{"), r"manifest.json: not a readable manifest"),
            (lambda f: (f / "manifest.json").write_text("[]"), r"manifest.json: not a readable manifest"),
            (lambda f: (f / "manifest.json").write_text('{"format": 9}'), r"manifest.json: .*format must be 1, got 9"),
            (lambda f: (f / "manifest.json").write_text('{"format": 1}'), r"manifest.json: not a readable manifest"),
        ],
    )
    def test_is_named_with_a_remedy(self, folder: Path, damage: Callable[[Path], object], said: str):
        damage(folder)
        with pytest.raises(WeightsError, match=said) as caught:
            verify(folder)
        assert "\n" not in str(caught.value)

    def test_a_file_that_is_not_listed(self, folder):
        with pytest.raises(WeightsError, match=r"manifest.json: does not list c.bin"):
            verify(folder, ["c.bin"])

    @pytest.mark.parametrize("name", ["../a.bin", "/etc/passwd", "sub/a.bin"])
    def test_names_that_leave_the_folder(self, folder, name):
        data = json.loads((folder / "manifest.json").read_text())
        data["files"][name] = data["files"]["a.bin"]
        (folder / "manifest.json").write_text(json.dumps(data))
        with pytest.raises(WeightsError, match="plain names"):
            verify(folder)


class TestWholeOrNotAtAll:
    def test_replaces_the_old_content(self, tmp_path):
        target = tmp_path / "x"
        target.write_bytes(b"old")
        write_atomically(target, b"new")
        assert target.read_bytes() == b"new"
        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    @pytest.mark.parametrize("error", [OSError("full"), KeyboardInterrupt()])
    def test_an_interruption_leaves_the_old_content_and_no_other_file(self, tmp_path, monkeypatch, error):
        target = tmp_path / "x"
        target.write_bytes(b"old")

        def interrupted(*_: object) -> None:
            raise error

        monkeypatch.setattr("gfscreen.files.os.fsync", interrupted)
        with pytest.raises(type(error)):
            write_atomically(target, b"new")
        assert target.read_bytes() == b"old"
        assert [path.name for path in tmp_path.iterdir()] == ["x"]

    def test_what_a_living_run_is_writing_is_no_leftover(self, tmp_path, monkeypatch):
        removed = []
        monkeypatch.setattr("gfscreen.files.os.fsync", lambda _: removed.extend(remove_leftovers(tmp_path)))
        write_atomically(tmp_path / "a.nii.gz", b"mask")
        assert removed == []
        assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]

    def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(self, tmp_path):
        names = [".gfscreen-ab12.tmp", "a.nii.gz", ".hidden", "x.tmp", ".gfscreen-export-1"]
        for name in names:
            (tmp_path / name).touch()
        assert [path.name for path in remove_leftovers(tmp_path)] == [".gfscreen-ab12.tmp"]
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])
