"""ITK reads in a process of its own: its crash, its silence and its pointers to other files cost one scan each."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from eval.reliability.fuzz.seeds import meta_image, nrrd
from gfscreen.errors import InputError
from gfscreen.scan.volume import isolated, read_volume
from gfscreen.scan.volume.memory import available_bytes


@pytest.fixture(autouse=True)
def fresh():
    isolated.close()
    yield
    isolated.close()


def put(folder: Path, name: str, data: bytes) -> Path:
    (folder / name).write_bytes(data)
    return folder / name


def crasher() -> bytes:
    """ITK 5.4 ends with a segmentation fault on this: a gzip stream without its first bytes."""
    data = nrrd("gzip")
    start = data.index(b"\n\n") + 2
    return data[:start] + b"\x0bT8X\x06" + data[start + 12 :]


def test_a_crash_is_one_clear_error_and_the_next_scan_is_read(tmp_path):
    bad, good = put(tmp_path, "bad.nrrd", crasher()), put(tmp_path, "good.nrrd", nrrd("gzip"))
    with pytest.raises(InputError, match=r"^bad.nrrd: ") as caught:
        read_volume(bad)
    assert "\n" not in str(caught.value)
    assert read_volume(good).hu.max() == 200


def test_one_process_reads_all_scans(tmp_path):
    path = put(tmp_path, "a.mha", meta_image(compressed=False))
    first = read_volume(path)
    process = isolated._processes[0]
    second = read_volume(path)
    assert isolated._processes == [process]
    np.testing.assert_array_equal(first.hu, second.hu)


def test_threads_that_read_at_the_same_time_get_each_its_own_scan(tmp_path):
    """As workers of a cohort do: one reads the next case while another case is screened or read."""
    scans = {}
    for number in range(2):
        hu = np.full((40 + number, 30, 20), number + 1, np.int16)
        image = sitk.GetImageFromArray(hu.transpose(2, 1, 0))
        path = tmp_path / f"{number}.nrrd"
        sitk.WriteImage(image, str(path))
        scans[path] = hu
    jobs = list(scans) * 15
    with ThreadPoolExecutor(4) as threads:
        volumes = list(threads.map(read_volume, jobs))
    for path, volume in zip(jobs, volumes, strict=True):
        assert volume.source == path
        np.testing.assert_array_equal(volume.hu, scans[path])


def test_a_scan_is_not_blamed_for_a_process_that_has_died_before(tmp_path):
    path = put(tmp_path, "a.mha", meta_image(compressed=False))
    read_volume(path)
    os.kill(isolated._processes[0]._process.pid, signal.SIGKILL)
    assert read_volume(path).hu.max() == 200


def test_one_that_is_silent_is_given_up(tmp_path, monkeypatch):
    path = put(tmp_path, "a.mha", meta_image(compressed=False))
    read_volume(path)
    monkeypatch.setattr(isolated, "READ_LIMIT_S", 0.5)
    os.kill(isolated._processes[0]._process.pid, signal.SIGSTOP)
    monkeypatch.setattr(isolated._Process, "__init__", lambda self: pytest.fail("not again within this test"))
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^a.mha: the library that reads it failed: no answer within 0 s"):
        read_volume(path)
    assert time.monotonic() - start < 30
    assert isolated._processes == []


@pytest.mark.parametrize(
    ("line", "wild"),
    [
        (b"TransformMatrix = 1 0 0 0 1 0 0 0 1", b"TransformMatrix = 1 0 0 0 1 0 1e308 0 1"),
        (b"Offset = ", b"Offset = nan "),
    ],
)
def test_numbers_beyond_any_scan_are_refused_before_itk_sees_them(line, wild, tmp_path):
    """Found by fuzzing: ITK never came back from a direction of 1e308."""
    data = meta_image(compressed=False)
    assert line in data
    path = put(tmp_path, "wild.mha", data.replace(line, wild))
    start = time.monotonic()
    with pytest.raises(
        InputError, match=r"^wild.mha: \w+ must hold numbers up to 1e\+06, got (1e308|nan); export it again"
    ):
        read_volume(path)
    assert time.monotonic() - start < 30


@pytest.mark.parametrize("dimensions", [b"-1", b"65536", b"0"])
def test_dimensions_beyond_any_scan(dimensions, tmp_path):
    """Found by fuzzing: -1 kept ITK busy for ever, 65536 had it write into the replies."""
    data = meta_image(compressed=False)
    assert b"NDims = 3" in data
    path = put(tmp_path, "wild.mha", data.replace(b"NDims = 3", b"NDims = " + dimensions))
    with pytest.raises(InputError, match=r"^wild.mha: NDims must be 3, got '-?\d+'; is it a CT volume\?"):
        read_volume(path)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_a_stuck_process_does_not_outlive_the_run(tmp_path):
    path = put(tmp_path, "a.mha", meta_image(compressed=False))
    script = (
        "import os, pathlib, signal, sys, time\n"
        "from gfscreen.scan.volume import isolated, read_volume\n"
        "read_volume(pathlib.Path(sys.argv[1]))\n"
        "child = isolated._processes[0]._process.pid\n"
        "os.kill(child, signal.SIGSTOP)\n"
        "print(child, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=False)
    child = Path(f"/proc/{int(done.stdout)}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().split()[2] != "Z" and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not child.exists() or child.read_text().split()[2] == "Z"


def test_more_memory_than_is_declared_is_refused(tmp_path, monkeypatch):
    path = put(tmp_path, "a.mha", meta_image(compressed=True).replace(b"DimSize = 12 10 8", b"DimSize = 3000 3000 900"))
    monkeypatch.setattr(isolated, "unpromised_bytes", lambda: min(available_bytes(), 1 << 28))
    with pytest.raises(InputError, match=r"a.mha: 3000x3000x900 voxels need about"):
        read_volume(path)


class TestDataInOtherFiles:
    def refused(self, path: Path) -> str:
        with pytest.raises(InputError) as caught:
            read_volume(path)
        return str(caught.value)

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.replace(b"= LOCAL", b"= other.raw"),
            lambda data: data.replace(b"= LOCAL", b"= x = LOCAL"),
            lambda data: data.replace(b"= LOCAL", b": other.raw"),
            lambda data: b"elementdatafile = LOCAL\n" + data.replace(b"= LOCAL", b"= other.raw"),
            lambda data: b" ElementDataFile = LOCAL\n" + data.replace(b"= LOCAL", b"= other.raw"),
            lambda data: b"Comment = ElementDataFile = LOCAL\n" + data.replace(b"= LOCAL", b"= other.raw"),
        ],
    )
    def test_of_a_metaimage(self, tmp_path, change):
        put(tmp_path, "other.raw", bytes(10000))
        assert "another file" in self.refused(put(tmp_path, "a.mha", change(meta_image(compressed=False))))

    def test_of_a_nrrd_behind_a_long_header(self, tmp_path):
        put(tmp_path, "other.raw", bytes(10000))
        hidden = b"# " + b"x" * 70000 + b"\ndata file: other.raw\nencoding:"
        data = nrrd("raw").replace(b"encoding:", hidden)
        assert "within 65536 bytes" in self.refused(put(tmp_path, "a.nrrd", data))


@pytest.mark.parametrize("spacing", ["nan 4 5", "inf 4 5", "0.001 4 5"])
def test_a_spacing_that_is_none(tmp_path, spacing):
    data = meta_image(compressed=False).replace(b"ElementSpacing = 4 4 5", f"ElementSpacing = {spacing}".encode())
    with pytest.raises(InputError, match=r"^a.mha: ") as caught:
        read_volume(put(tmp_path, "a.mha", data))
    assert "internal" not in str(caught.value)


def test_a_system_that_permits_no_memory_without_a_name(tmp_path, monkeypatch):
    def refused(name: str) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(isolated.os, "memfd_create", refused)
    assert read_volume(put(tmp_path, "a.mha", meta_image(compressed=False))).hu.max() == 200
