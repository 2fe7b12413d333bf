"""The tests run in several processes, whatever they print."""

from __future__ import annotations

import json

from tests.helpers.report_text import encodable


def test_every_string_becomes_encodable_and_nothing_else_changes():
    name = b"caf\xe9.nii".decode("utf-8", "surrogateescape")
    data = {"sections": [("Captured stdout", f"é {name}")], name: (1, None, 0.5)}
    expected = {"sections": [("Captured stdout", "é caf\\udce9.nii")], "caf\\udce9.nii": (1, None, 0.5)}
    assert encodable(data) == expected
    json.dumps(encodable(data), ensure_ascii=False).encode("utf-8")


def test_a_name_that_is_no_utf_8_can_be_printed_under_xdist():
    """pytest-xdist 3.8.0 alone: INTERNALERROR, UnicodeEncodeError in execnet's dump of the report."""
    print(b"caf\xe9.nii".decode("utf-8", "surrogateescape"))
