"""Some hundred damaged files in every run; and that the fuzzer finds what is there to be found."""

from __future__ import annotations

import gzip
import logging
import mmap
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

import gfscreen.scan.volume.memory
from eval.reliability.fuzz import target
from eval.reliability.fuzz.mutate import MAX_BYTES, mutate
from eval.reliability.fuzz.run import choose_engines, fuzz
from eval.reliability.fuzz.seeds import make_seeds, nifti
from eval.reliability.fuzz.target import Finding, Reader, declared_limits
from gfscreen.scan.volume import isolated


@pytest.fixture
def reader(tmp_path: Path) -> Iterator[Reader]:
    """As in the worker."""
    logging.disable(logging.CRITICAL)
    with declared_limits():
        yield Reader(tmp_path)
    logging.disable(logging.NOTSET)
    isolated.close()


def test_limits_last_no_longer_than_the_search():
    memory, before = gfscreen.scan.volume.memory, signal.getsignal(signal.SIGALRM)
    honest = memory.available_bytes
    with declared_limits():
        assert memory.available_bytes() == target.MEMORY_LIMIT_MB << 20
        assert signal.getsignal(signal.SIGALRM) is not before
    assert memory.available_bytes is honest
    assert signal.getsignal(signal.SIGALRM) is before


def test_every_seed_is_a_scan(reader):
    for seed in make_seeds():
        assert reader.execute(seed.data, seed.suffix) == "scan"


def test_damaged_nifti_files_are_scans_or_clear_errors(reader):
    rng = Random(11)
    seeds = [seed for seed in make_seeds() if seed.suffix.startswith(".nii")]
    for _ in range(400):
        seed, other = rng.choice(seeds), rng.choice(seeds)
        reader.execute(mutate(seed.data, rng, other.data), seed.suffix)
    assert reader.outcomes["scan"] > 50
    assert reader.outcomes["clear error"] > 50
    assert reader.outcomes["screened"] > 0


def test_the_command_counts_what_it_executes(tmp_path):
    result = fuzz(120, 5, "random", tmp_path)
    assert result["executions"] == 120
    assert sum(n for name, n in result["outcomes"].items() if name != "screened") == 120
    assert result["findings"] == []


def fresh_mb(size: int) -> mmap.mmap:
    """Resident memory that no allocator had in stock, whatever ran in this process before."""
    area = mmap.mmap(-1, size << 20)
    for page in range(0, size << 20, mmap.PAGESIZE):
        area[page] = 1
    return area


class TestItFinds:
    def test_a_crash(self, reader, monkeypatch):
        def broken(path: Path) -> Any:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(target, "read_volume", broken)
        with pytest.raises(Finding, match="crash: ZeroDivisionError: a bug"):
            reader.execute(nifti("i2"), ".nii")

    def test_a_hang(self, reader, monkeypatch):
        monkeypatch.setattr(target, "TIME_LIMIT_S", 0.2)
        monkeypatch.setattr(target, "read_volume", lambda _: time.sleep(30))
        with pytest.raises(Finding, match="hang"):
            reader.execute(nifti("i2"), ".nii")

    def test_a_message_without_the_files_name(self, reader, monkeypatch):
        def unclear(path: Path) -> Any:
            raise target.InputError("something is wrong")

        monkeypatch.setattr(target, "read_volume", unclear)
        with pytest.raises(Finding, match="message"):
            reader.execute(nifti("i2"), ".nii")

    def test_memory_beyond_the_limit_though_it_is_freed_again(self, reader, monkeypatch):
        monkeypatch.setattr(target, "MEMORY_LIMIT_MB", 10)
        honest = target.read_volume

        def greedy(path: Path) -> Any:
            fresh_mb(200).close()
            return honest(path)

        monkeypatch.setattr(target, "read_volume", greedy)
        with pytest.raises(Finding, match=r"memory: \d+ MB for one file, declared are 10") as found:
            reader.execute(nifti("i2"), ".nii")
        taken_mb = int(re.search(r"\d+", str(found.value))[0])
        # The kernel counts pages by thread and in batches: a peak is right to a few MB, not to the page.
        assert 180 < taken_mb < 300

    def test_memory_that_is_never_given_back(self, reader, monkeypatch):
        monkeypatch.setattr(target, "LEAK_EVERY", 10)
        monkeypatch.setattr(target, "LEAK_LIMIT_MB", 40)
        honest, kept = target.read_volume, []

        def leaking(path: Path) -> Any:
            kept.append(fresh_mb(8))
            return honest(path)

        reader.start()
        monkeypatch.setattr(target, "read_volume", leaking)
        for _ in range(9):
            reader.execute(nifti("i2"), ".nii")
        with pytest.raises(Finding, match=r"leak: \d+ MB more than at the start after 10 executions"):
            reader.execute(nifti("i2"), ".nii")

    def test_but_not_what_the_search_keeps_itself(self, reader, monkeypatch):
        monkeypatch.setattr(target, "LEAK_EVERY", 1)
        monkeypatch.setattr(target, "LEAK_LIMIT_MB", 40)
        reader.execute(nifti("i2"), ".nii")
        reader.start()
        kept = fresh_mb(100)
        with pytest.raises(Finding, match="leak"):
            reader.execute(nifti("i2"), ".nii")
        reader.growth_is_own = False
        assert reader.execute(nifti("i2"), ".nii") == "scan"
        assert kept


def test_a_decompression_bomb_is_refused_by_its_header(reader):
    """32 MB of zeros in 32 KB, behind a header that asks for 3 GB."""
    head = bytearray(nifti("i2")[:352])
    for axis, size in enumerate((1200, 1200, 1000)):
        head[42 + 2 * axis : 44 + 2 * axis] = size.to_bytes(2, "little")
    assert reader.execute(gzip.compress(bytes(head) + bytes(32 << 20)), ".nii.gz") == "clear error"


def test_mutations_are_bounded_and_repeat_with_their_seed():
    data = gzip.compress(nifti("i2"))
    made = [mutate(data, Random(n), data) for n in range(200)]
    assert made == [mutate(data, Random(n), data) for n in range(200)]
    assert len(set(made)) > 150
    assert max(map(len, made)) <= MAX_BYTES + 1000


def test_the_engine_and_why(monkeypatch):
    monkeypatch.setattr("eval.reliability.fuzz.run.importlib.util.find_spec", lambda _: None)
    assert choose_engines("auto")[0] == ["random", "dicom"]
    assert "not installed" in choose_engines("auto")[1]
    assert choose_engines("atheris")[0] == ["atheris"]


def test_a_damaged_slice_between_two_whole_ones(reader):
    """Every DICOM seed is read, in each encoding; a cut one is one clear error."""
    from eval.reliability.fuzz.dicom_seeds import make_dicom_seeds

    seeds = make_dicom_seeds()
    assert [reader.execute(seed.data, seed.suffix) for seed in seeds] == ["scan"] * 5
    assert reader.execute(seeds[0].data[:400], seeds[0].suffix) == "clear error"
