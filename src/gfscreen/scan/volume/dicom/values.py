"""Values of DICOM headers as the standard has them (PS3.5 6.2): odd spellings mended, what means nothing left empty.

A value is text here; None means that nothing can be made of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

# Longest value by its kind, in characters; of a name (PN) each of its three groups.
LONGEST = {"AE": 16, "CS": 16, "LO": 64, "LT": 10240, "PN": 64, "SH": 16, "ST": 1024, "UI": 64}
# Kinds whose leading spaces count.
_TEXTS = {"LO", "LT", "PN", "SH", "ST", "UC", "UT"}
# Kinds that are one value whatever they hold, and may have several lines.
LONG_TEXT = {"LT", "ST", "UT"}
_NAME_GROUPS = 3
_DECIMAL_LENGTH = 16
# Rounding a larger one to fewer digits may exceed what a floating number holds.
_LARGEST = 1e300
_INTEGERS = (-(2**31), 2**31 - 1)
# What an address may be written with (RFC 3986).
_ADDRESS = re.compile(r"[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]*")
_UNSEEN = re.compile(r"[\x00-\x1f\x7f]")
_UNSEEN_BUT_LINES = re.compile(r"[\x00-\x08\x0b\x0e-\x1f\x7f]")
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_DATE = re.compile(r"(\d{4})(\d\d)(\d\d)|(\d{4})([./-])(\d{1,2})\5(\d{1,2})")
_TIME = re.compile(r"([01]\d|2[0-3])(?::?([0-5]\d)(?::?([0-5]\d|60)(\.\d{1,})?)?)?")
_DATE_TIME = re.compile(r"\d{4}(\d\d(\d\d(([01]\d|2[0-3])([0-5]\d(([0-5]\d|60)(\.\d{1,6})?)?)?)?)?)?([+-][01]\d\d\d)?")
_SEXES = {"M": "M", "MALE": "M", "F": "F", "FEMALE": "F", "O": "O", "OTHER": "O"}


def number_of(text: str) -> float | None:
    """A number, with a point or a comma before its fraction; None for none, or one that no floating number holds."""
    plain = text.strip("\0 ")
    if "," in plain:
        # A comma beside a point parts thousands; one alone is a point.
        plain = plain.replace(",", "") if "." in plain else plain.replace(",", ".", 1)
    if not _DECIMAL.fullmatch(plain):
        return None
    value = float(plain)
    return value if abs(value) < _LARGEST else None


def decimal(value: float) -> str:
    """A number in at most 16 characters: ten digits, or as many as fit beside a long exponent."""
    texts = (f"{value + 0.0:.{digits}g}" for digits in range(10, 0, -1))
    return next(text for text in texts if len(text) <= _DECIMAL_LENGTH)


def _decimal_string(text: str) -> str | None:
    value = number_of(text)
    plain = text.strip("\0 ")
    if value is None:
        return None
    return plain if len(plain) <= _DECIMAL_LENGTH and _DECIMAL.fullmatch(plain) else decimal(value)


def _integer(text: str) -> str | None:
    value = number_of(text)
    if value is None or not value.is_integer() or not _INTEGERS[0] <= value <= _INTEGERS[1]:
        return None
    return str(int(value))


def _date(text: str) -> str | None:
    found = _DATE.fullmatch(text.strip("\0 "))
    if found is None:
        return None
    year, month, day = (int(part) for part in (found[1] or found[4], found[2] or found[6], found[3] or found[7]))
    try:
        return date(year, month, day).strftime("%Y%m%d").rjust(8, "0")
    except ValueError:
        return None


def _time(text: str) -> str | None:
    found = _TIME.fullmatch(text.strip("\0 "))
    if found is None:
        return None
    hours, minutes, seconds, fraction = (part or "" for part in found.groups())
    # A leap second is known to DICOM, but to few programs.
    return hours + minutes + ("59" if seconds == "60" else seconds) + fraction[:7]


def _date_time(text: str) -> str | None:
    plain = text.strip("\0 ")
    return plain if _DATE_TIME.fullmatch(plain) else _date(plain)


def _age(text: str) -> str | None:
    found = re.fullmatch(r"(\d{1,3})([DWMY])", text.strip("\0 ").upper())
    return None if found is None else found[1].rjust(3, "0") + found[2]


def _code(text: str) -> str | None:
    plain = text.strip("\0 ").upper()
    return plain if re.fullmatch(r"[A-Z0-9 _]{1,16}", plain) else None


def _uid(text: str) -> str:
    # Kept as it is otherwise: it names another object, which is only found under the same one.
    return text.rstrip("\0 ")


def _name(text: str) -> str:
    groups = _UNSEEN.sub("", text).rstrip().split("=")[:_NAME_GROUPS]
    return "=".join(group[: LONGEST["PN"]] for group in groups).rstrip("=")


def _address(text: str) -> str | None:
    line = _line(text)
    return line if _ADDRESS.fullmatch(line) else None


def _line(text: str) -> str:
    return _UNSEEN.sub("", text).rstrip()


def _lines(text: str) -> str:
    return _UNSEEN_BUT_LINES.sub("", text).rstrip()


_RULES: dict[str, Callable[[str], str | None]] = {
    "AE": lambda text: _line(text).strip() if text.isascii() else None,
    "AS": _age,
    "CS": _code,
    "DA": _date,
    "DS": _decimal_string,
    "DT": _date_time,
    "IS": _integer,
    "LO": _line,
    "LT": _lines,
    "PN": _name,
    "SH": _line,
    "ST": _lines,
    "TM": _time,
    "UC": _line,
    "UI": _uid,
    "UR": _address,
    "UT": _lines,
}
TEXT_KINDS = frozenset(_RULES)


def mended(text: str, kind: str, most: int | None, keyword: str = "") -> list[str]:
    """The values of an element as the standard has them; empty if nothing is left of it.

    kind: of value, two letters (VR), one of TEXT_KINDS. most: how many values it may have, None for any number.
    """
    parts: Sequence[str] = [text] if kind in LONG_TEXT else text.split("\\")
    values = []
    for part in parts:
        value = _SEXES.get(part.strip("\0 ").upper()) if keyword == "PatientSex" else _RULES[kind](part)
        if value and kind in LONGEST and kind not in ("PN", "UI"):
            value = value[: LONGEST[kind]].rstrip()
        if value:
            values.append(value)
    return values[:most]


def plain(text: str, kind: str) -> str:
    """The values of an element as they stand in the header, without padding: what `mended` leaves of a proper one."""
    padding = "\0 =" if kind == "PN" else "\0 "
    parts = [text] if kind in LONG_TEXT else text.split("\\")
    return "\\".join(part.rstrip(padding) if kind in _TEXTS else part.strip(padding) for part in parts)
