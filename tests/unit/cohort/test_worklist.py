"""The worklist: its order, the table, and the page in a real browser with thousands of rows."""

from __future__ import annotations

import re
import time

import numpy as np
import pytest

from gfscreen.cohort.records import Layout, Record, agree_on_facts, write_record
from gfscreen.cohort.thumbnail import png
from gfscreen.cohort.worklist.charts import histogram, throughput
from gfscreen.cohort.worklist.page import rank, render, write_page
from gfscreen.cohort.worklist.table import COLUMNS, encode
from gfscreen.errors import UsageError
from tests.helpers.browser import open_page

ROWS = 5000


def records(count: int) -> list[Record]:
    """Made up: every tenth fails, every seventh is without suspicion, the names in no order of the suspicion."""
    made = []
    for n in range(count):
        failed = n % 10 == 9
        made.append(
            Record(
                f"case-{n:05d}",
                status="failed" if failed else "ok",
                error=f"case-{n:05d}.nii.gz: expected a NIfTI file; is it a CT?" if failed else None,
                region=None if failed else ("chest", "abdomen")[n % 2],
                suspicion=None if failed or n % 7 == 6 else round((n * 7919 % 10007) / 10007, 6),
                highest_probability=None if failed else 0.5,
                lesion_volume_ml=None if failed else float(n % 13),
                seconds={} if failed else {"total": 30.0 + n % 5},
                finished_unix_s=1.8e9 + 4.0 * n,
            )
        )
    return made


@pytest.fixture
def layout(tmp_path):
    found = Layout(tmp_path / "cohort")
    found.make()
    return found


def test_the_order_of_the_worklist():
    made = [
        Record("unknown, large", status="ok", highest_probability=0.9, lesion_volume_ml=9.0),
        Record("failed"),
        Record("low", status="ok", suspicion=0.1, highest_probability=1.0),
        Record("unknown, small", status="ok", highest_probability=0.9, lesion_volume_ml=1.0),
        Record("high", status="degraded", suspicion=0.9),
    ]
    assert [r.name for r in sorted(made, key=rank)] == ["high", "low", "unknown, large", "unknown, small", "failed"]


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match="holds no records of a cohort"):
        write_page(tmp_path)


def test_the_table_has_null_and_not_nan():
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    table = pq.read_table(pa.BufferReader(encode(records(6000))))
    assert table.column_names == [name for name, _ in COLUMNS]
    assert table.num_rows == 6000
    suspicion = table.column("suspicion")
    assert suspicion.null_count == sum(record.suspicion is None for record in records(6000))
    assert not any(value != value for value in suspicion.to_pylist() if value is not None)
    assert pq.read_table(pa.BufferReader(encode([]))).num_rows == 0


def test_text_of_scans_cannot_break_the_page(layout):
    evil = Record("</script><b>x", error='<img src=x onerror="1">: </script>; "', status="failed", region="<i>")
    page = render([evil], layout, 10)
    assert "<img src=x" not in page
    assert "<b>x" not in page
    assert page.count("</script>") == len(re.findall(r"<script", page))


def test_charts_of_little_or_nothing():
    assert "not known" in histogram("x", "ml", [None, None])
    drawn = histogram("x", "", [0.0, 0.5, 1.0, 1.0], 0.0, 1.0)
    assert [int(n) for n in re.findall(r"<title>from [^:]*: (\d+)</title>", drawn) if int(n)] == [1, 1, 2]
    assert "Too few" in throughput([None, 1.0])
    # 100 series in 99 x 36 s: 100 per hour.
    assert "100 per hour on the whole" in throughput([36.0 * n for n in range(100)])


@pytest.fixture
def page(layout, tmp_path):
    pytest.importorskip("pyarrow")
    agree_on_facts(layout, {"notice": "Of no use for <patients>."})
    made = records(ROWS)
    for record in made:
        write_record(layout, record)
    first = min(made, key=rank)
    layout.thumbnail(first.name).write_bytes(png(np.full((8, 8, 3), 200, np.uint8)))
    path = write_page(layout.root)
    began = time.monotonic()
    with open_page(path, tmp_path / "profile") as opened:
        opened.began_s, opened.first, opened.records = began, first, made
        yield opened


def shown(page) -> list[list[str]]:
    """The rows that are drawn."""
    script = (
        "return [...document.querySelectorAll('#seen .row')].map(r => "
        "[...r.querySelectorAll('[role=cell]')].map(c => c.textContent))"
    )
    return page.driver.execute_script(script)


def type_into(page, name: str, text: str) -> float:
    """Give a field a value as a user does; the seconds until the page has answered."""
    began = time.monotonic()
    page.driver.execute_script(
        "const e=document.getElementById(arguments[0]); e.value=arguments[1]; e.dispatchEvent(new Event('input'))",
        name,
        text,
    )
    return time.monotonic() - began


@pytest.mark.slow
def test_thousands_of_rows_in_a_browser(page):
    rows = shown(page)
    assert rows[0][0] == page.first.name
    assert len(rows) < 60  # only those that can be seen
    assert page.element("count").text == f"{ROWS} of {ROWS}"
    assert page.path.stat().st_size < 2_000_000
    assert page.asked() == {page.path.as_uri()}
    pictures = page.driver.execute_script("return [...document.querySelectorAll('#seen img')].map(i => i.naturalWidth)")
    assert pictures == [8]
    assert "Of no use for <patients>." in page.driver.page_source.replace("&lt;", "<").replace("&gt;", ">")
    assert "expected a NIfTI file" in page.element("failures").text

    assert type_into(page, "find", "chest case-0001") < 5
    expected = {r.name for r in page.records if r.region == "chest" and r.name.startswith("case-0001")}
    assert {row[0] for row in shown(page)} == expected
    type_into(page, "find", "")
    type_into(page, "status", "failed")
    assert page.element("count").text == f"{ROWS // 10} of {ROWS}"
    assert {row[1] for row in shown(page)} == {"failed"}
    type_into(page, "status", "")
    type_into(page, "least", "0.5")
    likely = [r for r in page.records if r.suspicion is not None and r.suspicion >= 0.5]
    assert page.element("count").text == f"{len(likely)} of {ROWS}"
    type_into(page, "least", "0")

    # Scrolled to the end: what failed.
    page.driver.execute_script("const l=document.getElementById('list'); l.scrollTop=l.scrollHeight")
    page.wait(lambda: shown(page)[-1][1] == "failed", "the last rows")
    # Sorted by volume, the largest first.
    buttons = "[...document.querySelectorAll('#heads button')]"
    page.driver.execute_script(f"{buttons}.find(b => b.textContent.startsWith('Volume')).click()")
    assert shown(page)[0][6] == "12.00"
