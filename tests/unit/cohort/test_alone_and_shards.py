"""Without Ray and in parts: what job arrays use."""

from __future__ import annotations

import errno
import os

import pytest

from eval.reliability.threshold_engine import write_threshold_weights
from gfscreen.cohort.pool.alone import AlonePool
from gfscreen.cohort.records import Layout, Record, read_records
from gfscreen.cohort.sources.items import Item, Shard
from gfscreen.command.cli import main
from gfscreen.errors import OutputError
from tests.helpers.nifti_files import write_painted


def test_shards_are_all_of_it_once():
    items = [Item(str(n), str(n)) for n in range(10)]
    parts = [[item.name for item in Shard(items, number, 3)] for number in (1, 2, 3)]
    assert parts == [["0", "3", "6", "9"], ["1", "4", "7"], ["2", "5", "8"]]


def test_every_item_once_whatever_becomes_of_one():
    def screen(item, tries):
        if item.name == "disk":
            raise OutputError("disk: full")
        if item.name == "fault":
            raise ValueError("x")
        return Record(item.name, status="ok", worker="w")

    items = iter(Item(name, name) for name in ("a", "disk", "fault", "b"))
    records = {r.name: r for r in AlonePool(lambda: screen).run(items, lambda: False) if r is not None}
    assert {name: record.status for name, record in records.items()} == {
        "a": "ok", "disk": "failed", "fault": "failed", "b": "ok",
    }  # fmt: skip
    assert (records["disk"].error, records["fault"].error) == ("disk: full", "internal error, ValueError: x")


def test_drained_nothing_more_begins():
    seen = []

    def screen(item, tries):
        seen.append(item.name)
        return Record(item.name, status="ok")

    items = (Item(str(n), str(n)) for n in range(100))
    records = list(AlonePool(lambda: screen).run(items, lambda: len(seen) >= 3))
    assert {r.name for r in records if r} == set(seen)
    assert len(seen) < 10


@pytest.mark.parametrize("text", ["0/3", "4/3", "x", "1/0", "-1/3"])
def test_no_shard(text, capsys):
    with pytest.raises(SystemExit):
        main(["cohort", "run", "-i", "x", "-o", "y", "--shard", text])
    assert "expected K/N" in capsys.readouterr().err or text == "-1/3"


def test_two_parts_and_other_weights(tmp_path, capsys):
    weights, out = write_threshold_weights(tmp_path / "weights"), tmp_path / "out"
    (tmp_path / "in").mkdir()
    for name in "abc":
        write_painted(tmp_path / "in" / f"{name}_0000.nii.gz")
    common = ["cohort", "run", "-i", str(tmp_path / "in"), "-o", str(out), "--ray", "none", "--weights", str(weights)]
    assert main([*common, "--shard", "1/2"]) == 0
    assert sorted(record.name for record in read_records(Layout(out))) == ["a", "c"]
    assert main([*common, "--shard", "2/2"]) == 0
    assert sorted(record.name for record in read_records(Layout(out))) == ["a", "b", "c"]
    assert not (out / "cohort.parquet").exists()
    capsys.readouterr()
    assert main([*common, "--region", "chest"]) == 2
    assert "was begun with region 'auto', now 'chest'; name another output folder" in capsys.readouterr().err
    assert main(["cohort", "run", "-i", str(tmp_path / "in" / "a_0000.nii.gz"), "-o", str(out), "--ray", "none"]) == 2
    assert "expected a folder, a CSV manifest" in capsys.readouterr().err


def test_a_disk_that_is_full_is_one_line_each_and_what_is_done_stays_done(tmp_path, monkeypatch, capsys):
    weights, out = write_threshold_weights(tmp_path / "weights"), tmp_path / "out"
    (tmp_path / "in").mkdir()
    common = ["cohort", "run", "-i", str(tmp_path / "in"), "-o", str(out), "--ray", "none", "--weights", str(weights)]
    write_painted(tmp_path / "in" / "a_0000.nii.gz")
    assert main([*common, "--shard", "1/1"]) == 0
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    write_painted(tmp_path / "in" / "b_0000.nii.gz")

    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for module in ("cohort.records", "cohort.case_worker", "scan.volume.files"):
        monkeypatch.setattr(f"gfscreen.{module}.write_atomically", full)
    capsys.readouterr()
    assert main([*common, "--shard", "1/1"]) == 1
    log = capsys.readouterr().err
    told = f"ERROR: b: {out / 'cases' / 'b.json'}: cannot be written (No space left on device); check the folder"
    assert log.count(told) == 1
    assert "Traceback" not in log
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    monkeypatch.undo()
    assert main([*common, "--shard", "1/1"]) == 0
    assert {record.name for record in read_records(Layout(out))} == {"a", "b"}
