"""Names as text: what no file could hold or nobody could see is written out, all else is left as it is."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gfscreen.text import closest, encodable, file_stem, visible

LATIN_1 = os.fsdecode(b"caf\xe9")
names = st.binary(min_size=1, max_size=300).map(os.fsdecode)


@given(names)
def test_any_name_can_be_encoded(name):
    for text in (encodable(name), visible(name), visible(name, 20)):
        text.encode("utf-8")


@given(names)
def test_json_gives_the_bytes_back(name):
    assert os.fsencode(json.loads(json.dumps(name))) == os.fsencode(name)


@given(st.text())
def test_what_can_be_encoded_is_left_for_programs(text):
    if not any("\ud800" <= c <= "\udfff" for c in text):
        assert encodable(text) == text


@given(names)
def test_people_see_one_line(name):
    assert len(visible(name).splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        (LATIN_1, r"caf\udce9"),
        ("two\nlines\r", r"two\nlines\r"),
        ("red\x1b[31m", r"red\x1b[31m"),
        ("gpj\u202efdp", r"gpj\u202efdp"),
        ("\u200bnothing\ufeff", r"\u200bnothing\ufeff"),
        ("<b>'x' & \"y\"</b>", "<b>'x' & \"y\"</b>"),
        ("山田\u3000太郎", "山田\u3000太郎"),
        ("👩\u200d⚕\ufe0f مریض", "👩\u200d⚕\ufe0f مریض"),
    ],
)
def test_what_people_see(name, seen):
    assert visible(name) == seen


def test_long_names_lose_their_middle():
    assert visible("0123456789", 10) == "0123456789"
    assert visible("0123456789a", 10) == "0123…6789a"
    assert len(visible("n" * 300, 80)) == 80


def test_a_stem_fits_with_its_suffix():
    assert file_stem("n" * 251) == "n" * 251
    one, other = file_stem("ü" * 126), file_stem("ü" * 127)
    assert one != other
    for stem in (one, other, file_stem(os.fsdecode(b"\xe9" * 255))):
        assert len(os.fsencode(stem)) <= 251


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("--treshold", "--lesion-threshold"),
        ("--gaet", "--gate"),
        ("--lesion_threshold", "--lesion-threshold"),
        ("predcit", None),
        ("", None),
    ],
)
def test_the_closest_word(word, expected):
    assert closest(word, ["--gate", "--lesion-threshold", "--output", "--overlap"]) == expected
    assert closest(word, []) is None
