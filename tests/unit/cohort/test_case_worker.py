"""What a worker does with an item: the mask of `predict`, a record of the same numbers, one line for what is wrong."""

from __future__ import annotations

import gzip
import json
import threading
import zlib
from functools import partial

import numpy as np
import pytest

from gfscreen.cohort.case_worker import CaseWorker
from gfscreen.cohort.options import CohortOptions
from gfscreen.cohort.records import Layout, read_record
from gfscreen.cohort.sources.items import Item
from gfscreen.cohort.thumbnail import png, thumbnail
from gfscreen.cpus import limit_cpus, usable_cpus
from gfscreen.errors import WeightsError
from gfscreen.networks.models.manifest import read_manifest, write_manifest
from tests.helpers.engines import bright_engine
from tests.helpers.nifti_files import write_painted
from tests.helpers.runs import Runner
from tests.helpers.scans import PAINTED_SHAPE, paint, volume_of


@pytest.fixture
def setting(monkeypatch, tmp_path):
    """(run of predict, worker, layout) on the same weights, with a fake engine."""
    runner = Runner(monkeypatch, tmp_path)
    write_manifest(runner.weights, ["plan.json"], {})
    monkeypatch.setattr("gfscreen.cohort.case_worker.load_engine", lambda *_, **__: bright_engine())
    layout = Layout(tmp_path / "cohort")
    layout.make()
    options = CohortOptions(str(runner.inputs), layout.root, runner.weights)
    return runner, CaseWorker(options, read_manifest(runner.weights).digest), layout


def test_mask_and_numbers_are_those_of_predict(setting):
    runner, worker, layout = setting
    scan = write_painted(runner.inputs / "a_0000.nii.gz")
    expected = runner(statistics=runner.inputs.parent / "s.json")
    record = worker(Item("a", str(scan)), 1)
    assert layout.mask("a").read_bytes() == (expected.output / "a.nii.gz").read_bytes()
    case = json.loads((runner.inputs.parent / "s.json").read_text())["cases"][0]
    assert record.status == "ok"
    assert record.lesion_volume_ml == expected.only["lesion_volume_ml"] > 0
    assert (record.lesion_count, record.longest_axis_mm) == (case["lesion_count"], case["longest_axis_mm"])
    assert record.kept_share == record.windows_kept / record.windows_total
    assert record.highest_probability == 1.0
    assert record.weights_sha256 == read_manifest(runner.weights).digest
    assert read_record(layout, "a") == record
    assert layout.thumbnail("a").read_bytes().startswith(b"\x89PNG")


def test_what_cannot_be_read_is_a_record_and_leaves_no_mask(setting):
    runner, worker, layout = setting
    scan = runner.inputs / "a.nii.gz"
    scan.write_bytes(b"junk")
    layout.mask("a").write_bytes(b"of an earlier run")
    record = worker(Item("a", str(scan)), 2)
    assert (record.status, record.tries, record.set_aside) == ("failed", 2, False)
    assert record.error.startswith("a.nii.gz: expected a NIfTI file")
    assert read_record(layout, "a") == record
    assert not layout.mask("a").exists()


def test_what_an_ended_worker_has_finished_is_not_made_again(setting):
    runner, worker, layout = setting
    item = Item("a", str(write_painted(runner.inputs / "a_0000.nii.gz")))
    record = worker(item, 1)
    made = layout.mask("a").stat()
    assert worker(item, 2) == record
    assert layout.mask("a").stat() == made
    layout.mask("a").unlink()
    assert worker(item, 2).tries == 2
    assert layout.mask("a").stat().st_size == made.st_size


def test_two_items_at_the_same_time(setting):
    runner, worker, layout = setting
    scans = [write_painted(runner.inputs / f"{name}_0000.nii.gz") for name in "abcd"]
    records = {}

    def screen(name, scan):
        records[name] = worker(Item(name, str(scan)), 1)

    threads = [threading.Thread(target=partial(screen, name, scan)) for name, scan in zip("abcd", scans, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.lesion_volume_ml for record in records.values()} == {records["a"].lesion_volume_ml}
    # What they hold, not how it is packed: once in hundreds of runs the bytes of one file were others.
    assert len({gzip.decompress(layout.mask(name).read_bytes()) for name in "abcd"}) == 1


def test_a_node_with_other_weights_is_refused(setting):
    runner, _, layout = setting
    with pytest.raises(WeightsError, match="are other weights"):
        CaseWorker(CohortOptions("x", layout.root, runner.weights), "0" * 64)


def test_a_worker_counts_with_its_own_cpus_alone():
    try:
        limit_cpus(1)
        assert usable_cpus() == 1
    finally:
        limit_cpus(None)


def pixels_of(content: bytes) -> np.ndarray:
    """RGB (rows, columns, 3) of a PNG that `png` wrote, by the definition of the format."""
    columns, rows = (int.from_bytes(content[at : at + 4], "big") for at in (16, 20))
    at, packed = 8, b""
    while at < len(content):
        size, kind = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8]
        data = content[at + 8 : at + 8 + size]
        assert zlib.crc32(kind + data) == int.from_bytes(content[at + 8 + size : at + 12 + size], "big")
        packed += data if kind == b"IDAT" else b""
        at += 12 + size
    lines = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(rows, 1 + 3 * columns)
    assert not lines[:, 0].any()
    return lines[:, 1:].reshape(rows, columns, 3)


def test_a_png_comes_back_as_it_was():
    picture = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    assert np.array_equal(pixels_of(png(picture)), picture)


def test_the_lesion_is_outlined_where_it_lies():
    """Painted to the patient's right, at the back: on the left of the picture, below the middle."""
    hu, ball = paint(PAINTED_SHAPE, np.diag([4.0, 4.0, 5.0, 1.0]))
    z = int(ball.sum(axis=(0, 1)).argmax())
    picture = pixels_of(thumbnail(volume_of(hu), ball, (0, 0, z), chest=False))
    rows, columns = np.nonzero((picture == (0xFF, 0x6A, 0x3D)).all(axis=2))
    assert rows.size
    assert columns.mean() < picture.shape[1] / 2 - 5
    assert rows.mean() > picture.shape[0] / 2 + 5
    assert (
        not (pixels_of(thumbnail(volume_of(hu), ball & False, None, chest=True)) == (0xFF, 0x6A, 0x3D))
        .all(axis=2)
        .any()
    )
