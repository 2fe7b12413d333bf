"""Very many items: what is read from records and looks at the driver, and one small measurement."""

from __future__ import annotations

import json

import pytest

from eval.__main__ import main
from eval.cohort import scale
from eval.cohort.scale import Look, summary
from gfscreen.cohort.records import Record
from gfscreen.errors import UsageError
from tests.helpers.ray_cluster import environment, need_ray


def records(workers: int, each: int, every_s: float, sleep_s: float = 1.0):
    """Of workers that begin one second after the other at 100, and end an item every `every_s`."""
    return [
        Record(
            f"{w}-{n}",
            status="ok",
            worker=str(w),
            seconds={"total": sleep_s},
            finished_unix_s=100 + w + sleep_s + n * every_s,
        )
        for w in range(workers)
        for n in range(each)
    ]


def looks(rss_mb):
    return [Look(100.0 + second, rss, 0.1 * second) for second, rss in enumerate(rss_mb)]


def test_workers_that_lose_nothing_reach_the_ideal():
    found = summary(records(4, 100, every_s=1.0), looks([50] * 120), 4, 1.0)
    assert found["share_of_ideal"] == pytest.approx(1.0, abs=0.015)
    assert found["seconds_until_all_workers_ran"] == 3.0
    assert found["ended_once"] == 400
    # 0.1 CPU seconds a second, and four items in one.
    assert found["driver_cpu_ms_per_item"] == pytest.approx(25, rel=0.03)
    assert found["driver_share_of_a_core"] == pytest.approx(0.1)


def test_what_is_lost_between_items_is_seen():
    assert summary(records(4, 100, every_s=1.25), looks([50] * 150), 4, 1.0)["share_of_ideal"] == pytest.approx(
        0.8, abs=0.02
    )


def test_growth_is_counted_from_the_first_item_on_and_the_table_apart():
    # 100: the first begins; about 200: the items run out; then the table. 0: the driver has ended.
    memory = [60, *[61] * 93, 75, *[75] * 11, 140, 0]
    before = [Look(99.0, 30.0, 0.0)]
    found = summary(records(4, 100, every_s=1.0), [*before, *looks(memory)], 4, 1.0)
    assert (found["driver_rss_mb"], found["driver_rss_growth_mb"]) == (60, 15)
    assert found["driver_rss_growth_with_table_mb"] == 80


def test_an_item_that_was_tried_twice_or_failed_has_not_ended_once():
    all_of_them = records(4, 100, every_s=1.0)
    all_of_them[0].tries = 2
    all_of_them[1].status = "failed"
    assert summary(all_of_them, looks([50] * 120), 4, 1.0)["ended_once"] == 398


def test_too_few_items_for_all_workers_to_run_at_once():
    with pytest.raises(UsageError, match="4 of 4 workers began before the items ran out; take more --items"):
        summary(records(4, 3, every_s=0.5), looks([50] * 9), 4, 1.0)


@pytest.mark.parametrize("wrong", [["--workers", "0"], ["--sleep", "0"], ["--items", "255"]])
def test_wrong_numbers_are_told(wrong, tmp_path, capsys):
    assert main(["cohort-scale", "-o", str(tmp_path / "o"), *wrong]) == 2
    told = "cohort-scale: --workers and --sleep must be above 0, --items at least four times --workers\n"
    assert capsys.readouterr().err == told
    assert not (tmp_path / "o").exists()


@pytest.mark.slow
def test_a_hundred_items_over_two_workers(tmp_path, monkeypatch, capsys):
    need_ray()
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])
    main(["cohort-scale", "-o", str(tmp_path), "--items", "60", "--workers", "2", "--sleep", "0.1"])
    found = json.loads((tmp_path / scale.RESULT_FILE).read_text())
    assert json.loads(capsys.readouterr().out) == found
    assert (found["exit_code"], found["ended_once"], found["ideal_s"]) == (0, 60, 3.0)
    assert 0.2 < found["share_of_ideal"] < 1.1
    assert found["driver_rss_mb"] > 50
