"""What a test printed, in characters that pytest-xdist can carry from its processes to the one that reports."""

from __future__ import annotations

from typing import Any


def encodable(data: Any) -> Any:
    """The same nested dicts, lists and tuples, with every string encodable in UTF-8; other values as they are.

    Bytes of a file's name that are no UTF-8 are lone surrogates in Python's strings; they become `\\udce9`, as in repr.
    """
    if isinstance(data, str):
        return data.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(data, dict):
        return {encodable(key): encodable(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return type(data)(encodable(value) for value in data)
    return data
