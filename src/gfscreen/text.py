r"""Text of names, for files and for people: one way for all that is written.

Python holds bytes of a file name that are no UTF-8 as lone surrogates (`os.fsdecode` makes "\udce9" of b"\xe9"), which
no UTF-8 file can hold. JSON keeps them as the escape `\udce9`, of which `os.fsencode` makes the bytes again. Elsewhere
that escape is written out, six characters. What people look at has all that cannot be seen, or would change how the
rest is seen, as escapes, too, as the log has.
"""

from __future__ import annotations

import difflib
import hashlib
import os
import unicodedata
from collections.abc import Iterable

# Not printable to Python, but part of words or of a character: spaces of other scripts, and the joiners.
_SPACES = "Zs"
_JOINERS = "\u200c\u200d"
_ELLIPSIS = "…"
# Of difflib's measure, 0 to 1: two letters changed places, one is missing, a few are wrong in a long word.
_ALIKE = 0.7
# Bytes of a file name on nearly all file systems, less a suffix of four.
_LONGEST_STEM = 251


def encodable(text: str) -> str:
    """The same text, lone surrogates written out: for tables and other files that are read by programs."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def visible(text: str, longest: int | None = None) -> str:
    """On one line: line ends, control characters, marks of direction and lone surrogates written out.

    longest: characters; more are left out in the middle. None: no limit.
    """
    shown = "".join(c if _is_visible(c) else c.encode("unicode_escape").decode("ascii") for c in text)
    if longest is None or len(shown) <= longest:
        return shown
    head = (longest - 1) // 2
    return shown[:head] + _ELLIPSIS + shown[len(shown) - (longest - 1 - head) :]


def file_stem(name: str) -> str:
    """A name for a file, before a suffix like `.png`: of one that is too long, the beginning and a checksum."""
    if len(os.fsencode(name)) <= _LONGEST_STEM:
        return name
    tail = "-" + hashlib.sha256(os.fsencode(name)).hexdigest()[:8]
    while len(os.fsencode(name)) > _LONGEST_STEM - len(tail):
        name = name[:-1]
    return name + tail


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known word that a misspelt one is most like, in all or in one of its parts between hyphens; None if none is.

    `--treshold` is most like `--lesion-threshold`.
    """
    wanted = word.strip("-")
    scored = [(max(_likeness(wanted, part) for part in _parts(other)), other) for other in known]
    score, best = max(scored, default=(0.0, ""), key=lambda one: one[0])
    return best if score >= _ALIKE else None


def _parts(word: str) -> list[str]:
    whole = word.strip("-")
    return [whole, *whole.split("-")]


def _likeness(a: str, b: str) -> float:
    return difflib.SequenceMatcher(None, a, b).ratio()


def _is_visible(character: str) -> bool:
    return character.isprintable() or character in _JOINERS or unicodedata.category(character) == _SPACES
