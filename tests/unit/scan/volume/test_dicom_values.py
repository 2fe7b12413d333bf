"""Text and numbers of DICOM headers: character sets by the standard's own examples, odd spellings, nothing refused."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.charset import convert_encodings
from pydicom.config import RAISE
from pydicom.valuerep import PersonName, validate_value

from gfscreen.scan.volume.dicom.characters import NAME_DELIMITERS, codec_of, decoded
from gfscreen.scan.volume.dicom.values import TEXT_KINDS, decimal, mended, number_of, plain

# PS3.5 annexes H (Japanese), I (Korean), J (UTF-8, GB18030) and K (GB2312): character set, stored bytes, name.
EXAMPLES = [
    pytest.param(
        ["", "ISO 2022 IR 87"],
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        id="H.3.1",
    ),
    pytest.param(
        ["ISO 2022 IR 13", "ISO 2022 IR 87"],
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        id="H.3.2",
    ),
    pytest.param(
        ["", "ISO 2022 IR 149"],
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
        id="I.2",
    ),
    pytest.param(["ISO_IR 192"], "Wang^XiaoDong=王^小東=".encode(), "Wang^XiaoDong=王^小東=", id="J.1"),
    pytest.param(["GB18030"], "Wang^XiaoDong=王^小东=".encode("gb18030"), "Wang^XiaoDong=王^小东=", id="J.2"),
    pytest.param(
        ["", "ISO 2022 IR 58"],
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
        id="K.2",
    ),
    # Murakami Haruki: the first byte of his first name is that of `=`, at which pydicom takes the name apart.
    pytest.param(
        ["", "ISO 2022 IR 87"],
        b"Murakami^Haruki=\x1b$BB<>e\x1b(B^\x1b$B=U<y\x1b(B",
        "Murakami^Haruki=村上^春樹",
        id="Kanji with the byte of =",
    ),
    pytest.param(["ISO_IR 100"], b"M\xfcller^J\xfcrgen", "Müller^Jürgen", id="Latin-1"),
    pytest.param(["ISO_IR 144"], b"\xbb\xee", "Лю", id="Cyrillic"),
    pytest.param(
        ["ISO 2022 IR 100", "ISO 2022 IR 144"], b"\xc4neas^\x1b-L\xbb\xee^\xc4", "Äneas^Лю^Ä", id="reset at a delimiter"
    ),
    # Those that are no character set, or none that was used.
    pytest.param(["ISO-IR 100"], b"M\xfcller", "Müller", id="misspelt"),
    pytest.param(["UTF-8"], "Müller^山".encode(), "Müller^山", id="another standard's name"),
    pytest.param(["ISO_IR 999"], b"M\xfcller", "Müller", id="unknown, Latin-1"),
    pytest.param(["ISO_IR 999"], "Müller".encode(), "Müller", id="unknown, UTF-8"),
    pytest.param([], b"M\xfcller", "Müller", id="none, Latin-1"),
    pytest.param([], "Müller".encode(), "Müller", id="none, UTF-8"),
    pytest.param([], b"A^B=\x1b$B;3ED\x1b(B", "A^B=山田", id="none, with escape sequences"),
    pytest.param(["ISO_IR 192"], b"M\xfcller", "Müller", id="UTF-8 that is none"),
    pytest.param(["", "ISO 2022 IR 149"], b"\xc8\xab^\xb1\xe6\xb5\xbf", "홍^길동", id="escape sequences left out"),
]


@pytest.mark.parametrize(("terms", "stored", "name"), EXAMPLES)
def test_a_name_reads_as_it_was_written(terms, stored, name):
    assert decoded(stored, terms, NAME_DELIMITERS) == name


@given(st.text("aÄ^=山田太郎春樹やまだ", max_size=12))
def test_whatever_pydicom_writes_is_read(name):
    """pydicom ends each part of a name with its own escape sequences."""
    terms = ["ISO 2022 IR 100", "ISO 2022 IR 87"]
    encodings = convert_encodings(terms)
    stored = b"=".join(PersonName(part, encodings=encodings).encode(encodings) for part in name.split("="))
    assert decoded(stored, terms, NAME_DELIMITERS) == name


@given(st.binary(max_size=40), st.lists(st.text(max_size=12), max_size=3))
def test_any_bytes_are_text(stored, terms):
    assert isinstance(decoded(stored, terms), str)


@pytest.mark.parametrize(
    ("term", "codec"),
    [
        ("", "ascii"),
        ("ISO_IR 6", "ascii"),
        ("ISO 2022 IR 6", "ascii"),
        ("ISO IR 192", "utf_8"),
        ("iso_2022_ir_87", "iso2022_jp"),
        ("ISO 2022 58", "gb2312"),
        ("ISO 2022 GBK", "gbk"),
        ("windows-1252", "cp1252"),
        ("ISO_IR 999", None),
        ("nonsense", None),
    ],
)
def test_the_codec_of_a_term(term, codec):
    assert codec_of(term) == codec


@pytest.mark.parametrize(
    ("kind", "text", "values"),
    [
        ("DS", "72,5", ["72.5"]),
        ("DS", "1,234.5", ["1234.5"]),
        ("DS", "1.7000000000000001234", ["1.7"]),
        ("DS", "-1.2345678901234567e-105", ["-1.23456789e-105"]),
        ("DS", " 2.50", ["2.50"]),
        ("DS", "", []),
        ("DS", "NaN", []),
        ("DS", "1e999", []),
        ("DS", "12\\\\x", ["12"]),
        ("IS", "3.0", ["3"]),
        ("IS", "+3", ["3"]),
        ("IS", "3.5", []),
        ("IS", "99999999999", []),
        ("DA", "2020.01.01", ["20200101"]),
        ("DA", "2020-1-5", ["20200105"]),
        ("DA", "20200101", ["20200101"]),
        ("DA", "20200231", []),
        ("DA", "01/02/2020", []),
        ("TM", "12:34:56", ["123456"]),
        ("TM", "123460.1234567", ["123459.123456"]),
        ("TM", "12", ["12"]),
        ("TM", "250000", []),
        ("DT", "20200101120000.5+0100", ["20200101120000.5+0100"]),
        ("DT", "yesterday", []),
        ("AS", "45y", ["045Y"]),
        ("AS", "old", []),
        ("CS", "original", ["ORIGINAL"]),
        ("CS", "no-code", []),
        ("UI", "1.2.03\0", ["1.2.03"]),
        ("UR", "https://host/a?b=%20#c ", ["https://host/a?b=%20#c"]),
        ("UR", 'a"b', []),
        ("UR", "two words", []),
        ("LO", "a\0b\x07" + "c" * 70, ["ab" + "c" * 62]),
        ("SH", "12345678901234567", ["1234567890123456"]),
        ("LT", "two\r\nlines\\one", ["two\r\nlines\\one"]),
        ("PN", "N" * 90 + "^x=b=c=d", ["N" * 64 + "=b=c"]),
        ("PN", "Wang=王=", ["Wang=王"]),
    ],
)
def test_a_value_as_the_standard_has_it(kind, text, values):
    assert mended(text, kind, None) == values


@pytest.mark.parametrize(
    ("text", "sex"), [("M", ["M"]), ("female", ["F"]), ("Other", ["O"]), ("U", []), ("", []), ("f ", ["F"])]
)
def test_patient_sex_has_three_values(text, sex):
    assert mended(text, "CS", 1, "PatientSex") == sex


def test_of_several_values_as_many_as_there_may_be():
    assert mended("A\\B\\C", "LO", 1) == ["A"]
    assert mended("A\\B\\C", "LO", None) == ["A", "B", "C"]


@given(st.sampled_from(sorted(TEXT_KINDS - {"UI"})), st.text(max_size=90))
def test_what_is_left_is_valid(kind, text):
    """By pydicom's own rules. UIDs are kept as they are: they name other objects."""
    for value in mended(text, kind, None):
        validate_value(kind, value, RAISE)


@given(st.sampled_from(["LO", "SH", "PN", "LT"]), st.from_regex(re.compile(r"[a-z ^]{1,10}", re.ASCII), fullmatch=True))
def test_what_is_valid_is_left(kind, text):
    validate_value(kind, text, RAISE)
    assert "\\".join(mended(text, kind, None)) == plain(text, kind)


@given(st.floats(-1e299, 1e299))
def test_a_decimal_string_fits(value):
    text = decimal(value)
    assert len(text) <= 16
    validate_value("DS", text, RAISE)
    back = number_of(text)
    assert back is not None
    assert back == pytest.approx(value, rel=1e-7)
