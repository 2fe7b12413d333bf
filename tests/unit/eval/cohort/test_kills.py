"""Kills: what counts as lost or made twice, and a small run with all of them."""

from __future__ import annotations

import json

import pytest

from eval.__main__ import main
from eval.cohort import kills
from eval.cohort.kills import Course, _result
from gfscreen.cohort.records import Layout, Record, write_record
from gfscreen.cohort.worklist.table import write_table
from tests.helpers.ray_cluster import environment, need_ray


@pytest.fixture
def ended(tmp_path):
    """A cohort of three that has ended well, the masks of `predict`, and the course of its run."""
    pytest.importorskip("pyarrow")
    layout, expected = Layout(tmp_path / "cohort"), tmp_path / "masks"
    layout.make()
    expected.mkdir()
    course = Course(worker_kills=2, node_kills=1, driver_kills=1, exit_code=0)
    for name in "abc":
        for path in (layout.mask(name), expected / f"{name}.nii.gz"):
            path.write_bytes(name.encode())
        write_record(layout, Record(name, status="ok"))
    write_table(layout)
    assert course.look(layout) == 3
    return course, layout, expected


def failures(ended):
    return _result(*ended, cases=3, kills=2)["failures"]


def test_nothing_is_wrong(ended):
    assert failures(ended) == []


def test_a_mask_that_differs(ended):
    ended[1].mask("a").write_bytes(b"x")
    assert "2 masks of 3 are those of predict" in failures(ended)


def test_one_that_is_lost(ended):
    ended[1].mask("a").unlink()
    ended[1].record("a").unlink()
    write_table(ended[1])
    assert {"2 files lie among the masks, not 3", "2 rows of 2 names are in the table"} < set(failures(ended))


def test_a_file_too_many(ended):
    ended[1].mask("stray").write_bytes(b"")
    assert failures(ended) == ["4 files lie among the masks, not 3"]


def test_a_finished_one_made_again(ended):
    mask = ended[1].mask("b")
    again = mask.with_name("new")
    again.write_bytes(mask.read_bytes())
    again.rename(mask)
    assert failures(ended) == ["finished and made again: ['b']"]


def test_one_that_failed(ended):
    write_record(ended[1], Record("c", error="x"))
    assert failures(ended) == ["not ok: ['c']"]


def test_kills_that_did_not_happen(ended):
    ended[0].worker_kills, ended[0].node_kills, ended[0].driver_kills, ended[0].exit_code = 1, 0, 0, 1
    assert failures(ended) == [
        "1 is the exit code, not 0",
        "1 workers were killed, not 2",
        "the node was not killed",
        "the driver was not killed",
    ]


@pytest.mark.parametrize("wrong", [["--kills", "0"], ["--nodes", "1"], ["--seed", "-1"], ["--cases", "39"]])
def test_wrong_numbers_are_told(wrong, tmp_path, capsys):
    assert main(["cohort-kills", "-o", str(tmp_path / "o"), *wrong]) == 2
    told = "cohort-kills: --kills must be at least 1, --nodes at least 2, --cases at least 2 times --kills\n"
    assert capsys.readouterr().err == told
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_worker_a_node_and_the_driver(tmp_path, monkeypatch, capsys):
    need_ray()
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    code = main(["cohort-kills", "-o", str(tmp_path), "--cases", "24", "--kills", "2", "--nodes", "2"])
    found = json.loads((tmp_path / kills.RESULT_FILE).read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert (code, found["failures"]) == (0, [])
    assert (found["worker_kills"], found["node_kills"], found["driver_kills"]) == (2, 1, 1)
    assert found["masks_of_predict"] == 24
