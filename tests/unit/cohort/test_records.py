"""Records are the state of a cohort: what is finished, what is tried again, and what may not be mixed."""

from __future__ import annotations

import pytest

from gfscreen.cohort.records import Layout, Record, agree_on_facts, finished, read_record, read_records, write_record
from gfscreen.cohort.sources.items import Item
from gfscreen.errors import OutputError, UsageError


@pytest.fixture
def layout(tmp_path):
    found = Layout(tmp_path / "cohort")
    found.make()
    return found


def test_a_record_comes_back_as_it_was(layout):
    record = Record("é x", status="ok", suspicion=0.25, warnings=["a"], seconds={"read": 1.5, "focus": None})
    write_record(layout, record)
    assert read_record(layout, "é x") == record
    assert list(read_records(layout)) == [record]


@pytest.mark.parametrize(
    ("record", "mask", "expected"),
    [
        pytest.param(Record("a", status="ok"), True, True, id="done"),
        pytest.param(Record("a", status="degraded"), True, True, id="degraded"),
        pytest.param(Record("a", status="ok"), False, False, id="its mask is gone"),
        pytest.param(Record("a", error="x"), False, False, id="failed: tried again"),
        pytest.param(Record("a", error="x", set_aside=True), False, True, id="set aside"),
        pytest.param(None, True, False, id="a mask alone: killed between the two"),
    ],
)
def test_what_is_finished(layout, record, mask, expected):
    if record is not None:
        write_record(layout, record)
    if mask:
        layout.mask("a").write_bytes(b"x")
    assert (finished(layout, Item("a", "a")) is not None) == expected


def test_set_aside_is_tried_again_when_asked(layout):
    write_record(layout, Record("a", error="x", set_aside=True))
    assert finished(layout, Item("a", "a"), retry_set_aside=True) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 99}', '{"format": 1, "colour": 3}'])
def test_what_is_no_record_is_screened_again(layout, content):
    layout.record("a").write_text(content)
    layout.mask("a").write_bytes(b"x")
    assert finished(layout, Item("a", "a")) is None
    assert list(read_records(layout)) == []


def test_other_weights_are_not_mixed_in(layout):
    agree_on_facts(layout, {"weights_sha256": "aa", "region": "auto"})
    agree_on_facts(layout, {"weights_sha256": "aa", "region": "auto"})
    with pytest.raises(UsageError, match="begun with weights_sha256 'aa', now 'bb'; name another"):
        agree_on_facts(layout, {"weights_sha256": "bb", "region": "auto"})


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        Layout(tmp_path / "file" / "cohort").make()
