"""One item of a cohort: one series, where it lies and what it is called in the results."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Protocol

# Bytes; a suffix and a temporary name must still fit into the 255 of a file name.
_LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Item:
    """One series to screen.

    name: of its files in the results, unique in the cohort. place: the path of a scan, of a DICOM folder or of a zip;
    of a series in an archive, its Series Instance UID. series: of DICOM files, the Series Instance UID or Series Number
    to take, None: by the rule. study: of a series in an archive, its Study Instance UID. problem: why it is refused
    before it is read.
    """

    name: str
    place: str
    series: str | None = None
    study: str | None = None
    problem: str | None = None


class Source(Protocol):
    """Items, the same ones in the same order each time that they are asked for, and not held in memory."""

    def __iter__(self) -> Iterator[Item]:
        """The items. Raises UsageError where the source as a whole cannot be read."""
        ...


class Shard:
    """Every `count`-th item of a source from the `number`-th on, which counts from 1: the same ones each time."""

    def __init__(self, source: Source, number: int, count: int) -> None:
        self._source, self._number, self._count = source, number, count

    def __iter__(self) -> Iterator[Item]:
        """The items."""
        return islice(iter(self._source), self._number - 1, None, self._count)


def safe_name(name: str) -> str:
    """A name for files: separators and control characters as `_`, no leading dot, at most 200 bytes.

    A longer one is cut, with a checksum of the whole.
    """
    plain = "".join(c if c.isprintable() and c not in "/\\\0" else "_" for c in name).strip()
    plain = "_" + plain[1:] if plain.startswith(".") else plain
    if len(os.fsencode(plain)) <= _LONGEST_NAME:
        return plain or "case"
    tail = "-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    while len(os.fsencode(plain)) > _LONGEST_NAME - len(tail):
        plain = plain[:-1]
    return plain + tail


def told_apart(items: Iterable[Item]) -> Iterator[Item]:
    """The same items; of several with one name all but the first are refused, under names of their own: `X~2`, `X~3`.

    Names are remembered by a short checksum: a million of them take some tens of MB.
    """
    seen: dict[bytes, int] = {}
    for item in items:
        key = hashlib.blake2b(os.fsencode(item.name), digest_size=8).digest()
        count = seen[key] = seen.get(key, 0) + 1
        if count == 1:
            yield item
            continue
        problem = item.problem or (
            f"{item.place}: its name would be {item.name}, which an earlier item has; rename one of them"
        )
        yield replace(item, name=f"{item.name}~{count}", problem=problem)
