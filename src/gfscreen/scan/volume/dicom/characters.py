"""Text of DICOM headers as Unicode, whatever Specific Character Set names, misspells or leaves out.

pydicom's PersonName, made of bytes, splits at every byte of `=` before it decodes: 7-bit Kanji that begin with it, as
of the first name Haruki, are taken apart. So escape sequences are followed here, as PS3.5 6.1.2.5 has it.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Sequence

# Delimiters that end what an escape sequence began (PS3.5 6.1.2.5.3): in text, and in addition in names.
TEXT_DELIMITERS = b"\n\r\t\f\\"
NAME_DELIMITERS = TEXT_DELIMITERS + b"^="
# ISO registration number of a defined term -> Python's codec (PS3.3 C.12.1.1.2).
_CODECS = {
    6: "ascii",
    13: "shift_jis",
    58: "gb2312",
    87: "iso2022_jp",
    100: "latin_1",
    101: "iso8859_2",
    109: "iso8859_3",
    110: "iso8859_4",
    126: "iso8859_7",
    127: "iso8859_6",
    138: "iso8859_8",
    144: "iso8859_5",
    148: "iso8859_9",
    149: "euc_kr",
    159: "iso2022_jp_2",
    166: "tis_620",
    192: "utf_8",
    203: "iso8859_15",
}
# Sets of two 7-bit bytes per character: they take the place of ASCII until the next escape sequence.
_DOUBLE = {
    b"\x1b$@": "iso2022_jp",
    b"\x1b$B": "iso2022_jp",
    b"\x1b$(B": "iso2022_jp",
    b"\x1b$(D": "iso2022_jp_2",
}
# Sets of bytes above 127, beside ASCII.
_UPPER = {
    b"\x1b)I": "shift_jis",
    b"\x1b$)C": "euc_kr",
    b"\x1b$)A": "gb2312",
    b"\x1b-A": "latin_1",
    b"\x1b-B": "iso8859_2",
    b"\x1b-C": "iso8859_3",
    b"\x1b-D": "iso8859_4",
    b"\x1b-F": "iso8859_7",
    b"\x1b-G": "iso8859_6",
    b"\x1b-H": "iso8859_8",
    b"\x1b-L": "iso8859_5",
    b"\x1b-M": "iso8859_9",
    b"\x1b-T": "tis_620",
    b"\x1b-b": "iso8859_15",
}
_ESCAPE = re.compile(rb"(\x1b\$?[()\-]?[@-Za-z])")
_HALVES = re.compile(rb"[\x00-\x7f]+|[\x80-\xff]+")


def codec_of(term: str) -> str | None:
    """Python's codec of a defined term, also of a misspelt one (`ISO-IR 100`, `utf8`); None if it is not known."""
    plain = re.sub(r"[^A-Z0-9]", "", term.upper())
    if not plain:
        return "ascii"
    number = re.fullmatch(r"(?:ISO)?(?:2022)?(?:IR)?(\d+)", plain)
    if number is not None and int(number[1]) in _CODECS:
        return _CODECS[int(number[1])]
    for name in (plain.removeprefix("ISO2022"), term.strip()):
        try:
            return codecs.lookup(name).name
        except (LookupError, ValueError):
            continue
    return None


def decoded(value: bytes, terms: Sequence[str], delimiters: bytes = TEXT_DELIMITERS) -> str:
    """A value as Unicode. terms: those of Specific Character Set, empty if there is none.

    Nothing is refused: bytes that the character set has not are tried as UTF-8, then as Latin-1.
    """
    first, *further = [codec_of(term) for term in terms] or ["ascii"]
    # Code extensions whose escape sequence was left out, as some writers do.
    beside = [codec for codec in further if codec is not None and not codec.startswith("iso2022")]
    if b"\x1b" not in value:
        return _plain(value, [first, *beside])
    text: list[str] = []
    double, escape, upper = "", b"", first
    for number, part in enumerate(_ESCAPE.split(value)):
        if number % 2:
            # Every other one ends two-byte sets as well: pydicom, among others, ends them by the escape sequence of the
            # first character set, whichever half that concerns.
            double, escape = _DOUBLE.get(part, ""), part
            upper = _UPPER.get(part, upper)
            continue
        for half in _HALVES.findall(part):
            if half[0] > 127:
                text.append(_plain(half, [upper, *beside]))
            elif double:
                text.append((escape + half).decode(double, "replace"))
            else:
                text.append(half.decode("ascii"))
                upper = first if any(byte in delimiters for byte in half) else upper
    return "".join(text)


def _plain(value: bytes, tried: Sequence[str | None]) -> str:
    for codec in (*tried, "utf_8"):
        try:
            if codec is not None:
                text = value.decode(codec)
                text.encode("utf_8")  # some codecs of Python's give what is no character
                return text
        except (ValueError, LookupError):
            continue
    return value.decode("latin_1")
